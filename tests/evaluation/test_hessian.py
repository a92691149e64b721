"""The classifier's Hessian against `jax.hessian`; Lanczos against the dense one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.evaluation import hessian
from ltjax.evaluation.hessian import conditioning, hessian_product


def _case(images, channels, classes, seed=0, decay=0.0):
    rng = np.random.default_rng(seed)
    scale = np.exp(-decay * np.arange(channels) / channels)
    x = rng.normal(size=(images, channels)) * scale
    return x, x @ rng.normal(size=(channels, classes)) / np.sqrt(channels)


def _loss(w, x):
    return -jax.nn.log_softmax(x @ w)[:, 0].mean()


@pytest.mark.parametrize("rank", [4, 3])
def test_equals_jax_hessian_without_its_null_space(rank):
    x, _ = _case(40, 4, 3)
    x[:, rank:] = 0
    w = np.random.default_rng(1).normal(size=(4, 3))
    with jax.enable_x64(True):
        dense = np.asarray(jax.hessian(_loss)(jnp.asarray(w), jnp.asarray(x))).reshape(12, 12)
    values = np.linalg.eigvalsh(dense)[-rank * 2 :]  # C - 1 = 2 directions of each channel
    for exact in (True, False):
        found = conditioning(x, x @ w, exact=exact)
        assert found.largest == pytest.approx(values[-1], rel=2e-3)
        assert found.smallest == pytest.approx(values[0], rel=2e-3)
        assert found.condition_number == pytest.approx(
            values[-1] / values[0], rel=1e-6 if exact else 4e-3
        )


def test_dense_does_not_depend_on_how_many_images_are_held_at_once(monkeypatch):
    x, logits = _case(40, 4, 3)
    whole = conditioning(x, logits)
    monkeypatch.setattr(hessian, "_BLOCK", 7 * 12)  # the last block is not full
    np.testing.assert_allclose(conditioning(x, logits)[:3], whole[:3], rtol=1e-9)


def test_product_equals_jax():
    x, _ = _case(30, 5, 4)
    rng = np.random.default_rng(2)
    w, v = rng.normal(size=(2, 5, 4))
    with jax.enable_x64(True):
        x64, w64, v64 = map(jnp.asarray, (x, w, v))
        expected = jax.jvp(lambda w: jax.grad(_loss)(w, x64), (w64,), (v64,))[1]
        found = hessian_product(x64, jax.nn.softmax(x64 @ w64), v64)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_lanczos_equals_dense():
    x, logits = _case(400, 20, 12, decay=2.0)
    dense, lanczos = (conditioning(x, logits, exact=e) for e in (True, False))
    assert lanczos.condition_number == pytest.approx(dense.condition_number, rel=1e-2)
    assert dense.exact
    assert not lanczos.exact


def test_lanczos_on_a_classifier_of_512_channels_and_100_classes():
    """One distribution for all images: the Hessian is a Kronecker product, its spectrum known."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 512)) * np.exp(-np.arange(512) / 512)
    z = rng.normal(size=100)
    p = np.exp(z) / np.exp(z).sum()
    classes = np.linalg.eigvalsh(np.diag(p) - np.outer(p, p))[1:]
    channels = np.linalg.eigvalsh(x.T @ x / 1500)
    expected = classes[-1] * channels[-1] / (classes[0] * channels[0])
    found = conditioning(x, np.tile(z, (1500, 1)))
    assert not found.exact
    assert found.condition_number == pytest.approx(expected, rel=1e-2)


def test_nothing_to_measure_is_refused():
    with pytest.raises(InputError, match="features"):
        conditioning(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="classes"):
        conditioning(np.ones((3, 2)), np.zeros((3, 1)))
