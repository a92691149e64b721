"""CSV files of results: read, changed under a lock, replaced in one step; what each line says
of the code and the machine.

experiments/README.md lists the columns.
"""

import csv
import hashlib
import importlib.metadata
import io
import os
import platform
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock

from ltjax.errors import InputError
from ltjax.training.provenance import UNKNOWN, code_version, processor, sources_digest

Line = dict[str, str]
ROOT = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")
ENVIRONMENT = ("code", "sources", "device", "processor", "python", *PACKAGES)
LAST = ("configuration", "kernels", *ENVIRONMENT)
# Columns of runs on accuracy that must agree within a row: of different kinds, runs of one seed
# differ, and their mean is of nothing.
KIND = (
    *("configuration", "kernels", "sources", "device", "processor"),
    *("jax", "jaxlib", "flax", "optax", "numpy"),
)


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


def kind(line: Line) -> tuple[str, ...]:
    """What a line says in the columns of `KIND`; a column that is missing or empty is unknown."""
    return tuple(line.get(name) or UNKNOWN for name in KIND)


def require_one_kind(path: Path, lines: Iterable[Line]) -> None:
    """Checks that no row of results mixes runs of different kinds.

    Args:
      path: of the file, for the message.
      lines: of one or several rows.

    Raises:
      InputError: two lines of one row differ in a column of `KIND`.
    """
    first: dict[str, tuple[str, ...]] = {}
    for line in lines:
        mine = kind(line)
        other = first.setdefault(line["row"], mine)
        for name, a, b in zip(KIND, other, mine, strict=True):
            if a != b:
                raise InputError(
                    f"{path}: row {line['row']!r} mixes runs of different kinds ({name} {a!r} and "
                    f"{b!r}); give another --out, or delete the lines of that row and run it again"
                )


def numbers(line: Line, without: Iterable[str]) -> dict[str, float]:
    """The cells of a line that are not empty, as numbers, without some columns."""
    skipped = set(without)
    return {c: float(text) for c, text in line.items() if text and c not in skipped}


def environment(device: str) -> Line:
    """The code's version, the machine and the versions of the libraries.

    Args:
      device: what computes, for example `2 x cpu` or `1 x NVIDIA H100 80GB HBM3`.
    """
    found = {
        "code": code_version(),
        "sources": sources_digest(),
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
