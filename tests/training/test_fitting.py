"""Sample weights of a classifier of features: what they count, and what they do not."""

import numpy as np
import pytest

from ltjax import LongTailClassifier

CENTERS = np.random.default_rng(7).normal(size=(3, 5))


def draw(counts, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(3), counts))
    return (CENTERS[y] + rng.normal(size=(len(y), 5))).astype(np.float32), y


X, Y = draw([1500, 300, 60])
TEST, TRUE = draw([300, 300, 300], seed=1)


def shares(model):
    return np.bincount(model.predict(TEST), minlength=3) / len(TEST)


@pytest.mark.parametrize(
    ("method", "times"), [("ce", (3, 2, 1)), ("mixup", (1, 5, 25)), ("remix", (1, 5, 25))]
)
def test_a_weight_counts_as_so_many_rows(method, times):
    """In the choice of the correction too, and in both halves of a mixed example."""
    each = np.array(times)[Y]
    settings = {"method": method, "shrinkage": 0.5, "weight_decay": 1e-3, "random_state": 0}
    weighted = LongTailClassifier(**settings).fit(X, Y, each.astype(float))
    rows = np.repeat(np.arange(len(Y)), each)
    repeated = LongTailClassifier(**settings).fit(X[rows], Y[rows])
    assert abs(weighted.tau_ - repeated.tau_) < 0.2
    np.testing.assert_allclose(shares(weighted), shares(repeated), atol=0.06)


def test_only_the_ratios_of_weights_count_for_a_head():
    parts = np.array_split(np.arange(len(Y)), 2)
    found = []
    for factor in (1.0, 1 / len(Y)):
        model = LongTailClassifier(random_state=0)
        for part in parts:
            model.partial_fit(X[part], Y[part], np.arange(3), np.full(len(part), factor))
        found.append(model)
        whole = LongTailClassifier(random_state=0, epochs=1, weight_decay=0.01)
        whole.fit(X, Y, np.full(len(Y), factor))
        assert whole.weight_decay_ == pytest.approx(0.01)
    np.testing.assert_allclose(found[0].coef_, found[1].coef_, rtol=1e-3, atol=1e-4)
    assert found[0].weight_decay_ == pytest.approx(found[1].weight_decay_)


def test_rows_that_cannot_be_held_out_leave_label_aware_smoothing_as_it_is():
    few = [np.flatnonzero(c == Y)[:n] for c, n in enumerate((30, 4, 1))]
    rows = np.concatenate(few)
    aware, plain = (
        LongTailClassifier(method, random_state=0, epochs=5).fit(X[rows], Y[rows])
        for method in ("label_aware_smoothing", "label_smoothing")
    )
    assert (aware.tau_, plain.tau_) == (0, 1)
