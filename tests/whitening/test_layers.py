"""The Flax shell: running statistics, train against evaluation, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.whitening import batch_moments, fold_into_dense, whiten_batch, whitening_matrix
from ltjax.whitening.batch import Past
from ltjax.whitening.linen import ChannelWhitening, freeze


def batches(count, n=64, d=6):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(d, d))
    return [jnp.asarray(rng.normal(size=(n, d)) @ mix + 2, jnp.float32) for _ in range(count)]


def train(layer, data):
    variables = layer.init(jax.random.key(0), data[0], use_running_average=False)
    step = jax.jit(
        lambda v, x: layer.apply(v, x, use_running_average=False, mutable=["batch_stats"])
    )
    for x in data:
        out, variables = step(variables, x)
    return out, variables


def test_first_step_is_the_first_batch():
    (x,) = batches(1)
    _, variables = train(ChannelWhitening(), [x])
    moments = batch_moments(x)
    stats = variables["batch_stats"]
    np.testing.assert_allclose(stats["mean"], moments.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats["covariance"], moments.covariance, rtol=1e-5, atol=1e-5)


def test_one_repeated_batch_evaluates_as_it_trained():
    (x,) = batches(1)
    layer = ChannelWhitening(momentum=0.5)
    out, variables = train(layer, [x] * 4)
    evaluated = layer.apply(variables, x, use_running_average=True)
    np.testing.assert_allclose(evaluated, out, atol=5e-5)


def test_running_statistics_are_the_corrected_average():
    data = batches(5)
    _, variables = train(ChannelWhitening(momentum=0.8), data)
    weights = 0.8 ** np.arange(4, -1, -1)
    weights /= weights.sum()
    covariances = np.stack([batch_moments(x).covariance for x in data])
    expected = np.einsum("t,tij->ij", weights, covariances)
    np.testing.assert_allclose(variables["batch_stats"]["covariance"], expected, rtol=1e-4)


def test_evaluation_changes_nothing_and_needs_the_choice():
    (x,) = batches(1)
    layer = ChannelWhitening()
    variables = layer.init(jax.random.key(0), x, use_running_average=True)
    _, after = layer.apply(variables, x, use_running_average=True, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, after, {"batch_stats": variables["batch_stats"]})
    with pytest.raises(ValueError, match="use_running_average"):
        layer.apply(variables, x)


def test_gradient_through_training_is_finite_for_small_batches():
    (x,) = batches(1, n=3)
    layer = ChannelWhitening()
    variables = layer.init(jax.random.key(0), x, use_running_average=False)

    def loss(x):
        out, _ = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        return jnp.sum(out**3)

    assert np.isfinite(jax.jit(jax.grad(loss))(x)).all()


def test_dtype():
    (x,) = batches(1)
    layer = ChannelWhitening(dtype=jnp.bfloat16)
    out, variables = train(layer, [x])
    assert out.dtype == jnp.bfloat16
    assert variables["batch_stats"]["covariance"].dtype == jnp.float32


def gap(layer, data):
    """Mean over steps of `|Z_evaluated - Z_trained| / |Z_trained|`, after a warm-up."""
    variables = layer.init(jax.random.key(0), data[0], use_running_average=False)

    @jax.jit
    def step(variables, x):
        out, new = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        again = layer.apply(new, x, use_running_average=True)
        return new, jnp.linalg.norm(again - out) / jnp.linalg.norm(out)

    gaps = []
    for x in data:
        variables, value = step(variables, x)
        gaps.append(float(value))
    return np.mean(gaps[len(gaps) // 2 :])


def test_memory_and_shrinkage_close_the_gap_between_training_and_evaluation():
    """N / D = 2, where the covariance of one batch is mostly noise."""
    data = batches(30, n=32, d=16)
    alone = gap(ChannelWhitening(shrinkage=1e-2), data)
    mixed = gap(ChannelWhitening(shrinkage=1e-2, memory=0.9), data)
    ridged = gap(ChannelWhitening(shrinkage="auto"), data)
    assert alone > 0.3
    assert mixed < 0.22
    assert ridged < 0.33


def test_memory_whitens_with_the_mixture():
    first, second = batches(2, n=24, d=4)
    layer = ChannelWhitening(memory=0.75, momentum=0.5, shrinkage=0.1)
    out, _ = train(layer, [first])
    np.testing.assert_allclose(out, train(ChannelWhitening(shrinkage=0.1), [first])[0], atol=1e-5)
    out, _ = train(layer, [first, second])
    s1, s2 = (np.cov(np.asarray(x, np.float64), rowvar=False, bias=True) for x in (first, second))
    matrix = whitening_matrix(jnp.asarray(0.25 * s2 + 0.75 * s1, jnp.float32), shrinkage=0.1)
    centered = np.asarray(second) - np.mean(np.asarray(second), axis=0)
    np.testing.assert_allclose(out, centered @ np.asarray(matrix), atol=1e-4)


@pytest.mark.parametrize("method", ["zca", "cholesky", "batch_norm"])
def test_gradient_goes_through_the_share_of_the_batch(method):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, v, weights = (jnp.asarray(rng.normal(size=(10, 4))) for _ in range(3))
        old = (
            jnp.asarray([1.0, 2, 3, 4]) if method == "batch_norm" else jnp.diag(jnp.arange(1.0, 5))
        )

        @jax.jit
        def loss(x):
            past = Past(old, 0.7)
            z = whiten_batch(x, method=method, shrinkage=0.1, past=past).output
            return jnp.sum(jnp.tanh(z) * weights)

        h = 1e-5
        slope = (loss(x + h * v) - loss(x - h * v)) / (2 * h)
        along = jax.jit(lambda x: jnp.vdot(jax.grad(loss)(x), v))(x)
        assert abs(slope - along) < 1e-6 * abs(slope)


def test_statistics_every_so_many_steps():
    data = batches(5)
    layer = ChannelWhitening(momentum=0.5, stats_every=2, shrinkage="ledoit_wolf")
    _, rare = train(layer, data)
    _, often = train(ChannelWhitening(momentum=0.5, shrinkage="ledoit_wolf"), data[::2])
    for name, value in often["batch_stats"].items():
        np.testing.assert_allclose(rare["batch_stats"][name], value, rtol=1e-5, atol=1e-6)
    assert rare["batch_stats"]["step"] == 5


@pytest.mark.parametrize("groups", [1, 3])
def test_variances_every_so_many_steps(groups):
    """Variances of channel groups keep the shape of the running ones."""
    data = batches(3)
    layer = ChannelWhitening(method="batch_norm", groups=groups, momentum=0.5, stats_every=2)
    _, rare = train(layer, data)
    moments = [batch_moments(x, groups=groups, diagonal=True).covariance for x in data[::2]]
    assert moments[0].shape == ((6,) if groups == 1 else (3, 2))
    expected = (moments[0] + 2 * moments[1]) / 3
    np.testing.assert_allclose(rare["batch_stats"]["covariance"], expected, rtol=1e-5)


def test_rule_is_stored_and_used_in_evaluation():
    data = batches(3, n=16, d=6)
    layer = ChannelWhitening(momentum=0.8, shrinkage="oas")
    out, variables = train(layer, data)
    stats = variables["batch_stats"]
    weights = 0.8 ** np.arange(2, -1, -1)
    each = [float(whiten_batch(x, shrinkage="oas").shrinkage) for x in data]
    np.testing.assert_allclose(stats["shrinkage"], weights @ each / weights.sum(), rtol=1e-4)
    # The last batch was whitened with the stored value, and evaluation uses it.
    expected = whiten_batch(data[-1], shrinkage=float(stats["shrinkage"])).output
    np.testing.assert_allclose(out, expected, atol=1e-4)
    matrix = whitening_matrix(stats["covariance"], shrinkage=stats["shrinkage"])
    evaluated = layer.apply(variables, data[0], use_running_average=True)
    np.testing.assert_allclose(evaluated, (data[0] - stats["mean"][None, :]) @ matrix, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"shrinkage": "auto"},
        {"method": "batch_norm", "groups": 2},
        {"method": "cholesky", "groups": 2},
        {"method": "none"},
    ],
    ids=str,
)
def test_freeze_and_fold(options):
    (x,) = batches(1)
    layer = ChannelWhitening(**options)
    _, variables = train(layer, [x])
    evaluate = jax.jit(lambda v: layer.apply(v, x, use_running_average=True))
    fix = jax.jit(lambda v: freeze(layer, v, x[:1], use_running_average=True))
    z = evaluate(variables)
    frozen = fix(variables)
    np.testing.assert_allclose(evaluate(frozen), z, atol=1e-6)
    if layer.method == "none":
        np.testing.assert_array_equal(z, x)
        return
    # What is frozen is used: the running covariance no longer matters, until it is frozen anew.
    changed = {**frozen, "batch_stats": {**frozen["batch_stats"]}}
    changed["batch_stats"]["covariance"] *= 4
    np.testing.assert_allclose(evaluate(changed), z, atol=1e-6)
    np.testing.assert_allclose(evaluate(fix(changed)), z / 2, atol=1e-4)
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
    mean, matrix = frozen["batch_stats"]["mean"], frozen["frozen"]["matrix"]
    folded, bias = jax.jit(fold_into_dense)(mean, matrix, kernel)
    np.testing.assert_allclose(x @ folded + bias[None, :], z @ kernel, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": 1.0}, "memory = 1.0 is not allowed; use a number >= 0 and < 1"),
        ({"memory": 0.5, "method": "zca_svd"}, "memory = 0.5 .* 0 with zca_svd"),
        ({"momentum": -0.1}, "momentum = -0.1"),
        ({"stats_every": 0}, "stats_every = 0"),
        ({"groups": 4}, "groups = 4 is not allowed; use a divisor of the 6 channels"),
    ],
    ids=str,
)
def test_bad_attributes(options, words):
    with pytest.raises(ValueError, match=words):
        train(ChannelWhitening(**options), batches(1))


def test_bad_shape():
    with pytest.raises(ValueError, match="shape of the features"):
        ChannelWhitening().init(jax.random.key(0), jnp.ones((2, 3, 4)), True)


def test_statistics_skipped_over_devices(devices):
    """A collective inside the branch that updates; all devices take the same branch."""
    x = batches(1)[0]
    layer = ChannelWhitening(stats_every=2, axis_name="d")
    variables = layer.init(jax.random.key(0), x, use_running_average=True)
    step = jax.pmap(
        lambda v, x: layer.apply(v, x, use_running_average=False, mutable=["batch_stats"])[1],
        axis_name="d",
        in_axes=(None, 0),
        out_axes=None,
    )
    for _ in range(2):
        variables = step(variables, x.reshape(4, 16, 6))
    expected = batch_moments(x).covariance
    np.testing.assert_allclose(variables["batch_stats"]["covariance"], expected, atol=1e-5)
