"""What a checkpoint that could not be written leaves behind in the process.

orbax raises the first error of a save. The arrays and files that have not failed go on being
written after that, by threads of orbax and of TensorStore, into a temporary folder whose name
depends on the step alone. If the same process trained on in the same workdir, two writers would
meet in one folder; so every start writes into folders of its own, and what is left of others goes.
Threads that wait for a folder which could not be made would wait for minutes, and the process for
them before it ends; so they are released.
"""

import contextlib
import inspect
import itertools
import logging
import shutil
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint._src.futures import future

_managers = itertools.count()
CLOSED = "Event loop is closed"


def own_temporary_folders() -> type[ocp.path.atomicity.AtomicRenameTemporaryPath]:
    """Temporary folders that no other manager of checkpoints in this process uses.

    Returns:
      orbax's class of temporary folders with a number in their names: how many managers this
      process had before. It is the same on all hosts of a run, which must agree on the name.
    """
    number = next(_managers)

    class Own(ocp.path.atomicity.AtomicRenameTemporaryPath):
        @classmethod
        def from_final(cls, final_path: Any, **options: Any) -> "Own":
            name = f"{final_path.name}{ocp.path.atomicity.TMP_DIR_SUFFIX}-{number}"
            return cls(final_path.parent / name, final_path, **options)

    return Own


def clear(directory: Path) -> None:
    """Removes the temporary folders that a process which ended has left.

    Args:
      directory: of the checkpoints; no other process may be writing there.
    """
    for path in directory.glob(f"*{ocp.path.atomicity.TMP_DIR_SUFFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def release() -> None:
    """Ends the threads of orbax that wait until something of a failed save has been done."""
    for thread in threading.enumerate():
        if not isinstance(thread, future._SignalingThread):
            continue
        thread._cancelled = True  # so that it writes nothing when it wakes
        for signal in thread._receive_signals:
            with contextlib.suppress(Exception):  # it has come meanwhile
                future.set_signals([signal], operation_id=thread._operation_id)


def hush_closed_loops() -> None:
    """Keeps a failed read or write of a checkpoint to the one exception that it raises.

    orbax closes its event loop at the first array that cannot be read or written; the others then
    find it closed, or are dropped unfinished, and would print a traceback each, some of them after
    the exception is out.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # in a notebook too
    if getattr(sys.unraisablehook, "hushed", False):
        return
    unraisable_hook, hook = sys.unraisablehook, sys.excepthook

    def unraisable(found: Any) -> None:
        closed = CLOSED in str(found.exc_value)
        # A loop for which there were not enough files has nothing that it could close.
        unmade = getattr(found.object, "__qualname__", "") == "BaseEventLoop.__del__"
        if not (closed or unmade or inspect.iscoroutine(found.object)):
            unraisable_hook(found)

    def uncaught(kind: Any, value: Any, trace: Any) -> None:
        if CLOSED not in str(value):
            hook(kind, value, trace)

    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
    unraisable.hushed = True  # type: ignore[attr-defined]
    sys.unraisablehook, sys.excepthook = unraisable, uncaught
