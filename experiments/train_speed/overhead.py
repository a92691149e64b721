"""What the mapped step and the loop cost above the bare jitted step, on one device."""

import tempfile
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from configs import digits_lt
from experiments import timing
from experiments.train_speed.ours import Ours, make_config, plain_step, synthetic
from ltjax import config as configs
from ltjax.config import Config
from ltjax.training.devices import Engine
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run


class Interleave(SilentWatcher):
    """Times a segment of the loop, and after each segment the bare and the mapped step.

    Args:
      contenders: names and functions of a number of steps.
      steps: of a segment; the loop logs at its end, and saves at the start of the next.
    """

    def __init__(self, contenders: dict[str, Callable[[int], None]], steps: int):
        self.contenders, self.steps = contenders, steps
        self.seconds: dict[str, list[float]] = {name: [] for name in ("loop", *contenders)}
        self.since: float | None = None

    def update(self, step: int, text: str) -> None:
        """A log: the loop's segment ends, the others' turn comes."""
        if step % self.steps:
            return
        now = time.perf_counter()
        if self.since is not None:  # the first segment compiles
            self.seconds["loop"].append((now - self.since) / self.steps)
            for name, contender in self.contenders.items():
                wall, _ = timing.timed(partial(contender, self.steps))
                self.seconds[name].append(wall / self.steps)
        self.since = time.perf_counter()


def overhead(config: Config, steps: int) -> dict[str, dict[str, float]]:
    """Medians of seconds a step, and ratios to the bare step.

    Args:
      config: resolved; it saves every `steps` steps, and evaluates at the end only.
      steps: of a segment.
    """
    bare = plain_step(config)
    mapped = Ours(config, jax.devices()[:1], Engine(False, False, 1))
    contenders: dict[str, Callable[[int], None]] = {"jit": bare, "mapped": mapped}
    for contender in contenders.values():
        contender(1)
    watcher = Interleave(contenders, steps)
    with tempfile.TemporaryDirectory() as folder:
        run(config, folder, watcher=watcher)
    seconds = watcher.seconds
    found: dict[str, dict[str, float]] = {}
    for name, taken in seconds.items():
        ratio = float(np.median(np.array(taken) / np.array(seconds["jit"])))
        found[name] = {"milliseconds": 1e3 * float(np.median(taken))}
        found[name] |= {} if name == "jit" else {"ratio_to_jit": ratio}
        found[name] |= {"rounds": len(taken), "steps": steps}
    return found


def overheads(rounds: int) -> timing.Parts:
    """Of the digits' network with whitening, and of ResNet-32 on native kernels."""
    jax.config.update("jax_num_cpu_devices", 1)
    digits = digits_lt.get_config()
    digits.method, digits.cpu_devices = "cw_la", 1
    # The loop of 50 epochs with its logs and its checkpoint, then 350 steps of the others.
    digits.train.epochs, digits.evaluation.every_epochs = 50 * (rounds + 2), 1000
    digits.train.log_every_steps = 10
    images, labels = synthetic(32, 2048, 10)
    resnet = make_config(
        "resnet32_cifar",
        images,
        labels,
        cpu_devices=1,
        engine__native="on",
        evaluation__every_epochs=1000,
        optimizer__warmup_epochs=0,
        train__batch_size=128,
        train__epochs=rounds + 2,
        train__log_every_steps=4,
        checkpoint__every_epochs=1,
    )
    return {
        "overhead digits": overhead(configs.resolve(digits), 350),
        "overhead resnet32_cifar": overhead(resnet, 16),
    }
