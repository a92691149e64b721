"""Orbax checkpoints: asynchronous, atomic, the newest and the best kept."""

import contextlib
import inspect
import sys
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

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def restore(self, step: int, like: TrainState) -> Restored:
        """Reads a checkpoint.

        Args:
          step: its step.
          like: a state of the same shapes, placed as the restored one is to be.

        Raises:
          InputError: it is damaged, or of another model.
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
            raise self._unusable(step, f"cannot be read ({_first_line(e)})") from e
        if wrong:
            raise self._unusable(step, f"is of another model ({wrong[0]})")
        return Restored(read.state, read.meta)

    def _unusable(self, step: int, why: str) -> InputError:
        path = self._directory / str(step)
        return InputError(
            f"checkpoint {path} {why}; delete that folder to go on from the checkpoint "
            "before it, or use another --workdir"
        )

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
