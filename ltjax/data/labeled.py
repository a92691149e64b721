"""What every source of examples knows of its classes."""

from collections.abc import Sequence

import numpy as np

from ltjax.errors import InputError, check_labels, one_line, require


class Labeled:
    """Examples with labels.

    Attributes:
      labels: int64 `[N]`, classes `0 ... len(class_names) - 1`.
      class_names: one name per class.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> np.ndarray:
        """Images per class, int64 `[C]`."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def _check(self) -> None:
        labels, top = check_labels(self.labels), len(self.class_names) - 1
        if labels.max() > top:
            require(
                False, "labels.max()", int(labels.max()), f"labels from 0 to {top}, one per class"
            )


def numbered_classes(labels: np.ndarray, of: str = "images") -> tuple[str, ...]:
    """Names of classes that have only numbers.

    Args:
      labels: int `[N]`, >= 0, of the training part.
      of: what has these labels, for the message.

    Returns:
      One number for each class up to the largest, as text.

    Raises:
      InputError: a label that N examples cannot have.

    >>> numbered_classes(np.array([0, 2, 0]))
    ('0', '1', '2')
    """
    top, most = int(labels.max()), len(labels) - 1
    if top > most:
        raise InputError(
            f"labels.max() = {top} is not allowed; use labels from 0 to at most {most}, "
            f"since {len(labels)} {of} have at most as many classes, or give class_names"
        )
    return tuple(str(c) for c in range(top + 1))


def classes_by_name(
    labels: np.ndarray, names: Sequence[str] | None, classes: Sequence[str], what: str
) -> np.ndarray:
    """Class numbers of labels that count something else than the classes of the training part.

    Args:
      labels: int `[N]`, >= 0.
      names: what these numbers name; None where nothing says so, and a number can only be the name
        of a class itself.
      classes: names of the classes of the training part.
      what: what to call `labels` in messages.

    Returns:
      int64 `[N]`, places in `classes`.

    Raises:
      InputError: a number without a name, or a name that is none of the classes.

    >>> classes_by_name(np.array([1, 0, 1]), ["dog", "cat"], ["cat", "dog"], "test labels")
    array([0, 1, 0])
    """
    used, inverse = np.unique(labels, return_inverse=True)
    if names is not None:
        top = len(names) - 1
        allowed = f"numbers from 0 to {top}, one for each of its class_names"
        require(used[-1] <= top, what, int(used[-1]), allowed)
    own = [str(number) if names is None else names[number] for number in used.tolist()]
    place = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in own if name not in place]
    if unknown and names is None:
        raise InputError(
            f"{what} are numbers and training labels are names; give both the same kind"
        )
    if unknown:
        raise InputError(
            f"it has the class {one_line(unknown[0], most=100)!r}, which the training part lacks"
        )
    return np.array([place[name] for name in own], np.int64)[inverse]
