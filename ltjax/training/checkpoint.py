"""Orbax checkpoints: asynchronous, atomic, the newest and the best kept."""

import contextlib
import inspect
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ltjax.errors import InputError
from ltjax.training.state import TrainState


class Restored(NamedTuple):
    """A checkpoint's state, and what was stored beside it (seed, config, plan, seconds)."""

    state: TrainState
    meta: dict[str, Any]


class DamagedError(InputError):
    """A checkpoint cannot be read."""


class Checkpoints:
    """The checkpoints of a workdir.

    A checkpoint is written beside its final place and renamed, so a run that is killed
    leaves whole checkpoints only.

    Args:
      directory: created if absent.
      keep: newest checkpoints kept; the one with the highest score is kept besides.
    """

    def __init__(self, directory: Path, *, keep: int):
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(get_metric_fn=lambda metrics: metrics["score"], n=1),
            ]
        )
        self._directory = directory
        self._manager = ocp.CheckpointManager(
            directory.resolve(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy, enable_async_checkpointing=True
            ),
        )

    def save(self, step: int, state: TrainState, meta: dict[str, Any], score: float) -> None:
        """Starts writing a checkpoint; a failure of the one before is raised here.

        Raises:
          InputError: a checkpoint could not be written.
        """
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        with self._writing():
            self._manager.save(step, args=args, metrics={"score": score})

    def steps(self) -> list[int]:
        """Steps of the checkpoints, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore_newest(self, like: TrainState) -> tuple[int, Restored, list[str]] | None:
        """Reads the newest checkpoint that can be read.

        Newer ones that are damaged are moved to the folder `damaged` beside the checkpoints.

        Args:
          like: see `restore`.

        Returns:
          Its step, its content, and a line about each damaged one; None where there is none.

        Raises:
          InputError: none can be read, or the newest readable one is of another model.
        """
        failures: list[tuple[int, DamagedError]] = []
        for step in reversed(self.steps()):
            try:
                restored = self.restore(step, like)
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
        (self._directory / str(bad)).rename(aside / f"{bad}-{int(time.time())}")
        reason = str(error).split("; ")[0]
        return f"{reason}; moved to {aside}; going on from step {good}"

    def restore(self, step: int, like: TrainState) -> Restored:
        """Reads a checkpoint.

        Args:
          step: its step.
          like: a state of the same shapes, placed as the restored one is to be.

        Raises:
          DamagedError: it cannot be read.
          InputError: it is of another model.
        """
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
        )
        try:
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore()
            )
            with _quiet_reads():
                read = self._manager.restore(step, args=args)
            wrong = [
                f"{jax.tree_util.keystr(path)} {a.shape}, not {b.shape}"
                for (path, a), b in zip(
                    jax.tree_util.tree_leaves_with_path(read.state),
                    jax.tree.leaves(target),
                    strict=True,
                )
                if a.shape != b.shape
            ]
        except Exception as e:
            path = self._directory / str(step)
            raise DamagedError(
                f"checkpoint {path} cannot be read ({_first_line(e)}), nor one before it; delete "
                f"{self._directory} to start again, or use another --workdir"
            ) from e
        if wrong:
            raise InputError(
                f"checkpoint {self._directory / str(step)} is of another model ({wrong[0]}); "
                "use another --workdir"
            )
        return Restored(read.state, read.meta)

    def close(self) -> None:
        """Waits until all checkpoints are on disk."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # a full disk surfaces as one of many types
            raise InputError(
                f"a checkpoint in {self._directory} cannot be written ({_first_line(e)}); "
                "make room there, then give the same command to resume"
            ) from e


@contextlib.contextmanager
def _quiet_reads() -> Iterator[None]:
    """Keeps a failed restore to the one exception it raises.

    orbax closes its event loop at the first array that cannot be read; the reads of the
    others then find it closed, or are dropped unfinished, and would print a traceback each,
    some of them after the exception is out. So on failure the filter stays.
    """
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        closed = "Event loop is closed" in str(unraisable.exc_value)
        if not (closed or inspect.iscoroutine(unraisable.object)):
            previous(unraisable)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = previous


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
