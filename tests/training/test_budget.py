"""A time budget becomes a number of epochs, once."""

import json

import pytest

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.training import budget
from ltjax.training.budget import of_length
from ltjax.training.run import run as train
from tests.helpers import tiny_config
from tests.training.watchers import KillAt, Killed, Notes


def test_a_schedule_is_stretched():
    config = tiny_config(train__epochs=200, optimizer__warmup_epochs=5, evaluation__every_epochs=10)
    config.optimizer.schedule = "steps"
    base = configs.resolve(config)
    short, long = of_length(base, 20), of_length(base, 2000)
    assert (short.train.epochs, long.train.epochs) == (20, 2000)
    assert (short.optimizer.warmup_epochs, long.optimizer.warmup_epochs) == (1, 50)
    assert short.optimizer.milestones == (16, 18)
    assert (short.evaluation.every_epochs, long.evaluation.every_epochs) == (1, 10)
    assert of_length(base, 1).optimizer.warmup_epochs == 0
    assert of_length(base, 200) == base
    assert configs.resolve(short) == short


@pytest.mark.slow
def test_the_length_is_measured_once(tmp_path, monkeypatch):
    calls = []

    def speed(config, job, mapping):
        calls.append(real(config, job, mapping))
        return 0.3  # seconds a step, 2.1 an epoch

    real = budget.seconds_per_step
    monkeypatch.setattr(budget, "seconds_per_step", speed)
    config, notes = tiny_config(train__minutes=0.1), Notes()
    with pytest.raises(Killed):
        train(config, tmp_path, watcher=KillAt(7))
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["train"]["epochs"] == 2
    assert 0 < calls[0] < 1
    result = train(config, tmp_path, watcher=notes).result
    assert len(calls) == 1
    assert result["train"]["epochs"] == 2
    assert "train.minutes = 0.1: 2 epochs, as the run began" in notes.lines
    assert train(config, tmp_path).finished_before
    with pytest.raises(InputError, match=r"train.minutes: 0.1 -> 0.2[)]"):
        train(tiny_config(train__minutes=0.2), tmp_path)


def test_a_budget_and_another_length_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"train.minutes = 0.1 is not allowed with runlocal"):
        train(tiny_config(train__minutes=0.1, runlocal=True), tmp_path)
    assert not list(tmp_path.iterdir())
