"""What is made of compiled programs: rows, projections, the table."""

import csv
import shlex
import sys
from pathlib import Path

import pytest

from experiments.accelerator import run, whitening
from experiments.accelerator.topologies import SLICES

ROW = dict.fromkeys(run.FIELDS, "") | {
    "slice": "v5e-4",
    "recipe": "imagenet_lt",
    "batch": "512",
    "whitening": "none",
    "memory_gigabytes": "4.7",
    "tflop": "3.07",
    "gigabytes": "50.1",
    "collectives": "99",
    "collective_megabytes": "119",
    "compile_cpu_seconds": "60",
}


def test_a_projection_is_bound_by_what_takes_longest():
    chip = SLICES["v5e-4"].chip
    seconds = 50.1e9 / chip.bandwidth + 119e6 * 2 * 3 / 4 / chip.link  # by memory
    found = run.projected(ROW)
    assert found["milliseconds"] == pytest.approx(1e3 * seconds)
    assert found["images_per_second"] == pytest.approx(512 / seconds)
    by_products = run.projected(ROW | {"gigabytes": "0.1", "slice": "1 H100"})
    assert by_products["milliseconds"] == pytest.approx(3.07e12 / 989e12 * 1e3)


def test_rows_are_replaced_and_failures_shown(tmp_path):
    path = tmp_path / run.FILE
    run.store(path, ROW | {"error": "not compiled within 1 s"})
    run.store(path, ROW | {"recipe": "digits_lt"})
    assert "not compiled within 1 s" in path.with_suffix(".md").read_text()
    run.store(path, ROW)
    text = path.with_suffix(".md").read_text()
    assert "not compiled" not in text
    assert "projection" in text
    assert text.count("\n") == 4
    with path.open() as file:
        assert [row["recipe"] for row in csv.DictReader(file)] == ["digits_lt", "imagenet_lt"]


# In the place of Python: the same program with a compilation that does not end.
ENDLESS = """#!/bin/sh
shift 2
exec {python} -c '
import itertools, sys
from experiments.accelerator import run
run.compiled = lambda *_: all(itertools.count(1))
sys.exit(run.main(sys.argv[1:]))
' "$@"
"""


def test_a_compilation_that_takes_too_long_is_a_row(tmp_path, monkeypatch):
    program = tmp_path / "endless"
    program.write_text(ENDLESS.format(python=shlex.quote(sys.executable)))
    program.chmod(0o700)
    monkeypatch.setattr(run.sys, "executable", str(program))
    found = run._apart("v5e-4", "digits_lt", (), 1)
    assert found == {"error": "not compiled within 1 CPU seconds"}


def test_a_compiler_that_is_absent_or_crashes_is_a_row(monkeypatch):
    class Failed:
        returncode, stdout, stderr = 1, "", "Traceback\nRuntimeError: no libtpu\n"

    class Crashed(Failed):
        returncode = -11

    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: Crashed)
    assert run._apart("v5e-4", "digits_lt", (), 9)["error"] == "ended by SIGSEGV"
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: Failed)
    assert run._apart("v5e-4", "digits_lt", (), 9)["error"] == "RuntimeError: no libtpu"


@pytest.mark.parametrize("module", [run, whitening], ids=["run", "whitening"])
def test_the_readme_has_the_table(module):
    folder = Path(module.__file__).parent
    text = (folder / "README.md").read_text()
    name = module.FILE.replace(".csv", ".md")
    shown = text.split(f"{name} -->\n")[1].split("<!-- end -->")[0]
    assert shown == module.table(run.read(folder / "results" / module.FILE))
