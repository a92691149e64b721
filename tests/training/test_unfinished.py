"""A process whose save failed can go on at once, though the failed one is still writing."""

import asyncio
import errno
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint._src.serialization import jax_array_handlers

from ltjax.errors import InputError
from ltjax.training.checkpoint import Checkpoints, digest_of_arrays
from ltjax.training.state import TrainState
from ltjax.training.unfinished import clear, hush_closed_loops, own_temporary_folders

SLOWER = 0.4


def state():
    return TrainState(jnp.asarray(7, jnp.int32), {"kernel": jnp.ones((3, 2))}, {}, ())


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_save_that_failed_does_not_meet_the_next(tmp_path, monkeypatch):
    write = jax_array_handlers._async_serialize_replica_slices

    async def late(*args, **kwargs):
        time.sleep(SLOWER)
        return await write(*args, **kwargs)

    async def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(jax_array_handlers, "_async_serialize_replica_slices", late)
        patch.setattr(ocp.JsonCheckpointHandler, "_save_fn", full)
        checkpoints = Checkpoints(folder, keep=1)
        checkpoints.save(7, state(), {})
        with pytest.raises(InputError, match="make room"):
            checkpoints.close()
    again = Checkpoints(folder, keep=1)
    assert again.steps() == []
    again.save(7, state(), {})
    again.close()
    before = files(folder)
    time.sleep(1.5 * SLOWER)
    assert files(folder) != before  # by the first, which does not touch what the second has written
    assert files(folder / "7") == [p.removeprefix("7/") for p in before if p.startswith("7/")]
    step, restored, lines = Checkpoints(folder, keep=1).restore_newest(state(), lambda *_: None)
    assert (step, lines) == (7, [])
    assert digest_of_arrays(restored.state) == digest_of_arrays(state())


def test_no_thread_waits_for_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    make = os.mkdir

    def full(path, *args, **kwargs):
        if Path(path).name.startswith("state."):
            raise OSError(errno.ENOSPC, "No space left on device")
        return make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", full)
    before = set(threading.enumerate())
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(7, state(), {})
    with pytest.raises(InputError, match="make room"):
        checkpoints.close()
    started = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in started:
        super(type(thread), thread).join(20)
    assert not [thread for thread in started if thread.is_alive()]


def test_managers_of_one_process_share_no_temporary_folder(tmp_path):
    final = ocp.path.atomicity.AtomicRenameTemporaryPath.from_final(tmp_path / "7")
    one, other = (own_temporary_folders().from_final(tmp_path / "7") for _ in range(2))
    assert len({path._tmp_path for path in (final, one, other)}) == 3
    assert one.get_final() == other.get_final() == tmp_path / "7"


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    for name in ("7.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp-5"):
        (tmp_path / name / "state").mkdir(parents=True)
    (tmp_path / "7" / "state").mkdir(parents=True)
    clear(tmp_path)
    assert files(tmp_path) == ["7", "7/state"]
    clear(tmp_path / "none yet")


def test_a_loop_without_files_is_closed_without_words(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    hush_closed_loops()
    found = SimpleNamespace(
        exc_value=AttributeError("_ssock"), object=asyncio.BaseEventLoop.__del__
    )
    sys.unraisablehook(found)
    assert not told
    sys.unraisablehook(SimpleNamespace(exc_value=AttributeError("_ssock"), object=None))
    assert len(told) == 1
