"""What a person sees of a run: metrics.jsonl, TensorBoard events, progress bar or log lines."""

import functools
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class MetricsLog:
    """Appends metrics to `metrics.jsonl` and to TensorBoard event files.

    On resume at a step, what was written for later steps is dropped, so that every step has
    one line however often the run was killed.

    Args:
      workdir: folder of the run.
      step: step the run starts from.
    """

    def __init__(self, workdir: Path, step: int):
        self._path = workdir / "metrics.jsonl"
        kept = [line for line in read_metrics(self._path) if line["step"] <= step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(self._path)
        self._file = open(self._path, "a")  # noqa: SIM115 - open for the whole run
        self._folder, self._step = str(workdir / "tensorboard"), step

    @functools.cached_property
    def _events(self) -> Any:
        # Imported at the first line, not before the first step: it looks for torch and loads it.
        from tensorboardX import SummaryWriter

        return SummaryWriter(self._folder, purge_step=self._step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes one line; metrics that are not finite are null in JSON."""
        line = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if "_events" in vars(self):
            self._events.close()


def read_metrics(path: Path) -> list[dict]:
    """Lines of a `metrics.jsonl`; a last line cut off by a kill is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


class Profile:
    """Records a trace of the steps from `steps[0]` to `steps[1]`, for TensorBoard or Perfetto.

    Args:
      steps: first and last step, or () for none.
      folder: where to write.
    """

    def __init__(self, steps: Sequence[int], folder: Path):
        self._steps, self._folder, self._active = steps, folder, False

    def before(self, step: int) -> None:
        """Called before the step with this number starts; fused steps start together."""
        if self._steps and not self._active and self._steps[0] <= step < self._steps[1]:
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


class BarWatcher:
    """A progress bar, for a terminal."""

    def __init__(self):
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[text]}"),
            TextColumn("{task.fields[evaluation]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def start(self, step: int, total: int) -> None:
        self._task = self._bar.add_task(
            "training", total=total, completed=step, text="", evaluation=""
        )
        self._bar.start()

    def update(self, step: int, text: str) -> None:
        self._bar.update(self._task, completed=step, text=text)

    def evaluated(self, step: int, text: str) -> None:
        self._bar.update(self._task, completed=step, evaluation=text)

    def note(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def stop(self) -> None:
        self._bar.stop()


class LineWatcher:
    """Plain lines, for files and pipes."""

    def start(self, step: int, total: int) -> None:
        self._total = total
        print(f"training from step {step} of {total}", file=sys.stderr, flush=True)

    def update(self, step: int, text: str) -> None:
        print(f"step {step}/{self._total}  {text}", file=sys.stderr, flush=True)

    def evaluated(self, step: int, text: str) -> None:
        self.update(step, text)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

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
