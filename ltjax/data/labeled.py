"""What every source of examples knows of its classes."""

import numpy as np

from ltjax.errors import check_labels, require


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
