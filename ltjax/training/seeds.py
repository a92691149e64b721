"""The seeds of a run side by side: their states, steps, predictions and stacked checkpoint."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.ahead import Ahead
from ltjax.data.loader import Batch, pixel_statistics, train_batch
from ltjax.evaluation.predict import predict
from ltjax.models import Outputs
from ltjax.training.job import Job, keys
from ltjax.training.state import TrainState, init_state
from ltjax.training.step import Mapping, Resident, make_eval_step, make_freeze, make_train_step


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _unstack(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


class Seeds:
    """All seeds of a run, trained to the same step.

    On accelerators they are one program, on CPU one after another (`step.choose_engine`);
    from outside both look the same: checkpoints and metrics have a leading axis of seeds.

    Args:
      config: resolved configuration.
      job: parts of the run.
      mapping: devices.
    """

    def __init__(self, config: Any, job: Job, mapping: Mapping):
        self.config, self.job, self.mapping = config, job, mapping
        self.count = len(config.seeds)
        self.input_seconds = 0.0  # time spent on batches, for the loop to read and reset
        self._together = mapping.engine.vmap_seeds and self.count > 1
        # Each plan's next epoch is prepared while this one trains.
        self._plans = [Ahead(plan, config.train.epochs) for plan in job.plans]
        train, test = job.splits
        statistics = pixel_statistics(train)
        init_keys, augment_keys = zip(*(keys(seed) for seed in config.seeds), strict=True)
        losses = [job.loss.init(jnp.asarray(counts)) for counts in job.loss_counts]
        shared = mapping.replicate((train.images, test.images, *statistics))
        train_images, test_images, mean, std = shared
        each = list(zip(losses, augment_keys, strict=True))
        groups = [_stack(each)] if self._together else each
        self._train_data = [
            Resident(train_images, mean, std, *mapping.replicate(group)) for group in groups
        ]
        loss_state, key = mapping.replicate(each[0])
        self._test_data = Resident(test_images, mean, std, loss_state, key)
        step = make_train_step(
            job.model,
            job.loss,
            job.optimizer,
            max_shift=config.train.max_shift,
            ema_decay=config.optimizer.ema_decay,
            skip_nonfinite=config.train.on_nan == "skip",
        )
        self._train_step = mapping.train_step(step, stacked_seeds=self._together)
        self._eval_step = mapping.eval_step(make_eval_step(job.model))
        shape, ema = train.images.shape[1:], config.optimizer.ema_decay > 0
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
        labels = self.job.splits.train.labels
        blocks = [
            Batch(
                *(
                    np.stack(column)
                    for column in zip(
                        *(train_batch(plan, labels, first + i) for i in range(count)), strict=True
                    )
                )
            )
            for plan in self._plans
        ]
        if self._together:
            blocks = [Batch(*(np.stack(c, axis=1) for c in zip(*blocks, strict=True)))]
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
        """The state of one seed."""
        return _unstack(self.states[0], index) if self._together else self.states[index]

    def predict_test(self, index: int) -> Outputs:
        """Outputs of one seed's current state on the test set."""
        state = (
            self.mapping.replicate(self.state_of(index)) if self._together else self.states[index]
        )
        variables = self._freeze(state)

        def step(batch: Batch) -> Outputs:
            return self._eval_step(variables, self._test_data, self.mapping.split(batch))

        return predict(step, self.job.splits.test.labels, self.config.evaluation.batch_size)

    def stacked(self) -> TrainState:
        """The states with a leading axis of seeds, as checkpoints hold them."""
        together = self.states[0] if self._together else _stack(self.states)
        return self.mapping.for_checkpoint(self.mapping.replicate(together))

    def restore(self, stacked: TrainState) -> None:
        """Takes over the states of a checkpoint."""
        host = jax.tree.map(np.asarray, stacked)
        self.states = self._group([_unstack(host, i) for i in range(self.count)])

    def close(self) -> None:
        """Ends the threads that prepare epochs."""
        for plan in self._plans:
            plan.close()

    def block(self) -> None:
        """Waits until the steps under way are done."""
        jax.block_until_ready(self.states)
