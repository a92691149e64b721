"""Accuracy with and without native kernels, and in bfloat16, everything else being equal.

    python -m experiments.kernel_accuracy.run [--protocols digits_10 cifar10_small]
                                              [--data-dir TFDS_DIR] [--processes 1]
                                              [--out experiments/kernel_accuracy/results]

Finished runs are kept and not repeated. The rows in bfloat16 are for CPUs with matrix tiles (AMX),
and left out elsewhere.
"""

import argparse
from pathlib import Path

from experiments.protocols import Trial
from experiments.results import Results, files, of_store, results
from experiments.tables import Cell, compare, percent, render, values
from experiments.trials import run_and_store, standard_arguments
from ltjax.kernels.build import load

# Logit adjustment on whitened features: by XLA's operators, and by native kernels.
XLA = "cw_la engine.native=off"
KERNELS = "cw_la engine.native=on"
HALF = f"{KERNELS} model.dtype=bfloat16"
WORDS = {KERNELS: "native kernels", HALF: "native kernels, bfloat16"}
PROTOCOLS, SEEDS = ("digits_10", "cifar10_small"), 5


def table(stores: dict[str, Results]) -> str:
    """Accuracy with native kernels beside that without, as Markdown."""
    heads = ["protocol", "with", "top-1", "by XLA", "difference", "seeds"]
    lines: list[list[Cell]] = []
    for protocol, found in stores.items():
        for row, words in WORDS.items():
            if row in found.rows:
                cells: list[Cell] = [percent(values(found.rows, name)) for name in (row, XLA)]
                seeds = str(len(found.rows[row]))
                lines.append([f"`{protocol}`", words, *cells, compare(found, row, XLA), seeds])
    return render(heads, lines)


def stored(folder: Path) -> dict[str, Results]:
    """The stored results of a folder, by protocol."""
    found = {path.stem: results(path) for path in files(folder)}
    return {name: found[name] for name in PROTOCOLS if name in found}


def write(folder: Path) -> None:
    """The table of the stored results."""
    (folder / "accuracy.md").write_text(table(stored(folder)))


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    standard_arguments(parser)
    args = parser.parse_args()
    rows = (XLA, KERNELS, HALF) if load().tiles else (XLA, KERNELS)
    found = {}
    for protocol in args.protocols:
        trials = [Trial(row, seed) for seed in range(SEEDS) for row in rows]
        store = run_and_store(protocol, trials, args, parser)
        found[protocol] = of_store(store)
    print("\n" + table(found))
    if args.out:
        write(args.out)


if __name__ == "__main__":
    main()
