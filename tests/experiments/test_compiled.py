"""Gates of what is compiled for a chip that is not at hand, where its compiler is installed."""

import importlib.util
import subprocess
import sys

import pytest

from experiments.accelerator import run, whitening
from experiments.accelerator.topologies import SLICES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu"),
]


@pytest.fixture(autouse=True)
def flags(monkeypatch):
    """The flags of the tests are not those of a user."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def test_whitening_with_its_gradient_compiles_within_a_minute(tmp_path):
    command = [sys.executable, "-m", whitening.__name__, "--programs=gradient"]
    subprocess.run([*command, f"--out={tmp_path}"], check=True, timeout=900)
    (row,) = run.read(tmp_path / whitening.FILE)
    assert 0 < float(row["compile_cpu_seconds"]) < 60


def test_a_step_fits_the_chip():
    row = run._apart("v5e-4", "digits_lt", (), 600)
    assert row["error"] == ""
    assert 0 < row["memory_gigabytes"] * 1e9 < SLICES["v5e-4"].chip.memory
