"""Fit time, peak memory and accuracy of classifiers on features of a long tail's real counts.

    python -m experiments.embeddings.speed --out experiments/embeddings/results
                                           [--sets tenth imagenet_lt million]
                                           [--contenders ltjax lda lbfgs ...]
                                           [--lists ../shared/data/lists]

Each contender fits in a process of its own, one after another, on all cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments import processes, records, timing
from ltjax.errors import InputError

FEATURES, TEST_ROWS, CHUNK = 768, 20, 8192
SEED = 0


def class_counts(name: str, lists: Path) -> np.ndarray:
    """Training rows of each class of a set, from the counts of ImageNet-LT's training list.

    "tenth" has every tenth class by size, "million" the counts times 1,000,000 / 115,846.
    """
    counts = np.loadtxt(lists / "imagenet_lt_train_counts.txt", dtype=int)
    if name == "tenth":
        return np.sort(counts)[::-1][::10]
    if name == "million":
        return np.maximum(np.round(counts * (1_000_000 / counts.sum())).astype(int), 1)
    return counts


class Generator:
    """Features with classes in groups, a power-law spectrum and rows of unequal spread.

        x = relu(3 ((m_y + s e) * lambda) Q + b),    lambda_d = d^(-1/2),    s = exp(0.35 n)

    `e` and `n` are standard normal, `Q` is a random rotation and `b` normal with deviation 0.1. The
    mean `m_y` of a class is 0.315 times the sum of two standard normal vectors, one of its own and
    one that about 20 classes share.

    Args:
      classes: C.
      features: D.
      seed: of everything but the rows.
    """

    def __init__(self, classes: int, features: int = FEATURES, seed: int = SEED):
        rng = np.random.default_rng(seed)
        groups = rng.normal(size=(max(classes // 20, 2), features))
        shared = groups[rng.integers(len(groups), size=classes)]
        self.means = 0.315 * (shared + rng.normal(size=(classes, features))).astype(np.float32)
        self.spectrum = (np.arange(1, features + 1) ** -0.5).astype(np.float32)
        self.rotation = np.linalg.qr(rng.normal(size=(features, features)))[0].astype(np.float32)
        self.bias = (0.1 * rng.normal(size=features)).astype(np.float32)

    def rows(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Features of rows of these classes, float32 `[N, D]`."""
        noise = rng.standard_normal((len(labels), len(self.bias)), np.float32)
        spread = np.exp(0.35 * rng.standard_normal((len(labels), 1), np.float32))
        raw = (self.means[labels] + noise * spread) * self.spectrum
        return np.maximum(3 * (raw @ self.rotation) + self.bias, 0)

    def write(self, folder: Path, counts: np.ndarray) -> None:
        """Writes training and test rows as `.npy` files, shuffled, chunk by chunk."""
        rng = np.random.default_rng(SEED + 1)
        parts = {"train": counts, "test": np.full(len(counts), TEST_ROWS)}
        for part, each in parts.items():
            labels = rng.permutation(np.repeat(np.arange(len(counts)), each))
            np.save(folder / f"{part}_labels.npy", labels)
            shape = (len(labels), len(self.bias))
            path = folder / f"{part}.npy"
            rows = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            for start in range(0, len(labels), CHUNK):
                rows[start : start + CHUNK] = self.rows(labels[start : start + CHUNK], rng)
            rows.flush()


def _ltjax(**given: Any) -> Any:
    from ltjax import LongTailClassifier

    return LongTailClassifier(random_state=0, **given)


def _logistic(solver: str) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(class_weight="balanced", max_iter=100, solver=solver, random_state=0)


def _sgd() -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier("log_loss", class_weight="balanced", n_jobs=-1, random_state=0)


def _ridge() -> Any:
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(class_weight="balanced", random_state=0)


def _discriminant(classes: int) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    uniform = np.full(classes, 1 / classes)
    return LinearDiscriminantAnalysis("eigen", shrinkage="auto", priors=uniform)


# The contenders, as functions from the number of classes to an estimator.
CONTENDERS: dict[str, Callable[[int], Any]] = {
    "LongTailClassifier()": lambda classes: _ltjax(),
    "LongTailClassifier('lda')": lambda classes: _ltjax(method="lda"),
    "LogisticRegression(lbfgs)": lambda classes: _logistic("lbfgs"),
    "LogisticRegression(saga)": lambda classes: _logistic("saga"),
    "SGDClassifier": lambda classes: _sgd(),
    "RidgeClassifier": lambda classes: _ridge(),
    "LinearDiscriminantAnalysis": _discriminant,
}
OURS, BASELINE = "LongTailClassifier()", "LogisticRegression(lbfgs)"


def measure(name: str, folder: Path) -> dict[str, float]:
    """Fits a contender to the rows in a folder.

    The memory is what the process takes at its peak beyond what it took, all libraries imported,
    before the features were read.
    """
    import warnings

    import jax
    import psutil

    warnings.simplefilter("ignore")  # of iterations that were not enough
    jax.devices()
    labels, test = (np.load(folder / f"{part}_labels.npy") for part in ("train", "test"))
    model = CONTENDERS[name](int(labels.max()) + 1)
    before = psutil.Process().memory_info().rss / 2**20
    rows = np.load(folder / "train.npy")
    started, cpu = time.perf_counter(), time.process_time()
    model.fit(rows, labels)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = processes.peak_mebibytes() - before
    hits = model.predict(np.load(folder / "test.npy")) == test
    by_class = np.bincount(test, hits) / np.bincount(test)
    counts = np.bincount(labels)
    groups = {"many": counts > 100, "medium": (counts >= 20) & (counts <= 100), "few": counts < 20}
    return {
        "rows": len(labels),
        "classes": len(counts),
        "features": rows.shape[1],
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mebibytes": peak,
        "peak_over_features": peak / (rows.nbytes / 2**20),
        "balanced_accuracy": float(by_class.mean()),
        **{name: float(by_class[of].mean()) for name, of in groups.items() if of.any()},
    }


def alone(name: str, folder: Path) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "experiments.embeddings.speed", "--one", name, str(folder)]
    # `timing` pins OpenBLAS to one thread where nothing else is said.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(records.cores())}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=records.ROOT, env=environment, check=False
    )
    if done.returncode:
        raise InputError(f"{name} failed: {done.stderr[-1500:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(rows: dict[str, dict[str, float]]) -> str:
    """The numbers of one set as Markdown."""
    lines = [
        "| classifier | fit, s | times LogisticRegression(lbfgs) | peak memory / features "
        "| balanced accuracy | many | medium | few |",
        "|---" * 8 + "|",
    ]
    baseline = rows.get(BASELINE, {}).get("seconds")
    for name, row in rows.items():
        faster = "" if baseline is None else f"{baseline / row['seconds']:.1f}"
        shares = [row[k] for k in ("balanced_accuracy", "many", "medium", "few") if k in row]
        cells = [
            f"`{name}`",
            f"{row['seconds']:.1f}",
            faster,
            f"{row['peak_over_features']:.2f}",
            *(f"{100 * share:.1f}" for share in shares),
        ]
        lines.append("| " + " | ".join(cells + [""] * (8 - len(cells))) + " |")
    return "\n".join(lines)


def tables(results: timing.Parts) -> str:
    """The tables of all sets."""
    parts = []
    for name, rows in results.items():
        first = next(iter(rows.values()))
        title = f"{name}: {first['rows']:,.0f} rows, {first['classes']:,.0f} classes"
        parts.append(f"### {title}\n\n{table(rows)}")
    return "\n\n".join(parts) + "\n"


def write(folder: Path) -> None:
    """Writes the tables of the stored results, if there are any."""
    results = timing.read(folder / "speed.csv")
    if not results:
        return
    (folder / "speed.md").write_text(tables(results))
    if "imagenet_lt" in results:
        (folder / "imagenet_lt.md").write_text(table(results["imagenet_lt"]) + "\n")


def main() -> None:
    """Measures, stores and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=Path, default=Path("../shared/data/lists"))
    parser.add_argument("--sets", nargs="+", default=["tenth", "imagenet_lt", "million"])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--one", nargs=2, default=None, help="used by the program itself")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], Path(args.one[1]))))
        return
    about = records.environment(f"{records.cores()} cores")
    for name in args.sets:
        counts = class_counts(name, args.lists)
        with tempfile.TemporaryDirectory() as folder:
            Generator(len(counts)).write(Path(folder), counts)
            for contender in args.contenders:
                found = alone(contender, Path(folder))
                print(f"{name}  {contender}  {json.dumps(found)}", flush=True)
                if args.out:
                    path = args.out / "speed.csv"
                    known = timing.read(path).get(name, {}) | {contender: found}
                    timing.write(path, {name: known}, about)
                    write(args.out)


if __name__ == "__main__":
    main()
