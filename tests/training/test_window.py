"""Metrics of a window, on the devices and fetched."""

import numpy as np

from ltjax.training.window import MetricsWindow


def gather(parts):
    return {"loss": np.concatenate([part[0]["loss"] for part in parts])}


def test_each_step_is_fetched_once_and_counts_once():
    window = MetricsWindow({"loss": np.array([[1.0]])})  # of a checkpoint within the window
    assert window.fetch(gather) == {}
    window.add([{"loss": np.array([[2.0]])}], 2, timed=0)
    window.add([{"loss": np.array([[3.0], [6.0]])}], 4, timed=2)
    np.testing.assert_array_equal(window.fetch(gather)["loss"], [[2], [3], [6]])
    assert window.fetch(gather) == {}
    np.testing.assert_array_equal(window.means()["loss"], [3])
    assert (window.last_step, window.timed_steps) == (4, 2)
