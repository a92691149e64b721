"""Metrics against scikit-learn, and exact masked outputs."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.data.loader import Batch, eval_batches
from ltjax.evaluation.metrics import confusion_matrix, summarize
from ltjax.evaluation.outputs import collect_outputs
from ltjax.models import Outputs


@hypothesis.given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 50))
@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn on absent classes
def test_against_scikit_learn(size, classes, seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, classes, (2, size))
    counts = rng.integers(0, 300, classes)
    out = summarize(labels, predictions, counts)
    np.testing.assert_allclose(out["accuracy"], sk.accuracy_score(labels, predictions))
    recall = sk.recall_score(
        labels, predictions, labels=np.unique(labels), average="macro", zero_division=0
    )
    np.testing.assert_allclose(out["balanced_accuracy"], recall)
    matrix = sk.confusion_matrix(labels, predictions, labels=np.arange(classes))
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, classes), matrix)
    for c in range(classes):
        hits = (predictions == c)[labels == c]
        assert out["per_class"][c] == (hits.mean() if len(hits) else None)


def test_groups_and_empty_groups():
    out = summarize([0, 1, 2, 2], [0, 0, 2, 1], [200, 50, 50])
    assert out["many"] == 1.0
    assert out["medium"] == 0.25
    assert out["few"] is None


def test_thresholds():
    out = summarize([0, 1], [0, 0], [10, 5], many_above=8, few_below=6)
    assert (out["many"], out["medium"], out["few"]) == (1.0, None, 0.0)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8)])
def test_outputs_have_every_image_once_in_order(count, batch_size):
    def step(batch: Batch) -> Outputs:
        value = batch.indices[:, None].astype(np.float32)
        return Outputs(value, value + 0.5, value + 0.25)

    out = collect_outputs(step, eval_batches(np.zeros(count, int), batch_size))
    np.testing.assert_array_equal(out.logits[:, 0], np.arange(count))
    assert out.features.shape == (count, 1)
