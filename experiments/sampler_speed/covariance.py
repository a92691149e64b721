"""How far the covariance of a batch lies from a full one, under each sampler.

    python -m experiments.sampler_speed.covariance [--epochs 100] [--batches 64 256]
                                                   [--out experiments/sampler_speed/results]

Trains the default method on the digits at imbalance factor 20, takes the features before
whitening of all training images through the evaluation step, and compares the covariance
of each batch of each sampler with three: that of the sampler's own draws, of the training images,
and of the balanced test images.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np

from experiments import records
from experiments.features import features, images_of
from ltjax import config as configs
from ltjax.evaluation.diagnostics import covariance_stability
from ltjax.samplers import SAMPLERS, SamplerConfig, make_sampler
from ltjax.serving.load import load
from ltjax.training.build import build
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run

Rows = dict[str, dict[str, float]]
REFERENCES = ("own", "training", "balanced")


def trained_features(epochs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training features, their labels, and balanced test features."""
    config = configs.default()
    config.train.epochs = epochs
    with tempfile.TemporaryDirectory() as folder:
        run(config, folder, watcher=SilentWatcher())
        trained = load(folder)
    data = build(trained.config).data
    train, test = data.train, data.test
    found = [features(trained, images_of(part)) for part in (train, test)]
    return found[0], train.labels, found[1]


def stability(train: np.ndarray, labels: np.ndarray, test: np.ndarray, batch: int) -> Rows:
    """Mean and standard deviation of the deviation over the batches of each sampler."""
    rows: Rows = {}
    for name in SAMPLERS:
        epochs = 30
        sampler = make_sampler(SamplerConfig(name), labels, batch, seed=0, epochs=epochs)
        batches = np.stack(list(sampler.schedule(epochs)))
        rows[name] = {}
        for reference, those in zip(REFERENCES, (None, train, test), strict=True):
            deviation = covariance_stability(train, batches, reference=those)
            rows[name][reference] = float(deviation.mean())
            rows[name][f"{reference}_deviation"] = float(deviation.std(ddof=1))
    return rows


def table(rows: Rows) -> str:
    """Mean ± standard deviation over batches, as Markdown."""
    lines = [
        "| plan | from the plan's own | from the training set's | from the balanced test set's |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        cells = [f"{row[r]:.3f} ± {row[f'{r}_deviation']:.3f}" for r in REFERENCES]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(results: timing.Parts) -> str:
    """The tables of all batch sizes."""
    parts = [f"### Batches of {batch}\n\n{table(rows)}" for batch, rows in results.items()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Trains, measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    found = trained_features(args.epochs)
    results = {str(batch): stability(*found, batch) for batch in args.batches}
    print(tables(results))
    if args.out:
        about = records.environment(records.devices())
        results = timing.write(args.out / "covariance.csv", results, about)
        (args.out / "covariance.md").write_text(tables(results))


if __name__ == "__main__":
    main()
