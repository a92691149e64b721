"""Lets one thing go wrong in a tiny training, hundreds of times, and compares how each one ends.

    python -m experiments.crash.faults [--faults 500] [--kills 100] [--stops 20] [--pairs 20]
                                       [--seed 0] [--out DIR]

A fault is one file operation below the workdir that fails once, in Python or in any library, with
ENOSPC, EIO or EACCES: `faults.c` is preloaded and counts them. A run that is hit may go on, or end
with exit code 2 and one line; the same command given again must end like a run that nothing hit,
with equal metrics and arrays. A kill is SIGKILL at a random moment, a stop SIGSTOP and SIGCONT, and
a pair two processes with different seeds that start at once in one workdir.

JAX is imported once. Kills, stops and pairs are forks of that process from before JAX starts
threads, so that a run takes one second and not six. Then the same process does all faults, one
after the other, with a network that is traced once: a run takes a tenth of a second.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import atexit
import ctypes
import errno
import faulthandler
import functools
import gc
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import records

OPERATIONS = ("open", "write", "fsync", "rename", "mkdir", "unlink")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
# A run that takes longer hangs.
HANGS_AFTER = 300.0
TINY = (
    "cpu_devices=1",
    "method=ce",
    "model.name=mlp",
    "model.hidden=(8,)",
    "train.epochs=2",
    "optimizer.warmup_epochs=1",
    "evaluation.every_epochs=2",
    "checkpoint.every_epochs=1",
    "train.log_every_steps=7",
)
# What a run prints besides its one line about an error.
USUAL = re.compile(
    r"training from step |step \d|in \d+ epochs |TensorBoard's events in .* cannot be written|"
    r"checkpoint .* cannot be read .*; moved to |ltjax: the report cannot be written"
)


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      code: of its exit; None where it hung, negative after a signal.
      lines: on standard error that a run does not usually print.
      seconds: it took.
    """

    code: int | None
    lines: list[str]
    seconds: float

    @property
    def orderly(self) -> bool:
        """Whether it ended well, or with exit code 2 and one line."""
        if self.code == 2:
            return len(self.lines) == 1 and self.lines[0].startswith("ltjax: error: ")
        return self.code == 0 and not self.lines


class Try(NamedTuple):
    """One run in which something went wrong.

    Attributes:
      kind: fault, kill, stop or pair.
      what: phase, operation, its number and the error; or the moment of the signal.
      file: that the fault hit.
      ended: code of the exit.
      line: that it ended with.
      orderly: see `Ended`.
      equal: whether the run ended like one that nothing hit, in the end.
      seconds: of both starts.
    """

    kind: str
    what: str
    file: str
    ended: int | None
    line: str
    orderly: bool
    equal: bool
    seconds: float


def build(folder: Path) -> Path:
    """Compiles the library that makes operations fail."""
    library = folder / "faults.so"
    source = Path(__file__).with_suffix(".c")
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True
    )
    return library


class Runs:
    """Forks runs of the tiny training.

    Args:
      folder: for workdirs, standard error and the compilation cache.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        import jax

        import ltjax.report.build
        import ltjax.report.terminal
        import ltjax.serving.load  # what a run would import late
        import ltjax.training.run  # noqa: F401
        from ltjax.training.provenance import sources_digest

        sources_digest()  # which is kept, and takes a second
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(folder / "cache")
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        self._library = ctypes.CDLL(None)

    def start(
        self,
        workdir: Path,
        *,
        fault: tuple[int, int, int] = (-1, 0, 0),
        seed: int = 0,
        report: bool = False,
    ) -> tuple[int, Path]:
        """Forks a run with a fault (operation, number, error); its process and standard error."""
        said = self.folder / f"stderr-{time.monotonic_ns()}"
        process = os.fork()
        if process:
            return process, said
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        code = 1
        try:
            code = self._child(workdir, fault, seed, report)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)

    def _child(self, workdir: Path, fault: tuple[int, int, int], seed: int, report: bool) -> int:
        code = self._main(workdir, fault, seed, report)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        self._store(workdir)
        return code

    def _main(self, workdir: Path, fault: tuple[int, int, int], seed: int, report: bool) -> int:
        from ltjax.main import main
        from ltjax.report import build

        write = build.write
        if not report:  # the figures take longer than the training
            build.write = lambda workdir: Path()
        self._library.ltjax_arm(os.fsencode(workdir), *map(ctypes.c_long, fault))
        keys = [f"--config.{key}" for key in [*TINY, f"seed={seed}"]]
        try:
            return main(["ltjax", "--config=configs/digits_lt.py", f"--workdir={workdir}", *keys])
        finally:
            build.write = write

    def _store(self, workdir: Path) -> None:
        hit = self._library.ltjax_hit
        hit.restype = ctypes.c_char_p
        found: dict[str, Any] = {
            "counts": [self._library.ltjax_count(kind) for kind in range(len(OPERATIONS))]
        }
        found["hit"] = os.fsdecode(hit()).removeprefix(f"{workdir}/")
        self._library.ltjax_arm(b"", -1, 0, 0)
        (self.folder / "found.json").write_text(json.dumps(found))

    def wait(self, process: int, said: Path, limit: float = HANGS_AFTER) -> Ended:
        """Waits for a process, and kills it where it hangs."""
        began = time.monotonic()
        code: int | None = None
        while True:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() - began > limit:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                break
            time.sleep(0.01)
        text = said.read_text(errors="replace") if said.exists() else ""
        said.unlink(missing_ok=True)
        lines = [line for line in text.splitlines() if not USUAL.match(line)]
        return Ended(code, lines, time.monotonic() - began)

    def run(self, workdir: Path, **how: Any) -> Ended:
        """A run from its start to its end."""
        return self.wait(*self.start(workdir, **how))

    def found(self) -> dict[str, Any]:
        """Counts of the operations of the run before, and the file that its fault hit."""
        content: dict[str, Any] = json.loads((self.folder / "found.json").read_text())
        return content


class RunsInProcess(Runs):
    """Runs in this process, with one network for all of them that is traced once."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        from ltjax.report import build
        from ltjax.training import run

        self._states: Any = None
        self._real = run.build, run.Seeds
        run.build = functools.cache(run.build)
        run.Seeds = self._seeds  # type: ignore[assignment, misc]
        for name in ("draw", "exposures"):  # the figures of all runs are the same
            setattr(build, name, _once(getattr(build, name)))
        build.svg, build.png = functools.cache(build.svg), functools.cache(build.png)
        # The command line sets the number of devices, which stands once JAX has started.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=1"

    def _seeds(self, job: Any, mapping: Any) -> Any:
        import jax
        import numpy as np

        if self._states is None:
            self._one = self._real[1](job, mapping)
            # On the host: a step gives the memory of its state away.
            self._states = [jax.tree.map(np.array, state) for state in self._one.states]
        self._one.take_over(self._states)
        return self._one

    def run(self, workdir: Path, **how: Any) -> Ended:
        began, kept = time.monotonic(), [os.dup(1), os.dup(2)]
        before = set(threading.enumerate())
        said = self.folder / "stderr"
        for number, name in ((1, os.devnull), (2, said)):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
            os.close(file)
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=kept[1])
        try:
            code = self._main(
                workdir, how.get("fault", (-1, 0, 0)), how.get("seed", 0), how.get("report", False)
            )
        except BaseException as e:
            print(f"Traceback: {e!r}", file=sys.stderr)
            code = 1
        finally:
            faulthandler.cancel_dump_traceback_later()
            sys.stderr.flush()
            sys.stdout.flush()
            for number, file in zip((1, 2), kept, strict=True):
                os.dup2(file, number)
                os.close(file)
        gc.collect()  # what a failed write left to be closed speaks here
        self._store(workdir)
        lines = [line for line in said.read_text().splitlines() if not USUAL.match(line)]
        # A process of its own would wait for these threads before it ends.
        for thread in set(threading.enumerate()) - before:
            if not thread.daemon and not _ends(thread):
                return Ended(None, [*lines, f"{thread.name} goes on"], time.monotonic() - began)
        return Ended(code, lines, time.monotonic() - began)


def _ends(thread: threading.Thread, most: float = 20.0) -> bool:
    """Whether a thread ends within so many seconds."""
    until = time.monotonic() + most
    # orbax's own `join` raises what the thread has raised, and one that is about to start has none.
    while (thread.ident is None or thread.is_alive()) and time.monotonic() < until:
        time.sleep(0.002)
    return not thread.is_alive()


def _once(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that is called once, and gives the same for every argument from then on."""
    found: list[Any] = []

    def again(argument: Any) -> Any:
        if not found:
            found.append(call(argument))
        return found[0]

    return again


def outcome(workdir: Path) -> Any:
    """Scores, metrics without speeds, and digest of the last checkpoint's arrays; or why not."""
    try:
        result = json.loads((workdir / "result.json").read_text())
        steps = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()]
        meta = workdir / "checkpoints" / str(max(steps)) / "meta" / "metadata"
        arrays = json.loads(meta.read_text())["sha256"]["arrays"]
        metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
        seed = json.loads((workdir / "config.json").read_text())["seed"]
    except (OSError, ValueError, KeyError) as e:
        return repr(e)
    for line in metrics:
        line.pop("train/images_per_second", None)
        line.pop("train/input_share", None)
    return result["test"], result["seed"] == seed, metrics, max(steps), arrays


class Bench:
    """The tries and what they are compared with.

    Args:
      runs: forks the runs.
      seed: of the moments and of the choice of the faults.
    """

    def __init__(self, runs: Runs, seed: int):
        self.runs, self.random, self._number = runs, random.Random(seed), 0
        folder = runs.folder
        self.work, self.killed, self.whole = (folder / n for n in ("work", "killed", "whole"))
        for _ in range(2):  # the first fills the compilation cache
            shutil.rmtree(self.whole, ignore_errors=True)
            ended = runs.run(self.whole)
            assert ended.orderly, ended
        self.seconds, self.counts = ended.seconds, dict[str, list[int]]()
        self.expected = outcome(self.whole)
        self.templates = {"start": None, "resume": self.killed, "report": self.whole}
        process, said = runs.start(self.killed)
        while not (self.killed / "checkpoints" / "7" / "commit_success.txt").exists():
            time.sleep(0.001)
        os.kill(process, signal.SIGKILL)
        runs.wait(process, said)
        assert not (self.killed / "result.json").exists()

    def count(self, runs: Runs) -> None:
        """Counts the operations that faults can hit, of runs that `runs` makes."""
        self.runs = runs
        for phase, template in self.templates.items():
            for _ in range(2):  # the first imports and traces
                shutil.rmtree(self.work, ignore_errors=True)
                if template:
                    shutil.copytree(template, self.work)
                ended = runs.run(self.work, report=phase == "report")
                assert ended.orderly, (phase, ended)
                assert outcome(self.work) == self.expected, phase
            self.counts[phase] = runs.found()["counts"]
            shutil.rmtree(self.work)
        gc.collect()
        gc.freeze()  # JAX's objects stay; to go through them after each run takes half a second

    def faults(self, number: int) -> list[tuple[str, int, int, int]]:
        """Phase, operation, its number and its error of so many faults, drawn from all."""
        every = [
            (phase, operation, nth, error)
            for phase, counts in self.counts.items()
            for operation, count in enumerate(counts)
            for nth in range(1, count + 1)
            for error in ERRORS
        ]
        print(f"{len(every)} faults are possible", flush=True)
        return self.random.sample(every, min(number, len(every)))

    def fault(self, phase: str, operation: int, nth: int, error: int) -> Try:
        """A run with a fault, and the same command again."""
        template = self.templates[phase]
        if template:
            shutil.copytree(template, self.work)
        (self.runs.folder / "found.json").unlink(missing_ok=True)
        report = phase == "report"
        ended = self.runs.run(self.work, fault=(operation, nth, error), report=report)
        hit = self.runs.found()["hit"] if (self.runs.folder / "found.json").exists() else ""
        again = None if ended.code == 0 and not report else self.runs.run(self.work, report=report)
        equal = outcome(self.work) == self.expected and (again is None or again.code == 0)
        equal &= not report or (self.work / "report.html").exists()
        what = f"{phase} {OPERATIONS[operation]} {nth} {errno.errorcode[error]}"
        return self._try("fault", what, re.sub(r"[0-9a-f]{16,}", "*", hit), ended, again, equal)

    def kill(self) -> Try:
        """SIGKILL at a random moment, and the same command again."""
        moment = self.random.uniform(0, self.seconds)
        process, said = self.runs.start(self.work)
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        ended = self.runs.wait(process, said)
        again = self.runs.run(self.work)
        equal = outcome(self.work) == self.expected and again.orderly
        if ended.code == -signal.SIGKILL:
            ended = ended._replace(code=0)
        return self._try("kill", f"after {moment:.2f} s", "", ended, again, equal)

    def stop(self) -> Try:
        """SIGSTOP at a random moment and SIGCONT."""
        moment = self.random.uniform(0, self.seconds)
        process, said = self.runs.start(self.work)
        time.sleep(moment)
        os.kill(process, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(process, signal.SIGCONT)
        ended = self.runs.wait(process, said)
        equal = outcome(self.work) == self.expected
        return self._try("stop", f"after {moment:.2f} s", "", ended, None, equal)

    def pair(self) -> Try:
        """Two processes with different seeds at once: one trains, the other is refused."""
        pause = self.random.uniform(0, 0.5)
        first = self.runs.start(self.work)
        time.sleep(pause)
        second = self.runs.start(self.work, seed=1)
        ends = [self.runs.wait(*first), self.runs.wait(*second)]
        found = outcome(self.work)
        codes = sorted(end.code if end.code is not None else 99 for end in ends)
        equal = codes == [0, 2] and found[1] is True
        equal &= found == self.expected or ends[0].code != 0
        ended = next((end for end in ends if end.code), ends[0])
        ended = ended if all(end.orderly for end in ends) else ended._replace(code=None)
        return self._try("pair", f"{pause:.2f} s apart", "", ended, None, equal)

    def _try(
        self, kind: str, what: str, file: str, ended: Ended, again: Ended | None, equal: bool
    ) -> Try:
        shutil.rmtree(self.work, ignore_errors=True)
        # Another name, so that nothing that still writes there can be taken for the next try's.
        self._number += 1
        self.work = self.runs.folder / f"work-{self._number}"
        line = " | ".join(ended.lines)[:600].replace(f"{self.runs.folder}/", "")
        seconds = ended.seconds + (again.seconds if again else 0)
        return Try(kind, what, file, ended.code, line, ended.orderly, equal, seconds)


def cells(row: Try) -> records.Line:
    """A try as text."""
    flags = {"orderly": str(int(row.orderly)), "equal": str(int(row.equal))}
    own = {key: "" if value is None else str(value) for key, value in row._asdict().items()}
    return {**own, **flags, "seconds": f"{row.seconds:.2f}"}


def write(path: Path, tries: list[Try]) -> None:
    """Stores tries, numbered within their kind, in place of those of the same kind and number."""
    about, count, lines = records.environment("cpu"), Counter[str](), []
    for row in tries:
        count[row.kind] += 1
        lines.append({"number": str(count[row.kind]), **cells(row), **about})
    records.update(path, lambda old: records.merged(old, lines, ("kind", "number")))


def table(lines: list[records.Line]) -> str:
    """Tries, endings and seconds of every kind, as Markdown."""
    rows = [
        "| what goes wrong | tries | goes on | ends with one line | otherwise | equal in the end "
        "| seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(line["kind"] for line in lines):
        own = [line for line in lines if line["kind"] == kind]
        count = Counter((line["orderly"], line["ended"]) for line in own)
        on, one = count["1", "0"], count["1", "2"]
        equal = sum(line["equal"] == "1" for line in own)
        seconds = sum(float(line["seconds"]) for line in own)
        row = (kind, len(own), on, one, len(own) - on - one, equal, f"{seconds:.0f}")
        rows.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(rows) + "\n"


def preloaded() -> bool:
    """Whether the library is in this process."""
    return hasattr(ctypes.CDLL(None), "ltjax_arm")


def main() -> None:
    """Prints a line for every try that does not end as it should, and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("faults", 500), ("kills", 100), ("stops", 20), ("pairs", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    folder = Path(os.environ.get("LTJAX_FAULTS") or tempfile.mkdtemp(prefix="ltjax-faults-"))
    if not preloaded():
        os.environ |= {"LD_PRELOAD": str(build(folder)), "LTJAX_FAULTS": str(folder)}
        os.execv(sys.executable, [sys.executable, "-m", "experiments.crash.faults", *sys.argv[1:]])
    bench = Bench(Runs(folder), args.seed)
    tries: list[Try] = []

    def add(one: Try) -> None:
        tries.append(one)
        if not (one.orderly and one.equal):
            print(f"try {len(tries)}: {one}", flush=True)
        if args.out and len(tries) % 10 == 0:
            write(args.out / "faults.csv", tries)

    for call, number in (
        (bench.kill, args.kills),
        (bench.stop, args.stops),
        (bench.pair, args.pairs),
    ):
        for _ in range(number):
            add(call())
    bench.count(RunsInProcess(folder))
    for fault in bench.faults(args.faults):
        add(bench.fault(*fault))
    if args.out:
        write(args.out / "faults.csv", tries)
    shutil.rmtree(folder)
    print("\n" + table([cells(row) for row in tries]))
    sys.exit(not all(row.orderly and row.equal for row in tries))


if __name__ == "__main__":
    main()
