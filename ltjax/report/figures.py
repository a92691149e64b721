"""The figures of a report, each a function of a finished run."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltjax.report.axes import (
    BLUE,
    GRAY,
    NAMED_CLASSES,
    ORANGE,
    WIDTH,
    Drawn,
    class_ticks,
    frequency_order,
    label,
    log_scale,
    percent,
    plain_axes,
)
from ltjax.report.record import GROUPS, RunRecord


def _curves(run: RunRecord) -> Figure:
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    train = [line for line in run.metrics if line.get("train/loss") is not None]
    epochs = [line["train/epoch"] or 0.0 for line in train]
    alone = "o" if len(train) == 1 else None  # one point makes no line
    left.plot(epochs, [line["train/loss"] for line in train], color=BLUE, marker=alone)
    left.set(xlabel="epoch", ylabel="training loss")
    log_scale(left)
    batches = percent([line.get("train/accuracy") for line in train])
    right.plot(epochs, batches, color=GRAY, marker=alone, label="training batches")
    test = [line for line in run.metrics if line.get("test/balanced_accuracy") is not None]
    per_step = epochs[-1] / (train[-1]["step"] or 1.0)
    right.plot(
        [(line["step"] or 0.0) * per_step for line in test],
        percent([line["test/balanced_accuracy"] for line in test]),
        color=ORANGE,
        marker="o",
        markersize=3,
        label="test, balanced",
    )
    right.set(xlabel="epoch", ylabel="accuracy, %")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _groups(run: RunRecord) -> Figure:
    shares = {name: run.test[name] for name in GROUPS if run.test.get(name) is not None}
    figure, axes = plain_axes(3)
    heights = percent(list(shares.values()))
    axes.bar(list(shares), heights, color=BLUE, alpha=0.5, width=0.6)
    for place, (name, height) in enumerate(zip(shares, heights, strict=True)):
        span = percent(run.spread(name) or [])
        if span:
            axes.plot([place, place], span, color="black", linewidth=1.5)
        # Above the bar and above the line, so that neither runs through the number.
        axes.annotate(
            f"{height:.1f}%",
            (place, max(height, *span)) if span else (place, height),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
        )
    axes.set(ylabel="test accuracy, %", ylim=(0, 112), yticks=range(0, 101, 20))
    return figure


def _bars_of_counts(counts: np.ndarray, height: float) -> tuple[Figure, Axes, Axes]:
    """Bars of the training images of each class, and axes over them for what is compared."""
    figure, axes = plain_axes(height)
    axes.bar(np.arange(len(counts)), counts, color=BLUE, alpha=0.4, width=0.8)
    axes.set_xlabel("class, most frequent first")
    axes.set_ylabel("training images", color=BLUE)
    log_scale(axes)
    right = axes.twinx()
    right.spines[["top"]].set_visible(False)
    return figure, axes, right


def _counts_and_accuracy(run: RunRecord) -> Figure:
    counts = np.array(run.training.class_counts)
    order = frequency_order(run.training.class_counts)
    accuracy = percent([run.per_class[c] for c in order])
    figure, axes, right = _bars_of_counts(counts[order], 3.2)
    class_ticks(axes, [label(run.dataset.class_names[c]) for c in order])
    right.plot(np.arange(len(order)), accuracy, color=ORANGE, marker="o", markersize=4)
    right.set_ylabel("test accuracy, %", color=ORANGE)
    known = [a for a in accuracy if not np.isnan(a)]
    right.set_ylim(min(known, default=0) - 5, 101)
    return figure


def _confusion(run: RunRecord) -> Figure:
    order = frequency_order(run.training.class_counts)
    matrix = run.confusion[np.ix_(order, order)].astype(np.float64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [label(run.dataset.class_names[c]) for c in order]
    longest = max(map(len, names)) if len(order) <= NAMED_CLASSES else 0
    # As high as the square is wide beside the names and the bar of colors.
    side = WIDTH - 1.4 - 0.075 * longest
    figure = Figure(figsize=(WIDTH, side + 0.6), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true, most frequent first")
    if len(order) <= NAMED_CLASSES:
        class_ticks(axes, names, vertical=max(map(len, names)) > 3)
        axes.set_yticks(np.arange(len(order)), names)
    figure.colorbar(picture, label="share of the true class's images")
    return figure


def _reliability(run: RunRecord) -> Figure:
    figure, axes = plain_axes(4)
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1)
    drawn = [("as trained", BLUE, run.reliability)]
    if run.calibrated is not None:
        drawn.append(("after temperature scaling", ORANGE, run.calibrated))
    for text, color, bins in drawn:
        images, confidence, correct = bins[:, bins[0] > 0]
        sizes = 20 + 300 * images / images.sum()
        axes.scatter(confidence / images, correct / images, sizes, color, alpha=0.7)
        axes.scatter([], [], 40, color, alpha=0.7, label=text)  # of one size in the legend
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.05))
    if len(drawn) > 1:
        axes.legend(frameon=False, loc="lower right")
    return figure


def _spectra(run: RunRecord) -> Figure:
    figure, axes = plain_axes(3)
    parts = (("before", GRAY, run.before_whitening), ("after", BLUE, run.after_whitening))
    for name, color, part in parts:
        shares = np.maximum(part.spectrum, 1e-9)
        text = (
            f"{name} whitening: effective rank {part.effective_rank:.1f} of {len(shares)}, "
            f"mean |correlation| {part.mean_abs_correlation:.2f}"
        )
        axes.plot(np.arange(1, len(shares) + 1), shares, color=color, label=text)
    axes.set(xlabel="eigenvalue", ylabel="share of the variance")
    log_scale(axes)
    figure.legend(frameon=False, loc="outside upper left")
    return figure


def _correlations(run: RunRecord) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    parts = {"before": run.before_whitening, "after": run.after_whitening}
    for axes, (name, part) in zip(figure.subplots(1, 2), parts.items(), strict=True):
        picture = axes.imshow(part.correlation, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(f"{name} whitening", fontsize=10)
        axes.set_xlabel("channel")
        axes.locator_params(integer=True)
    figure.colorbar(picture, ax=figure.axes, label="correlation", shrink=0.8)
    return figure


def draw(run: RunRecord) -> list[Drawn]:
    """The figures of a run's scores and features, in the report's order.

    Args:
      run: a finished run.

    Returns:
      The figures, without learning curves where nothing was trained.
    """
    one = len(run.seeds) == 1
    lines = "95% intervals over the test images" if one else "± one standard deviation over seeds"
    drawn = [
        Drawn(
            "Accuracy of many, medium and few",
            f"Mean test accuracy of the classes in each group; lines are {lines}.",
            _groups(run),
        ),
        Drawn(
            "Training images and test accuracy",
            "Bars are training images of each class, the line is its test accuracy.",
            _counts_and_accuracy(run),
        ),
        Drawn(
            "Confusion",
            "Each row is a true class; its cells are the shares of its test images that are "
            "predicted as each class. Tail-to-head confusion is at the lower left.",
            _confusion(run),
        ),
        Drawn(
            "Reliability",
            "Accuracy against confidence in 15 bins; the larger a point, the more images it has. "
            "Below the diagonal the network is overconfident.",
            _reliability(run),
        ),
        Drawn(
            "Covariance spectrum of the test features",
            "Eigenvalues of the covariance as shares of their sum; a flat curve is white.",
            _spectra(run),
        ),
        Drawn(
            "Correlation of the test features",
            "Correlation between the channels, before and after whitening.",
            _correlations(run),
        ),
    ]
    if any(line.get("train/loss") is not None for line in run.metrics):
        caption = "Loss and accuracy of the training batches, and balanced test accuracy."
        drawn.insert(0, Drawn("Learning curves", caption, _curves(run)))
    return drawn


def exposures(run: RunRecord) -> Figure:
    """How often the images of each class are seen in the whole schedule, by rank of class.

    Args:
      run: a finished run.

    Returns:
      The figure.
    """
    seen: Any = run.dataset.exposure
    counts = np.array(seen["class_counts"])
    order = frequency_order(seen["class_counts"])
    figure, axes, right = _bars_of_counts(counts[order], 3)
    class_ticks(axes, [label(run.dataset.class_names[c]) for c in order])
    least, most = (np.array(seen[key])[order] for key in ("class_least", "class_most"))
    mean = np.array(seen["class_schedule"])[order] / np.maximum(counts[order], 1)
    places = np.arange(len(order))
    right.fill_between(places, least, most, color=ORANGE, alpha=0.25, linewidth=0)
    right.plot(places, mean, color=ORANGE, marker="o", markersize=4)
    epochs = "1 epoch" if seen["epochs"] == 1 else f"{seen['epochs']} epochs"
    right.set_ylabel(f"views of an image, {epochs}", color=ORANGE)
    right.set_ylim(0, 1.08 * max(most.max(), 1))
    return figure
