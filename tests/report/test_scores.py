"""One table names every score, and what a report shows of each."""

import dataclasses

import pytest

from ltjax.report.read import read_run
from ltjax.report.scores import HEADLINES, SCORES, score_table
from tests.report.workdirs import write_workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(write_workdir(tmp_path_factory.mktemp("scores") / "run"))


def test_every_stored_score_has_a_name(run):
    assert {score.key for score in SCORES} == set(run.test)
    assert len({score.name for score in SCORES}) == len(SCORES)


def test_score_table(run):
    corrected = dict.fromkeys(run.test, 0.25)
    header, rows = score_table(dataclasses.replace(run, post_hoc={"logit_adjustment": corrected}))
    assert header == ["score", "test", "95% interval", "after logit adjustment"]
    for score, row in zip(SCORES, rows, strict=True):
        assert row[:2] == [score.name, score.shown(run.test[score.key])]
        assert row[3] == ("25.0%" if score.percent else "0.250")


def test_tail_to_head_confusion_is_the_stored_head_to_tail():
    (score,) = (score for score in SCORES if score.key == "head_to_tail")
    assert score.name == "tail-to-head confusion"
    assert score.lower_is_better


def test_headlines_and_directions():
    assert [score.headline for score in HEADLINES] == ["top-1", "balanced", "many", "medium", "few"]
    lower = {score.key for score in SCORES if score.lower_is_better}
    assert lower == {"head_to_tail", "nll", "ece", "classwise_ece"}


def test_best_follows_the_direction(run):
    worse = dataclasses.replace(run, test={"accuracy": 0.1, "nll": 9.0})
    better = dataclasses.replace(run, test={"accuracy": 0.2, "nll": 8.0, "few": None})
    by_key = {score.key: score for score in SCORES}
    assert by_key["accuracy"].best([worse, better]) == 0.2
    assert by_key["nll"].best([worse, better]) == 8.0
    assert by_key["few"].best([worse, better]) is None


def test_several_seeds_show_deviation_and_whose_interval(tmp_path):
    run = read_run(write_workdir(tmp_path / "run", seeds=(1, 2)))
    header, rows = score_table(run)
    assert header == ["score", "mean ± std over seeds", "95% interval, seed 1"]
    mean, std = run.test["accuracy"], run.test_std["accuracy"]
    assert rows[0][1] == f"{100 * mean:.1f}% ± {100 * std:.1f}%"
