"""Orbax checkpoints: asynchronous, atomic, the newest and the best kept."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ltjax.data.files import open_regular
from ltjax.errors import InputError
from ltjax.training import unfinished
from ltjax.training.exhaustion import advice
from ltjax.training.state import TrainState


class Restored(NamedTuple):
    """A checkpoint's state, and what was stored beside it (seed, config, plan, seconds)."""

    state: TrainState
    meta: dict[str, Any]


class _OneStep(checkpoint_managers.PreservationPolicy):
    """Keeps the checkpoint of one step, if any."""

    def __init__(self) -> None:
        self.step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [one.step == self.step for one in checkpoints]


class DamagedError(InputError):
    """A checkpoint cannot be read."""


# Is given the path of a checkpoint and what is stored beside its arrays.
Check = Callable[[Path, dict[str, Any]], None]


def _accept(path: Path, meta: dict[str, Any]) -> None:
    """Goes on from any checkpoint."""


class Checkpoints:
    """The checkpoints of a workdir.

    A checkpoint is written beside its final place and renamed, so a run that is killed
    leaves whole checkpoints only. Beside the arrays lies a SHA-256 of them, of their step and of
    all that is stored with them; what does not agree with it when it is read is damaged.

    Args:
      directory: created if absent.
      keep: newest checkpoints kept; the best one on held-out images is kept besides.
    """

    def __init__(self, directory: Path, *, keep: int):
        self._best = _OneStep()
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                self._best,
            ]
        )
        self._directory = directory
        unfinished.hush_closed_loops()
        with self._writing("opened"):
            self._manager = ocp.CheckpointManager(
                directory.resolve(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policy,
                    enable_async_checkpointing=True,
                    temporary_path_class=unfinished.own_temporary_folders(),
                ),
            )

    def save(
        self, step: int, state: TrainState, meta: dict[str, Any], best: int | None = None
    ) -> None:
        """Starts writing a checkpoint; a failure of the one before is raised here.

        Args:
          step: its step.
          state: its arrays.
          meta: what is stored beside them (JSON).
          best: step of the best checkpoint so far, which is kept; None where nobody knows.

        Raises:
          InputError: a checkpoint could not be written.
        """
        meta = json.loads(json.dumps(meta))  # as it will be read, so that the digest agrees
        meta[DIGEST] = {"arrays": digest_of_arrays(state)}
        meta[DIGEST]["meta"] = digest_of_meta(step, meta)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_fields(state)), meta=ocp.args.JsonSave(meta)
        )
        with self._writing():
            self._best.step = best
            self._manager.save(step, args=args)

    def steps(self) -> list[int]:
        """Steps of the checkpoints, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore_newest(
        self, like: TrainState, check: Check
    ) -> tuple[int, Restored, list[str]] | None:
        """Reads the newest checkpoint that can be read.

        Newer ones that are damaged are moved to the folder `damaged` beside the checkpoints.

        Args:
          like: see `restore`.
          check: see `restore`.

        Returns:
          Its step, its content, and a line about each damaged one; None where there is none.

        Raises:
          InputError: none can be read, or the newest readable one is of another model.
        """
        failures: list[tuple[int, DamagedError]] = []
        for step in reversed(self.steps()):
            try:
                restored = self.restore(step, like, check)
            except DamagedError as e:
                failures.append((step, e))
                continue
            lines = [self._set_aside(bad, error, step) for bad, error in failures]
            if failures:
                self._manager.reload()
            return step, restored, lines
        if failures:
            raise failures[0][1]
        return None

    def _set_aside(self, bad: int, error: InputError, good: int) -> str:
        aside = self._directory.parent / "damaged"
        aside.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another host has done so
            (self._directory / str(bad)).rename(aside / f"{bad}-{int(time.time())}")
        reason = str(error).split("; ")[0]
        return f"{reason}; moved to {aside}; going on from step {good}"

    def restore(self, step: int, like: TrainState, check: Check = _accept) -> Restored:
        """Reads a checkpoint.

        Args:
          step: its step.
          like: a state of the same shapes, placed as the restored one is to be.
          check: is given its path and what is stored beside its arrays before these are read, and
            raises `InputError` where the run may not go on from it.

        Raises:
          DamagedError: it cannot be read.
          InputError: it is of another model.
        """
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        path = self._directory / str(step)
        with self._reading(path):
            _check_regular(path)
            meta = self._item(step, "meta", ocp.args.JsonRestore())
            _verify_meta(step, meta)
        check(path, meta)
        with self._reading(path):
            item = self._item(step, "state", ocp.args.StandardRestore(_fields(target)))
            state = TrainState(**item)
            pairs = zip(
                jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(target), strict=True
            )
            wrong = [
                f"{jax.tree_util.keystr(name)} {a.shape}, not {b.shape}"
                for (name, a), b in pairs
                if a.shape != b.shape
            ]
            if not wrong and DIGEST in meta and digest_of_arrays(state) != meta[DIGEST]["arrays"]:
                raise ValueError("its arrays do not agree with their SHA-256")
        if wrong:
            raise InputError(
                f"checkpoint {path} is of another model ({wrong[0]}); use another --workdir"
            )
        return Restored(state, meta)

    def _item(self, step: int, name: str, args: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        try:
            yield
        except Exception as e:
            if _of_another_host(e):
                raise
            raise DamagedError(
                f"checkpoint {path} cannot be read ({_first_line(e)}), nor one before it; delete "
                f"{self._directory} to start again, or use another --workdir"
            ) from e

    def close(self) -> None:
        """Waits until all checkpoints are on disk."""
        with self._writing():
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()

    @contextlib.contextmanager
    def _writing(self, done: str = "written") -> Iterator[None]:
        try:
            yield
        except Exception as e:  # a full disk surfaces as one of many types
            if _of_another_host(e):
                raise
            unfinished.release()
            raise InputError(
                f"a checkpoint in {self._directory} cannot be {done} ({_first_line(e)}); "
                f"{advice(e)}"
            ) from e


def _of_another_host(error: Exception) -> bool:
    """Whether an error means that another host is gone, which says nothing of a file."""
    return jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError)


def _check_regular(folder: Path) -> None:
    """Raises `OSError` where a folder holds what is no file, such as a FIFO: reading it waits."""
    for inside, _, names in os.walk(folder):
        for name in names:
            open_regular(Path(inside) / name).close()


def _fields(state: TrainState) -> dict[str, Any]:
    """The parts of a state as they are stored.

    Checkpoints of earlier versions have no `ema_stats` and no `contrast`; these are absent wherever
    they are empty, so that such checkpoints can still be read.
    """
    later = ("ema_stats", "contrast")
    found = state._asdict()
    return {name: part for name, part in found.items() if name not in later or part}


# Key of the digests among what is stored beside the arrays, and of what every checkpoint that has
# digests has too. Checkpoints of earlier versions have neither.
DIGEST, SINCE_DIGESTS = "sha256", "environment"


def digest_of_arrays(state: TrainState) -> str:
    """SHA-256 of the values, types and shapes of all arrays of a state.

    Args:
      state: arrays, on the devices or as NumPy arrays.

    Returns:
      64 hexadecimal digits.
    """
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        array = np.ascontiguousarray(leaf)
        found.update(f"{array.dtype} {np.shape(leaf)}".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def digest_of_meta(step: int, meta: dict[str, Any]) -> str:
    """SHA-256 of what is stored beside the arrays, with their digest and the step.

    Args:
      step: of the checkpoint.
      meta: JSON; its own digest is left out.

    Returns:
      64 hexadecimal digits.
    """
    rest = {key: value for key, value in meta.items() if key != DIGEST}
    text = json.dumps([step, rest, meta[DIGEST]["arrays"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _verify_meta(step: int, meta: Any) -> None:
    """Raises `ValueError` unless what is stored beside the arrays is what was written."""
    if not isinstance(meta, dict):
        raise ValueError("what is stored beside its arrays is no JSON object")
    if DIGEST not in meta and SINCE_DIGESTS not in meta:
        return  # of an earlier version
    if meta[DIGEST]["meta"] != digest_of_meta(step, meta):
        raise ValueError("what is stored beside its arrays does not agree with its SHA-256")


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
