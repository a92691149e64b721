"""What a network is applied to: pictures of a file, a folder, a list or an `.npz`, or features."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ltjax.data.features import read_given
from ltjax.data.lists import LIST_ENDINGS, read_list
from ltjax.errors import InputError, one_line, visible
from ltjax.serving.npz import read_labels, stream_images
from ltjax.serving.pictures import CROP, UnreadableError, decode_file, picture_files

Label = str | int


class Example(NamedTuple):
    """One of the inputs.

    Attributes:
      name: path of a file, or number of a row.
      values: uint8 `[H, W, C]`, or features `[D]`.
      label: its class, as a name or a number; None where the input does not tell.
    """

    name: str
    values: np.ndarray
    label: Label | None = None


class Inputs(NamedTuple):
    """The inputs of a call.

    Attributes:
      files: that are read.
      examples: in order; what cannot be read is left out.
      labeled: whether every example has a label.
    """

    files: list[Path]
    examples: Iterator[Example]
    labeled: bool


def open_inputs(
    source: str | Path,
    shape: tuple[int, ...],
    *,
    threads: int,
    skip: Callable[[str], None],
    ignore: Callable[[str], None],
    crop: float = CROP,
) -> Inputs:
    """Opens the inputs of a network.

    Args:
      source: a picture; a folder, which is searched to the bottom, and the folders in which are
        classes; a list of lines `path label`, relative to its folder; an `.npz` with `images`; for
        features a file that `ltjax.data.features` reads.
      shape: `(H, W, C)` that the network takes, or `(D,)` where it takes features.
      threads: that decode.
      skip: is given a line about each file that cannot be decoded.
      ignore: is given a line about what is no picture by its name.
      crop: see `ltjax.serving.pictures.decode_file`.

    Returns:
      The inputs.

    Raises:
      InputError: there is nothing at `source`, or what there is has another form.
    """
    source = Path(source)
    labels: Sequence[Label | None]
    if len(shape) == 1:
        given = read_given(str(source), shape[0])
        labels = given.labels or [None] * len(given.names)
        rows = zip(given.names, given.features, labels, strict=True)
        examples = (Example(name, x.astype(np.float32), y) for name, x, y in rows)
        return Inputs([source], examples, given.labels is not None)
    if source.suffix == ".npz":
        return _of_npz(source, shape)
    if source.suffix.lower() in LIST_ENDINGS and source.is_file():
        listed = read_list(str(source), str(source.parent), size=shape[0], key="--input")
        files = [source.parent / path for path in listed.reader.paths]  # type: ignore[attr-defined]
        numbered = listed.class_names == tuple(map(str, range(len(listed.class_names))))
        numbers = listed.labels.tolist()
        labels = numbers if numbered else [listed.class_names[label] for label in numbers]
    else:
        files = picture_files(source, note=ignore)
        labels = [_class_of(file, source) for file in files]
    labeled = None not in labels
    pairs = list(zip(files, labels if labeled else [None] * len(files), strict=True))
    return Inputs(files, _decoded(pairs, shape, skip, threads=threads, crop=crop), labeled)


def _class_of(file: Path, root: Path) -> str | None:
    """The folder below the root that a file is in."""
    if file == root:
        return None
    parts = file.relative_to(root).parts
    return visible(parts[0]) if len(parts) > 1 else None


def _of_npz(source: Path, shape: tuple[int, ...]) -> Inputs:
    images, labels = stream_images(str(source), shape), read_labels(str(source))
    if labels is None:
        return Inputs([source], (Example(str(i), x) for i, x in enumerate(images)), False)
    rows = zip(images, labels, strict=False)  # a file that is cut off ends with an error
    return Inputs([source], (Example(str(i), x, y) for i, (x, y) in enumerate(rows)), True)


def _decoded(
    files: list[tuple[Path, Label | None]],
    shape: tuple[int, ...],
    skip: Callable[[str], None],
    *,
    threads: int,
    crop: float,
) -> Iterator[Example]:
    """Pictures in order; no more than a few dozen are in memory."""
    with ThreadPoolExecutor(threads) as pool:
        rest = iter(files)
        under_way = deque(
            (one, pool.submit(decode_file, one[0], shape, crop)) for one in islice(rest, 64)
        )
        while under_way:
            (path, label), future = under_way.popleft()
            for one in islice(rest, 1):
                under_way.append((one, pool.submit(decode_file, one[0], shape, crop)))
            try:
                yield Example(visible(str(path)), future.result(), label)
            except UnreadableError as e:
                skip(str(e))


def batches(examples: Iterator[Example], size: int) -> Iterator[tuple[list[Example], np.ndarray]]:
    """Examples some at a time.

    Args:
      examples: in order.
      size: of a batch.

    Yields:
      The examples of a batch, and their values, the last batch padded with zeros to one compiled
      shape.
    """
    while part := list(islice(examples, size)):
        values = np.stack([one.values for one in part])
        padding = np.zeros((size - len(part), *values.shape[1:]), values.dtype)
        yield part, np.concatenate([values, padding])


def results(
    network: Callable[[np.ndarray], jax.Array],
    examples: Iterator[Example],
    size: int,
    *,
    source: Path,
    skipped: Sequence[str],
) -> Iterator[tuple[list[Example], np.ndarray]]:
    """What a network gives for examples, some at a time.

    The network computes one batch while the caller uses the one before.

    Args:
      network: of a batch of values.
      examples: in order.
      size: of a batch.
      source: that was opened, for the error.
      skipped: a line about each file that could not be decoded; the error gives the first.

    Yields:
      The examples of a batch, and the network's rows for them.

    Raises:
      InputError: there is no example.
    """
    waiting: tuple[list[Example], jax.Array] | None = None
    for of, values in batches(examples, size):
        sent = network(values)
        if waiting:
            yield waiting[0], np.asarray(waiting[1])[: len(waiting[0])]
        waiting = (of, sent)
    if waiting is None:
        first = f" ({skipped[0]})" if skipped else ""
        raise InputError(f"--input {one_line(source)} holds no picture that can be read{first}")
    yield waiting[0], np.asarray(waiting[1])[: len(waiting[0])]
