"""Which parameters learn: by name, for every family of backbones."""

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from ltjax.errors import InputError
from ltjax.models import ModelConfig, make_model
from ltjax.models.finetune import depths, is_vector, learned, rates
from ltjax.whitening.options import WhiteningConfig


def paths_of(name, **options):
    """Names of the parameters of a network."""
    config = ModelConfig(name=name, head="linear", **options)
    model = make_model(config, WhiteningConfig(method="none"), 3)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    found = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    return flatten_dict(found["params"])


@pytest.fixture(scope="module")
def networks():
    return {
        "resnet10": paths_of("resnet10"),
        "convnet": paths_of("convnet", width=4, blocks=2),
        "mlp": paths_of("mlp", hidden=(4, 4)),
        "efficientnet_lite0": paths_of("efficientnet_lite0"),
    }


# The layers that follow a frozen part, with the last block and with the last two.
LAST = {
    "resnet10": ({"stage4_block1"}, {"stage3_block1", "stage4_block1"}),
    "convnet": ({"stage2_block2"}, {"stage2_block1", "stage2_block2"}),
    "mlp": ({"dense2", "norm2"}, {"dense1", "norm1", "dense2", "norm2"}),
    "efficientnet_lite0": (
        {"stage7_block1", "top", "top_norm"},
        {"stage6_block4", "stage7_block1", "top", "top_norm"},
    ),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_blocks_and_what_follows_them(networks, name):
    paths = networks[name]
    for number, wanted in enumerate(LAST[name], 1):
        found = learned(paths, f"last_{number}")
        assert {path[1] for path in found if path[0] == "backbone"} == wanted
        assert {path for path in paths if path[0] == "head"} <= found


def test_too_many_blocks_are_refused(networks):
    with pytest.raises(InputError, match=r"last_5 is more than the 4 blocks .* last_1 to last_4"):
        learned(networks["resnet10"], "last_5")


def test_norms_biases_and_the_head(networks):
    paths = networks["resnet10"]
    found = learned(paths, "norm_and_bias")
    assert {path[-1] for path in found if path[0] == "backbone"} == {"scale", "bias"}
    assert all("norm" in path[-2] for path in found if path[0] == "backbone")
    assert len(found) == sum(path[-1] != "kernel" for path in paths) + 1  # the head's kernel


def test_all_and_the_head_alone(networks):
    paths = networks["convnet"]
    assert learned(paths, "all") == set(paths)
    assert {path[0] for path in learned(paths, "head")} == {"head"}


VIT = [
    ("backbone", "patches", "kernel"),
    ("backbone", "token"),
    ("backbone", "positions"),
    ("backbone", "pre_norm", "scale"),
    ("backbone", "block0", "attention", "query", "kernel"),
    ("backbone", "block0", "scale1"),
    ("backbone", "block10", "mlp", "fc1", "bias"),
    ("backbone", "block10", "adapter", "down", "kernel"),
    ("backbone", "block2", "norm1", "scale"),
    ("backbone", "norm", "bias"),
    ("head", "kernel"),
    ("lora", "backbone", "block0", "attention", "query", "a"),
    ("lora", "scale"),
]


def test_depth_in_a_vision_transformer():
    assert list(depths(VIT).values()) == [0, 0, 0, 0, 1, 1, 3, 3, 2, 4, 4, 1, 4]
    assert rates(VIT, 0.5)[VIT[4]] == 0.125
    assert rates(VIT, 0.5)[VIT[9]] == rates(VIT, 0.5)[VIT[10]] == 1


def test_what_learns_in_a_vision_transformer():
    assert learned(VIT, "lora") == {VIT[10], VIT[11]}
    assert learned(VIT, "adapter") == {VIT[7], VIT[10]}
    assert learned(VIT, "norm_and_bias") == {VIT[i] for i in (3, 5, 6, 8, 9, 10)}
    assert learned(VIT, "last_2") == {VIT[i] for i in (6, 7, 8, 9, 10)}


def test_what_does_not_decay():
    matrix, vector = jnp.ones((2, 2)), jnp.ones(2)
    assert not is_vector(("backbone", "patches", "kernel"), matrix)
    assert is_vector(("backbone", "block0", "scale1"), vector)
    for name in ("positions", "registers", "token"):
        assert is_vector(("backbone", name), matrix)


@pytest.mark.parametrize("train", ["last_0", "last_", "blocks", "last_1 "])
def test_unknown_names(train):
    with pytest.raises(InputError, match=r"finetune.train = '.*last_N, as last_1"):
        learned(VIT, train)
