"""An export is taken as the run that it is of, wherever it lies."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.serving import export
from ltjax.serving.card import card
from ltjax.serving.evaluate import evaluate
from ltjax.serving.load import load, load_all
from ltjax.serving.record import record
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from ltjax.training.workdir import WEIGHTS, FinishedRun
from tests.helpers import tiny_config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record") / "run"
    held_out = {"data__validation_fraction": 0.2, "evaluation__every_epochs": 1}
    config = tiny_config(method="cw_la", seeds=(3, 5), train__epochs=2, **held_out)
    run(config, folder, watcher=SilentWatcher())
    return folder


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("record") / "exported"
    export.write(load_all(workdir)[1], folder, format="safetensors")
    return folder


@pytest.mark.slow
def test_an_export_is_the_network_of_its_seed(workdir, exported):
    mine, other = load_all(workdir)[1], load(exported)
    assert (mine.config.seed, other.config.seeds) == (5, (5,))
    same = jax.tree.map(np.array_equal, dict(mine.variables), dict(other.variables))
    assert all(jax.tree.leaves(same))
    assert (mine.temperature, mine.balanced) == (other.temperature, other.balanced)
    stored = json.loads((workdir / "result.json").read_text())
    assert mine.scores == other.scores == stored["per_seed"][1]
    assert mine.scores != load(workdir).scores


@pytest.mark.slow
def test_an_export_is_evaluated_and_exported_as_its_run(workdir, exported, tmp_path):
    found, stored = evaluate(exported), evaluate(workdir)
    assert found["test"] == stored["per_seed"][1]
    assert found["data"] == stored["data"]
    assert found["post_hoc"].keys() == stored["post_hoc"].keys()
    export.write(load(exported), tmp_path / "again", format="safetensors")
    names = {path.name for path in exported.iterdir()}
    assert names == set(export.FILES) - {"model.stablehlo", "model.onnx", "run.py"}
    facts = json.loads((exported / "model.json").read_text())
    assert (facts["platforms"], facts["folded"]) == ([], False)  # of the program that is not there
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.slow
def test_the_best_network_has_no_scores_of_another(workdir, tmp_path):
    assert load(workdir).scores
    copy = shutil.copytree(workdir, tmp_path / "run")
    result = json.loads((copy / "result.json").read_text())
    first = min(int(path.name) for path in (copy / "checkpoints").iterdir())
    result["best"] |= {"step": first, "temperature": 2.5}
    (copy / "result.json").write_text(json.dumps(result))
    best = load(copy, "best")
    assert best.scores == {}
    assert "| top-1 accuracy | – |" in card(best)
    export.write(best, tmp_path / "out", format="safetensors")
    assert load(tmp_path / "out").temperature == 2.5
    assert load(tmp_path / "out").scores == {}
    with pytest.raises(InputError, match="an export has one network; leave it out"):
        load(tmp_path / "out", "best")


BREAK = {
    "is missing": lambda name, tensors: tensors.pop(name),
    "has values that are not finite": lambda name, tensors: tensors[name].fill(np.nan),
    r"is float32 \(1,\) instead of": lambda name, tensors: tensors.update({name: np.zeros(1, "f")}),
    "is no part of the network": lambda name, tensors: tensors.update(zeros=np.zeros(1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", BREAK)
def test_weights_of_another_network_are_named(exported, tmp_path, wrong):
    copy = shutil.copytree(exported, tmp_path / "copy")
    tensors = load_file(copy / WEIGHTS)
    BREAK[wrong]("batch_stats/whitening/mean", tensors)
    save_file(tensors, copy / WEIGHTS)
    with pytest.raises(InputError, match=rf"config\.json beside it: \S+ {wrong}"):
        load(copy)
    save_file(tensors | {"a\nb": np.zeros(1)}, copy / WEIGHTS)
    with pytest.raises(InputError) as error:
        load(copy)
    assert "\n" not in str(error.value)
    (copy / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load(copy)


def test_a_record_does_not_say_where_files_lay(tmp_path):
    config = configs.default()
    config.data.name, config.data.path = "npz", "/home/me/secret/images.npz"
    config.stage, config.init_from = "crt", "/home/me/runs/ce"
    config.model.name, config.model.weights = "resnet50", "hf:timm/resnet50.a1_in1k"
    result = {
        "test": {},
        "method": "ce",
        "stage": {"name": "crt", "init_from": "/home/me/runs/ce", "tau": 1.0},
        "train": {"steps": 3, "damaged_images": {"/home/me/secret/a.png": "empty"}},
        "command": "ltjax --workdir /home/me/runs/crt",
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    names = {"class_names": ["a"], "class_counts": [1], "mean": [0.0] * 4, "std": [1.0] * 4}
    prints = {"fingerprint": {"train": "", "test": ""}}
    (tmp_path / "dataset.json").write_text(json.dumps(names | prints | {"image_shape": [4]}))
    files = record(FinishedRun(tmp_path, configs.resolve(config)), {"accuracy": 0.5}, {})
    assert b"/home" not in b"".join(files.values())
    stored = json.loads(files["config.json"])
    assert (stored["data"]["path"], stored["init_from"]) == ("images.npz", "ce")
    assert stored["model"]["weights"] == "hf:timm/resnet50.a1_in1k"
    told = json.loads(files["result.json"])
    assert told["stage"] == {"name": "crt", "init_from": "ce", "tau": 1.0}
    assert told["test"] == {"accuracy": 0.5}
