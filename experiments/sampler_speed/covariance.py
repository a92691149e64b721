"""How far the covariance of a batch lies from a full one, under each plan.

    python -m experiments.sampler_speed.covariance [--epochs 100] [--batches 64 256]
                                                   [--out experiments/sampler_speed/results]

Trains the default method on the digits at imbalance factor 20, takes the features before
whitening of all training images through the evaluation step, and compares the covariance
of each batch of each plan with three: that of the plan's own draws, of the training images,
and of the balanced test images.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

from ltjax import config as configs
from ltjax.data.make_plan import PLANS, make_plan
from ltjax.data.sources import Splits
from ltjax.diagnostics import covariance_stability
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.job import build, versions
from ltjax.training.loop import run
from ltjax.training.seeds import Seeds
from ltjax.training.step import Mapping, choose_devices
from ltjax.training.watch import SilentWatcher

COMMAND = "python -m experiments.sampler_speed.covariance --out experiments/sampler_speed/results"
REFERENCES = ("own", "training", "balanced")


def trained_features(epochs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Training features, their labels, balanced test features, and versions."""
    config = configs.default()
    config.train.epochs = epochs
    resolved = configs.resolve(config)
    with tempfile.TemporaryDirectory() as folder:
        run(config, folder, watcher=SilentWatcher())
        job = build(resolved)
        mapping = Mapping(choose_devices(config.cpu_devices))
        features = []
        # The evaluation step reads a job's test images; once they are the training images.
        for images in (job.splits.train, job.splits.test):
            seeds = Seeds(resolved, job._replace(splits=Splits(job.splits.train, images)), mapping)
            checkpoints = Checkpoints(Path(folder) / "checkpoints", keep=2)
            found = checkpoints.restore_newest(seeds.stacked())
            checkpoints.close()
            seeds.close()
            assert found is not None
            seeds.restore(found[1].state)
            features.append(np.asarray(seeds.predict_test(0).features))
    about = versions(mapping.devices, mapping.count)
    return features[0], job.splits.train.labels, features[1], about


def stability(train: np.ndarray, labels: np.ndarray, test: np.ndarray, batch: int) -> dict:
    """Mean and standard deviation of the deviation over the batches of each plan."""
    rows = {}
    for name in PLANS:
        epochs = 30
        plan = make_plan(labels, batch, name=name, seed=0, epochs=epochs, fraction=0.5)
        batches = np.concatenate([plan.epoch(e) for e in range(epochs)])
        rows[name] = {}
        for reference, features in zip(REFERENCES, (None, train, test), strict=True):
            deviation = covariance_stability(train, batches, reference=features)
            rows[name][reference] = [float(deviation.mean()), float(deviation.std(ddof=1))]
    return rows


def table(rows: dict) -> str:
    """Mean ± standard deviation over batches, as Markdown."""
    lines = [
        "| plan | from the plan's own | from the training set's | from the balanced test set's |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        cells = [f"{row[r][0]:.3f} ± {row[r][1]:.3f}" for r in REFERENCES]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Trains, measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    train, labels, test, about = trained_features(args.epochs)
    results = {str(b): stability(train, labels, test, b) for b in args.batches}
    tables = [f"### Batches of {b}\n\n{table(rows)}" for b, rows in results.items()]
    print("\n\n".join(tables))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        content = {
            "command": COMMAND,
            "versions": about,
            "class_counts": np.bincount(labels).tolist(),
            "features": train.shape[1],
            "batches": results,
        }
        (args.out / "covariance.json").write_text(json.dumps(content, indent=1) + "\n")
        (args.out / "covariance.md").write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()
