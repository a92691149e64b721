"""What every source of examples knows of its classes."""

import numpy as np

from ltjax.errors import InputError, check_labels, require


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
