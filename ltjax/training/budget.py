"""The epochs that a time budget pays for: measured once, before the run, and stored with it.

The length of a training is part of its schedule, so it is known before the first step. A few steps
are timed on states that are thrown away; the number of epochs that follows goes into `config.json`,
where a run that is resumed finds it, so that the speed of a machine decides it only once.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from ltjax import config as configs
from ltjax.config import Config
from ltjax.config.options import MOST_EPOCHS
from ltjax.errors import InputError
from ltjax.training.build import Job, build
from ltjax.training.data import RunData
from ltjax.training.devices import Mapping
from ltjax.training.multi_seed import Seeds
from ltjax.training.schedule import Due, Schedule
from ltjax.training.steps import StepLoop
from ltjax.training.stored import read_object

# Steps are timed for so many seconds, but at most for this share of the budget.
SECONDS, SHARE = 3.0, 0.05
# So many epochs have steps enough to time.
TRIAL_EPOCHS = 20


class Settled(NamedTuple):
    """A configuration whose time budget has become a number of epochs.

    Attributes:
      config: with that number.
      data: of the run, if it was read for this; else None.
      note: a line that tells the number; empty where there is no budget.
    """

    config: Config
    data: RunData | None = None
    note: str = ""


def settle(config: Config, workdir: str | Path, mapping: Mapping) -> Settled:
    """Turns `train.minutes` into a number of epochs; a run that has begun keeps its own.

    Args:
      config: resolved configuration.
      workdir: of the run.
      mapping: devices.

    Raises:
      InputError: several hosts, whose speeds differ; a run that is shrunk by `runlocal`; or data
        that cannot be read.
    """
    minutes = config.train.minutes
    if minutes is None or not config.training_epochs:
        return Settled(config)
    for what, found in (("several hosts", mapping.hosts > 1), ("runlocal", config.runlocal)):
        if found:
            raise InputError(
                f"config.train.minutes = {minutes:g} is not allowed with {what}; leave it out"
            )
    stored = Path(workdir) / "config.json"
    if stored.exists():
        epochs = configs.resolve(read_object(stored)).train.epochs
        note = f"{epochs} epochs, as the run began"
        return Settled(of_length(config, epochs), None, f"train.minutes = {minutes:g}: {note}")
    long = max(config.train.epochs, TRIAL_EPOCHS)
    job = build(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=long)))
    seconds = job.steps_per_epoch * seconds_per_step(config, job, mapping)
    epochs = epochs_within(60 * minutes, seconds)
    note = f"{epochs} epochs of {seconds:.3g} s, as measured"
    if seconds > 60 * minutes:
        note = f"one epoch, although it takes {seconds / 60:.3g} minutes, as measured"
    return Settled(of_length(config, epochs), job.data, f"train.minutes = {minutes:g}: {note}")


def epochs_within(budget: float, epoch: float) -> int:
    """The epochs that a budget pays for, at least one.

    Args:
      budget: seconds.
      epoch: seconds of an epoch.

    >>> epochs_within(600, 25), epochs_within(600, 3600)
    (24, 1)
    """
    return min(max(int(budget / epoch), 1), MOST_EPOCHS)


def of_length(config: Config, epochs: int) -> Config:
    """A configuration with another number of epochs, and its schedule stretched to them.

    Warm-up and milestones keep their share of the training. Evaluations and checkpoints come
    earlier in a shorter training, and as often as before in a longer one.

    Args:
      config: resolved configuration.
      epochs: of the training.

    Returns:
      A resolved configuration.

    >>> short = of_length(configs.resolve(configs.default()), 40)
    >>> short.train.epochs, short.optimizer.warmup_epochs, short.evaluation.every_epochs
    (40, 2, 4)
    """
    share = epochs / config.train.epochs

    def stretched(count: int) -> int:
        return max(round(count * share), 1)

    def sooner(every: int) -> int:
        return min(every, stretched(every))

    optimizer = config.optimizer
    warmup = min(stretched(optimizer.warmup_epochs), epochs - 1) if optimizer.warmup_epochs else 0
    milestones = tuple(sorted({stretched(each) for each in optimizer.milestones}))
    evaluation, checkpoint = config.evaluation, config.checkpoint
    return dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, epochs=epochs),
        optimizer=dataclasses.replace(optimizer, warmup_epochs=warmup, milestones=milestones),
        evaluation=dataclasses.replace(evaluation, every_epochs=sooner(evaluation.every_epochs)),
        checkpoint=dataclasses.replace(checkpoint, every_epochs=sooner(checkpoint.every_epochs)),
    )


def seconds_per_step(config: Config, job: Job, mapping: Mapping) -> float:
    """The time of a training step of all seeds, with its input, after the compilation.

    Args:
      config: resolved configuration.
      job: parts of a run; its data is used, its states are thrown away.
      mapping: devices.
    """
    assert config.train.minutes is not None
    seeds = Seeds(job, mapping)
    most = config.engine.steps_per_call or mapping.engine.steps_per_call
    try:
        trial = _Trial(seeds, _trial_schedule(config, job), most, 60 * SHARE * config.train.minutes)
        trial.take_all()
    finally:
        seeds.close()
    return trial.clock.seconds / trial.timed


def _trial_schedule(config: Config, job: Job) -> Schedule:
    """Dispatches of as many steps as those of the run."""
    epoch = job.steps_per_epoch
    return Schedule(job.total_steps, config.train.log_every_steps, epoch, epoch)


class _Trial(StepLoop):
    """Takes steps until their time is known well enough.

    Args:
      seeds: what takes them.
      schedule: of the trial.
      most_fused: most steps in one dispatch.
      longest: seconds after which it ends in any case.

    Attributes:
      timed: number of steps that were timed.
    """

    def __init__(self, seeds: Seeds, schedule: Schedule, most_fused: int, longest: float):
        super().__init__(seeds, schedule, most_fused)
        self.timed, self._first = 0, 0
        self._longest = min(SECONDS, longest)

    def _after(self, due: Due) -> bool:
        if not self._first:  # its steps were compiled, so they are not timed
            self._first = self.step
            return True
        self._trained.block()
        self.clock.lap(0)
        self.timed = self.step - self._first
        return self.clock.seconds < self._longest
