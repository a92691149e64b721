"""Schedules at their corners; decay on kernels only; SAM by numbers of its published code."""

from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.config.options import OptimizerConfig
from ltjax.data.loader import Batch
from ltjax.losses import identity
from ltjax.models import Classifier
from ltjax.models.heads import LinearHead
from ltjax.models.mlp import MLP
from ltjax.training.inputs import AXIS, Resident
from ltjax.training.optimizer import (
    ascended,
    averaging_of,
    decay_mask,
    learning_rate_schedule,
    make_optimizer,
)
from ltjax.training.state import init_state
from ltjax.training.step import make_train_step


def test_warmup_then_cosine():
    schedule = learning_rate_schedule(
        name="cosine", learning_rate=0.4, warmup_steps=10, total_steps=110
    )
    values = [float(schedule(i)) for i in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(values, [0, 0.2, 0.4, 0.2, 0], atol=1e-6)


def test_cosine_starts_again_after_each_cycle():
    schedule = learning_rate_schedule(
        name="cosine", learning_rate=0.4, warmup_steps=10, total_steps=110, cycles=2
    )
    values = [float(schedule(i)) for i in (5, 10, 35, 59, 60, 85, 110)]
    last = 0.2 * (1 + np.cos(np.pi * 49 / 50))
    np.testing.assert_allclose(values, [0.2, 0.4, 0.2, last, 0.4, 0.2, 0], atol=1e-6)


def test_swa_averages_the_ends_of_the_last_epochs():
    values = np.random.default_rng(0).normal(size=12)  # of a parameter after each step
    rate = averaging_of(OptimizerConfig(swa_epochs=3), steps_per_epoch=2, epochs=6)
    average = 0.0
    for step, value in enumerate(values):
        weight = float(rate(jnp.asarray(step)))
        average = weight * value + (1 - weight) * average
        if step < 8:  # until the first end the average is the parameter itself
            assert average == value
    np.testing.assert_allclose(average, values[[7, 9, 11]].mean(), rtol=1e-6)
    always = averaging_of(OptimizerConfig(swa_epochs=9), steps_per_epoch=2, epochs=2)
    assert [float(always(step)) for step in range(4)] == [1, 1, 0, 0.5]
    assert averaging_of(OptimizerConfig(), steps_per_epoch=2, epochs=2) is None


def test_sam_ascends_by_its_radius():
    rng = np.random.default_rng(1)
    w, g = ({"a": rng.normal(size=3), "b": rng.normal(size=(2, 2))} for _ in range(2))
    to_jax = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)  # noqa: E731
    found = ascended(to_jax(w), to_jax(g), 0.05)
    norm = np.sqrt(sum((x**2).sum() for x in g.values()))
    jax.tree.map(
        lambda new, old, slope: np.testing.assert_allclose(
            new, old + 0.05 * slope / norm, rtol=1e-5
        ),
        found,
        w,
        g,
    )
    still = ascended(to_jax(w), jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), g), 0.05)
    jax.tree.map(np.testing.assert_array_equal, still, to_jax(w))


# Parameters by their names in PyTorch; it keeps the transposes of kernels.
TORCH = {
    "0.weight": ("backbone", "dense1", "kernel"),
    "1.weight": ("backbone", "norm1", "scale"),
    "1.bias": ("backbone", "norm1", "bias"),
    "3.weight": ("head", "dense", "kernel"),
    "3.bias": ("head", "dense", "bias"),
}


def of_torch(golden, step):
    arrays = {path: golden[f"{step}/{name}"].T for name, path in TORCH.items()}
    return flax.traverse_util.unflatten_dict(arrays)


def test_sam_by_numbers_of_the_published_code():
    golden = np.load(Path(__file__).parent / "golden" / "sam.npz")
    optimizer = make_optimizer(
        optax.constant_schedule(float(golden["rate"])),
        name="sgd",
        momentum=float(golden["momentum"]),
        nesterov=False,
        weight_decay=float(golden["weight_decay"]),
        decay="all",
        clip_norm=0.0,
    )
    model = Classifier(MLP((5,), AXIS), LinearHead(4))
    rho = float(golden["rho"])
    step = make_train_step(model, identity(), optimizer, embedded_weight=None, sam_rho=rho)
    # A batch on two devices is one batch.
    taken = jax.jit(jax.vmap(step, (None, None, 0), axis_size=2, axis_name=AXIS))
    state = init_state(model, optimizer, jax.random.key(0), (6,))
    state = state._replace(params=of_torch(golden, 0))
    data = Resident(golden["images"], np.zeros(6), np.ones(6), ((),), jax.random.key(0))
    none = np.zeros((2, 4), bool)
    for number, rows in enumerate(golden["batches"].astype(np.int32).reshape(4, 2, 4), 1):
        labels = golden["labels"].astype(np.int32)[rows]
        both, _ = taken(state, data, Batch(rows, labels, rows, none, ~none))
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[0], both)
        jax.tree.map(
            lambda found, wanted: np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6),
            state.params,
            of_torch(golden, number),
        )


def test_warmup_then_steps_down():
    schedule = learning_rate_schedule(
        name="steps",
        learning_rate=0.1,
        warmup_steps=10,
        total_steps=200,
        milestones=[160, 180],
        milestone_factor=0.01,
    )
    values = [float(schedule(i)) for i in (5, 10, 159, 160, 179, 180, 199)]
    np.testing.assert_allclose(values, [0.05, 0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5], rtol=1e-5)


def test_constant_without_warmup():
    schedule = learning_rate_schedule(
        name="constant", learning_rate=0.4, warmup_steps=0, total_steps=10
    )
    assert float(schedule(0)) == float(schedule(9)) == np.float32(0.4)


PARAMS = {
    "dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.ones(2)},
}


def test_decay_mask():
    assert decay_mask(PARAMS) == {
        "dense": {"kernel": True, "bias": False},
        "norm": {"scale": False},
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decay_without_gradient_moves_kernels_only(name):
    optimizer = make_optimizer(
        learning_rate_schedule(name="constant", learning_rate=0.1, warmup_steps=0, total_steps=1),
        name=name,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.01,
        clip_norm=0.0,
    )
    zeros = optax.tree.zeros_like(PARAMS)
    # optax's adam divides a float by an integer count, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(zeros, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["dense"]["kernel"], -0.001, rtol=1e-5)
    np.testing.assert_array_equal(updates["dense"]["bias"], 0)
    np.testing.assert_array_equal(updates["norm"]["scale"], 0)


def test_clipping():
    optimizer = make_optimizer(
        learning_rate_schedule(name="constant", learning_rate=1.0, warmup_steps=0, total_steps=1),
        name="sgd",
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        clip_norm=0.5,
    )
    grads = {"kernel": jnp.full((2, 2), 10.0)}
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"optimizer.schedule = 'x'"):
        learning_rate_schedule(name="x", learning_rate=1.0, warmup_steps=0, total_steps=1)
    with pytest.raises(ValueError, match=r"optimizer.name = 'x'"):
        make_optimizer(
            optax.constant_schedule(1.0),
            name="x",
            momentum=0.0,
            nesterov=False,
            weight_decay=0.0,
            clip_norm=0.0,
        )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_head_rate_scales_the_heads_updates_alone(name):
    params = {"backbone": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 3))}}
    grads = jax.tree.map(lambda p: 0.3 * p, params)
    settings = {"name": name, "momentum": 0.9, "nesterov": False, "weight_decay": 0.1}
    updates = []
    for rate in (1.0, 0.25):
        optimizer = make_optimizer(
            optax.constant_schedule(0.1), clip_norm=0.0, head_rate=rate, **settings
        )
        with jax.numpy_dtype_promotion("standard"):  # optax's adamw counts in integers
            updates.append(optimizer.update(grads, optimizer.init(params), params)[0])
    plain, scaled = updates
    np.testing.assert_array_equal(scaled["backbone"]["kernel"], plain["backbone"]["kernel"])
    np.testing.assert_allclose(scaled["head"]["kernel"], 0.25 * plain["head"]["kernel"])
