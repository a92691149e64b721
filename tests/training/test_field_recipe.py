"""configs/cifar10_lt.py and cifar100_lt.py against the code of Cao et al., restated in NumPy.

Their code is https://github.com/kaidic/LDAM-DRW: `adjust_learning_rate` and `torch.optim.SGD` over
all parameters; `_weights_init` is in tests/models/test_initialization.py, and `Normalize` in
tests/data/test_statistics.py.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.config.options import OptimizerConfig
from ltjax.training.build import build, learning_rate_of, optimizer_of

STEPS = 3  # in an epoch


def adjusted(epoch):
    """The rate of an epoch, counted from 0, as that code sets it before the epoch."""
    if epoch + 1 <= 5:
        return 0.1 * (epoch + 1) / 5
    if epoch + 1 > 180:
        return 0.1 * 0.0001
    if epoch + 1 > 160:
        return 0.1 * 0.01
    return 0.1


@pytest.fixture(params=["cifar10_lt", "cifar100_lt"])
def config(request):
    found = importlib.import_module(f"configs.{request.param}").get_config()
    found.method = "ce"
    return configs.resolve(found)


def test_learning_rate_of_every_step_of_every_epoch(config):
    assert config.train.epochs == 200
    schedule = jax.jit(learning_rate_of(config, STEPS))
    found = [float(schedule(step)) for step in range(200 * STEPS)]
    exact = np.repeat([adjusted(epoch) for epoch in range(200)], STEPS)
    np.testing.assert_allclose(found, exact, rtol=1e-6)


@pytest.mark.parametrize("steps", [88, 110, 1999])
def test_no_step_of_the_warmup_is_rounded_into_another_epoch(config, steps):
    schedule = jax.jit(jax.vmap(learning_rate_of(config, steps)))
    found = schedule(jnp.arange(6 * steps))
    exact = np.repeat([adjusted(epoch) for epoch in range(6)], steps)
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_every_step_is_that_of_sgd_on_all_parameters(config):
    """v = m v + g + w p; p = p - rate v, for kernels, biases and scales alike."""
    rng = np.random.default_rng(0)
    shapes = {"conv": {"kernel": (3, 3, 2, 4)}, "norm": {"scale": (4,), "bias": (4,)}}
    draw = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    params = jax.tree.map(draw, shapes, is_leaf=is_shape)
    optimizer = optimizer_of(config, learning_rate_of(config, STEPS))
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    momentum = jax.tree.map(np.zeros_like, exact)
    for step in range(200 * STEPS):
        grads = jax.tree.map(draw, shapes, is_leaf=is_shape)
        updates, state = update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        rate = adjusted(step // STEPS)
        momentum = jax.tree.map(
            lambda v, g, p: 0.9 * v + np.asarray(g, np.float64) + 2e-4 * p, momentum, grads, exact
        )
        exact = jax.tree.map(lambda p, v: p - rate * v, exact, momentum)  # noqa: B023
    for found, by_hand in zip(jax.tree.leaves(params), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-4)


def test_the_rest_of_the_recipe(config):
    assert config.train.batch_size == 128
    assert config.model.name == "resnet32_cifar"
    assert config.model.init == "fan_in"
    assert config.data.statistics == "cifar"
    augment = config.augment
    assert (augment.max_shift, augment.flip, augment.crop_area) == (4, True, 1.0)
    assert augment.rand_ops == augment.cutout == augment.colour_jitter == 0
    assert (config.optimizer.nesterov, config.optimizer.clip_norm) == (False, 0.0)
    assert config.data.seed == 0


def test_a_run_normalizes_by_the_constants(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    labels = np.tile([0, 1], 10)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    config = configs.default()
    config.data.name, config.data.path = "npz", str(tmp_path / "set.npz")
    config.data.profile, config.data.test_per_class = "as_is", 2
    config.data.statistics, config.method = "cifar", "ce"
    data = build(configs.resolve(config)).data
    np.testing.assert_allclose(data.mean, np.array([0.4914, 0.4822, 0.4465]) * 255, rtol=1e-6)
    np.testing.assert_allclose(data.std, np.array([0.2023, 0.1994, 0.2010]) * 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "batch", "rate", "decay", "statistics", "jitter"),
    [
        ("imagenet_lt", 512, 0.2, 5e-4, "imagenet", 0.4),
        ("places_lt", 256, 0.01, 5e-4, "imagenet", 0.4),
        ("inaturalist18", 512, 0.2, 1e-4, "inaturalist", 0.0),
    ],
)
def test_large_images_follow_the_code_of_kang_et_al(name, batch, rate, decay, statistics, jitter):
    """Its config/*/*.yaml and data/dataloader.py, except that the rate falls at every step."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.method, config.data.dir = "ce", "images"
    config = configs.resolve(config)
    optimizer, augment = config.optimizer, config.augment
    assert (config.train.batch_size, config.data.statistics) == (batch, statistics)
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.9, False)
    assert (optimizer.weight_decay, optimizer.decay) == (decay, "all")
    assert optimizer.head_rate == (10 if name == "places_lt" else 1)
    assert (augment.crop_area, augment.flip, augment.colour_jitter) == (0.08, True, jitter)
    assert (augment.max_shift, augment.rand_ops, augment.cutout) == (0, 0, 0)
    epochs, schedule = config.train.epochs, jax.jit(learning_rate_of(config, STEPS))
    found = [float(schedule(epoch * STEPS)) for epoch in range(epochs)]
    annealed = [rate * (1 + np.cos(np.pi * epoch / epochs)) / 2 for epoch in range(epochs)]
    np.testing.assert_allclose(found, annealed, rtol=1e-4, atol=1e-7)


def test_what_was_stored_without_these_keys_keeps_its_recipe(config):
    nested = config.nested()
    for section, key in (
        ("optimizer", "decay"),
        ("optimizer", "warmup"),
        ("data", "statistics"),
        ("model", "init"),
    ):
        del nested[section][key]
    old = configs.resolve(nested)
    assert (old.optimizer.decay, old.optimizer.warmup) == ("kernels", "steps")
    assert (old.data.statistics, old.model.init) == ("dataset", "fan_out")
    assert OptimizerConfig().decay == "kernels"
