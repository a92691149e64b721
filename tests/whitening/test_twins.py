"""The Linen and the NNX layer: the same arguments, the same numbers to the bit."""

import dataclasses
import inspect
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from flax import nnx as flax_nnx
from jax.sharding import Mesh, PartitionSpec

from ltjax.errors import InputError
from ltjax.whitening import WHITENINGS, linen, nnx
from ltjax.whitening.methods import MATRICES
from tests.whitening.reference import features, weights_for

CASES = {
    **{f"{method} in groups": {"method": method, "groups": 2} for method in WHITENINGS},
    "wide": {"groups": 1},
    "memory": {"memory": 0.5, "momentum": 0.7},
    "memory of variances": {"memory": 0.5, "method": "batch_norm", "groups": 2},
    "statistics every other step": {"stats_every": 2, "shrinkage": "oas"},
    "variances every other step": {"stats_every": 2, "method": "batch_norm", "groups": 4},
    "everything": {"stats_every": 3, "memory": 0.3, "groups": 2, "shrinkage": "ledoit_wolf"},
    "auto": {"shrinkage": "auto"},
    "fixed steps": {"method": "newton_schulz", "steps": 4},
    "half precision": {"dtype": jnp.bfloat16},
    "none": {"method": "none"},
}


def linen_step(layer):
    """A training step and an evaluation of the Linen layer, as functions of its statistics."""

    def train(stats, x, mask=None):
        out, updates = layer.apply(
            {"batch_stats": stats}, x, False, mask=mask, mutable=["batch_stats"]
        )
        return out, updates.get("batch_stats", {})

    return train, lambda stats, x: layer.apply({"batch_stats": stats}, x, True)


def nnx_step(layer):
    """The same of the NNX layer."""
    graph, state = flax_nnx.split(layer)

    def merged(stats):
        pure = {**flax_nnx.to_pure_dict(state), "batch_stats": stats}
        new = flax_nnx.clone(state)
        flax_nnx.replace_by_pure_dict(new, pure)
        return flax_nnx.merge(graph, new)

    def train(stats, x, mask=None):
        module = merged(stats)
        out = module(x, use_running_average=False, mask=mask)
        return out, {name: stat[...] for name, stat in module.batch_stats.items()}

    return train, lambda stats, x: merged(stats)(x, use_running_average=True)


def both(size, **options):
    """Steps of either layer, and the statistics that both start from."""
    layer = linen.ChannelWhitening(**options)
    module = nnx.ChannelWhitening(size, **options)
    started = layer.clone(axis_name=None).init(jax.random.key(0), jnp.ones((2, size)), True)
    ours = started.get("batch_stats", {})
    theirs = {name: stat[...] for name, stat in module.batch_stats.items()}
    chex.assert_trees_all_equal(dict(ours), theirs)
    return linen_step(layer), nnx_step(module), theirs


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def assert_steps_are_the_same(one, other, stats, batches, wrap):
    """Several steps and an evaluation after each, by both layers."""
    wrapped = [[wrap(function) for function in pair] for pair in (one, other)]
    states = [stats, stats]
    for x in batches:
        outs, states = zip(
            *[train(state, x) for (train, _), state in zip(wrapped, states, strict=True)],
            strict=True,
        )
        assert_same(*outs)
        assert_same(*states)
        assert_same(*[ev(state, x) for (_, ev), state in zip(wrapped, states, strict=True)])
    return states[0]


def batches(count, n=12, d=8):
    return [jnp.asarray(features(n, d, seed=s)) * (1.0 + s) for s in range(count)]


@pytest.mark.parametrize("name", CASES)
def test_steps_and_evaluation_under_jit(name):
    one, other, stats = both(8, **CASES[name])
    shape = {"n": 6} if name == "wide" else {}
    last = assert_steps_are_the_same(one, other, stats, batches(4, **shape), jax.jit)
    if name != "none":
        assert float(jnp.abs(last["covariance"] - stats["covariance"]).max()) > 0.1


@pytest.mark.parametrize("name", ["cholesky in groups", "everything"])
def test_gradients_and_masks(name):
    one, other, stats = both(8, **CASES[name])
    (x,) = batches(1)
    weights, mask = jnp.asarray(weights_for(x)), jnp.arange(12) < 9

    def pull(train):
        def loss(x, stats):
            z, new = train(stats, x, mask)
            return jnp.sum(jnp.tanh(z) * weights), (z, new)

        return jax.jit(jax.value_and_grad(loss, has_aux=True))

    first, second = pull(one[0])(x, stats), pull(other[0])(x, stats)
    assert_same(first, second)
    assert np.isfinite(first[1]).all()
    np.testing.assert_array_equal(first[1][9:], 0)


class Variants(chex.TestCase):
    """Op by op, compiled, and mapped over devices that hold the same batch."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @parameterized.parameters("zca in groups", "statistics every other step")
    def test_steps(self, name):
        one, other, stats = both(8, **CASES[name])
        assert_steps_are_the_same(one, other, stats, batches(2), self.variant)


@pytest.mark.parametrize("mapping", ["pmap", "shard_map"])
@pytest.mark.parametrize("name", ["wide", "everything"])
def test_over_devices(devices, mapping, name):
    one, other, stats = both(8, axis_name="d", **CASES[name])
    alone, _, _ = both(8, **CASES[name])
    mesh, rows, whole = Mesh(np.array(devices), ("d",)), PartitionSpec("d"), PartitionSpec()

    def spread(train):
        if mapping == "pmap":
            mapped = jax.pmap(train, axis_name="d", in_axes=(None, 0), out_axes=(0, None))

            def run(stats, x):
                z, new = mapped(stats, x.reshape(4, -1, 8))
                return z.reshape(x.shape), new

            return run
        return jax.jit(
            jax.shard_map(train, mesh=mesh, in_specs=(whole, rows), out_specs=(rows, whole))
        )

    (x,) = batches(1, n=4 if name == "wide" else 24)
    results = [spread(train)(stats, x) for train, _ in (one, other)]
    assert_same(*results)
    single = jax.jit(alone[0])(stats, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), results[0], single)


def standardized(module, *size):
    first = module.ChannelWhitening(*size, method="batch_norm", shrinkage=1e-3)
    return module.StandardizedWhitening(first, module.ChannelWhitening(*size))


def test_standardized():
    layer, module = standardized(linen), standardized(nnx, 8)
    variables = layer.init(jax.random.key(0), jnp.ones((2, 8)), True)
    step = jax.jit(lambda v, x: layer.apply(v, x, False, mutable=["batch_stats"]))
    go = flax_nnx.jit(lambda module, x: module(x))
    for x in batches(3):
        out, variables = step(variables, x)
        np.testing.assert_array_equal(go(module, x), out)
    module.eval()
    evaluate = jax.jit(lambda v, x: layer.apply(v, x, True))
    np.testing.assert_array_equal(go(module, x), evaluate(variables, x))
    linear = flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0))
    folded = nnx.fold_into_linear(module, linear)
    np.testing.assert_allclose(folded(x), linear(module(x)), atol=1e-4)
    with pytest.raises(InputError, match="groups"):
        nnx.StandardizedWhitening(module.standardize, nnx.ChannelWhitening(8, groups=3))


def test_arguments_are_the_same():
    theirs = inspect.signature(nnx.ChannelWhitening.__init__).parameters
    ours = {f.name: f for f in dataclasses.fields(linen.ChannelWhitening)}
    own = set(theirs) - set(ours)
    assert own == {"self", "num_features", "rngs"}
    assert set(ours) - set(theirs) == {"parent", "name"}
    for name in set(ours) & set(theirs) - {"use_running_average"}:
        assert ours[name].default == theirs[name].default, name


def test_train_and_eval_are_those_of_batch_norm():
    """Of a network with both, set by its own `train` and `eval`."""
    rngs = flax_nnx.Rngs(0)
    norm = flax_nnx.BatchNorm(8, rngs=rngs)
    net = flax_nnx.Sequential(norm, nnx.ChannelWhitening(8, rngs=rngs))
    layer = net.layers[1]
    assert layer.use_running_average is norm.use_running_average is False
    (x,) = batches(1)
    trained = net(x)
    net.eval()
    assert layer.use_running_average is norm.use_running_average is True
    before = flax_nnx.to_pure_dict(flax_nnx.state(net))
    assert float(jnp.abs(net(x) - trained).max()) > 1e-3
    assert_same(flax_nnx.to_pure_dict(flax_nnx.state(net)), before)
    net.train()
    assert layer.use_running_average is False
    unset = nnx.ChannelWhitening(8, use_running_average=None)
    with pytest.raises(ValueError, match="use_running_average"):
        unset(x)


@pytest.mark.parametrize("options", [{}, {"method": "batch_norm", "groups": 2}, {"method": "none"}])
def test_freeze_and_fold(options):
    first, second = batches(2)
    module = nnx.ChannelWhitening(8, **options)
    module(first)
    module.eval()
    expected = module(first)
    frozen = nnx.freeze(module)
    np.testing.assert_array_equal(frozen(first), expected)
    linear = flax_nnx.Linear(8, 3, use_bias=False, rngs=flax_nnx.Rngs(0))
    folded = nnx.fold_into_linear(module, linear)
    np.testing.assert_allclose(folded(first), linear(expected), atol=1e-4)
    if module.method == "none":
        return
    with pytest.raises(InputError, match="frozen layer does not train"):
        frozen(second, use_running_average=False)
    # The original trains on; its copy stays as it was until it is frozen anew.
    module(second, use_running_average=False)
    np.testing.assert_array_equal(frozen(first), expected)
    assert float(jnp.abs(module(first) - expected).max()) > 0.1
    np.testing.assert_array_equal(nnx.freeze(module)(first), module(first))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shrinkage": 0.0}, "shrinkage = 0.0 is not allowed"),
        ({"memory": 0.5, "method": "zca_svd"}, "memory = 0.5 .* 0 with zca_svd"),
        ({"groups": 3}, "groups = 3 is not allowed; use a divisor of the 8 channels"),
        ({"stats_every": 0}, "stats_every = 0"),
    ],
    ids=str,
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        nnx.ChannelWhitening(8, **options)


def test_bad_shape():
    with pytest.raises(InputError, match=r"shape of the features = \(3, 5\) .* use \[N, 8\]"):
        nnx.ChannelWhitening(8)(jnp.ones((3, 5)))


def test_every_method_has_its_matrix():
    assert set(MATRICES) == set(WHITENINGS)


@pytest.mark.slow
def test_functions_do_without_flax():
    code = "import sys, ltjax.whitening; sys.exit('flax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
