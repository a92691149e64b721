"""The command for a GPU: its tasks, its budget, and a row of it on a CPU."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from experiments import records
from experiments.gpu import row as rows
from experiments.gpu import run
from experiments.gpu.run import Task
from experiments.protocols import ROWS
from experiments.store import read
from experiments.train_speed import run as train_speed


def test_tasks_come_in_the_order_of_the_readme(tmp_path):
    found = run.tasks(run.arguments(["--out", str(tmp_path), "--data-dir", "d"]))
    parts = [task.command[0] for task in found]
    modules = ("train_speed.run", "whitening_speed.run", "gpu.row")
    assert list(dict.fromkeys(parts)) == [f"experiments.{module}" for module in modules]
    assert sum(task.share for task in found if task.share < 1) <= 0.5  # the rest is for the rows
    text = (records.ROOT / "experiments/gpu/README.md").read_text()
    places = [text.index(f"`{name}`") for name in run.ORDER]
    assert places == sorted(places)
    assert set(run.ORDER) <= set(ROWS)


def test_arguments_that_cannot_be(capsys):
    for words in (["--minutes", "0.1"], ["--rows", "ce,what"]):
        with pytest.raises(SystemExit) as error:
            run.arguments(words)
        assert error.value.code == 2
    assert "what" in capsys.readouterr().err


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes modules that tasks run, in a folder of their own."""
    monkeypatch.setattr(records, "ROOT", tmp_path)

    def make(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return Task(name, (name,))

    return make


def test_what_becomes_of_tasks(module, monkeypatch):
    """One is done, one fails, one is told to stop and ends, for the last no time is left."""
    monkeypatch.setattr(run, "GRACE", 20.0)
    told = (
        "import signal, sys, time\n"
        "def stop(*_):\n    open('told', 'w').close()\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\ntime.sleep(99)\n"
    )
    texts = {"fine": "", "bad": "raise SystemExit(3)", "long": told, "late": ""}
    outcomes = run.run_within([module(name, text) for name, text in texts.items()], 20 + 10)
    words = {one.name: one.words for one in outcomes}
    assert words == {
        "fine": run.DONE,
        "bad": "failed with exit code 3",
        "long": run.STOPPED,
        "late": run.NOT_RUN,
    }
    assert (records.ROOT / "told").exists()


def test_the_summary_names_what_was_not_run(tmp_path):
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/gpu.md").write_text("| table |\n")
    outcomes = [run.Outcome("a", run.DONE, 2.0), run.Outcome("b", run.NOT_RUN, 0.0)]
    lines = run.summary(outcomes, tmp_path).splitlines()
    assert lines[0] == "| table |"
    assert lines[-2:] == ["a: done (2 s)", f"b: {run.NOT_RUN} (0 s)"]


def test_without_pytorch_it_is_left_out(capsys):
    found = train_speed.contenders("resnet50", "training", compiled=True, platform="gpu")
    assert found == train_speed.OURS_ON_GPU
    assert "PyTorch is not installed" in capsys.readouterr().out


def test_the_script_calls_the_program():
    command = [records.ROOT / "experiments/gpu/run.sh", "--help"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout


def test_a_second_stage_starts_from_the_same_seeds(tmp_path, monkeypatch):
    calls = []

    def fake(config, workdir):
        calls.append((config, workdir))
        scores = {"accuracy": 0.5, "many": None, "medium": 0.5, "few": 0.5}
        result = {
            "per_seed": [scores, scores | {"accuracy": 0.25}],
            "train": {"seconds": 8.0},
            "versions": {"kernels": "XLA"},
        }
        return SimpleNamespace(result=result)

    monkeypatch.setattr("ltjax.training.run.run", fake)
    runs = rows.trained("digits_20", "crt", range(2), "", tmp_path)
    (first, folder), (second, _) = calls
    assert first.seeds == second.seeds == (0, 1)
    assert (first.stage, second.stage) == ("one", "crt")
    assert second.init_from == str(folder)
    share = {"medium": 0.5, "few": 0.5, "seconds": 4.0}
    assert [run.result for run in runs] == [{"accuracy": a} | share for a in (0.5, 0.25)]


@pytest.mark.slow
def test_a_row_of_two_seeds_is_stored_and_not_run_again(tmp_path, capsys, monkeypatch):
    row = "ce runlocal=True data.max_count=20 train.epochs=1 model.name=mlp model.hidden=(8,)"
    words = ["--protocol", "digits_20", "--row", row, "--seeds", "2", "--out", str(tmp_path)]
    assert rows.main(words) == 0
    stored = read(tmp_path / "digits_20.csv")[row]
    assert list(stored) == [0, 1]
    assert all(0 <= one["accuracy"] <= 1 and one["seconds"] > 0 for one in stored.values())
    assert stored[0]["accuracy"] != stored[1]["accuracy"]
    text = (tmp_path / "digits_20.csv").read_text()
    monkeypatch.setattr(rows, "trained", None)
    assert rows.main(words) == 0
    assert (tmp_path / "digits_20.csv").read_text() == text
    assert capsys.readouterr().out.count("seed ") == 2
    # Other code shows what is there, and adds nothing to it.
    monkeypatch.setattr(records, "environment", lambda device: {"sources": "other"})
    assert rows.main(words) == 0
    assert rows.main([*words, "--seeds", "3"]) == 2
    assert "mixes runs of different kinds" in capsys.readouterr().err
