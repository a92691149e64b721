"""Several hosts: two processes over gloo train as one, and their checkpoint fits one process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.config.command_line import override, read_config_file
from ltjax.errors import InputError
from ltjax.training.hosts import joined
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # of ml_collections
]
ROOT = Path(__file__).parents[2]
CONFIG = "digits_lt"
KEYS = [
    "--config.method=bn_la",
    "--config.engine.steps_per_call=1",  # a program of more steps takes longer to compile
    "--config.model.name=mlp",
    "--config.model.hidden=(8,)",
    "--config.train.epochs=3",
    "--config.optimizer.warmup_epochs=1",
    # A rate at which training does not amplify rounding: the sums are ordered differently.
    "--config.optimizer.learning_rate=0.01",
    "--config.train.log_every_steps=7",
    "--config.checkpoint.every_epochs=1",
    "--config.evaluation.every_epochs=3",
]
# Programs of several processes are not cached, and compiling takes longer than running them.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
STREAMED = "--config.data.residency=streamed"


def alone(workdir, *keys):
    """The run of one host with four devices."""
    flags = ["ltjax", *KEYS, "--config.cpu_devices=4", *keys]
    config = configs.resolve(override(read_config_file(CONFIG), flags))
    return run(config, workdir, watcher=SilentWatcher()).result


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """A workdir, and how four pairs ended that trained there one after another."""
    folder = tmp_path_factory.mktemp("hosts")
    # Each of a pair streams its own half of every batch; a run alone holds all images.
    args = [f"--config={CONFIG}", *KEYS, "--config.cpu_devices=2", STREAMED]
    host = {"args": [*args, f"--workdir={folder / 'pair'}"]}
    nowhere = ["--config.data.name=folder", f"--config.data.dir={folder / 'nowhere'}"]
    failing = {"args": [*args, *nowhere, f"--workdir={folder / 'other'}"]}
    pairs = [
        [host | {"killed_after": 7}, host],
        [host, failing],
        [host, host | {"killed_after": 14}],
        [host, host],
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.pairs", folder],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "XLA_FLAGS": QUICK},
        input=json.dumps(pairs),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return folder / "pair", json.loads(done.stdout)


@pytest.mark.parametrize(("pair", "killed"), [(0, 0), (2, 1)])
def test_a_host_that_loses_another_ends_with_one_line(ends, pair, killed):
    _, pairs = ends
    gone, (code, errors, seconds) = pairs[pair][killed], pairs[pair][1 - killed]
    assert gone[0] == -9
    assert code == 1, errors
    assert seconds - gone[2] < 30
    *before, last = errors.splitlines()
    assert last.startswith("ltjax: error: another host of the run ended or cannot be reached")
    assert all("step" in line or "epochs" in line for line in before), errors


def test_a_host_with_an_error_of_its_own_ends_the_others(ends):
    _, pairs = ends
    (code, errors, seconds), other = pairs[1]
    assert other[0] == 2
    assert "nowhere" in other[1]
    assert other[1].count("\n") == 1
    assert code == 1, errors
    assert seconds - other[2] < 30
    assert errors.splitlines()[-1].startswith("ltjax: error: another host of the run ended")
    assert "Traceback" not in errors


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return {m["step"]: m for m in map(json.loads, text.splitlines()) if "train/loss" in m}


def test_two_processes_train_as_one_and_resume_after_kills(ends, tmp_path):
    pair, pairs = ends
    assert [code for code, _, _ in pairs[3]] == [0, 0], pairs[3]
    assert "training from step 14 of 21" in pairs[3][0][1]
    first = alone(tmp_path)
    assert len(lines(tmp_path)) == 3
    for step, line in lines(tmp_path).items():
        np.testing.assert_allclose(lines(pair)[step]["train/loss"], line["train/loss"], rtol=1e-4)
    second = json.loads((pair / "result.json").read_text())
    np.testing.assert_allclose(first["test"]["accuracy"], second["test"]["accuracy"], atol=0.005)
    # What two processes wrote, one process reads.
    (pair / "result.json").unlink()
    third = alone(pair, STREAMED)
    np.testing.assert_allclose(third["test"]["accuracy"], second["test"]["accuracy"], atol=0.005)


def test_unreachable_coordinator_is_one_line(tmp_path):
    command = [sys.executable, "-m", "ltjax.main", f"--config={CONFIG}", "--distributed"]
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2
    assert "--coordinator_address=HOST:PORT" in done.stderr
    assert done.stderr.count("\n") == 1


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
