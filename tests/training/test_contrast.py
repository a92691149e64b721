"""Contrastive losses that carry something between steps: devices, epochs, resume bit for bit."""

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.models.projector import Projection
from ltjax.training.build import build, initial_state
from ltjax.training.contrast import Views
from ltjax.training.devices import Mapping
from ltjax.training.inputs import AXIS
from ltjax.training.progress import SilentWatcher
from ltjax.training.restore import restore_states
from ltjax.training.run import run
from ltjax.training.workdir import read_finished
from tests.helpers import small_config, tiny_config
from tests.training.test_step import assert_close, train
from tests.training.watchers import KillAt, Killed, saved

PROCO = {
    "loss__contrastive": 0.5,
    "loss__contrast": "proco",
    "model__projection": 16,
    "optimizer__warmup_epochs": 0,
}
# A queue that is full after two steps, in the middle of a batch of 64.
PACO = PROCO | {"loss__contrast": "paco", "loss__paco_queue": 100}


@pytest.mark.slow
def test_class_statistics_on_one_device_are_those_on_four(devices):
    one, losses = train(1, 3, **PROCO)
    four, four_losses = train(4, 3, **PROCO)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())
    directions = one.state_of(0).contrast
    assert np.sum(directions.used.seen) == 3 * 2 * 64  # two views
    np.testing.assert_array_equal(directions.used.seen, directions.epoch.seen)
    assert "centers" not in one.state_of(0).params["projector"]


@pytest.mark.slow
def test_the_draws_of_two_views_do_not_depend_on_the_devices(devices):
    settings = PROCO | {"method": "equalization", "loss__equalization_threshold": 3.0}
    one, losses = train(1, 2, **settings)
    four, four_losses = train(4, 2, **settings)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())


@pytest.mark.slow
def test_the_queue_on_one_device_is_that_on_four(devices):
    settings = PACO | {"method": "cw_la_b3rs_bet"}
    one, losses = train(1, 3, **settings)
    four, four_losses = train(4, 3, **settings)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())
    # The newest images first, each once: of two views the second is kept.
    latest = [np.asarray(one.load(step, 1)[0].labels).ravel() for step in (2, 1)]
    np.testing.assert_array_equal(one.state_of(0).contrast.labels, np.concatenate(latest)[:100])
    norms = np.linalg.norm(one.state_of(0).contrast.vectors, axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


@pytest.mark.slow
def test_paco_without_examples_is_the_loss_of_the_classifier(devices):
    """Its prior, the weights of BET, and both views: alpha = gamma = 0 leaves the centers alone."""
    settings = PACO | {"method": "cw_la_b3rs_bet", "whitening__method": "none"}
    settings |= {"loss__paco_alpha": 0.0, "loss__paco_gamma": 0.0, "loss__embedded_weight": 0.8}
    _, twice = train(2, 1, **settings | {"loss__contrastive": 1.0})
    _, once = train(2, 1, **settings | {"loss__contrastive": 1e-9, "loss__paco_queue": 0})
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("contrast", ["proco", "bcl"])
def test_embedded_examples_have_the_weight_of_bet(devices, contrast):
    """Of weight 0, they are no part of the loss: only the regular examples have gradients."""
    settings = PROCO | {"method": "cw_la_b3rs_bet", "loss__contrast": contrast}
    config = configs.resolve(small_config(**settings))
    job = build(config)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1, 8, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    labels = np.arange(8)[None] % 10
    centers = np.eye(10, 16, dtype=np.float32) if contrast == "bcl" else None
    constants = job.contrast.init(job.classes[0].counts, job.classes[0].prior)

    def loss(vectors, bet):
        views = Views(Projection(vectors, centers), labels[0], np.zeros((8, 10)), bet)
        return job.contrast.compare(views, job.carried, constants, np.int32(0))[0]

    gradient = jax.vmap(jax.grad(loss), axis_name=AXIS)
    whole = gradient(vectors, np.ones((1, 8), np.float32))
    twice = gradient(vectors, np.array([[2, 2, 2, 2, 0, 0, 0, 0]], np.float32))
    other = gradient(vectors, np.array([[0, 0, 0, 0, 2, 2, 2, 2]], np.float32))
    np.testing.assert_allclose(whole, (twice + other) / 2, atol=1e-6)
    assert not np.allclose(whole, twice, atol=1e-3)
    if contrast == "proco":
        assert not np.any(twice[:, 4:])


def test_weight_zero_is_none_at_all():
    job = build(configs.resolve(small_config(**PACO | {"loss__contrastive": 0.0})))
    assert job.contrast is None
    assert job.model.projector is None
    state = initial_state(job, 0)
    assert state.contrast == ()
    plain = initial_state(build(configs.resolve(small_config(optimizer__warmup_epochs=0))), 0)
    jax.tree.map(np.testing.assert_array_equal, state, plain)


def killed_and_whole(tmp_path, settings):
    """The states of a run and of one that was killed and went on, which are the same, and steps."""
    config = tiny_config(**settings)
    whole = run(config, tmp_path / "whole", watcher=SilentWatcher())
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", watcher=KillAt(12))
    assert saved(tmp_path / "killed")
    again = run(config, tmp_path / "killed", watcher=SilentWatcher())
    assert again.result["test"] == whole.result["test"]
    states = [
        restore_states(read_finished(found.workdir), Mapping(jax.local_devices()[:1]))[0]
        for found in (whole, again)
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    return states[0], whole.result["train"]["steps"]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_class_statistics(tmp_path):
    state, steps = killed_and_whole(tmp_path, PROCO)
    used = state.contrast.used
    assert np.sum(used.seen) == steps // 3 * 2 * 2 * 64  # of the last two epochs of three
    assert np.all(np.linalg.norm(used.mean, axis=1) <= 1)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_queue(tmp_path):
    state, _ = killed_and_whole(tmp_path, PACO)
    assert state.contrast.vectors.shape == (100, 16)
    assert np.all(state.contrast.labels >= 0)
