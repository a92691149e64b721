"""Whitening against its rival, BatchNorm before the classifier, and what decides between them.

    python -m experiments.rival.run --protocol rival_cifar10 --data-dir TFDS_DIR
                                    [--out experiments/rival/results]

All rows use the logit-adjusted loss. Seeds are others than those of the ablation.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from experiments.protocols import PROTOCOLS
from experiments.tables import paired, percent, points, rarest, values
from experiments.trials import Store, Trial, command, run_trials, standard_arguments

FIRST_SEED = 100
RIVAL = "bn_la"
PROBE = "experiments.rival.gap:measure"
TENTH = " data.max_count=500 train.epochs=100"
NO_AUGMENTATION = " augment.max_shift=0 augment.flip=False"
# Questions, and the rows that answer them.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "The contenders": ("logit_adjustment", RIVAL, "cw_la"),
    "How much ridge?": (
        "cw_la whitening.shrinkage=0.01",
        "cw_la whitening.shrinkage=auto",
        "cw_la whitening.shrinkage=0.5",
        "cw_la whitening.shrinkage=0.9",
        "bn_la whitening.shrinkage=0.1",
    ),
    "Only centring, and one scale for all channels?": ("cw_la whitening.shrinkage=1.0",),
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
        row + TENTH for row in ("logit_adjustment", RIVAL, "cw_la")
    ),
    "A tenth of the images and no augmentation, which it fits wholly?": tuple(
        row + TENTH + NO_AUGMENTATION for row in ("logit_adjustment", RIVAL, "cw_la")
    ),
    "Balanced batches, B3RS and BET?": (
        "cw_la_b3rs_bet",
        "cw_la_b3rs_bet whitening.shrinkage=0.5",
        "cw_la_b3rs_bet whitening.shrinkage=0.9",
        "cw_la_b3rs_bet whitening.shrinkage=1.0",
        "bn_la plan.name=b3rs_bet",
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


def rival_of(row: str) -> str:
    """The rival with all else that a row changes.

    >>> rival_of("cw_la whitening.groups=4 train.batch_size=512")
    'bn_la train.batch_size=512'
    """
    name, *changes = row.split(" ")
    kept = [change for change in changes if not change.startswith("whitening.")]
    if name.startswith("cw_la_"):
        kept.append(f"plan.name={name.removeprefix('cw_la_')}")
    return " ".join([RIVAL, *kept])


def table(content: dict) -> str:
    """Accuracy, paired difference to the rival, and the measures of `gap.measure`."""
    rows = content["rows"]
    heads = [
        "row",
        "top-1",
        "rarest group",
        f"minus `{RIVAL}`",
        *MEASURES.values(),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for question, names in QUESTIONS.items():
        known = [name for name in names if name in rows]
        if known:
            lines.append(f"| **{question}** |" + " |" * (len(heads) - 1))
        for name in known:
            columns = ("accuracy", rarest({name: rows[name]}))
            cells = [f"`{name}`", *(percent(values(rows, name, column)) for column in columns)]
            rival = rival_of(name)
            cells.append("" if name == rival else points(paired(rows, name, rival)))
            probes = [result["probe"] for result in rows[name].values()]
            for measure in MEASURES:
                found = [probe[measure] for probe in probes if measure in probe]
                cells.append(f"{np.mean(found):.3f}" if found else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# What decides, as pairs of rows.
PAIRS = {
    "whitening instead of BatchNorm": ("cw_la", RIVAL),
    "with the ridge 0.5": ("cw_la whitening.shrinkage=0.5", RIVAL),
    "with the ridge 0.9": ("cw_la whitening.shrinkage=0.9", RIVAL),
    "with B3RS and BET under both": ("cw_la_b3rs_bet", "bn_la plan.name=b3rs_bet"),
    "with B3RS, BET and the ridge 0.5": (
        "cw_la_b3rs_bet whitening.shrinkage=0.5",
        "bn_la plan.name=b3rs_bet",
    ),
    "with B3RS, BET and the ridge 0.9": (
        "cw_la_b3rs_bet whitening.shrinkage=0.9",
        "bn_la plan.name=b3rs_bet",
    ),
    "with B3RS, BET and the ridge 1.0 (centring and one scale)": (
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
    "centring and one scale instead of nothing": (
        "cw_la whitening.shrinkage=1.0",
        "logit_adjustment",
    ),
    "decorrelation on top of that": ("cw_la", "cw_la whitening.shrinkage=1.0"),
    "the batch's covariance instead of a steady one": ("cw_la", "cw_la whitening.memory=0.9"),
    "B3RS and BET on whitening": ("cw_la_b3rs_bet", "cw_la"),
    "B3RS and BET on BatchNorm": ("bn_la plan.name=b3rs_bet", RIVAL),
}


def pairs_table(stores: dict[str, dict]) -> str:
    """Paired differences of `PAIRS` in points, with their seeds, a column for each store."""
    names = {"rival_cifar10": "CIFAR-10-LT", "rival_digits": "digits"}
    lines = ["| what | rows | " + " | ".join(names[name] for name in stores) + " |"]
    lines.append("|---" * (2 + len(stores)) + "|")
    for words, (name, reference) in PAIRS.items():
        found = [paired(content["rows"], name, reference) for content in stores.values()]
        cells = [f"{points(x)}, {x.seeds} seeds" if x else "–" for x in found]
        lines.append(f"| {words} | `{name}` − `{reference}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(stores: dict[str, dict], path: Path) -> None:
    """Accuracy against the ridge, beside the rival and the plain network, by store."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 3.4), layout="constrained")
    axes = picture.subplots(1, len(stores), squeeze=False)[0]
    for axis, (name, content) in zip(axes, stores.items(), strict=True):
        rows = content["rows"]
        for row, colour in (("logit_adjustment", "#888888"), (RIVAL, "#d65f1f")):
            if row not in rows:
                continue
            x = 100 * values(rows, row)
            half = x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else 0.0
            axis.axhline(x.mean(), color=colour, linestyle="--", label=row)
            axis.axhspan(x.mean() - half, x.mean() + half, color=colour, alpha=0.12, lw=0)
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


def gaps(content: dict) -> dict[str, tuple[float, float]]:
    """Gap, and points of top-1 over the rival, of every row with full data and another layer."""
    rows, found = content["rows"], {}
    for name, seeds in rows.items():
        difference = paired(rows, name, rival_of(name))
        measured = [result["probe"].get("gap") for result in seeds.values()]
        if difference and name != rival_of(name) and None not in measured and TENTH not in name:
            found[name] = (float(np.mean(measured)), 100 * difference.mean)
    return found


def figure_of_gaps(stores: dict[str, dict], path: Path) -> None:
    """What the gap between training and evaluation goes with, a point for every row."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10.5, 4), layout="constrained")
    axes = picture.subplots(1, len(stores), squeeze=False)[0]
    for axis, (name, content) in zip(axes, stores.items(), strict=True):
        found = gaps(content)
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
            rank = stats.spearmanr(*zip(*found.values(), strict=True)).statistic
            title += f": rank correlation {rank:+.2f}"
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("gap of the classifier's input, training to evaluation")
    axes[0].set_ylabel("top-1 minus rival, points")
    picture.savefig(path, dpi=110)


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--protocol", choices=("rival_cifar10", "rival_digits"), default="rival_cifar10"
    )
    parser.add_argument("--seeds", type=int, default=3, help=f"number, from {FIRST_SEED}")
    parser.add_argument("--rows", default=None, help="rows, with semicolons; default: all")
    standard_arguments(parser)
    args = parser.parse_args()
    path: Path | None = args.out / f"{args.protocol}.json" if args.out else None
    store = Store(path, PROTOCOLS[args.protocol], command("rival", args.protocol))
    everything = [name for names in QUESTIONS.values() for name in names]
    rows = args.rows.split(";") if args.rows else everything
    trials = [Trial(row, FIRST_SEED + seed) for seed in range(args.seeds) for row in rows]
    run_trials(
        args.protocol,
        trials,
        store,
        processes=args.processes,
        data_dir=args.data_dir,
        probe=PROBE,
    )
    print("\n" + table(store.content))
    if path is not None:
        path.with_suffix(".md").write_text(table(store.content))
        stores = {p.stem: json.loads(p.read_text()) for p in sorted(args.out.glob("*.json"))}
        (args.out / "pairs.md").write_text(pairs_table(stores))
        figure(stores, args.out / "ridge.png")
        figure_of_gaps(stores, args.out / "gap.png")


if __name__ == "__main__":
    main()
