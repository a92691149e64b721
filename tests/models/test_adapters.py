"""LoRA and AdaptFormer leave a network as it is at first, and compute what their papers say."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.models.adapters import Adapter, LowRank, beside, merged, with_lora
from ltjax.models.vit import Attention


def params():
    draw = np.random.default_rng(0).normal

    def dense(rows, columns):
        kernel = jnp.asarray(draw(size=(rows, columns)), jnp.float32)
        return {"kernel": kernel, "bias": jnp.ones(columns)}

    names = ("query", "key", "value", "out")
    block = {"attention": {name: dense(6, 6) for name in names}, "mlp": {"fc1": dense(6, 8)}}
    return {"backbone": {"block0": block}, "head": {"dense": dense(6, 3)}}


def test_attention_alone_is_changed_and_nothing_at_first():
    before = params()
    after = with_lora(before, LowRank(2, 6.0), jax.random.key(0))
    changed = after["lora"]["backbone"]["block0"]
    assert changed.keys() == {"attention"}
    assert set(changed["attention"]) == {"query", "key", "value", "out"}
    jax.tree.map(np.testing.assert_array_equal, merged(after), before)  # to the bit


def test_the_sum():
    after = with_lora(params(), LowRank(2, 6.0), jax.random.key(0))
    layer = after["lora"]["backbone"]["block0"]["attention"]["value"]
    layer["b"] = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6)), jnp.float32)
    found = merged(after)["backbone"]["block0"]["attention"]["value"]["kernel"]
    kernel = np.asarray(after["backbone"]["block0"]["attention"]["value"]["kernel"], np.float64)
    wanted = kernel + 3.0 * np.asarray(layer["a"], np.float64) @ np.asarray(layer["b"], np.float64)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_matrices_differ():
    layers = with_lora(params(), LowRank(2), jax.random.key(0))["lora"]["backbone"]["block0"]
    first, second = layers["attention"]["query"]["a"], layers["attention"]["key"]["a"]
    assert abs(first - second).max() > 0.01
    assert abs(first).max() <= 1 / np.sqrt(6)


def test_networks_without_attention_or_without_matrices():
    plain = {"backbone": {"dense1": {"kernel": jnp.ones((4, 5))}}, "head": {}}
    assert with_lora(plain, LowRank(2), jax.random.key(0))["lora"]["backbone"].keys() == {"dense1"}
    convolution = {"backbone": {"stem": {"kernel": jnp.ones((3, 3, 4, 5))}}}
    with pytest.raises(InputError, match=r"lora is not allowed with a backbone of convolutions"):
        with_lora(convolution, LowRank(2), jax.random.key(0))


def test_merging_nothing():
    before = params()
    assert merged(before) is before


class Backbone(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Attention(2, x.dtype, name="attention")(x)


class Network(nn.Module):
    checkpointed: bool = False

    @nn.compact
    def __call__(self, x):
        kind = nn.remat(Backbone) if self.checkpointed else Backbone
        return nn.Dense(3, dtype=x.dtype, name="head")(kind(name="backbone")(x))


@pytest.mark.parametrize("checkpointed", [False, True])
def test_beside_a_network_it_is_the_merged_one_without_the_gradient_of_kernels(checkpointed):
    network, (first, second) = Network(checkpointed), jax.random.split(jax.random.key(0))
    x = jax.random.normal(first, (8, 9, 64))
    params = with_lora(network.init(second, x)["params"], LowRank(2, 6.0), second)
    lora = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params["lora"]
    )
    rest = {name: part for name, part in params.items() if name != "lora"}

    def joined(lora):
        own, added = beside({**rest, "lora": lora})
        with added:
            return jnp.mean(network.apply({"params": own}, x) ** 2)

    def whole(lora):
        return jnp.mean(network.apply({"params": merged({**rest, "lora": lora})}, x) ** 2)

    (one, other), work = ({}, {}), []
    for found, function in ((one, joined), (other, whole)):
        gradient = jax.jit(jax.value_and_grad(function))
        found["loss"], found["gradient"] = gradient(lora)
        work.append(gradient.lower(lora).cost_analysis()["flops"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), one, other)
    kernels = 4 * 2 * 8 * 9 * 64 * 64  # operations of the gradients of four kernels
    assert work[0] < work[1] - 0.5 * kernels


def test_half_precision_stays_half():
    network, x = Network(), jnp.ones((2, 3, 16), jnp.bfloat16)
    params = with_lora(network.init(jax.random.key(0), x)["params"], LowRank(2), jax.random.key(1))
    own, added = beside(params)
    with added:
        assert network.apply({"params": own}, x).dtype == jnp.bfloat16


def test_without_matrices_nothing_is_added():
    before = params()
    own, added = beside(before)
    assert own == before
    with added:
        pass


def test_an_adapter():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    layer = Adapter(5, 0.25)
    start = layer.init(jax.random.key(0), x)
    assert not np.asarray(layer.apply(start, x)).any()
    given = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), start)
    down, up = given["params"]["down"], given["params"]["up"]
    hidden = np.maximum(x @ down["kernel"] + down["bias"], 0)
    wanted = 0.25 * (hidden @ up["kernel"] + up["bias"])
    np.testing.assert_allclose(layer.apply(given, x), wanted, rtol=1e-4, atol=1e-5)
