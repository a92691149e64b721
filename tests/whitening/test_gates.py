"""The gates of accuracy: every property that whitening promises, with its tolerance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.whitening import fold_into_dense, whiten, whiten_batch
from ltjax.whitening.batch import Past
from ltjax.whitening.linen import ChannelWhitening, freeze
from tests.whitening.reference import (
    double,
    features,
    forward,
    pull,
    relative,
    weights_for,
    whitened,
)

ZCA = ("zca", "zca_svd", "newton_schulz")


@pytest.mark.parametrize("method", ZCA)
def test_float32_against_float64_tall(method):
    x = features(128, 64)
    weights = weights_for(x)
    z, gradient = pull(jnp.asarray(x), jnp.asarray(weights), method=method, shrinkage=1e-3)
    z64, gradient64 = double(x, weights, method=method, shrinkage=1e-3)
    assert relative(z64, whitened(x, 1e-3)) < 1e-9
    assert relative(z, z64) < 1e-5
    assert relative(gradient, gradient64) < 2e-5


@pytest.mark.parametrize("method", ["zca", "zca_svd"])
def test_float32_against_float64_wide(method):
    x = features(48, 128)
    weights = weights_for(x)
    z, gradient = pull(jnp.asarray(x), jnp.asarray(weights), method=method, shrinkage=1e-3)
    z64, gradient64 = double(x, weights, method=method, shrinkage=1e-3)
    assert relative(z64, whitened(x, 1e-3)) < 1e-9
    assert relative(z, z64) < 1e-4
    assert relative(gradient, gradient64) < 3e-4


def test_duplicated_channels():
    x = np.repeat(features(128, 16), 2, axis=1)
    weights = weights_for(x)
    z, gradient = pull(jnp.asarray(x), jnp.asarray(weights), shrinkage=1e-3)
    z64, gradient64 = double(x, weights, shrinkage=1e-3)
    # The gate of values at this ridge, as for dual and primal below: rounding is about eps / ridge,
    # and differs between processors: 1.0e-4 on one without AVX-512.
    assert relative(z, z64) < 5e-4
    assert relative(gradient, gradient64) < 2e-3


@pytest.mark.parametrize(("n", "d"), [(512, 64), (2048, 512)])
def test_whiteness_without_a_ridge(n, d):
    z = np.asarray(forward(jnp.asarray(features(n, d)), shrinkage=1e-7), np.float64)
    assert np.abs(z.T @ z / n - np.eye(d)).max() < 5e-5


@pytest.mark.parametrize("condition", [1e3, 1e5])
def test_error_grows_no_faster_than_the_condition_number(condition):
    x = features(256, 32, condition=condition)
    error = relative(forward(jnp.asarray(x), shrinkage=1e-7), whitened(x, 1e-7))
    assert error < np.finfo(np.float32).eps * condition


@pytest.mark.parametrize(("shrinkage", "gate"), [(1e-3, 5e-4), (0.5, 2e-5)])
def test_dual_side_is_the_primal_side(shrinkage, gate):
    x = jnp.asarray(features(64, 128))
    # A running covariance of share 0 changes nothing but the side.
    past = Past(jnp.eye(128), 0.0)
    primal = jax.jit(lambda x: whiten_batch(x, shrinkage=shrinkage, past=past).output)(x)
    assert np.abs(forward(x, shrinkage=shrinkage) - primal).max() < gate


@pytest.mark.parametrize(("n", "d"), [(128, 8), (16, 32)])
def test_equivariance_and_invariance(n, d):
    x = features(n, d, seed=7)
    z = np.asarray(forward(jnp.asarray(x), shrinkage=0.01))
    rotation, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(d, d)))
    order, rows = np.random.default_rng(9).permutation(d), np.random.default_rng(9).permutation(n)
    changed = {
        "rotation": (x @ rotation, z @ rotation),
        "channels": (x[:, order], z[:, order]),
        "rows": (x[rows], z[rows]),
        "shift": (x + 3, z),
        "scale": (x * 1e5, z),
    }
    for name, (inputs, expected) in changed.items():
        actual = forward(jnp.asarray(inputs, jnp.float32), shrinkage=0.01)
        np.testing.assert_allclose(actual, expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("n", "d"), [(64, 8), (8, 24)])
def test_gradient_is_orthogonal_to_shift_and_scale(n, d):
    x = features(n, d, seed=5)
    gradient = pull(jnp.asarray(x), jnp.asarray(weights_for(x)), shrinkage=0.01)[1]
    gradient = np.asarray(gradient, np.float64)
    size = np.linalg.norm(gradient)
    assert np.abs(gradient.sum(axis=0)).max() < 1e-5 * size
    assert abs(np.sum(gradient * (x - x.mean(axis=0)))) < 1e-5 * size


def across(x, weights, **options):
    """`Z` and the gradient over four devices; their losses add up, and so do gradients."""

    def loss(x, w):
        z = whiten(x, axis_name="d", **options)
        return jnp.sum(jnp.tanh(z) * w), z

    mapped = jax.pmap(jax.grad(loss, has_aux=True), axis_name="d")
    split = (4, x.shape[0] // 4, x.shape[1])
    gradient, z = mapped(x.reshape(split), weights.reshape(split))
    return np.asarray(z).reshape(x.shape), np.asarray(gradient).reshape(x.shape)


@pytest.mark.parametrize(
    ("n", "d", "options"),
    [
        (128, 16, {"method": "zca"}),
        (16, 32, {"method": "zca"}),
        (64, 8, {"method": "zca_svd"}),
        (16, 32, {"method": "newton_schulz"}),
        (64, 8, {"method": "cholesky", "shrinkage": "ledoit_wolf"}),
        (64, 8, {"method": "batch_norm", "shrinkage": "auto"}),
        (16, 40, {"method": "zca", "groups": 2, "shrinkage": "oas"}),
    ],
    ids=str,
)
def test_four_devices_are_one(devices, n, d, options):
    x = features(n, d, seed=9)
    weights = weights_for(x)
    z, gradient = across(x, weights, **options)
    z1, gradient1 = pull(jnp.asarray(x), jnp.asarray(weights), **options)
    np.testing.assert_allclose(z, z1, atol=1e-4)
    assert relative(gradient, gradient1) < 2e-5


def test_four_devices_at_a_large_offset(devices):
    x = features(128, 16, seed=9) + 100
    weights = weights_for(x)
    z, gradient = across(x, weights, shrinkage=0.01)
    z1, gradient1 = pull(jnp.asarray(x), jnp.asarray(weights), shrinkage=0.01)
    np.testing.assert_allclose(z, z1, atol=1e-4)
    assert relative(gradient, gradient1) < 2e-4  # offset 100 costs digits of the input itself


@pytest.mark.parametrize(("dtype", "gate"), [(jnp.float16, 1e-3), (jnp.bfloat16, 8e-3)])
@pytest.mark.parametrize("method", ["zca", "cholesky", "batch_norm"])
def test_half_precision_keeps_dtype_and_wide_statistics(method, dtype, gate):
    x = jnp.asarray(features(128, 16)).astype(dtype)
    z = forward(x, method=method, shrinkage=0.01)
    assert z.dtype == dtype
    expected = whitened(np.asarray(x.astype(jnp.float32)), 0.01, method)
    assert relative(z.astype(jnp.float32), expected) < gate


@pytest.mark.parametrize("n", [64, 4])
def test_one_repeated_batch_evaluates_as_it_trained(n):
    x = jnp.asarray(features(n, 8))
    layer = ChannelWhitening(momentum=0.5, shrinkage=0.1)
    variables = layer.init(jax.random.key(0), x, use_running_average=True)
    train = jax.jit(
        lambda v, x: layer.apply(v, x, use_running_average=False, mutable=["batch_stats"])
    )
    for _ in range(4):
        out, variables = train(variables, x)
    stats = variables["batch_stats"]
    np.testing.assert_allclose(stats["mean"], np.mean(x, axis=0), atol=1e-5)
    expected = np.cov(np.asarray(x, np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(stats["covariance"], expected, atol=1e-5)
    evaluated = jax.jit(lambda v, x: layer.apply(v, x, use_running_average=True))(variables, x)
    np.testing.assert_allclose(evaluated, out, atol=5e-5)


def test_fold_into_a_wide_classifier():
    x = features(256, 2048)
    layer = ChannelWhitening(shrinkage=0.1)
    variables = {
        "batch_stats": {
            "mean": jnp.asarray(x.mean(axis=0)),
            "covariance": jnp.asarray(np.cov(x, rowvar=False, bias=True).astype(np.float32)),
            "shrinkage": jnp.asarray(0.1),
            "weight": jnp.asarray(1.0),
        }
    }
    frozen = jax.jit(lambda v: freeze(layer, v, x[:1], use_running_average=True))(variables)
    kernel = np.random.default_rng(0).normal(size=(2048, 10)).astype(np.float32) / 45
    bias = np.arange(10, dtype=np.float32)
    z = layer.apply(frozen, x, use_running_average=True)
    folded_kernel, folded_bias = fold_into_dense(
        frozen["batch_stats"]["mean"],
        frozen["frozen"]["matrix"],
        jnp.asarray(kernel),
        jnp.asarray(bias),
    )
    folded = x @ np.asarray(folded_kernel) + np.asarray(folded_bias)
    assert np.abs(folded - (np.asarray(z) @ kernel + bias)).max() < 2e-4


@pytest.mark.parametrize("method", ["zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm"])
def test_nan_in_nan_out(method):
    x = features(8, 3)
    x[2, 1] = np.nan
    assert np.isnan(forward(jnp.asarray(x), method=method)).all(axis=0)[1]


def both(x, weights, **options):
    """`Z` and gradients of a stack of batches, by vmap and by a loop."""

    def one(x, w):
        z, pullback = jax.vjp(lambda x: whiten(x, **options), x)
        return z, pullback(w)[0]

    return jax.vmap(one)(x, weights), jax.tree.map(
        lambda *parts: jnp.stack(parts), *[one(*pair) for pair in zip(x, weights, strict=True)]
    )


@pytest.mark.parametrize("method", ["zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm"])
def test_vmap_keeps_batches_apart_bit_for_bit(method):
    """What a batch gives does not depend on the others in the stack, nor on its place there.

    A loop is no reference to the bit: XLA divides an array by one number by multiplying with the
    reciprocal, and vmap turns quotients of two numbers into such ones.
    """
    x = np.stack([features(12, 4, seed=s) for s in range(3)])
    weights = jnp.asarray(weights_for(x))
    run = jax.jit(lambda x, w: both(x, w, method=method, shrinkage=0.1)[0])
    mapped = run(jnp.asarray(x), weights)
    order = np.array([2, 0, 1])
    moved = run(jnp.asarray(x[order]), weights[order])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[order], b), mapped, moved)
    x[1] = np.nan
    beside = run(jnp.asarray(x), weights)
    for a, b in zip(mapped, beside, strict=True):
        np.testing.assert_array_equal(a[::2], b[::2])
        assert np.isnan(b[1]).all()


@pytest.mark.parametrize(
    ("method", "shape"),
    [
        ("zca", (4, 6)),
        ("zca", (12, 4)),
        ("zca_svd", (6, 4)),
        ("newton_schulz", (6, 4)),
        ("cholesky", (6, 4)),
        ("batch_norm", (6, 4)),
    ],
)
def test_vmap_is_a_loop_of_every_method(method, shape):
    """In float64, where the rounding of the two programs is far below the gate."""
    with jax.enable_x64(True):
        x = jnp.stack([jnp.asarray(features(*shape, seed=s), jnp.float64) for s in range(2)])
        weights = jnp.asarray(weights_for(x), jnp.float64)
        run = jax.jit(lambda x, w: both(x, w, method=method, shrinkage=0.1))
        mapped, looped = run(x, weights)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), mapped, looped)
