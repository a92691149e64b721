"""Whitening against its baseline, BatchNorm before the classifier, and what decides between them.

    python -m experiments.baseline.run --protocol baseline_cifar10 --data-dir TFDS_DIR
                                       [--out experiments/baseline/results]

All rows use the logit-adjusted loss. Seeds are others than those of the ablation's own runs.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import stats

from experiments.protocols import PROTOCOLS, Trial
from experiments.results import Results, files, of_store, results
from experiments.statistics import Difference
from experiments.tables import Cell, Shown, compare, percent, points, rarest, render, values
from experiments.trials import Extras, run_and_store, standard_arguments

FIRST_SEED = 100
BASELINE = "bn_la"
PROBE = "experiments.baseline.gap:measure"
TENTH = " data.max_count=500 train.epochs=100"
NO_AUGMENTATION = " augment.max_shift=0 augment.flip=False"
# Questions, and the rows that answer them.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "The contenders": ("logit_adjustment", BASELINE, "cw_la"),
    "How much ridge?": (
        "cw_la whitening.shrinkage=0.01",
        "cw_la whitening.shrinkage=auto",
        "cw_la whitening.shrinkage=0.5",
        "cw_la whitening.shrinkage=0.9",
        "bn_la whitening.shrinkage=0.1",
    ),
    "Only centering, and one scale for all channels?": ("cw_la whitening.shrinkage=1.0",),
    "Statistics of several batches?": ("cw_la whitening.memory=0.9",),
    "Groups of eight channels?": ("cw_la whitening.groups=8",),
    "Channels of one scale first (BatchNorm, then whitening)?": (
        "cw_la whitening.standardize=True",
    ),
    "A slower, or a faster classifier?": (
        "bn_la optimizer.head_rate=0.1",
        "cw_la optimizer.head_rate=0.1",
        "logit_adjustment optimizer.head_rate=10",
        "bn_la optimizer.head_rate=10",
    ),
    "Larger batches, at twice the rate?": (
        "bn_la train.batch_size=256 optimizer.learning_rate=0.2",
        "cw_la train.batch_size=256 optimizer.learning_rate=0.2",
    ),
    "A tenth of the images, which the network nearly fits?": tuple(
        row + TENTH for row in ("logit_adjustment", BASELINE, "cw_la")
    ),
    "A tenth of the images and no augmentation, which it fits wholly?": tuple(
        row + TENTH + NO_AUGMENTATION for row in ("logit_adjustment", BASELINE, "cw_la")
    ),
    "Balanced batches, B3RS?": ("cw_la_b3rs", "bn_la plan.name=b3rs"),
    "Balanced batches, B3RS and BET?": (
        "cw_la_b3rs_bet",
        "cw_la_b3rs_bet whitening.shrinkage=0.5",
        "cw_la_b3rs_bet whitening.shrinkage=0.9",
        "cw_la_b3rs_bet whitening.shrinkage=1.0",
        "bn_la plan.name=b3rs_bet",
    ),
    "Balanced batches, and the prior of the training set?": (
        "cw_la_b3rs loss.prior=data",
        "bn_la loss.prior=data plan.name=b3rs",
        "cw_la_b3rs_bet loss.prior=data",
        "bn_la loss.prior=data plan.name=b3rs_bet",
    ),
}
MEASURES = {
    "noise": "noise",
    "gap": "gap",
    "train_accuracy_running": "train",
    "low_half_energy": "low half's weight",
    "low_half_accuracy": "low half's accuracy",
    "high_half_accuracy": "high half's accuracy",
}


def baseline_of(row: str) -> str:
    """The baseline with all else that a row changes.

    >>> baseline_of("cw_la whitening.groups=4 train.batch_size=512")
    'bn_la train.batch_size=512'
    """
    name, *changes = row.split(" ")
    kept = [change for change in changes if not change.startswith("whitening.")]
    if name.startswith("cw_la_"):
        kept.append(f"plan.name={name.removeprefix('cw_la_')}")
    return " ".join([BASELINE, *kept])


def table(found: Results) -> str:
    """Accuracy, difference to the baseline, and the measures of `gap.measure`."""
    rows = found.rows
    heads = ["row", "top-1", "rarest group", f"minus `{BASELINE}`", *MEASURES.values()]
    lines: list[list[Cell]] = []
    for question, names in QUESTIONS.items():
        known = [name for name in names if name in rows]
        if known:
            lines.append([f"**{question}**", *[""] * (len(heads) - 1)])
        for name in known:
            columns = ("accuracy", rarest({name: rows[name]}))
            cells: list[Cell] = [f"`{name}`"]
            cells += [percent(values(rows, name, column)) for column in columns]
            baseline = baseline_of(name)
            cells.append("" if name == baseline else compare(found, name, baseline))
            for measure in MEASURES:
                measured = values(rows, name, measure)
                cells.append(f"{np.mean(measured):.3f}" if len(measured) else "")
            lines.append(cells)
    return render(heads, lines)


# What decides, as pairs of rows.
PAIRS = {
    "whitening instead of BatchNorm": ("cw_la", BASELINE),
    "with the ridge 0.5": ("cw_la whitening.shrinkage=0.5", BASELINE),
    "with the ridge 0.9": ("cw_la whitening.shrinkage=0.9", BASELINE),
    "with B3RS and BET under both": ("cw_la_b3rs_bet", "bn_la plan.name=b3rs_bet"),
    "with B3RS, BET and the ridge 0.5": (
        "cw_la_b3rs_bet whitening.shrinkage=0.5",
        "bn_la plan.name=b3rs_bet",
    ),
    "with B3RS, BET and the ridge 0.9": (
        "cw_la_b3rs_bet whitening.shrinkage=0.9",
        "bn_la plan.name=b3rs_bet",
    ),
    "with B3RS, BET and the ridge 1.0 (centering and one scale)": (
        "cw_la_b3rs_bet whitening.shrinkage=1.0",
        "bn_la plan.name=b3rs_bet",
    ),
    "the ridge 0.9 instead of 0.5, with B3RS and BET": (
        "cw_la_b3rs_bet whitening.shrinkage=0.9",
        "cw_la_b3rs_bet whitening.shrinkage=0.5",
    ),
    "the ridge 0.9 instead of 1.0, with B3RS and BET": (
        "cw_la_b3rs_bet whitening.shrinkage=0.9",
        "cw_la_b3rs_bet whitening.shrinkage=1.0",
    ),
    "instead of BatchNorm with a slow classifier": ("cw_la", "bn_la optimizer.head_rate=0.1"),
    "BatchNorm with a slow classifier instead of BatchNorm": (
        "bn_la optimizer.head_rate=0.1",
        BASELINE,
    ),
    "centering and one scale instead of nothing": (
        "cw_la whitening.shrinkage=1.0",
        "logit_adjustment",
    ),
    "decorrelation on top of that": ("cw_la", "cw_la whitening.shrinkage=1.0"),
    "the batch's covariance instead of a steady one": ("cw_la", "cw_la whitening.memory=0.9"),
    "B3RS and BET on whitening": ("cw_la_b3rs_bet", "cw_la"),
    "B3RS and BET on BatchNorm": ("bn_la plan.name=b3rs_bet", BASELINE),
}


def _with_seeds(found: Difference, p: float) -> str:
    return f"{points(found, p)}, {found.seeds} seeds"


def pairs_table(stores: dict[str, Results]) -> str:
    """Differences of `PAIRS` in points, with their seeds, a column for each store."""
    names = {"baseline_cifar10": "CIFAR-10-LT", "baseline_digits": "digits"}
    lines: list[list[Cell]] = []
    for words, (name, reference) in PAIRS.items():
        found = [compare(store, name, reference) for store in stores.values()]
        cells = [Shown(x, _with_seeds) if x else None for x in found]
        lines.append([words, f"`{name}` − `{reference}`", *cells])
    return render(["what", "rows", *(names[name] for name in stores)], lines)


def figure(stores: dict[str, Results], path: Path) -> None:
    """Accuracy against the ridge, beside the baseline and the plain network, by store."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 3.4), layout="constrained")
    axes = picture.subplots(1, len(stores), squeeze=False)[0]
    for axis, (name, store) in zip(axes, stores.items(), strict=True):
        rows = store.rows
        for row, color in (("logit_adjustment", "#888888"), (BASELINE, "#d65f1f")):
            if row not in rows:
                continue
            x = 100 * values(rows, row)
            half = x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else 0.0
            axis.axhline(x.mean(), color=color, linestyle="--", label=row)
            axis.axhspan(x.mean() - half, x.mean() + half, color=color, alpha=0.12, lw=0)
        at = {f"cw_la whitening.shrinkage={a}": a for a in (0.01, 0.5, 0.9, 1.0)} | {"cw_la": 0.1}
        known = [
            (a, 100 * values(rows, row))
            for row, a in sorted(at.items(), key=lambda p: p[1])
            if row in rows
        ]
        errors = [x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else 0.0 for _, x in known]
        places = range(len(known))
        axis.errorbar(places, [x.mean() for _, x in known], yerr=errors, fmt="o-", label="cw_la")
        axis.set_xticks(places, [f"{a:g}" for a, _ in known])
        axis.set_xlabel("ridge (whitening.shrinkage)")
        axis.set_title(PROTOCOLS[name].words.split(";")[0], fontsize=9)
    axes[0].set_ylabel("top-1, %; mean and its standard error")
    axes[0].legend(fontsize=8)
    picture.savefig(path, dpi=110)


def gaps(store: Results) -> dict[str, tuple[float, float]]:
    """Gap, and points of top-1 over the baseline, of every row with full data and another layer."""
    found, rows = {}, store.rows
    for name, seeds in rows.items():
        difference = compare(store, name, baseline_of(name))
        measured = values(rows, name, "gap")
        complete = len(measured) == len(seeds)
        if difference and name != baseline_of(name) and complete and TENTH not in name:
            found[name] = (float(np.mean(measured)), 100 * difference.mean)
    return found


def rank_correlation(points: np.ndarray) -> tuple[float, float, float]:
    """Spearman's, of `[N, 2]`, with the 95% CI of Fisher's transformation.

    Its standard error is that of Bonett and Wright, as if the points were independent; rows that
    share a baseline are not, so the CI is too narrow rather than too wide.

    Source: Bonett and Wright, Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations (Psychometrika 65, 2000), https://doi.org/10.1007/BF02294183.
    """
    rank = float(stats.spearmanr(*points.T).statistic)
    half = 1.96 * np.sqrt((1 + rank**2 / 2) / max(len(points) - 3, 1))
    low, high = np.tanh(np.arctanh(np.clip(rank, -0.999, 0.999)) + np.array([-half, half]))
    return rank, float(low), float(high)


def figure_of_gaps(stores: dict[str, Results], path: Path) -> None:
    """What the gap between training and evaluation goes with, a point for every row."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10.5, 4), layout="constrained")
    axes = picture.subplots(1, len(stores), squeeze=False)[0]
    for axis, (name, store) in zip(axes, stores.items(), strict=True):
        found = gaps(store)
        for place, (row, (x, y)) in enumerate(sorted(found.items(), key=lambda item: item[1][1])):
            axis.plot(x, y, "o", color="#d65f1f" if row == "cw_la" else "#3b6fb6")
            words = row.removeprefix("cw_la ").split(" optimizer.learning_rate")[0]
            words = " ".join(
                word.split(".", 1)[-1] if "=" in word else word for word in words.split()
            )
            # Names stand in a column beside the panel, in the order of the points' heights.
            axis.annotate(
                words,
                (x, y),
                xycoords="data",
                xytext=(1.03, (place + 0.5) / len(found)),
                textcoords="axes fraction",
                fontsize=7,
                verticalalignment="center",
                arrowprops={"arrowstyle": "-", "color": "#999999", "lw": 0.5, "relpos": (0, 0.5)},
            )
        axis.axhline(0, color="#888888", lw=0.8)
        title = PROTOCOLS[name].words.split(",")[0]
        if len(found) > 2:
            rank, low, high = rank_correlation(np.array(list(found.values())))
            title += f":\nrank correlation {rank:+.2f} [{low:+.2f}, {high:+.2f}]"
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("gap of the classifier's input, training to evaluation")
    axes[0].set_ylabel("top-1 minus baseline, points")
    picture.savefig(path, dpi=110)


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--protocol", choices=("baseline_cifar10", "baseline_digits"), default="baseline_cifar10"
    )
    parser.add_argument("--seeds", type=int, default=3, help=f"number, from {FIRST_SEED}")
    parser.add_argument("--rows", default=None, help="rows, with semicolons; default: all")
    standard_arguments(parser)
    args = parser.parse_args()
    everything = [name for names in QUESTIONS.values() for name in names]
    names = args.rows.split(";") if args.rows else everything
    trials = [Trial(name, FIRST_SEED + seed) for seed in range(args.seeds) for name in names]
    store = run_and_store(args.protocol, trials, args, parser, Extras(probe=PROBE))
    found = of_store(store)
    print("\n" + table(found))
    if args.out:
        write(args.out)


def write(folder: Path) -> None:
    """Tables and figures of the stored results."""
    stores = stored(folder)
    for name, found in stores.items():
        (folder / f"{name}.md").write_text(table(found))
    (folder / "pairs.md").write_text(pairs_table(stores))
    figure(stores, folder / "ridge.png")
    figure_of_gaps(stores, folder / "gap.png")


def stored(folder: Path) -> dict[str, Results]:
    """The stored results of a folder, by protocol."""
    return {path.stem: results(path) for path in files(folder)}


if __name__ == "__main__":
    main()
