"""Whitening against its rival, BatchNorm before the classifier, and what decides between them.

    python -m experiments.rival.run --protocol cifar10_small --data-dir TFDS_DIR
                                    [--out experiments/rival/results]

All rows use the logit-adjusted loss. Seeds are others than those of the ablation.
"""

import argparse
from pathlib import Path

import numpy as np

from experiments.protocols import PROTOCOLS
from experiments.tables import paired, percent, points, rarest, values
from experiments.trials import Store, Trial, run_trials, standard_arguments

COMMAND = (
    "python -m experiments.rival.run --protocol {} --data-dir TFDS_DIR "
    "--out experiments/rival/results"
)
FIRST_SEED = 100
RIVAL = "bn_la"
PROBE = "experiments.rival.gap:measure"
# Questions, and the rows that answer them.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "The contenders": ("logit_adjustment", RIVAL, "cw_la"),
    "How much ridge?": (
        "cw_la whitening.shrinkage=0.01",
        "cw_la whitening.shrinkage=auto",
        "cw_la whitening.shrinkage=0.5",
        "cw_la whitening.shrinkage=0.9",
        "bn_la whitening.shrinkage=0.1",
        "bn_la whitening.shrinkage=0.5",
    ),
    "Only centring, and one scale for all channels?": ("cw_la whitening.shrinkage=1.0",),
    "Statistics of several batches?": (
        "cw_la whitening.memory=0.5",
        "cw_la whitening.memory=0.9",
        "cw_la whitening.memory=0.9 whitening.shrinkage=0.01",
        "cw_la whitening.memory=0.9 whitening.shrinkage=0.5",
        "cw_la whitening.momentum=0.99",
    ),
    "Groups of channels?": (
        "cw_la whitening.groups=4",
        "cw_la whitening.groups=8",
    ),
    "Channels of one scale first (BatchNorm, then whitening)?": (
        "cw_la whitening.standardize=True",
        "cw_la whitening.standardize=True whitening.shrinkage=0.5",
    ),
    "A slower classifier?": (
        "cw_la optimizer.head_rate=0.1",
        "bn_la optimizer.head_rate=0.1",
    ),
    "Larger batches, at twice the rate?": (
        "bn_la train.batch_size=256 optimizer.learning_rate=0.2",
        "cw_la train.batch_size=256 optimizer.learning_rate=0.2",
    ),
    "A tenth of the images, which the network fits?": (
        "logit_adjustment data.max_count=500 train.epochs=100",
        "bn_la data.max_count=500 train.epochs=100",
        "cw_la data.max_count=500 train.epochs=100",
        "cw_la whitening.shrinkage=0.9 data.max_count=500 train.epochs=100",
    ),
    "B3RS and BET?": (
        "cw_la_b3rs_bet",
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
        *(m.replace("_", " ") for m in MEASURES),
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


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="cifar10_small")
    parser.add_argument("--seeds", type=int, default=3, help=f"number, from {FIRST_SEED}")
    parser.add_argument("--rows", default=None, help="rows, with semicolons; default: all")
    standard_arguments(parser)
    args = parser.parse_args()
    path: Path | None = args.out / f"{args.protocol}.json" if args.out else None
    store = Store(path, PROTOCOLS[args.protocol], COMMAND.format(args.protocol))
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


if __name__ == "__main__":
    main()
