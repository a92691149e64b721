"""Workdirs side by side, and the report's command line."""

import json
import re

import pytest

from ltjax.report.__main__ import main
from ltjax.report.compare import _groups as groups_figure
from ltjax.report.compare import comparison, write_comparison
from ltjax.report.read import read_run
from ltjax.report.scores import SCORES
from tests.report.workdirs import write_workdir


def test_the_best_is_bold(tmp_path):
    folders = [write_workdir(tmp_path / name, seeds=(s,)) for s, name in enumerate("xy")]
    text = write_comparison(folders, tmp_path / "c.html").read_text()
    better = read_run(folders[1])
    assert f"<b>{SCORES[0].of(better)}</b>" in text
    assert "bold" in text
    assert re.search(r"<td>seed</td><td data-run=[^>]*>0</td><td data-run=[^>]*>1</td>", text)
    assert "train.epochs" not in text


def test_runs_on_different_data_are_not_ranked(tmp_path):
    folders = [write_workdir(tmp_path / d, seeds=(s,), data=d) for s, d in enumerate("xy")]
    text = write_comparison(folders, tmp_path / "c.html").read_text()
    assert "different data" in text
    assert "<b>" not in text
    assert "bold" not in text.split("<body>")[1]
    assert "Classes, most frequent first" not in text


def test_groups_that_no_run_has_are_left_out(tmp_path):
    runs = []
    for name in "xy":
        folder = write_workdir(tmp_path / name)
        result = json.loads((folder / "result.json").read_text())
        result["test"]["many"] = None
        (folder / "result.json").write_text(json.dumps(result))
        runs.append(read_run(folder))
    ticks = [tick.get_text() for tick in groups_figure(runs).axes[0].get_xticklabels()]
    assert ticks == ["medium", "few"]


def test_the_same_data_and_configuration(tmp_path):
    folders = [write_workdir(tmp_path / name) for name in "xy"]
    text = write_comparison(folders, tmp_path / "c.html").read_text()
    assert text.count("<svg") == 4
    assert "different data" not in text
    assert "The configurations are the same" in text


def test_configurations_differ_also_by_an_absent_key(tmp_path):
    runs = [
        read_run(write_workdir(tmp_path / "x", loss={"name": "ce"})),
        read_run(write_workdir(tmp_path / "y", loss={"name": "ldam", "path": ""})),
    ]
    text = re.sub(' data-run="[^"]*"', "", comparison(runs))
    assert "<td>loss.name</td><td>ce</td><td>ldam</td>" in text
    assert "<td>loss.path</td><td>null</td><td>&#34;&#34;</td>" in text


def test_workdirs_of_the_same_name_are_told_apart(tmp_path):
    runs = [read_run(write_workdir(tmp_path / parent / "run")) for parent in "xy"]
    text = comparison(runs)
    for run in runs:
        assert f"<small>{run.workdir}, 1 seed</small>" in text


def test_command_line(tmp_path, capsys):
    folders = [str(write_workdir(tmp_path / name)) for name in "xy"]
    assert main([folders[0]]) == 0
    assert (tmp_path / "x" / "report.html").exists()
    out = tmp_path / "c.html"
    assert main([*folders, "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{folders[0]}/report.html", str(out)]
    assert "<table" in out.read_text()


@pytest.mark.parametrize(
    ("names", "out", "message"),
    [
        (["x"], True, "two workdirs or more"),
        (["x", "x"], False, "--out is missing"),
        (["x", "none"], True, "none does not exist; give the workdir of a finished run"),
        (["none"], False, "none does not exist"),
    ],
)
def test_command_line_refuses_in_one_line(tmp_path, capsys, names, out, message):
    write_workdir(tmp_path / "x")
    arguments = [str(tmp_path / name) for name in names]
    assert main(arguments + (["--out", str(tmp_path / "c.html")] if out else [])) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
