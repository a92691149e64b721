"""Golden files of PyTorch's networks, and weights that do not fit."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ltjax.data.load import DataConfig, load_splits
from ltjax.data.stream import decode_all
from ltjax.errors import InputError
from ltjax.models import ModelConfig, make_backbone
from ltjax.models.efficientnet_lite import EfficientNetLite, Stage
from ltjax.models.pretrained import PRETRAINED, weights_of
from ltjax.models.pretrained.convolutional import EFFICIENTNET_PYTORCH, TORCHVISION
from ltjax.models.pretrained.transformers import VIT_NAMINGS
from ltjax.models.resnet import ResNet, Shape
from ltjax.models.vit import VisionTransformer, ViTShape, resampled
from ltjax.serving.backbone import features_function, load_backbone
from tests.helpers import SHARED, needs_data
from tests.models.golden.recipe import BLOCKS, SIZES, STAGES, VITS, direction, images, tensor

# Compiling takes longer than computing.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
GOLDEN = Path(__file__).parent / "golden"
NETWORKS = {
    "basic": (ResNet(Shape(BLOCKS, False)), TORCHVISION),
    "resnext": (ResNet(Shape(BLOCKS, True, 32, 4)), TORCHVISION),
    "efficientnet_lite": (
        EfficientNetLite(stages=tuple(Stage(*stage) for stage in STAGES)),
        EFFICIENTNET_PYTORCH,
    ),
}


def golden(name):
    """What is stored of a network, and the shapes of its state dict."""
    with np.load(GOLDEN / ("networks.npz" if name in SIZES else "vits.npz")) as file:
        found = {k.partition("/")[2]: file[k] for k in file.files if k.startswith(f"{name}/")}
    sides = [tuple(map(int, text.split())) for text in found["shapes"]]
    return found, dict(zip(found["names"].tolist(), sides, strict=True))


def state(shapes, prefix=""):
    return {name: tensor(prefix + name, shape) for name, shape in shapes.items() if shape}


@functools.lru_cache  # some files are of networks of one shape
def program(module, *, gradient):
    """The features of a network, and the gradient of a scalar of them."""

    def scalar(params, rest, x):
        out = module.apply({"params": params, **rest}, x, train=False)
        return jnp.sum(jnp.tanh(out) * direction(module.features)), out

    function = (
        jax.grad(scalar, has_aux=True) if gradient else lambda *given: (None, scalar(*given)[1])
    )
    return jax.jit(function, compiler_options=QUICK)


def check(name, module, namings, size):
    """Compares a network with what is stored of it."""
    found, shapes = golden(name)
    variables = weights_of(name, namings, state(shapes), module).backbone
    params, scale = variables.pop("params"), np.abs(found["features"]).max()
    run = program(module, gradient="trained" in found)
    grads, features = run(params, variables, images(size))
    np.testing.assert_allclose(features / scale, found["features"] / scale, atol=1e-5)
    if grads is None:
        return
    # Every parameter filled with the number of its name says which gradient belongs to it.
    numbers = {n: np.full(s, i, np.float32) for i, (n, s) in enumerate(shapes.items()) if s}
    places = flatten_dict(weights_of(name, namings, numbers, module).backbone["params"])
    towards = flatten_dict(
        weights_of(name, namings, state(shapes, "gradient of "), module).backbone["params"]
    )
    order, trained = list(shapes), found["trained"].tolist()
    products, squares = (dict.fromkeys(trained, 0.0) for _ in range(2))
    lengths = dict.fromkeys(trained, 0.0)
    for path, gradient in flatten_dict(grads).items():
        # One tensor may hold several parameters; a position that the file lacks is 0.
        where, there = order[int(places[path].flat[-1])], towards[path] != 0
        products[where] += np.sum(gradient * towards[path])
        squares[where] += np.sum(np.square(gradient[there]))
        lengths[where] += np.sum(np.square(towards[path]))
    for where, norm, product in zip(trained, found["norms"], found["products"], strict=True):
        np.testing.assert_allclose(np.sqrt(squares[where]), norm, rtol=1e-4)
        assert lengths[where] > 0
        assert abs(products[where] - product) <= 1e-4 * norm * np.sqrt(lengths[where])


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_gradients_are_those_of_pytorch(name):
    module, naming = NETWORKS[name]
    check(name, module, (naming,), SIZES[name])


@pytest.mark.parametrize("name", VITS)
def test_vision_transformers_are_those_of_their_libraries(name):
    grid, size, options = VITS[name]
    check(name, VisionTransformer(ViTShape(16, 2, 2, 4, grid, **options)), VIT_NAMINGS, size)


def test_the_head_is_read_beside_the_backbone():
    module, naming = NETWORKS["efficientnet_lite"]
    _, shapes = golden("efficientnet_lite")
    tensors = state(shapes)
    head = weights_of("x", (naming,), tensors, module).head
    np.testing.assert_array_equal(head["kernel"], tensors["_fc.weight"].T)
    np.testing.assert_array_equal(head["bias"], tensors["_fc.bias"])


NEW = ("extra", "_blocks.9._bn0.weight")
WRONG = [
    (lambda t: t.pop("_conv_stem.weight"), r"^w does not .*; missing: _conv_stem.weight$"),
    (lambda t: t.update(dict.fromkeys(NEW, t["_bn0.bias"])), r"left over: _blocks.9.*, extra$"),
    (
        lambda t: t.update({"_conv_stem.weight": t["_conv_stem.weight"][:, :1]}),
        r"another shape: _conv_stem.weight \(32, 1, 3, 3\) instead of \(32, 3, 3, 3\)$",
    ),
    (lambda t: t.clear(), r"missing: _blocks.0.\S+, _blocks.0.\S+, .* and 17 more$"),
    (lambda t: t["_bn0.bias"].fill(np.nan), r"^w has numbers that are not finite in _bn0.bias$"),
    (
        lambda t: t["_fc.bias"].fill(np.inf),
        r"^w has numbers that are not finite in the classifier's bias$",
    ),
    (
        lambda t: t.update({"_bn0.bias": t["_bn0.bias"].astype(np.float64) * 1e300}),
        "not finite in _bn0.bias",
    ),
    (lambda t: t.update({"_bn0.bias": t["_bn0.bias"].astype(int)}), "int64 numbers in _bn0.bias"),
    (
        lambda t: t.update({"a\n\x1b[31m" + "b" * 999: t["_bn0.bias"]}),
        r"left over: a .x1b.31mb+ … b+$",
    ),
]


@pytest.fixture(scope="module")
def small():
    """The smallest backbone there is, whose shapes are found quickly, and its tensors."""
    module = EfficientNetLite(stages=(Stage(*STAGES[0]),))
    shapes = golden("efficientnet_lite")[1]
    keep = ("_conv_stem", "_bn0", "_blocks.0.", "_bn1", "_fc")
    shapes = {name: shape for name, shape in shapes.items() if name.startswith(keep)}
    return module, shapes | {"_conv_head.weight": (1280, 16, 1, 1)}


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_tensors_that_do_not_fit(small, change, message):
    module, shapes = small
    tensors = state(shapes)
    change(tensors)
    with pytest.raises(InputError, match=message) as caught:
        weights_of("w", (EFFICIENTNET_PYTORCH,), tensors, module)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_other_float_types_become_float32(small):
    module, shapes = small
    tensors = {name: array.astype(np.float16) for name, array in state(shapes).items()}
    leaves = jax.tree.leaves(weights_of("w", (EFFICIENTNET_PYTORCH,), tensors, module).backbone)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


@pytest.mark.slow
@needs_data
def test_the_real_network_classifies_as_the_reference():
    # The first 500 test images of CIFAR-100, each pixel 4 x 4 times; the reference's best logit is
    # 0.0004 above its second at the closest.
    test = load_splits(DataConfig(name="cifar100_lt", dir=str(SHARED / "tfds"))).test
    images, _ = decode_all(test.subset(np.arange(500)), skip_corrupt=False, threads=1)
    module, pretrained = load_backbone("efficientnet_lite0")
    network = jax.jit(features_function(module, pretrained, 128))
    head = pretrained.weights.head
    blocks = np.split(images.images.repeat(4, 1).repeat(4, 2), 10)
    logits = [np.asarray(network(block)) @ head["kernel"] + head["bias"] for block in blocks]
    with np.load(GOLDEN / "labels.npz") as wanted:
        np.testing.assert_array_equal(np.concatenate(logits).argmax(1), wanted["labels"])


@pytest.mark.parametrize("name", ["vit_ti16_augreg", "dinov2_s14_reg4", "clip_b16"])
def test_published_networks_have_the_tensors_of_their_libraries(name):
    entry = PRETRAINED[name]
    zero = np.zeros((), np.float32)
    tensors = {key: np.broadcast_to(zero, shape) for key, shape in golden(name)[1].items()}
    found = weights_of(name, entry.namings, tensors, make_backbone(ModelConfig(entry.backbone)))
    assert set(found.backbone) == {"params"}


def small_vit(name):
    grid, _, options = VITS[name]
    shapes = golden(name)[1]
    return VisionTransformer(ViTShape(16, 2, 2, 4, grid, **options)), state(shapes)


def test_projections_of_clip_are_heads_without_a_bias():
    module, tensors = small_vit("clip_openai")
    text = {"transformer.resblocks.0.ln_1.bias": np.zeros(7), "positional_embedding": np.zeros(9)}
    head = weights_of("w", VIT_NAMINGS, tensors | text, module).head
    assert set(head) == {"kernel"}
    np.testing.assert_array_equal(head["kernel"], tensors["visual.proj"])


def test_a_whole_clip_of_transformers():
    module, tensors = small_vit("clip_hf")
    whole = {f"vision_model.{name}": array for name, array in tensors.items()}
    whole["vision_model.embeddings.position_ids"] = np.arange(10)
    whole |= {"logit_scale": np.ones(()), "visual_projection.weight": np.ones((5, 16))}
    found = weights_of("w", VIT_NAMINGS, whole, module)
    jax.tree.map(
        np.testing.assert_array_equal,
        found.backbone,
        weights_of("w", VIT_NAMINGS, tensors, module).backbone,
    )
    assert found.head["kernel"].shape == (16, 5)


def test_heads_of_vision_transformers():
    for name, kernel in (("vit", "head.weight"), ("big_vision", "params/head/kernel")):
        module, tensors = small_vit(name)
        head = weights_of("w", VIT_NAMINGS, tensors, module).head
        wanted = tensors[kernel].T if name == "vit" else tensors[kernel]
        np.testing.assert_array_equal(head["kernel"], wanted)
        assert head["bias"].shape == (5,)


def test_positions_of_a_file_for_another_grid():
    module, tensors = small_vit("vit")
    wider = module.clone(shape=module.shape._replace(grid=6))
    found = weights_of("w", VIT_NAMINGS, tensors, wider).backbone["params"]["positions"]
    positions = tensors["pos_embed"][0]
    np.testing.assert_array_equal(found[0], positions[0])
    np.testing.assert_allclose(found[1:], resampled(jnp.asarray(positions[1:]), (6, 6)), rtol=1e-6)


def dropped(tensors, *names):
    return {name: array for name, array in tensors.items() if name not in names}


STACK = "params/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel"
WRONG_VITS = [
    ("vit", lambda t: dropped(t, "cls_token"), "missing: cls_token$"),
    ("vit", lambda t: t | {"extra": t["cls_token"]}, "left over: extra$"),
    ("vit", lambda t: t | {"pos_embed": t["pos_embed"][:, :-2]}, r"pos_embed \(15, 16\) instead"),
    ("vit", lambda t: t | {"pos_embed": t["pos_embed"][..., :8]}, r"pos_embed \(1, 17, 8\) inst"),
    ("vit", lambda t: t | {"pos_embed": np.zeros(())}, r"another shape: pos_embed \(\) instead"),
    ("vit", lambda t: t | {"pos_embed": np.zeros((1, 0, 16))}, r"pos_embed \(1, 0, 16\) instead"),
    ("vit", lambda t: t | {"pos_embed": t["pos_embed"] * np.nan}, "not finite in pos_embed$"),
    ("vit", lambda t: t | {"cls_token": np.zeros((1, 1, 16), int)}, "another shape: cls_token|int"),
    (
        "vit",
        lambda t: t | {"blocks.1.attn.qkv.weight": np.zeros((32, 16))},
        r"another shape: blocks.1.attn.qkv.weight \(32, 16\) instead of \(48, 16\)$",
    ),
    ("dinov2", lambda t: dropped(t, "blocks.0.ls1.gamma"), "missing: blocks.0.ls1.gamma$"),
    ("dinov2", lambda t: t | {"reg_token": np.zeros((1, 3, 16))}, r"reg_token \(3, 16\) instead"),
    ("clip_openai", lambda t: dropped(t, "visual.ln_pre.bias"), "missing: ln_pre.bias$"),
    ("clip_openai", lambda t: t | {"visual.x": np.zeros(1)}, "left over: x$"),
    ("augreg", lambda t: dropped(t, "embedding/bias"), "missing: embedding/bias$"),
    ("big_vision", lambda t: t | {STACK: t[STACK][:1]}, "missing: Transformer/encoderblock_1/Mlp"),
    ("big_vision", lambda t: t | {STACK: np.zeros((10**9, 0))}, "missing: Transformer/encoderbl"),
    ("big_vision", lambda t: t | {STACK: np.zeros(())}, "missing: Transformer/encoderblock_0/Mlp"),
    ("big_vision", lambda t: t | {STACK: t[STACK] * np.inf}, "not finite in Transformer/enc"),
    ("big_vision", lambda t: t | {STACK: t[STACK].swapaxes(1, 2)}, r"\(64, 16\) instead of \(16"),
    ("vit", lambda t: {}, "missing: blocks.0"),
    ("vit", lambda t: {"fc.weight": np.zeros(3)}, "left over: fc.weight"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG_VITS)
def test_tensors_that_do_not_fit_a_vision_transformer(name, change, message):
    module, tensors = small_vit(name)
    with pytest.raises(InputError, match=message) as caught:
        weights_of("w", VIT_NAMINGS, change(tensors), module)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
