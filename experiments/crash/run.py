"""Kills a run with SIGKILL at random moments, resumes it, compares with an uninterrupted run.

    python -m experiments.crash.run [--tries 30] [--out DIR] [--config.KEY=VALUE ...]

The tries go round four cases: 1 and 4 devices, 1 and 3 seeds. Every try starts a fresh run, kills
it at a random moment of its training, gives the same command again, and compares the metrics of
`result.json` and all arrays of the last checkpoint with those of a run that was never killed, bit
for bit. Processes share a compilation cache, so that most of their time is training.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments import records

# Of the digits config, shortened so that thirty tries take ten minutes.
LENGTH = ["--config.train.epochs=40", "--config.checkpoint.every_epochs=10"]
# Devices and seeds.
CASES = ((1, (0,)), (4, (0,)), (1, (0, 1, 2)), (4, (0, 1, 2)))


class Try(NamedTuple):
    """One killed and resumed run.

    Attributes:
      devices: of the case.
      seeds: of the case.
      killed_after: seconds of training before the kill; None where the run ended before it.
      checkpoints: the steps that were saved at the kill.
      equal: whether the outcome is that of the uninterrupted run, bit for bit.
    """

    devices: int
    seeds: tuple[int, ...]
    killed_after: float | None
    checkpoints: tuple[int, ...]
    equal: bool


def start(workdir: Path, overrides: list[str]) -> "subprocess.Popen[bytes]":
    """Starts the command of the README."""
    words = ["--config", "configs/digits_lt.py", f"--workdir={workdir}", *overrides]
    env = {"JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "cache")}
    return timing.start("ltjax.main", *words, env=env)


def outcome(workdir: Path) -> tuple[dict[str, object], list[np.ndarray]]:
    """Metrics of the result and the arrays of the last checkpoint."""
    result = json.loads((workdir / "result.json").read_text())
    last = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    folder = workdir.resolve() / "checkpoints" / str(last) / "state"
    reader = ocp.PyTreeCheckpointer()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).item_metadata
    )
    state = reader.restore(folder, restore_args=as_numpy)
    leaves = sorted(ocp.tree.to_flat_dict(state, sep="/").items())
    metrics = {key: result[key] for key in ("test", "per_seed") if key in result}
    return metrics, [np.asarray(leaf) for _, leaf in leaves]


def one_try(workdir: Path, case: list[str], delay: float) -> tuple[float | None, tuple[int, ...]]:
    """Kills a run some seconds after its training began, and resumes it to its end.

    Returns:
      Seconds and saved steps at the kill; None and nothing where the run ended before.
    """
    process = start(workdir, case)
    timing.wait_for(workdir / "metrics.jsonl", process)
    try:
        process.wait(delay)
        return None, ()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    timing.finish(start(workdir, case))
    return delay, tuple(steps)


def table(tries: list[Try]) -> str:
    """Tries and equal outcomes of every case, as Markdown."""
    lines = ["| devices | seeds | killed before the first checkpoint | killed later | equal |"]
    lines.append("|---|---|---|---|---|")
    for devices, seeds in CASES:
        rows = [row for row in tries if (row.devices, row.seeds) == (devices, seeds)]
        killed = [row for row in rows if row.killed_after is not None]
        early = sum(not row.checkpoints for row in killed)
        shown = f"({','.join(map(str, seeds))}{',' * (len(seeds) == 1)})"
        equal = f"{sum(row.equal for row in rows)} of {len(rows)}"
        lines.append(f"| {devices} | {shown} | {early} | {len(killed) - early} | {equal} |")
    lines.append(f"| all | | | | {sum(row.equal for row in tries)} of {len(tries)} |")
    return "\n".join(lines) + "\n"


def read(path: Path) -> list[Try]:
    """The stored tries."""
    return [
        Try(
            int(line["devices"]),
            tuple(map(int, line["seeds"].split())),
            float(line["killed_after"]) if line["killed_after"] else None,
            tuple(map(int, line["checkpoints"].split())),
            line["equal"] == "1",
        )
        for line in records.read(path)
    ]


def write(path: Path, tries: list[Try]) -> None:
    """Stores the tries, in place of those that are there."""
    about = records.environment("cpu")
    lines = [
        {
            "number": str(number),
            "devices": str(row.devices),
            "seeds": " ".join(map(str, row.seeds)),
            "killed_after": "" if row.killed_after is None else f"{row.killed_after:.2f}",
            "checkpoints": " ".join(map(str, row.checkpoints)),
            "equal": str(int(row.equal)),
            **about,
        }
        for number, row in enumerate(tries, 1)
    ]
    records.update(path, lambda _: lines)


def uninterrupted(
    workdir: Path, case: list[str]
) -> tuple[float, tuple[dict[str, object], list[np.ndarray]]]:
    """Seconds of training of a run that is not killed, and its outcome."""
    timing.finish(start(workdir, case))  # fills the compilation cache
    shutil.rmtree(workdir)
    process = start(workdir, case)
    timing.wait_for(workdir / "metrics.jsonl", process)
    began = time.monotonic()
    timing.finish(process)
    return time.monotonic() - began, outcome(workdir)


def main() -> None:
    """Prints one line per try and the number that agreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args, overrides = parser.parse_known_args()
    moments = random.Random(args.seed)
    tries: list[Try] = []
    with tempfile.TemporaryDirectory() as name:
        references = []
        for number, (devices, seeds) in enumerate(CASES):
            devices_and_seeds = [f"--config.cpu_devices={devices}", f"--config.seeds={seeds}"]
            case = [*LENGTH, *overrides, *devices_and_seeds]
            references.append((case, *uninterrupted(Path(name) / f"whole-{number}", case)))
            print(f"uninterrupted, {devices} devices, seeds {seeds}: done", flush=True)
        for number in range(args.tries):
            case, length, (metrics, arrays) = references[number % len(CASES)]
            workdir = Path(name) / f"try{number}"
            after, steps = one_try(workdir, case, moments.uniform(0, 0.95) * length)
            again, others = outcome(workdir)
            same = again == metrics and len(others) == len(arrays)
            same &= all(a.tobytes() == b.tobytes() for a, b in zip(arrays, others, strict=False))
            devices, seeds = CASES[number % len(CASES)]
            tries.append(Try(devices, seeds, after, steps, same))
            print(f"try {number + 1}: {tries[-1]}", flush=True)
            shutil.rmtree(workdir)
    print("\n" + table(tries))
    if args.out:
        write(args.out / "crash.csv", tries)
    sys.exit(not all(row.equal for row in tries))


if __name__ == "__main__":
    main()
