"""What is frozen costs nothing and stays as it is to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from ltjax import config as configs
from ltjax.data.loader import Batch
from ltjax.errors import InputError
from ltjax.losses import LossTransform
from ltjax.models import ConvNet, make_head
from ltjax.models.classifier import Classifier
from ltjax.models.registry import ModelConfig
from ltjax.training.build import optimizer_of
from ltjax.training.inputs import AXIS, Resident
from ltjax.training.optimizer import averaging_of, features_stay, trained_part
from ltjax.training.state import hasty, init_state
from ltjax.training.step import make_train_step
from tests.helpers import CONVNET, small_config

SHAPE, DEVICES, EACH, CLASSES = (8, 8, 3), 2, 3, 4


def settings(train, **overrides):
    """A resolved configuration; `runlocal` lets it freeze random numbers."""
    return configs.resolve(
        small_config(runlocal=True, method="ce", finetune__train=train, **CONVNET, **overrides)
    )


def prepared(train, **overrides):
    """A step over two devices, with what it takes."""
    config = settings(train, **overrides)
    head = make_head(ModelConfig(head="linear"), CLASSES)
    model = Classifier(ConvNet((4, 8), axis_name=AXIS), head, None)
    optimizer, trainable = optimizer_of(config, lambda step: 0.1), trained_part(config)
    loss = LossTransform(init=lambda *_: (), apply=lambda inputs, state, *, step: inputs)
    step = make_train_step(
        model,
        loss,
        optimizer,
        embedded_weight=None,
        averaging=averaging_of(config.optimizer, 1, 1),
        trainable=trainable,
        features_stay=features_stay(config),
    )
    state = init_state(model, optimizer, jax.random.key(0), SHAPE, ema=True, trainable=trainable)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (12, *SHAPE)), jnp.uint8)
    ones = np.ones(3, np.float32)
    data = Resident(images, 128 * ones, 64 * ones, (), jax.random.key(1))
    index = np.arange(DEVICES * EACH, dtype=np.int32).reshape(DEVICES, EACH)
    flags = np.zeros(index.shape, bool)
    batch = Batch(index, index % CLASSES, index, flags, ~flags)
    mapped = jax.vmap(step, in_axes=(None, None, 0), axis_name=AXIS)
    return jax.jit(mapped, compiler_options=hasty("cpu")), (state, data, batch)


def changed(before, after):
    """Names of the layers with a changed array, outermost first, of the first device."""
    old, new = flatten_dict(before), flatten_dict(after)
    differs = [path for path in old if not np.array_equal(old[path], new[path][0])]
    return {".".join(path[1:-1]) or path[0] for path in differs}


@pytest.mark.parametrize(
    ("train", "params", "stats"),
    [
        ("last_1", "stage2_block1.conv1 stage2_block1.norm1 dense", "stage2_block1.norm1"),
        ("norm_and_bias", "stem_norm stage1_block1.norm2 dense", "stem_norm"),
        ("head", "dense", ""),
    ],
)
def test_a_step_changes_what_learns_and_its_batch_norms_alone(train, params, stats):
    step, (state, data, batch) = prepared(train, optimizer__ema_decay=0.5)
    new, _ = step(state, data, batch)
    found, moved = changed(state.params, new.params), changed(state.batch_stats, new.batch_stats)
    assert set(params.split()) <= found == changed(state.params, new.ema)
    assert set(stats.split()) <= moved <= found
    if train == "norm_and_bias":
        assert all("norm" in name for name in found - {"dense"})
        assert moved == found - {"dense"}
    else:
        assert all(name.startswith("stage2") for name in found - {"dense"})


def test_neither_optimizer_nor_gradient_know_what_is_frozen():
    """The sizes of the momentum, and the floating-point operations of a step before compiling."""
    sizes, work = {}, {}
    for train in ("all", "last_1", "head"):
        step, given = prepared(train)
        momentum = jax.tree.leaves(given[0].opt_state)
        sizes[train] = sum(leaf.size for leaf in momentum if leaf.ndim)
        work[train] = step.lower(*given).cost_analysis()["flops"]
    params = flatten_dict(given[0].params)
    of = {
        "all": params,
        "last_1": {p: v for p, v in params.items() if p[0] == "head" or "stage2_block1" in p},
        "head": {p: v for p, v in params.items() if p[0] == "head"},
    }
    assert sizes == {train: sum(v.size for v in chosen.values()) for train, chosen in of.items()}
    assert work["head"] < 0.4 * work["all"]  # forward alone, of which backward is twice the work
    assert work["head"] < work["last_1"] < 0.8 * work["all"]


def test_rates_fall_with_the_depth():
    config = settings("last_1", finetune__layer_decay=0.5, optimizer__momentum=0.0)
    optimizer = optimizer_of(config, optax.constant_schedule(0.1))
    params = {
        "backbone": {
            "stem": {"kernel": jnp.ones((2, 2))},
            "stage1_block1": {"conv1": {"kernel": jnp.ones((2, 2))}},
        },
        "head": {"dense": {"kernel": jnp.ones((2, 2))}},
    }
    zero = jax.tree.map(jnp.zeros_like, params)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(zero), zero)
    found = {path[-2]: float(update[0, 0]) for path, update in flatten_dict(updates).items()}
    assert found == pytest.approx({"stem": -0.025, "conv1": -0.05, "dense": -0.1})


def test_configurations_that_cannot_be():
    def refused(**overrides):
        with pytest.raises(InputError) as caught:
            configs.resolve(small_config(**overrides))
        return str(caught.value)

    assert "freezes a backbone that starts from random numbers" in refused(finetune__train="head")
    assert "finetune.train = 'some' is not allowed" in refused(finetune__train="some")
    assert "use random, class_means or a file" in refused(model__head_init="means")
    assert "features that are not whitened" in refused(method="cw_la", model__head_init="v.npy")
    features = {"data__name": "features", "model__hidden": (), "augment__max_shift": 0}
    assert "no backbone to train" in refused(finetune__train="head", **features)
    assert "not allowed on given features" in refused(model__head_init="class_means", **features)


def test_averages_of_frozen_networks_keep_their_statistics():
    config = settings("last_1", optimizer__ema_decay=0.9, optimizer__ema_batches=3)
    assert config.optimizer.ema_batches == 0
    assert settings("all", optimizer__ema_decay=0.9, optimizer__ema_batches=3).optimizer.ema_batches
