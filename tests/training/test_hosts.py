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

from ltjax import config as configs
from ltjax.config.command_line import override, read_config_file
from ltjax.errors import InputError
from ltjax.training.hosts import SILENCE_SECONDS, joined
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
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
    "--config.train.log_every_steps=3",  # hosts ask there whether one is to stop
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
    """A folder of workdirs, and how pairs of hosts ended that trained there."""
    folder = tmp_path_factory.mktemp("hosts")
    # Each of a pair streams its own half of every batch; a run alone holds all images.
    args = [f"--config={CONFIG}", *KEYS, "--config.cpu_devices=2", STREAMED]

    def host(name, *keys, **how):
        return {"args": [*args, f"--workdir={folder / name}", *keys], **how}

    nowhere = ["--config.data.name=folder", f"--config.data.dir={folder / 'nowhere'}"]
    soon = {"START_SECONDS": 2}
    pair = host("pair", f"--stopped_code={STOPPED}")
    pairs = {
        # One after another, in the same workdir: each goes on where the one before has stopped.
        "chief stopped": [pair | TERMINATED | {"after": 1}, pair],
        "chief killed": [pair | KILLED | {"after": 7}, pair],
        "failing": [pair, host("other", *nowhere)],
        "other stopped": [pair, pair | TERMINATED | {"after": 7}],
        "other silent": [pair | FOR_USERS, pair | FOR_USERS | {"signal": "SIGSTOP", "after": 14}],
        "to the end": [pair | {"damaged": str(folder / "pair/checkpoints/14/state/d")}, pair],
        # Beside these, since they mostly wait. Gloo would give up after 30 seconds.
        "late": [host("late", beside=True), host("late", late=4, slow=33)],
        "leaving": [host("leaving", beside=True), host("leaving") | TERMINATED],
        "without other": [host("never", beside=True, constants=soon), None],
        "without chief": [None, host("never", beside=True, constants=soon)],
        "tired": [
            host("never", f"--stopped_code={STOPPED}", beside=True, seconds=5) | TERMINATED,
            None,
        ],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.pairs", folder],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "XLA_FLAGS": QUICK},
        input=json.dumps(list(pairs.values())),
        capture_output=True,
        text=True,
        timeout=870,
    )
    assert done.returncode == 0, done.stderr
    return folder, dict(zip(pairs, json.loads(done.stdout), strict=True))


STOPPED = 85
KILLED, TERMINATED = {"signal": "SIGKILL"}, {"signal": "SIGTERM"}
FOR_USERS = {"constants": {"SILENCE_SECONDS": SILENCE_SECONDS}}
LOST = "ltjax: error: another host of the run ended or cannot be reached"


@pytest.mark.parametrize(
    ("pair", "lost", "code"),
    [
        ("chief killed", 0, -9),
        ("other silent", 1, -9),
        ("failing", 1, 2),
        ("leaving", 1, 0),
    ],
)
def test_a_host_that_loses_another_ends_with_one_line(ends, pair, lost, code):
    gone, (own, errors, seconds) = ends[1][pair][lost], ends[1][pair][1 - lost]
    assert gone[0] == code
    assert own == 1, errors
    assert seconds - gone[2] < 30
    *before, last = errors.splitlines()
    assert last.startswith(LOST)
    assert all("step" in line or "epochs" in line for line in before), errors


def test_a_host_with_an_error_of_its_own_says_so_in_one_line(ends):
    said = ends[1]["failing"][1][1]
    assert "nowhere" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("pair", "step"), [("chief stopped", 3), ("other stopped", 9)])
def test_sigterm_to_one_host_stops_all_with_one_checkpoint(ends, pair, step):
    for code, errors, _ in ends[1][pair]:
        assert code == STOPPED, errors
        line = f"ltjax: stopped at step {step} by SIGTERM; the same command resumes"
        assert [said for said in errors.splitlines() if said.startswith("ltjax")] == [line]
    after = {"chief stopped": "chief killed", "other stopped": "other silent"}[pair]
    assert f"training from step {step} of 21" in ends[1][after][0][1]


@pytest.mark.parametrize(("pair", "code"), [("leaving", 0), ("tired", STOPPED)])
def test_sigterm_before_the_first_step_ends_one_host_at_once(ends, pair, code):
    found = [end for end in ends[1][pair] if end and end[0] == code]
    assert found, ends[1][pair]
    ((_, said, seconds),) = found
    assert said == "ltjax: stopped by SIGTERM; the same command resumes\n"
    assert seconds < 30


@pytest.mark.parametrize(("pair", "present"), [("without other", 0), ("without chief", 1)])
def test_a_host_that_never_starts_is_one_line_to_the_other(ends, pair, present):
    code, said, _ = ends[1][pair][present]
    assert code == 1
    assert said.startswith(LOST)
    assert "of 2 s)" in said
    assert said.count("\n") == 1


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return {m["step"]: m for m in map(json.loads, text.splitlines()) if "train/loss" in m}


def trained(workdir):
    """What training alone decides: the last state's digest, the losses and the test's scores."""
    meta = json.loads((workdir / "checkpoints" / "21" / "meta" / "metadata").read_text())
    losses = {step: line["train/loss"] for step, line in lines(workdir).items()}
    test = json.loads((workdir / "result.json").read_text())["test"]
    return meta["sha256"]["arrays"], losses, test


def test_stops_losses_damage_and_a_late_host_change_no_bit(ends):
    folder, pairs = ends
    for name in ("to the end", "late"):
        assert [code for code, _, _ in pairs[name]] == [0, 0], pairs[name]
    said = pairs["to the end"][0][1]
    assert "cannot be read" in said
    assert "training from step 9 of 21" in said
    assert trained(folder / "pair") == trained(folder / "late")
    assert len(lines(folder / "pair")) == 7


def test_two_processes_train_as_one(ends, tmp_path):
    pair = ends[0] / "pair"
    first = alone(tmp_path)
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


def test_a_port_that_is_taken_is_refused_at_once():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port}, on which process 0 cannot listen"),
            joined(f"127.0.0.1:{port}", 2, 0),
        ):
            pass


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
