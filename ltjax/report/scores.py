"""The parts of a report that tell of the test images: reliability, confusion, pictures, scores."""

import html
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ltjax.report.html import plain_axes

INK, BLUE, ORANGE, GREY = "#1f2933", "#1f6fb2", "#d9661f", "#9aa5b1"
SCORES = (
    ("accuracy", "top-1"),
    ("top5", "top-5"),
    ("balanced_accuracy", "balanced accuracy"),
    ("many", "many"),
    ("medium", "medium"),
    ("few", "few"),
    ("worst_class", "worst class"),
    ("harmonic_mean", "harmonic mean of classes"),
    ("geometric_mean", "geometric mean of classes"),
    ("macro_f1", "macro F1"),
    ("head_to_tail", "images of few called many"),
    ("nll", "negative log likelihood"),
    ("ece", "ECE, 15 bins"),
    ("classwise_ece", "class-wise ECE"),
)
PLAIN = {"nll"}  # every other score is a share


def shown(name: str, value: float | None) -> str:
    """A score as a report writes it.

    >>> shown("ece", 0.0123), shown("nll", 0.5), shown("few", None)
    ('1.2%', '0.500', '–')
    """
    if value is None:
        return "–"
    return f"{value:.3f}" if name in PLAIN else f"{100 * value:.1f}%"


def score_table(result: dict[str, Any]) -> str:
    """Rows of an HTML table: every score, its deviation over seeds and its interval."""
    test, std = result["test"], result.get("test_std")
    several = std is not None
    header = ["score", "mean ± std over seeds" if several else "test", "95% interval"]
    post = result.get("post_hoc", {})
    header += [name.replace("_", " ") + ", post hoc" for name in post]
    rows = []
    for key, name in SCORES:
        if key not in test:
            continue
        value = shown(key, test[key])
        if std is not None and std.get(key) is not None:
            value += f" ± {shown(key, std[key])}"
        low_high = result.get("intervals", [{}])[0].get(key)
        span = "–" if low_high is None else " to ".join(shown(key, v) for v in low_high)
        rows.append([name, value, span, *(shown(key, p["test"][key]) for p in post.values())])
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def reliability(kept: dict[str, Any]) -> Figure:
    """Accuracy against confidence, a point a bin, its area the share of the images."""
    sums = {name: np.array(values) for name, values in kept["reliability"].items()}
    used = sums["images"] > 0
    images = sums["images"][used]
    figure, axes = plain_axes(6, 4)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    confidence, right = sums["confidence"][used] / images, sums["correct"][used] / images
    axes.scatter(confidence, right, s=20 + 300 * images / images.sum(), color=BLUE, alpha=0.7)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.05))
    return figure


def confusion(kept: dict[str, Any], counts: list[int], names: list[str]) -> Figure:
    """Share of each class's images that are called each class, the most frequent first."""
    order = np.argsort(-np.array(counts), kind="stable")
    matrix = np.array(kept["confusion"], float)[np.ix_(order, order)]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true, most frequent first")
    if len(order) <= 30:
        axes.set_xticks(np.arange(len(order)), [names[c] for c in order], rotation=90)
        axes.set_yticks(np.arange(len(order)), [names[c] for c in order])
    figure.colorbar(picture, label="share of the true class")
    return figure


def groups(result: dict[str, Any]) -> Figure:
    """Accuracy of many, medium and few, with the interval of the test images."""
    names = [n for n in ("many", "medium", "few") if result["test"].get(n) is not None]
    values = np.array([100 * result["test"][n] for n in names])
    figure, axes = plain_axes(6, 3)
    bars = axes.bar(names, values, color=BLUE, alpha=0.45, width=0.6)
    spans = [result["intervals"][0].get(n) for n in names]
    for place, span in enumerate(spans):
        if span is not None:
            axes.plot([place, place], [100 * v for v in span], color=INK, linewidth=1.5)
    axes.bar_label(bars, fmt="{:.1f}%", label_type="center", color=INK)
    axes.set(ylabel="test accuracy, %", ylim=(0, 103))
    return figure


def correlations(file: Path) -> Figure:
    """Correlation of the features' channels before and after whitening."""
    with np.load(file, allow_pickle=False) as stored:
        parts = {name: stored[name] for name in ("before", "after")}
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, (name, matrix) in zip(figure.subplots(1, 2), parts.items(), strict=True):
        picture = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(f"{name} whitening", fontsize=10)
        axes.set_xlabel("channel")
    figure.colorbar(picture, ax=figure.axes, label="correlation")
    return figure


def confused(kept: dict[str, Any], file: Path, names: list[str]) -> Figure | None:
    """The images that are most surely wrong; None where none is wrong."""
    if not kept["confused"]:
        return None
    with np.load(file, allow_pickle=False) as stored:
        images = stored["images"]
    columns = 6
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(8, 1.7 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, image, one in zip(places, images, kept["confused"], strict=False):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray")
        true, called = names[one["label"]], names[one["prediction"]]
        axes.set_title(f"{true} called {called}\n{100 * one['confidence']:.0f}%", fontsize=8)
    return figure
