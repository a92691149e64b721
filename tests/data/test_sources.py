"""Sources of images."""

import numpy as np
import pytest

from ltjax.data.sources import ArraySource


def test_array_source_bad_input():
    images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1])
    with pytest.raises(ValueError, match="images = 'float32"):
        ArraySource(images.astype(np.float32), labels, ("a", "b"))
    with pytest.raises(ValueError, match="one label for each"):
        ArraySource(images, labels[:1], ("a", "b"))
    with pytest.raises(ValueError, match="labels from 0 to 0"):
        ArraySource(images, labels, ("a",))
