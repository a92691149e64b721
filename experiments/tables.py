"""Tables of stored trials: mean, deviation, and paired differences with their interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.store import Rows


class Paired(NamedTuple):
    """Mean difference over the seeds that two rows share, with its 95% CI."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def sign(self) -> int:
        """1 or -1 where the CI excludes 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def paired(rows: Rows, name: str, reference: str, column: str = "accuracy") -> Paired | None:
    """Row `name` minus row `reference`, paired by seed; Student's t.

    None where the rows share fewer than two values.

    >>> rows = {"a": {0: {"accuracy": 0.5}, 1: {"accuracy": 0.7}},
    ...         "b": {0: {"accuracy": 0.4}, 1: {"accuracy": 0.6}, 2: {"accuracy": 0.9}}}
    >>> found = paired(rows, "a", "b")
    >>> round(found.mean, 3), round(found.low, 3), found.seeds
    (0.1, 0.1, 2)
    """
    first, second = rows.get(name, {}), rows.get(reference, {})
    seeds = [seed for seed in first if column in first[seed] and column in second.get(seed, {})]
    differences = np.array([first[seed][column] - second[seed][column] for seed in seeds])
    if len(differences) < 2:
        return None
    deviation = differences.std(ddof=1) / np.sqrt(len(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1) * deviation)
    mean = float(differences.mean())
    return Paired(mean, mean - half, mean + half, len(differences))


def rarest(rows: Rows) -> str:
    """The group of the rarest classes that the data have: few, medium or many."""
    results = [result for seeds in rows.values() for result in seeds.values()]
    groups = ("few", "medium", "many")
    return next((g for g in groups if any(g in r for r in results)), "few")


def values(rows: Rows, name: str, column: str = "accuracy") -> np.ndarray:
    """A column of a row over its seeds, without those that have none."""
    return np.array([r[column] for r in rows[name].values() if column in r], float)


def percent(x: np.ndarray) -> str:
    """Mean and sample standard deviation in percent; a dash for nothing.

    >>> percent(np.array([0.5, 0.52]))
    '51.0 ± 1.4'
    """
    if not len(x):
        return "–"
    return f"{100 * x.mean():.1f}" + (f" ± {100 * x.std(ddof=1):.1f}" if len(x) > 1 else "")


def points(found: Paired | None) -> str:
    """A paired difference in points, bold where its 95% CI excludes 0.

    The CI of two seeds says nothing and is left out.

    >>> points(Paired(0.012, 0.01, 0.014, 5))
    '**+1.2** [+1.0, +1.4]'
    >>> points(Paired(0.012, 0.01, 0.014, 2))
    '+1.2'
    """
    if found is None:
        return "–"
    mean = f"{100 * found.mean:+.1f}"
    if found.seeds < 3:
        return mean
    mean = f"**{mean}**" if found.sign else mean
    return f"{mean} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def accuracy_table(
    rows: Rows,
    names: Sequence[str],
    references: Sequence[str],
    *,
    published: Mapping[str, str] | None = None,
) -> str:
    """Accuracy, shots, paired differences and seconds of rows, as Markdown, in percent.

    Args:
      rows: of a store.
      names: which, in order; those that are not in `rows` are left out.
      references: rows to subtract, a column each.
      published: values of the literature by row, shown in a column of their own.
    """
    heads = ["row", "top-1", "many", "medium", "few", *(f"minus `{r}`" for r in references)]
    heads += ["published"] * bool(published) + ["seeds", "seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in names:
        if name not in rows:
            continue
        cells = [f"`{name}`"]
        cells += [percent(values(rows, name, c)) for c in ("accuracy", "many", "medium", "few")]
        cells += ["" if name == r else points(paired(rows, name, r)) for r in references]
        if published:
            cells.append((published or {}).get(name, ""))
        seconds = float(np.median(values(rows, name, "seconds")))
        cells += [str(len(rows[name])), f"{seconds:.0f}" if seconds >= 1 else "0"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
