"""Every step lowers for GPUs and TPUs that are not there, on 8 devices and on 64.

Lowering goes as far as StableHLO; experiments/accelerator compiles the same steps.
"""

import importlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from experiments.accelerator.steps import Abstract, Call, calls, job_of, lowered
from ltjax import config as configs
from ltjax.config.recipes import METHODS, STAGES
from ltjax.losses import batch_loss, bet_weights, loss_inputs
from ltjax.serving.load import Trained, features_function, folded_function, logits_function
from ltjax.training.inputs import AXIS
from ltjax.whitening import whiten, whitening_matrix
from ltjax.whitening.methods import DIAGONAL, TPU_JACOBI, WHITENINGS
from tests.helpers import tiny_config

# Custom calls that XLA's own backends define. A Python callback or a native kernel of ltjax is none
# of them.
OF_PLATFORM = {
    "cuda": {"cusolver_syevd_ffi", "cusolver_gesvdj_ffi", "cusolver_potrf_ffi"},
    "tpu": {"Eigh", "Qr", "ProductOfElementaryHouseholderReflectors"},
}
PLACES = (("cuda", 8), ("tpu", 64))


def mapping(platform, count):
    return Abstract(count, "tpu" if platform == "tpu" else "gpu")


def check(found, platform):
    assert found.doubles == 0
    assert found.calls <= OF_PLATFORM[platform], found.calls


def check_everywhere(make, most):
    """Checks what `make(platform, devices)` gives; most collectives, the same number everywhere."""
    numbers = set()
    for platform, count in PLACES:
        (found,) = lowered(make(platform, count), platform)
        check(found, platform)
        numbers.add(found.collectives)
    assert len(numbers) == 1, numbers
    assert 0 < numbers.pop() <= most


def mapped(function, *shapes):
    """A function of arrays that are split over the devices."""

    def make(platform, count):
        place = mapping(platform, count)
        local = jax.shard_map(
            function,
            mesh=place._mesh,
            in_specs=PartitionSpec(AXIS),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
        return Call(jax.jit(local), shapes)

    return make


def rows(count, size, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((count, size), dtype)


@pytest.mark.parametrize("name", ["train", "evaluate", "freeze", "recalibrate"])
def test_a_small_run(name):
    config = tiny_config(method="cw_la_b3rs_bet", optimizer__ema_decay=0.9, seeds=(0,))
    job = job_of(configs.resolve(config), largest=20)
    numbers = []
    for platform, count in PLACES:
        call = calls(job, mapping(platform, count), steps=3)[name]
        (found,) = lowered(call, platform)
        check(found, platform)
        numbers.append(found.collectives)
    # Gathered: logits, features, whitened features; nothing where all devices do the same.
    most = {"train": 25, "evaluate": 3, "freeze": 0, "recalibrate": 10}[name]
    assert numbers[0] == numbers[1] <= most


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"one"}))
def test_second_stages(stage):
    config = tiny_config(method="cw", stage=stage, init_from="one")
    job = job_of(configs.resolve(config), largest=20)
    found = calls(job, mapping("tpu", 64))
    for name in ("train", "evaluate") if job.total_steps else ("evaluate",):
        for platform, one in zip(("tpu", "cuda"), lowered(found[name], "tpu", "cuda"), strict=True):
            check(one, platform)
            # The backbone's statistics are not updated: gradients alone are averaged.
            assert one.collectives <= 8


@pytest.mark.slow
def test_losses():
    """The value and the gradient of every method's loss, in one program."""
    jobs = [
        job_of(configs.resolve(tiny_config(method=method)), largest=20)
        for method in METHODS
        if METHODS[method]["train.mixing"] == "none"
    ]

    def every(logits, labels, embedded):
        flags = embedded[:, 0]

        def one(job):
            state = job.losses[0].init(*map(jnp.asarray, job.classes[0]))

            def value(logits):
                inputs, step = loss_inputs(logits, labels[:, 0]), jnp.zeros((), jnp.int32)
                weight = job.embedded_weight
                bet = None if weight is None else bet_weights(flags, weight, axis_name=AXIS)
                return batch_loss(job.losses[0], inputs, state, step=step, bet=bet, axis_name=AXIS)

            return jax.lax.pmean(jax.grad(value)(logits), AXIS)

        return [one(job) for job in jobs]

    shapes = rows(128, 10), rows(128, 1, jnp.int32), rows(128, 1, jnp.bool_)
    check_everywhere(mapped(every, *shapes), 3 * len(jobs))


@pytest.mark.slow
def test_mixing():
    job = job_of(configs.resolve(tiny_config(method="remix")), largest=20)
    check_everywhere(lambda *place: calls(job, mapping(*place))["train"], 25)


@pytest.mark.slow
def test_whitening_methods():
    """Forward and backward, more rows than channels and fewer, with groups and estimates."""
    cases = [{"method": method, "shrinkage": 0.1} for method in WHITENINGS]
    cases += [{"shrinkage": rule} for rule in ("auto", "ledoit_wolf", "oas")]
    cases += [{"method": m, "groups": 2, "shrinkage": 0.1} for m in ("zca", *DIAGONAL)]

    def every(few, many):
        return [
            jax.grad(lambda x, case=case: jnp.sum(whiten(x, axis_name=AXIS, **case) ** 3))(x)
            for case in cases
            for x in (few, many)
        ]

    check_everywhere(mapped(every, rows(64, 8), rows(64, 80)), 20 * len(cases))


def test_large_roots_are_products_on_tpu():
    def loss(x):
        return jnp.sum(jnp.tanh(whiten(x))) + jnp.sum(whitening_matrix(x.T @ x))

    def decomposes(rows, size, platform):
        x = jax.ShapeDtypeStruct((rows, size), jnp.float32)
        text = jax.jit(jax.grad(loss)).trace(x).lower(lowering_platforms=(platform,)).as_text()
        return any(name in text for name in ("Eigh", "qdwh", "syevd"))

    large = TPU_JACOBI + 1
    assert decomposes(2 * large, large - 1, "tpu")
    assert not decomposes(2 * large, large, "tpu")
    assert decomposes(2 * large, large, "cuda")
    assert decomposes(2 * large, large, "cpu")


def test_serving():
    """A network that is folded, not folded, and its features, on one device."""
    job = job_of(configs.resolve(tiny_config(method="cw_la")), largest=20)
    call = calls(job, mapping("tpu", 1))["freeze"]
    variables = jax.eval_shape(call.function, *call.arguments)
    dataset = {"mean": [0.0], "std": [1.0]}
    config = SimpleNamespace(model=SimpleNamespace(head="linear"))
    run = SimpleNamespace(dataset=dataset, config=config)

    def served(variables, images):
        trained = Trained(run, job.model, variables, 1.0)
        functions = logits_function, features_function
        folded, done = folded_function(trained)
        assert done
        return [make(trained)(images) for make in functions], folded(images)

    images = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.uint8)
    for platform, one in zip(
        ("tpu", "cuda"),
        lowered(Call(jax.jit(served), (variables, images)), "tpu", "cuda"),
        strict=True,
    ):
        check(one, platform)
        assert one.collectives == 0


# The field's recipes; a collective for every batch norm, twice, forward and backward.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "most"), [("digits_lt", 60), ("cifar10_lt", 180), ("imagenet_lt", 300)]
)
def test_recipes(recipe, most):
    config = importlib.import_module(f"ltjax.configs.{recipe}").get_config()
    config.engine.native = "off"
    job = job_of(configs.resolve(config), largest=20)
    call = calls(job, mapping("tpu", 64))["train"]
    for platform, one in zip(("tpu", "cuda"), lowered(call, "tpu", "cuda"), strict=True):
        check(one, platform)
        assert 0 < one.collectives <= most
