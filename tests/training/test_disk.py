"""The command line on a disk that takes no more: one line, exit code 2, and no work lost."""

import subprocess
import sys

import pytest

KEYS = ["--config.cpu_devices=1", "--config.method=ce", "--config.model.width=4"]
KEYS += ["--config.train.epochs=2", "--config.optimizer.warmup_epochs=1"]
KEYS += ["--config.evaluation.every_epochs=2", "--config.checkpoint.every_epochs=1"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_file_that_may_not_grow_ends_a_run_with_one_line(tmp_path):
    command = [sys.executable, "-m", "ltjax.main", "--config=configs/digits_lt.py"]
    command += [f"--workdir={tmp_path / 'run'}", *KEYS]
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=250)
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("in ", "step "))]
    assert errors[0].startswith("training from step 0")
    (line,) = errors[1:]
    assert line.startswith("ltjax: error: a checkpoint in")
    assert line.endswith(
        "raise the limit on the size of files (ulimit -f), then give the same command to go on"
    )
    assert done.returncode == 2
