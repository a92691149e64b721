"""Evaluate, predict and export from a workdir alone; the exported network needs jax alone."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from ltjax.augment.opencv import cv2
from ltjax.data.arrays import digits
from ltjax.data.features import read_features, read_given
from ltjax.data.load import DataConfig
from ltjax.errors import InputError
from ltjax.serving import embed, export, predict
from ltjax.serving import load as trained
from ltjax.serving.evaluate import evaluate
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.helpers import small_config

pytestmark = pytest.mark.slow
GUARD = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ltjax", "flax"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "run"
    config = small_config(data__validation_fraction=0.2, evaluation__every_epochs=4)
    run(config, folder, watcher=SilentWatcher())
    return folder


@pytest.fixture(scope="module")
def network(workdir):
    return trained.load(workdir)


def test_evaluate_agrees_with_the_run(workdir, tmp_path):
    stored = json.loads((workdir / "result.json").read_text())
    again = evaluate(workdir)
    for name in ("accuracy", "few", "nll", "ece"):
        np.testing.assert_allclose(again["test"][name], stored["test"][name], rtol=1e-4)
    post = again["post_hoc"]["temperature"]
    np.testing.assert_allclose(
        post["test"]["nll"], stored["post_hoc"]["temperature"]["test"]["nll"], rtol=1e-4
    )
    other = digits().subset(np.arange(200))
    np.savez(tmp_path / "a.npz", images=other.images, labels=other.labels)
    file = str(tmp_path / "a.npz")
    found = evaluate(workdir, DataConfig(name="npz", path=file, test_per_class=5))
    assert found["data"]["fingerprint"] != again["data"]["fingerprint"]
    assert len(found["test"]["per_class"]) == 10


def test_evaluate_takes_a_class_distribution(workdir):
    stored = json.loads((workdir / "result.json").read_text())["target_prior"]["train"]
    found = evaluate(workdir, target_prior="train")["target_prior"]["train"]
    assert found.keys() == stored.keys() == {"as_they_are", "adjusted"}
    for how, scores in found.items():
        np.testing.assert_allclose(scores["nll"], stored[how]["nll"], rtol=1e-4)


def test_predict_adjusts_to_a_class_distribution(network, tmp_path):
    np.savez(tmp_path / "a.npz", images=digits().images[:50])
    (tmp_path / "p.json").write_text(json.dumps([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
    found = []
    for prior in ("uniform", str(tmp_path / "p.json")):
        output = tmp_path / "o.csv"
        predict.predict(network, tmp_path / "a.npz", output, top_k=1, target_prior=prior)
        with open(output, newline="") as file:
            found.append([row["class_1"] for row in csv.DictReader(file)])
    assert len(set(found[0])) > 3
    assert set(found[1]) == {"3"}
    with pytest.raises(InputError, match="is fitted on held-out images at the end"):
        predict.predict(
            network._replace(balanced=None), tmp_path / "a.npz", output, target_prior="train"
        )


def test_exported_network_gives_the_same_logits_without_ltjax(network, tmp_path):
    assert export.write(network, tmp_path / "out", platforms=("cpu", "cuda"))
    images = digits().images
    reference = jax.jit(trained.logits_function(network))
    for count in (1, 37):  # the batch size is free
        np.save(tmp_path / "in.npy", images[:count])
        (tmp_path / "guard.py").write_text(GUARD)
        files = [tmp_path / name for name in ("guard.py", "out/run.py", "in.npy", "logits.npy")]
        done = subprocess.run(
            [sys.executable, *map(str, files)], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        expected = np.asarray(reference(images[:count]))
        found = np.load(tmp_path / "logits.npy")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_exported_program_takes_pictures_and_agrees_with_predict(network, tmp_path):
    export.write(network, tmp_path / "out")
    folder = tmp_path / "pictures" / "deep"
    folder.mkdir(parents=True)
    for index, size in enumerate(((8, 8), (20, 31), (9, 8), (90, 40))):
        image = cv2.resize(digits().images[index], size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    (folder / "notes.txt").write_text("no picture")
    command = [sys.executable, str(tmp_path / "out" / "run.py"), str(folder.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "notes.txt: no picture" in done.stderr
    predict.predict(network, folder.parent, tmp_path / "out.csv", top_k=1)
    with open(tmp_path / "out.csv", newline="") as file:
        expected = [tuple(row.values()) for row in csv.DictReader(file)]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [list(row[:2]) for row in expected]
    for line, row in zip(lines, expected, strict=True):
        assert abs(float(line[2]) - float(row[2])) < 1e-3


def test_exported_folder_is_one_of_a_model_hub(network, tmp_path):
    import yaml
    from flax.traverse_util import flatten_dict
    from safetensors.numpy import load_file

    export.write(network, tmp_path)
    _, header, text = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["pipeline_tag"] == "image-classification"
    balanced = network.run.result["test"]["balanced_accuracy"]
    assert f"| balanced accuracy | {100 * balanced:.1f}% |" in text
    found = load_file(tmp_path / "model.safetensors")
    expected = flatten_dict(dict(network.variables), sep="/")
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, np.asarray(expected[name]))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_predict_streams_a_folder_and_names_corrupt_files(network, tmp_path, suffix):
    source, folder = digits(), tmp_path / "pictures"
    folder.mkdir()
    for index in range(20):
        cv2.imwrite(str(folder / f"{index:03}.png"), source.images[index])
    (folder / "007.png").write_bytes(b"not a picture")
    output = tmp_path / f"out.{suffix}"
    done = predict.predict(network, folder, output, top_k=3, batch_size=8)
    assert done.predicted == 19
    assert len(done.skipped) == 1
    assert "007.png" in done.skipped[0]
    logits = np.asarray(jax.jit(trained.logits_function(network))(source.images[:20]))
    calibrated = np.asarray(jax.nn.softmax(logits / network.temperature, axis=1))
    kept = [i for i in range(20) if i != 7]
    if suffix == "csv":
        rows = list(csv.reader(output.read_text().splitlines()))
        assert rows[0][:3] == ["image", "class_1", "probability_1"]
        top = [(row[0], row[1], float(row[2])) for row in rows[1:]]
    else:
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        top = [(x["image"], *x["top"][0].values()) for x in lines]
        assert [len(x["top"]) for x in lines] == [3] * 19
    assert [name[-7:] for name, _, _ in top] == [f"{i:03}.png" for i in kept]
    np.testing.assert_array_equal([int(c) for _, c, _ in top], calibrated[kept].argmax(axis=1))
    np.testing.assert_allclose([p for *_, p in top], calibrated[kept].max(axis=1), atol=2e-5)


def test_predict_npz_equals_pictures(network, tmp_path):
    np.savez(tmp_path / "a.npz", images=digits().images[:5])
    done = predict.predict(network, tmp_path / "a.npz", tmp_path / "out.csv")
    assert done == predict.PredictOutcome(5, [])


@pytest.mark.parametrize("way", ["file", "link", "in the folder"])
def test_predict_keeps_its_input(network, tmp_path, way):
    picture = tmp_path / "pic.csv"  # a picture by its content
    assert cv2.imwrite(str(tmp_path / "pic.png"), digits().images[0])
    (tmp_path / "pic.png").rename(picture)
    content, source, output = picture.read_bytes(), picture, picture
    if way == "link":
        output = tmp_path / "out.csv"
        output.symlink_to(picture)
    elif way == "in the folder":
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "a.png").symlink_to(picture)
        source = tmp_path / "set"
    with pytest.raises(InputError, match="is the same file as the input"):
        predict.predict(network, source, output)
    assert picture.read_bytes() == content


def test_a_cut_archive_leaves_the_output_as_it_was(network, tmp_path):
    file, output = tmp_path / "a.npz", tmp_path / "out.csv"
    np.savez_compressed(file, images=digits().images)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    output.write_text("as it was")
    with pytest.raises(InputError, match="holds no array images"):
        predict.predict(network, file, output)
    assert output.read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "out.csv"]


def pictures(folder, count=12):
    """Digits as PNG files in folders of their classes, and a list of them."""
    lines = []
    for index in range(count):
        name = f"{digits().labels[index]}/{index:03}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), digits().images[index])
        lines.append(f"{name} {digits().labels[index]}\n")
    (folder / "list.txt").write_text("".join(lines))
    np.savez(folder / "all.npz", images=digits().images[:count], labels=digits().labels[:count])


@pytest.mark.parametrize("source", ["", "list.txt", "all.npz"])
@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".safetensors"])
def test_embedded_pictures_are_data(network, tmp_path, source, suffix):
    pictures(tmp_path / "in")
    output = tmp_path / f"features{suffix}"
    done = embed.embed(embed.of_run(network), tmp_path / "in" / source, output, batch_size=5)
    assert done == (12, 16, True, [])
    train, *_ = read_features(str(output))
    labels = np.array([int(train.class_names[label]) for label in train.labels])
    order = np.argsort(digits().labels[:12], kind="stable") if source == "" else np.arange(12)
    np.testing.assert_array_equal(labels, digits().labels[:12][order])
    images = trained.normalized(network, digits().images[:12][order])
    expected = network.model.apply(network.variables, images, train=False).features
    np.testing.assert_allclose(train.array(), expected, rtol=1e-4, atol=1e-5)
    name = read_given(str(output), 16).names[0]
    assert name == "0" if source == "all.npz" else name.endswith("0/000.png")


def test_embedding_that_fails_leaves_the_output_as_it_was(network, tmp_path):
    embedder, output = embed.of_run(network), tmp_path / "out.parquet"
    output.write_text("as it was")
    (tmp_path / "a.png").write_bytes(b"not a picture")
    for source in (tmp_path / "a.png", tmp_path):
        with pytest.raises(InputError, match=r"no picture that can be read .*a\.png"):
            embed.embed(embedder, source, output)
    np.savez(tmp_path / "in.npz", images=digits().images[:3])
    for suffix in (".parquet", ".safetensors"):  # without labels, since one would be made up
        assert not embed.embed(embedder, tmp_path / "in.npz", tmp_path / f"o{suffix}").labeled
    with pytest.raises(InputError, match="is the same file as the input"):
        embed.embed(embedder, tmp_path / "in.npz", tmp_path / "in.npz")
    with pytest.raises(InputError, match=r"use a file \.parquet, \.npz, \.safetensors"):
        embed.embed(embedder, tmp_path / "in.npz", tmp_path / "o.csv")
    assert output.read_text() == "as it was"


def test_nothing_that_can_be_read(network, tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    (tmp_path / "out.csv").write_text("as it was")
    for source in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(InputError, match=r"no picture that can be read .*a\.png: it is not an"):
            predict.predict(network, source, tmp_path / "out.csv")
    np.savez(tmp_path / "none.npz", images=digits().images[:0])
    with pytest.raises(InputError, match="no picture that can be read"):
        predict.predict(network, tmp_path / "none.npz", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "as it was"


def test_an_export_that_fails_leaves_the_files_that_were_there(network, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    earlier = {"run.py": "as it was", "model.json": json.dumps(dict.fromkeys(export.MARKS))}
    for name, text in earlier.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        export.write(network, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == earlier
    monkeypatch.undo()
    (tmp_path / "model.onnx").write_text("of another network")
    export.write(network, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(export.FILES) - {"model.onnx"}


@pytest.mark.parametrize("name", ["run.py", "model.json", "README.md"])
def test_an_export_replaces_no_file_of_somebody_else(tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(InputError, match=rf"holds a {name} that is not of an export"):
        export.check_folder(tmp_path)
    export.check_folder(tmp_path / "new")


def test_a_network_of_an_earlier_step_is_not_taken_for_the_last(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    last = json.loads((copy / "result.json").read_text())["train"]["steps"]
    (copy / "checkpoints" / str(last)).rename(copy / "checkpoints" / str(last - 1))
    with pytest.raises(InputError, match=f"lacks the checkpoint of its last step, {last}"):
        trained.load(copy)


def test_no_output_replaces_a_file_of_the_run(network, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, *network.image_shape), np.uint8))
    metrics = network.path / "metrics.jsonl"
    before = metrics.read_bytes()
    with pytest.raises(InputError, match=r"is the same file .*metrics\.jsonl"):
        predict.predict(network, tmp_path / "a.npz", metrics)
    assert metrics.read_bytes() == before


def test_bad_requests_are_named(network, tmp_path, workdir):
    with pytest.raises(InputError, match="does not exist"):
        predict.predict(network, tmp_path / "none", tmp_path / "o.csv")
    with pytest.raises(InputError, match=r"\.csv or \.jsonl"):
        predict.predict(network, tmp_path, tmp_path / "o.txt")
    for platforms in ("abacus",), ():
        with pytest.raises(InputError, match=r"platforms = .* use some of cpu, cuda"):
            export.write(network, tmp_path / "o", platforms=platforms)
        assert not (tmp_path / "o").exists()
    with pytest.raises(InputError, match="no workdir of a run"):
        trained.load(tmp_path)


def test_folds_standardized_whitening(tmp_path):
    config = small_config(whitening__standardize=True, train__epochs=1)
    run(config, tmp_path / "run", watcher=SilentWatcher())
    network = trained.load(tmp_path / "run")
    images = digits().images[:40]
    folded, is_folded = trained.folded_function(network)
    assert is_folded
    expected = trained.logits_function(network)(images)
    np.testing.assert_allclose(folded(images), expected, rtol=1e-3, atol=1e-3)
