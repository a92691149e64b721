"""TensorBoard's event files, written while the run waits, and given up where that fails."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A kill loses the events of at most so many seconds.
FLUSH_SECONDS = 60.0


class Events:
    """Writes metrics to an event file in a folder.

    The `SummaryWriter` of tensorboardX writes in a thread behind a queue. If a full disk ends that
    thread, whoever fills the queue waits forever, so the file is written here without it. Metrics
    stand in `metrics.jsonl` too: an event file that cannot be written costs one line, not the run.

    Args:
      folder: of the event files; made at the first line.
      step: step the run starts from; TensorBoard hides what older files hold of later steps.
      note: is told if the file cannot be written.
    """

    def __init__(self, folder: Path, step: int, note: Callable[[str], None]):
        self._folder, self._step, self._note = folder, step, note
        self._file: Any = None
        self._failed, self._flush_at = False, 0.0

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of a step."""
        if self._failed:
            return
        # Imported at the first line, not before the first step: it looks for torch and loads it.
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        try:
            if self._file is None:
                self._file = self._open()
            for name, value in metrics.items():
                self._write(Event(step=step, summary=scalar(name, value)))
            if time.monotonic() > self._flush_at:
                self._file.flush()
                self._flush_at = time.monotonic() + FLUSH_SECONDS
        except OSError as e:
            self._give_up(e)

    def _give_up(self, error: OSError) -> None:
        self._failed = True
        with contextlib.suppress(OSError):  # what a full disk refused cannot be kept
            if self._file is not None:
                self._file.close()
        self._note(
            f"TensorBoard's events in {self._folder} cannot be written "
            f"({error.strerror or error}); going on without them, metrics.jsonl holds the metrics"
        )

    def _open(self) -> Any:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = RecordWriter(str(self._folder / name))
        first = self._step + 1
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=first, file_version="brain.Event:2"))
        self._write(Event(step=first, session_log=SessionLog(status=SessionLog.START)))
        return self._file

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())

    def close(self) -> None:
        """Closes the file."""
        if self._file is None or self._failed:
            return
        try:
            self._file.close()
        except OSError as e:
            self._give_up(e)
