"""What the experiments on speed share: timing in turns, processes, and the CSV of their results.

Import it before NumPy and JAX, for it pins the threads of OpenBLAS to one: with more, a small
eigendecomposition on a busy CPU is up to 200 times slower.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from experiments import records
from ltjax.errors import InputError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Times(NamedTuple):
    """Seconds of one contender, an entry for each round, both `[rounds]`.

    Attributes:
      wall: by the clock.
      cpu: of this process on all its cores, without its child processes.
    """

    wall: np.ndarray
    cpu: np.ndarray

    @property
    def median(self) -> float:
        """Median of the seconds by the clock."""
        return float(np.median(self.wall))

    def times_faster(self, other: "Times") -> float:
        """How many times faster this is than another: the median of the ratios within a round.

        A busy machine slows all contenders of a round alike, so that these ratios vary less than
        the seconds.

        >>> a, b = (Times(np.array(x), np.array(x)) for x in ([1.0, 2.0, 3.0], [2.0, 4.0, 9.0]))
        >>> a.times_faster(b)
        2.0
        """
        return float(np.median(other.wall / self.wall))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call by the clock and of this process's CPU time."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def turns(
    contenders: Mapping[K, Callable[[], T]],
    rounds: int | Mapping[K, int],
    *,
    warm_up: int = 1,
    wake: bool = False,
    alternate: bool = False,
) -> dict[K, list[T]]:
    """Calls contenders in turns, in every round each once, and returns what each returned.

    Args:
      contenders: functions that return when the work is done.
      rounds: how many are kept; where it differs by contender, those with fewer rounds take
        part in some rounds only, evenly spread.
      warm_up: rounds that are not kept, for compilation and caches.
      wake: call each contender once, not kept, before the call that is, so that its threads
        are awake.
      alternate: reverse the order in every other round, so that no contender profits from its
        place.
    """
    counts = dict.fromkeys(contenders, rounds) if isinstance(rounds, int) else dict(rounds)
    most = max(counts.values())
    for _ in range(warm_up):
        for call in contenders.values():
            call()
    found: dict[K, list[T]] = {name: [] for name in contenders}
    for r in range(most):
        for name in list(contenders)[:: -1 if alternate and r % 2 else 1]:
            if (r + 1) * counts[name] // most == r * counts[name] // most:
                continue
            if wake:
                contenders[name]()
            found[name].append(contenders[name]())
    return found


def interleaved(
    contenders: Mapping[K, Callable[[], object]],
    rounds: int | Mapping[K, int],
    *,
    warm_up: int = 1,
    wake: bool = False,
    alternate: bool = False,
) -> dict[K, Times]:
    """Times contenders of one process in turns; the arguments are those of `turns`.

    They must share their threads, as functions of one library do. Otherwise each belongs in a
    process of its own: `experiments.processes`.
    """
    calls = {name: partial(timed, call) for name, call in contenders.items()}
    found = turns(calls, rounds, warm_up=warm_up, wake=wake, alternate=alternate)
    return {name: Times(*np.array(pairs).T) for name, pairs in found.items()}


def start(
    module: str, *arguments: str, env: Mapping[str, str | None] | None = None
) -> "subprocess.Popen[bytes]":
    """Starts `python -m MODULE ARGUMENTS` in the repository's root; its errors can be read.

    Args:
      module: to run.
      arguments: of the command.
      env: changes of the environment; None removes a variable.
    """
    changed = {**os.environ, **(env or {})}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=records.ROOT,
        env={name: value for name, value in changed.items() if value is not None},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(file: Path, process: "subprocess.Popen[bytes]") -> bool:
    """Waits until a process has written to a file, or has ended; whether the file is there."""
    while not (file.exists() and file.stat().st_size):
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def finish(process: "subprocess.Popen[bytes]") -> None:
    """Waits for a process; raises `RuntimeError` with its last errors where it failed."""
    _, errors = process.communicate()
    if process.returncode:
        text = errors.decode()[-2000:]
        raise RuntimeError(f"a process ended with exit code {process.returncode}: {text}")


PEAK = "\nfrom experiments import processes\nprint(processes.peak_mebibytes())"


def peak_mebibytes(code: str, *arguments: str) -> float:
    """Peak of the resident memory of a process that runs some Python code, in MiB."""
    command = [sys.executable, "-c", code + PEAK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=records.ROOT)
    return float(done.stdout.split()[-1])


# Numbers by name, of every contender, by part of the experiment.
Parts = dict[str, dict[str, dict[str, float]]]


def read(path: Path) -> Parts:
    """The measurements in a CSV file."""
    parts: Parts = {}
    for line in records.read(path):
        numbers = records.numbers(line, ("part", "contender", *records.LAST))
        parts.setdefault(line["part"], {})[line["contender"]] = numbers
    return parts


def check(
    parser: argparse.ArgumentParser, path: Path, names: Collection[str], about: records.Line
) -> None:
    """Ends the program, before anything is measured, where `write` would refuse these parts."""
    try:
        _check(path, records.read(path), names, about)
    except InputError as error:
        parser.exit(2, f"{error}\n")


def _check(
    path: Path, lines: Sequence[records.Line], names: Collection[str], about: records.Line
) -> None:
    for line in lines:
        for name in ("processor", "device"):
            if line["part"] not in names and line[name] != about[name]:
                raise InputError(
                    f"{path}: part {line['part']!r} was measured on the {name} {line[name]!r}, "
                    f"and this is {about[name]!r}; measure all parts, or give another --out"
                )


def write(path: Path, parts: Parts, about: records.Line) -> Parts:
    """Puts parts into a CSV file, in place of those of the same name, and returns all.

    Raises:
      InputError: the file has other parts, and they were measured on another processor or
        device, or on one that is not known; timings of two machines do not compare.
    """
    lines = [
        {"part": part, "contender": name, **{k: str(v) for k, v in numbers.items()}, **about}
        for part, contenders in parts.items()
        for name, numbers in contenders.items()
    ]

    def change(old: Sequence[records.Line]) -> list[records.Line]:
        _check(path, old, parts, about)
        kept = [line for line in old if line["part"] not in parts]
        order = list(dict.fromkeys(line["part"] for line in [*old, *lines]))
        return sorted([*kept, *lines], key=lambda line: order.index(line["part"]))

    records.update(path, change)
    return read(path)
