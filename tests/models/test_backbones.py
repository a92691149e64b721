"""Parameter counts as published, shapes, and half-precision computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.models import (
    BACKBONES,
    HEADS,
    TAKE_FEATURES,
    Classifier,
    LinearHead,
    ModelConfig,
    make_backbone,
)
from ltjax.models.vit import VITS
from tests.helpers import initialized


def shapes(name, classes, image, **options):
    net = Classifier(make_backbone(ModelConfig(name=name, **options)), LinearHead(classes))
    images = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    return net, jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)


def count(tree):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(tree))


# CIFAR: He et al. 2016, table 6 (0.27, 0.46, 0.66, 0.85, 1.7 million at 10 classes), to the
# parameter as in the public PyTorch reimplementation of option A; ImageNet: torchvision.
PUBLISHED = {
    "resnet20_cifar": (10, 269_722),
    "resnet32_cifar": (10, 464_154),
    "resnet44_cifar": (10, 658_586),
    "resnet56_cifar": (10, 853_018),
    "resnet110_cifar": (10, 1_727_962),
    "resnet18": (1000, 11_689_512),
    "resnet50": (1000, 25_557_032),
    "resnet101": (1000, 44_549_160),
    "resnet152": (1000, 60_192_808),
    "resnext50_32x4d": (1000, 25_028_904),
    "vit_ti16": (1000, 5_717_416),
    "vit_s16": (1000, 22_050_664),
    "vit_b16": (1000, 86_567_656),
    "vit_l16": (1000, 304_326_632),
}
# Without a classifier: timm, which gives the class token of networks with registers no position of
# its own, so that it counts one width less there.
PUBLISHED_BACKBONES = {
    "vit_s14_dinov2": 22_056_192,
    "vit_b14_dinov2": 86_579_712,
    "vit_l14_dinov2": 304_367_616,
    "vit_s14_reg4_dinov2": 22_057_344 + 384,
    "vit_b14_reg4_dinov2": 86_582_016 + 768,
    "vit_l14_reg4_dinov2": 304_370_688 + 1024,
    "clip_vit_b16": 85_799_424,
    "clip_vit_l14": 303_179_776,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name):
    classes, expected = PUBLISHED[name]
    image = (32, 32, 3) if "cifar" in name else (224, 224, 3)
    _, variables = shapes(name, classes, image)
    assert count(variables["params"]) == expected


@pytest.mark.parametrize("name", PUBLISHED_BACKBONES)
def test_parameter_counts_of_backbones(name):
    _, variables = shapes(name, 1, (224, 224, 3))
    assert count(variables["params"]["backbone"]) == PUBLISHED_BACKBONES[name]


# Of the Vision Transformers those that differ in what they do with images and tokens.
IMAGES = [
    name
    for name in BACKBONES
    if name not in (*TAKE_FEATURES, *VITS) or name in ("vit_tiny", "vit_s14_reg4_dinov2")
]


@pytest.mark.parametrize("name", [n for n in IMAGES if n not in ("resnet152", "resnet101")])
def test_features(name):
    backbone = make_backbone(ModelConfig(name=name))
    image = (32, 32, 3) if "cifar" in name or name == "convnet" else (112, 112, 3)
    net, variables = shapes(name, 5, image)
    images = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    out = jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, images)
    assert out.features.shape == (2, backbone.features)
    assert out.logits.shape == (2, 5)


@pytest.mark.parametrize("hidden", [(), (3,), (3, 4)])
def test_given_features(hidden):
    backbone = make_backbone(ModelConfig(name="mlp", hidden=hidden))
    net, variables = shapes("mlp", 5, (7,), hidden=hidden)
    rows = jax.ShapeDtypeStruct((2, 7), jnp.float32)
    out = jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, rows)
    assert out.features.shape == (2, backbone.features or 7)
    assert ("backbone" in variables["params"]) == bool(hidden)
    assert out.logits.shape == (2, 5)


@pytest.mark.parametrize(
    "name", ["convnet", "resnet8_cifar", "resnet10", "resnext50_32x4d", "vit_tiny"]
)
def test_half_precision_convolves_in_bfloat16_with_float32_variables(name):
    net, variables = shapes(name, 3, (32, 32, 3), dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)

    def train(v, x):
        return net.apply(v, x, train=True, mutable=["batch_stats"])

    traced = jax.make_jaxpr(train)(variables, images)
    kinds = [
        str(equation.outvars[0].aval.dtype)
        for equation in traced.eqns
        if equation.primitive.name == "conv_general_dilated"
    ]
    assert set(kinds) == {"bfloat16"}
    out, updates = jax.eval_shape(train, variables, images)
    leaves = jax.tree.leaves((out, updates))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_half_precision_computes_near_the_full_one():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
    features = []
    for dtype in ("float32", "bfloat16"):
        backbone = make_backbone(ModelConfig(name="convnet", width=4, dtype=dtype))
        net = Classifier(backbone, LinearHead(3))
        variables = initialized(net, images, train=False)
        apply = jax.jit(lambda v, n=net: n.apply(v, images, train=False).features)
        features.append(np.asarray(apply(variables)))
    scale = np.abs(features[0]).max()
    np.testing.assert_allclose(features[1] / scale, features[0] / scale, atol=0.03)
    assert (features[0] != features[1]).any()


def test_zero_residual_blocks_start_as_the_identity():
    net, _ = shapes("resnet8_cifar", 3, (8, 8, 3), zero_residual=True)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    variables = initialized(net, images, train=False)
    out = jax.jit(lambda v: net.apply(v, images, train=False).features)(variables)
    # Without their residual branches: the stem, every second pixel twice, new channels 0.
    kernel = variables["params"]["backbone"]["stem"]["kernel"]
    stem = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = jnp.mean(jax.nn.relu(stem / np.sqrt(1 + 1e-5))[:, ::4, ::4], axis=(1, 2))
    np.testing.assert_allclose(out[:, 24:40], expected, rtol=1e-5)
    assert not np.any(np.delete(np.asarray(out), range(24, 40), axis=1))


def test_config_knows_the_models_and_heads():
    assert configs.SCHEMA["model.name"].allowed == "one of " + ", ".join(BACKBONES)
    assert configs.SCHEMA["model.head"].allowed == "one of auto, " + ", ".join(HEADS)


def test_bad_input():
    with pytest.raises(ValueError, match=r"model.name = 'resnet33_cifar'"):
        make_backbone(ModelConfig(name="resnet33_cifar"))
    with pytest.raises(ValueError, match=r"model.hidden = \(0,\)"):
        make_backbone(ModelConfig(name="mlp", hidden=(0,)))
    with pytest.raises(ValueError, match=r"model.dtype = 'int8'"):
        make_backbone(ModelConfig(name="convnet", dtype="int8"))
