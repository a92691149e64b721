"""CSV files of results: read, changed under a lock, replaced in one step; what each line says
of the code and the machine.

experiments/README.md lists the columns.
"""

import csv
import functools
import hashlib
import importlib.metadata
import io
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock

Line = dict[str, str]
UNKNOWN = "unknown"
ROOT = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")
ENVIRONMENT = ("code", "device", "processor", "python", *PACKAGES)
LAST = ("configuration", *ENVIRONMENT)


def read(path: Path) -> list[Line]:
    """The lines of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def update(path: Path, change: Callable[[list[Line]], list[Line]]) -> list[Line]:
    """Replaces the lines of a CSV file by `change` of them, and returns the new ones.

    Only one process at a time is between reading and writing, and the file is replaced in one
    step, so that neither a second process nor a kill leaves a line torn or lost. Columns come in
    the order in which the lines name them, `LAST` at the end; a cell that a line lacks is empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"ltjax-results-{name}.lock"):
        lines = change(read(path))
        text = io.StringIO()
        columns = list(dict.fromkeys(column for line in lines for column in line))
        columns = [c for c in columns if c not in LAST] + [c for c in LAST if c in columns]
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text.getvalue())
        partial.replace(path)
    return lines


def merged(lines: Iterable[Line], new: Iterable[Line], keys: tuple[str, ...]) -> list[Line]:
    """Lines with new ones, each in the place of the line that has the same keys, or at the end.

    >>> merged([{"row": "a", "x": "1"}], [{"row": "b"}, {"row": "a", "x": "2"}], ("row",))
    [{'row': 'a', 'x': '2'}, {'row': 'b'}]
    """
    found = {tuple(line[key] for key in keys): line for line in lines}
    found |= {tuple(line[key] for key in keys): line for line in new}
    return list(found.values())


def numbers(line: Line, without: Iterable[str]) -> dict[str, float]:
    """The cells of a line that are not empty, as numbers, without some columns."""
    skipped = set(without)
    return {c: float(text) for c, text in line.items() if text and c not in skipped}


@functools.cache
def processor() -> str:
    """The model of the processor, where the system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine() or UNKNOWN)


@functools.cache
def code_version() -> str:
    """The commit, with "-dirty" where code differs from it; without git the package's version."""
    code = ["ltjax", "configs", "experiments", ":!experiments/*/results", ":!*.md"]
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        return commit + "-dirty" * bool(_git("status", "--porcelain", "--", *code))
    except (OSError, subprocess.CalledProcessError):
        from ltjax import __version__

        return __version__


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def environment(device: str) -> Line:
    """The code's version, the machine and the versions of the libraries.

    Args:
      device: what computes, for example `2 x cpu` or `1 x NVIDIA H100 80GB HBM3`.
    """
    found = {
        "code": code_version(),
        "device": device,
        "processor": processor(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def devices() -> str:
    """JAX's devices, counted: the `device` of `environment`."""
    import jax

    found = jax.devices()
    return f"{len(found)} x {found[0].device_kind}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
