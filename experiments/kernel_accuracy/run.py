"""Accuracy with and without native kernels, everything else being equal.

    python -m experiments.kernel_accuracy.run [--protocols digits_10 cifar10_small]
                                              [--data-dir TFDS_DIR] [--processes 1]
                                              [--out experiments/kernel_accuracy/results]

Finished runs are kept and not repeated.
"""

import argparse
from pathlib import Path

from experiments.protocols import Trial
from experiments.results import Results, files, of_store, results
from experiments.tables import Cell, compare, percent, render, values
from experiments.trials import run_and_store, standard_arguments

# The whole method's loss on whitened features, with XLA's operators and with native kernels.
XLA, KERNELS = "cw_la engine.native=off", "cw_la engine.native=on"
SEEDS = {"digits_10": 5, "cifar10_small": 3}


def table(stores: dict[str, Results]) -> str:
    """Accuracy with and without native kernels, as Markdown."""
    heads = ["protocol", "top-1 by XLA", "with kernels", "difference", "seeds"]
    lines: list[list[Cell]] = []
    for protocol, found in stores.items():
        cells: list[Cell] = [percent(values(found.rows, row)) for row in (XLA, KERNELS)]
        seeds = str(len(found.rows[KERNELS]))
        lines.append([f"`{protocol}`", *cells, compare(found, KERNELS, XLA), seeds])
    return render(heads, lines)


def stored(folder: Path) -> dict[str, Results]:
    """The stored results of a folder, by protocol."""
    found = {path.stem: results(path) for path in files(folder)}
    return {name: found[name] for name in SEEDS if name in found}


def write(folder: Path) -> None:
    """The table of the stored results."""
    (folder / "accuracy.md").write_text(table(stored(folder)))


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocols", nargs="+", choices=SEEDS, default=list(SEEDS))
    standard_arguments(parser)
    args = parser.parse_args()
    found = {}
    for protocol in args.protocols:
        trials = [Trial(row, seed) for seed in range(SEEDS[protocol]) for row in (XLA, KERNELS)]
        store = run_and_store(protocol, trials, args, parser)
        found[protocol] = of_store(store)
    print("\n" + table(found))
    if args.out:
        write(args.out)


if __name__ == "__main__":
    main()
