"""Initial parameters against their variances, over all parameters of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import ModelConfig, make_model
from ltjax.models.initialization import INITIALIZATIONS
from ltjax.whitening import WhiteningConfig
from tests.helpers import initialized

CLASSES = 100


def parameters(init, *, native=False):
    """Of a ResNet-8, by their paths."""
    config = ModelConfig(name="resnet8_cifar", init=init, head="linear")
    net = make_model(config, WhiteningConfig(method="none"), CLASSES, native=native)
    images = jnp.zeros((2, 8, 8, 3))
    params = initialized(net, images, train=False)["params"]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(value, np.float64)
        for path, value in jax.tree_util.tree_leaves_with_path(params)
    }


def variance(name, shape, init):
    """By hand, of a kernel `[h, w, inputs, outputs]` or `[inputs, outputs]`."""
    *window, inputs, outputs = shape
    if init == "fan_in":
        return 2 / (np.prod(window, initial=1) * inputs)
    return 1e-4 if name.startswith("head") else 2 / (np.prod(window) * outputs)


@pytest.mark.parametrize("init", INITIALIZATIONS)
@pytest.mark.parametrize("native", [False, True])
def test_variances(init, native):
    found = parameters(init, native=native)
    kernels = {name: value for name, value in found.items() if name.endswith("kernel")}
    assert len(kernels) == 8  # a stem, three blocks of two convolutions, and the head
    for name, value in kernels.items():
        exact = variance(name, value.shape, init)
        # The relative deviation of a sample variance of n normal values is sqrt(2 / n).
        assert abs(value.var() / exact - 1) < 5 * np.sqrt(2 / value.size), name
        assert abs(value.mean()) < 5 * np.sqrt(exact / value.size), name


def test_biases_and_norms():
    bound = 1 / 8  # of 64 features
    bias = parameters("fan_in")["head/dense/bias"]
    assert np.abs(bias).max() <= bound
    assert np.abs(bias).max() > 0.9 * bound
    # Of n uniform values: variance bound^2 / 3, whose sample has the deviation sqrt(4 / 5 n).
    assert abs(bias.var() / (bound**2 / 3) - 1) < 5 * np.sqrt(0.8 / CLASSES)
    assert not parameters("fan_out")["head/dense/bias"].any()
    for name, value in parameters("fan_in").items():
        if "norm" in name:
            np.testing.assert_array_equal(value, 1 if name.endswith("scale") else 0)


def test_the_default_draws_what_it_drew():
    """The first values that the version before this option drew from this key."""
    found = parameters("fan_out")
    head, stem = (found[f"{name}/kernel"].ravel()[:2] for name in ("head/dense", "backbone/stem"))
    np.testing.assert_allclose(head, [-0.0080948025, -0.0123066930], rtol=1e-5)
    np.testing.assert_allclose(stem, [-0.3782601953, -0.0122670978], rtol=1e-5)


def test_an_unknown_name():
    with pytest.raises(ValueError, match=r"model.init = 'x' is not allowed; use one of fan_out"):
        make_model(ModelConfig(init="x", head="linear"), WhiteningConfig(method="none"), 3)
