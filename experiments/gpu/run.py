"""Measures on one GPU, within a budget of time: steps, whitening methods, rows of the protocol.

    experiments/gpu/run.sh --data-dir TFDS_DIR [--minutes 25] [--protocol cifar10]
                           [--rows ce,cw_la_b3rs_bet] [--out experiments/gpu/results]

Each task is a process of its own and stores what it measured when it ends. The last task is stopped
when the time is over. At the end it is said of every task what became of it.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import records
from experiments.protocols import PROTOCOLS, ROWS

NETWORKS = ("resnet32_cifar", "resnet50", "resnet8_cifar")
SIZES = ("128x64", "256x512", "512x512", "256x2048", "1024x2048")
# The baseline and the whole method first, then what lies between them, then others.
ORDER = (
    *("ce", "cw_la_b3rs_bet", "logit_adjustment", "cw_la", "bn_la", "cw_la_b3rs"),
    *("balanced_softmax", "ldam_drw", "cw", "crt", "posthoc_la"),
)
# What a process that is told to stop has, to write its checkpoint.
GRACE = 30.0
DONE, STOPPED, NOT_RUN = "done", "stopped: its time was over", "not run: no time was left"


class Task(NamedTuple):
    """What is run.

    Attributes:
      name: in words.
      command: the module and arguments of its program.
      share: of the whole time, at most, so that what comes later is not left out.
    """

    name: str
    command: tuple[str, ...]
    share: float = 1.0


class Outcome(NamedTuple):
    """What became of a task, and the seconds that it took."""

    name: str
    words: str
    seconds: float


def tasks(args: argparse.Namespace) -> list[Task]:
    """All tasks, in the order in which they are run."""
    cores = str(min(records.cores(), 4))
    steps, whitening = ("--out", str(args.out / "steps")), ("--out", str(args.out / "whitening"))
    found = [
        Task(
            f"steps of {network}",
            (
                *("experiments.train_speed.run", "--parts", "steps", "--work", "training"),
                *("--networks", network, "--rounds", str(args.rounds), "--cores", cores, *steps),
            ),
            0.1,
        )
        for network in args.networks
    ]
    found += [
        Task(
            f"whitening of {size}",
            ("experiments.whitening_speed.run", "--sizes", size, "--cores", cores, *whitening),
            0.04,
        )
        for size in args.sizes
    ]
    shared = ("--seeds", str(args.seeds), "--data-dir", args.data_dir, "--out", str(args.out))
    return found + [
        Task(
            f"{args.protocol}, {row}, {args.seeds} seeds",
            ("experiments.gpu.row", "--protocol", args.protocol, "--row", row, *shared),
        )
        for row in args.rows
    ]


def run_within(found: Sequence[Task], seconds: float) -> list[Outcome]:
    """Runs tasks one after another until the time is over.

    Args:
      found: the tasks.
      seconds: for all of them, with the stopping of the last.
    """
    end, outcomes = time.monotonic() + seconds - GRACE, list[Outcome]()
    for task in found:
        began = time.monotonic()
        if began >= end:
            outcomes.append(Outcome(task.name, NOT_RUN, 0.0))
            continue
        limit = min(end - began, task.share * seconds)
        print(f"{task.name}: at most {limit:.0f} s", flush=True)
        words = _run(task, limit)
        outcomes.append(Outcome(task.name, words, time.monotonic() - began))
        print(f"{task.name}: {words}", flush=True)
    return outcomes


def _run(task: Task, seconds: float) -> str:
    """Runs a task, and stops it when its time is over; what became of it."""
    # Contenders share the GPU, of which JAX would otherwise take most of the memory at once.
    env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", *task.command],
        cwd=records.ROOT,
        env=env,
        start_new_session=True,  # its contenders are stopped with it
    )
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # a training run writes a checkpoint
        try:
            code = process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return STOPPED
        if code:  # else it was about to end
            return STOPPED
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
    return DONE if code == 0 else f"failed with exit code {code}"


def summary(outcomes: Sequence[Outcome], out: Path) -> str:
    """What was measured, and what became of every task."""
    tables = [path.read_text() for path in sorted(out.rglob("*.md")) if path.name != "README.md"]
    lines = [f"{one.name}: {one.words} ({one.seconds:.0f} s)" for one in outcomes]
    return "\n".join([*tables, *lines])


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What the program is told."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--data-dir", default="", help="folder of the prepared TFDS data sets")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="cifar10")
    parser.add_argument("--rows", type=_words, default=ORDER, help="names with commas")
    parser.add_argument("--networks", type=_words, default=NETWORKS, help="for the steps")
    parser.add_argument("--sizes", type=_words, default=SIZES, help="NxD of the whitening")
    parser.add_argument("--seeds", type=int, default=3, help="of each row, as one program")
    parser.add_argument("--rounds", type=int, default=5, help="of the steps")
    parser.add_argument("--out", type=Path, default=Path("experiments/gpu/results"))
    args = parser.parse_args(argv)
    if 60 * args.minutes <= GRACE:
        parser.error(f"--minutes {args.minutes:g}: must be more than {GRACE / 60:g}")
    if unknown := [row for row in args.rows if row.split(" ")[0] not in ROWS]:
        parser.error(f"--rows {','.join(unknown)}: allowed are {', '.join(ROWS)}")
    args.out = args.out.resolve()
    return args


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all tasks; 1 if one of them failed."""
    args = arguments(argv)
    outcomes = run_within(tasks(args), 60 * args.minutes)
    print(summary(outcomes, args.out), flush=True)
    return int(any(one.words.startswith("failed") for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
