"""The seeds of a run side by side: their states, steps, outputs and stacked checkpoint."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.loader import Batch, StreamSettings, TrainLoader, eval_batches
from ltjax.data.sources import EncodedSource, Source
from ltjax.evaluation.outputs import collect_outputs
from ltjax.models import Outputs
from ltjax.training.build import Job, initial_state, keys
from ltjax.training.devices import Mapping
from ltjax.training.inputs import Resident
from ltjax.training.recalibration import recalibrated
from ltjax.training.state import TrainState, state_at, unstack
from ltjax.training.step import make_eval_step, make_freeze
from ltjax.training.window import DeviceMetrics, HostMetrics
from ltjax.whitening.linen import FROZEN


class Seeds:
    """All seeds of a run, trained to the same step.

    On accelerators they are one program, on CPU one after another (`devices.choose_engine`);
    from outside both look the same: checkpoints and metrics have a leading axis of seeds.

    Args:
      job: parts of the run.
      mapping: devices.

    Attributes:
      count: number of seeds.
      states: one for each seed or, where they are one program, a single stacked one.
    """

    def __init__(self, job: Job, mapping: Mapping):
        self.job, self.mapping, self.count = job, mapping, len(job.seeds)
        self._together = mapping.engine.vmap_seeds and self.count > 1
        self._stream = None if job.data.resident else _on_host(job.stream, mapping)
        self._loaders = _loaders(job, self._stream)
        self._train_data, self._test_data = _constants(job, mapping, together=self._together)
        self._train_step = mapping.train_step(job.train_step, stacked_seeds=self._together)
        self._eval_step = mapping.eval_step(make_eval_step(job.model))
        self._measurement_step = mapping.measurement(job.measurement_step)
        self._recalibrated_at: int | None = None
        self._cached: np.ndarray | None = None
        self._step_data: list[Resident] = []
        self.states: list[TrainState] = []
        freeze = make_freeze(job.model, job.data.train.image_shape)
        self._freeze = mapping.replicated(freeze)
        self._freeze_group = mapping.replicated(jax.vmap(freeze) if self._together else freeze)
        self.take_over([initial_state(job, seed) for seed in job.seeds])

    def _group(self, states: list[TrainState]) -> list[TrainState]:
        grouped = [_stack(states)] if self._together else states
        return [self.mapping.replicate(state) for state in grouped]

    def load(self, first: int, count: int) -> list[Batch]:
        """Prepares the batches of `count` steps from step `first`, split over the devices.

        Returns:
          One for each seed, or a single one where the seeds are one program.
        """
        blocks = [
            jax.tree.map(lambda *rows: np.stack(rows), *(loader[first + i] for i in range(count)))
            for loader in self._loaders
        ]
        if self._together:
            blocks = [jax.tree.map(lambda *rows: np.stack(rows, axis=1), *blocks)]
        lead = 2 if self._together else 1
        return [self.mapping.split(block, lead=lead) for block in blocks]

    def step(self, batches: list[Batch]) -> DeviceMetrics:
        """Takes the steps of batches that `load` gave.

        Returns:
          Their metrics, `[count]` for each seed, or `[count, seeds]` where the seeds are one
          program; they are on the devices and need not be computed yet.
        """
        if self.job.caches_features and self._step_data is self._train_data:
            self._step_data = self._on_features()
        metrics = []
        for i, batch in enumerate(batches):
            self.states[i], values = self._train_step(self.states[i], self._step_data[i], batch)
            metrics.append(values)
        return metrics

    def train_features(self, index: int) -> np.ndarray:
        """Features of all training images by one seed's backbone, kept where they are trained on.

        Args:
          index: of the seed.

        Returns:
          float32 `[N, D]`.
        """
        if self._cached is None:
            found = self.outputs(self.job.data.train, self.state_of(index)).features
            if not self.job.caches_features:
                return np.asarray(found)
            self._cached = np.asarray(found)
        return self._cached

    def _on_features(self) -> list[Resident]:
        """What the steps take where the features of the images are computed once."""
        features = self.train_features(0)
        size = features.shape[1]
        parts = (features, np.zeros(size, np.float32), np.ones(size, np.float32))
        images, mean, std = self.mapping.replicate(parts)
        return [data._replace(images=images, mean=mean, std=std) for data in self._train_data]

    def gather_metrics(self, window: list[DeviceMetrics]) -> HostMetrics:
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
            return self.mapping.replicate(state_at(self.states[0], index))
        return self.states[index]

    def recalibrate(self, step: int) -> None:
        """Computes the batch statistics of the averaged parameters, where the run keeps them.

        They come from the last training batches; what training goes on from is left as it is.

        Args:
          step: number of steps that the states have taken.
        """
        count, shared = self.job.recalibration_batches, self._test_data
        if not count or self._recalibrated_at == step:
            return
        first, found = max(step - count, 0), []
        for index, seed in enumerate(self.job.seeds):
            images, key = self._train_data[0].images, self.mapping.replicate(keys(seed)[1])
            state = self.state_of(index)
            loader = _loader(self.job, index, self._stream)
            try:
                stats = recalibrated(
                    self.mapping,
                    self._measurement_step,
                    {"params": state.variables["params"], "batch_stats": state.batch_stats},
                    shared._replace(images=images, key=key),
                    first,
                    (loader[first + i] for i in range(count)),
                )
            finally:
                loader.close()
            found.append(stats)
        grouped = [self.mapping.replicate(_stack(found))] if self._together else found
        pairs = zip(self.states, grouped, strict=True)
        self.states = [state._replace(ema_stats=stats) for state, stats in pairs]
        self._recalibrated_at = step

    def outputs(self, source: Source, state: TrainState) -> Outputs:
        """Outputs of one seed's state on all images of a source, without augmentation.

        Args:
          source: the training, test or held-out images, or others of the same size.
          state: of one seed, on the devices.

        Returns:
          `Outputs` with a row for each image, as NumPy arrays.
        """
        resident, data = self._test_data, self.job.data
        streamed = None
        if not data.resident or isinstance(source, EncodedSource):
            streamed = source
        elif source is data.train:
            resident = resident._replace(images=self._train_data[0].images)
        elif source is not data.test:
            resident = resident._replace(images=self.mapping.replicate(source.array()))
        variables = self._freeze(state)

        def step(batch: Batch) -> Outputs:
            return self._eval_step(variables, resident, self.mapping.split(batch))

        size = self.job.eval_batch_size
        return collect_outputs(step, eval_batches(source.labels, size, streamed, self._stream))

    def stacked(self) -> TrainState:
        """The states with a leading axis of seeds, as checkpoints hold them."""
        together = self.states[0] if self._together else _stack(self.states)
        return self.mapping.for_checkpoint(self.mapping.replicate(together))

    def restore(self, stacked: TrainState) -> None:
        """Goes on from the states of a checkpoint."""
        self.take_over(unstack(stacked))

    def take_over(self, states: list[TrainState]) -> None:
        """Goes on from these states, one for each seed."""
        self._recalibrated_at = None
        self.states = self._group(states)
        if self.job.features_stay and self.job.total_steps:
            pairs = zip(self._train_data, self.states, strict=True)
            self._train_data = [
                data._replace(frozen=self._freeze_group(state).get(FROZEN, ()))
                for data, state in pairs
            ]
        self._step_data = self._train_data

    def block(self) -> None:
        """Waits until the steps under way are done."""
        jax.block_until_ready(self.states)

    def close(self) -> None:
        """Ends the threads and processes that prepare batches."""
        for loader in self._loaders:
            loader.close()

    @property
    def damaged(self) -> dict[str, int]:
        """How often other images took the place of each damaged one, in this process."""
        found = dict(self.job.data.damaged)
        for loader in self._loaders:
            for reason, count in loader.damaged.items():
                found[reason] = found.get(reason, 0) + count
        return found


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _on_host(stream: StreamSettings, mapping: Mapping) -> StreamSettings:
    """This host's share of a stream."""
    return stream._replace(host=mapping.host, hosts=mapping.hosts)


def _loaders(job: Job, stream: StreamSettings | None) -> list[TrainLoader]:
    """The training batches of each seed."""
    return [_loader(job, index, stream) for index in range(len(job.seeds))]


def _loader(job: Job, index: int, stream: StreamSettings | None) -> TrainLoader:
    """The training batches of one seed; cached features lie in device memory."""
    if job.caches_features:
        stream = None
    return TrainLoader(
        job.data.train,
        job.samplers[index],
        job.epochs,
        seed=job.seeds[index],
        augment=job.host_augment,
        settings=stream,
    )


def _constants(job: Job, mapping: Mapping, *, together: bool) -> tuple[list[Resident], Resident]:
    """What stays on the devices: for the training, as `Seeds.states`, and for the evaluation."""
    data = job.data
    losses = [
        loss.init(*map(jnp.asarray, found))
        for loss, found in zip(job.losses, job.classes, strict=True)
    ]
    contrasts = [
        () if job.contrast is None else job.contrast.init(*map(jnp.asarray, found))
        for found in job.classes
    ]
    augment_keys = [keys(seed)[1] for seed in job.seeds]
    mixed = () if job.mixing is None else job.mixing.init(jnp.asarray(data.train.class_counts))
    images = [
        part.array() if data.resident and not isinstance(part, EncodedSource) else None
        for part in (data.train, data.test)
    ]
    shared = mapping.replicate((*images, data.mean, data.std, mixed))
    train_images, test_images, mean, std, mixed = shared
    each = list(zip(losses, augment_keys, contrasts, strict=True))
    train = []
    for group in [_stack(each)] if together else each:
        loss_state, key, contrasted = mapping.replicate(group)
        data_of_group = Resident(train_images, mean, std, loss_state, key, mixed)
        train.append(data_of_group._replace(contrast_state=contrasted))
    loss_state, key, _ = mapping.replicate(each[0])
    return train, Resident(test_images, mean, std, loss_state, key, mixed)
