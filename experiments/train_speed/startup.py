"""Time from the command to the first step, with a cold and a warm compilation cache."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def first_step(cache: str) -> float:
    """Seconds until the digits run has written the line of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        command = [sys.executable, "-m", "ltjax.main", "--config", "configs/digits_lt.py"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--workdir", folder, "--config.train.log_every_steps=2"],
            cwd=ROOT,
            env={**env, "XDG_CACHE_HOME": cache},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        log = Path(folder) / "metrics.jsonl"
        while not (log.exists() and log.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"the run ended with exit code {process.returncode}")
            time.sleep(0.005)
        seconds = time.perf_counter() - started
        # SIGTERM, not SIGKILL, so that what has been compiled is in the cache.
        process.terminate()
        process.wait()
    return seconds


def startup(tries: int) -> dict[str, Any]:
    """Medians over some tries; each has a cold and a warm start."""
    cold, warm = [], []
    for _ in range(tries):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_step(cache))
            warm.append(first_step(cache))
    return {
        "cold_seconds": statistics.median(cold),
        "warm_seconds": statistics.median(warm),
        "all": {"cold": cold, "warm": warm},
    }
