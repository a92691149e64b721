"""The progress bar on terminals of any width."""

import io

import pytest
from rich.console import Console

from ltjax.training.progress import BarWatcher

WORDS = "epoch 12.5  loss 0.123  accuracy 0.987  12,345 images/s  input 0%"


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_bar_keeps_step_score_and_time_left(width):
    out = io.StringIO()
    watcher = BarWatcher(Console(file=out, force_terminal=True, width=width, color_system=None))
    watcher.start(9998, 20000)
    watcher.update(9999, WORDS)
    watcher.evaluated(9999, "balanced accuracy 0.350")
    watcher.stop()
    *_, line = (text for text in out.getvalue().replace("\r", "\n").splitlines() if "9999" in text)
    assert len(line.rstrip()) <= width
    assert "\u2501" * 4 in line  # the bar
    for part in ("9999/20000", "balanced accuracy 0.350", "-:--:--"):
        assert part in line
    assert ("input 0%" in line) == (width == 200)
    assert ("epoch 12.5" in line) == (width > 60)
