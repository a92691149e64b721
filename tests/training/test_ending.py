"""How commands end after a signal or without files: in order, with one line."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ltjax import report
from ltjax.errors import Interrupted
from ltjax.main import main
from ltjax.report.__main__ import main as report_main
from ltjax.training import ending, workdir
from ltjax.training.progress import BarWatcher
from tests.helpers import SMALLEST

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TINY = [
    *("--config=digits_lt", "--config.method=ce", *SMALLEST, "--config.cpu_devices=1"),
    *("--config.train.epochs=1", "--config.optimizer.warmup_epochs=0"),
    "--config.engine.steps_per_call=1",
]


@pytest.fixture(autouse=True)
def handlers():
    """Puts back what handled the signals before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("resumes", [True, False])
def test_a_signal_is_one_line_and_a_code(number, resumes, capsys):
    def work():
        with ending.asked(resumes=resumes):
            signal.raise_signal(number)
        return 0

    codes = {signal.SIGINT: 130} | ({} if resumes else {signal.SIGTERM: 143, signal.SIGHUP: 129})
    assert ending.orderly(work) == codes.get(number, 0)
    how = "resumes" if resumes else "starts again"
    said = f"ltjax: stopped by {signal.Signals(number).name}; the same command {how}\n"
    assert capsys.readouterr().err == said


def test_the_second_signal_ends_at_once_but_a_terminal_may_close_twice():
    own = signal.getsignal(signal.SIGTERM)
    for number, after in ((signal.SIGTERM, own), (signal.SIGHUP, signal.SIG_IGN)):
        seen = []

        def work(number=number, seen=seen):
            try:
                signal.raise_signal(number)
            finally:
                seen.append(signal.getsignal(number))

        with pytest.raises(Interrupted), ending.asked(resumes=True):
            work()
        assert seen == [after]


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending.asked(resumes=True):
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_files_that_belong_together_are_replaced_together(tmp_path, monkeypatch):
    replace = os.replace

    def interrupted(source, target):
        signal.raise_signal(signal.SIGTERM)
        replace(source, target)

    old, new = {"a": b"1", "b": b"1"}, {"a": b"2", "b": b"2"}
    workdir.write_together(tmp_path, old)
    for place, left in (("fsync", old), ("replace", new)):
        with monkeypatch.context() as patch:
            if place == "fsync":
                patch.setattr(os, "fsync", lambda file: signal.raise_signal(signal.SIGTERM))
            else:
                patch.setattr(os, "replace", interrupted)
            with pytest.raises(Interrupted), ending.asked(resumes=True):
                workdir.write_together(tmp_path, new)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == left


def test_a_terminal_that_is_gone_ends_no_run():
    def gone(text):
        raise OSError(5, "Input/output error")

    watcher = BarWatcher()
    watcher._bar.console.file = SimpleNamespace(write=gone, flush=gone, isatty=lambda: True)
    watcher.start(0, 2)
    watcher.note("a line")
    watcher.update(1, "epoch 1.0")
    watcher.evaluated(1, "0.5")
    watcher.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_a_run_that_is_stopped_after_its_last_step_ends_the_same(
    tmp_path, command, monkeypatch, capfd
):
    def stop(*args):
        signal.raise_signal(signal.SIGTERM)

    def train(folder, *flags):
        return main(["ltjax", *TINY, f"--workdir={folder}", *flags]), capfd.readouterr()

    assert command(*TINY, f"--workdir={tmp_path / 'whole'}")[0] == 0
    folder = tmp_path / "run"
    stale = folder / ".result.json-0123456789abcdef"
    for place in (
        "ltjax.training.run.final_scores",
        "ltjax.training.run.write_details",
        "os.fsync",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            code, said = train(folder)
        assert code == 0
        assert said.err.splitlines()[-1] == "ltjax: stopped by SIGTERM; the same command resumes"
        assert not (folder / "result.json").exists()
        assert not list(folder.glob(".*-*"))
    stale.write_text("of a process that was killed")
    with monkeypatch.context() as patch:
        patch.setattr("ltjax.report.build.draw", stop)
        assert train(folder, "--stopped_code=75")[0] == 75
    assert not stale.exists()
    assert not (folder / "report.html").exists()
    code, said = train(folder)
    assert (code, "finished already" in said.out) == (0, True)
    assert (folder / "report.html").exists()
    results = [workdir.read_finished(tmp_path / name).result for name in ("whole", "run")]
    assert results[0]["test"] == results[1]["test"]
    with monkeypatch.context() as patch:
        patch.setattr("ltjax.report.build.draw", stop)
        assert report_main([str(folder)]) == 143
    assert "starts again" in capfd.readouterr().err
    report.write(folder)


def test_too_little_memory_to_load_a_library_is_one_line(tmp_path):
    limited = ["sh", "-c", 'ulimit -v 400000; exec "$@"', "sh"]
    command = [sys.executable, "-m", "ltjax.main", "--config", "digits_lt", "--workdir", tmp_path]
    done = subprocess.run([*limited, *command], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "not enough memory to load a library" in done.stderr
    assert "ulimit -v" in done.stderr
