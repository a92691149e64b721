"""The balanced contrastive loss against loops in NumPy, on one device and on four."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import balanced_contrastive


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


RNG = np.random.default_rng(0)
VECTORS, CENTERS = unit(RNG, 12, 5), unit(RNG, 4, 5)
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 0, 1])  # one example of class 3, none of class 2


def reference(z, y, c, t):
    losses = []
    for i in range(len(z)):
        classes = {
            k: [z[j] for j in range(len(z)) if y[j] == k and j != i] + [c[k]] for k in range(len(c))
        }
        total = sum(np.mean([np.exp(z[i] @ x / t) for x in xs]) for xs in classes.values())
        own = classes[y[i]]
        losses.append(-np.mean([np.log(np.exp(z[i] @ x / t) / total) for x in own]))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_against_loops(temperature):
    found = balanced_contrastive(
        jnp.asarray(VECTORS, jnp.float32),
        jnp.asarray(LABELS),
        jnp.asarray(CENTERS, jnp.float32),
        temperature=temperature,
    )
    wanted = reference(VECTORS, LABELS, CENTERS, temperature)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)


def test_four_devices_are_one(devices):
    def loss(z, c, y, axis):
        return jnp.mean(balanced_contrastive(z, y, c, temperature=0.1, axis_name=axis))

    z, c = jnp.asarray(VECTORS, jnp.float32), jnp.asarray(CENTERS, jnp.float32)
    y = jnp.asarray(LABELS)
    value, (by_z, by_c) = jax.value_and_grad(loss, (0, 1))(z, c, y, None)

    def on_one_of_four(z, y):
        value, (by_z, by_c) = jax.value_and_grad(loss, (0, 1))(z, c, y, "d")
        return jax.lax.pmean(value, "d"), by_z / 4, jax.lax.pmean(by_c, "d")

    values, parts, centers = jax.pmap(on_one_of_four, axis_name="d")(
        z.reshape(4, 3, 5), y.reshape(4, 3)
    )
    np.testing.assert_allclose(values, np.full(4, value), rtol=1e-5)
    np.testing.assert_allclose(parts.reshape(12, 5), by_z, atol=1e-5)
    np.testing.assert_allclose(centers[0], by_c, atol=1e-5)


def test_gradients_are_finite_for_equal_vectors():
    same = jnp.ones((3, 2)) / jnp.sqrt(2.0)
    slope = jax.grad(lambda z: balanced_contrastive(z, jnp.zeros(3, int), same[:1]).sum())(same)
    assert np.isfinite(slope).all()


def test_numbers_of_the_published_code():
    golden = np.load(Path(__file__).parent / "golden" / "balanced.npz")
    labels = np.tile(golden["labels"], 2)

    def loss(views, centers):  # [B, 2, P]: the code has all first views before all second ones
        vectors = views.swapaxes(0, 1).reshape(-1, views.shape[2])
        return jnp.mean(balanced_contrastive(vectors, labels, centers, temperature=0.1))

    value, slopes = jax.value_and_grad(loss, (0, 1))(golden["vectors"], golden["centers"])
    np.testing.assert_allclose(value, golden["value"], rtol=1e-6)
    for name, found in zip(("by_vectors", "by_centers"), slopes, strict=True):
        np.testing.assert_allclose(found, golden[name], rtol=1e-4, atol=1e-6)
