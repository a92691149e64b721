"""The figures of a report: functions of the files in a finished workdir."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ltjax.report.html import plain_axes
from ltjax.report.scores import BLUE, GREY, ORANGE, confusion, correlations, groups, reliability
from ltjax.training.progress import read_metrics
from ltjax.training.workdir import read_json


def curves(metrics: list[dict[str, Any]]) -> Figure:
    """Training loss, and training and test accuracy, against the epoch."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    train = [m for m in metrics if m.get("train/loss") is not None]
    epochs = [m["train/epoch"] for m in train]
    left.plot(epochs, [m["train/loss"] for m in train], color=BLUE)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.plot(epochs, [m["train/accuracy"] for m in train], color=GREY, label="training batches")
    test = [m for m in metrics if m.get("test/balanced_accuracy") is not None]
    per_step = epochs[-1] / train[-1]["step"] if train else 1.0
    right.plot(
        [m["step"] * per_step for m in test],
        [m["test/balanced_accuracy"] for m in test],
        color=ORANGE,
        marker="o",
        markersize=3,
        label="test, balanced",
    )
    right.set(xlabel="epoch", ylabel="accuracy")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def counts_and_accuracy(result: dict[str, Any], dataset: dict[str, Any]) -> Figure:
    """Training images of each class, most frequent first, against its test accuracy."""
    counts = np.array(result["train"]["class_counts"])
    order = np.argsort(-counts, kind="stable")
    accuracy = [result["test"]["per_class"][c] for c in order]
    figure, axes = plain_axes(8, 3.2)
    places = np.arange(len(order))
    axes.bar(places, counts[order], color=BLUE, alpha=0.35, width=0.8)
    axes.set(xlabel="class, most frequent first", yscale="log")
    axes.set_ylabel("training images", color=BLUE)
    if len(order) <= 30:
        axes.set_xticks(places, [dataset["class_names"][c] for c in order])
    right = axes.twinx()
    right.spines[["top"]].set_visible(False)
    right.plot(
        places,
        [np.nan if a is None else 100 * a for a in accuracy],
        color=ORANGE,
        marker="o",
        markersize=4,
    )
    right.set_ylabel("test accuracy, %", color=ORANGE)
    right.set_ylim(min([100 * a for a in accuracy if a is not None], default=0) - 5, 101)
    return figure


def spectra(diagnostics: dict[str, Any]) -> Figure:
    """Eigenvalues of the feature covariance before and after whitening."""
    figure, axes = plain_axes(8, 3)
    for name, colour in (("before", GREY), ("after", BLUE)):
        part = diagnostics[f"{name}_whitening"]
        shares = np.maximum(part["spectrum"], 1e-9)
        label = (
            f"{name} whitening: effective rank {part['effective_rank']:.1f} of {len(shares)}, "
            f"mean |correlation| {part['mean_abs_correlation']:.2f}"
        )
        axes.plot(np.arange(1, len(shares) + 1), shares, color=colour, label=label)
    axes.set(xlabel="eigenvalue", ylabel="share of the variance", yscale="log")
    axes.legend(frameon=False)
    return figure


def exposures(seen: dict[str, Any]) -> Figure:
    """How often the images of each class are seen in the whole schedule, by rank of class."""
    counts = np.array(seen["class_counts"])
    order = np.argsort(-counts, kind="stable")
    figure, axes = plain_axes(8, 3)
    places = np.arange(len(order))
    axes.bar(places, counts[order], color=BLUE, alpha=0.35, width=0.8)
    axes.set(xlabel="class, most frequent first", yscale="log")
    axes.set_ylabel("training images", color=BLUE)
    right = axes.twinx()
    right.spines[["top"]].set_visible(False)
    least, most = (np.array(seen[key])[order] for key in ("class_least", "class_most"))
    mean = np.array(seen["class_schedule"])[order] / np.maximum(counts[order], 1)
    right.fill_between(places, least, most, color=ORANGE, alpha=0.25, linewidth=0)
    right.plot(places, mean, color=ORANGE, marker="o", markersize=4)
    right.set_ylabel(f"views of an image, {seen['epochs']} epochs", color=ORANGE)
    right.set_ylim(0, 1.08 * max(most.max(), 1))
    return figure


def draw(workdir: Path) -> dict[str, Figure]:
    """The figures of a report, by title."""
    result, dataset, diagnostics, kept = (
        read_json(workdir / f"{name}.json")
        for name in ("result", "dataset", "diagnostics", "evaluation")
    )
    names, counts = dataset["class_names"], result["train"]["class_counts"]
    return {
        "Learning curves": curves(read_metrics(workdir / "metrics.jsonl")),
        "Many, medium, few": groups(result),
        "Training images and test accuracy": counts_and_accuracy(result, dataset),
        "Confusion": confusion(kept, counts, names),
        "Reliability": reliability(kept),
        "Covariance spectrum of the test features": spectra(diagnostics),
        "Correlation of the test features": correlations(workdir / "correlation.npz"),
    }
