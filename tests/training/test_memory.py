"""`ltjax.fit`: a run on arrays in memory."""

import json

import numpy as np
import pytest

import ltjax
from ltjax.errors import InputError
from ltjax.training.progress import SilentWatcher

LABELS = np.array(["dog"] * 20 + ["cat"] * 9 + ["owl"])
IMAGES = np.random.default_rng(0).random((30, 8, 8), np.float32)
SMALL = {
    "method": "ce",
    "model__name": "mlp",
    "model__hidden": (8,),
    "train__epochs": 1,
    "train__batch_size": 8,
    "optimizer__warmup_epochs": 0,
}


@pytest.mark.slow
def test_fit_trains_on_arrays_and_finds_its_run_again(tmp_path):
    settings = {**SMALL, "workdir": tmp_path / "run", "watcher": SilentWatcher()}
    outcome = ltjax.fit(IMAGES, LABELS, **settings)
    assert outcome.result["train"]["class_counts"] == [4, 15, 1]
    assert outcome.result["test"]["per_class"][2] is None
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["cpu_devices"] == 1  # which there are in every program
    assert stored["data"]["path"] == str(tmp_path / "run" / "data.npz")
    assert ltjax.fit(IMAGES, LABELS, **settings).finished_before
    with pytest.raises(InputError, match="holds other images or labels; use another workdir"):
        ltjax.fit(IMAGES[::-1], LABELS, **settings)


BAD = {
    "train__epoch": (3, "train.epoch is not a key; did you mean config.train.epochs"),
    "train__epochs": (0, "config.train.epochs = 0 is not allowed"),
    "test": ((IMAGES[:, :6], LABELS), "test_images = .* the shape of the training images"),
}


@pytest.mark.parametrize("key", BAD)
def test_bad_input(key, tmp_path):
    value, words = BAD[key]
    with pytest.raises(InputError, match=words):
        ltjax.fit(IMAGES, LABELS, workdir=tmp_path, **{**SMALL, key: value})
    assert list(tmp_path.iterdir()) == []


def test_objects_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be kept in .*; give arrays of numbers, names as"):
        ltjax.fit(np.array([{}, {}]), [0, 1], workdir=tmp_path)
