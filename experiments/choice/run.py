"""Which method and ridge should a recipe have? Chosen on held-out training images alone.

    python -m experiments.choice.run --protocol choice_digits [--seeds 5]
                                     [--out experiments/choice/results]

The rule is in README.md, which says what of it is older than the first run. No test image counts.
"""

import argparse
from pathlib import Path

import numpy as np

from experiments import protocols
from experiments.protocols import HELD_OUT, Trial
from experiments.results import Results, files, of_store, results
from experiments.statistics import Splits
from experiments.tables import compare, percent, values
from experiments.trials import run_and_store, standard_arguments
from ltjax.data.longtail import exponential_counts

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


def over_images(found: Results, row: str, reference: str, protocol: str) -> float | None:
    """Standard deviation of a difference in balanced accuracy over draws of the held-out images.

        sqrt(sum_c s_c^2 / n_c) / C

    Args:
      found: results on one test set.
      row: a candidate.
      reference: another one.
      protocol: with one test set; a class has `n_c` held-out images, the same for all seeds.

    Returns:
      With `s_c` the standard deviation over the test images of a class of the difference between
      the shares of seeds that classify an image correctly; what is held out itself is not stored.
      None without these.
    """
    design = found.design
    if isinstance(design, Splits) or not {row, reference} <= design.correct.keys():
        return None
    shares = [np.mean(list(design.correct[name].values()), axis=0) for name in (row, reference)]
    counts = exponential_counts(*protocols.PROTOCOLS[protocol].profile)
    held = np.maximum(np.round(HELD_OUT * counts), 1)
    variances = (shares[0] - shares[1]).var(axis=1, ddof=1) / held
    return float(np.sqrt(variances.sum()) / len(held))


def table(found: Results, protocol: str = "") -> str:
    """Balanced accuracy on held-out images, and what it is behind the best, in points.

    A candidate is marked as chosen where there are seeds enough. The last standard error counts the
    held-out images too, where that can be estimated; the rule does not use it.
    """
    best, choice = _best(found), chosen(found) if decided(found) else None
    heads = ["candidate", "held-out balanced accuracy", "behind the best", "standard error"]
    lines = ["| " + " | ".join([*heads, "with images"]) + " | |", "|---" * 6 + "|"]
    for row in CANDIDATES:
        behind = None if row == best else compare(found, best, row, COLUMN)
        cells = ["", "", ""]
        if behind is not None:
            cells = [f"{100 * behind.mean:.1f}", f"{100 * behind.error:.1f}", ""]
            images = over_images(found, best, row, protocol)
            if images is not None:
                cells[2] = f"{100 * np.hypot(behind.error, images):.1f}"
        shown = percent(values(found.rows, row, COLUMN))
        mark = "chosen" if row == choice else ""
        lines.append("| " + " | ".join([f"`{row}`", shown, *cells, mark]) + " |")
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
            path.with_suffix(".md").write_text(table(found, path.stem))


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
        print("\n" + table(found, args.protocol))
    if args.out:
        write(args.out)


if __name__ == "__main__":
    main()
