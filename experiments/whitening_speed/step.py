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
import jax.numpy as jnp
import numpy as np
import optax

from experiments.whitening_speed.run import environment
from ltjax.data.loader import Batch
from ltjax.losses import make_loss
from ltjax.models import Classifier, ConvNet
from ltjax.training.state import init_state
from ltjax.training.step import AXIS, Mapping, Resident, make_train_step
from ltjax.whitening import ChannelWhitening

BATCH, CLASSES = 128, 10


def make_step(method: str):
    """A step of the main loop's own, as a function without arguments."""
    backbone = ConvNet((16, 32, 64), 5, AXIS)  # 5-5-5 basic blocks: 32 layers
    whitening = ChannelWhitening(method=method, shrinkage=0.1, axis_name=AXIS)
    model = Classifier(backbone, CLASSES, None if method == "none" else whitening)
    loss = make_loss(
        name="cross_entropy", tau=1.0, embedded_weight=0.5, embedded=False, axis_name=AXIS
    )
    optimizer = optax.sgd(0.1, momentum=0.9)
    mapping = Mapping(jax.devices()[:1])
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
    images = rng.integers(0, 256, (BATCH, 32, 32, 3)).astype(np.uint8)
    loss_state = loss.init(jnp.ones(CLASSES))
    constants = np.zeros(3, np.float32), np.ones(3, np.float32)
    data = mapping.replicate(Resident(images, *constants, loss_state, jax.random.key(0)))
    state = mapping.replicate(init_state(model, optimizer, jax.random.key(1), (32, 32, 3)))
    train = mapping.train_step(make_train_step(model, loss, optimizer, max_shift=4))
    batch = mapping.split(make_batch(labels))

    def step():
        nonlocal state
        state, metrics = train(state, data, batch)
        jax.block_until_ready(metrics)

    return step


def make_batch(labels: np.ndarray) -> Batch:
    """All images once."""
    slots = np.arange(BATCH, dtype=np.int32)
    values = {
        "indices": slots,
        "slots": slots,
        "labels": labels,
        "embedded": np.zeros(BATCH, bool),
        "mask": np.ones(BATCH, bool),
    }
    return Batch(**{name: values[name] for name in Batch._fields})


def main() -> None:
    """Times, prints, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    steps = {method: make_step(method) for method in ("none", "zca")}
    times: dict[str, list[float]] = {method: [] for method in steps}
    for step in steps.values():
        step()
    for r in range(args.rounds):
        # Each goes first every other time, so that neither profits from its place.
        for method in sorted(steps, reverse=bool(r % 2)):
            start = time.perf_counter()
            steps[method]()
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
    path = args.out / f"step_{jax.devices()[0].platform}.json"
    path.write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
