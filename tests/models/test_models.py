"""Shapes, whitening before the head, and statistics of the networks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import ModelConfig, make_model
from ltjax.whitening import WhiteningConfig
from tests.helpers import initialized


def model(*, whitening="zca", **changes):
    config = ModelConfig(**{"name": "convnet", "width": 4, "head": "linear", **changes})
    return make_model(config, WhiteningConfig(method=whitening, shrinkage=0.01), 3)


@pytest.mark.parametrize("whitening", ["none", "zca"])
def test_outputs(whitening):
    net = model(whitening=whitening)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(32, 8, 8, 1)), jnp.float32)
    variables = initialized(net, images, train=False)
    out, updates = jax.jit(lambda v, x: net.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images
    )
    chex.assert_shape(out.logits, (32, 3))
    chex.assert_shape((out.features, out.whitened), (32, 8))
    assert jax.tree.structure(updates["batch_stats"]) == jax.tree.structure(
        variables["batch_stats"]
    )
    gram = np.asarray(out.whitened).T @ np.asarray(out.whitened) / 32
    if whitening == "zca":
        off = gram - np.diag(np.diag(gram))
        assert np.abs(off).max() < 0.1
        np.testing.assert_allclose(out.whitened.mean(axis=0), 0, atol=1e-4)
    else:
        np.testing.assert_array_equal(out.whitened, out.features)


def test_downsampling_and_depth():
    net = model(blocks=2)
    images = jnp.zeros((2, 16, 12, 3))
    out, variables = jax.eval_shape(
        lambda key: net.init_with_output(key, images, train=False), jax.random.key(0)
    )
    assert out.logits.shape == (2, 3)
    blocks = [k for k in variables["params"]["backbone"] if "block" in k]
    assert len(blocks) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "x"}, "model.name = 'x'"),
        ({"head": "auto"}, "model.head = 'auto' is not allowed; use one of linear, cosine"),
        ({"whitening": "x"}, "whitening.method = 'x'"),
        ({"whitening": "auto"}, "whitening.method = 'auto' is not allowed; use one of zca, "),
    ],
)
def test_bad_input(changes, words):
    with pytest.raises(ValueError, match=words):
        model(**changes)
