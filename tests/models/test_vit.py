"""Vision Transformers: what is not in the golden files."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.models import ModelConfig, make_backbone
from ltjax.models.vit import VITS, VisionTransformer, ViTShape, quick_gelu, resampled

# Compiling takes longer than computing.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SHAPE = ViTShape(8, 2, 2, 4, 3, registers=2, layer_scale=True)


def images(height=12, width=12):
    values = np.random.default_rng(0).normal(size=(2, height, width, 3))
    return jnp.asarray(values, jnp.float32)


def shapes(shape):
    """Shapes of the parameters."""
    module = VisionTransformer(shape)
    found = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), images())
    assert set(found) == {"params"}
    return found["params"]


def filled(shape):
    """Random parameters; compiling their initialization takes longer."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), "f"), shapes(shape))


def test_names_of_the_parameters():
    params = shapes(SHAPE)
    outside = {"patches", "token", "positions", "registers", "norm"}
    assert set(params) == {*outside, "block0", "block1"}
    assert set(params["block1"]) == {"norm1", "attention", "scale1", "norm2", "mlp", "scale2"}
    for name in ("query", "key", "value", "out"):
        assert params["block0"]["attention"][name]["kernel"].shape == (8, 8)
    assert params["block0"]["mlp"]["fc1"]["kernel"].shape == (8, 32)
    clip = ViTShape(8, 1, 2, 4, 3, pre_norm=True)
    params = shapes(clip)
    assert "pre_norm" in params
    assert set(params["patches"]) == {"kernel"}


def test_checkpointing_changes_no_gradient():
    x, shape = images(), SHAPE._replace(depth=1)
    params = filled(shape)
    made = make_backbone(ModelConfig(name="vit_tiny", remat=True)).clone(shape=shape)

    def gradient(module):
        def scalar(p):
            return jnp.mean(module.apply({"params": p}, x, train=True) ** 2)

        return jax.grad(scalar)

    plain = gradient(VisionTransformer(shape))
    assert "remat2" not in str(jax.make_jaxpr(plain)(params))
    assert "remat2" in str(jax.make_jaxpr(gradient(made))(params))
    both = jax.jit(lambda p: (plain(p), gradient(made)(p)))
    kept, computed = both.lower(params).compile(compiler_options=QUICK)(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), kept, computed
    )


def test_half_precision_multiplies_in_bfloat16():
    module, params = VisionTransformer(SHAPE, jnp.bfloat16), filled(SHAPE)
    traced = jax.make_jaxpr(lambda p: module.apply({"params": p}, images(), train=True))(params)
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:dot_general|conv_general_dilated)", str(traced))
    # Queries with keys in float32, as the softmax needs.
    assert len(products) == 1 + SHAPE.depth * 8
    assert products.count("f32") <= SHAPE.depth
    assert set(products) <= {"bf16", "f32"}


def test_features_are_the_mean_of_the_patches_without_a_class_token():
    x = images()
    # Without blocks a patch is only its own pixels.
    shape = ViTShape(8, 0, 2, 4, 3, token=False, registers=1)
    params = filled(shape)
    found = VisionTransformer(shape).apply({"params": params}, x, train=False)
    pieces = np.asarray(x).reshape(2, 3, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 9, 48)
    tokens = pieces @ np.asarray(params["patches"]["kernel"]).reshape(48, 8)
    tokens += np.asarray(params["patches"]["bias"]) + np.asarray(params["positions"])
    centered = tokens - tokens.mean(-1, keepdims=True)
    wanted = (centered / np.sqrt(centered.var(-1, keepdims=True) + 1e-6)).mean(1)
    wanted = wanted * np.asarray(params["norm"]["scale"]) + np.asarray(params["norm"]["bias"])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_positions_of_another_grid():
    grid = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)), jnp.float32)
    np.testing.assert_array_equal(resampled(grid, (3, 3)), grid)
    rising = jnp.repeat(jnp.arange(5.0)[:, None], 5, 1).reshape(25, 1)  # by row
    wider = np.asarray(resampled(rising, (10, 10))).reshape(10, 10)
    np.testing.assert_allclose(wider[:, :1] - wider, 0, atol=1e-5)
    # The new rows lie a quarter beside the old ones, but at the border.
    np.testing.assert_allclose(wider[4:6, 0], [1.75, 2.25], atol=1e-5)


def test_quick_gelu_is_near_gelu():
    x = jnp.linspace(-5, 5, 101)
    distance = np.abs(quick_gelu(x) - jax.nn.gelu(x, approximate=False))
    assert 0.01 < distance.max() < 0.03


def test_images_without_whole_patches():
    module = make_backbone(ModelConfig(name="vit_b14_reg4_dinov2"))
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with pytest.raises(InputError, match=r"64 x 64 .* 14 x 14; .* data.image_size = 70"):
        jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), x)


@pytest.mark.parametrize("name", VITS)
def test_heads_divide_the_width(name):
    shape = VITS[name]
    assert shape.width % shape.heads == 0
    assert make_backbone(ModelConfig(name=name)).features == shape.width
