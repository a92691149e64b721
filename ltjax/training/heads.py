"""Classifiers on features in memory, trained side by side by the step and the loop of a run.

All heads take the same batches, in turn and by one program, whatever their number. They may differ
in what the features are divided by (the shrinkage of their whitening), in their weight decay and
in their initialization.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from ltjax.config import Config
from ltjax.data.loader import Batch, train_batch
from ltjax.errors import InputError
from ltjax.kernels.allocator import give_back
from ltjax.samplers import BatchSampler, PrefetchSampler
from ltjax.training.inputs import Resident
from ltjax.training.prior import class_statistics
from ltjax.training.program import FUSED, Program, kind_of, program_of
from ltjax.training.schedule import Due, Schedule
from ltjax.training.state import TrainState, unstack
from ltjax.training.steps import StepLoop
from ltjax.training.window import DeviceMetrics
from ltjax.whitening.classwise import Basis

# Most numbers in the features of one dispatch.
LARGEST_DISPATCH = 2**20
# Rows whose coordinates take at most so many bytes are kept; those of others are computed batch by
# batch.
KEPT_BYTES = 2**26
CHUNK = 1024
# Dispatches after which freed memory is given back, which otherwise grows with the blocks of rows.
TRIM_EVERY = 32


class Rows:
    """Some rows of an array, read in the coordinates of a basis.

    Args:
      features: `[N, D]`, any float dtype, in memory or mapped to it.
      index: the rows, int `[M]`; None is all.
      labels: their classes, int `[M]`.
      weights: their weights in the loss, float32 `[M]`, of mean 1; None is 1 each.
      basis: of the coordinates.
    """

    def __init__(
        self,
        features: np.ndarray,
        index: np.ndarray | None,
        labels: np.ndarray,
        weights: np.ndarray | None,
        basis: Basis,
    ):
        self._features, self._index, self._basis = features, index, basis.single()
        self.labels, self.weights = labels, weights
        self._kept: np.ndarray | None = None
        if len(labels) * features.shape[1] * 4 <= KEPT_BYTES:
            kept = np.empty((len(labels), features.shape[1]), np.float32)
            for start in range(0, len(labels), CHUNK):  # each step of it takes a copy
                part = np.arange(start, min(start + CHUNK, len(labels)))
                kept[part] = self._read(part)
            self._kept = kept

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The coordinates of some of the rows, float32 `[B, D]`."""
        return self._read(indices) if self._kept is None else self._kept[indices]

    def _read(self, indices: np.ndarray) -> np.ndarray:
        taken = indices if self._index is None else self._index[indices]
        return self._basis.coordinates(self._features[taken], overwrite=True)


class Training(NamedTuple):
    """What heads are trained with; arrays have an entry for each head.

    Attributes:
      scales: what the coordinates are divided by, float32 `[K, D]`.
      weight_decays: `[K]`.
      rates: peak learning rates, `[K]`.
      seeds: of the initialization, int `[K]`.
      cosine: let the rate fall to 0; otherwise it is constant.
    """

    scales: np.ndarray
    weight_decays: np.ndarray
    rates: np.ndarray
    seeds: np.ndarray
    cosine: bool = True


class Heads:
    """Heads of one kind on the same batches, as the loop takes them.

    Args:
      program: of the kind.
      rows: what the sampler's indices mean.
      sampler: of the batches.
      epochs: of the sampler.
      states: of each head.
      data: what stays on the device, for each head.
    """

    def __init__(
        self,
        program: Program,
        rows: Rows,
        sampler: BatchSampler,
        epochs: int,
        states: Sequence[TrainState],
        data: Sequence[Resident],
    ):
        self._program, self._rows = program, rows
        self._sampler = PrefetchSampler(sampler, epochs)
        self._data = [program.mapping.replicate(each) for each in data]
        self.states = [program.mapping.replicate(each) for each in states]
        self._under_way: deque[DeviceMetrics] = deque()

    def load(self, first: int, count: int) -> list[Batch]:
        """The batches of `count` steps from step `first`."""
        batches = [self._batch(first + i) for i in range(count)]
        # One alone is not copied.
        one = count == 1
        stacked = jax.tree.map(lambda x: x[None], batches[0]) if one else _stacked(batches)
        return [self._program.mapping.split(stacked, lead=1)]

    def _batch(self, step: int) -> Batch:
        rows, batch = self._rows, train_batch(self._sampler, self._rows.labels, step)
        weights = np.ones(len(batch.labels), np.float32)
        if rows.weights is not None:
            weights = rows.weights[batch.indices]
        return batch._replace(images=rows.read(batch.indices), weights=weights)

    def step(self, batches: list[Batch]) -> DeviceMetrics:
        """Takes the steps of these batches; at most two calls are under way."""
        taken = [
            self._program.step(state, data, batches[0])
            for state, data in zip(self.states, self._data, strict=True)
        ]
        self.states, metrics = [state for state, _ in taken], [one for _, one in taken]
        self._under_way.append(metrics)
        if len(self._under_way) > 2:
            jax.block_until_ready(self._under_way.popleft())
        return metrics

    def block(self) -> None:
        """Waits until the steps under way are done."""
        jax.block_until_ready(self.states)

    def variables(self) -> dict[str, Any]:
        """Parameters and statistics of all heads, with a leading axis, as NumPy arrays."""
        return _stacked([state.variables for state in self.states])

    def close(self) -> None:
        """Ends the thread that draws batches."""
        self._sampler.close()


class HeadLoop(StepLoop):
    """Trains heads to the end, or until `watch` says stop after an epoch.

    Args:
      heads: what is trained.
      schedule: its length, and how often `watch` is called.
      most_fused: most steps in one dispatch.
      watch: called with the number of the epoch, the heads and the mean loss of all steps since
        the last call; returns whether to go on.
    """

    def __init__(
        self,
        heads: Heads,
        schedule: Schedule,
        most_fused: int,
        watch: "Watch | None",
    ):
        super().__init__(heads, schedule, most_fused)
        self._heads, self._watch, self._dispatches = heads, watch, 0

    def _under_way(self) -> None:
        if self._dispatches % TRIM_EVERY == 0:  # at first what compiling has left
            give_back()
        self._dispatches += 1

    def _after(self, due: Due) -> bool:
        if self._watch is None or not due.evaluate:
            return True
        return self._watch(self.step, self._heads)


Watch = Callable[[int, Heads], bool]


def train(
    config: Config,
    rows: Rows,
    sampler: BatchSampler,
    counts: np.ndarray,
    training: Training,
    *,
    hidden: tuple[int, ...],
    device: jax.Device,
    start: Callable[[TrainState], TrainState] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Trains heads.

    Args:
      config: resolved; its sections for model, whitening, loss and training are used.
      rows: the training rows.
      sampler: of their batches.
      counts: training rows of each class, or the sums of their weights, `[C]`.
      training: what the heads are trained with.
      hidden: widths of hidden layers.
      device: where.
      start: changes the initial states, which have a leading axis of heads.
      watch: see `HeadLoop`.

    Returns:
      Variables of all heads, with a leading axis.

    Raises:
      InputError: the parameters are no longer finite.
    """
    total, features = config.train.epochs * len(sampler), training.scales.shape[1]
    fused = _fused(total, sampler.batch_size * features)
    total -= total % fused
    program = program_of(kind_of(config, hidden, len(counts), total, device))
    heads = Heads(
        program,
        rows,
        sampler,
        config.train.epochs,
        unstack(_states(program, training, total, start)),
        _data(config, program, rows, sampler, counts, training.scales),
    )
    schedule = Schedule(total, total, len(sampler) if watch else total, total)
    try:
        # The steps take all cores; BLAS's other threads, which wait in a loop, would take turns
        # with them.
        with threadpool_limits(1, "blas"):
            HeadLoop(heads, schedule, fused, watch).take_all()
        variables = heads.variables()
    finally:
        heads.close()
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise InputError(
            f"the loss is not finite with learning_rate = {training.rates.max():g}; lower it"
        )
    return variables


def _states(
    program: Program,
    training: Training,
    total: int,
    start: Callable[[TrainState], TrainState] | None,
) -> TrainState:
    """The initial states, with a leading axis of heads."""
    seeds, features = training.seeds.tolist(), training.scales.shape[1]
    initial = {seed: program.initial(seed, features) for seed in set(seeds)}
    give_back()
    states = _with_options(_stacked([initial[seed] for seed in seeds]), training, total)
    return states if start is None else start(states)


def _data(
    config: Config,
    program: Program,
    rows: Rows,
    sampler: BatchSampler,
    counts: np.ndarray,
    scales: np.ndarray,
) -> list[Resident]:
    """What stays on the device, for each head."""
    found = class_statistics(config, counts, rows.labels, sampler)
    if rows.weights is not None:  # a loss averages over weighted rows
        number = np.bincount(rows.labels, minlength=len(counts))
        mean_weight = np.bincount(rows.labels, rows.weights, len(counts)) / np.maximum(number, 1)
        found = found._replace(prior=found.prior / found.prior.sum() * mean_weight)
    data = Resident(
        images=None,
        mean=np.zeros(scales.shape[1], np.float32),
        std=np.ones(scales.shape[1], np.float32),
        loss_state=program.loss_state(*map(np.asarray, found)),
        key=jax.random.key(config.seed),
        mixing_state=np.maximum(np.asarray(counts, np.float32), 1),
    )
    return [data._replace(std=scale) for scale in scales]


def _fused(total: int, numbers: int) -> int:
    """Steps in one dispatch of a training of `total`; their remainder is not trained."""
    most = max(LARGEST_DISPATCH // numbers, 1)
    return next(steps for steps, shortest in FUSED if steps <= most and total >= shortest)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees of arrays as one of NumPy arrays with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _with_options(states: TrainState, training: Training, total: int) -> TrainState:
    given = {
        "rate": training.rates,
        "weight_decay": training.weight_decays,
        "steps": np.full(len(training.rates), total if training.cosine else 2.0**60),
    }
    options = {name: np.asarray(value, np.float32) for name, value in given.items()}
    return states._replace(opt_state=states.opt_state._replace(hyperparams=options))
