"""The seeds of a run side by side: their states, steps, predictions and stacked checkpoint."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment.device import Augment
from ltjax.augment.host import HostAugment
from ltjax.config import Config
from ltjax.data.loader import Batch, StreamSettings, TrainLoader, eval_batches
from ltjax.data.sources import ArraySource, Source
from ltjax.data.stream import as_encoded
from ltjax.evaluation.predict import predict
from ltjax.models import Outputs
from ltjax.training.build import Job, keys
from ltjax.training.devices import Mapping
from ltjax.training.state import TrainState, init_state
from ltjax.training.step import Resident, make_eval_step, make_freeze, make_train_step


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _unstack(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def unstack(stacked: TrainState) -> list[TrainState]:
    """The states of a checkpoint, one per seed, as NumPy arrays."""
    host = jax.tree.map(np.asarray, stacked)
    return [_unstack(host, index) for index in range(len(host.step))]


def _stream_settings(config: Config, mapping: Mapping) -> StreamSettings:
    data = config.data
    return StreamSettings(
        data.workers, data.threads, data.skip_corrupt, mapping.host, mapping.hosts
    )


class Seeds:
    """All seeds of a run, trained to the same step.

    On accelerators they are one program, on CPU one after another (`step.choose_engine`);
    from outside both look the same: checkpoints and metrics have a leading axis of seeds.

    Args:
      config: resolved configuration.
      job: parts of the run.
      mapping: devices.
    """

    def __init__(self, config: Config, job: Job, mapping: Mapping):
        self.config, self.job, self.mapping = config, job, mapping
        self.count = len(config.seeds)
        self.input_seconds = 0.0  # time spent on batches, for the loop to read and reset
        self._together = mapping.engine.vmap_seeds and self.count > 1
        train = job.splits.train
        self._settings = None if job.resident else _stream_settings(config, mapping)
        self._loaders = [
            TrainLoader(
                train,
                plan,
                config.train.epochs,
                seed=seed,
                augment=HostAugment(
                    (config.augment.crop_area, 1.0), jitter=config.augment.colour_jitter
                ),
                settings=self._settings,
            )
            for plan, seed in zip(job.plans, config.seeds, strict=True)
        ]
        init_keys, augment_keys = zip(*(keys(seed) for seed in config.seeds), strict=True)
        counted = zip(job.losses, job.loss_counts, strict=True)
        losses = [loss.init(jnp.asarray(counts)) for loss, counts in counted]
        mixed = () if job.mixing is None else job.mixing.init(jnp.asarray(train.class_counts))
        images = [part.images if isinstance(part, ArraySource) else None for part in job.splits]
        if not job.resident:
            images = [None, None]
        shared = mapping.replicate((*images, *job.statistics, mixed))
        train_images, test_images, mean, std, mixed = shared
        each = list(zip(losses, augment_keys, strict=True))
        groups = [_stack(each)] if self._together else each
        self._train_data = []
        for group in groups:
            loss_state, key = mapping.replicate(group)
            self._train_data.append(Resident(train_images, mean, std, loss_state, key, mixed))
        loss_state, key = mapping.replicate(each[0])
        self._test_data = Resident(test_images, mean, std, loss_state, key, mixed)
        step = make_train_step(
            job.model,
            job.losses[0],
            job.optimizer,
            embedded_weight=job.embedded_weight,
            augment=Augment(
                max_shift=config.augment.max_shift,
                flip=config.augment.flip,
                rand_ops=config.augment.rand_ops,
                rand_magnitude=config.augment.rand_magnitude,
                cutout=config.augment.cutout,
            ),
            ema_decay=config.optimizer.ema_decay,
            skip_nonfinite=config.train.on_nan == "skip",
            mixing=job.mixing,
            trainable=job.trainable,
        )
        self._train_step = mapping.train_step(step, stacked_seeds=self._together)
        self._eval_step = mapping.eval_step(make_eval_step(job.model))
        shape, ema = train.image_shape, config.optimizer.ema_decay > 0
        self._freeze = mapping.replicated(make_freeze(job.model, shape))
        self.states = self._group(
            [init_state(job.model, job.optimizer, key, shape, ema=ema) for key in init_keys]
        )

    def _group(self, states: list[TrainState]) -> list[TrainState]:
        grouped = [_stack(states)] if self._together else states
        return [self.mapping.replicate(state) for state in grouped]

    def step(self, first: int, count: int) -> list[dict[str, jax.Array]]:
        """Takes `count` steps from step `first`; metrics `[count]` or `[count, seeds]` a group."""
        started = time.perf_counter()
        blocks = [
            jax.tree.map(lambda *rows: np.stack(rows), *(loader[first + i] for i in range(count)))
            for loader in self._loaders
        ]
        if self._together:
            blocks = [jax.tree.map(lambda *rows: np.stack(rows, axis=1), *blocks)]
        lead = 2 if self._together else 1
        splits = [self.mapping.split(block, lead=lead) for block in blocks]
        self.input_seconds += time.perf_counter() - started
        metrics = []
        for i, split in enumerate(splits):
            self.states[i], values = self._train_step(self.states[i], self._train_data[i], split)
            metrics.append(values)
        return metrics

    def gather_metrics(self, window: list[list[dict[str, jax.Array]]]) -> dict[str, np.ndarray]:
        """Metrics of several calls of `step` as arrays `[steps, seeds]`."""
        host = jax.device_get(window)
        per_seed = [
            {
                name: np.concatenate([call[g][name].reshape(-1, width) for call in host])
                for name in host[0][g]
            }
            for g, width in enumerate([self.count] if self._together else [1] * self.count)
        ]
        return {name: np.concatenate([p[name] for p in per_seed], axis=1) for name in per_seed[0]}

    def state_of(self, index: int) -> TrainState:
        """The state of one seed, on the devices."""
        if self._together:
            return self.mapping.replicate(_unstack(self.states[0], index))
        return self.states[index]

    def predict(self, source: Source, state: TrainState) -> Outputs:
        """Outputs of one seed's state on images, without augmentation."""
        resident, splits = self._test_data, self.job.splits
        streamed = None
        if not (self.job.resident and isinstance(source, ArraySource)):
            streamed = as_encoded(source)
        elif source is splits.train:
            resident = resident._replace(images=self._train_data[0].images)
        elif source is not splits.test:
            resident = resident._replace(images=self.mapping.replicate(source.images))
        variables = self._freeze(state)

        def step(batch: Batch) -> Outputs:
            return self._eval_step(variables, resident, self.mapping.split(batch))

        size = self.config.evaluation.batch_size
        return predict(step, eval_batches(source.labels, size, streamed, self._settings))

    def stacked(self) -> TrainState:
        """The states with a leading axis of seeds, as checkpoints hold them."""
        together = self.states[0] if self._together else _stack(self.states)
        return self.mapping.for_checkpoint(self.mapping.replicate(together))

    def restore(self, stacked: TrainState) -> None:
        """Takes over the states of a checkpoint."""
        self.take_over(unstack(stacked))

    def take_over(self, states: list[TrainState]) -> None:
        """Goes on from these states, one per seed."""
        self.states = self._group(states)

    def close(self) -> None:
        """Ends the threads and processes that prepare batches."""
        for loader in self._loaders:
            loader.close()

    @property
    def damaged(self) -> dict[str, int]:
        """How often other images took the place of each damaged one, in this process."""
        found = dict(self.job.damaged)
        for loader in self._loaders:
            for reason, count in loader.damaged.items():
                found[reason] = found.get(reason, 0) + count
        return found

    def block(self) -> None:
        """Waits until the steps under way are done."""
        jax.block_until_ready(self.states)
