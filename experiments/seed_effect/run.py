"""Are runs of one seed alike, where all runs share one test set? From stored results alone.

    python -m experiments.seed_effect.run

Where they are, differences that are paired by seed are known better than unpaired ones.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments import records
from experiments.protocols import PROTOCOLS
from experiments.results import files
from experiments.store import Rows, read

FOLDERS = ("ablation", "baseline", "choice")
COLUMNS = {
    "accuracy": "top-1",
    "medium": "medium",
    "few": "few",
    "held_out": "held-out images",
}
SEEDS = 5  # the first ones of a file, of the rows that have all of them
PERMUTATIONS = 9_999
RESULTS = Path(__file__).parent / "results"


def block(rows: Rows, column: str) -> np.ndarray:
    """A column of the rows that have all of the first five seeds of a file, `[rows, 5]`."""
    seeds = sorted({seed for of_row in rows.values() for seed in of_row})[:SEEDS]
    found = [
        [of_row[seed][column] for seed in seeds]
        for of_row in rows.values()
        if all(column in of_row.get(seed, {}) for seed in seeds)
    ]
    return np.array(found, float).reshape(len(found), len(seeds))


def correlation(x: np.ndarray) -> float:
    """The intraclass correlation of a seed's runs about the means of their rows, of `[k, J]`.

        rho = (M_seed - M_rest) / (M_seed + (k - 1) M_rest)

    with the mean squares of seeds and of the rest of the two-way analysis of variance.

    Source: Shrout and Fleiss, Intraclass Correlations (Psychological Bulletin 86, 1979),
    https://doi.org/10.1037/0033-2909.86.2.420, ICC(3, 1).

    >>> round(correlation(np.array([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]])), 3)
    1.0
    """
    rows, seeds = x.shape
    about = x - x.mean(axis=1, keepdims=True)
    common = about.mean(axis=0)
    of_seeds = rows * float((common**2).sum()) / (seeds - 1)
    rest = float(((about - common) ** 2).sum()) / ((rows - 1) * (seeds - 1))
    return (of_seeds - rest) / (of_seeds + (rows - 1) * rest)


def p_value(x: np.ndarray, permutations: int = PERMUTATIONS) -> float:
    """The share of permutations of the seeds within rows whose seeds differ as much, one-sided."""
    rng = np.random.default_rng(0)
    about = x - x.mean(axis=1, keepdims=True)
    shuffled = rng.permuted(np.broadcast_to(about, (permutations, *about.shape)), axis=2)
    spread = (shuffled.mean(axis=1) ** 2).sum(axis=1)
    least = (about.mean(axis=0) ** 2).sum() * (1 - 1e-9)
    return float((1 + (spread >= least).sum()) / (1 + permutations))


def lines() -> Iterator[str]:
    """A line of the table for each file and column."""
    paths = [
        path
        for folder in FOLDERS
        for path in files(records.ROOT / "experiments" / folder / "results")
        if PROTOCOLS[path.stem].split_ratio is None
    ]
    for path in paths:
        rows = read(path)
        for column, words in COLUMNS.items():
            x = block(rows, column)
            if len(x) > 2 and x.shape[1] == SEEDS:
                rho, p = correlation(x), p_value(x)
                yield f"| `{path.stem}` | {words} | {len(x)} | {rho:.2f} | {p:.4f} |"


def table() -> str:
    """How alike the runs of one seed are, by file of results, as Markdown."""
    heads = ["results", "column", "rows", "correlation of a seed's runs", "p of no seed effect"]
    head = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*head, *lines()]) + "\n"


def write() -> None:
    """The table of the stored results."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "seed_effect.md").write_text(table())


if __name__ == "__main__":
    write()
    print(table())
