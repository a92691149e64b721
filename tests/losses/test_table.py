"""The same tests over every loss, as function and as transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import loss_inputs
from tests.losses.cases import CASES, STEP, scalar

COUNTS = np.array([400, 90, 20, 5])
SIZE = 9

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
forms = pytest.mark.parametrize("form", ["function", "transform"])


def draw(scale=1.0, seed=0):
    """Logits float32 `[9, 4]` and labels; the last third is embedded."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(SIZE, 4)) * scale).astype(np.float32)
    return logits, rng.integers(0, 4, SIZE)


def value_and_grad(case, form, logits, labels, counts=COUNTS):
    transform = case.make()
    state = transform.init(jnp.asarray(counts))

    def loss(z):
        if form == "function":
            return jnp.mean(case.function(z, labels, counts))
        return scalar(case, transform, loss_inputs(z, labels), state)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(logits))
    return np.asarray(value), np.asarray(gradient)


@every
@forms
@pytest.mark.parametrize("seed", range(3))
def test_value(case, form, seed):
    logits, labels = draw(seed=seed)
    value, _ = value_and_grad(case, form, logits, labels)
    np.testing.assert_allclose(value, case.reference(logits, labels, COUNTS), rtol=1e-5)


@every
@forms
def test_value_at_extreme_logits(case, form):
    rng = np.random.default_rng(1)
    logits = rng.choice([-1e4, 0.0, 1e4], size=(SIZE, 4)).astype(np.float32)
    labels = rng.integers(0, 4, SIZE)
    value, gradient = value_and_grad(case, form, logits, labels)
    np.testing.assert_allclose(value, case.reference(logits, labels, COUNTS), rtol=1e-5)
    assert np.isfinite(gradient).all()


@every
@forms
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_gradient(case, form, scale):
    """Central differences of the float64 reference; float32 gradients of losses near 1."""
    logits, labels = draw(scale, seed=3)
    _, gradient = value_and_grad(case, form, logits, labels)
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
@forms
@pytest.mark.parametrize("labels", [np.zeros(SIZE, int), np.full(SIZE, 2)], ids=["head", "tail"])
def test_finite_with_absent_classes_and_one_present(case, form, labels):
    counts = np.array([400, 0, 20, 0])
    logits, _ = draw(10.0)
    value, gradient = value_and_grad(case, form, logits, labels, counts)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(value, case.reference(logits, labels, counts), rtol=1e-5)


@every
@forms
def test_classes_may_be_renumbered(case, form):
    logits, labels = draw(2.0)
    order = np.array([2, 0, 3, 1])
    renamed = np.argsort(order)[labels]
    value, gradient = value_and_grad(case, form, logits, labels)
    moved, moved_gradient = value_and_grad(case, form, logits[:, order], renamed, COUNTS[order])
    np.testing.assert_allclose(moved, value, rtol=1e-6)
    np.testing.assert_allclose(moved_gradient, gradient[:, order], rtol=1e-4, atol=1e-7)


@every
def test_one_compilation_and_dtype(case):
    transform = case.make()
    state = transform.init(jnp.asarray(COUNTS))
    loss = jax.jit(lambda inputs, state, step: transform.apply(inputs, state, step=step))
    for step in range(3):
        logits, labels = draw(seed=step)
        inputs = loss_inputs(jnp.asarray(logits), labels)
        out = loss(inputs, state, jnp.asarray(step, jnp.int32))
    assert loss._cache_size() == 1
    for field in ("logits", "weights"):
        assert getattr(out, field).dtype == jnp.float32
        assert getattr(out, field).shape == getattr(inputs, field).shape
    assert out.targets.dtype in (inputs.targets.dtype, jnp.float32)


@every
def test_dtype_is_kept_at_double_precision(case):
    with jax.enable_x64(True):
        transform = case.make()
        logits, labels = draw()
        wide = jnp.asarray(logits, jnp.float64)
        state = transform.init(jnp.asarray(COUNTS))
        value = scalar(case, transform, loss_inputs(wide, labels), state)
        assert value.dtype == jnp.float64


WEIGHTED = {"ldam_drw", "class_balanced_focal", "class_balanced_sigmoid_focal"}


# Class weights are float32, so products with them are the caller's to promote.
@pytest.mark.parametrize("name", sorted(set(CASES) - WEIGHTED))
def test_functions_keep_double_precision(name):
    with jax.enable_x64(True):
        logits, labels = draw()
        out = CASES[name].function(jnp.asarray(logits, jnp.float64), labels, COUNTS)
        assert out.dtype == jnp.float64


@every
def test_functions_of_half_precision_are_float32_per_example(case):
    logits, labels = draw()
    out = case.function(jnp.asarray(logits, jnp.bfloat16), labels, COUNTS)
    assert out.dtype == jnp.float32
    assert out.shape == (SIZE,)


@every
@pytest.mark.parametrize("counts", [list(map(int, COUNTS)), COUNTS, jnp.asarray(COUNTS)], ids=type)
def test_function_jitted_of_counts_of_any_kind(case, counts):
    """Counts may be a list, NumPy or a JAX array; traced beside the logits too."""
    logits, labels = draw()
    eager = case.function(logits, labels, counts)
    jitted = jax.jit(lambda z, y: case.function(z, y, counts))(logits, labels)
    traced = jax.jit(case.function)(logits, labels, jnp.asarray(counts))
    np.testing.assert_allclose(jitted, eager, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(traced, eager, rtol=1e-5, atol=1e-6)


@every
def test_function_mapped_over_batches(case):
    first, second = draw(seed=0), draw(seed=1)
    logits, labels = (np.stack(pair) for pair in zip(first, second, strict=True))
    mapped = jax.vmap(lambda z, y: case.function(z, y, COUNTS))(logits, labels)
    for i, (z, y) in enumerate((first, second)):
        np.testing.assert_allclose(mapped[i], case.function(z, y, COUNTS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.batch])
def test_function_mapped_over_examples_or_of_more_axes(name):
    loss = CASES[name].function
    logits, labels = draw()
    whole = loss(logits, labels, COUNTS)
    mapped = jax.vmap(lambda z, y: loss(z, y, COUNTS))(logits, labels)
    np.testing.assert_allclose(mapped, whole, rtol=1e-5, atol=1e-6)
    more = loss(logits.reshape(3, 3, 4), labels.reshape(3, 3), COUNTS)
    np.testing.assert_allclose(more.reshape(-1), whole, rtol=1e-5, atol=1e-6)


@every
def test_transform_is_the_function_at_its_step(case):
    logits, labels = draw(3.0)
    transform = case.make()
    state = transform.init(COUNTS)
    value = scalar(case, transform, loss_inputs(logits, labels), state, step=STEP)
    function = jnp.mean(case.function(logits, labels, COUNTS))
    np.testing.assert_allclose(value, function, rtol=1e-6)
