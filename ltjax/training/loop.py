"""The training loop: the only one."""

import contextlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ltjax import config as configs
from ltjax.data.loader import Batch, pixel_statistics, train_batch
from ltjax.data.sources import ArraySource
from ltjax.diagnostics import describe
from ltjax.errors import InputError
from ltjax.evaluation.metrics import summarize
from ltjax.evaluation.predict import predict
from ltjax.models import Outputs
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.job import Job, build, describe_data, keys
from ltjax.training.state import TrainState, init_state
from ltjax.training.step import (
    Mapping,
    Resident,
    choose_devices,
    make_eval_step,
    make_train_step,
)
from ltjax.training.watch import MetricsLog, Watcher, default_watcher
from ltjax.training.workdir import Workdir, read_json, write_json


class Report(NamedTuple):
    """Outcome of `run`: the folder, the content of `result.json`, whether it was there before."""

    workdir: Path
    result: dict[str, Any]
    finished_before: bool


class Beginning(NamedTuple):
    """State that a run starts from, and what its result tells of it (JSON)."""

    state: TrainState
    facts: dict[str, Any]


# Makes the beginning of a run from its session; called where there is no checkpoint yet.
Start = Callable[["Session"], Beginning]


def run(
    config: Any, workdir: str | Path, *, watcher: Watcher | None = None, start: Start | None = None
) -> Report:
    """Trains, or resumes, or finds the run finished; evaluates; writes `result.json`.

    Args:
      config: configuration, as `ltjax.config.default()` with overrides.
      workdir: folder of the run; the same call on the same folder resumes it.
      watcher: shows progress; by default a bar on a terminal and lines elsewhere.
      start: makes the state to start from; by default the initial one. Stage two needs it,
        so it is run by `ltjax.decoupled.run`.

    Raises:
      InputError: bad input; nothing of an earlier run is overwritten.
    """
    config = configs.resolve(config)
    if start is None and config.stage != "one":
        raise InputError(f"config.stage = {config.stage} is run by ltjax.decoupled.run, not here")
    mapping = Mapping(choose_devices(config.cpu_devices))
    configs.check_devices(config, mapping.count)
    job = build(config)
    folder = Workdir(workdir, config)
    if folder.result.exists():
        return Report(folder.path, read_json(folder.result), True)
    description = describe_data(job, config)
    session = Session(config, job, mapping, folder, watcher or default_watcher(), start)
    write_json(folder.path / "dataset.json", description)
    session.train()
    return Report(folder.path, session.finish(), False)


class Session:
    """One process's share of a run: the state, its mapped steps and its outputs."""

    def __init__(
        self,
        config: Any,
        job: Job,
        mapping: Mapping,
        folder: Workdir,
        watcher: Watcher,
        start: Start | None,
    ):
        self.config, self.job, self.mapping, self.folder = config, job, mapping, folder
        self.watcher = watcher
        init_key, augment_key = keys(config.seed)
        train, test = job.splits
        mean, std = pixel_statistics(train)
        loss_state = job.loss.init(jax.numpy.asarray(job.loss_counts))
        counts = jax.numpy.asarray(train.class_counts)
        mixing_state = () if job.mixing is None else job.mixing.init(counts)
        resident = Resident(train.images, mean, std, loss_state, augment_key, mixing_state)
        self.train_data = mapping.replicate(resident)
        self.test_data = mapping.replicate(resident._replace(images=test.images))
        step = make_train_step(
            job.model,
            job.loss,
            job.optimizer,
            max_shift=config.train.max_shift,
            mixing=job.mixing,
            trainable=job.trainable,
        )
        self.train_step = mapping.train_step(step)
        self.eval_step = mapping.eval_step(make_eval_step(job.model))
        state = init_state(job.model, job.optimizer, init_key, train.images.shape[1:])
        self.state: TrainState = mapping.replicate(state)
        self.checkpoints = Checkpoints(folder.checkpoints, keep=config.checkpoint.keep)
        self.step, self.seconds, self.images = 0, 0.0, 0
        self.facts: dict[str, Any] = {}
        self._restore(start)

    def _restore(self, start: Start | None) -> None:
        """Goes on from the newest checkpoint, if there is one, else from `start`."""
        latest = self.checkpoints.latest_step()
        if latest is None:
            if start is not None:
                state, self.facts = start(self)
                self.state = self.mapping.replicate(state)
            return
        self.state, meta = self.checkpoints.restore(latest, self.state)
        if meta.get("plan") != repr(self.job.plan):
            raise InputError(
                f"checkpoint {self.folder.checkpoints / str(latest)} was trained with the plan "
                f"{meta.get('plan')}, not {self.job.plan!r}; the data has changed: restore it, "
                "or use another --workdir"
            )
        self.step, self.seconds, self.images = latest, meta["seconds"], meta["images"]
        self.facts = meta.get("facts", {})

    def train(self) -> None:
        """Steps to the end, with logs, evaluations and checkpoints on the way."""
        config, total = self.config, self.job.total_steps
        per_epoch = self.job.plan.steps_per_epoch
        eval_every = configs.steps(config.evaluation.every_epochs, per_epoch)
        save_every = configs.steps(config.checkpoint.every_epochs, per_epoch)
        self.log = MetricsLog(self.folder.path, self.step)
        self.watcher.start(self.step, total)
        window: list[dict[str, jax.Array]] = []
        self._tick = time.perf_counter()
        try:
            if total == 0:  # a stage that only computes its head
                self._evaluate()
                if self.checkpoints.latest_step() is None:
                    self._save()
            while self.step < total:
                batch = train_batch(self.job.plan, self.job.splits.train.labels, self.step)
                first = not window and self.images == 0
                self.state, metrics = self.train_step(
                    self.state, self.train_data, self.mapping.split(batch)
                )
                window.append(metrics)
                self.step += 1
                if first:  # leave compilation out of the speed
                    jax.block_until_ready(metrics)
                    self._tick = time.perf_counter()
                last = self.step == total
                if last or self.step % config.train.log_every_steps == 0:
                    self._log(window, counted=len(window) - first)
                    window = []
                if last or self.step % eval_every == 0:
                    with self._untimed():
                        self._evaluate()
                if last or self.step % save_every == 0:
                    with self._untimed():
                        self._save()
        except BaseException:
            with contextlib.suppress(Exception):  # let what is being written come to its end
                self.checkpoints.close()
            raise
        finally:
            self.watcher.stop()
            self.log.close()
        self.checkpoints.close()

    @contextlib.contextmanager
    def _untimed(self) -> Iterator[None]:
        """Leaves what it encloses out of the training's time and speed."""
        jax.block_until_ready(self.state)  # steps still under way are training
        paused = time.perf_counter()
        yield
        self._tick += time.perf_counter() - paused

    def _log(self, window: list[dict[str, jax.Array]], *, counted: int) -> None:
        """Writes the means of the steps since the last log."""
        values = {k: float(np.mean([float(m[k]) for m in window])) for k in window[0]}
        if not np.isfinite(values["loss"]):
            raise InputError(
                f"the loss is {values['loss']} before step {self.step} (seed {self.config.seed}); "
                "lower config.optimizer.learning_rate or set config.optimizer.clip_norm; "
                f"the last good checkpoint is in {self.folder.checkpoints}"
            )
        now = time.perf_counter()
        elapsed, self._tick = now - self._tick, now
        images = counted * self.config.train.batch_size
        self.seconds += elapsed
        self.images += images
        values["images_per_second"] = images / elapsed
        values["learning_rate"] = float(self.job.schedule(self.step - 1))
        values["epoch"] = self.step / self.job.plan.steps_per_epoch
        self.log.write(self.step, {f"train/{k}": v for k, v in values.items()})
        text = (
            f"epoch {values['epoch']:.1f}  loss {values['loss']:.3f}  "
            f"accuracy {values['accuracy']:.3f}  {values['images_per_second']:,.0f} images/s"
        )
        self.watcher.update(self.step, text)

    def predict(self, source: ArraySource, state: TrainState) -> Outputs:
        """Outputs of a replicated state on images, without augmentation."""
        if source is self.job.splits.test:
            resident = self.test_data
        elif source is self.job.splits.train:
            resident = self.train_data
        else:
            resident = self.mapping.replicate(self.test_data._replace(images=source.images))

        def step(batch: Batch) -> Outputs:
            return self.eval_step(state, resident, self.mapping.split(batch))

        return predict(step, source.labels, self.config.evaluation.batch_size)

    def predict_test(self) -> Outputs:
        """Outputs of the current state on the test set."""
        return self.predict(self.job.splits.test, self.state)

    def _summarize(self, outputs: Outputs) -> dict[str, Any]:
        return summarize(
            self.job.splits.test.labels,
            np.argmax(outputs.logits, axis=-1),
            self.job.splits.train.class_counts,
            many_above=self.config.evaluation.many_above,
            few_below=self.config.evaluation.few_below,
        )

    def _evaluate(self) -> None:
        """Logs the accuracy on the test set and remembers it as the checkpoint's score."""
        summary = self._summarize(self.predict_test())
        self.score = summary["balanced_accuracy"]
        names = ("accuracy", "balanced_accuracy", "many", "medium", "few")
        known = {f"test/{k}": summary[k] for k in names if summary[k] is not None}
        self.log.write(self.step, known)
        text = f"test balanced accuracy {self.score:.3f}"
        self.watcher.update(self.step, text)

    def _save(self) -> None:
        """Hands the state over to be written as a checkpoint."""
        score = getattr(self, "score", 0.0)
        meta = {
            "seed": self.config.seed,
            "config": self.folder.config,
            "plan": repr(self.job.plan),
            "seconds": self.seconds,
            "images": self.images,
            "facts": self.facts,
        }
        self.checkpoints.save(self.step, self.state, meta, score)

    def finish(self) -> dict[str, Any]:
        """Evaluates the final state and writes `diagnostics.json` and `result.json`."""
        outputs = self.predict_test()
        diagnostics = {
            "before_whitening": describe(np.asarray(outputs.features)),
            "after_whitening": describe(np.asarray(outputs.whitened)),
        }
        write_json(self.folder.path / "diagnostics.json", diagnostics)
        result = {
            "test": self._summarize(outputs),
            "train": {
                "class_counts": self.job.splits.train.class_counts.tolist(),
                "steps": self.step,
                "epochs": configs.training_epochs(self.config),
                "images_per_second": self.images / self.seconds if self.seconds else None,
                "seconds": self.seconds,
            },
            "method": self.config.method,
            "stage": {"name": self.config.stage, **self.facts},
            "seed": self.config.seed,
            "versions": versions(self.mapping.devices),
        }
        write_json(self.folder.result, result)
        return result


def versions(devices: list[jax.Device]) -> dict[str, str]:
    """Versions of what computed a result, and the device it ran on."""
    names = ("ltjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    found["device"] = f"{len(devices)} x {devices[0].device_kind}"
    return found
