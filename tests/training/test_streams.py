"""Closed standard streams, and pipes that nobody reads any more."""

import os
import subprocess
import sys

import pytest

from ltjax.training.progress import LineWatcher

HEAD = "import os, sys\nfrom ltjax.training.streams import flushed, open_streams\n"


def shell(code, redirections):
    """Exit code, standard output and standard error of a Python program."""
    command = f'"$0" -c "$1" {redirections}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, HEAD + code],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    )
    return done.returncode, done.stdout, done.stderr


def test_a_file_never_takes_the_number_of_a_closed_stream(tmp_path):
    code = f"""
open_streams()
file = open({str(tmp_path / "checkpoint")!r}, "w")
assert file.fileno() > 2, file.fileno()
os.write(2, b"a line of a library")
print("out"); print("err", file=sys.stderr)
file.write("content"); file.close()
sys.exit(flushed(0))
"""
    assert shell(code, "0<&- >&- 2>&-") == (0, "", "")
    assert (tmp_path / "checkpoint").read_text() == "content"


def test_a_reader_who_went_away_is_no_error():
    code = """
open_streams()
for number in range(100_000):
    try:
        print(number)
    except BrokenPipeError:
        break
sys.exit(flushed(0))
"""
    status = shell(code, "| head -1; exit ${PIPESTATUS[0]}")
    assert status == (0, "0\n", "")


def test_output_that_a_full_disk_refuses_is_an_error():
    code = "open_streams()\nprint('the scores')\nsys.exit(flushed(0))"
    status, _, errors = shell(code, "> /dev/full")
    assert status == 2
    assert errors.startswith("ltjax: error: the output cannot be written")
    assert errors.count("\n") == 1
    code = code.replace("flushed(0)", "flushed(2)")  # of an error that was told already
    assert shell(code, "> /dev/full") == (2, "", "")


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
def test_progress_that_cannot_be_shown_ends_no_run(monkeypatch, error):
    class Closed:
        def write(self, text):
            raise error

        def flush(self):
            raise error

    monkeypatch.setattr(sys, "stderr", Closed())
    watcher = LineWatcher()
    watcher.start(0, 10)
    watcher.update(1, "loss")
    watcher.note("a line")
    monkeypatch.undo()
