"""MaxNorm against float64 NumPy, its limits, and the published code."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.max_norm import projected, radius_of, within

KERNEL = np.random.default_rng(0).normal(size=(5, 4)) * np.array([0.2, 1.0, 3.0, 2.0])
WIDE = jnp.asarray(KERNEL, jnp.float32)


def reference(kernel, radius):
    """Class by class, as the nearest point of the ball."""
    columns = []
    for vector in kernel.T:
        length = sum(x * x for x in vector) ** 0.5
        columns.append(vector if length <= radius else vector * radius / length)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_radius_and_projection(share):
    norms = [sum(x * x for x in v) ** 0.5 for v in KERNEL.T]
    wanted = (1 - share) * min(norms) + share * max(norms)
    found = radius_of(WIDE, share)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(within(WIDE, found), reference(KERNEL, wanted), rtol=1e-5)


def test_limits():
    np.testing.assert_array_equal(within(WIDE, radius_of(WIDE, 1.0) * 1.0001), WIDE)
    norms = np.linalg.norm(within(WIDE, radius_of(WIDE, 0.0)), axis=0)
    np.testing.assert_allclose(norms, norms[0], rtol=1e-6)
    once = within(WIDE, jnp.array([1.0, 0.5, 2.0, 0.1]))
    np.testing.assert_allclose(np.linalg.norm(once, axis=0)[1:], [0.5, 2.0, 0.1], rtol=1e-6)
    assert np.isfinite(within(jnp.zeros((3, 2)), jnp.array(0.0))).all()


def test_biases_and_others_stay():
    learned = {"head": {"dense": {"kernel": WIDE, "bias": jnp.full(4, 9.0)}}}
    found = projected(learned, {"head": {"radius": jnp.array(0.5)}, "backbone": {}})
    np.testing.assert_array_equal(found["head"]["dense"]["bias"], np.full(4, 9.0))
    lengths = np.linalg.norm(found["head"]["dense"]["kernel"], axis=0)
    np.testing.assert_allclose(lengths, np.minimum(np.linalg.norm(KERNEL, axis=0), 0.5), rtol=1e-6)


def test_numbers_of_the_published_code():
    golden = np.load(Path(__file__).parent / "golden" / "max_norm.npz")
    radius = radius_of(golden["weight"].T, float(golden["share"]))
    np.testing.assert_allclose(radius, golden["radius"], rtol=1e-6)
    found = within(golden["moved"].T, radius)
    np.testing.assert_allclose(found, golden["projected"].T, rtol=1e-5)
    lengths = np.linalg.norm(golden["moved"], axis=1)
    assert (lengths < golden["radius"]).any()
    assert (lengths > golden["radius"]).any()
