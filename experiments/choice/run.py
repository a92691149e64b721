"""Which method and ridge should a recipe have? Chosen on held-out training images alone.

    python -m experiments.choice.run --protocol choice_digits [--seeds 5]
                                     [--out experiments/choice/results]

The rule, in README.md and in `chosen`, was written before the first run. No test image counts.
"""

import argparse
from pathlib import Path

from experiments.protocols import Trial
from experiments.results import Results, files, of_store, results
from experiments.tables import compare, percent, values
from experiments.trials import run_and_store, standard_arguments

PROTOCOLS = ("choice_digits", "choice_cifar10", "choice_cifar100")
COLUMN = "held_out"
FIRST_SEED = 200
# The largest standard error with which a candidate is chosen, rounded as in the table.
MOST_ERROR = 0.01
METHODS = ("cw_la", "cw_la_b3rs", "cw_la_b3rs_bet")
# From the simplest to the least simple: a method without a sampler before one with it; of one
# method the ridge 0.5 first, the middle of what is tried.
CANDIDATES = (
    "bn_la",
    *(f"{method} whitening.shrinkage={ridge}" for method in METHODS for ridge in (0.5, 0.1, 0.9)),
)


def chosen(found: Results) -> str:
    """The simplest candidate within one standard error of the best.

    The best has the highest mean of the balanced accuracy on held-out images; the standard error is
    that of the difference from it. Candidates are in the order of `CANDIDATES`.

    Source: the rule of Breiman et al., Classification and Regression Trees (1984), section 3.4.3.
    """
    best = _best(found)
    return next(row for row in CANDIDATES if row == best or _near(found, row, best))


def _best(found: Results) -> str:
    return max(CANDIDATES, key=lambda row: float(values(found.rows, row, COLUMN).mean()))


def _near(found: Results, row: str, best: str) -> bool:
    behind = compare(found, best, row, COLUMN)
    return behind is not None and behind.mean <= behind.error


def decided(found: Results) -> bool:
    """Whether the differences from the best are known well enough to choose."""
    best = _best(found)
    differences = (compare(found, best, row, COLUMN) for row in CANDIDATES if row != best)
    return all(each is not None and round(each.error, 3) <= MOST_ERROR for each in differences)


def table(found: Results) -> str:
    """Balanced accuracy on held-out images, and what it is behind the best, in points.

    A candidate is marked as chosen where there are seeds enough.
    """
    best, choice = _best(found), chosen(found) if decided(found) else None
    lines = ["| candidate | held-out balanced accuracy | behind the best | standard error | |"]
    lines.append("|---" * 5 + "|")
    for row in CANDIDATES:
        behind = None if row == best else compare(found, best, row, COLUMN)
        cells = ["", ""]
        if behind is not None:
            cells = [f"{100 * behind.mean:.1f}", f"{100 * behind.error:.1f}"]
        mark = "chosen" if row == choice else ""
        shown = percent(values(found.rows, row, COLUMN))
        lines.append(f"| `{row}` | {shown} | {cells[0]} | {cells[1]} | {mark} |")
    return "\n".join(lines) + "\n"


def complete(found: Results) -> bool:
    """Whether every candidate has runs, and all of them the same number."""
    counts = {len(found.rows.get(row, {})) for row in CANDIDATES}
    return len(counts) == 1 and min(counts) > 1


def write(folder: Path) -> None:
    """The tables of the protocols that have all candidates."""
    for path in files(folder):
        found = results(path)
        if complete(found):
            path.with_suffix(".md").write_text(table(found))


def main() -> None:
    """Runs what is missing; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    parser.add_argument("--seeds", type=int, default=5, help=f"number, from {FIRST_SEED}")
    standard_arguments(parser)
    args = parser.parse_args()
    trials = [Trial(row, FIRST_SEED + seed) for seed in range(args.seeds) for row in CANDIDATES]
    store = run_and_store(args.protocol, trials, args, parser)
    found = of_store(store)
    if complete(found):
        print("\n" + table(found))
    if args.out:
        write(args.out)


if __name__ == "__main__":
    main()
