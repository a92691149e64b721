"""The samplers that papers on long-tailed recognition compare with.

Three of them draw classes in proportion to weights and differ only in these weights. In an epoch,
each class gets the number of draws that its weight asks for, rounded up or down, whereas
independent draws, as in PyTorch's `WeightedRandomSampler`, scatter around this number. The order of
the classes is uniformly random, and the images of a class are drawn in shuffled cycles.
"""

import abc

import numpy as np

from ltjax.errors import Option, integer, number, require, require_integer
from ltjax.samplers.labels import EPOCH_SIZE, LabelIndex, LabelSampler
from ltjax.samplers.shuffle import apportion, batch_shuffle, cyclic_times, random_slots

THRESHOLD = Option(
    0.001,
    number(0, 1, open_low=True),
    "repeat_factor: share of the images below which a class is repeated",
)
IMAGES_PER_CLASS = Option(
    4, integer(1, 10**6), "class_aware: number of images taken of each class drawn"
)


class WeightedSampler(LabelSampler):
    """Base class of the samplers that draw classes in proportion to weights.

    In an epoch, each class gets the number of draws that its weight asks for, rounded up or down at
    random; see `apportion`.

    Source: ours.
    """

    @abc.abstractmethod
    def weights(self, epoch: int) -> np.ndarray:
        """Weights of the classes that have images, in any unit.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          float64 `[K]`, most images first.
        """

    def _expected_draws(self, epoch: int) -> np.ndarray:
        return self.weights(epoch)

    def epoch(self, epoch: int) -> np.ndarray:
        """Draws an epoch; see `BatchSampler.epoch`.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
        bits = self._bits(epoch)
        total = self.steps_per_epoch * self.batch_size
        draws = apportion(bits, self.weights(epoch), total)
        slots = random_slots(bits, draws)
        out = np.empty(total, np.int64)
        self._fill(out, bits, slots, draws)
        return out.reshape(self.steps_per_epoch, self.batch_size)


class PowerSampler(WeightedSampler):
    """Draws classes in proportion to a power of their size.

        p_c = n_c^q / sum_k n_k^q

    With power 1 an epoch is the ordinary, instance-balanced one: a fresh shuffle in which every
    image appears once, and some appear once more where the last batch would not be full.

    Args:
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch.
      power: `q`; 1 instance-balanced, 0.5 square root, 0 class-balanced, -1 reverse.
      seed: integer >= 0.
      epoch_size: see `LabelSampler`.

    Raises:
      InputError: an argument out of range, or a power under which a weight is infinite.

    Source: Kang et al., Decoupling Representation and Classifier (ICLR 2020), eq. 1,
    https://arxiv.org/abs/1910.09217; the reverse sampler is that of Zhou et al., BBN (CVPR 2020),
    https://arxiv.org/abs/1912.02413

    >>> sampler = PowerSampler(np.array([0, 0, 0, 1]), 2, power=1, seed=0)
    >>> np.sort(sampler.epoch(0), axis=None).tolist()
    [0, 1, 2, 3]
    """

    tag = "PowerSampler"

    def __init__(
        self,
        labels: np.ndarray | LabelIndex,
        batch_size: int,
        *,
        power: float,
        seed: int,
        epoch_size: str = EPOCH_SIZE.default,
    ):
        super().__init__(labels, batch_size, seed=seed, epoch_size=epoch_size)
        require(bool(np.isfinite(power)), "power", power, "a finite number")
        self.power = float(power)
        # Relative to the largest class, so that no power overflows in the head's favor.
        with np.errstate(over="ignore"):
            self._weights: np.ndarray = (self.index.sizes / self.index.sizes[0]) ** self.power
        if self.power == 1:
            self._weights = self.index.sizes.astype(float)
        finite = bool(np.isfinite(self._weights.sum()))
        require(finite, "power", power, "a power under which the weights are finite")

    def __repr__(self) -> str:
        return self._describe(power=self.power)

    def weights(self, epoch: int) -> np.ndarray:
        """Weights of the classes, proportional to `n_c^q`.

        Args:
          epoch: number of the epoch; all epochs have the same weights.

        Returns:
          float64 `[K]`, most images first.
        """
        return self._weights


class ProgressiveSampler(WeightedSampler):
    """Goes from instance-balanced to class-balanced sampling over the epochs of a run.

        p_c(t) = (1 - a) n_c / sum_k n_k + a / K,    a = t / (T - 1)

    Epoch `t = 0` is instance-balanced (every image once); the last one, `t = T - 1`, and any after
    it are class-balanced. A run of a single epoch (`T = 1`) is instance-balanced.

    Args:
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch.
      epochs: `T`, epochs of the whole run, >= 1.
      seed: integer >= 0.

    Raises:
      InputError: an argument out of range.

    Source: Kang et al. (ICLR 2020), eq. 3, https://arxiv.org/abs/1910.09217, with `T - 1` for
    their `T`, so that the last epoch is class-balanced.

    >>> labels = np.array([0, 0, 0, 1])
    >>> sampler = ProgressiveSampler(labels, 4, epochs=2, seed=0)
    >>> [int((labels[sampler.epoch(e)] == 1).sum()) for e in (0, 1)]
    [1, 2]
    """

    tag = "ProgressiveSampler"

    def __init__(self, labels: np.ndarray | LabelIndex, batch_size: int, *, epochs: int, seed: int):
        super().__init__(labels, batch_size, seed=seed)
        self.epochs = require_integer("epochs", epochs, 1)

    def __repr__(self) -> str:
        return self._describe(epochs=self.epochs)

    @property
    def scheduled(self) -> bool:
        """Whether the class distribution changes from epoch to epoch."""
        return self.epochs > 1

    def weights(self, epoch: int) -> np.ndarray:
        """Weights of the classes in an epoch, `N p_c(t)`.

        Args:
          epoch: number of the epoch, `t` >= 0.

        Returns:
          float64 `[K]`, most images first.
        """
        sizes = self.index.sizes
        share = min(epoch / max(self.epochs - 1, 1), 1.0)
        mixed: np.ndarray = (1 - share) * sizes + share * (sizes.sum() / len(sizes))
        return mixed


class RepeatFactorSampler(WeightedSampler):
    """Repeats the images of rare classes by LVIS's repeat factors.

        r_c = max(1, sqrt(t / f_c)),    f_c = n_c / N,    p_c = n_c r_c / sum_k n_k r_k

    LVIS shows each image `r_c` times an epoch, rounded at random, so epochs become longer. Here an
    epoch keeps its `ceil(N / B)` steps, and each class gets the share `p_c` of them.

    Args:
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch.
      threshold: `t` in (0, 1]; classes with a smaller share of the images are repeated.
      seed: integer >= 0.

    Attributes:
      repeats: float64 `[K]`, `r_c` of the classes that have images, most images first.

    Raises:
      InputError: an argument out of range.

    Source: Gupta et al., LVIS (CVPR 2019), appendix, https://arxiv.org/abs/1908.03195; for one
    label per image.

    >>> labels = np.repeat([0, 1], [96, 4])
    >>> RepeatFactorSampler(labels, 10, threshold=0.16, seed=0).repeats.tolist()
    [1.0, 2.0]
    """

    tag = "RepeatFactorSampler"

    def __init__(
        self,
        labels: np.ndarray | LabelIndex,
        batch_size: int,
        *,
        threshold: float = THRESHOLD.default,
        seed: int,
    ):
        super().__init__(labels, batch_size, seed=seed)
        THRESHOLD.check("threshold", threshold)
        self.threshold = float(threshold)
        share = self.index.sizes / len(self.labels)
        self.repeats = np.maximum(1.0, np.sqrt(self.threshold / share))

    def __repr__(self) -> str:
        return self._describe(threshold=self.threshold)

    def weights(self, epoch: int) -> np.ndarray:
        """Weights of the classes, `n_c r_c`.

        Args:
          epoch: number of the epoch; all epochs have the same weights.

        Returns:
          float64 `[K]`, most images first.
        """
        return self.index.sizes * self.repeats


class ClassAwareSampler(LabelSampler):
    """Cycles through the classes in shuffled order and takes `k` images of each class drawn.

    The `k` images are neighbors in the stream of slots, so they fall into one batch if `k`
    divides the batch size. The slots of a batch are shuffled.

    Args:
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch.
      images_per_class: `k`, from 1 to the batch size.
      seed: integer >= 0.
      epoch_size: see `LabelSampler`.

    Raises:
      InputError: an argument out of range.

    Source: Shen et al., Relay Backpropagation (ECCV 2016), https://arxiv.org/abs/1512.05830;
    `k = 4` on ImageNet-LT and Places-LT is from Liu et al. (CVPR 2019),
    https://arxiv.org/abs/1904.05160. Their epoch goes on until every image of the largest class
    has been drawn, as with `epoch_size="largest_class"`.

    >>> labels = np.repeat([0, 1], [6, 2])
    >>> sampler = ClassAwareSampler(labels, 4, images_per_class=2, seed=0)
    >>> np.sort(labels[sampler[0]]).tolist()
    [0, 0, 1, 1]
    """

    tag = "ClassAwareSampler"

    def __init__(
        self,
        labels: np.ndarray | LabelIndex,
        batch_size: int,
        *,
        images_per_class: int = IMAGES_PER_CLASS.default,
        seed: int,
        epoch_size: str = EPOCH_SIZE.default,
    ):
        super().__init__(labels, batch_size, seed=seed, epoch_size=epoch_size)
        IMAGES_PER_CLASS.check("images_per_class", images_per_class)
        self.images_per_class = int(images_per_class)
        allowed = f"an integer from 1 to the batch size {self.batch_size}"
        fits = self.images_per_class <= self.batch_size
        require(fits, "images_per_class", images_per_class, allowed)

    def __repr__(self) -> str:
        return self._describe(images_per_class=self.images_per_class)

    def _expected_draws(self, epoch: int) -> np.ndarray:
        return np.ones(len(self.index.order))  # also of the last cycle, whose order is random

    def epoch(self, epoch: int) -> np.ndarray:
        """Draws an epoch; see `BatchSampler.epoch`.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
        bits, each = self._bits(epoch), self.images_per_class
        total = self.steps_per_epoch * self.batch_size
        turns = -(-total // each)
        place = batch_shuffle(bits, self.steps_per_epoch, self.batch_size)
        times = cyclic_times(bits, len(self.index.order), turns)
        drawn = times < turns
        slots = (times[drawn].astype(np.int64) * each)[:, None] + np.arange(each)
        inside = np.minimum(slots.ravel(), total)  # the last turn may be cut short
        slots = place.take(inside).astype(np.int64)
        out = np.empty(total + 1, np.int64)
        self._fill(out, bits, slots, drawn.sum(axis=1) * each)
        return out[:-1].reshape(self.steps_per_epoch, self.batch_size)
