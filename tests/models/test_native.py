"""Networks on native kernels: the parameters of XLA's, and the same numbers up to rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.kernels.build import load
from ltjax.models import ModelConfig, make_backbone
from ltjax.models.layers import DTYPES
from ltjax.models.resnet import ResNet, Shape
from tests.helpers import initialized
from tests.kernels.tiles import has_tiles

pytestmark = pytest.mark.skipif(load().path is None, reason=load().reason or "built")

NETWORKS = {
    "resnet8_cifar": (16, 32, 32, 3),
    "convnet": (24, 8, 8, 1),
    "resnet10": (4, 65, 61, 3),
    "bottleneck": (4, 64, 64, 3),
}
# Compiling the larger ones takes seconds; test-fast has the others.
EVERY = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("resnet10", "bottleneck") else [])
    for name in NETWORKS
]


def network_of(name, dtype="float32", **options):
    """A network without its head."""
    if name == "bottleneck":
        return ResNet(Shape((1, 1, 1, 1), True), dtype=DTYPES[dtype], **options)
    return make_backbone(ModelConfig(name=name, head="linear", dtype=dtype), **options)


@functools.cache
def pair(name, **options):
    """The same network by XLA and by native kernels, its variables and images."""
    plain, native = (network_of(name, native=on, **options) for on in (False, True))
    # Of some draws an output is within rounding of 0, where ReLU takes another side: not of these.
    images = jax.random.normal(jax.random.key(1), NETWORKS[name])
    return plain, native, initialized(plain, images, train=False), images


def relative(found, wanted):
    """Norm of the difference of two trees, relative to the second's."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    parts = [(np.sum((np.asarray(a) - b) ** 2), np.sum(np.asarray(b) ** 2)) for a, b in pairs]
    top, bottom = np.sum(parts, axis=0)
    return float(np.sqrt(top / bottom))


def trained(network, variables, images, axis_name=None):
    """Loss, new statistics and gradients of a step."""
    weights = jax.random.normal(jax.random.key(2), (network.features,))

    def loss(params):
        out, new = network.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        value = jnp.mean(jnp.tanh(out) * weights[None, :])
        return value, new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    if axis_name is not None:
        value, grads = jax.lax.pmean((value, grads), axis_name)
    return value, new, grads


@pytest.mark.parametrize("name", EVERY)
def test_parameters_start_the_same(name):
    _plain, native, variables, images = pair(name)
    other = initialized(native, images, train=False)
    assert jax.tree.structure(other) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, other, variables)


@pytest.mark.parametrize("name", EVERY)
def test_training_and_evaluation_agree(name):
    plain, native, variables, images = pair(name)
    steps = [jax.jit(lambda v, m=m: trained(m, v, images)) for m in (plain, native)]
    assert "ltjax_unit_backward" in steps[1].lower(variables).as_text()
    (loss, stats, grads), (loss2, stats2, grads2) = (step(variables) for step in steps)
    assert abs(loss - loss2) < 1e-6
    assert relative(stats2, stats) < 1e-6
    assert relative(grads2, grads) < 2e-5
    after = {**variables, **stats}
    evaluated = [jax.jit(lambda v, m=m: m.apply(v, images, train=False)) for m in (plain, native)]
    assert relative(evaluated[1](after), evaluated[0](after)) < 1e-5


def test_one_device_is_four(devices):
    _, one, variables, images = pair("resnet8_cifar")
    _, mapped, _, _ = pair("resnet8_cifar", axis_name="batch")
    loss, stats, grads = jax.jit(lambda v: trained(one, v, images))(variables)
    parts = images.reshape(4, -1, *images.shape[1:])
    step = jax.pmap(
        lambda v, x: trained(mapped, v, x, "batch"),
        axis_name="batch",
        in_axes=(None, 0),
        out_axes=None,
        devices=devices,
    )
    loss4, stats4, grads4 = step(variables, parts)
    assert abs(loss - loss4) < 1e-6
    assert relative(stats4, stats) < 1e-6
    assert relative(grads4, grads) < 2e-5


@has_tiles
@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_differs_by_rounding(name):
    network = network_of(name, "bfloat16", native=True)
    exact, _, variables, images = pair(name)
    step = jax.jit(lambda v: trained(network, v, images))
    assert "ltjax_unit_backward" in step.lower(variables).as_text()
    by_xla = jax.jit(lambda v: trained(network_of(name, "bfloat16"), v, images))
    wanted = jax.jit(lambda v: trained(exact, v, images))(variables)
    found, others = step(variables), by_xla(variables)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    for part, other, right in zip(found[1:], others[1:], wanted[1:], strict=True):
        # As far from float32 as XLA is in this dtype.
        assert relative(part, right) < max(1.2 * relative(other, right), 1e-3)
    apply = jax.jit(lambda v: network.apply(v, images, train=False))
    assert relative(apply(variables), exact.apply(variables, images, train=False)) < 0.02


@pytest.mark.skipif(load().tiles, reason="this CPU has matrix tiles (AMX)")
def test_bfloat16_is_by_xla_where_the_cpu_has_no_tiles():
    network = network_of("resnet8_cifar", "bfloat16", native=True)
    _, _, variables, images = pair("resnet8_cifar")
    apply = jax.jit(lambda v: network.apply(v, images, train=False))
    assert "ltjax_unit" not in apply.lower(variables).as_text()
