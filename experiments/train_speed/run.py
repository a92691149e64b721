"""Speed of training on a CPU or a GPU: this package against PyTorch, its overheads, its start.

    python -m experiments.train_speed.run [--parts steps overhead startup] [--cores 1]
                                          [--networks resnet32_cifar resnet8_cifar resnet50]
                                          [--work training evaluation] [--rounds 5] [--no-compile]
                                          [--bfloat16] [--out experiments/train_speed/results]

Contenders are processes of their own, since the thread pools of two libraries in one process
disturb each other. They take turns on the same pinned cores; figures are medians of the rounds, and
ratios are medians of the ratios within a round. PyTorch is optional: `pip install torch`. On a GPU
the steps alone are measured, and PyTorch only with CUDA. `--bfloat16` compares steps in bfloat16
with the fastest ones in float32, on a CPU with matrix tiles (AMX).
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import contextlib
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import documents, processes, records
from experiments.train_speed.contender import SHAPES
from ltjax.kernels.build import load

OVERHEAD = "overhead "  # before the network's name, in the names of parts
PARTS = ("steps", "overhead", "startup")
WORK = ("training", "evaluation")
REFERENCE = "torch eager"
EAGER = (REFERENCE, "torch eager, channels last")
COMPILED = ("torch.compile", "torch.compile, channels last")
OURS = ("ltjax by XLA", "ltjax, allocator", "ltjax, allocator, kernels")
OURS_ON_GPU = OURS[:1]  # the others are of CPUs
HALF = ", bfloat16"
# How many times more steps a turn has there.
MORE_ON_GPU = 30
# Steps of one turn; the networks differ by a factor of a hundred.
STEPS = {"resnet32_cifar": 3, "resnet8_cifar": 20, "resnet50": 1}


def contenders(
    network: str, work: str, *, compiled: bool, platform: str = "cpu", bfloat16: bool = False
) -> tuple[str, ...]:
    """Names of the contenders; the first is the reference. PyTorch's are left out without it.

    `torch.compile` is left out of ResNet-50 on a CPU, where it takes longer than all that is
    measured of it, and of evaluation.
    """
    every = {"eager": EAGER, "by compiler": COMPILED, "ours": OURS}
    if platform != "cpu":
        every["ours"] = OURS_ON_GPU
    if bfloat16:  # the last of each is the fastest
        every = {name: (kinds[-1], kinds[-1] + HALF) for name, kinds in every.items()}
    ours = every["ours"]
    if importlib.util.find_spec("torch") is None:
        say("PyTorch is not installed, and is left out")
        return ours
    if platform != "cpu":
        import torch

        if not torch.cuda.is_available():
            say("PyTorch is installed without CUDA, and is left out")
            return ours
    compiled = compiled and work == "training" and (network != "resnet50" or platform != "cpu")
    return (*every["eager"], *(every["by compiler"] if compiled else ()), *ours)


def say(text: str) -> None:
    """Prints a line of progress with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def speed(
    network: str,
    work: str,
    kinds: Sequence[str],
    rounds: int,
    cores: Sequence[int],
    platform: str = "cpu",
) -> timing.Parts:
    """Numbers of every contender of a part, under the part's name.

    On one core, contenders compile on all that there are, one core each, and then move to it.
    """
    word = "core" if len(cores) == 1 else "cores"
    place = f"{len(cores)} {word}" if platform == "cpu" else platform
    part, steps = f"{network}, {work}, {place}", STEPS[network]
    if platform != "cpu":
        steps *= MORE_ON_GPU
    say(f"{part}: compiling")
    usable = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        running = {
            kind: stack.enter_context(
                processes.Contender(
                    "experiments.train_speed.contender",
                    *(kind, network, work, str(len(cores))),
                    cores=cores if len(cores) > 1 else [usable[i % len(usable)]],
                )
            )
            for i, kind in enumerate(kinds)
        }
        for process in running.values():
            process.ready()
            process.move(cores)
        turns: dict[str, list[processes.Turn]] = {kind: [] for kind in running}
        for r in range(rounds):
            say(f"{part}: round {r + 1} of {rounds}")
            for kind, process in running.items():
                turns[kind].append(process.turn(work, steps))
    first = np.array(turns[next(iter(turns))])
    numbers: dict[str, dict[str, float]] = {}
    for kind, found in turns.items():
        wall, cpu, peak = np.array(found).T
        numbers[kind] = {
            "batch_size": SHAPES[network][0],
            "rounds": rounds,
            "steps": steps,
            "cpu_milliseconds": 1e3 * float(np.median(cpu)),
            "milliseconds": 1e3 * float(np.median(wall)),
            "images_per_second": SHAPES[network][0] / float(np.median(wall)),
            "cpu_ratio": float(np.median(first[:, 1] / cpu)),
            "ratio": float(np.median(first[:, 0] / wall)),
            "peak_mebibytes": float(peak[-1]),
        }
    return {part: numbers}


def networks(parts: timing.Parts) -> timing.Parts:
    """The parts that compare the steps of a network."""
    return {
        name: rows
        for name, rows in parts.items()
        if name != "startup" and not name.startswith(OVERHEAD)
    }


def tables(parts: timing.Parts) -> str:
    """All parts as Markdown."""
    text = []
    for name, rows in networks(parts).items():
        reference = next(iter(rows))
        text += [
            f"| {name} | CPU, ms | clock, ms | images/s | x {reference}, CPU | x, clock "
            "| peak memory, MiB |",
            "|---|---|---|---|---|---|---|",
        ]
        for kind, row in rows.items():
            times = f"{row['cpu_milliseconds']:,.3g} | {row['milliseconds']:,.3g}"
            faster = f"{row['cpu_ratio']:.2f} | {row['ratio']:.2f}"
            rate, peak = f"{row['images_per_second']:,.3g}", f"{row['peak_mebibytes']:,.0f}"
            text.append(f"| {kind} | {times} | {rate} | {faster} | {peak} |")
        text.append("")
    overheads = {name: rows for name, rows in parts.items() if name.startswith(OVERHEAD)}
    if overheads:
        text += ["| one device | bare jit, ms | mapped / jit | loop / jit |", "|---|---|---|---|"]
        for name, rows in overheads.items():
            ratios = [rows[kind]["ratio_to_jit"] for kind in ("mapped", "loop")]
            cells = [f"{rows['jit']['milliseconds']:.1f}", *(f"{ratio:.3f}" for ratio in ratios)]
            text.append(f"| {name.removeprefix(OVERHEAD)} | {' | '.join(cells)} |")
        text.append("")
    if "startup" in parts:
        rows = parts["startup"]
        text += ["| start to the first step | seconds |", "|---|---|"]
        text.append(f"| cold compilation cache | {rows['cold']['seconds']:.1f} |")
        text.append(f"| warm | {rows['warm']['seconds']:.1f} |")
    return "\n".join(text).rstrip() + "\n"


def write(folder: Path, name: str = "cpu") -> None:
    """Writes the table of the stored results."""
    (folder / f"{name}.md").write_text(tables(timing.read(folder / f"{name}.csv")))


def arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The parser and what it read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--cores", type=int, default=1, help="cores of the steps")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--bfloat16", action="store_true", help="compare steps in bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    return parser, parser.parse_args()


def main() -> None:
    """Measures the parts; prints each when it is done, writes it, and fills the documents."""
    import jax

    parser, args = arguments()
    platform = jax.devices()[0].platform
    about = records.environment("cpu" if platform == "cpu" else records.devices())
    name = "bfloat16" if args.bfloat16 else platform
    file = args.out / f"{name}.csv" if args.out else None
    if platform != "cpu" and args.parts != ["steps"]:
        parser.error(f"--parts: on a {platform} the steps alone are measured; give --parts steps")
    if args.bfloat16 and not (platform == "cpu" and args.parts == ["steps"] and load().tiles):
        parser.error("--bfloat16: for --parts steps, on a CPU with matrix tiles (AMX)")
    if file:
        timing.check(parser, file, (), about)

    def keep(part: timing.Parts) -> None:
        print(tables(part), flush=True)
        if file:
            timing.write(file, part, about)
            write(args.out, name)
            documents.fill()

    cores = sorted(os.sched_getaffinity(0))[-args.cores :]
    for network in args.networks if "steps" in args.parts else ():
        for work in args.work:
            compiled = not args.no_compile
            kinds = contenders(
                network, work, compiled=compiled, platform=platform, bfloat16=args.bfloat16
            )
            keep(speed(network, work, kinds, args.rounds, cores, platform))
    if "overhead" in args.parts:
        from experiments.train_speed.overhead import overheads

        keep(overheads(args.rounds))
    if "startup" in args.parts:
        from experiments.train_speed.startup import startup

        keep({"startup": startup(args.rounds)})


if __name__ == "__main__":
    main()
