"""Accuracy of ltjax's and scikit-learn's classifiers on the features of `extract`.

    python -m experiments.embeddings.accuracy --data-dir TFDS_DIR --cache FOLDER

What is in the folder already is not computed again. `--data`, `--rows` and `--seeds` choose a part.
"""

import argparse
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments import records
from experiments.embeddings.extract import NAMES, Features, read, subset
from experiments.results import Results
from experiments.statistics import OneTest
from experiments.store import Rows, correct_line, correct_path, read_correct
from experiments.tables import Cell, compare, percent, render, values
from ltjax.data.files import replacing
from ltjax.data.longtail import stratified
from ltjax.estimator import LongTailClassifier
from ltjax.evaluation.calibration import balanced_nll

SEEDS = (0, 1, 2, 3, 4)
RESULTS = Path(__file__).parent / "results"
DEFAULT = "cw_la_b3rs_bet"
OURS = (DEFAULT, "ce", "logit_adjustment", "bn_la", "cw_la", "cw_la_b3rs", "lda")
GROUPS = ("many", "medium", "few")
COLUMNS = ("accuracy", *GROUPS, "cpu_seconds")
# Each part of the default method: the row with it, and the row without.
PARTS = {
    "logit adjustment while training instead of afterwards": ("logit_adjustment", "ce"),
    "whitening": ("cw_la", "logit_adjustment"),
    "whitening instead of BatchNorm": ("cw_la", "bn_la"),
    "B3RS": ("cw_la_b3rs", "cw_la"),
    "B3RS and BET": (DEFAULT, "cw_la"),
}


class Baseline(NamedTuple):
    """A classifier of scikit-learn.

    Attributes:
      model: as it is fitted, with the parameter that is chosen at any value.
      parameter: name of that parameter; "" where there is none.
      values: that it is chosen from, on held-out training rows.
    """

    model: Any
    parameter: str = ""
    values: tuple[float, ...] = ()


def _balanced(kind: Callable[..., Any], parameter: str, *values: float, **options: Any) -> Baseline:
    """A linear model on standardized features, of balanced class weights."""
    model = kind(class_weight="balanced", **options)
    step = type(model).__name__.lower()
    return Baseline(make_pipeline(StandardScaler(), model), f"{step}__{parameter}", values)


def baselines(classes: int) -> dict[str, Baseline]:
    """The rows of scikit-learn."""
    uniform = np.full(classes, 1 / classes)
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", priors=uniform)
    return {
        "sklearn_logistic": _balanced(LogisticRegression, "C", 1e-4, 1e-3, 1e-2, 1e-1),
        "sklearn_ridge": _balanced(RidgeClassifier, "alpha", 100, 1000, 1e4, 1e5),
        "sklearn_lda": Baseline(analysis),
        "sklearn_sgd": _balanced(
            SGDClassifier, "alpha", 0.01, 0.1, 1, 10, loss="log_loss", max_iter=20, random_state=0
        ),
    }


def balanced_accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean over the classes of `labels` of the share that is classified correctly."""
    right = predicted == labels
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


def goodness(model: Any, features: np.ndarray, labels: np.ndarray) -> float:
    """How good a model is on held-out rows; more is better."""
    if not hasattr(model, "predict_proba"):
        return balanced_accuracy(model.predict(features), labels)
    with np.errstate(divide="ignore"):
        return -balanced_nll(labels, np.log(np.maximum(model.predict_proba(features), 1e-12)))


def fit_baseline(row: Baseline, train: Features, seed: int) -> tuple[Any, str]:
    """Chooses the parameter on a tenth of the rows of each class, then fits on all.

    The criterion is the class-balanced log loss, as ours is, or the balanced accuracy of models
    without probabilities.
    """
    if not row.parameter:
        return row.model.fit(*train), ""
    kept, held = stratified(train.labels, 0.1, seed)
    scores = []
    for value in row.values:
        model = clone(row.model).set_params(**{row.parameter: value})
        model.fit(train.features[kept], train.labels[kept])
        scores.append(goodness(model, train.features[held], train.labels[held]))
    best = row.values[int(np.argmax(scores))]
    model = clone(row.model).set_params(**{row.parameter: best})
    return model.fit(*train), f"{row.parameter.rpartition('__')[2]}={best:g}"


def fit(name: str, train: Features, seed: int) -> tuple[Any, str]:
    """Fits a row; the fitted classifier and what was chosen."""
    if name in OURS:
        model = LongTailClassifier(method=name, random_state=seed).fit(*train)
        chosen = {"shrinkage": model.shrinkage_, "weight_decay": model.weight_decay_}
        chosen |= {"tau": model.tau_, "temperature": model.temperature_}
        return model, " ".join(f"{key}={value:.3g}" for key, value in chosen.items())
    return fit_baseline(baselines(int(train.labels.max()) + 1)[name], train, seed)


def place(cache: Path, name: str, row: str, seed: int) -> Path:
    """Where the predictions of a row are kept."""
    return cache / "predictions" / f"{name}-{row}-{seed}.npz"


def predict(cache: Path, folder: str, name: str, rows: Iterable[str], seeds: Iterable[int]) -> None:
    """Fits what is missing and keeps its predictions on the test images."""
    whole, test = read(cache, name, folder)
    about = records.environment(f"{records.cores()} cores")
    about["scikit-learn"] = importlib.metadata.version("scikit-learn")
    for seed in seeds:
        chosen = subset(name, folder, seed)
        train = Features(whole.features[chosen], whole.labels[chosen])
        for row in rows:
            path = place(cache, name, row, seed)
            if path.exists():
                continue
            began = time.process_time()
            model, how = fit(row, train, seed)
            seconds = time.process_time() - began
            path.parent.mkdir(exist_ok=True)
            found = model.predict(test.features).astype(np.int16)
            with replacing(path) as file:
                np.savez(
                    file, predicted=found, chosen=how, seconds=seconds, about=json.dumps(about)
                )
            print(name, row, seed, f"{np.mean(found == test.labels):.4f}", how, flush=True)


class Scores(NamedTuple):
    """Of one row and subset: bool `[C, n]`, which images of a class are right; the table's line."""

    right: np.ndarray
    line: records.Line


def scores(cache: Path, folder: str, name: str, rows: Iterable[str]) -> dict[str, list[Scores]]:
    """The scores of all rows that are there, by row, one for each subset."""
    whole, test = read(cache, name, folder)
    counts = np.bincount(whole.labels[subset(name, folder, 0)])
    sizes = (counts > 100, (counts >= 20) & (counts <= 100), counts < 20)
    by_class = np.argsort(test.labels, kind="stable").reshape(len(counts), -1)
    found: dict[str, list[Scores]] = {}
    for row in rows:
        for seed in SEEDS:
            path = place(cache, name, row, seed)
            if not path.exists():
                continue
            with np.load(path) as kept:
                right = kept["predicted"] == test.labels
                line = {"data": name, "row": row, "seed": str(seed)}
                line["accuracy"] = f"{right.mean():.4f}"
                for group, of in zip(GROUPS, sizes, strict=True):
                    images = of[test.labels]
                    line[group] = f"{right[images].mean():.4f}" if images.any() else ""
                line |= {"chosen": str(kept["chosen"]), "cpu_seconds": f"{kept['seconds']:.0f}"}
                if "about" in kept:  # predictions of older code say nothing of it
                    line |= json.loads(str(kept["about"]))
            found.setdefault(row, []).append(Scores(right[by_class], line))
    return found


def stored(path: Path) -> Results:
    """The results in a file, whose differences are paired by subset, on one test set."""
    rows: Rows = {}
    for line in records.read(path):
        numbers = {column: float(line[column]) for column in COLUMNS if line[column]}
        rows.setdefault(line["row"], {})[int(line["seed"])] = numbers
    return Results(rows, OneTest(read_correct(path)))


def table(found: Results) -> str:
    """Accuracy of every row, and the default's difference from it."""
    heads = ["row", "top-1", *GROUPS, f"`{DEFAULT}` minus it", "subsets", "CPU seconds"]
    lines: list[list[Cell]] = []
    for row, seeds in found.rows.items():
        shown = [values(found.rows, row, column) for column in ("accuracy", *GROUPS)]
        cells: list[Cell] = [f"`{row}`", *(percent(x) if len(x) else "" for x in shown)]
        cells.append("" if row == DEFAULT else compare(found, DEFAULT, row))
        seconds = values(found.rows, row, "cpu_seconds").mean()
        lines.append([*cells, str(len(seeds)), f"{seconds:.0f}"])
    return render(heads, lines)


def parts(found: Results) -> str:
    """What each part of the default method adds."""
    lines: list[list[Cell]] = [
        [words, f"`{name}` − `{reference}`", compare(found, name, reference)]
        for words, (name, reference) in PARTS.items()
        if {name, reference} <= found.rows.keys()
    ]
    return render(["part", "rows", "top-1"], lines)


def write(name: str, found: dict[str, list[Scores]]) -> None:
    """Writes the lines as CSV, which test images are classified correctly, and the tables."""
    path = RESULTS / f"{name}.csv"
    every = [one for of_row in found.values() for one in of_row]
    records.require_one_kind(path, [one.line for one in every])
    bits = [correct_line({k: one.line[k] for k in ("row", "seed")}, one.right) for one in every]
    records.update(path, lambda old: [one.line for one in every])
    records.update(correct_path(path), lambda old: bits)
    write_tables(path)


def write_tables(path: Path) -> None:
    """The tables of a file of results, as Markdown."""
    found = stored(path)
    path.with_suffix(".md").write_text(table(found), encoding="utf-8")
    path.with_name(f"{path.stem}_parts.md").write_text(parts(found), encoding="utf-8")


def main() -> None:
    """Fits what is missing and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=NAMES)
    parser.add_argument("--rows", nargs="+", default=[*OURS, *baselines(2)])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    given = parser.parse_args()
    for name in given.data:
        predict(given.cache, given.data_dir, name, given.rows, given.seeds)
        found = scores(given.cache, given.data_dir, name, [*OURS, *baselines(2)])
        if DEFAULT in found:
            write(name, found)


if __name__ == "__main__":
    main()
