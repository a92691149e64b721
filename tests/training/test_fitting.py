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


def assert_same(first, second):
    np.testing.assert_array_equal(first.predict_proba(TEST), second.predict_proba(TEST))
    assert hasattr(first, "coef_") == hasattr(second, "coef_")


GIVEN = {"shrinkage": 0.5, "weight_decay": 1e-3, "tau": 1.0, "epochs": 2, "random_state": 0}


@pytest.mark.parametrize("other", [{"hidden": (8,)}, {"method": "ldam"}, {"method": "lda"}])
def test_a_second_fit_leaves_nothing_of_the_first(other):
    again = LongTailClassifier("cw_la", **GIVEN).fit(X, Y).set_params(**other).fit(X, Y)
    assert_same(again, LongTailClassifier(**{"method": "cw_la", **GIVEN, **other}).fit(X, Y))


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"hidden": (8,)}, {"hidden": (4,)}, r"hidden = \(4,\) is not allowed; use \(8,\)"),
        ({}, {"hidden": (8,)}, r"hidden = \(8,\)"),
        ({"hidden": (8,)}, {"hidden": ()}, r"hidden = \(\)"),
        ({"hidden": (8,)}, {"seeds": 2}, "seeds = 2"),
        ({"method": "ldam"}, {"method": "cw_la"}, "method = .cw_la"),
        ({"method": "cw_la"}, {"method": "ldam"}, "method = .ldam"),
    ],
)
def test_what_cannot_be_gone_on_from_is_named(first, then, message):
    model = LongTailClassifier(**{"method": "cw_la", **GIVEN, **first}, warm_start=True).fit(X, Y)
    expected = model.predict_proba(TEST)
    model.set_params(**then)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, Y)
    model.set_params(**{"method": "cw_la", "hidden": (), "seeds": 1, **first})
    np.testing.assert_array_equal(model.predict_proba(TEST), expected)


def test_a_warm_start_on_other_features_is_refused():
    model = LongTailClassifier("lda", warm_start=True, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="number of features = 4"):
        model.fit(X[:, :4], Y)


@pytest.mark.parametrize(("scale", "kind"), [(1e30, np.float32), (1e200, np.float64)])
def test_values_whose_squares_overflow_are_refused(scale, kind):
    with pytest.raises(ValueError, match=r"X has values up to .*e\+.*; scale X"):
        LongTailClassifier("lda", random_state=0).fit(X.astype(kind) * kind(scale), Y)


@pytest.mark.parametrize("method", ["cw", "ce", "cw_la"])
def test_classes_without_rows_so_far_are_not_predicted(method):
    model = LongTailClassifier(method, **GIVEN)
    rows = Y < 2
    model.partial_fit(X[rows], Y[rows], classes=[0, 1, 2])
    assert set(model.predict(TEST)) <= {0, 1}
    assert not model.predict_proba(TEST)[:, 2].any()
