"""The probabilistic contrastive loss against SciPy's Bessel functions, loops and published code."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, ive

from ltjax.errors import InputError
from ltjax.losses import (
    follow_directions,
    no_directions,
    probabilistic_contrastive,
    probabilistic_logits,
)
from ltjax.losses.probabilistic import concentrations, log_bessel_ratio

SIZE, COUNTS = 16, np.array([60, 25, 10, 5])
RNG = np.random.default_rng(0)


def unit(*shape):
    x = RNG.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


VECTORS, LABELS = unit(12, SIZE), np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 0, 1])
# Far from each other, close, at the bound, and of a class that was not seen.
MEANS = unit(4, SIZE) * np.array([[0.3], [0.95], [1.0], [0.0]])


def log_bessel(order, x):
    """log I_v(x) - v log x, float64."""
    if x == 0:
        return -order * math.log(2) - gammaln(order + 1)
    return math.log(ive(order, x)) + x - order * math.log(x)


def kappa_of(mean):
    length = math.sqrt(sum(x * x for x in mean))
    return min(len(mean) * length / (1 - length**2) if length < 1 else 1e5, 1e5)


def logits_of(z, means, temperature):
    order, rows = z.shape[1] / 2 - 1, []
    for vector in z:
        row = []
        for mean in means:
            kappa, length = kappa_of(mean), np.linalg.norm(mean)
            center = kappa * mean / length if length else 0 * mean
            reached = np.linalg.norm(center + vector / temperature)
            row.append(log_bessel(order, reached) - log_bessel(order, kappa))
        rows.append(row)
    return np.array(rows)


def reference(z, y, means, temperature):
    shifted = logits_of(z, means, temperature) + np.log(COUNTS / COUNTS.sum())
    return np.array([np.log(np.exp(row).sum()) - row[c] for row, c in zip(shifted, y, strict=True)])


@pytest.mark.parametrize("order", [7, 7.5, 15, 63, 511])
def test_ratios_of_bessel_functions_are_those_of_scipy(order):
    starts = np.array([0, 1, 10, 100, 1000, 1e5])
    pairs = [(a, b) for a in starts for b in (0.5 * a, a + 0.01, a + 1, a + 10)]
    pairs = [(a, b) for a, b in pairs if order < 100 or min(a, b) >= 500]  # else SciPy underflows
    first, second = np.array(pairs).T
    found = log_bessel_ratio(
        order, jnp.asarray(first**2, jnp.float32), jnp.asarray(second**2 - first**2, jnp.float32)
    )
    wanted = [log_bessel(order, b) - log_bessel(order, a) for a, b in pairs]
    # SciPy's own logarithm near 1e5 is exact to 1e-10 of that.
    np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=1.5e-5)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_value_and_gradient(temperature):
    means = jnp.asarray(MEANS, jnp.float32)

    def loss(z):
        each = probabilistic_contrastive(z, LABELS, means, COUNTS, temperature=temperature)
        return jnp.sum(each), each

    (_, each), slope = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(VECTORS, jnp.float32))
    wanted = reference(VECTORS, LABELS, MEANS, temperature)
    np.testing.assert_allclose(each, wanted, rtol=2e-4, atol=2e-5)
    numeric, step = np.zeros_like(VECTORS), 1e-4
    for index in np.ndindex(*VECTORS.shape):
        moved = VECTORS[index[0]].copy()[None].repeat(2, axis=0)
        moved[:, index[1]] += (step, -step)
        up, down = reference(moved, LABELS[[index[0]] * 2], MEANS, temperature)
        numeric[index] = (up - down) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=2e-3, atol=2e-3 / temperature)


def test_limits():
    z, means = jnp.asarray(VECTORS, jnp.float32), jnp.asarray(MEANS, jnp.float32)
    flat = probabilistic_contrastive(z, LABELS, means, COUNTS, temperature=1e4)
    np.testing.assert_allclose(flat, -np.log(COUNTS / COUNTS.sum())[LABELS], rtol=2e-3)
    # A class of one direction: the cosine, as with a prototype. Of no direction: one number.
    logits = np.asarray(probabilistic_logits(z, means, temperature=0.1))
    np.testing.assert_allclose(logits[:, 2], 10 * VECTORS @ MEANS[2], atol=2e-3)
    np.testing.assert_allclose(logits[:, 3], logits[0, 3], rtol=1e-5)
    same = jnp.tile(z[:1], (12, 1))
    slope = jax.grad(lambda z: jnp.sum(probabilistic_logits(z, -same[:4])))(same)
    assert np.isfinite(slope).all()


def followed(batches, axis=None):
    """Class statistics after batches of vectors and labels, the third of which begins an epoch."""
    state = no_directions(4, SIZE)
    for number, (z, y) in enumerate(batches):
        state = follow_directions(state, z, y, new_epoch=number == 2, axis_name=axis)
    return state


def test_statistics_are_means_since_the_epoch_before():
    batches = [(unit(8, SIZE), RNG.integers(0, 3, 8)) for _ in range(4)]
    found = followed([(jnp.asarray(z, jnp.float32), jnp.asarray(y)) for z, y in batches])
    for part, since in ((found.used, 0), (found.epoch, 2)):
        for label in range(4):
            mine = [v for z, y in batches[since:] for v, c in zip(z, y, strict=True) if c == label]
            assert part.seen[label] == len(mine)
            wanted = np.mean(mine, axis=0) if mine else np.zeros(SIZE)
            np.testing.assert_allclose(part.mean[label], wanted, atol=1e-6)


def test_four_devices_are_one(devices):
    batches = [(unit(8, SIZE).astype(np.float32), RNG.integers(0, 3, 8)) for _ in range(4)]
    one = followed(batches)
    parts = [(z.reshape(4, 2, SIZE), y.reshape(4, 2)) for z, y in batches]
    four = jax.pmap(lambda *parts: followed(parts, "d"), axis_name="d")(*parts)
    for found, wanted in zip(jax.tree.leaves(four), jax.tree.leaves(one), strict=True):
        for shard in found:
            np.testing.assert_array_equal(shard, found[0])
        np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_short_vectors_are_refused():
    with pytest.raises(InputError, match="P at least 16"):
        probabilistic_logits(jnp.ones((2, 8)), jnp.ones((3, 8)))


def test_numbers_of_the_published_code():
    """Its statistics in the second epoch, its logits, its loss and their gradient."""
    golden = np.load(Path(__file__).parent / "golden" / "probabilistic.npz")
    before = no_directions(4, 32)
    used = before.used._replace(mean=golden["mean"], seen=golden["count"])
    vectors, labels = golden["vectors"], golden["labels"]
    after = follow_directions(before._replace(used=used), vectors, labels)
    np.testing.assert_allclose(after.used.mean, golden["mean_after"], atol=1e-6)
    np.testing.assert_allclose(after.epoch.mean, golden["mean_of_epoch"], atol=1e-6)
    mean = after.used.mean
    np.testing.assert_allclose(concentrations(mean), golden["kappa"], rtol=1e-5)
    np.testing.assert_allclose(
        probabilistic_logits(vectors, mean, temperature=0.1), golden["logits"], atol=3e-5
    )

    def loss(z):
        counts = golden["class_counts"]
        return jnp.mean(probabilistic_contrastive(z, labels, mean, counts, temperature=0.1))

    value, slope = jax.value_and_grad(loss)(vectors)
    np.testing.assert_allclose(value, golden["value"], rtol=1e-4)
    np.testing.assert_allclose(slope, golden["by_vectors"], rtol=1e-3, atol=1e-5)
