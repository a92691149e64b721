"""Thins a training part to a long tail, and says what a split leaves a class with."""

from collections.abc import Sequence

import numpy as np

from ltjax.data.longtail import Profile, largest_head, subset_indices
from ltjax.data.sources import Source
from ltjax.errors import InputError, some_of


def check_classes(train: Source, name: str) -> None:
    """Refuses data of one class, before anything is trained.

    Args:
      train: training images.
      name: of the data set, for the message.

    Raises:
      InputError: fewer than two classes have images.
    """
    present = np.flatnonzero(train.class_counts)
    if len(present) < 2:
        raise InputError(
            f"data.name = {name!r}: all {len(train)} training images are of one class, "
            f"{train.class_names[present[0]]!r}; a classifier needs two or more"
        )


def held_out_notes(train: Source, per_class: int, has_validation: bool) -> tuple[str, ...]:
    """What there is to say of a test part that is held out.

    Args:
      train: training images, before any is held out.
      per_class: test images that are asked for, of every class.
      has_validation: whether the data set has a validation part.

    Returns:
      Lines.
    """
    notes = []
    if has_validation:
        notes.append(
            "the data has a validation part but no test part: the final score is that of "
            f"{per_class} training images per class, held out, and not that of the validation part"
        )
    counts = train.class_counts
    small = [train.class_names[c] for c in np.flatnonzero((counts > 1) & (counts <= per_class))]
    if small:
        noun, its = ("a class", "its") if len(small) == 1 else ("classes", "their")
        verb = "has" if len(small) == 1 else "have"
        notes.append(
            f"{noun} of fewer than {per_class + 1} images {verb} fewer than {per_class} test "
            f"images, all {its} images but one: {some_of(small)}"
        )
    return tuple(notes)


def untested_notes(
    names: Sequence[str], trained: np.ndarray, tested: np.ndarray
) -> tuple[str, ...]:
    """Names the classes that are trained but have no test image.

    Args:
      names: of the classes.
      trained: int `[C]`, training images of each class.
      tested: int `[C]`, test images of each class.

    Returns:
      A line, or none.
    """
    untested = np.flatnonzero((trained > 0) & (tested == 0)).tolist()
    if not untested:
        return ()
    lacking = some_of([names[c] for c in untested])
    noun = "1 class has" if len(untested) == 1 else f"{len(untested)} classes have"
    return (f"{noun} no test image, and scores are over the others: {lacking}",)


def thin(
    train: Source, profile: Profile, *, imbalance_factor: float, max_count: int | None, seed: int
) -> Source:
    """The long-tailed subset of a source, its images in the order of the source.

    With seed 0 and a data set that stores a `rank`, the images of lowest rank of each class are
    kept; otherwise the first ones after a shuffle in the official order, see
    `ltjax.data.longtail.subset_indices`.

    Args:
      train: training images.
      profile: one of `PROFILES`.
      imbalance_factor: of the profile, >= 1.
      max_count: images of the largest class; None is the most for which every class has enough.
      seed: of the shuffle.

    Returns:
      The source of the images that are kept.

    Raises:
      InputError: a class would be left empty, or has fewer images than the profile asks for.
    """
    available, classes = train.class_counts, len(train.class_names)
    head = max_count or largest_head(available, imbalance_factor, profile)
    counts = profile(max(head, 1), classes, imbalance_factor)
    if head < 1 or counts.min() < 1:
        raise InputError(
            f"data.imbalance_factor = {imbalance_factor:g} leaves the rarest class without "
            f"an image (the largest class of the training part has {available.max()} images); "
            "use a smaller factor"
        )
    if np.any(counts > available):
        short = int(np.argmax(counts - available))
        raise InputError(
            f"data.max_count = {max_count} asks for {counts[short]} images of class {short}, which "
            f"has {available[short]}; use a smaller number, or None for the most possible"
        )
    rank = getattr(train, "rank", None)
    if rank is not None and seed == 0:
        return train.subset(np.flatnonzero(rank < counts[train.labels]))
    if train.order is None:
        return train.subset(np.sort(subset_indices(train.labels, counts, seed)))
    # The rule shuffles in the official order, so what it picks are places in that order.
    official = np.argsort(train.order)
    picked = subset_indices(train.labels[official], counts, seed)
    return train.subset(np.sort(official[picked]))
