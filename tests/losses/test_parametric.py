"""The parametric contrastive loss against loops in float64, limits, devices and published code."""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.losses import (
    Queue,
    cross_entropy,
    empty_queue,
    enqueued,
    logit_adjusted_cross_entropy,
    parametric_contrastive,
)

RNG = np.random.default_rng(0)
COUNTS = np.array([60, 25, 10, 5])


def unit(*shape):
    x = RNG.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


VECTORS, LABELS = unit(12, 5), np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 0, 1])
LOGITS = RNG.normal(size=(12, 4)) + np.log(COUNTS / COUNTS.sum())
# The last place is empty; class 2 is in the queue alone.
KEPT, KEPT_LABELS = np.concatenate([unit(4, 5), np.zeros((1, 5))]), np.array([0, 3, 2, 1, -1])
WEIGHTS = {"alpha": 0.3, "beta": 0.8, "gamma": 0.6, "temperature": 0.2}


def reference(z, y, u, kept, kept_labels, *, alpha, beta, gamma, temperature):
    """Example by example, in float64."""
    losses = []
    for i in range(len(z)):
        others = [(z[k], y[k]) for k in range(len(z)) if k != i]
        others += [(v, c) for v, c in zip(kept, kept_labels, strict=True) if c >= 0]
        near = [(math.exp(z[i] @ v / temperature), c) for v, c in others]
        total = sum(math.exp(x) for x in u[i]) + gamma * sum(e for e, _ in near)
        own = [math.log(e / total) for e, c in near if c == y[i]]
        center = math.log(math.exp(u[i][y[i]]) / total)
        losses.append(-(beta * center + alpha * sum(own)) / (beta + alpha * len(own)))
    return np.array(losses)


def floats(*arrays):
    return tuple(jnp.asarray(x, jnp.float32) for x in arrays)


Z, U, KEPT_Z = floats(VECTORS, LOGITS, KEPT)
QUEUE = Queue(KEPT_Z, jnp.asarray(KEPT_LABELS, jnp.int32))


@partial(jax.jit, static_argnames=WEIGHTS)
def slopes_of(z, y, u, queue, share, **weights):
    """The sum of the losses times `share`, its gradients by `z` and `u`, and the losses."""

    def loss(z, u):
        each = parametric_contrastive(z, y, u, queue, **weights)
        return jnp.sum(each * share), each

    (value, each), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(z, u)
    return value, slopes, each


def test_value_and_gradient_against_loops():
    share = np.linspace(0.5, 1.5, 12)  # so that the gradient of every example counts
    _, slopes, each = slopes_of(Z, LABELS, U, QUEUE, *floats(share), **WEIGHTS)

    def wanted(z, u):
        return reference(z, LABELS, u, KEPT, KEPT_LABELS, **WEIGHTS)

    np.testing.assert_allclose(each, wanted(VECTORS, LOGITS), rtol=1e-5)
    for place, slope in enumerate(slopes):
        given, numeric = [VECTORS, LOGITS], np.zeros(slope.shape)
        for index in np.ndindex(*slope.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = given[place].copy()
                moved[index] += step
                ends.append(share @ wanted(*given[:place], moved, *given[place + 1 :]))
            numeric[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=2e-5)


def test_without_examples_it_is_cross_entropy():
    none = {"alpha": 0.0, "beta": 1.0, "gamma": 0.0, "temperature": 0.2}
    _, slopes, each = slopes_of(Z, LABELS, U, QUEUE, jnp.ones(12), **none)
    np.testing.assert_allclose(each, cross_entropy(U, LABELS), rtol=1e-6)
    np.testing.assert_array_equal(slopes[0], np.zeros(Z.shape))
    slope = jax.nn.softmax(U) - jax.nn.one_hot(LABELS, 4)
    np.testing.assert_allclose(slopes[1], slope, atol=1e-6)
    # Logits that are shifted by the log prior are those of logit adjustment.
    shift = np.log(COUNTS / COUNTS.sum())[None].astype(np.float32)
    wanted = logit_adjusted_cross_entropy(U - shift, LABELS, COUNTS)
    np.testing.assert_allclose(each, wanted, rtol=1e-5)


def test_weights_matter_by_their_ratio_and_a_queue_of_nothing_by_nothing():
    each = parametric_contrastive(Z, LABELS, U, alpha=0.1, beta=2.0)
    scaled = parametric_contrastive(Z, LABELS, U, empty_queue(7, 5), alpha=0.05, beta=1.0)
    np.testing.assert_allclose(each, scaled, rtol=1e-6)
    # alpha = 0: of the examples, the denominator alone is left.
    alone = parametric_contrastive(Z, LABELS, U, alpha=0.0, gamma=0.5, temperature=1.0)
    near = np.exp(VECTORS @ VECTORS.T) * (1 - np.eye(12))
    total = np.exp(LOGITS).sum(axis=1) + 0.5 * near.sum(axis=1)
    np.testing.assert_allclose(alone, np.log(total) - LOGITS[np.arange(12), LABELS], rtol=1e-5)


def test_limits_of_the_temperature():
    hot = parametric_contrastive(Z, LABELS, U, alpha=0.5, temperature=1e6)
    total = np.log(np.exp(LOGITS).sum(axis=1) + 11)  # all others are equally near
    count = (LABELS[:, None] == LABELS[None]).sum(axis=1) - 1
    own = LOGITS[np.arange(12), LABELS]
    wanted = total - own / (1 + 0.5 * count)
    np.testing.assert_allclose(hot, wanted, rtol=1e-5)
    # Cold: t times the loss is what the nearest other example is nearer than the others of the
    # class, on average.
    t = 1e-3
    cold = t * parametric_contrastive(Z, LABELS, U, alpha=1e6, temperature=t)
    cosines = VECTORS @ VECTORS.T - 3 * np.eye(12)
    for i in (0, 6):
        same = (LABELS[i] == LABELS) & (np.arange(12) != i)
        top = max(cosines[i].max(), 0)
        assert float(cold[i]) == pytest.approx(top - cosines[i][same].mean(), abs=0.01)


def test_one_class_one_example_and_equal_vectors_are_finite():
    def check(z):
        y, u, share = jnp.zeros(len(z), int), jnp.zeros((len(z), 1)), jnp.ones(len(z))
        weights = {"alpha": 0.1, "beta": 1.0, "gamma": 1.0, "temperature": 0.01}
        value, slopes, _ = slopes_of(z, y, u, None, share, **weights)
        assert all(np.isfinite(x).all() for x in (value, *slopes))
        return float(value)

    assert check(Z[:1]) == 0  # nothing to be told from
    # Two others at cosine 1 and a center at 0: log(2 e^100), less the share of what is near.
    wanted = 3 * (100 + math.log(2) - 100 * 0.2 / 1.2)
    assert check(jnp.ones((3, 4)) / 2) == pytest.approx(wanted, rel=1e-5)


def test_the_queue_keeps_the_latest(devices):
    batches = [(unit(8, 3).astype(np.float32), RNG.integers(0, 9, 8)) for _ in range(3)]
    queue = empty_queue(19, 3)
    for z, y in batches:
        queue = enqueued(queue, z, y)
    newest = batches[::-1]
    np.testing.assert_array_equal(queue.labels, np.concatenate([y for _, y in newest])[:19])
    np.testing.assert_array_equal(queue.vectors, np.concatenate([z for z, _ in newest])[:19])
    short = enqueued(empty_queue(3, 3), *batches[0])
    np.testing.assert_array_equal(short.labels, batches[0][1][:3])


def test_four_devices_are_one(devices):
    def loss(z, u, y, axis):
        each = parametric_contrastive(z, y, u, QUEUE, **WEIGHTS, axis_name=axis)
        return jnp.mean(each)

    y = jnp.asarray(LABELS)
    value, (by_z, by_u) = jax.value_and_grad(loss, (0, 1))(Z, U, y, None)
    queue = enqueued(QUEUE, Z, y)

    def on_one_of_four(z, u, y):
        value, (by_z, by_u) = jax.value_and_grad(loss, (0, 1))(z, u, y, "d")
        kept = enqueued(QUEUE, z, y, axis_name="d")
        return jax.lax.pmean(value, "d"), by_z / 4, by_u / 4, kept

    values, parts, rows, kept = jax.pmap(on_one_of_four, axis_name="d")(
        Z.reshape(4, 3, 5), U.reshape(4, 3, 4), y.reshape(4, 3)
    )
    np.testing.assert_allclose(values, np.full(4, value), rtol=1e-5)
    np.testing.assert_allclose(parts.reshape(12, 5), by_z, atol=1e-5)
    np.testing.assert_allclose(rows.reshape(12, 4), by_u, atol=1e-6)
    for found, wanted in zip(kept, queue, strict=True):
        for shard in found:
            np.testing.assert_array_equal(shard, wanted)


@pytest.mark.parametrize(
    "wrong", [{"alpha": -0.1}, {"beta": 0.0}, {"gamma": -1.0}, {"temperature": 0.0}]
)
def test_weights_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        parametric_contrastive(Z, LABELS, U, **wrong)


def test_numbers_of_the_published_code():
    """GPaCo, whose two views are all compared; PaCo, where second views are of another network."""
    golden = np.load(Path(__file__).parent / "golden" / "parametric.npz")
    labels = np.tile(golden["labels"], 2)
    queue = Queue(jnp.asarray(golden["queue"]), jnp.asarray(golden["queue_labels"], jnp.int32))
    shift = jnp.log(jnp.asarray(golden["class_counts"] / golden["class_counts"].sum(), jnp.float32))
    weights = {name: float(golden[name]) for name in ("alpha", "beta", "gamma", "temperature")}

    u = golden["logits"] + shift[None]
    half = len(golden["labels"])
    both = jnp.full(2 * half, 0.5 / half)
    first = jnp.where(jnp.arange(2 * half) < half, 1.0 / half, 0.0)
    cases = {
        ("value", "by_vectors", "by_logits"): (both, 2 * half),
        ("value_of_queries", "by_queries", "by_their_logits"): (first, half),
    }
    for names, (share, rows) in cases.items():
        value, slopes, _ = slopes_of(golden["vectors"], labels, u, queue, share, **weights)
        np.testing.assert_allclose(value, golden[names[0]], rtol=1e-6)
        for name, found in zip(names[1:], slopes, strict=True):
            np.testing.assert_allclose(found[:rows], golden[name], rtol=1e-4, atol=1e-6)
