"""Time of whitening, forward and forward + backward + running covariance, against its rivals.

    python -m experiments.whitening_speed.run [--sizes 128x64 ...] [--out FOLDER]

All contenders of a size are interleaved in one process; medians. Each turn is a call that is
not timed, which wakes the contender's threads, and one that is. Prints the table, writes
JSON, the table and a figure, named after the platform. PyTorch is optional (pip install
"ltjax[torch]"); on a GPU the same command times the GPU.
"""

import os

# OpenBLAS threads on a busy CPU make a small eigh up to 200 times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# PyTorch's idle OpenMP threads would spin, for up to 200 ms, on the cores of the next contender.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

import argparse
import importlib.metadata
import json
import platform
import time
from pathlib import Path

import jax
import numpy as np

from experiments.whitening_speed.contenders import floors, ours, theirs

SIZES = ("128x64", "256x512", "512x512", "256x2048", "1024x2048")
REFERENCE = "torch eigh, eager"
# Ceilings in products and floors of the speed-up over REFERENCE, forward + backward + running.
GATES = {
    "128x64": (11, 1.8),
    "256x512": (10, 3),
    "512x512": (22, 1.5),
    "256x2048": (3.5, 30),
    "1024x2048": (9, 3.5),
}


def interleaved(calls: dict, *, budget: float, most: int) -> dict:
    """Median seconds of every call; slow ones run less often, spread over the rounds."""
    first = {}
    for key, call in calls.items():
        call()  # compiles
        start = time.perf_counter()
        call()
        first[key] = time.perf_counter() - start
    rounds = {key: int(np.clip(budget / t / 2, 3, most)) for key, t in first.items()}
    times: dict = {key: [] for key in calls}
    for r in range(most):
        for key, call in calls.items():
            if (r + 1) * rounds[key] // most > r * rounds[key] // most:
                call()
                start = time.perf_counter()
                call()
                times[key].append(time.perf_counter() - start)
    return {key: float(np.median(t)) for key, t in times.items()}


def measure(size: str, *, budget: float, most: int, compiled: bool) -> dict:
    """Milliseconds of every contender at one size."""
    n, d = map(int, size.split("x"))
    calls: dict = {(name, "full"): call for name, call in floors(n, d).items()}
    calls |= ours(n, d) | theirs(n, d, compiled=compiled)
    medians = interleaved(calls, budget=budget, most=most)
    rows: dict = {}
    for (name, mode), seconds in medians.items():
        rows.setdefault(name, {})[mode] = 1e3 * seconds
    return rows


def products(rows: dict, name: str) -> float:
    """Cost of forward + backward + running covariance in N x D x D products."""
    return rows[name]["full"] / rows["one product"]["full"]


def speedup(rows: dict, name: str) -> float | None:
    """How many times faster than PyTorch's eager `eigh`, where that was timed."""
    return rows[REFERENCE]["full"] / rows[name]["full"] if REFERENCE in rows else None


def gates(sizes: dict) -> dict:
    """For each size with a gate: what zca costs and gains, and whether the gate holds."""
    found = {}
    for size, (ceiling, least) in GATES.items():
        if size in sizes:
            cost, gain = products(sizes[size], "ltjax zca"), speedup(sizes[size], "ltjax zca")
            holds = cost <= ceiling and (gain is None or gain >= least)
            found[size] = {"products": cost, "speedup": gain, "holds": bool(holds)}
    return found


def table(sizes: dict) -> str:
    """Markdown: cost in products, and speed-up over PyTorch's eager `eigh`."""
    names = list(dict.fromkeys(name for rows in sizes.values() for name in rows))
    lines = [f"| (N, D) | {' | '.join(s.replace('x', ', ') for s in sizes)} |"]
    lines.append("|---|" + "---|" * len(sizes))
    times = [f"{rows['one product']['full']:.2f} ms" for rows in sizes.values()]
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


def figure(sizes: dict, path: Path) -> None:
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


def environment() -> dict:
    """Versions and hardware."""
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for name in ("jax", "jaxlib", "numpy", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found | {"cpus": os.cpu_count(), "blas_threads": os.environ["OPENBLAS_NUM_THREADS"]}


def main() -> None:
    """Times, prints, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--budget", type=float, default=1.0, help="seconds a contender, about")
    parser.add_argument("--rounds", type=int, default=41, help="at most")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    sizes = {}
    for size in args.sizes:
        sizes[size] = measure(
            size, budget=args.budget, most=args.rounds, compiled=not args.no_compile
        )
        print(f"{size} measured", flush=True)
    name = jax.devices()[0].platform
    args.out.mkdir(parents=True, exist_ok=True)
    outcome = {"environment": environment(), "milliseconds": sizes, "gates": gates(sizes)}
    (args.out / f"{name}.json").write_text(json.dumps(outcome, indent=1) + "\n")
    (args.out / f"{name}.md").write_text(table(sizes))
    figure(sizes, args.out / f"{name}.png")
    print(table(sizes))
    print(json.dumps(outcome["gates"], indent=1))


if __name__ == "__main__":
    main()
