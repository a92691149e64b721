"""Time from the command to the first step, with a cold and a warm compilation cache."""

import statistics
import tempfile
import time
from pathlib import Path

from experiments import timing


def first_step(cache: str) -> float:
    """Seconds until the digits run has written the line of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--config", "configs/digits_lt.py", "--workdir", folder]
        env = {"JAX_COMPILATION_CACHE_DIR": None, "XDG_CACHE_HOME": cache}
        started = time.perf_counter()
        process = timing.start("ltjax.main", *words, "--config.train.log_every_steps=2", env=env)
        if not timing.wait_for(Path(folder) / "metrics.jsonl", process):
            timing.finish(process)
        seconds = time.perf_counter() - started
        # SIGTERM, not SIGKILL, so that what has been compiled is in the cache.
        process.terminate()
        process.communicate()
    return seconds


def startup(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds over some rounds, each with a cold and then a warm start."""
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name in seconds:
                seconds[name].append(first_step(cache))
    return {
        name: {"seconds": statistics.median(found), "rounds": rounds}
        for name, found in seconds.items()
    }
