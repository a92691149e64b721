"""Finished runs become folders to publish."""

import hashlib
import json
import shutil
import sys

import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

from experiments import artifacts
from ltjax.serving.load import load_all
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.helpers import tiny_config


@pytest.mark.slow
def test_every_seed_of_a_finished_run_is_published(tmp_path, monkeypatch, capsys):
    runs, out = tmp_path / "runs", tmp_path / "out"
    made = runs / "digits" / "ce 0"
    run(tiny_config(train__epochs=1, seeds=(3, 5)), made, watcher=SilentWatcher())
    shutil.copytree(made, runs / "stopped")
    (runs / "stopped" / "result.json").unlink()
    monkeypatch.setattr(sys, "argv", ["artifacts", f"--runs={runs}", f"--out={out}"])
    assert artifacts.main() == 0
    assert "stopped is not finished" in capsys.readouterr().err

    names = ["digits-ce-0-seed-3", "digits-ce-0-seed-5"]
    assert sorted(path.name for path in out.iterdir()) == ["SHA256SUMS", *names]
    sums = dict(line.split("  ")[::-1] for line in (out / "SHA256SUMS").read_text().splitlines())
    assert {path.split("/")[1] for path in sums} >= {
        "model.safetensors",
        "README.md",
        "config.json",
    }
    for path, digest in sums.items():
        assert hashlib.sha256((out / path).read_bytes()).hexdigest() == digest
    config = json.loads((out / names[1] / "config.json").read_text())
    assert config["seeds"] == [5]
    for name, trained in zip(names, load_all(made), strict=True):
        stored = load_file(out / name / "model.safetensors")
        wanted = flatten_dict(dict(trained.variables), sep="/")
        assert stored.keys() == wanted.keys()
        assert all((stored[key] == value).all() for key, value in wanted.items())


def test_a_folder_without_finished_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["artifacts", f"--runs={tmp_path}", f"--out={tmp_path}/out"])
    assert artifacts.main() == 1
    assert capsys.readouterr().err == f"{tmp_path} has no finished run\n"
