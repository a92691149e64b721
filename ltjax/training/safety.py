"""What keeps a run safe: one process per folder, orderly stops, and a watch on the numbers."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np

from ltjax.errors import InputError
from ltjax.training.ending import ASKING, catch, restore


class StopRequest:
    """Turns SIGTERM, SIGHUP and SIGINT into a wish that the loop reads between steps.

    Use as a context manager. The second signal acts as if there were no handler.
    """

    number: int | None = None

    def __enter__(self) -> "StopRequest":
        self._previous = catch((*ASKING, signal.SIGINT), self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.number = number
        restore(self._previous, number)

    def __exit__(self, *_: object) -> None:
        restore(self._previous, self.number)


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
