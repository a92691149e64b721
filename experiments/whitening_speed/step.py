"""Share of whitening in a training step of a ResNet-32 at batch 128: zca against none.

    python -m experiments.whitening_speed.step [--rounds 15] [--out FOLDER]

The two steps alternate in one process; the ratio is that of the medians, and the spread is
that of the ratios of neighbors.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments import records
from experiments.train_speed.ours import Ours, make_config, synthetic
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
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    steps = {method: make_step(method) for method in ("none", "zca")}
    calls = {method: partial(step, 1) for method, step in steps.items()}
    # Each goes first in every other round, so that neither profits from its place.
    times = timing.interleaved(calls, args.rounds, alternate=True)
    ratios = times["zca"].wall / times["none"].wall
    low, high = np.percentile(ratios, [25, 75])
    rows = {
        method: {"seconds": found.median, "rounds": args.rounds} for method, found in times.items()
    }
    rows["zca"] |= {
        "ratio": times["zca"].median / times["none"].median,
        "lower_quartile": float(low),
        "upper_quartile": float(high),
    }
    print(rows)
    if args.out:
        path = args.out / f"step_{jax.devices()[0].platform}.csv"
        timing.write(path, {"resnet32_cifar": rows}, records.environment(records.devices()))


if __name__ == "__main__":
    main()
