"""The field's protocol: published values, what is kept of its runs, their measures and picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.measures import MEASURES, flat, is_shown, text_of
from experiments.protocols import Trial
from experiments.results import Results
from experiments.store import Curve, Rows
from experiments.tables import Cell, interval, render, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Its runs are long: their learning curves are kept.
FIELD = ("cifar10", "cifar100")
CURVES = (
    "test/balanced_accuracy",
    "before_whitening/effective_rank",
    "before_whitening/mean_abs_correlation",
)
# Top-1 with ResNet-32 at imbalance factor 100, with the protocol. Cao et al. report the best epoch
# on the test images; Menon et al. train for 1,241 and 1,419 epochs, 80.9 being the best tau of the
# post-hoc form. Of tau 1 the README of their code (logit_adjustment in google-research) has 77.3 of
# the post-hoc form, and 77.9 and 44.1 of the loss. MiSLAS's are those of its README
# (dvlab-research/MiSLAS), with 200 epochs in its configurations, as in BBN's. For the others we
# know no protocol: later papers quote them.
PUBLISHED = {
    "cifar10": {
        "ce": "70.4 (Cao 2019, 200 epochs)",
        "ldam_drw": "77.0 (Cao 2019, 200 epochs)",
        "crt": "75.0 (protocol unknown)",
        "tau_norm": "72.7 (protocol unknown)",
        "balanced_softmax": "77.5 (protocol unknown)",
        "logit_adjustment": "77.3 (their code) to 80.9 (Menon 2021, 1,241 epochs)",
        "BBN": "79.8 (Zhou 2020, 200 epochs)",
        "MiSLAS": "82.5 (Zhong 2021, 200 epochs, mixup)",
        "BCL": "84.3 (protocol unknown)",
        "ProCo": "85.9 (protocol unknown)",
        "SURE": "86.9 (protocol unknown)",
    },
    "cifar100": {
        "ce": "38.3 (Cao 2019, 200 epochs)",
        "ldam_drw": "42.0 (Cao 2019, 200 epochs)",
        "crt": "40.3 (protocol unknown)",
        "tau_norm": "41.0 (protocol unknown)",
        "balanced_softmax": "43.0 (protocol unknown)",
        "logit_adjustment": "43.9 (Menon 2021, 1,419 epochs)",
        "BBN": "42.6 (Zhou 2020, 200 epochs)",
        "MiSLAS": "47.0 (Zhong 2021, 200 epochs, mixup)",
        "BCL": "51.9 (protocol unknown)",
        "ProCo": "52.8 (protocol unknown)",
        "SURE": "57.3 (protocol unknown)",
    },
}


def measures(rows: Rows, names: Sequence[str]) -> str:
    """Diagnostics of the networks, means over seeds, as Markdown.

    Condition numbers are averaged as logarithms. A measure that the runs do not have has no column.

    Args:
      rows: the results of a protocol.
      names: which rows, in order; those that are not there are left out.
    """
    found = flat(rows)
    runs = [result for seeds in found.values() for result in seeds.values()]
    shown = [measure for measure in MEASURES if all(measure in result for result in runs)]
    lines: list[list[Cell]] = [
        [
            f"`{name}`",
            *(
                text_of(values(found, name, measure).mean(), measure)
                if is_shown(found, name, measure)
                else "the same"
                for measure in shown
            ),
        ]
        for name in names
        if name in found
    ]
    return render(["row", *(MEASURES[measure][0] for measure in shown)], lines)


GROUPS = {"many": "^", "medium": "s", "few": "v"}
PLAIN, WHITENED = "tab:gray", "tab:blue"


def color_of(row: str) -> str:
    """Blue for rows with whitening, gray for others."""
    return WHITENED if row.startswith("cw") else PLAIN


def _accuracies(axes: "Axes", rows: Rows, names: list[str]) -> None:
    """Top-1 of every row with its 95% CI over seeds, and that of the groups of classes."""
    present = [group for group in GROUPS if group in next(iter(rows[names[0]].values()))]
    for place, name in enumerate(names):
        mean, half = interval(values(rows, name))
        color = color_of(name)
        axes.errorbar(mean, place, xerr=half, fmt="o", capsize=3, color=color, zorder=3)
        axes.annotate(f"{mean:.1f}", (mean, place), (0, 6), textcoords="offset points")
        for group in present:
            share = 100 * values(rows, name, group).mean()
            axes.plot(share, place, GROUPS[group], ms=5, color=color, alpha=0.4)
    for group in present:
        axes.plot([], [], GROUPS[group], ms=5, color="black", alpha=0.4, label=group)
    seeds = [f"{name} ({len(rows[name])})" for name in names]
    axes.set_yticks(range(len(names)), seeds, fontsize=9)
    axes.set_xlabel("accuracy, %: top-1 (circles, 95% CI over seeds) and groups of classes")
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(axis="x", alpha=0.3)


def _curves(axes: "Axes", curves: dict[str, dict[int, Curve]], names: list[str]) -> None:
    """Balanced accuracy over training, means over seeds; second stages train for too short."""
    for name in names:
        if Trial(name, 0).first is not None:
            continue
        found = list(curves[name].values())
        steps = np.array([at["step"] for at in found[0]])
        mean = np.mean([[at["test/balanced_accuracy"] for at in curve] for curve in found], axis=0)
        axes.plot(100 * steps / steps[-1], 100 * mean, lw=1.2, label=name)
    axes.set_xlabel("part of the training, %")
    axes.set_ylabel("balanced accuracy, %")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def _costs(axes: "Axes", rows: Rows, names: list[str]) -> None:
    """Top-1 against the time of the whole training, that of a stage one included."""
    for name in names:
        first = Trial(name, 0).first
        parts = [name] if first is None else [first.row, name]
        hours = sum(float(np.median(values(rows, part, "seconds"))) for part in parts) / 3600
        top = 100 * values(rows, name).mean()
        axes.plot(hours, top, "o", color=color_of(name))
        axes.annotate(name, (hours, top), (5, -3), textcoords="offset points", fontsize=8)
    axes.set_xlabel("hours of training, median")
    axes.set_ylabel("top-1, %")
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)


def figure(results: Results, curves: dict[str, dict[int, Curve]], path: Path) -> None:
    """Accuracy by row, learning curves, and accuracy against cost.

    Rows with a setting of their own, which costs the same, are in the first part only.

    Args:
      results: the stored runs of a protocol.
      curves: those of the runs, by row and seed.
      path: of the picture.
    """
    from matplotlib.figure import Figure

    rows = results.rows
    names = sorted(rows, key=lambda name: values(rows, name).mean())
    picture = Figure(figsize=(13, 6.5), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.1, 1))
    grid = right.get_subplotspec().subgridspec(2, 1)
    right.remove()
    _accuracies(left, rows, names)
    usual = [name for name in names[::-1] if " " not in name]
    _curves(picture.add_subplot(grid[0]), curves, [name for name in usual if name in curves])
    _costs(picture.add_subplot(grid[1]), rows, usual)
    picture.savefig(path, dpi=110)
