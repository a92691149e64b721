"""Runs on native kernels: when they are used, what they change, and resume bit for bit."""

from pathlib import Path

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.kernels.build import Built, load
from ltjax.serving import load as trained
from ltjax.training import native
from ltjax.training.native import choose_native
from ltjax.training.progress import SilentWatcher, read_metrics
from ltjax.training.run import run
from tests.helpers import CONVNET, small_config
from tests.kernels.tiles import has_tiles
from tests.training.watchers import KillAt, Notes

needs_kernels = pytest.mark.skipif(load().path is None, reason=load().reason or "built")
WIDE = CONVNET | {"model__width": 16}
LENGTH = 1000, (32, 32, 3)  # 64 million pixels in batches of 64


def config_of(**overrides):
    return configs.resolve(small_config(**(CONVNET | overrides)))


def wide(**overrides):
    """A network that the kernels support."""
    return small_config(**WIDE, engine__native="on", **overrides)


@needs_kernels
@pytest.mark.parametrize(
    ("wish", "length", "used"),
    [
        ("off", LENGTH, False),
        ("auto", LENGTH, True),
        ("auto", (10, (8, 8, 1)), False),
        ("on", (10, (8, 8, 1)), True),
    ],
)
def test_decision(wish, length, used):
    assert choose_native(config_of(engine__native=wish), *length).used is used


def test_why_not(monkeypatch):
    half = config_of(engine__native="on", model__dtype="bfloat16")
    monkeypatch.setattr(native, "load", lambda: Built(Path("here"), ""))
    reason = "this CPU has no instructions for them in bfloat16 (AMX)"
    assert choose_native(half, *LENGTH) == (False, reason)
    monkeypatch.setattr(native, "load", lambda: Built(Path("here"), "", tiles=True))
    assert choose_native(half, *LENGTH).used
    monkeypatch.setattr(native, "load", lambda: Built(None, "there is no C++ compiler"))
    found = choose_native(config_of(engine__native="on"), *LENGTH)
    assert found == (False, "there is no C++ compiler")
    assert found.because == " (there is no C++ compiler)"


@pytest.mark.slow
def test_without_a_library_the_run_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "load", lambda: Built(None, "there is no C++ compiler"))
    notes = Notes()
    outcome = run(wide(train__epochs=2), tmp_path, watcher=notes)
    assert "native kernels are not used (there is no C++ compiler)" in notes.lines
    assert outcome.result["versions"]["kernels"] == "XLA"


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=has_tiles)])
def test_a_killed_run_resumes_bit_for_bit(dtype, tmp_path):
    config = wide(model__dtype=dtype)
    whole = run(config, tmp_path / "whole", watcher=SilentWatcher())
    assert whole.result["versions"]["kernels"] == "native"
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "killed", watcher=KillAt(21, KeyboardInterrupt))
    again = run(config, tmp_path / "killed", watcher=SilentWatcher())
    assert again.result["test"] == whole.result["test"]
    assert again.result["versions"]["kernels"] == "native"
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    losses = [[line.get("train/loss") for line in each] for each in lines]
    assert losses[0] == losses[1]


@pytest.mark.slow
@needs_kernels
def test_it_is_the_same_training_up_to_rounding(tmp_path):
    runs = {
        name: run(
            small_config(**WIDE, engine__native=name, train__epochs=2),
            tmp_path / name,
            watcher=SilentWatcher(),
        )
        for name in ("off", "on")
    }
    lines = [read_metrics(r.workdir / "metrics.jsonl") for r in runs.values()]
    losses = [[line["train/loss"] for line in each if "train/loss" in line] for each in lines]
    np.testing.assert_allclose(losses[1][0], losses[0][0], rtol=1e-5)
    # Losses may round to the same numbers; parameters do not, unless the kernels were not used.
    off, on = (jax.tree.leaves(trained.load(r.workdir).variables["params"]) for r in runs.values())
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(off, on, strict=True))


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("began", ["on", "off"])
def test_auto_goes_on_with_what_a_run_began_with(tmp_path, monkeypatch, began):
    config = small_config(**WIDE, engine__native=began)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, watcher=KillAt(21, KeyboardInterrupt))
    auto = small_config(**WIDE)
    assert auto.engine.native == "auto"
    # It would decide otherwise if it began today.
    monkeypatch.setattr(native, "PAYS_FROM_PIXELS", 0 if began == "off" else 10**12)
    if began == "on":
        monkeypatch.setattr(native, "load", lambda: Built(None, "there is no C++ compiler"))
        with pytest.raises(ValueError, match="was trained with native kernels"):
            run(auto, tmp_path, watcher=SilentWatcher())
        monkeypatch.setattr(native, "load", load)
    outcome = run(auto, tmp_path, watcher=SilentWatcher())
    assert outcome.result["versions"]["kernels"] == ("native" if began == "on" else "XLA")


@needs_kernels
def test_auto_of_a_new_run_decides_by_its_length():
    assert choose_native(config_of(), *LENGTH).used
    assert not choose_native(config_of(), *LENGTH, began=False).used
    assert choose_native(config_of(), 10, (8, 8, 1), began=True).used


def test_no_kernels_but_on_a_cpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_native(config_of(engine__native="on"), *LENGTH) == (False, "")
