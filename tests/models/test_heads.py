"""Heads against NumPy, after whitening, and as the affine map they fold to."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import HEADS, CosineHead, ModelConfig, make_head
from ltjax.whitening import whitening_matrix
from ltjax.whitening.linen import ChannelWhitening

AFFINE = [name for name in HEADS if name != "cosine"]


def features(size=12, channels=5):
    return jnp.asarray(np.random.default_rng(0).normal(size=(size, channels)), jnp.float32)


def started(name):
    """A head and its parameters, every one of them drawn at random."""
    head = make_head(ModelConfig(head=name, head_scale=16.0), 3)
    params = head.init(jax.random.key(0), features())["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda p: jnp.asarray(rng.uniform(0.5, 1.5, p.shape), p.dtype), params)
    return head, params


def reference(name, params, z):
    z = np.asarray(z, np.float64)
    if name == "cosine":
        w = np.asarray(params["kernel"], np.float64)
        return 16.0 * np.array(
            [[row @ c / np.linalg.norm(row) / np.linalg.norm(c) for c in w.T] for row in z]
        )
    if name == "tau_norm":
        w = np.asarray(params["kernel"], np.float64)
        return z @ (w / np.linalg.norm(w, axis=0) ** float(params["tau"]))
    w, b = (np.asarray(params["dense"][k], np.float64) for k in ("kernel", "bias"))
    if name == "marc":
        scale, margin = (np.asarray(params["calibration"][k]) for k in ("scale", "margin"))
        return (z @ w + b) * scale + margin * np.linalg.norm(w, axis=0)
    return (z @ w + b) * (np.asarray(params["scale"]) if name == "lws" else 1.0)


@pytest.mark.parametrize("name", HEADS)
def test_logits(name):
    head, params = started(name)
    logits = head.apply({"params": params}, features())
    np.testing.assert_allclose(logits, reference(name, params, features()), rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_gradient_is_finite_at_zero(name):
    head, params = started(name)
    gradients = jax.grad(lambda p, z: jnp.sum(head.apply({"params": p}, z) ** 2), argnums=(0, 1))(
        jax.tree.map(jnp.zeros_like, params), jnp.zeros((2, 5))
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("name", AFFINE)
def test_as_dense_is_the_same_map(name):
    head, params = started(name)
    kernel, bias = head.as_dense(params)
    logits = head.apply({"params": params}, features())
    np.testing.assert_allclose(features() @ kernel + bias[None, :], logits, rtol=1e-5)


def test_cosine_cannot_be_folded():
    with pytest.raises(ValueError, match="cannot be folded"):
        CosineHead(3).as_dense({})


def test_scale_of_features_and_classes_is_nothing_to_the_cosine():
    head, params = started("cosine")
    logits = head.apply({"params": params}, features())
    scaled = {"kernel": params["kernel"] * jnp.array([[1.0, 5.0, 100.0]])}
    other = head.apply({"params": scaled}, 7 * features())
    np.testing.assert_allclose(other, logits, rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_after_whitening_and_folded_into_it(name):
    head = make_head(ModelConfig(head=name), 3)

    def network(train):
        layer = ChannelWhitening(not train, momentum=0.0, shrinkage=0.1)
        return nn.Sequential([layer, head])

    x = features(32) @ jnp.asarray(np.random.default_rng(2).normal(size=(5, 5)), jnp.float32)
    variables = network(False).init(jax.random.key(0), x)
    logits, updates = network(True).apply(variables, x, mutable=["batch_stats"])
    variables = {**variables, **updates}
    # With no memory the running statistics are the batch's.
    np.testing.assert_allclose(network(False).apply(variables, x), logits, rtol=1e-3, atol=1e-5)
    if name == "cosine":
        return
    stats = variables["batch_stats"]["layers_0"]
    kernel, bias = head.as_dense(variables["params"]["layers_1"])
    folded = whitening_matrix(stats["covariance"], shrinkage=0.1) @ kernel
    shifted = (bias - stats["mean"] @ folded)[None, :]
    np.testing.assert_allclose(x @ folded + shifted, logits, rtol=1e-3, atol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match=r"model.head = 'x'"):
        make_head(ModelConfig(head="x"), 3)
    with pytest.raises(ValueError, match=r"head_scale = 0"):
        make_head(ModelConfig(head="cosine", head_scale=0.0), 3)
