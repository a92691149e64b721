"""The paper's explanation, measured: correlation, entropy and conditioning against imbalance.

    python -m experiments.mechanism.run [--seeds 5] [--out experiments/mechanism/results]

The digits at imbalance factors 1 to 100, always with about the same number of training images, so
that imbalance is not mixed up with having less data.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from experiments.measures import MEASURES, flat, is_shown, text_of
from experiments.mechanism.stability import PLANS
from experiments.protocols import EQUAL_SIZE, Trial
from experiments.results import Results, design
from experiments.statistics import Difference
from experiments.store import Curve, Rows, read, read_curves
from experiments.tables import Cell, Shown, compare, render, values
from experiments.trials import Extras, run_and_store, standard_arguments

ROWS = ("ce", "logit_adjustment", "bn_la", "cw_la", "cw_la_b3rs_bet")
PROBE = "experiments.mechanism.stability:measure"
# The imbalance factor whose runs keep their curves, and what these show.
CURVES_AT = 100
CURVES = {
    "test/balanced_accuracy": "balanced accuracy, %",
    "before_whitening/mean_abs_correlation": "mean correlation of the features",
    "before_whitening/effective_rank": "effective rank of the features",
    "after_whitening/effective_rank": "effective rank, classifier's input",
}
BAND = "lines: means over seeds; bands: ± one standard deviation"


def joined(stores: dict[int, Rows]) -> Rows:
    """Rows `NAME at FACTOR` of all stores."""
    return {
        f"{name} at {factor}": seeds
        for factor, rows in stores.items()
        for name, seeds in flat(rows).items()
    }


def _factor(found: Difference, p: float) -> str:
    mean, low, high = (f"x {10**x:.2g}" for x in found[:3])
    return f"**{mean}** [{low}, {high}]" if p < 0.05 else f"{mean} [{low}, {high}]"


def _sum(found: Difference, p: float) -> str:
    mean, low, high = (f"{x:+.2g}" for x in found[:3])
    return f"**{mean}** [{low}, {high}]" if p < 0.05 else f"{mean} [{low}, {high}]"


def _change(found: Results, name: str, reference: str, measure: str) -> Shown | None:
    apart = compare(found, name, reference, measure)
    return apart and Shown(apart, _factor if MEASURES[measure][1] else _sum)


def table(stores: dict[int, Rows]) -> str:
    """Every measure of every row at the least and the most imbalance, and its change.

    Condition numbers change by factors. What `is_shown` is not, is left out.
    """
    found = Results(joined(stores), design(EQUAL_SIZE[min(stores)]))
    low, high = min(stores), max(stores)
    lines: list[list[Cell]] = []
    for measure, (words, _) in MEASURES.items():
        for name in ROWS:
            at = [f"{name} at {factor}" for factor in (low, high)]
            if not all(row in found.rows and is_shown(found.rows, row, measure) for row in at):
                continue
            cells = [text_of(values(found.rows, row, measure).mean(), measure) for row in at]
            change = _change(found, at[1], at[0], measure)
            against = "" if name == "ce" else _change(found, at[1], f"ce at {high}", measure)
            lines.append([words, f"`{name}`", *cells, change, against])
    heads = ["measure", "row", f"IF {low}", f"IF {high}", "change", f"against `ce` at IF {high}"]
    return render(heads, lines)


def _band(axis: Any, factors: Any, found: Any, name: str, logarithmic: bool = False) -> None:
    """Mean and standard deviation against the imbalance factor."""
    mean = np.array([x.mean() for x in found])
    spread = np.array([x.std(ddof=1) if len(x) > 1 else 0.0 for x in found])
    lines = [mean, mean - spread, mean + spread]
    mean, low, high = (10**line if logarithmic else line for line in lines)
    (line,) = axis.plot(factors, mean, marker="o", markersize=3, label=name)
    axis.fill_between(factors, low, high, alpha=0.15, color=line.get_color())
    axis.set_xscale("log")
    axis.set_xticks(factors, [str(factor) for factor in factors])
    axis.minorticks_off()
    axis.set_xlabel("imbalance factor")


def figure_of_imbalance(stores: dict[int, Rows], path: Path) -> None:
    """A panel for every measure and the accuracy, against the imbalance factor."""
    from matplotlib.figure import Figure

    rows, factors = joined(stores), sorted(stores)
    picture = Figure(figsize=(13, 6), layout="constrained")
    axes = picture.subplots(2, 4).ravel()
    for axis, measure in zip(axes, ["accuracy", *MEASURES], strict=True):
        words, logarithmic = MEASURES.get(measure, ("top-1, %", False))
        for name in ROWS:
            found = [values(rows, f"{name} at {factor}", measure) for factor in factors]
            scale = 100 if measure == "accuracy" else 1
            _band(axis, factors, [scale * x for x in found], name, logarithmic)
        axis.set_yscale("log" if logarithmic else "linear")
        axis.set_ylabel(words, fontsize=9)
    axes[0].legend(fontsize=8)
    picture.suptitle(BAND, fontsize=10)
    picture.savefig(path, dpi=110)


def figure_of_training(curves: dict[str, dict[int, Curve]], path: Path) -> None:
    """Correlation and effective rank over training, means over seeds."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(13, 3.4), layout="constrained")
    axes = picture.subplots(1, 4)
    for axis, (key, words) in zip(axes, CURVES.items(), strict=True):
        for name in ROWS:
            found = list(curves[name].values())
            steps = [at["step"] for at in found[0]]
            mean = np.mean([[at[key] for at in curve] for curve in found], axis=0)
            axis.plot(steps, (100 if key.endswith("accuracy") else 1) * mean, label=name)
        axis.set_ylabel(words, fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    picture.suptitle(f"imbalance factor {CURVES_AT}, means over seeds", fontsize=10)
    picture.savefig(path, dpi=110)


def _deviation(rows: Rows, plan: str, words: str) -> np.ndarray:
    return values(rows, "ce", f"{plan}/{words}")


def table_of_stability(stores: dict[int, Rows]) -> str:
    """Deviation of the batch's covariance under each sampler, on the features of `ce`."""
    factors = sorted(stores)
    heads = ["sampler", "from the covariance of", *(f"IF {factor}" for factor in factors)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for words, shown in (("own", "all the sampler's draws"), ("balanced", "balanced images")):
        for plan in PLANS:
            found = [_deviation(stores[factor], plan, words) for factor in factors]
            cells = [f"{x.mean():.3f} ± {x.std(ddof=1):.3f}" for x in found]
            lines.append(f"| `{plan}` | {shown} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure_of_stability(stores: dict[int, Rows], path: Path) -> None:
    """The same against the imbalance factor."""
    from matplotlib.figure import Figure

    factors = sorted(stores)
    picture = Figure(figsize=(9, 3.4), layout="constrained")
    axes = picture.subplots(1, 2)
    titles = {"own": "that of all draws of the sampler", "balanced": "that of balanced images"}
    for axis, (words, title) in zip(axes, titles.items(), strict=True):
        for plan in PLANS:
            _band(axis, factors, [_deviation(stores[f], plan, words) for f in factors], plan)
        axis.set_title(f"from {title}", fontsize=10)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("relative deviation of a batch's covariance", fontsize=9)
    axes[0].legend(fontsize=8, title="sampler", title_fontsize=8)
    picture.suptitle(BAND, fontsize=10)
    picture.savefig(path, dpi=110)


def main() -> None:
    """Runs what is missing; prints and writes table and figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    standard_arguments(parser)
    args = parser.parse_args()
    stores: dict[int, Rows] = {}
    for factor, protocol in EQUAL_SIZE.items():
        trials = [Trial(row, seed) for seed in range(args.seeds) for row in ROWS]
        extras = Extras(PROBE, tuple(CURVES) if factor == CURVES_AT else ())
        stores[factor] = run_and_store(protocol, trials, args, parser, extras).rows
    print("\n" + table(stores))
    if args.out:
        write(args.out)


def write(folder: Path) -> None:
    """Tables and figures of the stored results."""
    stores = stored(folder)
    (folder / "mechanism.md").write_text(table(stores))
    (folder / "stability.md").write_text(table_of_stability(stores))
    figure_of_stability(stores, folder / "stability.png")
    figure_of_imbalance(stores, folder / "imbalance.png")
    curves = read_curves(folder / f"{EQUAL_SIZE[CURVES_AT]}.csv")
    figure_of_training(curves, folder / "training.png")


def stored(folder: Path) -> dict[int, Rows]:
    """The stored results, by imbalance factor."""
    return {factor: read(folder / f"{name}.csv") for factor, name in EQUAL_SIZE.items()}


if __name__ == "__main__":
    main()
