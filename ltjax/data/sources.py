"""Random-access image sources: labels known at once, images by index."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ltjax.augment.host import center_crop
from ltjax.data.decode import DecodeError, decode
from ltjax.data.labeled import Labeled
from ltjax.data.rows import FeatureSource
from ltjax.errors import require


class Reader(Protocol):
    """Where the images of an `EncodedSource` come from; can be sent to another process."""

    @property
    def identity(self) -> str:
        """What is read, for fingerprints."""
        ...

    def read(self, position: int) -> bytes | np.ndarray:
        """Reads an image.

        Args:
          position: its place in what is read.

        Returns:
          The content of its file, or uint8 `[H, W, C]`.
        """
        ...

    def name(self, position: int) -> str:
        """What to call an image in a message.

        Args:
          position: its place in what is read.

        Returns:
          Its path, or its place in the data set.
        """
        ...


@dataclass(frozen=True)
class ArraySource(Labeled):
    """Images held in memory.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int64 `[N]`, classes `0 ... len(class_names) - 1`.
      class_names: one name per class.
      order: int64 `[N]`, place in the data set's official order; None is the order here.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    order: np.ndarray | None = None

    def __post_init__(self):
        require(
            self.images.ndim == 4 and self.images.dtype == np.uint8,
            "images",
            f"{self.images.dtype} {self.images.shape}",
            "uint8 [N, H, W, C]",
        )
        require(
            len(self.labels) == len(self.images),
            "len(labels)",
            len(self.labels),
            f"one label for each of the {len(self.images)} images",
        )
        self._check()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(H, W, C)`."""
        return self.images.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels."""
        return self.images.dtype

    def subset(self, indices: np.ndarray) -> "ArraySource":
        """The source of some of the images.

        Args:
          indices: int `[M]`, of the images, in the order that they are to have.

        Returns:
          A source of M images with the same classes.
        """
        order = None if self.order is None else self.order[indices]
        return ArraySource(self.images[indices], self.labels[indices], self.class_names, order)

    def array(self) -> np.ndarray:
        """The images as one array, to be placed on a device.

        Returns:
          uint8 `[N, H, W, C]`.
        """
        return self.images

    def fingerprint(self) -> str:
        """A short hash of the pixels and labels.

        Returns:
          16 hexadecimal digits.
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        digest.update(str(self.images.shape).encode() + self.labels.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def encoded(self) -> "EncodedSource":
        """The same images behind a reader, to be streamed.

        Returns:
          A source that takes its images from this one.
        """
        positions = np.arange(len(self), dtype=np.int64)
        shape, reader = self.image_shape, _ArrayReader(self.images, self.fingerprint())
        return EncodedSource(
            reader, positions, self.labels, self.class_names, shape[0], shape[2], self.order
        )


@dataclass(frozen=True)
class EncodedSource(Labeled):
    """Images that are read and decoded when they are needed.

    Attributes:
      reader: where they come from.
      positions: int64 `[N]`, of the images, for the reader.
      labels: int64 `[N]`.
      class_names: one name per class.
      size: pixels of the square that the network sees.
      channels: 3, or what an array has.
      order: int64 `[N]`, place in the data set's official order; None is the order here.
      rank: int64 `[N]`, place in the reference shuffle of its class, where the data set has it.
    """

    reader: Reader
    positions: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    size: int
    channels: int = 3
    order: np.ndarray | None = None
    rank: np.ndarray | None = None

    def __post_init__(self):
        self._check()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(H, W, C)`."""
        return (self.size, self.size, self.channels)

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels."""
        return np.dtype(np.uint8)

    def subset(self, indices: np.ndarray) -> "EncodedSource":
        """The source of some of the images.

        Args:
          indices: int `[M]`, of the images, in the order that they are to have.

        Returns:
          A source of M images with the same classes.
        """
        order, rank = (None if x is None else x[indices] for x in (self.order, self.rank))
        return EncodedSource(
            self.reader,
            self.positions[indices],
            self.labels[indices],
            self.class_names,
            self.size,
            self.channels,
            order,
            rank,
        )

    def fingerprint(self) -> str:
        """A short hash of what is read, of which images and of their labels, but not of pixels.

        Returns:
          16 hexadecimal digits.
        """
        digest = hashlib.sha256(f"{self.reader.identity} {self.image_shape}".encode())
        digest.update(self.positions.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def image(self, index: int, *, at_least: int | None = None) -> np.ndarray:
        """Reads and decodes an image, in its own size.

        Args:
          index: of the image.
          at_least: see `ltjax.data.decode.decode`.

        Returns:
          uint8 `[H, W, C]`.

        Raises:
          DecodeError: it is missing or damaged; the message names it.
        """
        position = int(self.positions[index])
        try:
            found = self.reader.read(position)
            return found if isinstance(found, np.ndarray) else decode(found, at_least=at_least)
        except OSError as e:
            reason = e.strerror or str(e)
        except DecodeError as e:
            reason = str(e)
        raise DecodeError(f"image {self.reader.name(position)} cannot be read: {reason}")

    def view(self, index: int) -> np.ndarray:
        """The image as evaluation sees it: its central square.

        The shorter side is resized to 8/7 of `size`.

        Args:
          index: of the image.

        Returns:
          uint8 `[size, size, C]`; a gray image may have one channel where the source has three.

        Raises:
          DecodeError: it is missing or damaged; the message names it.
        """
        image = self.image(index, at_least=round(self.size / 0.875))
        return center_crop(image, self.size)


# Images in memory or behind a reader, or given features in their place.
Source = ArraySource | EncodedSource | FeatureSource


@dataclass(frozen=True)
class _ArrayReader:
    images: np.ndarray
    identity: str

    def read(self, position: int) -> np.ndarray:
        """The image itself."""
        return self.images[position]

    def name(self, position: int) -> str:
        """Its number."""
        return f"number {position}"


class Splits(NamedTuple):
    """The parts of a data set.

    Attributes:
      train: training images, long-tailed.
      test: test images.
      validation: images for choosing, never for the final score; None where the data set has none
        of its own.
      notes: what a user should know of how the data was read, one line each.
    """

    train: Source
    test: Source
    validation: Source | None = None
    notes: tuple[str, ...] = ()
