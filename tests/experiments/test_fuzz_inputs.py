"""A few random damaged inputs; experiments/fuzz/README.md has the long runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_damaged_inputs_are_read_or_refused_in_one_line():
    command = [sys.executable, "-m", "experiments.fuzz.inputs", "--inputs=48", "--seed=7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "48 inputs" in done.stdout
    assert " 0 failed" in done.stdout
