"""The program that lets things go wrong in tiny runs: its verdicts, and a short round of it."""

import os
import shutil
import subprocess
import sys

import pytest

from experiments import records
from experiments.crash import faults
from experiments.crash.faults import Ended, Try

LINE = "ltjax: error: No space left on device; make room there"


@pytest.mark.parametrize(
    ("ended", "orderly"),
    [
        (Ended(0, [], 1.0), True),
        (Ended(2, [LINE], 1.0), True),
        (Ended(2, [LINE, LINE], 1.0), False),
        (Ended(2, ["Traceback (most recent call last):"], 1.0), False),
        (Ended(2, [], 1.0), False),
        (Ended(1, [LINE], 1.0), False),
        (Ended(0, ["RuntimeError: Event loop is closed"], 1.0), False),
        (Ended(None, [], 300.0), False),
        (Ended(-6, [], 1.0), False),
    ],
)
def test_what_counts_as_an_orderly_end(ended, orderly):
    assert ended.orderly is orderly


def test_usual_lines_are_those_of_a_run():
    usual = ["step 7/14  epoch 1.0", "training from step 0 of 14", "in 2 epochs the rarest image"]
    assert all(faults.USUAL.match(line) for line in usual)
    assert not faults.USUAL.match(LINE)


def test_table_and_file_of_the_tries(tmp_path):
    tries = [
        Try("fault", "start write 3 ENOSPC", "config.json", 2, LINE, True, True, 2.0),
        Try("fault", "start write 4 EIO", "x", 0, "", True, True, 1.0),
        Try("fault", "start write 5 EIO", "x", None, "", False, False, 300.0),
        Try("kill", "after 0.10 s", "", 0, "", True, True, 1.5),
    ]
    faults.write(tmp_path / "faults.csv", tries)
    faults.write(tmp_path / "faults.csv", tries[3:])
    stored = records.read(tmp_path / "faults.csv")
    assert faults.table(stored).splitlines()[2:] == [
        "| fault | 3 | 1 | 1 | 1 | 2 | 303 |",
        "| kill | 1 | 1 | 0 | 0 | 1 | 2 |",
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is of Linux")
@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler")
def test_a_short_round_goes_well():
    words = ["--faults=6", "--kills=1", "--stops=1", "--pairs=1"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.crash.faults", *words],
        cwd=records.ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| fault | 6 |" in done.stdout
