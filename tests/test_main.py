"""The command line as a subprocess: a run, a kill, and bad input in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CONFIG = ["--config", str(ROOT / "configs" / "digits_lt.py")]
SMALL = [
    *CONFIG,
    "--config.model.width=4",
    "--config.train.epochs=6",
    "--config.optimizer.warmup_epochs=1",
    "--config.checkpoint.every_epochs=1",
    "--config.evaluation.every_epochs=3",
]


def command(*args):
    return [sys.executable, "-m", "ltjax.main", *args]


def call(*args, cwd=ROOT):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(*args), capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False
    )


def test_run_kill_resume(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = call(*SMALL, "--workdir", str(whole))
    assert done.returncode == 0, done.stderr
    assert "balanced" in done.stdout
    assert "step 42/42" in done.stderr
    assert (whole / "report.html").exists()
    process = subprocess.Popen(
        command(*SMALL, "--workdir", str(killed)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoints/[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = call(*SMALL, "--workdir", str(killed))
    assert again.returncode == 0, again.stderr
    first, second = (json.loads((d / "result.json").read_text()) for d in (whole, killed))
    assert first["test"] == second["test"]
    third = call(*SMALL, "--workdir", str(killed))
    assert third.returncode == 0
    assert "finished already" in third.stdout
    # A damaged checkpoint: one line, and the run goes on without it as told.
    (killed / "result.json").unlink()
    newest = killed / "checkpoints" / "42"
    for file in newest.glob("state/**/d/*"):
        file.write_bytes(b"damaged")
    fourth = call(*SMALL, "--workdir", str(killed))
    assert fourth.returncode == 0
    assert fourth.stderr.count(f"checkpoint {newest} cannot be read") == 1, fourth.stderr
    assert "Traceback" not in fourth.stderr
    assert json.loads((killed / "result.json").read_text())["test"] == first["test"]


BAD = {
    "unknown key": ([*CONFIG, "--config.train.batchsize=3"], "config.train.batchsize is not a key"),
    "wrong type": ([*CONFIG, "--config.train.epochs=many"], "config.train.epochs"),
    "negative size": ([*CONFIG, "--config.train.batch_size=-8"], "an integer >= 1"),
    "devices": (
        [*CONFIG, "--config.train.batch_size=65"],
        "65 is not divisible by the 2 devices",
    ),
    "imbalance factor": ([*CONFIG, "--config.data.imbalance_factor=0.5"], "a number >= 1"),
    "empty class": ([*CONFIG, "--config.data.imbalance_factor=1000"], "rarest class without"),
    "blocks": ([*CONFIG, "--config.plan.num_blocks=11"], "num_blocks = 11"),
    "no such config": (["--config", "nowhere.py"], "nowhere.py"),
    "no config": ([], "--config is missing"),
    "unknown flag": ([*CONFIG, "--bogus"], "bogus"),
    "stray argument": ([*CONFIG, "stray"], "'stray' is not a flag"),
    "workdir": ([*CONFIG, "--workdir", "/proc/nowhere"], "workdir /proc/nowhere cannot be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case, tmp_path):
    args, words = BAD[case]
    if "--workdir" not in args:
        args = [*args, "--workdir", str(tmp_path / "run")]
    out = call(*args)
    assert out.returncode == 2, out.stderr
    assert words in out.stderr
    assert out.stderr.count("\n") == 1
    assert out.stderr.startswith("ltjax: error: ")
    assert not (tmp_path / "run").exists()


def test_help():
    out = call("--helpfull")
    assert "--workdir" in out.stdout
    assert out.returncode in (0, 1)
