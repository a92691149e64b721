"""Contenders in processes of their own, which take their turns when they are told to.

The thread pools of two libraries in one process disturb each other: PyTorch's threads go on
spinning on the cores of XLA's, and the other way round. A contender's program makes its functions
and calls `serve`; the program that compares starts it as a `Contender`.
"""

import contextlib
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from experiments import records

# A thread that spins for longer than this after its work is not waited for.
MOST_SECONDS_AWAKE = 1.0


class Turn(NamedTuple):
    """What one turn of a contender took.

    Attributes:
      wall: seconds by the clock, per step.
      cpu: seconds of the process on all its cores, per step.
      peak: largest resident memory of the process so far, in MiB.
    """

    wall: float
    cpu: float
    peak: float


def peak_mebibytes() -> float:
    """Largest resident memory of this process so far, in MiB."""
    # Not `ru_maxrss` where there is /proc: on Linux a child process inherits its parent's.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def serve(calls: Mapping[str, Callable[[int], object]]) -> None:
    """Names the functions on the standard output, then calls one for every line of the input.

    Args:
      calls: functions of a number of steps, which return when the work is done; each has been
        called before, so that it is compiled.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    print(json.dumps(list(calls)), file=answers, flush=True)
    for line in sys.stdin:
        name, steps, warm_up = json.loads(line)
        if warm_up:
            calls[name](warm_up)
        cpu, wall = time.process_time(), time.perf_counter()
        calls[name](steps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        turn = Turn(wall / steps, cpu / steps, peak_mebibytes())
        print(json.dumps(turn), file=answers, flush=True)


class Contender:
    """A process of its own; a context that ends it.

    Args:
      module: whose program calls `serve`.
      arguments: of the program.
      cores: that it may use, set before it starts; None means those of this process.
      env: changes of the environment.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        cores: Sequence[int] | None = None,
        env: Mapping[str, str] | None = None,
    ):
        self.name = " ".join((module, *arguments))
        self.calls: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(cores), module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=records.ROOT,
            env={**os.environ, **(env or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ready(self) -> list[str]:
        """Waits until its functions are made; returns their names.

        Raises:
          RuntimeError: the process ended.
        """
        self.calls = self._read()
        self.sleep()
        return self.calls

    def turn(self, call: str, steps: int = 1, *, warm_up: int = 0) -> Turn:
        """Lets it call a function, and waits until its threads sleep.

        Args:
          call: the function's name.
          steps: its argument.
          warm_up: steps before that are not timed, for caches and threads.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([call, steps, warm_up]) + "\n")
        self._process.stdin.flush()
        turn = Turn(*self._read())
        self.sleep()
        return turn

    def move(self, cores: Sequence[int]) -> None:
        """Pins all its threads to other cores, as many as those on which it began."""
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # the thread has ended
                os.sched_setaffinity(int(task.name), cores)

    def sleep(self) -> None:
        """Waits until no thread of the process runs or spins, for `MOST_SECONDS_AWAKE` at most."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        if not tasks.exists():
            time.sleep(MOST_SECONDS_AWAKE / 4)
        end, quiet = time.perf_counter() + MOST_SECONDS_AWAKE, 0
        while tasks.exists() and quiet < 3 and time.perf_counter() < end:
            time.sleep(0.001)
            quiet = 0 if any(map(_running, tasks.iterdir())) else quiet + 1

    def _read(self) -> list:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the contender {self.name} ended, code {self._process.wait()}")
        found: list = json.loads(line)
        return found


def _running(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:  # the thread has ended
        return False


def main() -> None:
    """Runs a module on some cores: they are set before a library counts them."""
    cores = json.loads(sys.argv[1])
    if cores is not None:
        os.sched_setaffinity(0, cores)
    sys.argv[:2] = []
    # `runpy` puts the module's path in the place of its name.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
