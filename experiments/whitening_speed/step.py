"""Share of whitening in a training step of a ResNet-32 at batch 128: zca against none.

    python -m experiments.whitening_speed.step [--rounds 15] [--out FOLDER]

The two steps alternate in one process; the ratio is that of the medians, and the spread is
that of the ratios of neighbours.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

from experiments.train_speed.ours import Ours, make_config, synthetic
from experiments.whitening_speed.run import environment
from ltjax.training.devices import choose_engine


def make_step(method: str) -> Ours:
    """Steps of the engine, with the network whitened by a method or not."""
    config = make_config(
        "resnet32_cifar",
        *synthetic(32, 1024, 10),
        train__batch_size=128,
        train__epochs=1000,
        whitening__method=method,
    )
    engine = choose_engine(jax.devices()[0].platform)
    return Ours(config, jax.devices(), engine._replace(steps_per_call=1))


def main() -> None:
    """Times, prints, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    steps = {method: make_step(method) for method in ("none", "zca")}
    times: dict[str, list[float]] = {method: [] for method in steps}
    for step in steps.values():
        step(1)
    for r in range(args.rounds):
        # Each goes first every other time, so that neither profits from its place.
        for method in sorted(steps, reverse=bool(r % 2)):
            start = time.perf_counter()
            steps[method](1)
            times[method].append(time.perf_counter() - start)
    none, zca = (np.array(times[method]) for method in ("none", "zca"))
    quartiles = np.percentile(zca / none, [25, 75])
    outcome = {
        "environment": environment(),
        "seconds": {"none": float(np.median(none)), "zca": float(np.median(zca))},
        "ratio": float(np.median(zca) / np.median(none)),
        "ratio_quartiles": quartiles.tolist(),
        "rounds": args.rounds,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"step_{jax.devices()[0].platform}.json"
    path.write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
