"""Labels sorted by class, and classes without images."""

import numpy as np
import pytest

from ltjax.samplers.baselines import PowerSampler
from ltjax.samplers.labels import index_labels


def test_index_sorts_classes_by_size_and_images_by_class():
    labels = np.array([1, 0, 1, 2, 1, 2])
    index = index_labels(labels)
    assert index.counts.tolist() == [1, 3, 2]
    assert index.order.tolist() == [1, 2, 0]
    assert index.sizes.tolist() == [3, 2, 1]
    assert index.by_class.tolist() == [0, 2, 4, 3, 5, 1]


def test_samplers_share_an_index():
    labels = np.repeat([0, 1], [6, 2])
    shared = PowerSampler(index_labels(labels), 4, power=1, seed=0)
    np.testing.assert_array_equal(
        shared.epoch(2), PowerSampler(labels, 4, power=1, seed=0).epoch(2)
    )


def test_many_empty_classes_are_one_short_line():
    with pytest.warns(UserWarning, match="classes 0, 1, 2, 3, 4 and 95 more"):
        index_labels(np.array([100]))
    with pytest.warns(UserWarning, match="no image of class 1;"):
        PowerSampler(np.array([0, 2]), 2, power=1, seed=0)
    with pytest.raises(ValueError, match=r"len\(class_names\) = 1 .* each of the 2 classes"):
        index_labels(np.array([0, 1]), ["a"])
