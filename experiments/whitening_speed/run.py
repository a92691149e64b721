"""Time of whitening, forward and forward + backward + running covariance, against baselines.

    python -m experiments.whitening_speed.run [--sizes 128x64 ...] [--cores 2] [--compile]
                                              [--budget 0.3] [--out FOLDER]

This package's methods, JAX's autodiff, PyTorch's `eigh` and its other routes are processes of their
own on the same cores and take turns, each with the number of threads that is best for it; medians.
Writes results, table and figure, named after the platform. PyTorch is optional (pip install
"ltjax[torch]"); on a GPU the same command times the GPU.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import importlib.util
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import jax
import numpy as np

from experiments import records
from experiments.processes import Contender, Turn
from experiments.whitening_speed.contenders import GROUPS

SIZES = ("128x64", "256x512", "512x512", "256x2048", "1024x2048")
REFERENCE = "torch eigh, eager"
OURS = "ltjax zca, native"
FULL = "full_milliseconds"
# A turn is one step that is not timed, which wakes threads and fills caches, and about so long.
TURN_SECONDS = 0.06
# Steps that take longer need no warming up.
LONG_SECONDS = 0.2
Rows = dict[str, dict[str, float]]
# Ceilings in products and floors of the speed-up over REFERENCE, forward + backward + running.
GATES = {
    "128x64": (11, 1.8),
    "256x512": (10, 3),
    "512x512": (22, 1.5),
    "256x2048": (3.5, 30),
    "1024x2048": (9, 3.5),
}


def part(size: str, cores: int) -> str:
    """The name of a part of the results."""
    return f"{size}, {cores} core{'s' * (cores > 1)}"


def start(size: str, cores: Sequence[int], options: Sequence[str]) -> list[Contender]:
    """The processes of a size, once for each number of threads where they cannot change it."""
    module, found = "experiments.whitening_speed.contenders", []
    for group in GROUPS:
        torch = group.startswith("torch")
        if torch and not importlib.util.find_spec("torch"):
            continue
        for threads in [len(cores)] if torch else sorted({1, len(cores)}):
            words = (group, size, str(threads), *options)
            found.append(Contender(module, *words, cores=cores[-threads:]))
    return found


def measure(
    size: str, cores: Sequence[int], *, budget: float, most: int, options: Sequence[str]
) -> Rows:
    """Milliseconds of every contender at one size; slow ones take fewer steps and rounds."""
    with ExitStack() as stack:
        contenders = [stack.enter_context(c) for c in start(size, cores, options)]
        trials: dict[tuple[str, str], list[tuple[float, int, partial[Turn]]]] = {}
        for contender in contenders:
            for call in contender.ready():
                name, mode, threads = call.split(" | ")
                turn = partial(contender.turn, call)
                seconds = min(turn().wall for _ in range(2))
                if seconds < LONG_SECONDS:
                    seconds = min(turn(2, warm_up=1).wall for _ in range(2))
                trials.setdefault((name, mode), []).append((seconds, int(threads), turn))
        calls, rounds, best = {}, {}, {}
        for key, found in trials.items():
            seconds, best[key], turn = min(found, key=lambda trial: trial[0])
            steps = int(np.clip(TURN_SECONDS / seconds, 1, 200))
            calls[key] = partial(turn, steps, warm_up=int(seconds < LONG_SECONDS))
            rounds[key] = int(np.clip(budget / seconds / steps, 3, most))
        turns = timing.turns(calls, rounds, warm_up=0)
    rows: Rows = {}
    for (name, mode), taken in turns.items():
        row = rows.setdefault(name, {})
        row[f"{mode}_threads"], row[f"{mode}_rounds"] = best[name, mode], len(taken)
        row[f"{mode}_milliseconds"] = 1e3 * float(np.median([turn.wall for turn in taken]))
        row[f"{mode}_cpu_milliseconds"] = 1e3 * float(np.median([turn.cpu for turn in taken]))
    return rows


def split(parts: timing.Parts) -> dict[int, timing.Parts]:
    """The sizes measured on each number of cores, most cores first."""
    found: dict[int, timing.Parts] = {}
    for name, rows in parts.items():
        size, cores = name.split(", ")
        found.setdefault(int(cores.split()[0]), {})[size] = rows
    return dict(sorted(found.items(), reverse=True))


def cost(rows: Rows, name: str, cores: int) -> float:
    """Milliseconds of forward + backward + running: by the clock, or of CPU time on one core."""
    return rows[name][FULL if cores > 1 else "full_cpu_milliseconds"]


def products(rows: Rows, name: str, cores: int) -> float:
    """Cost in N x D x D products."""
    return cost(rows, name, cores) / cost(rows, "one product", cores)


def speedup(rows: Rows, name: str, cores: int) -> float | None:
    """How many times faster than PyTorch's eager `eigh`, where that was timed."""
    if REFERENCE not in rows:
        return None
    return cost(rows, REFERENCE, cores) / cost(rows, name, cores)


def gates(parts: timing.Parts) -> dict[str, tuple[bool, bool]]:
    """For each size with a gate, whether ZCA costs and gains what it should on the most cores."""
    cores, sizes = next(iter(split(parts).items()))
    found = {}
    for size, (ceiling, least) in GATES.items():
        if size in sizes:
            needed = products(sizes[size], OURS, cores)
            gain = speedup(sizes[size], OURS, cores)
            found[size] = needed <= ceiling, gain is None or gain >= least
    return found


def _table(sizes: timing.Parts, cores: int) -> str:
    names = list(dict.fromkeys(name for rows in sizes.values() for name in rows))
    unit = "by the clock" if cores > 1 else "CPU time"
    titles = [f"({size.replace('x', ', ')})" for size in sizes]
    lines = [f"| {cores} core{'s' * (cores > 1)}, {unit} | {' | '.join(titles)} |"]
    lines.append("|---|" + "---|" * len(sizes))
    times = [f"{cost(rows, 'one product', cores):.2f} ms" for rows in sizes.values()]
    lines.append(f"| one product | {' | '.join(times)} |")
    for name in names[1:]:
        cells = []
        for rows in sizes.values():
            if name not in rows:
                cells.append("-")
                continue
            cell, gain = f"{products(rows, name, cores):.1f}", speedup(rows, name, cores)
            if gain is not None and name != "two products":
                cell += f" / {gain:.1f}x"
            if rows[name]["full_threads"] < cores:
                cell += " (1)"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table(parts: timing.Parts) -> str:
    """Markdown for each number of cores: cost in products, speed-up over PyTorch's eager `eigh`."""
    return "\n".join(_table(sizes, cores) for cores, sizes in split(parts).items())


def figure(parts: timing.Parts, path: Path) -> None:
    """Cost in products by size on the most cores, one line a contender."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cores, sizes = next(iter(split(parts).items()))
    fig, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    shown = ["two products", "ltjax zca", OURS, "ltjax newton_schulz", "ltjax cholesky"]
    shown += ["jax eigh autodiff", REFERENCE, "torch svd, eager", "torch iternorm 5, eager"]
    shown += ["torch cholesky, eager"]
    for name in shown:
        if all(name in rows for rows in sizes.values()):
            costs = [products(rows, name, cores) for rows in sizes.values()]
            axes.plot(list(sizes), costs, marker="o", lw=3 if name == OURS else 1.2, label=name)
    axes.set(yscale="log", xlabel="N x D", ylabel="cost in N x D x D products")
    axes.set_title("Whitening: forward + backward + running covariance")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    fig.savefig(path, dpi=110)


def main() -> None:
    """Times, prints, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds a contender, about")
    parser.add_argument("--rounds", type=int, default=15, help="at most")
    parser.add_argument("--compile", action="store_true", help="PyTorch compiled, too")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[-args.cores :]
    path = args.out / f"{jax.devices()[0].platform}.csv" if args.out else None
    about = records.environment(records.devices())
    if path:
        timing.check(parser, path, [part(size, len(cores)) for size in args.sizes], about)
    parts: timing.Parts = {}
    for size in args.sizes:
        found = measure(
            size,
            cores,
            budget=args.budget,
            most=args.rounds,
            options=["--compile"] * args.compile,
        )
        parts[part(size, len(cores))] = found
        print(f"{size} measured", flush=True)
    if path:
        parts = timing.write(path, parts, about)
        path.with_suffix(".md").write_text(table(parts))
        figure(parts, path.with_suffix(".png"))
    print(table(parts))
    print("ceiling of cost, floor of speed-up met:", gates(parts))


if __name__ == "__main__":
    main()
