"""Batch statistics of averaged parameters: plain means over training batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.data.loader import train_batch
from ltjax.models import ModelConfig, make_model
from ltjax.serving.evaluate import evaluate
from ltjax.serving.load import load
from ltjax.training import recalibration
from ltjax.training.build import build
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.devices import Engine, Mapping, choose_engine
from ltjax.training.multi_seed import Seeds
from ltjax.training.run import run
from ltjax.whitening.linen import ChannelWhitening
from ltjax.whitening.options import WhiteningConfig
from tests.helpers import tiny_config

PLAIN = {
    "model__hidden": (8, 8),
    "augment__max_shift": 0,
    "augment__flip": False,
    "method": "cw_la",
}
NORMALIZING = (nn.BatchNorm, ChannelWhitening)
TOGETHER = Engine(scan=True, vmap_seeds=True, steps_per_call=1)


def averaged(count=1, *, engine=None, **overrides):
    """The seeds of a run that averages its parameters, before the first step."""
    settings = {"optimizer__ema_decay": 0.5, "optimizer__ema_batches": 3, **PLAIN} | overrides
    config = configs.resolve(tiny_config(**settings))
    engine = engine or choose_engine("cpu")
    return config, Seeds(build(config), Mapping(jax.local_devices()[:count], engine=engine))


def take_steps(seeds, first, count):
    for step in range(first, first + count):
        seeds.step(seeds.load(step, 1))


def close(found, expected, rtol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, 1e-6), found, expected)


def by_hand(config, job, params, stats, steps):
    """Moments of the inputs of each normalizing layer, in NumPy, averaged over the batches."""
    model = make_model(config.model, config.whitening, len(job.data.train.class_names))
    batches = []

    def record(call, args, kwargs, context):
        layer, x = context.module, args[0] if args else None
        if context.method_name == "__call__" and isinstance(layer, NORMALIZING):
            rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
            mean, whitens = rows.mean(0), isinstance(layer, ChannelWhitening)
            second = np.cov(rows.T, bias=True) if whitens else rows.var(0)
            name = "covariance" if whitens else "var"
            batches[-1]["/".join(layer.path)] = {"mean": mean, name: second}
        return call(*args, **kwargs)

    for step in steps:
        batches.append({})
        indices = train_batch(job.samplers[0], job.data.train.labels, step).indices
        images = job.data.train.images[indices].astype(np.float32)
        images = jnp.asarray((images - job.data.mean) / job.data.std, jnp.float32)
        with nn.intercept_methods(record):
            variables = {"params": params, "batch_stats": stats}
            model.apply(variables, images, train=True, mutable=["batch_stats"])
    return jax.tree.map(lambda *values: np.mean(values, axis=0), *batches)


def test_statistics_are_the_means_of_the_batches_moments(devices):
    config, seeds = averaged()
    take_steps(seeds, 0, 5)
    seeds.recalibrate(5)
    state = jax.device_get(seeds.state_of(0))
    expected = by_hand(config, seeds.job, state.ema, state.batch_stats, range(2, 5))
    assert len(expected) > 2
    assert "whitening" in expected
    for path, moments in expected.items():
        found = state.ema_stats
        for name in path.split("/"):
            found = found[name]
        for name, value in moments.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5 * scale)
    raw = state.batch_stats["whitening"]
    assert not np.allclose(state.ema_stats["whitening"]["covariance"], raw["covariance"], rtol=0.01)
    assert state.ema_stats["whitening"]["weight"] == raw["weight"]
    ridge = pytest.approx(config.whitening.shrinkage, rel=1e-6)
    assert [stats["shrinkage"] for stats in (state.ema_stats["whitening"], raw)] == [ridge, ridge]
    assert state.variables == {"params": state.ema, "batch_stats": state.ema_stats}


def test_one_device_equals_four_and_only_the_statistics_change(devices):
    found = []
    for count in (1, 4):
        _, seeds = averaged(count, augment__max_shift=2, train__mixing="mixup")
        before = jax.device_get(seeds.state_of(0))
        seeds.recalibrate(0)
        after = jax.device_get(seeds.state_of(0))
        unchanged = after._replace(ema_stats=before.ema_stats)
        jax.tree.map(np.testing.assert_array_equal, unchanged, before)
        found.append(after.ema_stats)
    close(*found)


SEEN = {
    "regmixup": {"train__mixing": "mixup", "train__regmixup": True},
    "two views": {"loss__contrastive": 0.5, "whitening__shrinkage": "auto"},
}


@pytest.mark.parametrize("case", SEEN)
def test_it_sees_what_the_training_sees(devices, case):
    """At a rate of almost 0 the running statistics, of any momentum, go to the measured ones."""
    still = {"optimizer__learning_rate": 1e-12, "optimizer__ema_batches": 40}
    _, seeds = averaged(augment__max_shift=2, train__epochs=20, **still, **SEEN[case])
    take_steps(seeds, 0, 60)
    seeds.recalibrate(60)
    state = jax.device_get(seeds.state_of(0))
    own, measured = state.batch_stats["whitening"], state.ema_stats["whitening"]
    chosen = SEEN[case].get("whitening__shrinkage") == "auto"
    for name in ("covariance", *(["shrinkage"] * chosen)):
        scale = np.abs(measured[name]).max()
        assert np.abs(own[name] - measured[name]).max() < 0.05 * scale, name


def test_recalibrating_on_the_way_changes_no_later_bit(devices):
    _, one = averaged()
    _, other = averaged()
    take_steps(one, 0, 3)
    one.recalibrate(3)
    take_steps(one, 3, 1)
    take_steps(other, 0, 4)
    for seeds in (one, other):
        seeds.recalibrate(4)
    jax.tree.map(np.testing.assert_array_equal, *(seeds.stacked() for seeds in (one, other)))


@pytest.mark.slow
def test_an_average_that_is_the_parameters(devices):
    """Its statistics are those of the parameters, and recalibrating leaves these as they are."""
    config, seeds = averaged()
    take_steps(seeds, 0, 3)
    state = seeds.state_of(0)
    copy = jax.tree.map(jnp.copy, state.params)
    seeds.take_over([state._replace(ema=copy)])
    seeds.recalibrate(3)
    after = jax.device_get(seeds.state_of(0))
    jax.tree.map(np.testing.assert_array_equal, after.params, after.variables["params"])
    expected = by_hand(config, seeds.job, after.params, after.batch_stats, range(3))
    covariance = expected["whitening"]["covariance"]
    scale = np.abs(covariance).max()
    found = after.ema_stats["whitening"]["covariance"]
    np.testing.assert_allclose(found, covariance, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("changes", [{"ema_decay": 0.0}, {"ema_batches": 0}])
def test_nothing_is_kept_where_nothing_is_asked_for(devices, changes):
    _, seeds = averaged(**{f"optimizer__{key}": value for key, value in changes.items()})
    seeds.recalibrate(0)
    state = seeds.state_of(0)
    assert state.ema_stats == ()
    assert state.variables["batch_stats"] is state.batch_stats


def test_a_stored_configuration_without_the_key_goes_on_without():
    flat = configs.resolve(tiny_config(optimizer__ema_decay=0.5)).flat()
    assert flat.pop("optimizer.ema_batches") is None
    assert configs.resolve(flat).optimizer.ema_batches == 0


def test_a_run_is_evaluated_stored_and_served_with_them(devices, tmp_path):
    settings = PLAIN | {"train__epochs": 1, "optimizer__ema_decay": 0.5}
    result = run(tiny_config(**settings), tmp_path / "run").result
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", keep=1)
    trained = load(tmp_path / "run")
    _, seeds = averaged(optimizer__ema_batches=None, train__epochs=1)
    stored = checkpoints.restore(7, seeds.stacked()).state
    checkpoints.close()
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b[0]),
        trained.variables["batch_stats"],
        jax.device_get(stored.ema_stats),
    )
    assert evaluate(tmp_path / "run")["test"] == result["test"]


@pytest.mark.slow
def test_a_second_stage_goes_on_from_them(devices, tmp_path):
    settings = PLAIN | {"train__epochs": 1, "optimizer__ema_decay": 0.5}
    run(tiny_config(**settings), tmp_path / "one")
    second = {"stage": "crt", "init_from": str(tmp_path / "one")}
    run(tiny_config(**settings, **second), tmp_path / "two")
    one, two = (load(tmp_path / name).variables["batch_stats"] for name in ("one", "two"))
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.slow
def test_seeds_in_one_program_and_streamed_images(devices):
    found = []
    for changes in ({}, {"engine": TOGETHER}, {"data__residency": "streamed"}):
        _, seeds = averaged(2, seeds=(3, 5), data__seed=0, **changes)
        take_steps(seeds, 0, 2)
        seeds.recalibrate(2)
        found.append(jax.device_get(seeds.stacked()).ema_stats)
        seeds.close()
    for other in found[1:]:
        close(other, found[0], 1e-3)


def test_batch_norms_are_measured_with_the_momentum_of_their_network():
    stats = {"block": {"norm": {"mean": jnp.array([0.2]), "var": jnp.array([0.5])}}}
    for name, momentum in (("resnet8_cifar", 0.9), ("efficientnet_lite0", 0.99)):
        model = make_model(ModelConfig(name=name, head="linear"), WhiteningConfig(method="none"), 3)
        assert recalibration._momentum(model, "backbone") == momentum
        found = recalibration._of_batch(stats, momentum)["block"]["norm"]
        np.testing.assert_allclose(found["mean"], 0.2 / (1 - momentum), rtol=1e-6)
        np.testing.assert_allclose(found["var"], 0.5 / (1 - momentum), rtol=1e-6)
