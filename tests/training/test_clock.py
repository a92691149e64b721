"""The clock counts training time only."""

import pytest

from ltjax.training import clock as module
from ltjax.training.clock import TrainingClock


@pytest.fixture
def tick(monkeypatch):
    """Moves the time by so many seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def test_compilation_and_pauses_do_not_count(tick):
    clock = TrainingClock()
    tick(50)  # compiles
    clock.start()
    with clock.input():
        tick(1)
    tick(3)
    with clock.paused(lambda: tick(2)):  # the steps under way are training
        tick(40)
    lap = clock.lap(60)
    assert (lap.seconds, lap.input_seconds, lap.images_per_second) == (6, 1, 10)
    tick(4)
    assert clock.lap(20).input_share == 0
    assert (clock.seconds, clock.images) == (10, 80)
