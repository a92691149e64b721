"""The documentation builds without warnings, and its code runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from docs import hooks

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_site_builds_strictly(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    front = (tmp_path / "index.html").read_text()
    assert "experiments/ablation/" in front
    api = (tmp_path / "api" / "whitening" / "index.html").read_text()
    assert "use_running_average" in api


def test_names_in_code_may_break_after_a_dot_and_blocks_may_not():
    page = "<code>train.epochs</code> <pre><code>a.b</code></pre> <code>0.5</code>"
    expected = "<code>train.<wbr>epochs</code> <pre><code>a.b</code></pre> <code>0.5</code>"
    assert hooks.breakable(page) == expected


@pytest.mark.slow
def test_parts_alone_in_a_plain_loop():
    text = (ROOT / "docs" / "parts.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    for block in blocks:
        with jax.numpy_dtype_promotion("standard"):  # optax's adam counts in integers
            exec(compile(block, "docs/parts.md", "exec"), names)
    # One epoch of the plain BET loop lowers its loss.
    rows, flags = names["train"][names["sampler"][0]], names["sampler"].flags(0)
    batch = names["images"][rows], names["labels"][rows], flags
    start = names["network"].init(jax.random.key(0), batch[0], train=False)
    assert names["bet_loss"](names["params"], *batch) < 0.9 * names["bet_loss"](start, *batch)
    # The last batch of the grain pipeline is that of the plain loop's last step.
    last = names["sampler"].schedule(2)[-1]
    assert (names["batch"]["label"] == names["labels"][names["train"][last]]).all()
    # Each change alone improves accuracy on this long tail by far more than rounding.
    for name in ("whitened", "planned", "corrected", "together", "everything", "in_nnx"):
        assert names[name] > names["plain"] + 0.02, name
