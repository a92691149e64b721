"""Tables of stored runs: mean, deviation, and differences with their uncertainty."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.results import Results
from experiments.statistics import Difference, Splits, holm, paired
from experiments.store import Rows


def compare(
    results: Results, name: str, reference: str, column: str = "accuracy"
) -> Difference | None:
    """Row `name` minus row `reference`, paired by the seeds that both have.

    None where there are fewer than two of them.

    >>> rows = {"a": {0: {"accuracy": 0.5}, 1: {"accuracy": 0.7}},
    ...         "b": {0: {"accuracy": 0.4}, 1: {"accuracy": 0.6}, 2: {"accuracy": 0.9}}}
    >>> found = compare(Results(rows, Splits(0.0)), "a", "b")
    >>> round(found.mean, 3), found.seeds
    (0.1, 2)
    """
    rows, design = results
    first, second = rows.get(name, {}), rows.get(reference, {})
    seeds = [seed for seed in first if column in first[seed] and column in second.get(seed, {})]
    if len(seeds) < 2:
        return None
    differences = np.array([first[seed][column] - second[seed][column] for seed in seeds])
    if isinstance(design, Splits):
        return paired(differences, design.of(column))
    return paired(differences, images=design.images(name, reference, column, seeds))


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


def interval(x: np.ndarray, ratio: float = 0.0) -> tuple[float, float]:
    """Mean, and half the width of its 95% CI, in percent; no width for one seed.

    Args:
      x: float `[J]`, a value a seed.
      ratio: `n_test / n_train` of splits of one pool, see `experiments.statistics.paired`.
    """
    if len(x) < 2:
        return 100 * float(x.mean()), 0.0
    found = paired(x, ratio)
    return 100 * found.mean, 100 * (found.high - found.mean)


def points(found: Difference, p: float) -> str:
    """A difference in points with its 95% CI, bold where the adjusted p-value is below 0.05.

    The CI of two seeds says nothing and is left out.

    Args:
      found: the difference.
      p: its p-value, adjusted for all comparisons of the table.

    >>> points(Difference(0.012, 0.01, 0.014, 0.001, 5), 0.04)
    '**+1.2** [+1.0, +1.4]'
    >>> points(Difference(0.012, 0.01, 0.014, 0.001, 2), 0.04)
    '+1.2'
    """
    mean = f"{100 * found.mean:+.1f}"
    if found.seeds < 3:
        return mean
    mean = f"**{mean}**" if p < 0.05 else mean
    return f"{mean} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


class Shown(NamedTuple):
    """A difference in a table, and what writes it, given its adjusted p-value."""

    found: Difference
    text: Callable[[Difference, float], str] = points


Cell = str | Difference | Shown | None
# With fewer seeds a deviation is known too badly for a difference to be called certain: where all
# runs are near 0% or 100%, three may agree by chance.
SEEDS_TO_BE_SURE = 5


def render(heads: Sequence[str], lines: Sequence[Sequence[Cell]]) -> str:
    """A Markdown table in which bold differences hold for all comparisons of the table at once.

    p-values are adjusted by Holm's rule over all differences of the table that have at least five
    seeds. Those of fewer are never bold and are not counted; those of two have no CI.

    Args:
      heads: of the columns.
      lines: cells; a difference is shown in points, None as a dash.
    """
    text = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    text += ["| " + " | ".join(row) + " |" for row in texts(lines)]
    return "\n".join(text) + "\n"


def texts(lines: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """The cells of a table as `render` shows them."""
    cells = [Shown(cell) if isinstance(cell, Difference) else cell for row in lines for cell in row]
    tests = [cell.found for cell in cells if isinstance(cell, Shown) and _is_tested(cell)]
    adjusted = iter(holm([found.p for found in tests]))
    shown = iter([_text(cell, adjusted) for cell in cells])
    return [[next(shown) for _ in line] for line in lines]


def _is_tested(cell: Shown) -> bool:
    return cell.found.seeds >= SEEDS_TO_BE_SURE


def _text(cell: str | Shown | None, adjusted: Iterator[float]) -> str:
    if isinstance(cell, Shown):
        return cell.text(cell.found, next(adjusted) if _is_tested(cell) else 1.0)
    return "–" if cell is None else cell


def accuracy_table(
    results: Results,
    names: Sequence[str],
    references: Sequence[str],
    *,
    published: Mapping[str, str] | None = None,
) -> str:
    """Accuracy, shots, differences and seconds of rows, as Markdown, in percent.

    Args:
      results: of a protocol.
      names: which rows, in order; those that are not there are left out.
      references: rows to subtract, a column each.
      published: values of the literature by row, shown in a column of their own.
    """
    rows = results.rows
    heads = ["row", "top-1", "many", "medium", "few", *(f"minus `{r}`" for r in references)]
    heads += ["published"] * bool(published) + ["seeds", "seconds"]
    lines: list[list[Cell]] = []
    for name in names:
        if name not in rows:
            continue
        cells: list[Cell] = [f"`{name}`"]
        cells += [percent(values(rows, name, c)) for c in ("accuracy", "many", "medium", "few")]
        cells += ["" if name == r else compare(results, name, r) for r in references]
        if published:
            cells.append(published.get(name, ""))
        seconds = float(np.median(values(rows, name, "seconds")))
        cells += [str(len(rows[name])), f"{seconds:.0f}" if seconds >= 1 else "0"]
        lines.append(cells)
    return render(heads, lines)
