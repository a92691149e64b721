"""Golden files of PyTorch's networks, and weights that do not fit."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ltjax.data.load import DataConfig, load_splits
from ltjax.data.stream import decode_all
from ltjax.errors import InputError
from ltjax.models import BACKBONES
from ltjax.models.efficientnet_lite import EfficientNetLite, Stage
from ltjax.models.pretrained import (
    EFFICIENTNET_PYTORCH,
    PRETRAINED,
    TORCHVISION,
    entry_of,
    weights_of,
)
from ltjax.models.resnet import ResNet, Shape
from ltjax.serving.backbone import features_function, load_backbone
from tests.models.golden.recipe import BLOCKS, SIZES, STAGES, direction, images, tensor

# Compiling takes longer than computing.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SHARED = Path(__file__).parents[3] / "shared" / "data"
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
    with np.load(GOLDEN / "networks.npz") as file:
        found = {k.partition("/")[2]: file[k] for k in file.files if k.startswith(f"{name}/")}
    sides = [tuple(map(int, text.split())) for text in found["shapes"]]
    return found, dict(zip(found["names"].tolist(), sides, strict=True))


def state(shapes, prefix=""):
    return {name: tensor(prefix + name, shape) for name, shape in shapes.items() if shape}


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_gradients_are_those_of_pytorch(name):
    module, names = NETWORKS[name]
    found, shapes = golden(name)
    variables = weights_of(name, names, state(shapes), module).backbone
    x, weights = images(SIZES[name]), direction(module.features)

    def scalar(params, stats, x):
        out = module.apply({"params": params, "batch_stats": stats}, x, train=False)
        return jnp.sum(jnp.tanh(out) * weights), out

    step = jax.jit(jax.grad(scalar, has_aux=True))
    given = (variables["params"], variables["batch_stats"], x)
    grads, features = step.lower(*given).compile(compiler_options=QUICK)(*given)
    scale = np.abs(found["features"]).max()
    np.testing.assert_allclose(features / scale, found["features"] / scale, atol=1e-5)
    # Every parameter filled with the number of its name says which gradient belongs to it.
    numbers = {n: np.full(s, i, np.float32) for i, (n, s) in enumerate(shapes.items()) if s}
    places = flatten_dict(weights_of(name, names, numbers, module).backbone["params"])
    towards = flatten_dict(
        weights_of(name, names, state(shapes, "gradient of "), module).backbone["params"]
    )
    order, trained = list(shapes), found["trained"].tolist()
    assert {order[int(place.flat[0])] for place in places.values()} == set(trained)
    for path, gradient in flatten_dict(grads).items():
        where = trained.index(order[int(places[path].flat[0])])
        norm, product = found["norms"][where], found["products"][where]
        np.testing.assert_allclose(np.linalg.norm(gradient), norm, rtol=1e-4)
        bound = 1e-4 * norm * np.linalg.norm(towards[path])
        assert abs(np.sum(gradient * towards[path]) - product) <= bound


def test_the_head_is_read_beside_the_backbone():
    module, names = NETWORKS["efficientnet_lite"]
    _, shapes = golden("efficientnet_lite")
    tensors = state(shapes)
    head = weights_of("x", names, tensors, module).head
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
    (lambda t: t["_fc.bias"].fill(np.inf), r"^w has numbers that are not finite in _fc.bias$"),
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
        weights_of("w", EFFICIENTNET_PYTORCH, tensors, module)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_other_float_types_become_float32(small):
    module, shapes = small
    tensors = {name: array.astype(np.float16) for name, array in state(shapes).items()}
    leaves = jax.tree.leaves(weights_of("w", EFFICIENTNET_PYTORCH, tensors, module).backbone)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


needs_data = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")


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


@pytest.mark.parametrize("name", PRETRAINED)
def test_entries_are_complete(name):
    entry = PRETRAINED[name]
    assert entry.backbone in BACKBONES
    assert entry.file.endswith(f"{entry.sha256[:8]}.pth")
    assert 0 < entry.crop <= 1
    assert entry.size == 224
    assert entry.interpolation in ("bilinear", "bicubic")
    assert len(entry.mean) == len(entry.std) == 3
    assert entry.package or entry.source.startswith("https://")


def test_entries_by_name_and_by_file():
    assert entry_of("resnet50_v2", "resnet50").crop == 224 / 232
    assert entry_of("mine.safetensors", "resnet50") is PRETRAINED["resnet50_v1"]
    with pytest.raises(InputError, match=r"is of the backbone resnet50; use model.name = resnet50"):
        entry_of("resnet50_v2", "resnet18")
    with pytest.raises(InputError, match=r"is neither a name .*resnet18_v1.* nor a file"):
        entry_of("resnet50_v3", "resnet50")
    with pytest.raises(InputError, match="convnet takes no pretrained weights; use one of eff"):
        entry_of("mine.pth", "convnet")
