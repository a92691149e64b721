"""Contenders in processes of their own."""

import os
import sys

import pytest

from experiments import timing
from experiments.processes import Contender, serve


def main() -> None:
    """The program of a contender: it works, waits, takes memory, or fails."""
    held = []

    def work(steps: int) -> None:
        print("this is no answer")
        sum(range(steps * 10**5))

    def grow(steps: int) -> None:
        held.append(bytearray(steps * 100 * 2**20))

    def fail(steps: int) -> None:
        sys.exit(3)

    serve({"work": work, "grow": grow, "fail": fail})


def test_contenders_answer_in_turns_and_end():
    with Contender(__name__) as one, Contender(__name__, cores=[0]) as other:
        for contender in (one, other):
            assert contender.ready() == ["work", "grow", "fail"]
        calls = {"one": lambda: one.turn("work", 2), "other": lambda: other.turn("work")}
        other.move(sorted(os.sched_getaffinity(0))[-1:])
        found = timing.turns(calls, 2, warm_up=0)
        assert all(turn.cpu > 0 and 0 < turn.wall < 1 for turns in found.values() for turn in turns)
        before = other.turn("work").peak
        assert 90 < other.turn("grow").peak - before < 110
        assert one.turn("work").peak < before + 50  # another process
        with pytest.raises(RuntimeError, match="ended, code 3"):
            one.turn("fail")


if __name__ == "__main__":
    main()
