"""What pixels are normalized with."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment.device import normalize
from ltjax.data.arrays import digits
from ltjax.data.sources import ArraySource
from ltjax.data.statistics import CONSTANTS, normalization
from ltjax.errors import InputError


def colored():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    return ArraySource(images, np.zeros(5, np.int64), ("a",))


def test_of_the_dataset():
    source = digits()
    mean, std = normalization("dataset", source)
    np.testing.assert_allclose(mean, source.images.astype(np.float64).mean(), rtol=1e-6)
    np.testing.assert_allclose(std, source.images.astype(np.float64).std(), rtol=1e-6)
    out = np.asarray(normalize(jnp.asarray(source.images), mean, std))
    assert out.dtype == np.float32
    assert abs(out.mean()) < 1e-4
    assert abs(out.std() - 1) < 1e-4


def test_constants_are_those_of_the_field_s_code():
    """torchvision's ToTensor and Normalize, restated: pixels to 0 ... 1, then each channel."""
    source = colored()
    found = np.asarray(normalize(jnp.asarray(source.images), *normalization("cifar", source)))
    for channel, (mean, std) in enumerate([(0.4914, 0.2023), (0.4822, 0.1994), (0.4465, 0.2010)]):
        exact = (source.images[..., channel].astype(np.float64) / 255 - mean) / std
        np.testing.assert_allclose(found[..., channel], exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_name_stands_for_its_numbers(name):
    named, given = normalization(name, colored()), normalization(CONSTANTS[name], colored())
    np.testing.assert_array_equal(named, given)


@pytest.mark.parametrize(
    "value", ["x", (), (0.5,), (0.5, 0.0), (0.1, 0.2, 0.3), (0.5, float("nan")), (True, 1.0), 3]
)
def test_values_that_are_not_allowed(value):
    with pytest.raises(
        InputError, match=r"data\.statistics = .* is not allowed; use one of dataset"
    ):
        normalization(value, digits())


def test_other_channels():
    with pytest.raises(InputError, match="is for images of 3 channels, and these have 1"):
        normalization("cifar", digits())
