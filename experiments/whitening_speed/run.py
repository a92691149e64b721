"""Time of whitening, forward and forward + backward + running covariance, against baselines.

    python -m experiments.whitening_speed.run [--sizes 128x64 ...] [--out FOLDER]

All contenders of a size are interleaved in one process; medians. Each turn is a call that is
not timed, which wakes the contender's threads, and one that is. Prints the table, writes
results, table and figure, named after the platform. PyTorch is optional (pip install
"ltjax[torch]"); on a GPU the same command times the GPU.
"""

import os

# PyTorch's idle OpenMP threads would spin, for up to 200 ms, on the cores of the next contender.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
from pathlib import Path

import jax
import numpy as np

from experiments import records
from experiments.whitening_speed.contenders import Call, floors, ours, theirs

SIZES = ("128x64", "256x512", "512x512", "256x2048", "1024x2048")
REFERENCE = "torch eigh, eager"
FULL = "full_milliseconds"
Rows = dict[str, dict[str, float]]
# Ceilings in products and floors of the speed-up over REFERENCE, forward + backward + running.
GATES = {
    "128x64": (11, 1.8),
    "256x512": (10, 3),
    "512x512": (22, 1.5),
    "256x2048": (3.5, 30),
    "1024x2048": (9, 3.5),
}


def measure(size: str, *, budget: float, most: int, compiled: bool) -> dict[str, dict[str, float]]:
    """Milliseconds of every contender at one size; slow ones run in fewer rounds."""
    n, d = map(int, size.split("x"))
    calls: dict[tuple[str, str], Call] = {
        (name, "full"): call for name, call in floors(n, d).items()
    }
    calls |= ours(n, d) | theirs(n, d, compiled=compiled)
    rounds = {}
    for key, call in calls.items():
        call()  # compiles
        rounds[key] = int(np.clip(budget / timing.timed(call)[0] / 2, 3, most))
    rows: dict[str, dict[str, float]] = {}
    for (name, mode), times in timing.interleaved(calls, rounds, warm_up=0, wake=True).items():
        rows.setdefault(name, {})[f"{mode}_milliseconds"] = 1e3 * times.median
    return rows


def products(rows: Rows, name: str) -> float:
    """Cost of forward + backward + running covariance in N x D x D products."""
    return rows[name][FULL] / rows["one product"][FULL]


def speedup(rows: Rows, name: str) -> float | None:
    """How many times faster than PyTorch's eager `eigh`, where that was timed."""
    return rows[REFERENCE][FULL] / rows[name][FULL] if REFERENCE in rows else None


def gates(sizes: timing.Parts) -> dict[str, bool]:
    """For each size with a gate, whether zca costs and gains what it should."""
    found = {}
    for size, (ceiling, least) in GATES.items():
        if size in sizes:
            cost, gain = products(sizes[size], "ltjax zca"), speedup(sizes[size], "ltjax zca")
            found[size] = cost <= ceiling and (gain is None or gain >= least)
    return found


def table(sizes: timing.Parts) -> str:
    """Markdown: cost in products, and speed-up over PyTorch's eager `eigh`."""
    names = list(dict.fromkeys(name for rows in sizes.values() for name in rows))
    lines = [f"| (N, D) | {' | '.join(s.replace('x', ', ') for s in sizes)} |"]
    lines.append("|---|" + "---|" * len(sizes))
    times = [f"{rows['one product'][FULL]:.2f} ms" for rows in sizes.values()]
    lines.append(f"| one product | {' | '.join(times)} |")
    for name in names[1:]:
        cells = []
        for rows in sizes.values():
            if name not in rows:
                cells.append("-")
                continue
            gain = speedup(rows, name)
            cell = f"{products(rows, name):.1f}"
            cells.append(
                cell if gain is None or name == "two products" else f"{cell} / {gain:.1f}x"
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(sizes: timing.Parts, path: Path) -> None:
    """Cost in products by size, one line a contender."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    shown = ["two products", "ltjax zca", "ltjax newton_schulz", "ltjax cholesky"]
    shown += ["jax eigh autodiff", REFERENCE, "torch svd, eager", "torch iternorm 5, eager"]
    shown += ["torch cholesky, eager"]
    for name in shown:
        if all(name in rows for rows in sizes.values()):
            costs = [products(rows, name) for rows in sizes.values()]
            axes.plot(
                list(sizes), costs, marker="o", lw=3 if name == "ltjax zca" else 1.2, label=name
            )
    axes.set(yscale="log", xlabel="N x D", ylabel="cost in N x D x D products")
    axes.set_title("Whitening: forward + backward + running covariance")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    fig.savefig(path, dpi=110)


def main() -> None:
    """Times, prints, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a contender, about")
    parser.add_argument("--rounds", type=int, default=41, help="at most")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    path = args.out / f"{jax.devices()[0].platform}.csv" if args.out else None
    about = records.environment(records.devices())
    if path:
        timing.check(parser, path, args.sizes, about)
    sizes: timing.Parts = {}
    for size in args.sizes:
        sizes[size] = measure(
            size, budget=args.budget, most=args.rounds, compiled=not args.no_compile
        )
        print(f"{size} measured", flush=True)
    if path:
        sizes = timing.write(path, sizes, about)
        path.with_suffix(".md").write_text(table(sizes))
        figure(sizes, path.with_suffix(".png"))
    print(table(sizes))
    print("gates met:", gates(sizes))


if __name__ == "__main__":
    main()
