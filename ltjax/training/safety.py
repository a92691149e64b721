"""What keeps a run safe: one process per folder, orderly stops, and a watch on the numbers."""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np

from ltjax.errors import InputError

# What to do about an error of the operating system, by its number.
_ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "make room there, then give the same command to go on, or use another --workdir",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "change the permissions there, or give a folder you may write to with --workdir",
    ),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then give the same command "
    "to go on",
    errno.EMFILE: "raise the limit on open files (ulimit -n), then give the same command to go on",
}


def advice(error: BaseException) -> str:
    """What to do about an error of the operating system.

    Libraries wrap such errors in others; then the text tells which it was.

    Args:
      error: an `OSError`, or what a library made of one.

    Returns:
      The end of a message.

    >>> advice(PermissionError(13, "Permission denied"))
    'change the permissions there, or give a folder you may write to with --workdir'
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        number = next((n for n in _ADVICE if os.strerror(n) in str(error)), 0)
    return _ADVICE.get(number, "check that disk, then give the same command to go on")


def told(error: OSError) -> str:
    """An error of the operating system in one line: what, where, and what to do.

    >>> told(OSError(28, "No space left on device", "runs/a/config.json")).split("; ")[0]
    'No space left on device: runs/a/config.json'
    """
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}; {advice(error)}"


def exhausted(error: BaseException) -> str | None:
    """What to do where memory or threads are exhausted, of this machine or of a device.

    JAX and Python raise a `RuntimeError` like that of any other failure; the text tells them apart.

    Args:
      error: any error.

    Returns:
      One line; None for an error of another kind.

    >>> exhausted(RuntimeError("can't start new thread")).split("; ")[0]
    "can't start new thread"
    """
    text = str(error)
    if isinstance(error, MemoryError) or text.startswith("RESOURCE_EXHAUSTED"):
        return (
            f"there is not enough memory ({text or 'MemoryError'}); lower config.train.batch_size, "
            "config.evaluation.batch_size or the number of seeds, or use smaller images"
        )
    if text.startswith("can't start new thread"):
        return f"{text}; raise the limit on processes (ulimit -u), or on memory (ulimit -v)"
    return None


class StopRequest:
    """Turns SIGTERM and SIGINT into a wish that the loop reads between steps.

    Use as a context manager. The second signal acts as if there were no handler.
    """

    number: int | None = None

    def __enter__(self) -> "StopRequest":
        self._previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __exit__(self, *_: object) -> None:
        self._restore()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the lock ends with the process, however it ends.

    The kernel holds the lock (`flock`), so a killed process leaves none behind; the file `.lock`
    stays and names its last holder.

    Raises:
      InputError: another process holds it.
    """
    file = folder / ".lock"
    lock = filelock.FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as e:
        holder = ""
        with contextlib.suppress(OSError, ValueError):
            holder = file.read_text(encoding="ascii").strip()
        raise InputError(
            f"workdir {folder} is in use by process {holder or 'unknown'}; "
            "wait for it, stop it, or use another --workdir"
        ) from e
    try:
        with contextlib.suppress(OSError):  # the number is for messages only
            file.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def check_finite(
    losses: np.ndarray,
    first_step: int,
    seeds: tuple[int, ...],
    params: Callable[[], Any],
    folder: Path,
) -> None:
    """Stops at the first loss that is not finite.

    Args:
      losses: `[steps, seeds]`, of steps `first_step` on.
      first_step: number of the first of them, from 1.
      seeds: the seeds.
      params: gives the parameters `[seeds, ...]`, to name the largest offenders.
      folder: where the last good checkpoint is.

    Raises:
      InputError: naming step, seed and the parameters with the largest values.
    """
    bad = np.argwhere(~np.isfinite(losses))
    if not len(bad):
        return
    step, index = bad[0]
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): float(
            np.max(np.abs(np.asarray(leaf)[index]))
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(params())
    }
    worst = sorted(sizes, key=lambda k: -np.inf if np.isnan(sizes[k]) else -sizes[k])[:3]
    offenders = ", ".join(f"{name} (up to {sizes[name]:.3g})" for name in worst)
    raise InputError(
        f"the loss is {losses[step, index]} at step {first_step + step} (seed {seeds[index]}); "
        f"largest parameters: {offenders}; lower config.optimizer.learning_rate, set "
        "config.optimizer.clip_norm, or set config.train.on_nan=skip; the last good checkpoint "
        f"is in {folder}"
    )
