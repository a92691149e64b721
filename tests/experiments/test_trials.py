"""The runs, the tables and the rows that the experiments on accuracy share."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import records, store, tables, trials
from experiments.ablation import run as ablation
from experiments.baseline.gap import accuracy_of_halves
from experiments.mechanism import stability
from experiments.protocols import PROTOCOLS, ROWS, Trial, make_config
from experiments.results import Results, files
from experiments.statistics import Difference, OneTest, Splits, paired
from experiments.trials import Extras, Run, Runner
from ltjax import config as configs
from ltjax.data.places import check_places
from ltjax.training import progress
from ltjax.training import run as training
from ltjax.training.loop import Loop
from tests.training.watchers import KillAt, Killed

RESULTS = Path(__file__).parents[2] / "experiments/ablation/results"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_every_protocol_is_a_valid_configuration(protocol, row):
    config = make_config(PROTOCOLS[protocol], Trial(row, 3), "data", init_from="run", tau=1.0)
    resolved = configs.resolve(config)
    check_places(resolved.data.name, dataclasses.asdict(resolved.data))
    assert resolved.seed == 3
    assert resolved.data.imbalance_factor == configs.get(config, "data.imbalance_factor")


def test_a_row_with_changes():
    trial = Trial("cw_la whitening.shrinkage=0.01 plan.name=b3rs", 0)
    config = configs.resolve(make_config(PROTOCOLS["digits_20"], trial, ""))
    assert config.whitening.shrinkage == 0.01
    assert config.plan.name == "b3rs"
    assert config.whitening.method == "zca"


def test_differences_are_paired_by_the_seeds_of_both_rows():
    rng = np.random.default_rng(0)
    a, b = rng.random(8), rng.random(8)
    rows = {
        name: {i: {"accuracy": float(v)} for i, v in enumerate(x)}
        for name, x in (("a", a), ("b", b))
    }
    rows["b"][9] = {"accuracy": 0.1}
    assert tables.compare(Results(rows, Splits(0.25)), "a", "b") == paired(a - b, 0.25)
    assert tables.compare(Results(rows, OneTest()), "a", "b") == paired(a - b)
    correct = {name: {seed: rng.random((2, 9)) < 0.5 for seed in rows[name]} for name in rows}
    design = OneTest(correct)
    images = design.images("a", "b", "accuracy", range(8))
    found = tables.compare(Results(rows, design), "a", "b")
    assert found == paired(a - b, images=images)
    assert found.seeds == 8
    assert tables.compare(Results(rows, Splits(0.25)), "a", "absent") is None
    assert tables.compare(Results(rows, OneTest()), "a", "b", "few") is None


def test_bold_differences_hold_for_the_whole_table():
    sure, unsure = (Difference(0.01, 0.001, 0.02, p, 5) for p in (0.01, 0.03))
    two, four = (Difference(0.01, 0.001, 0.02, 0.0, seeds) for seeds in (2, 4))
    found = [[sure, unsure], [two, "x"], [None, unsure], [four, ""]]
    lines = tables.render(["a", "b"], found).splitlines()
    assert lines[2] == "| **+1.0** [+0.1, +2.0] | +1.0 [+0.1, +2.0] |"
    assert lines[3] == "| +1.0 | x |"
    assert lines[5] == "| +1.0 [+0.1, +2.0] |  |"
    assert lines[4] == "| – | +1.0 [+0.1, +2.0] |"
    assert "**+1.0**" in tables.render(["a"], [[unsure]])


RESULT = {"accuracy": 0.5, "many": 0.6, "few": 0.4, "seconds": 2.0}


def test_table_shows_what_is_missing():
    rows = {"ce": {0: RESULT, 1: RESULT | {"accuracy": 0.7}}, "cw": {0: RESULT}}
    found = Results(rows, Splits(0.25))
    lines = tables.accuracy_table(found, ["ce", "cw", "crt"], ["ce"]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| `ce` | 60.0 ± 14.1 | 60.0 ± 0.0 | – | 40.0 ± 0.0 |  | 2 |")
    assert "| – | 1 |" in lines[3]


def test_parts_are_differences_of_rows_that_exist():
    assert {name for pair in ablation.CLAIMS.values() for name in pair} <= set(ROWS)
    rows = {
        name: {seed: RESULT | {"accuracy": level} for seed in range(5)}
        for name, level in (("ce", 0.5), ("cw", 0.6))
    }
    text = ablation.claims(Results(rows, Splits(0.25)))
    assert "| whitening, plain loss | `cw` − `ce` | **+10.0** [+10.0, +10.0] | +0.0" in text
    assert "`ce_b3rs`" not in text
    one = {name: {0: seeds[0]} for name, seeds in rows.items()}
    assert ablation.claims(Results(one, Splits(0.25))) == ""


def test_agreement_sees_a_difference():
    stored = {"ce": {i: {"accuracy": 0.9 + 0.01 * (i % 2)} for i in range(20)}}
    near = {"ce": {0: {"accuracy": 0.9}, 1: {"accuracy": 0.91}}}
    far = {"ce": {0: {"accuracy": 0.8}, 1: {"accuracy": 0.81}}}
    assert "agrees" in ablation.agreement(near, stored)
    assert "DIFFERS" in ablation.agreement(far, stored)


@pytest.mark.slow
def test_second_stages_share_their_stage_one(tmp_path):
    small = PROTOCOLS["digits_50"]
    network = {"model.name": "mlp", "model.hidden": (8,)}
    overrides = {**small.overrides, "train.epochs": 1, "optimizer.warmup_epochs": 0}
    small = small._replace(overrides={**overrides, **network, "cpu_devices": 1}, stage_two_epochs=1)
    extras = Extras("experiments.baseline.gap:measure", ("before_whitening/effective_rank",))
    runner = Runner(small, tmp_path, extras=extras)
    rows = ("crt", "tau_norm", "cw_la", "cw_crt")
    found = {row: runner(Trial(row, 0)) for row in rows}
    folders = {path.name for path in tmp_path.iterdir()}
    assert folders == {
        *("ce 0", "ce held out 0", "choose tau 0"),
        *("crt 0", "tau_norm 0", "cw_la 0", "cw 0", "cw_crt 0"),
    }
    assert found["tau_norm"].result["tau"] >= 0
    assert 0 <= found["crt"].result["accuracy"] <= 1
    whitened = found["cw_la"].result
    assert whitened["gap"] > 0
    assert 0 < whitened["low_half_energy"] < 1
    assert whitened["after_whitening/effective_rank"] > 1
    assert whitened["high_half_accuracy"] > 0
    assert all(
        type(value) in (int, float) for run in found.values() for value in run.result.values()
    )
    assert [set(at) for at in found["cw_la"].curve] == [{"step", "before_whitening/effective_rank"}]
    steady = stability.measure(tmp_path / "ce 0")
    assert set(steady) == {f"{plan}/{w}" for plan in stability.PLANS for w in ("own", "balanced")}
    assert steady["b3rs/own"] < steady["class_balanced/own"]
    assert stability.measure(tmp_path / "cw_la 0") == {}


def test_a_worker_does_not_keep_the_programs_of_its_runs(monkeypatch):
    kept = []  # as if something held a run's functions for good

    def run(self, trial):
        function = jax.jit(lambda x: x + trial.seed)
        kept.append(function)
        return Run({"accuracy": float(function(jnp.ones(trial.seed + 3)).sum())}, [])

    def programs():
        return len(jax.local_devices()[0].client.live_executables())

    monkeypatch.setattr(Runner, "__call__", run)
    trials._work("digits_50", [Trial("ce", 0)], "", Extras())
    before = programs()
    trials._work("digits_50", [Trial("ce", seed) for seed in range(5)], "", Extras())
    assert len(kept) == 6
    assert programs() == before


PARENT = """
import multiprocessing, os, time
from experiments import trials

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with trials.ProcessPoolExecutor(1, context, trials._start_worker, (None,)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


INTERRUPTED = """
import os, sys, time, types
from pathlib import Path
from experiments import trials

def work(protocol, group, data_dir, extras, workdirs, scratch):
    Path(scratch, "left").touch()
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()} {scratch}\\n")
    time.sleep(600)

if __name__ == "__main__":
    trials._work, trials.missing = work, lambda asked, store: [[]] * 5
    trials.run_trials([], types.SimpleNamespace(protocol="digits_50"), processes=1)
"""


def runs(process):
    """Whether a process is there and has not ended."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return words[0] not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to do it")
def test_a_worker_ends_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(records.ROOT)}
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        worker = int(parent.stdout.readline())
        assert runs(worker)
        parent.kill()
    limit = time.monotonic() + 60
    while runs(worker):
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux whether a process runs")
def test_an_interrupted_parent_ends_its_workers_and_what_waits(tmp_path):
    (tmp_path / "parent.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(records.ROOT)}
    started = tmp_path / "started"
    command = [sys.executable, str(tmp_path / "parent.py"), str(started)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as parent:
        limit = time.monotonic() + 60
        while not (started.exists() and started.read_text()):
            assert time.monotonic() < limit
            time.sleep(0.05)
        parent.send_signal(signal.SIGINT)
        parent.wait(60)
    (line,) = started.read_text().splitlines()
    worker, scratch = line.split()
    assert not runs(int(worker))
    assert not Path(scratch).exists()


KILLED = """
import argparse, os, signal
from experiments import trials

def work(*shared):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    trials._work, trials.missing = work, lambda asked, store: [[]]
    parser = argparse.ArgumentParser()
    trials.standard_arguments(parser)
    trials.run_and_store("digits_50", [], parser.parse_args(), parser)
"""


@pytest.mark.parametrize("stored", [True, False])
def test_a_worker_that_is_killed_ends_the_command_with_one_line(stored, tmp_path):
    (tmp_path / "parent.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "parent.py"), "--processes=1"]
    command += [f"--out={tmp_path}"] * stored
    environment = {**os.environ, "PYTHONPATH": str(records.ROOT)}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("a process that trains was killed")
    assert ("the same command goes on" in line) == stored


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_its_folder_is_kept(tmp_path, monkeypatch):
    small = PROTOCOLS["digits_50"]
    shorter = {"train.epochs": 3, "checkpoint.every_epochs": 1, "train.log_every_steps": 1}
    network = {"model.name": "mlp", "model.hidden": (8,), "optimizer.warmup_epochs": 0}
    overrides = {**small.overrides, **shorter, **network}
    monkeypatch.setitem(PROTOCOLS, "digits_50", small._replace(overrides=overrides))
    resumed = []

    class Recorded(Loop):
        def restore(self):
            resumed.append(super().restore())
            return resumed[-1]

    monkeypatch.setattr(training, "Loop", Recorded)

    def work(workdirs):
        found = trials._work("digits_50", [Trial("ce", 0)], "", Extras(), workdirs)
        return {name: v for name, v in found[0][0][1].result.items() if name != "seconds"}

    with monkeypatch.context() as patch:
        patch.setattr(progress, "SilentWatcher", lambda: KillAt(10))
        with pytest.raises(Killed):
            work(tmp_path)
    assert work(tmp_path) == work(None)
    assert resumed == [False, True, False]
    assert [path.name for path in (tmp_path / "digits_50").iterdir()] == ["ce 0"]


def test_halves_know_where_the_classes_are():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    signal = np.eye(4)[labels] + 0.05 * rng.normal(size=(400, 4))
    noise = rng.normal(size=(400, 4))
    for strong, low in ((10 * noise, True), (0.01 * noise, False)):
        x = np.concatenate([signal, strong], axis=1)
        found = accuracy_of_halves(x[:300], labels[:300], x[300:], labels[300:])
        assert (found["low_half_accuracy"] > 0.95) == low
        assert (found["high_half_accuracy"] > 0.95) != low


def test_classifiers_on_pixels_see_the_run_s_data():
    runner = Runner(PROTOCOLS["digits_20"], Path("nowhere"))
    found = runner(Trial("rbf_svm", 0)).result
    assert 0.85 < found["accuracy"] < 0.97
    assert found["few"] < found["many"]
    stored = store.read(RESULTS / "digits_20.csv")
    assert found["accuracy"] == pytest.approx(stored["rbf_svm"][0]["accuracy"])


def test_summary_has_a_column_for_every_protocol():
    stores = {
        "digits_20": {"ce": {0: RESULT}, "cw": {0: RESULT, 1: RESULT}},
        "cifar10_small": {"ce": {0: RESULT}},
    }
    lines = ablation.summary(stores).splitlines()
    assert lines[0] == "| row | digits, IF 20 | CIFAR-10-LT, small network |"
    assert lines[2:] == [
        "| `ce` | 50.0 | 50.0 |",
        "| `cw` | 50.0 ± 0.0 | – |",
        "| seeds | 1 to 2 | 1 |",
    ]


def test_rows_by_name():
    assert ablation.rows_of("digits_20", "main")[0] == "logistic_regression"
    assert ablation.rows_of("cifar10_small", "main")[0] == "ce"
    assert "seesaw" in ablation.rows_of("digits_50", "losses")
    assert ablation.rows_of("digits_50", "ce,cw") == ["ce", "cw"]
    assert set(ablation.rows_of("digits_50", "losses")) <= set(ROWS)


@pytest.mark.parametrize("path", files(RESULTS), ids=lambda path: path.stem)
def test_stored_tables_are_those_of_their_results(path):
    for name, text in ablation.tables(path).items():
        assert path.with_name(name).read_text() == text, name


def test_stored_summary_is_of_all_stored_tables():
    assert (RESULTS / "summary.md").read_text() == ablation.summary(ablation.stored(RESULTS))
