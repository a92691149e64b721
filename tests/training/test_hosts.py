"""Several hosts: two processes over gloo train as one, and their checkpoint fits one process."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.training.hosts import joined

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SETTINGS = [
    "--config",
    str(ROOT / "configs" / "digits_lt.py"),
    "--config.model.width=4",
    "--config.train.epochs=6",
    "--config.optimizer.warmup_epochs=1",
    # A rate at which training does not amplify rounding: the sums are ordered differently.
    "--config.optimizer.learning_rate=0.01",
    "--config.train.log_every_steps=7",
    "--config.checkpoint.every_epochs=2",
    "--config.evaluation.every_epochs=6",
]


def start(workdir, devices, *args):
    command = [sys.executable, "-m", "ltjax.main", *SETTINGS, f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, f"--config.cpu_devices={devices}", *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def flags_of_a_pair():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ["--distributed", f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"]
    return [[*shared, f"--process_id={i}"] for i in range(2)]


def start_pair(workdir, *args):
    return [start(workdir, 2, *args, *flags) for flags in flags_of_a_pair()]


def wait(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return {m["step"]: m for m in map(json.loads, text.splitlines()) if "train/loss" in m}


def test_two_processes_train_as_one_and_resume_after_a_kill(tmp_path):
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    wait(start(alone, 4))
    # Each of the pair streams its own half of every batch; the other run holds all images.
    streamed = "--config.data.residency=streamed"
    processes = start_pair(pair, streamed)
    deadline = time.monotonic() + 200
    while not (pair / "checkpoints" / "14").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in processes:
        process.kill()
        process.communicate()
    assert (pair / "checkpoints" / "14").exists()
    assert not (pair / "result.json").exists()
    wait(*start_pair(pair, streamed))
    for step, line in lines(alone).items():
        np.testing.assert_allclose(lines(pair)[step]["train/loss"], line["train/loss"], rtol=1e-4)
    first, second = (json.loads((d / "result.json").read_text()) for d in (alone, pair))
    np.testing.assert_allclose(first["test"]["accuracy"], second["test"]["accuracy"], atol=0.005)
    # What two processes wrote, one process reads.
    (pair / "result.json").unlink()
    wait(start(pair, 4, streamed))
    third = json.loads((pair / "result.json").read_text())
    np.testing.assert_allclose(third["test"]["accuracy"], second["test"]["accuracy"], atol=0.005)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_host_that_loses_another_ends_with_one_line(tmp_path, killed):
    processes = start_pair(tmp_path, "--config.data.residency=streamed")
    deadline = time.monotonic() + 200
    while not (tmp_path / "checkpoints" / "14").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    processes[killed].kill()
    began = time.monotonic()
    _, errors = processes[1 - killed].communicate(timeout=100)
    assert time.monotonic() - began < 30
    assert processes[1 - killed].returncode == 1, errors
    *before, last = errors.splitlines()
    assert last.startswith("ltjax: error: another host of the run ended or cannot be reached")
    assert all("step" in line or "epochs" in line for line in before), errors
    processes[killed].communicate()


def test_a_host_with_an_error_of_its_own_ends_the_others(tmp_path):
    flags = flags_of_a_pair()
    nowhere = ["--config.data.name=folder", f"--config.data.dir={tmp_path / 'nowhere'}"]
    other = start(tmp_path / "other", 2, *flags[1], *nowhere)
    first = start(tmp_path / "run", 2, *flags[0], "--config.train.epochs=600")
    _, errors = other.communicate(timeout=200)
    began = time.monotonic()
    assert other.returncode == 2, errors
    assert "nowhere" in errors
    assert errors.count("\n") == 1
    _, errors = first.communicate(timeout=100)
    assert time.monotonic() - began < 30
    assert first.returncode == 1, errors
    assert errors.splitlines()[-1].startswith("ltjax: error: another host of the run ended")
    assert "Traceback" not in errors


def test_unreachable_coordinator_is_one_line(tmp_path):
    process = start(tmp_path, 2, "--distributed")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "--coordinator_address=HOST:PORT" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("address", ["nowhere.invalid:1234", "127.0.0.1", "127.0.0.1:0", "a\nb:1"])
def test_an_address_that_leads_nowhere_is_refused_at_once(address):
    began = time.monotonic()
    with (
        pytest.raises(InputError, match="--coordinator_address = ") as caught,
        joined(address, 2, 1),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 30
