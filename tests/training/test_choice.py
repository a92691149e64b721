"""The choice of a head's regularization on held-out rows."""

import math

import pytest

from ltjax.training.choice import (
    FIRST_STRENGTH,
    STRENGTH_RANGE,
    STRENGTH_STEP,
    Candidate,
    Scored,
    best_strength,
)


@pytest.mark.parametrize("steps", [-3, -1, 0, 1, 3])
def test_the_strength_is_searched_both_ways_and_no_further_than_it_gets_better(steps):
    tried, wanted = [], FIRST_STRENGTH * STRENGTH_STEP**steps

    def score(shrinkage, strength):
        tried.append(strength)
        return Scored(abs(math.log(strength / wanted)), Candidate(shrinkage, strength))

    first = score(0.7, FIRST_STRENGTH)
    assert best_strength(first, score).candidate == Candidate(0.7, pytest.approx(wanted))
    upwards, downwards = max(steps, 0), max(-steps, 0)
    assert len(tried) == 1 + (upwards + 1 if steps > 0 else 1 + downwards + 1)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_search_for_a_strength_ends(sign):
    def score(shrinkage, strength):
        return Scored(sign * strength, Candidate(shrinkage, strength))

    low, high = STRENGTH_RANGE
    found = best_strength(score(0.7, FIRST_STRENGTH), score).candidate.strength
    assert low < found < high
    assert found * STRENGTH_STEP >= high if sign < 0 else found / STRENGTH_STEP <= low
