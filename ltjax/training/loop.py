"""The training loop: the only one."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax import config as configs
from ltjax.config import Config
from ltjax.errors import InputError, Interrupted
from ltjax.samplers.exposure import sentence
from ltjax.training.build import Job, build, describe_data, versions
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.devices import Mapping, choose_devices
from ltjax.training.multi_seed import Seeds
from ltjax.training.progress import MetricsLog, Profile, SilentWatcher, Watcher, default_watcher
from ltjax.training.result import command_line, course, evaluation, score_seeds, write_details
from ltjax.training.safety import StopRequest, check_finite, locked
from ltjax.training.state import TrainState
from ltjax.training.workdir import Workdir, read_json, write_json


class Report(NamedTuple):
    """Outcome of `run`.

    Attributes:
      workdir: folder of the run.
      result: content of `result.json`.
      finished_before: whether it was there before.
      chief: whether this host is the one that writes.
    """

    workdir: Path
    result: dict[str, Any]
    finished_before: bool
    chief: bool = True


class Beginning(NamedTuple):
    """States that a run starts from, one per seed, and what its result tells of it (JSON)."""

    states: list[TrainState]
    facts: dict[str, Any]


# Metrics of calls of `Seeds.step`, on the devices.
Unread = list[list[dict[str, jax.Array]]]


class Window(NamedTuple):
    """Steps up to `step` that are not logged yet; `counted` of them count for the speed."""

    step: int
    unread: Unread
    counted: int


# Makes the beginning of a run from its session; called where there is no checkpoint yet.
Start = Callable[["Session"], Beginning]


def run(
    config: Config,
    workdir: str | Path,
    *,
    watcher: Watcher | None = None,
    start: Start | None = None,
) -> Report:
    """Trains, or resumes, or finds the run finished; evaluates; writes `result.json`.

    Args:
      config: configuration, as `ltjax.config.default()` with overrides.
      workdir: folder of the run; the same call on the same folder resumes it.
      watcher: shows progress; by default a bar on a terminal and lines elsewhere.
      start: makes the states to start from; by default the initial ones. Stage two needs it,
        so it is run by `ltjax.training.decoupled.run`.

    Raises:
      InputError: bad input; nothing of an earlier run is overwritten.
      Interrupted: SIGTERM or SIGINT came; a checkpoint has been written.
    """
    config = configs.resolve(config)
    if start is None and config.stage != "one":
        raise InputError(
            f"config.stage = {config.stage} is run by ltjax.training.decoupled.run, not here"
        )
    mapping = Mapping(choose_devices(config.cpu_devices), backend=config.engine.mapping)
    configs.check_devices(config, mapping.count)
    job = build(config)
    chief = mapping.host == 0
    folder = Workdir(workdir, config, claim=chief)
    with locked(folder.path) if chief else contextlib.nullcontext():
        if folder.result.exists():
            return Report(folder.path, read_json(folder.result), True, chief)
        watcher = (watcher or default_watcher()) if chief else SilentWatcher()
        session = Session(config, job, mapping, folder, watcher, start)
        if chief:
            description = describe_data(job, config)
            write_json(folder.path / "dataset.json", description)
            watcher.note(sentence(description["exposure"], description["class_names"]))
        session.train()
        return Report(folder.path, session.finish(), False, chief)


class Session:
    """One process's share of a run: the seeds, the clock and the outputs."""

    def __init__(
        self,
        config: Config,
        job: Job,
        mapping: Mapping,
        folder: Workdir,
        watcher: Watcher,
        start: Start | None,
    ):
        self.config, self.job, self.mapping, self.folder = config, job, mapping, folder
        self.watcher = watcher
        self.chief = mapping.host == 0
        self.seeds = Seeds(config, job, mapping)
        self.checkpoints = Checkpoints(folder.checkpoints, keep=config.checkpoint.keep)
        self.step, self.seconds, self.images, self.skipped = 0, 0.0, 0, 0
        self.score = 0.0
        self.facts: dict[str, Any] = {}
        self._unread: Unread = []
        self._due: Window | None = None  # a log that waits for the next steps to be on their way
        self._values: list[dict[str, np.ndarray]] = []  # metrics since the last log, fetched
        self._restore(start)
        per_epoch = job.steps_per_epoch
        self._eval_every = configs.steps(config.evaluation.every_epochs, per_epoch)
        self._save_every = configs.steps(config.checkpoint.every_epochs, per_epoch)
        most = config.engine.steps_per_call or mapping.engine.steps_per_call
        self._block = block_length(
            most, config.train.log_every_steps, self._eval_every, self._save_every, job.total_steps
        )

    def _plans(self) -> list[str]:
        return [f"{plan!r} (fingerprint {plan.fingerprint()})" for plan in self.job.plans]

    def _restore(self, start: Start | None) -> None:
        """Goes on from the newest checkpoint that can be read; without one, from `start`."""
        found = self.checkpoints.restore_newest(self.seeds.stacked())
        if found is None:
            if start is not None:
                states, self.facts = start(self)
                self.seeds.take_over(states)
            return
        step, restored, damaged = found
        meta = restored.meta
        if meta.get("plan") != self._plans():
            raise InputError(
                f"checkpoint {self.folder.checkpoints / str(step)} was trained with the plan "
                f"{meta.get('plan')}, not {self._plans()}; the data has changed, or the way "
                "ltjax draws: restore them, or use another --workdir"
            )
        for line in damaged:
            self.watcher.note(line)
        self.seeds.restore(restored.state)
        self.step, self.seconds, self.images = step, meta["seconds"], meta["images"]
        self.skipped, self.score = meta["skipped"], meta["score"]
        self.facts = meta["facts"]
        if meta["window"]:
            self._values = [{k: np.array(v, np.float32) for k, v in meta["window"].items()}]

    def train(self) -> None:
        """Steps to the end, with logs, evaluations and checkpoints on the way."""
        self._log_file = MetricsLog(self.folder.path, self.step) if self.chief else None
        self.watcher.start(self.step, self.job.total_steps)
        try:
            with StopRequest() as stop:
                self._steps(stop)
        except BaseException:
            with contextlib.suppress(Exception):  # let what is being written come to its end
                self.checkpoints.close()
            raise
        finally:
            self.seeds.close()
            self.watcher.stop()
            if self._log_file:
                self._log_file.close()
        self.checkpoints.close()

    def _steps(self, stop: StopRequest) -> None:
        total, log_every = self.job.total_steps, self.config.train.log_every_steps
        compiled = False
        if total == 0 and not self.checkpoints.steps():  # a stage that only computes its head
            self._evaluate()
            self._save()
        self._profile = Profile(self.config.profile_steps, self.folder.path / "profile")
        self._tick, self._counted = time.perf_counter(), 0
        while self.step < total:
            self._profile.before(self.step)
            self._unread.append(self.seeds.step(self.step, self._block))
            self.step += self._block
            self._profile.after(self.step, self.seeds.block)
            if self._due:
                self._log()
            if compiled:
                self._counted += self._block
            else:  # leave compilation out of the speed
                compiled = True
                self.seeds.block()
                self._tick, self.seeds.input_seconds = time.perf_counter(), 0.0
            last = self.step == total
            at_log = last or self.step % log_every == 0
            # Several hosts stop together, so they ask each other, at logs only.
            ask = at_log or self.mapping.hosts == 1
            stopping = self.mapping.any_host(stop.number or 0) if ask else 0
            evaluating = last or self.step % self._eval_every == 0
            saving = last or stopping or self.step % self._save_every == 0
            if at_log or stopping:
                self._due, self._unread = Window(self.step, self._unread, self._counted), []
                self._counted = 0
                if evaluating or saving:  # which wait for the steps anyhow
                    self._log()
            if evaluating:
                with self._untimed():
                    self._evaluate()
            if saving:
                # Never save a state whose loss nobody has looked at.
                self._read(self._unread, self.step)
                self._unread = []
                with self._untimed():
                    self._save()
            if stopping and not last:
                self.checkpoints.close()
                raise Interrupted(stopping, self.step)

    @contextlib.contextmanager
    def _untimed(self) -> Iterator[None]:
        """Leaves what it encloses out of the training's time and speed."""
        self.seeds.block()  # steps still under way are training
        paused = time.perf_counter()
        yield
        self._tick += time.perf_counter() - paused

    def _read(self, unread: Unread, step: int) -> None:
        """Fetches the metrics of steps up to `step` and checks them."""
        if not unread:
            return
        values = self.seeds.gather_metrics(unread)
        self._values.append(values)
        if "skipped" in values:
            self.skipped += int(values["skipped"].sum())
        else:
            check_finite(
                values["loss"],
                step - len(values["loss"]) + 1,
                self.config.seeds,
                lambda: self.seeds.stacked().params,
                self.folder.checkpoints,
            )

    def _window(self) -> dict[str, np.ndarray]:
        """Metrics `[steps, seeds]` of all steps since the last log."""
        names = self._values[0] if self._values else []
        return {name: np.concatenate([v[name] for v in self._values]) for name in names}

    def _log(self) -> None:
        """Writes the means of the steps since the last log, up to the one that is due."""
        assert self._due is not None
        (step, unread, counted), self._due = self._due, None
        self._read(unread, step)
        now = time.perf_counter()
        elapsed, self._tick = now - self._tick, now
        images = counted * self.config.train.batch_size * self.seeds.count
        self.seconds += elapsed
        self.images += images
        means = {name: v.mean(axis=0) for name, v in self._window().items()}
        self._values = []
        epoch = step / self.job.steps_per_epoch
        line = self._per_seed("train", means) | {
            "train/images_per_second": images / elapsed,
            "train/input_share": self.seeds.input_seconds / elapsed,
            "train/learning_rate": float(self.job.schedule(step - 1)),
            "train/epoch": epoch,
        }
        if self._log_file:
            self._log_file.write(step, line)
        self.watcher.update(
            step,
            f"epoch {epoch:.1f}  loss {line['train/loss']:.3f}  "
            f"accuracy {line['train/accuracy']:.3f}  {images / elapsed:,.0f} images/s  "
            f"input {line['train/input_share']:.0%}",
        )
        self.seeds.input_seconds = 0.0

    def _per_seed(self, prefix: str, values: dict[str, Any]) -> dict[str, float]:
        """`prefix/name` is the mean over seeds; with several, `prefix/name/seedS` is each."""
        line: dict[str, float] = {}
        for name, per_seed in values.items():
            line[f"{prefix}/{name}"] = float(np.mean(per_seed))
            if self.seeds.count > 1:
                for seed, value in zip(self.config.seeds, per_seed, strict=True):
                    line[f"{prefix}/{name}/seed{seed}"] = float(value)
        return line

    def _evaluate(self) -> None:
        """Logs the accuracy on the test set and remembers it as the checkpoint's score."""
        summaries, outputs = score_seeds(self.config, self.job, self.seeds)
        names = ("accuracy", "balanced_accuracy", "many", "medium", "few")
        known = {n: [s[n] for s in summaries] for n in names if summaries[0][n] is not None}
        line = self._per_seed("test", known) | course(outputs[0])
        self.score = line["test/balanced_accuracy"]
        if self._log_file:
            self._log_file.write(self.step, line)
        self.watcher.evaluated(self.step, f"test balanced accuracy {self.score:.3f}")

    def _save(self) -> None:
        """Hands the states over to be written as a checkpoint."""
        meta = {
            "seeds": list(self.config.seeds),
            "config": self.folder.config,
            "plan": self._plans(),
            "seconds": self.seconds,
            "images": self.images,
            "skipped": self.skipped,
            "score": self.score,
            "facts": self.facts,
            # So that the next log line is the same whether or not the run was stopped here.
            "window": {name: v.tolist() for name, v in self._window().items()},
        }
        self.checkpoints.save(self.step, self.seeds.stacked(), meta, self.score)

    def finish(self) -> dict[str, Any]:
        """Evaluates the final state; writes `result.json` and what the report draws."""
        tested, outputs = evaluation(self.config, self.job, self.seeds)
        train = {
            "class_counts": self.job.splits.train.class_counts.tolist(),
            "steps": self.step,
            "epochs": configs.training_epochs(self.config),
            "images_per_second": self.images / self.seconds if self.images else None,
            "seconds": self.seconds,
            "skipped_updates": self.skipped,
            "damaged_images": self.seeds.damaged,
        }
        result = {
            **tested,
            "train": train,
            "method": self.config.method,
            "stage": {"name": self.config.stage, **self.facts},
            "seed": self.config.seed,
            "command": command_line(sys.argv),
            "versions": versions(self.mapping.devices, self.mapping.count),
        }
        if self.chief:
            write_details(self.folder.path, self.job, outputs[0], self.seeds.state_of(0).params)
            write_json(self.folder.result, result)
        return result


def block_length(most: int, *periods: int) -> int:
    """The largest number of fused steps, at most `most`, that divides every period.

    So a dispatch never runs over a log, an evaluation, a checkpoint or the end, and one
    compilation serves the whole run.

    >>> block_length(20, 50, 100, 700)
    10
    """
    common = math.gcd(*periods)
    return max(d for d in range(1, min(most, common) + 1) if common % d == 0)
