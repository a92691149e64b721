"""A contrastive loss that carries class statistics: devices, epochs, resume bit for bit."""

import jax
import numpy as np
import pytest

from ltjax.training.devices import Mapping
from ltjax.training.progress import SilentWatcher
from ltjax.training.restore import restore_states
from ltjax.training.run import run
from ltjax.training.workdir import read_finished
from tests.helpers import tiny_config
from tests.training.test_step import assert_close, train
from tests.training.watchers import KillAt, Killed

pytestmark = pytest.mark.slow
SETTINGS = {
    "loss__contrastive": 0.5,
    "loss__contrast": "proco",
    "model__projection": 16,
    "optimizer__warmup_epochs": 0,
}


def test_class_statistics_on_one_device_are_those_on_four(devices):
    one, losses = train(1, 3, **SETTINGS)
    four, four_losses = train(4, 3, **SETTINGS)
    np.testing.assert_allclose(losses, four_losses, rtol=2e-4)
    assert_close(one.stacked(), four.stacked())
    directions = one.state_of(0).contrast
    assert np.sum(directions.used.seen) == 3 * 2 * 64  # two views
    np.testing.assert_array_equal(directions.used.seen, directions.epoch.seen)
    assert "centers" not in one.state_of(0).params["projector"]


def test_a_killed_run_goes_on_with_its_class_statistics(tmp_path):
    config = tiny_config(**SETTINGS)
    whole = run(config, tmp_path / "whole", watcher=SilentWatcher())
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", watcher=KillAt(12))
    again = run(config, tmp_path / "killed", watcher=SilentWatcher())
    assert again.result["test"] == whole.result["test"]
    states = [
        restore_states(read_finished(found.workdir), Mapping(jax.local_devices()[:1]))[0]
        for found in (whole, again)
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    steps, used = whole.result["train"]["steps"], states[0].contrast.used
    assert np.sum(used.seen) == steps // 3 * 2 * 2 * 64  # of the last two epochs of three
    assert np.all(np.linalg.norm(used.mean, axis=1) <= 1)
