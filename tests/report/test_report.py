"""The parts of a report, and workdirs side by side."""

import json
import re

import numpy as np
import pytest

from ltjax.evaluation.details import details
from ltjax.evaluation.scores import intervals, scores, tally
from ltjax.report import scores as report_outcome
from ltjax.report.__main__ import main as report_main


def _result(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    logits = rng.normal(size=(60, 3)) + (1 + seed) * np.eye(3)[labels]
    counts = [200, 50, 5]
    found = {"test": scores(tally(labels, logits), counts), "method": f"m{seed}"}
    found["train"] = {"class_counts": counts}
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


def _workdir(folder, seed, data, **config):
    folder.mkdir()
    parts = {
        "result": _result(seed)[0],
        "dataset": {"fingerprint": data, "class_names": ["a", "<b>", "c"]},
        "config": {"seed": seed, "train": {"epochs": 3}, **config},
        "diagnostics": {"after_whitening": {"spectrum": [0.7, 0.3], "effective_rank": 1.8}},
    }
    for name, content in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    lines = [{"step": s, "test/balanced_accuracy": 0.1 * s} for s in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_comparison_marks_the_best_and_other_data(tmp_path, capsys):
    folders = [_workdir(tmp_path / str(seed), seed, data) for seed, data in ((0, "a"), (1, "b"))]
    out = tmp_path / "c.html"
    assert report_main([*folders, "--out", str(out)]) == 0
    text = out.read_text()
    better = report_outcome.shown("accuracy", _result(1)[0]["test"]["accuracy"])
    assert f"<b>{better}</b>" in text
    assert "different data" in text
    assert "Classes, most frequent first" not in text
    assert "<td>seed</td><td>0</td><td>1</td>" in text
    assert "epochs" not in text
    assert report_main([folders[0], str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "not finished" in capsys.readouterr().err


def test_comparison_of_the_same_data_draws_its_classes(tmp_path):
    folders = [_workdir(tmp_path / name, 0, "a") for name in ("x", "y")]
    out = tmp_path / "c.html"
    assert report_main([*folders, "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("<svg") == 4
    assert "different data" not in text
    assert "The configurations are the same" in text
    assert not re.search(r'(src|href)="(?!#)', text)


@pytest.mark.parametrize("count", [1, 2])
def test_comparison_needs_a_file_and_two(tmp_path, count, capsys):
    arguments = ["x"] * count + (["--out", str(tmp_path / "c.html")] if count == 1 else [])
    assert report_main(arguments) == 2
    assert "error" in capsys.readouterr().err
