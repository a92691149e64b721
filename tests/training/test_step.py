"""The mapped steps: 1 device = 4 devices, replicas agree, one compilation."""

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.data.loader import pixel_statistics, train_batch
from ltjax.evaluation.predict import predict
from ltjax.training.job import build, keys
from ltjax.training.state import init_state
from ltjax.training.step import (
    Mapping,
    Resident,
    choose_devices,
    make_eval_step,
    make_freeze,
    make_train_step,
)
from tests.helpers import small_config


def train(count, steps, **overrides):
    config = configs.resolve(small_config(**overrides))
    job = build(config)
    mapping = Mapping(jax.local_devices()[:count])
    init_key, augment_key = keys(0)
    source = job.splits.train
    state = mapping.replicate(
        init_state(job.model, job.optimizer, init_key, source.images.shape[1:])
    )
    loss_state = job.loss.init(jax.numpy.asarray(job.loss_counts))
    data = mapping.replicate(
        Resident(source.images, *pixel_statistics(source), loss_state, augment_key)
    )
    step = mapping.train_step(make_train_step(job.model, job.loss, job.optimizer, max_shift=1))
    losses = []
    for i in range(steps):
        state, metrics = step(state, data, mapping.split(train_batch(job.plan, source.labels, i)))
        losses.append(float(metrics["loss"]))
    return mapping, job, state, data, step, losses


@pytest.mark.parametrize("method", ["ce", "cw_la_b3rs_bet"])
def test_one_device_equals_four(devices, method):
    *_, one, _, _, one_losses = train(1, 4, method=method)
    *_, four, _, _, four_losses = train(4, 4, method=method)
    np.testing.assert_allclose(one_losses, four_losses, rtol=2e-4)

    def close(path, a, b):
        a, b = np.asarray(a), np.asarray(b)
        scale = max(np.abs(b).max(), 1e-3)
        assert np.abs(a - b).max() / scale < 2e-3, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(close, one, four)


def test_replicas_agree_bit_for_bit(devices):
    *_, state, _, _, _ = train(4, 3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        shards = [np.asarray(s.data) for s in leaf.addressable_shards]
        assert len(shards) == 4
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0], err_msg=jax.tree_util.keystr(path))


def test_one_compilation_per_function(devices):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "jaxpr_trace" in name else None
    )
    mapping, job, state, data, step, _ = train(2, 2)
    freeze = mapping.replicated(make_freeze(job.model, job.splits.train.images.shape[1:]))
    evaluate = mapping.eval_step(make_eval_step(job.model))
    labels = job.splits.train.labels

    def run(i):
        nonlocal state
        state, _ = step(state, data, mapping.split(train_batch(job.plan, labels, i)))
        variables = freeze(state)
        predict(lambda b: evaluate(variables, data, mapping.split(b)), labels[:40], 32)

    run(2)
    compiled.clear()
    for i in range(3, 6):
        run(i)
    jax.monitoring.clear_event_listeners()
    assert compiled == []


def test_loss_falls(devices):
    *_, losses = train(2, 49, method="ce", train__epochs=7)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_too_many_devices(devices):
    assert len(choose_devices(3)) == 3
    with pytest.raises(ValueError, match="cpu_devices = 5 is more than the 4"):
        choose_devices(5)
