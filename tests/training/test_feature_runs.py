"""The command line on given features: train, resume, second stages, seeds, and what follows."""

import csv
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax import report
from ltjax.data.rows import FeatureSource
from ltjax.errors import InputError
from ltjax.report import compare
from ltjax.serving import export, load, predict
from ltjax.serving.embed import embed, of_run
from ltjax.serving.evaluate import evaluate
from ltjax.training.build import build
from ltjax.training.devices import Mapping
from ltjax.training.given import begin
from ltjax.training.progress import SilentWatcher
from ltjax.training.restore import restore_states
from ltjax.training.run import run as train
from ltjax.training.workdir import read_finished
from ltjax.whitening import whiten
from tests.training.watchers import KillAt, Killed, saved

COUNTS, SIZE = (60, 40, 30, 20, 12), 12


def rows_of(counts, seed):
    """Rows around a mean for each class, and their labels, in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    means = 1.5 * np.random.default_rng(99).normal(size=(len(counts), SIZE))
    return (means[labels] + rng.normal(size=(len(labels), SIZE))).astype(np.float32), labels


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "rows.npz"
    (features, labels), (test, of_test) = rows_of(COUNTS, 0), rows_of((20,) * 5, 1)
    words = np.array(["ant", "bee", "cat", "dog", "eel"])
    parts = {"labels": words[labels], "test_features": test, "test_labels": words[of_test]}
    np.savez(path, features=features, **parts)
    return path


def arrays(file):
    with np.load(file) as stored:
        return dict(stored)


def settings(file, **overrides):
    config = configs.default()
    chosen = {
        "data__name": "features",
        "data__path": str(file),
        "data__profile": "as_is",
        "model__name": "mlp",
        "augment__max_shift": 0,
        "cpu_devices": 1,
        "train__batch_size": 32,
        "train__epochs": 4,
        "optimizer__warmup_epochs": 1,
        "evaluation__every_epochs": 4,
        "checkpoint__every_epochs": 2,
        "train__log_every_steps": 6,
    }
    for key, value in (chosen | overrides).items():
        configs.put(config, key.replace("__", "."), value)
    return config


def run(file, folder, watcher=None, **overrides):
    return train(settings(file, **overrides), folder, watcher=watcher or SilentWatcher())


def final(folder):
    return restore_states(read_finished(folder), Mapping(jax.devices()[:1]))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__name": "convnet"}, "model.name = convnet .* use mlp"),
        (
            {"data__name": "digits", "model__hidden": ()},
            r"model.hidden = \(\) .* digits; use widths",
        ),
        ({"augment__flip": True}, "augment.flip = True .* use False"),
        ({"augment__max_shift": 1}, "augment.max_shift = 1 .* use 0"),
        ({"data__name": "digits", "model__name": "convnet", "model__hidden": (4,)}, "hidden"),
    ],
)
def test_what_does_not_go_with_features(file, changes, words):
    with pytest.raises(InputError, match=words):
        configs.resolve(settings(file, **changes))


def test_whitening_starts_with_the_statistics_of_all_training_rows(file):
    job = build(configs.resolve(settings(file, whitening__shrinkage=0.3)))
    assert isinstance(job.data.train, FeatureSource)
    (state,) = begin(job)
    rows = (job.data.train.array() - job.data.mean) / job.data.std
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    found = job.model.apply(variables, rows, train=False).whitened
    np.testing.assert_allclose(found, whiten(rows, shrinkage=0.3), rtol=1e-3, atol=1e-3)
    assert set(state.params) == {"head"}


@pytest.mark.slow
def test_the_whole_command_line(file, tmp_path):
    one, killed = tmp_path / "one", tmp_path / "killed"
    result = run(file, one).result
    assert result["test"]["balanced_accuracy"] > 0.75  # chance is 0.2
    with pytest.raises(Killed):
        run(file, killed, KillAt(18))
    assert saved(killed)
    run(file, killed)
    same(final(one)[0].variables, final(killed)[0].variables)  # to the bit
    assert [evaluate(one)["test"][n] for n in ("accuracy", "few")] == pytest.approx(
        [result["test"][n] for n in ("accuracy", "few")]
    )
    text = report.write(one).read_text()
    assert "test row" in text  # errors without pictures
    network = load.load(one)
    done = predict.predict(network, file, tmp_path / "p.csv", top_k=1)
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    features, labels = arrays(file)["features"], arrays(file)["labels"]
    assert done.predicted == len(rows) == sum(COUNTS)
    assert np.mean([row["class_1"] for row in rows] == labels) > 0.75
    assert export.write(network, tmp_path / "out")
    np.save(tmp_path / "in.npy", features)
    files = [str(tmp_path / name) for name in ("out/run.py", "in.npy", "logits.npy")]
    subprocess.run([sys.executable, *files], check=True, capture_output=True)
    expected = np.asarray(jax.jit(load.logits_function(network))(features))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-3, atol=1e-4)
    outcome = embed(of_run(network), file, tmp_path / "e.safetensors")
    assert outcome == (sum(COUNTS), SIZE, True, [])


@pytest.mark.slow
def test_second_stages_and_seeds_side_by_side(file, tmp_path):
    file = shutil.copy(file, tmp_path / "rows.npz")
    shared = {"seeds": (0, 3), "data__validation_fraction": 0.2}
    run(file, tmp_path / "one", **shared)
    alone = run(file, tmp_path / "alone", seed=3, data__seed=0, data__validation_fraction=0.2)
    together = json.loads((tmp_path / "one/result.json").read_text())
    assert together["per_seed"][1]["accuracy"] == pytest.approx(alone.result["test"]["accuracy"])
    for stage in ("crt", "tau_norm"):
        found = run(file, tmp_path / stage, stage=stage, init_from=str(tmp_path / "one"), **shared)
        assert found.result["test"]["balanced_accuracy"] > 0.6
        same(final(tmp_path / stage)[1].batch_stats, final(tmp_path / "one")[1].batch_stats)
    compare.write_comparison([tmp_path / "one", tmp_path / "crt"], tmp_path / "compare.html")
    changed = arrays(file)
    changed["features"][0] += 1
    np.savez(file, **changed)
    (tmp_path / "one/result.json").unlink()
    with pytest.raises(InputError, match="the training images"):
        run(file, tmp_path / "one", **shared)


@pytest.mark.slow
def test_hidden_layers_and_features_that_stay_on_the_host(file, tmp_path):
    """The second run streams its rows, in the same batches."""
    more = {"model__hidden": (8,), "train__epochs": 2, "checkpoint__every_epochs": 2}
    run(file, tmp_path / "a", **more)
    run(file, tmp_path / "b", **more, data__residency="streamed")
    first, second = final(tmp_path / "a")[0], final(tmp_path / "b")[0]
    assert first.variables["params"]["backbone"]["dense1"]["kernel"].shape == (SIZE, 8)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        first.variables,
        second.variables,
    )
