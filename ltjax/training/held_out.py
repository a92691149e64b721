"""The best network of a training, by images that were held out of it.

The score is the balanced accuracy on the held-out images, and of two that are equal the lower
class-balanced log loss is better; both are means over the seeds, which share their steps. The test
images play no part.
"""

from typing import NamedTuple

import numpy as np

from ltjax.config import Config
from ltjax.data.sources import Source
from ltjax.errors import InputError
from ltjax.evaluation.calibration import balanced_nll, fit
from ltjax.evaluation.details import HeldOut
from ltjax.evaluation.metrics import summarize
from ltjax.training.multi_seed import Seeds


class Best(NamedTuple):
    """The best evaluation so far.

    Attributes:
      step: after which it was.
      balanced_accuracy: on the held-out images.
      nll: class-balanced log loss there, in nats.
      temperature: fitted there, of the first seed.
    """

    step: int
    balanced_accuracy: float
    nll: float
    temperature: float = 1.0


def check(config: Config, validation: Source | None) -> None:
    """Refuses early stopping without images to decide by.

    Args:
      config: resolved configuration.
      validation: held-out images of the run, or None.

    Raises:
      InputError: there are none.
    """
    if config.train.early_stopping and validation is None:
        raise InputError(
            f"config.train.early_stopping = {config.train.early_stopping} is not allowed without "
            "held-out images; set config.data.validation_fraction, such as 0.1, or give the data a "
            "validation part (docs/data.md)"
        )


def measure(seeds: Seeds, step: int, before: Best | None) -> tuple[Best, bool]:
    """Scores the states of a step on the held-out images.

    Args:
      seeds: the states; their data has held-out images.
      step: number of steps that they have taken.
      before: the best one so far, or None.

    Returns:
      The score of this step, with its temperature if it is the best; and whether it is.
    """
    data = seeds.job.data
    assert data.validation is not None
    labels, counts = data.validation.labels, data.train.class_counts
    logits = [
        seeds.outputs(data.validation, seeds.state_of(index)).logits for index in range(seeds.count)
    ]
    found = scored([HeldOut(labels, each) for each in logits], counts, step)
    if before is not None and not better(found, before):
        return found, False
    correction = fit(labels, logits[0], counts, adjust=False)
    return found._replace(temperature=correction.temperature), True


def scored(held: list[HeldOut], class_counts: np.ndarray, step: int) -> Best:
    """The scores of a step: means over its seeds.

    Args:
      held: labels and logits of each seed.
      class_counts: training images of each class, `[C]`.
      step: its number.
    """
    accuracies = [
        summarize(each.labels, np.argmax(each.logits, axis=1), class_counts)["balanced_accuracy"]
        for each in held
    ]
    losses = [balanced_nll(each.labels, each.logits) for each in held]
    return Best(step, float(np.mean(accuracies)), float(np.mean(losses)))


def better(new: Best, old: Best) -> bool:
    """Whether a score is better than another one.

    >>> old = Best(10, 0.5, 1.0)
    >>> [better(Best(20, *new), old) for new in ((0.6, 2.0), (0.5, 0.9), (0.5, 1.0), (0.4, 0.1))]
    [True, True, False, False]
    """
    return (new.balanced_accuracy, -new.nll) > (old.balanced_accuracy, -old.nll)
