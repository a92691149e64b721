"""The mapped steps: 1 device = 4 devices, replicas agree, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.evaluation.scores import scores, tally
from ltjax.training.build import build
from ltjax.training.devices import Engine, Mapping, choose_devices, choose_engine
from ltjax.training.multi_seed import Seeds
from ltjax.training.optimizer import ascended
from tests.helpers import small_config

ON_CPU = choose_engine("cpu")


def train(count, steps, *, block=1, backend="pmap", engine=ON_CPU, **overrides):
    """Trains so many steps on so many devices; the seeds' runner and losses `[steps, seeds]`."""
    config = configs.resolve(small_config(**overrides))
    mapping = Mapping(jax.local_devices()[:count], backend=backend, engine=engine)
    seeds = Seeds(build(config), mapping)
    window = [seeds.step(seeds.load(i, block)) for i in range(0, steps, block)]
    return seeds, seeds.gather_metrics(window)["loss"] if window else None


def assert_close(one, other, tolerance=2e-3):
    """Every array of two states agrees, relative to its largest value."""

    def close(path, a, b):
        a, b = np.asarray(a), np.asarray(b)
        scale = max(np.abs(b).max(), 1e-3)
        assert np.abs(a - b).max() / scale < tolerance, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(close, one, other)


@pytest.mark.parametrize("method", ["ce", "cw_la_b3rs_bet"])
def test_one_device_equals_four(devices, method):
    one, one_losses = train(1, 4, method=method)
    four, four_losses = train(4, 4, method=method)
    np.testing.assert_allclose(one_losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())


@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_replicas_agree_bit_for_bit(devices, backend):
    seeds, _ = train(4, 3, backend=backend)
    for path, leaf in jax.tree_util.tree_leaves_with_path(seeds.states):
        shards = [np.asarray(s.data) for s in leaf.addressable_shards]
        assert len(shards) == 4
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0], err_msg=jax.tree_util.keystr(path))


def on_test(seeds, index):
    """Outputs of one seed's state on the test set."""
    return seeds.outputs(seeds.job.data.test, seeds.state_of(index))


@pytest.mark.slow
def test_shard_map_equals_pmap(devices):
    one, one_losses = train(2, 3)
    other, other_losses = train(2, 3, backend="shard_map")
    np.testing.assert_allclose(one_losses, other_losses, rtol=1e-5)
    assert_close(one.stacked(), other.stacked(), 1e-4)
    np.testing.assert_allclose(
        on_test(one, 0).logits, on_test(other, 0).logits, rtol=1e-3, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_fused_steps_equal_single_ones(devices, scan):
    single, single_losses = train(2, 4)
    fused, fused_losses = train(2, 4, block=2, engine=Engine(scan, False, 2))
    np.testing.assert_allclose(single_losses, fused_losses, rtol=1e-4)
    assert_close(single.stacked(), fused.stacked())


@pytest.mark.slow
def test_seeds_in_one_program_equal_one_after_another(devices):
    serial, serial_losses = train(2, 3, seeds=(4, 7))
    together, together_losses = train(2, 3, seeds=(4, 7), engine=Engine(True, True, 1))
    assert serial_losses.shape == (3, 2)
    assert (serial_losses[:, 0] != serial_losses[:, 1]).all()
    np.testing.assert_allclose(serial_losses, together_losses, rtol=1e-4)
    assert_close(serial.stacked(), together.stacked())
    for index in range(2):
        np.testing.assert_allclose(
            on_test(serial, index).logits, on_test(together, index).logits, atol=2e-3
        )


@pytest.mark.slow
def test_a_seed_beside_others_is_that_seed_alone(devices):
    alone, alone_losses = train(2, 3, seeds=(7,), data__seed=0)
    both, both_losses = train(2, 3, seeds=(4, 7), data__seed=0)
    np.testing.assert_array_equal(alone_losses[:, 0], both_losses[:, 1])
    jax.tree.map(np.testing.assert_array_equal, alone.state_of(0), both.state_of(1))


def test_one_compilation_per_function(devices):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "jaxpr_trace" in name else None
    )
    seeds, _ = train(2, 2)
    on_test(seeds, 0)
    compiled.clear()
    for i in range(2, 5):
        seeds.step(seeds.load(i, 1))
        on_test(seeds, 0)
    jax.monitoring.clear_event_listeners()
    assert compiled == []


@pytest.mark.slow
def test_loss_falls(devices):
    _, losses = train(2, 49, method="ce", train__epochs=7)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.slow
def test_average_of_parameters(devices):
    decay = 0.75
    seeds, _ = train(2, 0, optimizer__ema_decay=decay, optimizer__warmup_epochs=0)
    start = jax.tree.map(np.asarray, seeds.states[0].params)
    seeds.step(seeds.load(0, 1))
    state = seeds.states[0]
    expected = jax.tree.map(
        lambda a, b: decay * a + (1 - decay) * np.asarray(b), start, state.params
    )
    assert_close(state.ema, expected, 1e-5)
    assert state.variables["params"] is state.ema


def difference(old, new, rate):
    """The gradients of a step of plain SGD."""
    return jax.tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)) / np.float32(rate), old, new)


@pytest.mark.slow
def test_sam_takes_the_gradient_uphill_and_the_statistics_here(devices):
    rho, rate = 0.5, 0.1
    plain = {"method": "cw_la", "optimizer__warmup_epochs": 0, "optimizer__weight_decay": 0.0}
    seeds, _ = train(2, 0, **plain)
    start = jax.tree.map(np.array, seeds.state_of(0))  # the step takes over its arrays
    seeds.step(seeds.load(0, 1))
    first = seeds.state_of(0)
    slope = difference(start.params, first.params, rate)
    # A step of SGD from up there has the gradient that SAM takes here.
    seeds, _ = train(2, 0, **plain)
    up = ascended(*jax.tree.map(jnp.asarray, (start.params, slope)), rho)
    seeds.states[0] = seeds.states[0]._replace(params=jax.tree.map(jnp.copy, up))
    seeds.step(seeds.load(0, 1))
    uphill = difference(up, seeds.state_of(0).params, rate)
    sam, losses = train(2, 1, **plain, optimizer__sam_rho=rho)
    found = sam.state_of(0)
    assert_close(difference(start.params, found.params, rate), uphill, 1e-3)
    assert_close(found.batch_stats, first.batch_stats, 1e-5)
    four, four_losses = train(4, 1, **plain, optimizer__sam_rho=rho)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(found, four.state_of(0))


@pytest.mark.slow
def test_regmixup_is_the_mean_of_mixed_and_unmixed_losses(devices):
    # A network without batch norm, whose loss of an example does not depend on the others.
    still = {
        "method": "ce",
        "model__name": "vit_tiny",
        "model__hidden": (),
        "augment__max_shift": 0,
    }
    mixing = {"train__mixing": "cutmix", "train__mixing_alpha": 0.4}
    ways = ({}, mixing, mixing | {"train__regmixup": True})
    plain, mixed, both = (train(2, 1, **still, **way)[1].item() for way in ways)
    assert plain != mixed
    assert both == pytest.approx((plain + mixed) / 2, rel=1e-5)


@pytest.mark.slow
def test_two_views_are_compared_on_one_device_as_on_four(devices):
    settings = {"method": "cw_la_b3rs_bet", "optimizer__warmup_epochs": 0}
    one, losses = train(1, 3, **settings, loss__contrastive=0.5, model__projection=8)
    four, four_losses = train(4, 3, **settings, loss__contrastive=0.5, model__projection=8)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())
    # The classifier's loss alone is that of one view, where both views are the image itself.
    still = {**settings, "augment__max_shift": 0, "whitening__method": "none"}
    _, plain_losses = train(1, 1, **still)
    _, tiny_losses = train(1, 1, **still, loss__contrastive=1e-9, model__projection=8)
    np.testing.assert_allclose(tiny_losses, plain_losses, rtol=1e-5)


@pytest.mark.slow
def test_stochastic_depth_draws_for_each_view_of_each_image(devices):
    settings = {"method": "ce", "model__name": "vit_tiny", "model__hidden": ()}
    settings |= {"loss__contrastive": 0.5, "model__projection": 8, "optimizer__warmup_epochs": 0}
    one, losses = train(1, 2, **settings, model__stochastic_depth=0.5)
    four, four_losses = train(4, 2, **settings, model__stochastic_depth=0.5)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())


@pytest.mark.slow
def test_skipped_update_changes_nothing_but_the_step_and_its_rate(devices):
    seeds, _ = train(2, 1, train__on_nan="skip")
    before = jax.tree.map(np.array, seeds.states[0])
    data = seeds._train_data[0]
    poisoned = jax.tree.map(lambda x: x * np.float32(np.nan), data.loss_state)
    seeds._train_data[0] = data._replace(loss_state=poisoned)
    (metrics,) = seeds.step(seeds.load(1, 1))
    assert np.isnan(metrics["loss"]).all()
    assert float(metrics["skipped"][0]) == 1
    after = seeds.states[0]
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    jax.tree.map(np.testing.assert_array_equal, before.batch_stats, after.batch_stats)
    assert int(after.step) == 2
    # The rate of the next step is the logged one: the schedule counts steps, not updates.
    later = optax.tree.set(before.opt_state, count=np.full_like(after.step, 2))
    jax.tree.map(np.testing.assert_array_equal, later, after.opt_state)


def test_too_many_devices(devices):
    assert len(choose_devices(3)) == 3
    with pytest.raises(ValueError, match="cpu_devices = 5 is more than the 4"):
        choose_devices(5)


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize backend"), AssertionError()])
def test_a_platform_that_is_not_there(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(jax, "local_devices", fail)
    with pytest.raises(InputError, match=r"JAX finds no device for JAX_PLATFORMS = .*unset it"):
        choose_devices(1)


@pytest.mark.slow
def test_scores_do_not_depend_on_devices_or_batches(devices):
    found = []
    for count, size in ((1, 64), (4, 64), (4, 256)):
        config = configs.resolve(small_config(evaluation__batch_size=size))
        seeds = Seeds(build(config), Mapping(devices[:count]))
        test = seeds.job.data.test
        sums = tally(test.labels, on_test(seeds, 0).logits)
        found.append(scores(sums, seeds.job.data.train.class_counts))
        seeds.close()
    for other in found[1:]:
        for name, value in found[0].items():
            if value is not None:
                np.testing.assert_allclose(other[name], value, rtol=1e-5, err_msg=name)
