"""Several finished runs side by side, as one HTML page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ltjax.errors import InputError
from ltjax.report.axes import (
    BLUE,
    GOLD,
    GRAY,
    GREEN,
    NAMED_CLASSES,
    ORANGE,
    PURPLE,
    Drawn,
    class_ticks,
    frequency_order,
    label,
    log_scale,
    percent,
    plain_axes,
)
from ltjax.report.build import write_text
from ltjax.report.html import render, svg
from ltjax.report.read import read_run
from ltjax.report.record import GROUPS, RunRecord
from ltjax.report.scores import SCORES

COLORS = (BLUE, ORANGE, GREEN, PURPLE, GRAY, GOLD)


class Cell(NamedTuple):
    """A cell of the table of scores.

    Attributes:
      text: its content.
      best: whether no other run on the same data has a better value.
    """

    text: str
    best: bool


def comparison(runs: Sequence[RunRecord]) -> str:
    """Compares finished runs on one page.

    It has one column per run, figures, and the configuration keys that differ. The best of every
    score is bold where all runs used the same data.

    Args:
      runs: two or more, as `read_run` gives them.

    Returns:
      HTML.

    Raises:
      InputError: fewer than two runs.
    """
    if len(runs) < 2:
        raise InputError("a comparison needs two workdirs or more")
    same = len({tuple(sorted(run.dataset.fingerprint.items())) for run in runs}) == 1
    drawn = _draw(runs, same)
    return render(
        "comparison.html.j2",
        title=f"Comparison of {len(runs)} runs",
        same_data=same,
        columns=_columns(runs),
        scores=_scores(runs, same),
        figures=[(one.title, one.caption, svg(one.figure, one.title)) for one in drawn],
        differences=_differences(runs),
    )


def write_comparison(workdirs: Sequence[str | Path], out: str | Path) -> Path:
    """Compares finished runs on one self-contained HTML page.

    Args:
      workdirs: of two or more finished runs.
      out: the page's file.

    Returns:
      Its path.

    Raises:
      InputError: fewer than two workdirs, or one that is not finished, or damaged.
    """
    return write_text(Path(out), comparison([read_run(path) for path in workdirs]))


def _columns(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Title and subtitle of each run's column."""
    return [
        (run.name, f"{place}, {len(run.seeds)} {'seed' if len(run.seeds) == 1 else 'seeds'}")
        for run, place in zip(runs, _places(runs), strict=True)
    ]


def _scores(runs: Sequence[RunRecord], ranked: bool) -> list[tuple[str, list[Cell]]]:
    rows = []
    for score in SCORES:
        best = score.best(runs)
        if best is not None:
            cells = [
                Cell(score.of(run), ranked and run.test.get(score.key) == best) for run in runs
            ]
            rows.append((score.name, cells))
    return rows


def _differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Configuration keys that are not the same in all runs, and their values."""
    rows = []
    for key in sorted(set().union(*(run.config for run in runs))):
        values = [run.config.get(key) for run in runs]
        if len({json.dumps(value) for value in values}) > 1:
            cells = [
                value if isinstance(value, str) and value else json.dumps(value) for value in values
            ]
            rows.append((key, cells))
    return rows


def _places(runs: Sequence[RunRecord]) -> list[str]:
    """Short names of the workdirs, or their paths where these are not distinct."""
    names = [run.workdir.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.workdir) for run in runs]


def _labels(runs: Sequence[RunRecord]) -> list[str]:
    """What a legend calls each run."""
    return [
        label(run.name if run.name == place else f"{run.name} ({place})", most=40)
        for run, place in zip(runs, _places(runs), strict=True)
    ]


def _draw(runs: Sequence[RunRecord], same_data: bool) -> list[Drawn]:
    drawn = [
        Drawn(
            "Accuracy of many, medium and few",
            "Mean test accuracy of the classes in each group; lines are 95% intervals over "
            "the test images, or ± one standard deviation where a run has several seeds.",
            _groups(runs),
        ),
        Drawn(
            "Spectrum of the classifier's inputs",
            "Eigenvalues of the covariance as shares of their sum; a flat curve is white.",
            _spectra(runs),
        ),
    ]
    if same_data:
        caption = "Test accuracy of each class, with its number of training images."
        drawn.insert(1, Drawn("Classes, most frequent first", caption, _classes(runs)))
    if any(_evaluated(run) for run in runs):
        caption = "Balanced test accuracy at each evaluation; the mean over seeds."
        drawn.insert(0, Drawn("Test accuracy during training", caption, _curves(runs)))
    return drawn


def _evaluated(run: RunRecord) -> list[tuple[float, float]]:
    """Steps of the evaluations during training, and balanced test accuracy at them."""
    lines = [(line.get("step"), line.get("test/balanced_accuracy")) for line in run.metrics]
    return [(step, value) for step, value in lines if step is not None and value is not None]


def _legend(figure: Figure) -> None:
    """A legend above the axes, in two columns where its texts are short enough."""
    texts = figure.axes[0].get_legend_handles_labels()[1]
    ncols = 2 if max(map(len, texts)) <= 36 else 1
    figure.legend(frameon=False, loc="outside upper left", ncols=ncols)


def _curves(runs: Sequence[RunRecord]) -> Figure:
    figure, axes = plain_axes(3.4)
    for index, (run, text) in enumerate(zip(runs, _labels(runs), strict=True)):
        points = _evaluated(run)
        axes.plot(
            [step for step, _ in points],
            percent([value for _, value in points]),
            color=COLORS[index % len(COLORS)],
            marker="o",
            markersize=3,
            label=text,
        )
    axes.set(xlabel="step", ylabel="balanced accuracy, %")
    _legend(figure)
    return figure


def _groups(runs: Sequence[RunRecord]) -> Figure:
    figure, axes = plain_axes(3.4)
    width = 0.8 / len(runs)
    groups = [name for name in GROUPS if any(run.test.get(name) is not None for run in runs)]
    for index, (run, text) in enumerate(zip(runs, _labels(runs), strict=True)):
        places = np.arange(len(groups)) + (index - (len(runs) - 1) / 2) * width
        values = percent([run.test.get(name) for name in groups])
        color = COLORS[index % len(COLORS)]
        axes.bar(places, values, 0.92 * width, color=color, alpha=0.6, label=text)
        for place, name in zip(places, groups, strict=True):
            span = run.spread(name)
            if span is not None:
                axes.plot([place, place], percent(span), color="black", linewidth=1.2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("test accuracy, %")
    _legend(figure)
    return figure


def _classes(runs: Sequence[RunRecord]) -> Figure:
    figure, axes = plain_axes(3.6)
    counts, names = runs[0].training.class_counts, runs[0].dataset.class_names
    order = frequency_order(counts)
    for index, (run, text) in enumerate(zip(runs, _labels(runs), strict=True)):
        axes.plot(
            np.arange(len(order)),
            percent([run.per_class[c] for c in order]),
            color=COLORS[index % len(COLORS)],
            marker="o" if len(order) <= NAMED_CLASSES else None,
            markersize=4,
            label=text,
        )
    longest = max(len(label(name)) for name in names)
    joint = "\n" if longest * len(order) <= 70 else ": "
    class_ticks(axes, [f"{label(names[c])}{joint}{counts[c]:,}" for c in order])
    axes.set(xlabel="class and its training images", ylabel="test accuracy, %")
    _legend(figure)
    return figure


def _spectra(runs: Sequence[RunRecord]) -> Figure:
    figure, axes = plain_axes(3.2)
    for index, (run, text) in enumerate(zip(runs, _labels(runs), strict=True)):
        part = run.after_whitening
        shares = np.maximum(part.spectrum, 1e-9)
        axes.plot(
            np.arange(1, len(shares) + 1),
            shares,
            color=COLORS[index % len(COLORS)],
            label=f"{text}: effective rank {part.effective_rank:.1f}",
        )
    axes.set(xlabel="eigenvalue", ylabel="share of the variance")
    log_scale(axes)
    _legend(figure)
    return figure
