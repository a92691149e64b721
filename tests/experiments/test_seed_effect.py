"""How alike the runs of one seed are, on made-up and on stored results."""

import numpy as np
import pytest

from experiments.seed_effect import run as seed_effect


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_correlation_is_found(rho):
    rng = np.random.default_rng(0)
    common = np.sqrt(rho) * rng.normal(size=400)
    x = 10 * rng.random((6, 1)) + common + np.sqrt(1 - rho) * rng.normal(size=(6, 400))
    assert seed_effect.correlation(x) == pytest.approx(rho, abs=0.05)


def test_the_p_value_is_uniform_without_an_effect_and_small_with_one():
    rng = np.random.default_rng(1)
    found = [seed_effect.p_value(rng.normal(size=(8, 5)), 199) for _ in range(200)]
    assert 0.01 < np.mean(np.array(found) <= 0.05) < 0.1
    same = np.broadcast_to(rng.normal(size=5), (8, 5))
    assert seed_effect.p_value(same, 199) == pytest.approx(1 / 200)


def test_rows_without_all_of_the_first_seeds_are_left_out():
    rows = {"a": {s: {"few": s} for s in range(7)}, "b": {s: {"few": 0.0} for s in range(4)}}
    assert seed_effect.block(rows, "few").tolist() == [[0, 1, 2, 3, 4]]
    assert seed_effect.block(rows, "many").shape == (0, 5)


def test_the_stored_table():
    assert (seed_effect.RESULTS / "seed_effect.md").read_text() == seed_effect.table()
