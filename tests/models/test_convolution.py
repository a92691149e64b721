"""The convolution whose kernel's gradient is taken in pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.convolution import convolution

NHWC = ("NHWC", "HWIO", "NHWC")
SAME = {"window_strides": (1, 1), "padding": [(1, 1), (1, 1)], "dimension_numbers": NHWC}


def arrays(batch, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, 16, 16, 3)), dtype)
    return x, jnp.asarray(rng.normal(size=(3, 3, 3, 4)), dtype)


def gradients(convolve, x, kernel, **options):
    def loss(x, kernel):
        return jnp.sum(jnp.sin(convolve(x, kernel, **{**SAME, **options})))

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)


@pytest.mark.parametrize("batch", [16, 48, 50])
@pytest.mark.parametrize("stride", [1, 2])
def test_value_and_gradients_are_those_of_lax(batch, stride):
    with jax.enable_x64(True):
        args = (*arrays(batch),)
        options = {"window_strides": (stride, stride)}
        ours = gradients(convolution, *args, **options)
        lax = gradients(jax.lax.conv_general_dilated, *args, **options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), ours, lax)


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "SAME"), (3, "VALID")])
def test_kernels_of_one_pixel(stride, padding):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = rng.normal(size=(3, 8, 7, 64)), rng.normal(size=(1, 1, 64, 64))
        options = {"window_strides": (stride, stride), "padding": padding}
        ours = gradients(convolution, x, kernel, **options)
        lax = gradients(jax.lax.conv_general_dilated, x, kernel, **options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), ours, lax)


def test_pieces_are_taken():
    x, kernel = arrays(64, np.float32)
    text = jax.jit(jax.grad(lambda k: jnp.sum(convolution(x, k, **SAME)))).lower(kernel).as_text()
    assert text.count("stablehlo.convolution") >= 4


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_of_any_size_is_exported(size):
    kernel = jnp.ones((size, size, 64, 64))
    batch = jax.export.symbolic_shape("b")[0]
    shape = jax.ShapeDtypeStruct((batch, 8, 8, 64), jnp.float32)
    convolve = jax.jit(lambda x: convolution(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC))
    exported = jax.export.export(convolve)(shape)
    x = jnp.arange(3 * 8 * 8 * 64, dtype=jnp.float32).reshape(3, 8, 8, 64) / 1000
    np.testing.assert_allclose(exported.call(x), convolve(x), rtol=1e-5)


def test_dtype_is_kept():
    x, kernel = arrays(32, jnp.bfloat16)
    grads = jax.jit(jax.grad(lambda x, k: jnp.sum(convolution(x, k, **SAME)), (0, 1)))(x, kernel)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16]


def test_second_order_and_vmap():
    with jax.enable_x64(True):
        x, kernel = arrays(32)

        def products(convolve):
            def gradient(k):
                return jax.grad(lambda k: jnp.sum(jnp.sin(convolve(x, k, **SAME))))(k)

            forward = jax.jvp(gradient, (kernel,), (kernel,))[1]
            return forward, jax.vmap(gradient)(jnp.stack([kernel, 2 * kernel]))

        ours = jax.jit(lambda: products(convolution))()
        lax = jax.jit(lambda: products(jax.lax.conv_general_dilated))()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), ours, lax)


def test_a_network_for_any_batch_is_exported_with_it():
    x, kernel = arrays(2, np.float32)
    shape = jax.ShapeDtypeStruct((jax.export.symbolic_shape("b")[0], *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(lambda x: convolution(x, kernel, **SAME)))(shape)
    np.testing.assert_allclose(exported.call(x), convolution(x, kernel, **SAME), rtol=1e-5)
