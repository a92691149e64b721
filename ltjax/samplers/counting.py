"""How often a sampler shows each class and each image, counted before training."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.errors import require, require_integer
from ltjax.samplers.base import BatchSampler


class Exposure(NamedTuple):
    """How often a sampler draws each class and each image.

    Attributes:
      epochs: epochs of the whole run.
      counted: epochs that were counted; if fewer than `epochs`, the run's draws are scaled up.
      image_epoch: int64 `[N]`, draws of each image in the first epoch.
      image_schedule: float64 `[N]`, draws of each image in the run.
      class_counts: int64 `[C]`, images of each class.
      class_epoch: int64 `[C]`, draws of each class in the first epoch.
      class_schedule: float64 `[C]`, draws of each class in the run.
      class_least: float64 `[C]`, draws in the run of the image of the class drawn least often.
      class_most: float64 `[C]`, draws in the run of the image of the class drawn most often.
    """

    epochs: int
    counted: int
    image_epoch: np.ndarray
    image_schedule: np.ndarray
    class_counts: np.ndarray
    class_epoch: np.ndarray
    class_schedule: np.ndarray
    class_least: np.ndarray
    class_most: np.ndarray


def exposure(
    sampler: BatchSampler,
    labels: np.ndarray,
    epochs: int,
    *,
    num_classes: int = 0,
    most_draws: float = 2e8,
) -> Exposure:
    """Counts a sampler's draws per class and per image, in one epoch and in a whole run.

    Args:
      sampler: any sampler.
      labels: int `[N]`, labels of its images.
      epochs: epochs of the run, >= 1.
      num_classes: `C`; needed only if there are classes without images beyond the largest label.
      most_draws: if the run has more draws than this, only evenly spaced epochs of it are counted,
        and the counts are scaled up.

    Returns:
      The counts.

    Raises:
      InputError: `epochs` or `most_draws` out of range.

    Source: ours.

    >>> from ltjax.samplers import PowerSampler
    >>> labels = np.array([0, 0, 0, 1])
    >>> exposure(PowerSampler(labels, 4, power=0, seed=0), labels, 10).class_schedule.tolist()
    [20.0, 20.0]
    """
    epochs = require_integer("epochs", epochs, 1)
    require(most_draws > 0, "most_draws", most_draws, "a number > 0")
    per_epoch = len(sampler) * sampler.batch_size
    counted = int(np.clip(most_draws // per_epoch, 1, epochs))
    size = len(labels)
    first = np.bincount(sampler.epoch(0).ravel(), minlength=size)
    total = np.zeros(size, np.int64)
    for epoch in np.unique(np.linspace(0, epochs - 1, counted).astype(int)).tolist():
        total += np.bincount(sampler.epoch(epoch).ravel(), minlength=size) if epoch else first
    schedule = total * (epochs / counted)
    counts = np.bincount(labels, minlength=num_classes)
    least = np.full(len(counts), np.inf)
    most = np.zeros(len(counts))
    np.minimum.at(least, labels, schedule)
    np.maximum.at(most, labels, schedule)
    return Exposure(
        epochs,
        counted,
        first,
        schedule,
        counts,
        np.bincount(labels, weights=first, minlength=num_classes).astype(np.int64),
        np.bincount(labels, weights=schedule, minlength=num_classes),
        np.where(counts > 0, least, 0.0),
        most,
    )


def summary(seen: Exposure) -> dict[str, Any]:
    """The part of an exposure that a report shows: everything per class, nothing per image.

    Args:
      seen: what `exposure` returns.

    Returns:
      `epochs`, `counted`, and the arrays per class as lists, ready for JSON.

    Source: ours.
    """
    names = ("class_counts", "class_epoch", "class_schedule", "class_least", "class_most")
    arrays = {name: getattr(seen, name).tolist() for name in names}
    return {"epochs": seen.epochs, "counted": seen.counted, **arrays}


def sentence(seen: dict[str, Any], class_names: Sequence[str]) -> str:
    """One sentence: how often the images of the smallest and of the largest class will be seen.

    Args:
      seen: what `summary` returns.
      class_names: names of all classes, `C` of them.

    Returns:
      The sentence, without a final period or newline.

    Source: ours.
    """
    counts = np.array(seen["class_counts"])
    present = np.flatnonzero(counts)
    rare = int(present[np.argmin(counts[present])])
    common = int(np.argmax(counts))
    about = "" if seen["counted"] == seen["epochs"] else "about "

    def words(c: int) -> str:
        least, most = round(seen["class_least"][c]), round(seen["class_most"][c])
        mean = round(seen["class_schedule"][c] / counts[c])
        spread = "" if least == most else f" ({least:,} to {most:,})"
        return f"{about}{mean:,} times{spread}"

    def image(c: int) -> str:
        return f"(class {class_names[c]}, {counts[c]:,} image{'s' if counts[c] > 1 else ''})"

    return (
        f"in {seen['epochs']:,} epoch{'s' if seen['epochs'] > 1 else ''} the rarest image "
        f"{image(rare)} will be seen {words(rare)}, the most common {image(common)} {words(common)}"
    )


def table(
    seen: dict[str, Any], class_names: Sequence[str], *, most_rows: int = 12
) -> list[tuple[str, ...]]:
    """A table of the classes: images, draws, share of the draws, and how often an image is seen.

    Args:
      seen: what `summary` returns.
      class_names: names of all classes, `C` of them.
      most_rows: if there are more classes, this many of them are shown, evenly spaced by rank.

    Returns:
      A header, then one row per class, most images first, as text.

    Source: ours.
    """
    counts = np.array(seen["class_counts"])
    order = np.argsort(-counts, kind="stable")
    if len(order) > most_rows:
        order = order[np.linspace(0, len(order) - 1, most_rows).round().astype(int)]
    drawn = sum(seen["class_epoch"])
    rows: list[tuple[str, ...]] = [
        ("class", "images", "draws in an epoch", "share of draws", "times an image is seen")
    ]
    for c in order.tolist():
        least, most = round(seen["class_least"][c]), round(seen["class_most"][c])
        rows.append(
            (
                str(class_names[c]),
                f"{counts[c]:,}",
                f"{seen['class_epoch'][c]:,}",
                f"{100 * seen['class_epoch'][c] / drawn:.2g}%",
                f"{most:,}" if least == most else f"{least:,} to {most:,}",
            )
        )
    return rows
