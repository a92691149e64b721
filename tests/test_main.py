"""The command line as a subprocess: a run, a kill, and bad input in one line."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltjax.main import _stored_config, main
from tests.helpers import SMALLEST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # of ml_collections
]
ROOT = Path(__file__).parents[1]
CONFIG = ["--config", str(ROOT / "configs" / "digits_lt.py")]
SMALL = [
    *CONFIG,
    *SMALLEST,
    "--config.train.epochs=6",
    "--config.optimizer.warmup_epochs=1",
    "--config.checkpoint.every_epochs=1",
    "--config.evaluation.every_epochs=3",
]


def command(*args):
    return [sys.executable, "-m", "ltjax.main", *args]


def call(*args):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(*args), capture_output=True, text=True, cwd=ROOT, env=env, timeout=300, check=False
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
    assert "finished already, its data was not read again; its result:" in third.stdout


BAD = {
    "unknown key": ([*CONFIG, "--config.train.batchsize=3"], "config.train.batchsize is not a key"),
    "unknown section": (
        [*CONFIG, "--config.trains.epochs.x=3"],
        "did you mean config.train.epochs?",
    ),
    "wrong type": ([*CONFIG, "--config.train.epochs=many"], "config.train.epochs"),
    "negative size": ([*CONFIG, "--config.train.batch_size=-8"], "an integer >= 1"),
    "devices": (
        [*CONFIG, "--config.train.batch_size=65"],
        "65 is not divisible by the 2 devices",
    ),
    "imbalance factor": ([*CONFIG, "--config.data.imbalance_factor=0.5"], "a number >= 1"),
    "empty class": ([*CONFIG, "--config.data.imbalance_factor=1000"], "rarest class without"),
    "blocks": ([*CONFIG, "--config.plan.num_blocks=0"], "num_blocks = 0"),
    "no such config": (["--config", "nowhere.py"], "nowhere.py"),
    "no config": ([], "--config is missing"),
    "unknown flag": ([*CONFIG, "--bogus"], "bogus"),
    "stray argument": ([*CONFIG, "stray"], "'stray' is not a flag"),
    "input, no mode": (
        [*CONFIG, "--input=a"],
        "--input does not go with --mode=train (the default); it goes with --mode=predict, --mode",
    ),
    "output": ([*CONFIG, "--mode=train", "--output=a"], "--output does not go with --mode=train; "),
    "weights": ([*CONFIG, "--weights=a"], "takes pretrained weights as --config.model.weights"),
    "workdir": ([*CONFIG, "--workdir", "/proc/nowhere"], "workdir /proc/nowhere cannot be written"),
}


@pytest.fixture
def refused(command):
    """Calls the command line in this process; gives its one line."""

    def call_here(*args):
        code, said = command(*args)
        assert code == 2, said
        return one_line(said)

    return call_here


def one_line(shown):
    assert shown.startswith("ltjax: error: ")
    assert shown.count("\n") == 1
    return shown


def test_bad_input_in_a_process_of_its_own(tmp_path):
    args, words = BAD["devices"]
    out = call(*args, "--workdir", str(tmp_path / "run"))
    assert out.returncode == 2, out.stderr
    assert words in one_line(out.stderr)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case, tmp_path, refused):
    args, words = BAD[case]
    if "--workdir" not in args:
        args = [*args, "--workdir", str(tmp_path / "run")]
    assert words in refused(*args)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def finished(tmp_path):
    """A folder that looks like that of a finished run."""
    shutil.copy(ROOT / "tests" / "config" / "stored.json", tmp_path / "config.json")
    (tmp_path / "result.json").write_text("{}")
    return tmp_path


BAD_AFTER_TRAINING = {
    "wrong type": (["--mode=evaluate", "--config.data.limit=foo"], "--config.data.limit=foo"),
    "out of range": (["--mode", "evaluate", "--config.data.limit=0"], "an integer >= 1"),
    "unknown key": (["--mode=predict", "--config.data.limits=3"], "mean config.data.limit?"),
    "not data": (
        ["--mode=predict", "--config.train.epochs=3"],
        "config.train.epochs cannot be changed after training; only config.data keys can",
    ),
    "seed": (["--mode=evaluate", "--config.seed=3"], "config.seed cannot be changed after"),
    "data, but none is read": (
        ["--mode=embed", "--config.data.limit=3"],
        "--config.KEY=VALUE does not go with --mode=embed",
    ),
    "config file": (["--mode=export", *CONFIG], "--config does not go with --mode=export"),
    "no output": (["--mode=export"], "--output is missing"),
    "no input": (["--mode=predict", "--output=a.csv"], "--input is missing"),
    "no platform": (
        ["--mode=export", "--output=out", "--platforms="],
        "platforms = '' is not allowed; use some of cpu, cuda, rocm, tpu",
    ),
    "unknown platform": (
        ["--mode=export", "--output=out", "--platforms=cpu,abacus"],
        "platforms = 'abacus' is not allowed",
    ),
    "platforms of no program": (
        ["--mode=export", "--output=out", "--format=safetensors", "--platforms=cuda"],
        "--platforms = cuda does not go with --format=safetensors, which writes no program",
    ),
    "stray argument": (["--mode=evaluate", "stray"], "'stray' is not a flag"),
    "input of an evaluation": (
        ["--mode=evaluate", "--input=a.npz"],
        "--input does not go with --mode=evaluate, which scores the run's own test part; to score "
        "other data give --config.data.KEY=VALUE, such as --config.data.test_path=FILE",
    ),
    "data of an evaluation": (["--mode=evaluate", "--data=a"], "--data does not go with --mode=ev"),
    "input of an export": (
        ["--mode=export", "--input=a", "--output=b"],
        "--input does not go with --mode=export; it goes with --mode=predict, --mode=embed",
    ),
    "distribution for an export": (
        ["--mode=export", "--output=b", "--target_prior=train"],
        "it goes with --mode=evaluate, --mode=predict",
    ),
    "classes of an embedding": (["--mode=embed", "--top_k=3"], "--top_k does not go with"),
    "hosts of a prediction": (["--mode=predict", "--distributed"], "it goes with --mode=train"),
}


@pytest.mark.parametrize("case", BAD_AFTER_TRAINING)
def test_bad_input_after_training(case, finished, refused):
    args, words = BAD_AFTER_TRAINING[case]
    assert words in refused(*args, "--workdir", str(finished))


@pytest.mark.parametrize("name", ["result.json", "config.json", "data.npz"])
def test_an_evaluation_replaces_no_file_that_it_reads(name, finished, refused):
    (finished / "data.npz").write_bytes(b"images")
    before = (finished / name).read_bytes()
    args = ["--mode=evaluate", "--workdir", str(finished), "--output", str(finished / name)]
    data = ["--config.data.name=npz", f"--config.data.path={finished / 'data.npz'}"]
    assert "is the same file as the input" in refused(*args, *data)
    assert (finished / name).read_bytes() == before


def test_flags_of_hosts_without_distributed(tmp_path, capsys):
    args = [*CONFIG, "--process_id=1", "--workdir", str(tmp_path / "run")]
    assert main(["ltjax", *args]) == 2
    assert "are of --distributed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


EXHAUSTED = {
    "memory": MemoryError(),
    "memory of a device": RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 4 bytes"),
    "threads": RuntimeError("can't start new thread"),
}


@pytest.mark.parametrize("what", EXHAUSTED)
def test_memory_and_threads_that_are_exhausted_are_one_line(what, monkeypatch, capsys):
    def fail(argv):
        raise EXHAUSTED[what]

    monkeypatch.setattr("ltjax.main._run", fail)
    assert main(["ltjax"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert ("memory" if "memory" in what else "ulimit -u") in shown


def test_any_other_error_keeps_its_traceback(monkeypatch):
    def fail(argv):
        raise RuntimeError("of another kind")

    monkeypatch.setattr("ltjax.main._run", fail)
    with pytest.raises(RuntimeError, match="of another kind"):
        main(["ltjax"])


def test_data_keys_of_the_stored_configuration_may_change(finished):
    stored = _stored_config(str(finished), ["ltjax"])
    other = [
        "ltjax",
        "--config.data.name=npz",
        "--config.data.path=a.npz",
        "--config.data.seed",
        "3",
    ]
    changed = _stored_config(str(finished), other)
    assert changed.data == dataclasses.replace(stored.data, name="npz", path="a.npz", seed=3)
    assert dataclasses.replace(changed, data=stored.data) == stored


def test_places_of_the_stored_source_are_not_those_of_another(finished):
    stored = json.loads((finished / "config.json").read_text())
    stored["data"] |= {"name": "folder", "dir": "images", "image_size": 8}
    (finished / "config.json").write_text(json.dumps(stored))
    args = ["ltjax", "--config.data.name=npz", "--config.data.path=a.npz"]
    data = _stored_config(str(finished), args).data
    assert (data.name, data.path, data.dir) == ("npz", "a.npz", "")
    data = _stored_config(str(finished), [*args, "--config.data.test_path=b.npz"]).data
    assert data.test_path == "b.npz"  # given, so that the reader refuses it


@pytest.mark.parametrize("program", ["ltjax", "ltjax.main"])
def test_help(program):
    out = subprocess.run(
        [sys.executable, "-m", program, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert out.returncode == 0
    lines = out.stdout.splitlines()
    assert "ltjax --config RECIPE" in out.stdout
    assert len(lines) <= 40
    assert max(map(len, lines)) < 80
