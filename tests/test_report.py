"""The parts of a report, and workdirs side by side."""

import json

import numpy as np
import pytest

from ltjax import report, report_outcome
from ltjax.evaluation.outcome import details
from ltjax.evaluation.scores import intervals, scores, tally


def _result(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    logits = rng.normal(size=(60, 3)) + (1 + seed) * np.eye(3)[labels]
    counts = [200, 50, 5]
    found = {"test": scores(tally(labels, logits), counts), "method": f"m{seed}"}
    found["intervals"] = [intervals(labels, logits, counts, resamples=20)]
    return found, labels, logits


def test_score_table_names_every_score():
    result, *_ = _result(0)
    table = report_outcome.score_table(result)
    for key, name in report_outcome.SCORES:
        assert f"<td>{name}</td>" in table
        assert report_outcome.shown(key, result["test"][key]) in table


def test_details_add_up_and_the_surest_mistake_is_first():
    _, labels, logits = _result(0)
    kept = details(labels, logits)
    assert np.sum(kept["confusion"]) == 60
    assert sum(kept["reliability"]["images"]) == 60
    sure = [one["confidence"] for one in kept["confused"]]
    assert sure == sorted(sure, reverse=True)
    assert all(one["label"] != one["prediction"] for one in kept["confused"])
    assert report_outcome.reliability(kept).axes
    assert report_outcome.confusion(kept, [3, 2, 1], ["a", "b", "c"]).axes


def test_comparison_marks_the_best_and_other_data(tmp_path, capsys):
    for seed, data in ((0, "a"), (1, "b")):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(_result(seed)[0]))
        (folder / "dataset.json").write_text(json.dumps({"fingerprint": data}))
    out = tmp_path / "c.html"
    assert report.main([str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(out)]) == 0
    text = out.read_text()
    better = report_outcome.shown("accuracy", _result(1)[0]["test"]["accuracy"])
    assert f"<b>{better}</b>" in text
    assert "different data" in text
    assert "http" not in text
    assert report.main([str(tmp_path / "0"), str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "not finished" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2])
def test_comparison_needs_a_file_and_two(tmp_path, count, capsys):
    arguments = ["x"] * count + (["--out", str(tmp_path / "c.html")] if count == 1 else [])
    assert report.main(arguments) == 2
    assert "error" in capsys.readouterr().err
