"""The same tests over every transform: value, gradient, finiteness, permutation, compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import batch_loss, loss_inputs
from tests.losses.cases import CASES

COUNTS = np.array([400, 90, 20, 5])
SIZE = 9

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def draw(scale=1.0, seed=0):
    """Logits float32 `[9, 4]` and labels; the last third is embedded."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(SIZE, 4)) * scale).astype(np.float32)
    return logits, rng.integers(0, 4, SIZE)


def value_and_grad(case, logits, labels, counts=COUNTS):
    transform = case.make()
    flags = np.arange(SIZE) >= SIZE - SIZE // 3
    state = transform.init(jnp.asarray(counts))

    def loss(z):
        return batch_loss(transform, loss_inputs(z, labels, flags), state, step=jnp.asarray(2))

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(logits))
    return np.asarray(value), np.asarray(gradient)


@every
@pytest.mark.parametrize("seed", range(3))
def test_value(case, seed):
    logits, labels = draw(seed=seed)
    value, _ = value_and_grad(case, logits, labels)
    np.testing.assert_allclose(value, case.reference(logits, labels, COUNTS), rtol=1e-5)


@every
def test_value_at_extreme_logits(case):
    rng = np.random.default_rng(1)
    logits = rng.choice([-1e4, 0.0, 1e4], size=(SIZE, 4)).astype(np.float32)
    labels = rng.integers(0, 4, SIZE)
    value, gradient = value_and_grad(case, logits, labels)
    np.testing.assert_allclose(value, case.reference(logits, labels, COUNTS), rtol=1e-5)
    assert np.isfinite(gradient).all()


@every
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_gradient(case, scale):
    """Central differences of the float64 reference; float32 gradients of losses near 1."""
    logits, labels = draw(scale, seed=3)
    _, gradient = value_and_grad(case, logits, labels)
    wide, step = logits.astype(np.float64), 1e-5
    fixed = {"fixed": wide} if case.frozen else {}
    numeric = np.zeros_like(wide)
    for index in np.ndindex(*wide.shape):
        moved = [wide.copy(), wide.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        up, down = (case.reference(z, labels, COUNTS, **fixed) for z in moved)
        numeric[index] = (up - down) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=2e-6)


@every
@pytest.mark.parametrize("labels", [np.zeros(SIZE, int), np.full(SIZE, 2)], ids=["head", "tail"])
def test_finite_with_absent_classes_and_one_present(case, labels):
    counts = np.array([400, 0, 20, 0])
    logits, _ = draw(10.0)
    value, gradient = value_and_grad(case, logits, labels, counts)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(value, case.reference(logits, labels, counts), rtol=1e-5)


@every
def test_classes_may_be_renumbered(case):
    logits, labels = draw(2.0)
    order = np.array([2, 0, 3, 1])
    renamed = np.argsort(order)[labels]
    value, gradient = value_and_grad(case, logits, labels)
    moved, moved_gradient = value_and_grad(case, logits[:, order], renamed, COUNTS[order])
    np.testing.assert_allclose(moved, value, rtol=1e-6)
    np.testing.assert_allclose(moved_gradient, gradient[:, order], rtol=1e-4, atol=1e-7)


@every
def test_one_compilation_and_dtype(case):
    transform = case.make()
    state = transform.init(jnp.asarray(COUNTS))
    loss = jax.jit(lambda inputs, state, step: transform.apply(inputs, state, step=step))
    for step in range(3):
        logits, labels = draw(seed=step)
        inputs = loss_inputs(jnp.asarray(logits), labels, np.zeros(SIZE, bool))
        out = loss(inputs, state, jnp.asarray(step, jnp.int32))
    assert loss._cache_size() == 1
    for field in ("logits", "weights", "penalty"):
        assert getattr(out, field).dtype == jnp.float32
        assert getattr(out, field).shape == getattr(inputs, field).shape
    assert out.targets.dtype in (inputs.targets.dtype, jnp.float32)


@every
def test_dtype_is_kept_at_double_precision(case):
    with jax.enable_x64(True):
        transform = case.make()
        logits, labels = draw()
        flags = np.zeros(SIZE, bool)
        inputs = loss_inputs(jnp.asarray(logits, jnp.float64), labels, flags)
        state = transform.init(jnp.asarray(COUNTS))
        assert batch_loss(transform, inputs, state, step=2).dtype == jnp.float64
