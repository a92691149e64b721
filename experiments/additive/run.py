"""What each technique of the strong recipes adds to whitening, and to BatchNorm, one at a time.

    python -m experiments.additive.run --protocol cifar10_small_bfloat16 --data-dir TFDS_DIR
                                       [--seeds 5] [--out experiments/additive/results]

Every row has the epochs of its start, so that it sees equally many images; what a technique costs
is in the table. `--starts` and `--parts` choose a part of the rows.
"""

import argparse
from pathlib import Path

import numpy as np

from experiments.protocols import Trial
from experiments.results import Results, files, of_store, results
from experiments.tables import Cell, compare, percent, rarest, render, values
from experiments.trials import run_and_store, standard_arguments

PROTOCOLS = (
    "cifar10_small_bfloat16",
    "cifar100_small_bfloat16",
    "cifar10_medium",
    "cifar100_medium",
)
STARTS = ("cw_la", "bn_la")
DECAY = "more weight decay"
# Techniques, and the keys that turn them on; sizes are those of images of 16 x 16 and 20 epochs.
PARTS: dict[str, str] = {
    "AutoAugment of CIFAR": "augment.policy=autoaugment_cifar",
    "TrivialAugment": "augment.policy=trivial",
    "RandAugment": "augment.rand_ops=2",
    "Cutout": "augment.cutout=8",
    "random erasing": "augment.erasing=0.25",
    "CutMix": "train.mixing=cutmix",
    "RegMixup": "train.mixing=mixup train.regmixup=True",
    "SAM": "optimizer.sam_rho=0.1",
    "SWA": "optimizer.swa_epochs=4",
    "EMA": "optimizer.ema_decay=0.99",
    "stochastic depth": "model.stochastic_depth=0.1",
    "restarts of the cosine": "optimizer.cycles=2",
    DECAY: "optimizer.weight_decay=5e-4",
    "three heads": "model.experts=3",
    "BCL on two views": "loss.contrastive=1.0",
    "ProCo on two views": "loss.contrastive=1.0 loss.contrast=proco",
    "PaCo on two views": "loss.contrastive=1.0 loss.contrast=paco",
}
# THREE are the parts of `ltjax/configs/cifar10_lt_strong.py`.
TWO = "AutoAugment and ProCo together"
THREE = "AutoAugment, ProCo and more weight decay together"
SIX = "AutoAugment, ProCo, more weight decay, Cutout, SAM and SWA together"
_TWO = ("AutoAugment of CIFAR", "ProCo on two views")
TOGETHER = {
    TWO: _TWO,
    THREE: (*_TWO, DECAY),
    SIX: (*_TWO, "Cutout", "SAM", "SWA", DECAY),
}
EVERYTHING = (*PARTS, *TOGETHER)


def row_of(start: str, part: str) -> str:
    """The row of a start with a part, or with several.

    >>> row_of("bn_la", "SAM")
    'bn_la optimizer.sam_rho=0.1'
    """
    return " ".join([start, *(PARTS[name] for name in TOGETHER.get(part, (part,)))])


def table(found: Results) -> str:
    """Accuracy of every row, the difference from its start, and the ratio of their seconds."""
    rows, lines = found.rows, []
    rare = rarest(rows)
    heads = ["start", "with", "top-1", rare, "minus the start", f"{rare}, minus it"]
    for start in STARTS:
        parts = {part: row_of(start, part) for part in EVERYTHING}
        for part, row in {"": start, **parts}.items():
            if row not in rows or start not in rows:
                continue
            cells: list[Cell] = [f"`{start}`", part]
            columns = ("accuracy", rare)
            cells += [percent(values(rows, row, column)) for column in columns]
            cells += [compare(found, row, start, column) if part else "" for column in columns]
            own, plain = (np.median(values(rows, name, "seconds")) for name in (row, start))
            lines.append([*cells, f"{own / plain:.1f}", str(len(rows[row]))])
    return render([*heads, "seconds, of the start's", "seeds"], lines)


def write(folder: Path) -> None:
    """The tables of the stored results."""
    for path in files(folder):
        path.with_suffix(".md").write_text(table(results(path)))


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    parser.add_argument("--seeds", type=int, default=5, help="number, from 0")
    parser.add_argument("--starts", nargs="+", default=STARTS, choices=STARTS)
    parser.add_argument("--parts", nargs="*", default=EVERYTHING, choices=EVERYTHING)
    standard_arguments(parser)
    args = parser.parse_args()
    names = [
        row
        for start in args.starts
        for row in (start, *(row_of(start, part) for part in args.parts))
    ]
    trials = [Trial(name, seed) for seed in range(args.seeds) for name in names]
    store = run_and_store(args.protocol, trials, args, parser)
    print("\n" + table(of_store(store)))
    if args.out:
        write(args.out)


if __name__ == "__main__":
    main()
