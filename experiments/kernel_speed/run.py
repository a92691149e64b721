"""Speed of a training step with and without native kernels, against PyTorch eager.

    python -m experiments.kernel_speed.run [--networks resnet32_cifar resnet50] [--rounds 5]
                                           [--cores 1] [--out experiments/kernel_speed/results]

Contenders are processes of their own, since the thread pools of two libraries in one process
disturb each other. They take turns on the same pinned cores; figures are medians of the rounds, and
ratios are of CPU seconds. PyTorch is optional: `pip install torch`.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import records, timing
from experiments.kernel_speed.contender import SHAPES

TORCH = ("torch eager", "torch eager, channels last")
OURS = ("ltjax by XLA", "ltjax, allocator", "ltjax, allocator, kernels")
# Steps of one timing; the networks differ by a factor of ten.
STEPS = {"resnet32_cifar": 3, "resnet50": 1}
WORK = ("training", "evaluation")


def start(kind: str, network: str, work: str, cores: Sequence[int]) -> "subprocess.Popen[str]":
    """Starts a contender on the first so many cores that this process may use."""
    module = "experiments.kernel_speed.contender"
    command = [sys.executable, "-m", module, kind, network, work, str(len(cores))]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=records.ROOT,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def ask(process: "subprocess.Popen[str]", steps: int) -> tuple[float, ...]:
    """Lets a contender take steps: seconds of CPU and of the clock per step, and peak memory."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return tuple(float(word) for word in process.stdout.readline().split())


def measure(network: str, work: str, rounds: int, cores: Sequence[int]) -> dict:
    """Numbers of every contender of a part."""
    torch = TORCH if importlib.util.find_spec("torch") else ()
    processes = {kind: start(kind, network, work, cores) for kind in (*torch, *OURS)}
    try:
        for kind, process in processes.items():
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"the contender {kind!r} of {network}, {work} did not start")
        steps = STEPS[network]
        found: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in processes}
        for _ in range(rounds):
            for kind, process in processes.items():
                found[kind].append(ask(process, steps))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    first = np.array(found[next(iter(found))])[:, 0]
    numbers = {}
    for kind, rows in found.items():
        cpu, wall, peak = np.array(rows).T
        numbers[kind] = {
            "rounds": rounds,
            "steps": steps,
            "batch_size": SHAPES[network][0],
            "cpu_milliseconds": 1e3 * float(np.median(cpu)),
            "milliseconds": 1e3 * float(np.median(wall)),
            "ratio": float(np.median(first / cpu)),
            "peak_mebibytes": float(peak[-1]),
        }
    return numbers


def table(parts: timing.Parts) -> str:
    """All parts as Markdown."""
    text = []
    for name, rows in parts.items():
        reference = next(iter(rows))
        text += [f"| {name} | CPU, ms | clock, ms | x {reference} | peak memory, MiB |"]
        text += ["|---|---|---|---|---|"]
        for kind, row in rows.items():
            cells = f"{row['cpu_milliseconds']:,.0f} | {row['milliseconds']:,.0f}"
            peak = f"{row['peak_mebibytes']:,.0f}"
            text.append(f"| {kind} | {cells} | {row['ratio']:.2f} | {peak} |")
        text.append("")
    return "\n".join(text).rstrip() + "\n"


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[-args.cores :]
    word = "core" if args.cores == 1 else "cores"
    names = {
        f"{network}, {work}, {args.cores} {word}": (network, work)
        for network in args.networks
        for work in WORK
    }
    about = records.environment("cpu")
    if args.out:
        timing.check(parser, args.out / "cpu.csv", names, about)
    found = {name: measure(*part, args.rounds, cores) for name, part in names.items()}
    if args.out:
        found = timing.write(args.out / "cpu.csv", found, about)
        (args.out / "cpu.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
