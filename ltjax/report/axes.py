"""What the figures of a report and of a comparison have in common: colors, axes and labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from rich.cells import cell_len, chop_cells

from ltjax.errors import one_line

BLUE, ORANGE, GREEN, PURPLE, GRAY, GOLD = (
    "#2b7fc6",
    "#d9661f",
    "#3d8f5f",
    "#a05195",
    "#8793a0",
    "#c7a000",
)
# Inches. So narrow that text of 10 points can be read where a telephone shows the figure.
WIDTH = 5.6
# More classes than this have no room for their names.
NAMED_CLASSES = 30


class Drawn(NamedTuple):
    """A figure and what a report writes at it.

    Attributes:
      title: its heading.
      caption: a sentence or two that say how to read it.
      figure: of Matplotlib.
    """

    title: str
    caption: str
    figure: Figure


def label(name: str, *, most: int = 24) -> str:
    """A name as a figure writes it: plain text on one line, never mathematics, cut if long.

    Args:
      name: such as the name of a class.
      most: largest width, in letters; one of Chinese, Japanese or Korean is two wide.

    Returns:
      Text for Matplotlib.

    >>> label("$x$"), label("a very long name of a class", most=12), label("猫と犬と", most=6)
    ('\\\\$x\\\\$', 'a very long…', '猫と…')
    """
    text = one_line(name)
    text = text if cell_len(text) <= most else chop_cells(text, most - 1)[0] + "…"
    # Matplotlib reads a pair of unescaped dollars as mathematics; a backslash makes them plain.
    return text.replace("$", r"\$")


def plain_axes(height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, without the lines above and to the right.

    Args:
      height: in inches; the width is `WIDTH`.

    Returns:
      The figure and its axes.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def log_scale(axes: Axes) -> None:
    """Makes the vertical axis logarithmic, with plain numbers at it.

    Args:
      axes: which are changed.
    """
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = np.log10(high / low) if 0 < low < high else np.inf
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    if decades < 1:  # round numbers are too few: every tick has its number
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    elif decades < 4:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())


def frequency_order(counts: Sequence[int]) -> np.ndarray:
    """Classes by their number of training images, the most frequent first.

    Args:
      counts: `[C]`, training images per class.

    Returns:
      Class indices, int64 `[C]`; classes of equal number stay in order.

    >>> frequency_order([5, 9, 9]).tolist()
    [1, 2, 0]
    """
    return np.argsort(-np.asarray(counts), kind="stable")


def class_ticks(axes: Axes, names: Sequence[str], *, vertical: bool = False) -> None:
    """Writes the names of the classes at the horizontal axis, where there is room for them.

    Where they have to stand upright, the figure grows by their length.

    Args:
      axes: which are changed.
      names: of the classes, from left to right; more than `NAMED_CLASSES` are left out.
      vertical: write them upright in any case.
    """
    if len(names) > NAMED_CLASSES:
        return
    longest = max(map(cell_len, names))
    turned = vertical or longest * len(names) > 70
    if turned:
        figure = axes.get_figure(root=True)
        assert figure is not None  # axes of this package always have one
        figure.set_figheight(figure.get_figheight() + 0.08 * longest)
    axes.set_xticks(np.arange(len(names)), list(names), rotation=90 if turned else 0)


def percent(values: Sequence[float | None]) -> list[float]:
    """Shares in percent.

    Args:
      values: shares from 0 to 1, or None.

    Returns:
      The percentages; NaN where there is no share, so that a line has a gap there.

    >>> percent([0.25, None])
    [25.0, nan]
    """
    return [np.nan if value is None else 100 * value for value in values]
