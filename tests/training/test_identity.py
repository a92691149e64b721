"""What a resumed run must find again: its data, and the settings that decide its numbers."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from ltjax.data.arrays import digits
from ltjax.errors import InputError
from ltjax.training import identity
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.helpers import tiny_config
from tests.training.watchers import KillAt


def write_data(path, change=None):
    """The digits as `.npz` with a test part; `change` gets the arrays."""
    source = digits()
    arrays = {
        "images": source.images[:1200],
        "labels": source.labels[:1200],
        "test_images": source.images[1200:],
        "test_labels": source.labels[1200:],
        "class_names": np.array([f"digit {c}" for c in range(10)]),
    }
    if change:
        change(arrays)
    np.savez(path, allow_pickle=False, **arrays)


def other_pixels(arrays):
    arrays["images"] = 255 - arrays["images"]


def one_pixel(arrays):
    arrays["images"] = arrays["images"].copy()
    arrays["images"][:, 0, 0] ^= 1


def other_test_set(arrays):
    arrays["test_images"] = arrays["test_images"][::-1]
    arrays["test_labels"] = arrays["test_labels"][::-1]


def other_names(arrays):
    arrays["class_names"] = arrays["class_names"][::-1]


CHANGES = {
    other_pixels: "the training images",
    one_pixel: "the training images",
    other_test_set: "the test images",
    other_names: "class",
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run on an `.npz` file that was stopped after its first checkpoint."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "data.npz")
    config = tiny_config(data__name="npz", data__path=str(folder / "data.npz"))
    with pytest.raises(KeyboardInterrupt):
        run(config, folder / "run", watcher=KillAt(14, KeyboardInterrupt))
    assert list((folder / "run" / "checkpoints").glob("7"))
    return config, folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "known_by"),
    [
        (other_pixels, "checkpoint"),
        (one_pixel, "dataset.json"),
        (other_test_set, "checkpoint"),
        (other_names, "dataset.json"),
    ],
)
def test_changed_data_is_refused_and_nothing_written(stopped, tmp_path, change, known_by):
    config, folder = stopped
    shutil.copytree(folder / "run", tmp_path / "run")
    unknown = "dataset.json" if known_by == "checkpoint" else "checkpoints"
    if unknown == "checkpoints":
        shutil.rmtree(tmp_path / "run" / unknown)
    else:
        (tmp_path / "run" / unknown).unlink()
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*.json*")}
    write_data(folder / "data.npz", change)
    try:
        with pytest.raises(InputError, match=CHANGES[change]) as caught:
            run(config, tmp_path / "run", watcher=SilentWatcher())
    finally:
        write_data(folder / "data.npz")
    assert "restore" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in (tmp_path / "run").glob("*.json*")} == before


OTHER = {
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 1,
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["jax_threefry_partitionable", "jax_enable_x64"])
def test_another_setting_of_jax_is_refused_on_resume(stopped, setting):
    config, folder = stopped
    before = getattr(jax.config, setting)
    jax.config.update(setting, OTHER[setting])
    try:
        with pytest.raises(InputError, match=f"trained with {setting.upper()} = ") as caught:
            run(config, folder / "run", watcher=SilentWatcher())
    finally:
        jax.config.update(setting, before)
    assert f"set {setting.upper()}" in str(caught.value)
    assert not (folder / "damaged").exists()


@pytest.mark.parametrize(("variable", "setting"), identity.SETTINGS.items())
def test_every_setting_is_compared(variable, setting):
    stored = identity.environment()
    before = getattr(jax.config, setting)
    jax.config.update(setting, OTHER[setting])
    try:
        with pytest.raises(InputError, match=f"checkpoint runs/7 was trained with {variable} = "):
            identity.check_environment(Path("runs/7"), {"environment": stored})
    finally:
        jax.config.update(setting, before)
    identity.check_environment(Path("runs/7"), {"environment": stored})
    identity.check_environment(Path("runs/7"), {})  # of an earlier version


def test_flags_of_xla_that_change_numbers_are_compared(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_dump_to=x")
    stored = identity.environment()
    exact = "--xla_cpu_enable_fast_math=true"
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count=4 {exact}")
    words = rf"trained with XLA_FLAGS = None, not {exact}, which gives other numbers; unset XLA_FL"
    with pytest.raises(InputError, match=words):
        identity.check_environment(Path("runs/7"), {"environment": stored})
    stored = identity.environment()
    identity.check_environment(Path("runs/7"), {"environment": stored})
    monkeypatch.delenv("XLA_FLAGS")
    with pytest.raises(InputError, match=f"set XLA_FLAGS={exact}, or use"):
        identity.check_environment(Path("runs/7"), {"environment": stored})
    del stored["XLA_FLAGS"]  # of an earlier version
    identity.check_environment(Path("runs/7"), {"environment": stored})


def test_settings_are_stored_as_json():
    assert json.loads(json.dumps(identity.environment())) == identity.environment()
