"""Long-tailed class counts, the subsets that have them, and shot groups. NumPy only."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltjax.errors import InputError, Option, integer, require


def exponential_counts(max_count: int, num_classes: int, imbalance_factor: float) -> np.ndarray:
    """Images per class of the exponential profile.

        n_c = int(n_max * (1 / IF)^(c / (C - 1))),    c = 0 ... C - 1

    Args:
      max_count: `n_max`, images of the largest class.
      num_classes: `C`.
      imbalance_factor: `IF >= 1`, ratio of the largest to the smallest class; 1 is balanced.

    Returns:
      int64 `[C]`, descending.

    Raises:
      InputError: an argument out of range.

    Source: Cui et al., Class-Balanced Loss (CVPR 2019), https://arxiv.org/abs/1901.05555, truncated
    as in the code of Cao et al. (NeurIPS 2019), https://arxiv.org/abs/1906.07413.

    >>> int(exponential_counts(5000, 10, 100).sum())
    12406
    """
    _check_profile(max_count, num_classes, imbalance_factor)
    ratio = 1 / imbalance_factor
    steps = max(num_classes - 1, 1)
    return np.array([int(max_count * ratio ** (c / steps)) for c in range(num_classes)], np.int64)


def step_counts(
    max_count: int, num_classes: int, imbalance_factor: float, share: float = 0.5
) -> np.ndarray:
    """Images per class of the step profile: `n_max` in the first classes, `n_max / IF` in the rest.

    Args:
      max_count: `n_max`, images of the largest class.
      num_classes: `C`.
      imbalance_factor: `IF >= 1`, ratio of the largest to the smallest class.
      share: share of the classes that are rare, from 0 to 1.

    Returns:
      int64 `[C]`, descending.

    Raises:
      InputError: an argument out of range.

    Source: Buda et al., A systematic study of the class imbalance problem (Neural Networks 2018),
    https://arxiv.org/abs/1710.05381; with half the classes: Cao et al. (NeurIPS 2019),
    https://arxiv.org/abs/1906.07413.

    >>> step_counts(100, 4, 10).tolist()
    [100, 100, 10, 10]
    """
    _check_profile(max_count, num_classes, imbalance_factor)
    require(0 <= share <= 1, "share", share, "a number from 0 to 1")
    rare = int(share * num_classes)
    head = np.full(num_classes - rare, max_count, np.int64)
    return np.concatenate([head, np.full(rare, int(max_count / imbalance_factor), np.int64)])


def pareto_counts(max_count: int, num_classes: int, imbalance_factor: float) -> np.ndarray:
    """Images per class of a power law: the counts of ImageNet-LT and Places-LT have this shape.

        n_c = int(n_max (c + 1)^(-p)),    p = log IF / log C,    so that n_C = n_max / IF

    Args:
      max_count: `n_max`, images of the largest class.
      num_classes: `C`.
      imbalance_factor: `IF >= 1`, ratio of the largest to the smallest class.

    Returns:
      int64 `[C]`, descending.

    Raises:
      InputError: an argument out of range.

    Source: Liu et al., Large-Scale Long-Tailed Recognition in an Open World (CVPR 2019),
    https://arxiv.org/abs/1904.05160, draw their sets from a Pareto distribution of exponent 6; the
    deterministic law with given ends is ours.

    >>> pareto_counts(1000, 10, 100).tolist()
    [1000, 250, 111, 62, 40, 27, 20, 15, 12, 10]
    """
    _check_profile(max_count, num_classes, imbalance_factor)
    power = np.log(imbalance_factor) / np.log(max(num_classes, 2))
    exact = max_count * np.arange(1, num_classes + 1) ** -power
    # Rounding must not take an image from a count that is whole, such as the last.
    return np.floor(exact * (1 + 1e-12)).astype(np.int64)


def _check_profile(max_count: int, num_classes: int, imbalance_factor: float) -> None:
    require(imbalance_factor >= 1, "imbalance_factor", imbalance_factor, "a number >= 1")
    require(max_count >= 1, "max_count", max_count, "an integer >= 1")
    require(num_classes >= 1, "num_classes", num_classes, "an integer >= 1")


# Images of the largest class, number of classes, imbalance factor -> images per class `[C]`.
Profile = Callable[[int, int, float], np.ndarray]
# Every `data.profile`; None keeps all images.
PROFILES: dict[str, Profile | None] = {
    "exponential": exponential_counts,
    "step": step_counts,
    "pareto": pareto_counts,
    "as_is": None,
}


def largest_head(
    available: np.ndarray, imbalance_factor: float, profile: Profile = exponential_counts
) -> int:
    """The largest `n_max` for which every class has as many images as the profile asks for.

    Args:
      available: int `[C]`, images of each class.
      imbalance_factor: of the profile, >= 1.
      profile: one of `PROFILES`.

    Returns:
      `n_max`; 0 where even one image in the largest class asks for too many of another.

    Raises:
      InputError: an imbalance factor below 1.

    >>> largest_head(np.array([100, 10, 100]), 4)
    21
    """
    low, high = 0, int(available.max(initial=0))
    while low < high:  # counts grow with the head, so bisection finds the largest
        middle = (low + high + 1) // 2
        if np.any(profile(middle, len(available), imbalance_factor) > available):
            high = middle - 1
        else:
            low = middle
    return low


def subset_indices(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Picks `counts[c]` images of each class.

    The rule of the published CIFAR-LT code: with the legacy `np.random` generator, class by class
    in label order, shuffle the class's indices and keep the first `n_c`. With seed 0, labels in
    official order give the very images of that code.

    Args:
      labels: int `[N]`.
      counts: int `[C]`, at most as many as there are of each class.
      seed: of the shuffle.

    Returns:
      int64 `[sum counts]`, class by class.

    Raises:
      InputError: a class has fewer images than asked for.

    Source: the code of Cao et al. (NeurIPS 2019), https://github.com/kaidic/LDAM-DRW, restated.

    >>> subset_indices(np.array([0, 1, 0, 1, 0]), np.array([2, 1]), seed=0).tolist()
    [4, 2, 1]
    """
    rng = np.random.RandomState(seed)
    picked = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        if count > len(members):
            raise InputError(
                f"class {label} has {len(members)} images, fewer than the {count} asked for; "
                "use a smaller max_count or a larger imbalance_factor"
            )
        rng.shuffle(members)
        picked.append(members[:count])
    return np.concatenate(picked) if picked else np.zeros(0, np.int64)


def holdout(labels: np.ndarray, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices into a training part and a test part that is as balanced as can be.

        test images of class c = min(per_class, n_c - 1)

    Args:
      labels: int `[N]`, classes 0 ... C - 1.
      per_class: test images of every class that has more.
      seed: of the shuffle.

    Returns:
      `(train, test)`, int64, ascending; every class that has an image keeps one in `train`.

    Raises:
      InputError: no class has two images, or `per_class` is below 1.

    Source: ours.

    >>> [part.tolist() for part in holdout(np.array([0, 1, 0, 1, 0, 2]), 2, seed=0)]
    [[0, 3, 5], [1, 2, 4]]
    """
    require(per_class >= 1, "data.test_per_class", per_class, "an integer >= 1")
    counts = np.minimum(per_class, np.maximum(np.bincount(labels) - 1, 0))
    if not counts.sum():
        raise InputError(
            "no class has two images, so that none can be held out for the test; give a test part"
        )
    test = np.sort(subset_indices(labels, counts, seed))
    return np.setdiff1d(np.arange(len(labels)), test), test


def stratified_sample(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Draws about `limit` images, from each class in proportion, but at least one.

    Args:
      labels: int `[N]`.
      limit: number of images to keep, >= 1.
      seed: of the draw.

    Returns:
      Their indices, int64, ascending; all of them where there are at most `limit`.

    Source: ours.

    >>> stratified_sample(np.array([0, 0, 0, 0, 1, 1]), 3, seed=0)
    array([2, 3, 4])
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    kept = np.minimum(counts, np.maximum(np.round(counts * (limit / len(labels))), 1).astype(int))
    return np.sort(subset_indices(labels, kept, seed))


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits off a fraction of every class, at random.

    A class gives `round(fraction n_c)` images, at least one and never its last.

    Args:
      labels: int `[N]`.
      fraction: > 0 and < 1.
      seed: of the draw.

    Returns:
      Indices `(kept, held_out)`, int64, class by class.

    Raises:
      InputError: a fraction out of range.

    Source: ours.

    >>> kept, held = stratified(np.array([0, 0, 0, 0, 1, 1, 2]), 0.25, seed=0)
    >>> len(kept), len(held)
    (5, 2)
    """
    require(0 < fraction < 1, "fraction", fraction, "a number > 0 and < 1")
    rng = np.random.default_rng(seed)
    kept, held = [], []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held.append(members[:count])
        kept.append(members[count:])
    return np.concatenate(kept), np.concatenate(held)


MANY_ABOVE = Option(
    100, integer(0, 10**9), "classes with more training images than this are in the group many"
)
FEW_BELOW = Option(
    20, integer(0, 10**9), "classes with fewer training images than this are in the group few"
)


class ShotGroups(NamedTuple):
    """Class indices by number of training images, ascending.

    Attributes:
      many: int64, classes with more training images than `many_above`.
      medium: int64, the classes in between.
      few: int64, classes with fewer training images than `few_below`.
    """

    many: np.ndarray
    medium: np.ndarray
    few: np.ndarray


def shot_groups(
    counts: np.ndarray,
    *,
    many_above: int = MANY_ABOVE.default,
    few_below: int = FEW_BELOW.default,
) -> ShotGroups:
    """Groups classes by their number of training images.

    Args:
      counts: int `[C]`, training images per class of the set that is trained on.
      many_above: classes with more images than this are "many".
      few_below: classes with fewer images than this are "few".

    Returns:
      The groups many, medium and few.

    Source: Liu et al., Large-Scale Long-Tailed Recognition in an Open World (CVPR 2019),
    https://arxiv.org/abs/1904.05160.

    >>> [group.tolist() for group in shot_groups(np.array([500, 100, 20, 5]))]
    [[0], [1, 2], [3]]
    """
    counts = np.asarray(counts)
    return ShotGroups(
        many=np.flatnonzero(counts > many_above),
        medium=np.flatnonzero((counts <= many_above) & (counts >= few_below)),
        few=np.flatnonzero(counts < few_below),
    )
