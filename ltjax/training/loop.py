"""The loop of a run: steps with logs, evaluations and checkpoints in its folder."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from ltjax.config import Config
from ltjax.errors import Interrupted
from ltjax.training import held_out, identity, unfinished
from ltjax.training.build import Job
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.devices import Mapping
from ltjax.training.held_out import Best
from ltjax.training.multi_seed import Seeds
from ltjax.training.progress import MetricsLog, Profile, Watcher
from ltjax.training.result import course, score_seeds
from ltjax.training.safety import StopRequest, check_finite
from ltjax.training.schedule import Due, Schedule
from ltjax.training.state import TrainState
from ltjax.training.steps import StepLoop
from ltjax.training.window import MetricsWindow, by_seed
from ltjax.training.workdir import Workdir


class Loop(StepLoop):
    """Trains all seeds of a run to the end, with logs, evaluations and checkpoints on the way.

    With several hosts each has its own loop; they take the same steps together, and the first one
    logs.

    Args:
      config: resolved configuration.
      job: parts of the run.
      seeds: the seeds' states and steps.
      folder: workdir of the run.
      watcher: shows progress.
      content: fingerprints of the data, as `ltjax.training.identity.content` gives them.

    Attributes:
      step: steps that are done, or under way on the devices.
      skipped: updates left out because loss or gradient was not finite.
      best: the best evaluation on held-out images; None where there are no such images.
      kept_step: step of the states that the run ends with.
      facts: what stage two has to tell of its start, for `result.json`.
      clock: training time.
    """

    def __init__(
        self,
        config: Config,
        job: Job,
        seeds: Seeds,
        folder: Workdir,
        watcher: Watcher,
        content: dict[str, str],
    ):
        self.mapping = seeds.mapping
        most = config.engine.steps_per_call or self.mapping.engine.steps_per_call
        profile = Profile(config.profile_steps, folder.path / "profile")
        super().__init__(seeds, _schedule(config, job, self.mapping), most, profile)
        self.config, self.job, self.seeds, self.folder = config, job, seeds, folder
        self.watcher, self._content = watcher, content
        self.skipped, self.kept_step = 0, 0
        self.best: Best | None = None
        self.facts: dict[str, Any] = {}
        # A window that is complete, to be logged once the next steps are on their way.
        self._complete: MetricsWindow | None = None
        if self.mapping.chief:
            unfinished.clear(folder.checkpoints)
        self._checkpoints = Checkpoints(folder.checkpoints, keep=config.checkpoint.keep)
        self._request: StopRequest | None = None
        self._log_file: MetricsLog | None = None

    def restore(self) -> bool:
        """Goes on from the newest checkpoint that can be read.

        Returns:
          False where there is no checkpoint yet.

        Raises:
          InputError: none can be read, or it is of another model or of other batches.
        """
        found = self._checkpoints.restore_newest(self.seeds.stacked(), self._check)
        if found is None:
            return False
        step, restored, damaged = found
        meta = restored.meta
        for line in damaged:
            self.watcher.note(line)
        self.seeds.restore(restored.state)
        self.step, self.skipped = step, meta["skipped"]
        self.best = Best(**meta["best"]) if meta.get("best") else None
        self.clock.seconds, self.clock.images = meta["seconds"], meta["images"]
        self.facts = meta["facts"]
        window = {name: np.array(values, np.float32) for name, values in meta["window"].items()}
        self._window = MetricsWindow(window)
        return True

    def _check(self, path: Path, meta: dict[str, Any]) -> None:
        identity.check_checkpoint(path, meta, self.config, self.job, self._content)

    def begin(self, states: list[TrainState], facts: dict[str, Any]) -> None:
        """Starts from given states instead of the initial ones.

        Args:
          states: one for each seed.
          facts: what `result.json` tells of them (JSON).
        """
        self.seeds.take_over(states)
        self.facts = facts

    def train(self) -> None:
        """Takes the steps that are left.

        Raises:
          InputError: a loss is not finite, or a checkpoint cannot be written.
          Interrupted: SIGTERM, SIGHUP or SIGINT came; a checkpoint has been written.
        """
        if self.mapping.chief:
            self._log_file = MetricsLog(self.folder.path, self.step, self.watcher.note)
        self.watcher.start(self.step, self._schedule.total)
        try:
            with StopRequest() as self._request:
                if self._schedule.total == 0 and not self._checkpoints.steps():
                    self._evaluate()  # a stage that only computes its head
                    self._save()
                if not self._enough():
                    self.take_all()
                self._keep_best()
        except BaseException:
            with contextlib.suppress(Exception):  # let what is being written come to its end
                self._checkpoints.close()
            raise
        finally:
            self.seeds.close()
            self.watcher.stop()
            if self._log_file:
                self._log_file.close()
        self._checkpoints.close()

    def _under_way(self) -> None:
        self._log()  # the steps before these, now that the devices are busy again

    def _after(self, due: Due) -> bool:
        """Logs, evaluates and saves; raises `Interrupted` where the run was asked to stop."""
        asked = (self._request and self._request.number) or 0
        stopping = self.mapping.any_host(asked) if due.ask else 0
        if stopping:
            due = due.before_stop()
        if due.log:
            self._complete, self._window = self._window, MetricsWindow()
        if due.evaluate or due.save:  # which wait for the steps anyhow
            self._log()
        if due.evaluate:
            self._evaluate()
        enough = self._enough()
        if due.save or enough or (self.best and self.best.step == self.step):
            self._save()
        if stopping and not due.last and not enough:
            self._checkpoints.close()
            raise Interrupted(stopping, self.step)
        return not enough

    def _enough(self) -> bool:
        """Whether the training stops early: it is long since the held-out images were better."""
        patience = self.config.train.early_stopping * self.job.steps_per_epoch
        if not patience or self.best is None or not self._schedule.at(self.step).evaluate:
            return False
        return self.step - self.best.step >= patience

    def _keep_best(self) -> None:
        """Goes back to the best states, where the run stops early or might have."""
        self.kept_step = self.step
        if not self.config.train.early_stopping or self.best is None:
            return
        epochs = [step / self.job.steps_per_epoch for step in (self.step, self.best.step)]
        self.watcher.note(
            f"early stopping: trained to epoch {epochs[0]:g}, kept epoch {epochs[1]:g} with the "
            f"best held-out balanced accuracy, {self.best.balanced_accuracy:.3f}"
        )
        if self.best.step != self.step:
            self.kept_step = self.best.step
            like = self.seeds.stacked()
            self.seeds.restore(self._checkpoints.restore(self.kept_step, like).state)

    def _fetch(self, window: MetricsWindow) -> None:
        """Fetches a window's metrics and looks for losses that are not finite."""
        new = window.fetch(self.seeds.gather_metrics)
        if "skipped" in new:
            self.skipped += int(new["skipped"].sum())
        elif new:
            check_finite(
                new["loss"],
                window.last_step - len(new["loss"]) + 1,
                self.job.seeds,
                lambda: self.seeds.stacked().params,
                self.folder.checkpoints,
            )

    def _log(self) -> None:
        """Writes the means of a complete window, if there is one."""
        if self._complete is None:
            return
        window, self._complete = self._complete, None
        self._fetch(window)
        images = window.timed_steps * self.config.train.batch_size * self.seeds.count
        lap, step = self.clock.lap(images), window.last_step
        epoch = step / self.job.steps_per_epoch
        line = by_seed("train", window.means(), self.job.seeds) | {
            "train/images_per_second": lap.images_per_second,
            "train/input_share": lap.input_share,
            "train/learning_rate": float(self.job.learning_rate(step - 1)),
            "train/epoch": epoch,
        }
        self._write(step, line)
        self.watcher.update(
            step,
            f"epoch {epoch:.1f}  loss {line['train/loss']:.3f}  "
            f"accuracy {line['train/accuracy']:.3f}  {lap.images_per_second:,.0f} images/s  "
            f"input {lap.input_share:.0%}",
        )

    def _evaluate(self) -> None:
        """Logs the accuracy on the test and the held-out images; remembers the best on these."""
        with self.clock.paused(self.seeds.block):
            self.seeds.recalibrate(self.step)
            scores, outputs = score_seeds(self.seeds, self.config.evaluation.thresholds)
            names = ("accuracy", "balanced_accuracy", "many", "medium", "few")
            known = {n: [s[n] for s in scores] for n in names if scores[0][n] is not None}
            line = by_seed("test", known, self.job.seeds) | course(outputs[0])
            if self.job.data.validation is not None:
                found, is_best = held_out.measure(self.seeds, self.step, self.best)
                self.best = found if is_best else self.best
                line["validation/balanced_accuracy"] = found.balanced_accuracy
                line["validation/balanced_nll"] = found.nll
            self._write(self.step, line)
            score = line["test/balanced_accuracy"]
            self.watcher.evaluated(self.step, f"balanced accuracy {score:.3f}")

    def _save(self) -> None:
        """Hands the states over to be written as a checkpoint."""
        self._fetch(self._window)  # never save a state whose loss nobody has looked at
        with self.clock.paused(self.seeds.block):
            self.seeds.recalibrate(self.step)
            meta = {
                "seeds": list(self.job.seeds),
                "config": self.folder.config,
                "plan": identity.samplers(self.job),
                "content": self._content,
                "environment": identity.environment(),
                "native": self.job.native.used,
                "seconds": self.clock.seconds,
                "images": self.clock.images,
                "skipped": self.skipped,
                "best": self.best._asdict() if self.best else None,
                "facts": self.facts,
                # So that the next log line is the same whether or not the run was stopped here.
                "window": {name: v.tolist() for name, v in self._window.fetched().items()},
            }
            best = self.best.step if self.best else None
            self._checkpoints.save(self.step, self.seeds.stacked(), meta, best)

    def _write(self, step: int, line: dict[str, float]) -> None:
        if self._log_file:
            self._log_file.write(step, line)


def _schedule(config: Config, job: Job, mapping: Mapping) -> Schedule:
    per_epoch = job.steps_per_epoch
    return Schedule(
        total=job.total_steps,
        log_every=config.train.log_every_steps,
        evaluate_every=config.evaluation.every_epochs * per_epoch,
        save_every=config.checkpoint.every_epochs * per_epoch,
        hosts=mapping.hosts,
    )
