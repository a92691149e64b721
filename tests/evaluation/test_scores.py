"""Every score against scikit-learn or an independent statement; sums add over any batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn import metrics as sk

from ltjax.errors import InputError
from ltjax.evaluation import calibration
from ltjax.evaluation.scores import BINS, intervals, scores, tally

COUNTS = np.array([400, 150, 60, 30, 12, 5, 3])


def _case(seed, images=240, classes=7, ties=True, missing=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    if missing is not None:
        labels[labels == missing] = (missing + 1) % classes
    logits = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, np.round(logits, 1 if ties else 9).astype(np.float32)


@pytest.mark.parametrize("missing", [None, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_sklearn(seed, missing):
    labels, logits = _case(seed, missing=missing)
    predictions = logits.argmax(axis=1)
    out = scores(tally(labels, logits), COUNTS)
    p = np.exp(log_softmax(logits.astype(float), axis=1))
    np.testing.assert_allclose(out["accuracy"], sk.accuracy_score(labels, predictions))
    recall = sk.recall_score(labels, predictions, average=None, labels=np.unique(labels))
    np.testing.assert_allclose(out["balanced_accuracy"], recall.mean())
    np.testing.assert_allclose(out["worst_class"], recall.min())
    np.testing.assert_allclose(out["harmonic_mean"], 1 / np.mean(1 / recall))
    np.testing.assert_allclose(out["geometric_mean"], np.exp(np.mean(np.log(recall))))
    f1 = sk.f1_score(labels, predictions, average="macro")
    np.testing.assert_allclose(out["macro_f1"], f1)
    nll = sk.log_loss(labels, p, labels=np.arange(7))
    np.testing.assert_allclose(out["nll"], nll)
    matrix = sk.confusion_matrix(labels, predictions, labels=np.arange(7))
    np.testing.assert_array_equal(tally(labels, logits).confusion, matrix)
    tail, called = matrix[[4, 5, 6]], matrix[[4, 5, 6]][:, [0, 1]]
    np.testing.assert_allclose(out["head_to_tail"], called.sum() / tail.sum())
    if missing is not None:
        assert out["per_class"][missing] is None


def test_top5_equals_sklearn_without_ties_and_prefers_lower_classes_with_them():
    labels, logits = _case(2, ties=False)
    expected = sk.top_k_accuracy_score(labels, logits, k=5, labels=np.arange(7))
    np.testing.assert_allclose(scores(tally(labels, logits), COUNTS)["top5"], expected)
    equal = tally(np.arange(7), np.zeros((7, 7)))
    assert equal.top5.tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert equal.confusion[:, 0].sum() == 7


def _slow_ece(hits, p):
    total = 0.0
    for k in range(BINS):
        inside = [i for i, v in enumerate(p) if k / BINS < v <= (k + 1) / BINS]
        total += abs(sum(hits[i] for i in inside) - sum(p[i] for i in inside))
    return total / len(p)


def test_calibration_errors_equal_a_loop():
    labels, logits = _case(3)
    p = np.exp(log_softmax(logits.astype(float), axis=1))
    out = scores(tally(labels, logits), COUNTS)
    hits = p.argmax(axis=1) == labels
    np.testing.assert_allclose(out["ece"], _slow_ece(hits, p.max(axis=1)))
    each = [_slow_ece(labels == c, p[:, c]) for c in range(7)]
    np.testing.assert_allclose(out["classwise_ece"], np.mean(each))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70))
def test_any_batches_with_padding_add_up(images, batch):
    labels, logits = _case(images, images=images)
    parts = []
    for start in range(0, images, batch):
        rows = np.arange(start, start + batch)
        inside = rows < images
        rows = np.minimum(rows, images - 1)
        parts.append(tally(labels[rows], logits[rows], mask=inside))
    for one, other in zip(tally(labels, logits), parts[0].merge(*parts[1:]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_nothing_to_score_is_none():
    out = scores(tally(np.zeros(0, int), np.zeros((0, 7))), COUNTS)
    assert {v for k, v in out.items() if k != "per_class"} == {None}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(value):
    logits = np.zeros((3, 2))
    logits[1, 0] = value
    with pytest.raises(ValueError, match="the outputs for 1 of 3 images are not finite"):
        tally([0, 1, 0], logits)
    assert tally([0, 1, 0], logits, mask=[True, False, True]).confusion.sum() == 2


def test_bad_shapes_are_named():
    with pytest.raises(InputError, match="labels and logits"):
        tally(np.zeros(3, int), np.zeros((4, 2)))


def test_intervals_hold_the_score_and_match_the_binomial():
    labels, logits = _case(4, images=700)
    value = scores(tally(labels, logits), COUNTS)
    found = intervals(labels, logits, COUNTS, resamples=300)
    for name in ("accuracy", "balanced_accuracy", "many", "few", "macro_f1", "nll", "top5"):
        low, high = found[name]
        assert low < value[name] < high, name
    rates = np.array(value["per_class"])
    number = np.bincount(labels)
    std = np.sqrt((number * rates * (1 - rates)).sum()) / len(labels)
    assert (found["accuracy"][1] - found["accuracy"][0]) / (2 * 1.96 * std) == pytest.approx(
        1, abs=0.25
    )
    assert len(found["per_class"]) == 7


def test_temperature_is_found():
    rng = np.random.default_rng(5)
    logits = 2 * rng.normal(size=(20000, 4))
    p = np.exp(log_softmax(logits.astype(float), axis=1))
    labels = (p.cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    found = calibration.fit(labels, 3 * logits, np.ones(4), adjust=False)
    assert found.temperature == pytest.approx(3, rel=0.05)


def test_logit_adjustment_is_found_and_lowers_the_balanced_loss():
    rng = np.random.default_rng(6)
    counts = np.array([1000, 100, 10])
    labels = rng.integers(3, size=30000)
    x = rng.normal(size=(30000, 3)) + 1.5 * np.eye(3)[labels]
    logits = 1.5 * x + np.log(counts / counts.sum())  # Bayes for the long-tailed prior
    found = calibration.fit(labels, logits, counts)
    assert found.tau == pytest.approx(1, abs=0.05)
    assert found.temperature == pytest.approx(1, abs=0.05)
    adjusted = calibration.correct(logits, counts, found)
    assert calibration.balanced_nll(labels, adjusted) < calibration.balanced_nll(labels, logits)


@pytest.mark.parametrize("scale", [0.2, 30.0])
def test_the_scale_of_logits_changes_nothing_but_the_scale_of_the_correction(scale):
    rng = np.random.default_rng(7)
    counts, labels = np.array([500, 50, 5]), rng.integers(3, size=600)
    logits = rng.normal(size=(600, 3)) + 2 * np.eye(3)[labels] + np.log(counts / counts.sum())
    one, other = (calibration.fit(labels, s * logits, counts) for s in (1.0, scale))
    np.testing.assert_allclose(other, scale * np.array(one), rtol=0.02)


def test_no_held_out_image_is_refused():
    with pytest.raises(InputError, match="validation_fraction"):
        calibration.fit(np.zeros(0, int), np.zeros((0, 3)), np.ones(3))
