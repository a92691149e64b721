"""When things are due, against what the periods say step by step."""

from hypothesis import given
from hypothesis import strategies as st

from ltjax.training.schedule import Schedule

PERIOD = st.integers(1, 60)


@given(PERIOD, PERIOD, PERIOD, PERIOD, st.integers(1, 20), st.integers(1, 3))
def test_fused_dispatches_stop_wherever_something_is_due(total, log, evaluate, save, most, hosts):
    schedule = Schedule(total, log, evaluate, save, hosts)
    fused = schedule.fused_steps(most)
    assert 1 <= fused <= most
    for step in range(1, total + 1):
        due = schedule.at(step)
        assert due.last == (step == total)
        assert due.log == (due.last or step % log == 0)
        assert due.evaluate == (due.last or step % evaluate == 0)
        assert due.save == (due.last or step % save == 0)
        assert due.ask == (hosts == 1 or due.log)  # several hosts must ask at the same steps
        if due.log or due.evaluate or due.save:
            assert step % fused == 0


def test_a_stop_logs_and_saves_and_evaluates_no_more_than_is_due():
    due = Schedule(10, 5, 5, 5).at(3).before_stop()
    assert (due.log, due.save, due.evaluate, due.last) == (True, True, False, False)
