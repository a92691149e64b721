"""How much each setting of the method matters: one key at a time, all others at their default.

    python -m experiments.sensitivity.run --protocol digits_20 [--seeds 5] [--keys KEY,KEY]
                                          [--out experiments/sensitivity/results]

Seeds are others than those of the ablation's own runs.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from experiments.protocols import PROTOCOLS, Trial
from experiments.results import Results, of_store, results
from experiments.store import Rows
from experiments.tables import Cell, compare, percent, rarest, render, values
from experiments.trials import run_and_store, standard_arguments
from ltjax import config as configs

BASE = "cw_la_b3rs_bet"
MOST_ABREAST = 6  # names of values below a panel
FIRST_SEED = 100
# Values beside the default.
GRIDS: dict[str, tuple[Any, ...]] = {
    "whitening.shrinkage": (0.001, 0.01, 0.3, 0.6, 0.9, 1.0, "auto"),
    "whitening.momentum": (0.5, 0.99),
    "whitening.memory": (0.5, 0.9),
    "whitening.groups": (2, 4, 8),
    "plan.num_blocks": (1, 2, 10),
    "plan.balance": (0.0, 0.25, 0.75, 1.0),
    "plan.every": (2, 4),
    "plan.fraction": (0.25, 1.0),
    "loss.embedded_weight": (0.25, 0.75),
    "loss.tau": (0.5, 1.5),
    "loss.prior": ("data",),
}


def row_of(key: str, value: Any) -> str:
    """The row that changes one key."""
    return f"{BASE} {key}={value}"


def default_of(protocol: str, key: str) -> Any:
    """What the protocol leaves a key at."""
    found = PROTOCOLS[protocol]
    return found.overrides.get(key, configs.get(found.make(), key))


def varied(protocol: str, rows: Rows) -> list[str]:
    """The keys that have results beside the default's."""
    return [key for key in GRIDS if len(grid(protocol, rows, key)) > 1]


def grid(protocol: str, rows: Rows, key: str) -> list[tuple[Any, str]]:
    """Values of a key that have results, numbers in order, and their rows."""
    known = [(default_of(protocol, key), BASE)]
    known += [(v, row_of(key, v)) for v in GRIDS[key] if row_of(key, v) in rows]
    numbers = sorted((pair for pair in known if not isinstance(pair[0], str)), key=lambda p: p[0])
    return [*numbers, *(pair for pair in known if isinstance(pair[0], str))]


def table(protocol: str, found: Results) -> str:
    """Accuracy at every value, and the difference from the default, in percent."""
    rows, rare = found.rows, rarest(found.rows)
    lines: list[list[Cell]] = []
    for key in varied(protocol, rows):
        for value, row in grid(protocol, rows, key):
            chosen = row == BASE
            shown = [percent(values(rows, row, column)) for column in ("accuracy", rare)]
            apart = "" if chosen else compare(found, row, BASE)
            lines.append([f"`{key}`", f"{value}{' (default)' * chosen}", *shown, apart])
    return render(["key", "value", "top-1", rare, "minus default"], lines)


def figure(protocol: str, rows: Rows, path: Path) -> None:
    """A panel for every key: mean and standard deviation at every value."""
    from matplotlib.figure import Figure

    keys = varied(protocol, rows)
    lines = -(-len(keys) // 5)
    columns = -(-len(keys) // lines)
    picture = Figure(figsize=(2.6 * columns, 2.6 * lines), layout="constrained")
    axes = np.ravel(picture.subplots(lines, columns, sharey=True))
    for axis, key in zip(axes, keys, strict=False):
        pairs = grid(protocol, rows, key)
        for place, (_, row) in enumerate(pairs):
            x = 100 * values(rows, row)
            spread = x.std(ddof=1) if len(x) > 1 else 0.0
            color = "#d65f1f" if row == BASE else "#3b6fb6"
            axis.errorbar(place, x.mean(), yerr=spread, fmt="o", color=color, capsize=3)
        # Many values stand upright, so that they do not collide.
        turn = 90 if len(pairs) > MOST_ABREAST else 0
        names = [str(value) for value, _ in pairs]
        axis.set_xticks(range(len(pairs)), names, fontsize=8, rotation=turn)
        axis.set_title(key, fontsize=10)
        axis.set_xlim(-0.5, len(pairs) - 0.5)
    for axis in axes[::columns]:
        axis.set_ylabel("top-1, %")
    for axis in axes[len(keys) :]:
        axis.set_visible(False)
    picture.savefig(path, dpi=110)


def main() -> None:
    """Runs what is missing; prints and writes table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="digits_20")
    parser.add_argument("--seeds", type=int, default=5, help=f"number, from {FIRST_SEED}")
    parser.add_argument("--keys", default=",".join(GRIDS), help="keys, with commas")
    standard_arguments(parser)
    args = parser.parse_args()
    keys = args.keys.split(",")
    if unknown := [key for key in keys if key not in GRIDS]:
        parser.error(f"--keys {','.join(unknown)}: allowed are {', '.join(GRIDS)}")
    names = [BASE] + [row_of(key, v) for key in keys for v in GRIDS[key]]
    trials = [Trial(name, FIRST_SEED + seed) for name in names for seed in range(args.seeds)]
    store = run_and_store(args.protocol, trials, args, parser)
    found = of_store(store)
    print("\n" + table(args.protocol, found))
    if store.path:
        write(store.path)


def write(path: Path) -> None:
    """Table and figure of a file of results."""
    found = results(path)
    path.with_suffix(".md").write_text(table(path.stem, found))
    figure(path.stem, found.rows, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
