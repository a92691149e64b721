"""What a checkpoint that could not be written leaves behind in the process.

orbax raises the first error of a save. The arrays and files that have not failed go on being
written after that, by threads of orbax and of TensorStore, into a temporary folder whose name
depends on the step alone. If the same process trains on in the same workdir, two writers meet in
one folder.
"""

import itertools
import shutil
import threading
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

_managers = itertools.count()


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


def wait(most: float = 60.0) -> None:
    """Waits until no thread of orbax writes any more.

    Args:
      most: seconds for each thread.
    """
    for thread in threading.enumerate():
        of_orbax = type(thread).__module__.startswith("orbax.") or thread.name == "async_save"
        if of_orbax and thread is not threading.current_thread():
            thread.join(most)
