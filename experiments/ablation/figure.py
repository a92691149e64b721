"""The README's picture, accuracy on the long-tailed digits by method, and its table of differences.

    python -m experiments.ablation.figure

Both come from the stored results: docs/images/accuracy-light.png and accuracy-dark.png show
`digits_50`, whose test set holds 50 images of every class, so that accuracy is balanced accuracy;
results/readme.md compares rows of three protocols, and results/in_short.md of all.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.ablation.run import gains
from experiments.results import Results, pooled
from experiments.statistics import Splits
from experiments.tables import interval, render, values

ROOT = Path(__file__).parents[2]
DPI = 200
RESULTS = Path(__file__).parent / "results"
SHOWN = "digits_50"
# The row of the table, and its words in the picture.
METHODS = {
    "ce": "cross-entropy",
    "crt": "cRT",
    "posthoc_la": "post-hoc logit adjustment",
    "bn": "BatchNorm before the classifier",
    "ldam_drw": "LDAM-DRW",
    "balanced_softmax": "balanced softmax",
    "logit_adjustment": "logit adjustment",
    "bn_la": "BatchNorm + logit adjustment",
    "bn_la_slow": "BatchNorm, slower classifier + logit adjustment",
    "cw": "whitening",
    "cw_la_b3rs_bet": "whitening + logit adjustment + B3RS, BET",
    "cw_crt": "whitening + cRT",
    "cw_posthoc_la": "whitening + post-hoc logit adjustment",
    "cw_la": "whitening + logit adjustment",
}
# The columns of the table, and its rows: with a part of the method, and without.
PROTOCOLS = {
    "digits_20": "digits",
    "cifar10_small": "CIFAR-10-LT",
    "cifar100_small": "CIFAR-100-LT",
}
DIFFERENCES = {
    "whitening, with logit adjustment": ("cw_la", "logit_adjustment"),
    "whitening instead of BatchNorm, with logit adjustment": ("cw_la", "bn_la"),
    "B3RS and BET, with both": ("cw_la_b3rs_bet", "cw_la"),
    "the whole method instead of cRT": ("cw_la_b3rs_bet", "crt"),
    "the whole method instead of cRT on whitening": ("cw_la_b3rs_bet", "cw_crt"),
}
# The same of docs/results.md: all protocols, and rows of which the rarest group is shown too.
ALL = {
    "digits_10": "digits, IF 10",
    "digits_20": "digits, IF 20",
    "digits_50": "digits, IF 50",
    "mnist_100": "MNIST",
    "cifar10_small": "CIFAR-10-LT",
    "cifar100_small": "CIFAR-100-LT",
}
IN_SHORT = {
    "whitening, plain loss": ("cw", "ce"),
    "whitening, logit-adjusted loss": ("cw_la", "logit_adjustment"),
    "whitening instead of BatchNorm": ("cw_la", "bn_la"),
    "B3RS and BET": ("cw_la_b3rs_bet", "cw_la"),
    "the whole method instead of cRT": ("cw_la_b3rs_bet", "crt"),
    "... of post-hoc LA": ("cw_la_b3rs_bet", "posthoc_la"),
    "... of LDAM-DRW": ("cw_la_b3rs_bet", "ldam_drw"),
    "... of cRT on whitening": ("cw_la_b3rs_bet", "cw_crt"),
    "... of post-hoc LA on whitening": ("cw_la_b3rs_bet", "cw_posthoc_la"),
}
WITH_RAREST = ("whitening instead of BatchNorm", "B3RS and BET")


class Colors(NamedTuple):
    """Colors of the picture for one background."""

    background: str
    text: str
    grid: str
    plain: str
    whitened: str


THEMES = {
    "light": Colors("#ffffff", "#1f2328", "#d1d9e0", "#818b98", "#0969da"),
    "dark": Colors("#0d1117", "#e6edf3", "#30363d", "#8b949e", "#58a6ff"),
}


def draw(results: Results, colors: Colors) -> Figure:
    """One line a method, the best at the top: its mean, the interval, and every seed."""
    assert isinstance(results.design, Splits)
    found = {name: values(results.rows, name) for name in METHODS}
    order = sorted(found, key=lambda name: found[name].mean())
    figure = Figure(figsize=(8, 4.1), layout="constrained", facecolor=colors.background)
    axes = figure.subplots()
    axes.set_facecolor(colors.background)
    for place, name in enumerate(order):
        whitened = name.startswith("cw")
        color = colors.whitened if whitened else colors.plain
        x = found[name]
        mean, half = interval(x, results.design.ratio)
        axes.scatter(100 * x, np.full(len(x), place), s=9, color=color, alpha=0.3, linewidths=0)
        axes.errorbar(mean, place, xerr=half, fmt="o", ms=6, capsize=4, lw=2, color=color)
        axes.annotate(
            f"{mean:.1f}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold" if whitened else "normal",
        )
    axes.set_yticks(range(len(order)), [METHODS[name] for name in order])
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        label.set_color(colors.whitened if name.startswith("cw") else colors.text)
    counts = sorted({len(x) for x in found.values()})
    seeds = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    figure.supxlabel(
        f"balanced accuracy, %: the mean, its 95% CI, and every one of {seeds} seeds\n"
        "CIs that overlap are no test: differences between methods are tested seed by seed",
        color=colors.text,
        size=9.5,
    )
    axes.grid(axis="x", color=colors.grid, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colors.text, length=0)
    axes.tick_params(axis="y", labelsize=10.5)
    axes.spines[:].set_visible(False)
    return figure


def stored(protocol: str) -> Results:
    """The stored results of a protocol."""
    return pooled(RESULTS / f"{protocol}.csv")


def table() -> str:
    """Differences in points with their CIs, as the tables of all parts show them."""
    found = [gains(stored(protocol)) for protocol in PROTOCOLS]
    lines = [[words, *(each[pair][0] for each in found)] for words, pair in DIFFERENCES.items()]
    return render(["", *PROTOCOLS.values()], lines)


def in_short() -> str:
    """The same of more rows and all protocols, where they have five seeds."""
    found = [gains(stored(protocol)) for protocol in ALL]
    lines = []
    for words, pair in IN_SHORT.items():
        lines.append([words, *(each[pair][0] for each in found)])
        if words in WITH_RAREST:
            lines.append([f"{words}: the rarest group", *(each[pair][1] for each in found)])
    return render(["top-1, where no group is named", *ALL.values()], lines)


def main() -> None:
    """Draws the picture for a light and for a dark background; writes the table."""
    results = stored(SHOWN)
    for name, colors in THEMES.items():
        path = ROOT / "docs" / "images" / f"accuracy-{name}.png"
        draw(results, colors).savefig(path, dpi=DPI, metadata={"Software": None})
        print(path.relative_to(ROOT))
    (RESULTS / "readme.md").write_text(table())
    (RESULTS / "in_short.md").write_text(in_short())
    print(table())


if __name__ == "__main__":
    main()
