"""What a person sees of a run: metrics.jsonl, TensorBoard events, progress bar or log lines."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ltjax.data.files import read_regular
from ltjax.errors import InputError, is_integer, one_line
from ltjax.training.events import Events
from ltjax.training.stored import MOST_BYTES
from ltjax.training.workdir import append_line, write_bytes


class MetricsLog:
    """Appends metrics to `metrics.jsonl` and to TensorBoard event files.

    On resume at a step, what was written for later steps is dropped, so that every step has
    one line however often the run was killed.

    Args:
      workdir: folder of the run.
      step: step the run starts from.
      note: is told of what cannot be written, but need not end the run.
    """

    def __init__(self, workdir: Path, step: int, note: Callable[[str], None]):
        path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._events = Events(workdir / "tensorboard", step, note)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes one line; metrics that are not finite are null in JSON."""
        line = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        append_line(self._file, json.dumps({"step": step, **line}))
        self._events.write(step, metrics)

    def close(self) -> None:
        """Closes the files."""
        os.close(self._file)
        self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a `metrics.jsonl`; what is no line of metrics is left out.

    A kill leaves a last line that is cut off; a damaged disk may leave anything.

    Raises:
      InputError: it is no regular file.
    """
    try:
        content = read_regular(path, most=MOST_BYTES) if os.path.lexists(path) else b""
    except OSError as e:
        raise InputError(
            f"{path} cannot be read ({e.strerror}); remove it, or use another --workdir"
        ) from e
    lines = []
    for text in content.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict) and is_integer(line.get("step")):
                lines.append(line)
    return lines


class Profile:
    """Records a trace of the steps from `steps[0]` to `steps[1]`, for TensorBoard or Perfetto.

    Args:
      steps: first and last step, or () for none.
      folder: where to write.
    """

    def __init__(self, steps: Sequence[int], folder: Path):
        self._steps, self._folder, self._active = steps, folder, False

    def before(self, step: int, count: int) -> None:
        """Called before `count` steps from `step` on start together."""
        if self._active or not self._steps:
            return
        if step + count > self._steps[0] and step < self._steps[1]:
            jax.profiler.start_trace(str(self._folder))
            self._active = True

    def after(self, step: int, block: Callable[[], None]) -> None:
        """Called once `step` steps are on their way; `block` waits for them."""
        if self._active and step >= self._steps[1]:
            block()
            jax.profiler.stop_trace()
            self._active, self._steps = False, ()


class Watcher(Protocol):
    """Shows the course of a run."""

    def start(self, step: int, total: int) -> None:
        """The run starts at `step` of `total`."""

    def update(self, step: int, text: str) -> None:
        """The run has reached `step`."""

    def evaluated(self, step: int, text: str) -> None:
        """The model was evaluated at `step`."""

    def note(self, text: str) -> None:
        """Something happened that the user should know."""

    def stop(self) -> None:
        """The run has ended."""


def fitting(text: str, room: int) -> str:
    """As many of the parts of a text as there is room for; the last ones go first.

    Args:
      text: parts, separated by two spaces.
      room: characters.

    Returns:
      The first parts.

    >>> fitting("epoch 1.0  loss 0.5  12 images/s", 20)
    'epoch 1.0  loss 0.5'
    """
    parts = text.split("  ")
    while parts and len("  ".join(parts)) > room:
        parts.pop()
    return "  ".join(parts)


class _Words(ProgressColumn):
    """What there is to say of a step, as far as the line has room beside `columns`."""

    def __init__(self, console: Console, columns: Sequence[ProgressColumn]):
        super().__init__()
        self._console, self._columns = console, columns

    def render(self, task: Task) -> Text:
        taken = sum(
            1 + Measurement.get(self._console, self._console.options, column(task)).maximum
            for column in self._columns
        )
        return Text(fitting(task.fields["text"], self._console.width - taken), no_wrap=True)


def _any_terminal() -> contextlib.AbstractContextManager[None]:
    """Context of writing to a terminal or a pipe, which may be gone (ValueError: closed)."""
    return contextlib.suppress(OSError, ValueError)


class BarWatcher:
    """A progress bar, for a terminal: the bar, the step, the score and the time left come first.

    Args:
      console: where to draw; standard error by default.
    """

    def __init__(self, console: Console | None = None):
        console = console or Console(stderr=True)
        columns = (
            BarColumn(bar_width=min(max(console.width // 5, 8), 40)),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[evaluation]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, _Words(console, columns), console=console)

    def start(self, step: int, total: int) -> None:
        self._task = self._bar.add_task(
            "training", total=total, completed=step, text="", evaluation=""
        )
        with _any_terminal():
            self._bar.start()

    def update(self, step: int, text: str) -> None:
        with _any_terminal():
            self._bar.update(self._task, completed=step, text=text)

    def evaluated(self, step: int, text: str) -> None:
        with _any_terminal():
            self._bar.update(self._task, completed=step, evaluation=text)

    def note(self, text: str) -> None:
        with _any_terminal():
            self._bar.console.print(one_line(text), highlight=False, markup=False)

    def stop(self) -> None:
        with _any_terminal():
            self._bar.stop()


class LineWatcher:
    """Plain lines, for files and pipes; a pipe that is closed or a full disk end no run."""

    def start(self, step: int, total: int) -> None:
        self._total = total
        self.note(f"training from step {step} of {total}")

    def update(self, step: int, text: str) -> None:
        self.note(f"step {step}/{self._total}  {text}")

    def evaluated(self, step: int, text: str) -> None:
        self.update(step, text)

    def note(self, text: str) -> None:
        with _any_terminal():
            print(one_line(text), file=sys.stderr, flush=True)

    def stop(self) -> None:
        pass


class SilentWatcher:
    """Nothing, for tests and experiments."""

    def evaluated(self, step: int, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def start(self, step: int, total: int) -> None:
        pass

    def update(self, step: int, text: str) -> None:
        pass

    def stop(self) -> None:
        pass


def default_watcher() -> Watcher:
    """A bar on a terminal that can draw one, lines elsewhere."""
    console = Console(stderr=True)
    drawable = console.is_terminal and not console.is_dumb_terminal
    return BarWatcher() if drawable else LineWatcher()
