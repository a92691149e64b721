"""The constants of a loss: made of the class counts, or of the prior of what is sampled."""

from collections.abc import Callable
from typing import Any, Protocol

from ltjax.losses.base import Counts


class Init(Protocol):
    """`(class_counts [C], prior [C] or None) -> state`, a pytree of constants of a loss.

    The class counts are those of the training set. The prior is the class distribution of the
    batches, as shares or counts; None is that of the training set.
    """

    def __call__(self, class_counts: Counts, prior: Counts | None = None) -> Any: ...


def of_counts(constants: Callable[[Counts], Any]) -> Init:
    """The `init` of a loss that needs the images that there are: margins, class weights, smoothing.

    Args:
      constants: function from class counts `[C]` to the state.

    Returns:
      The `init`; it ignores the prior.

    Source: ours.
    """

    def init(class_counts: Counts, prior: Counts | None = None) -> Any:
        del prior
        return constants(class_counts)

    return init


def of_prior(constants: Callable[[Counts], Any]) -> Init:
    """The `init` of a loss that corrects for the class distribution of its batches.

    Args:
      constants: function from class counts or shares `[C]` to the state.

    Returns:
      The `init`; it ignores the class counts where a prior is given.

    Source: ours.

    >>> init = of_prior(max)
    >>> init([30, 10]), init([30, 10], [20, 20])
    (30, 20)
    """
    return lambda class_counts, prior=None: constants(class_counts if prior is None else prior)


def no_state(class_counts: Counts, prior: Counts | None = None) -> tuple[()]:
    """The `init` of a transform that needs no constants.

    Args:
      class_counts: training images of each class, `[C]`; not used.
      prior: class distribution of the batches, `[C]`; not used.

    Returns:
      An empty state.

    Source: ours.
    """
    del class_counts, prior
    return ()
