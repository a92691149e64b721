"""TFDS data sets in array_record files, read without TensorFlow."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ltjax.data.cache import Cache
from ltjax.data.sources import EncodedSource
from ltjax.errors import InputError


class TfdsReader:
    """Images of one split; opened again in every process.

    Args:
      name: of the data set, as TFDS takes it.
      folder: TFDS's `data_dir`, or None for its default.
      split: such as "train".
    """

    def __init__(self, name: str, folder: str | None, split: str):
        self._name, self._folder, self._split = name, folder, split
        builder = open_builder(name, folder)
        self.identity = f"{builder.info.full_name} {split}"
        self._records: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_records": None}

    def records(self) -> Any:
        """The data source of TFDS, opened where it is not yet.

        Returns:
          Records by position; images are bytes, or arrays where TFDS can give no bytes.

        Raises:
          InputError: see `open_split`.
        """
        if self._records is None:
            self._records = open_split(self._name, self._folder, self._split)
        return self._records

    def read(self, position: int) -> bytes | np.ndarray:
        """Reads an image.

        Args:
          position: of its record.

        Returns:
          The encoded image, or uint8 `[H, W, C]` where TFDS can give no bytes.
        """
        image = self.records()[position]["image"]
        return np.asarray(image) if not isinstance(image, bytes) else image

    def name(self, position: int) -> str:
        """What to call an image in a message.

        Args:
          position: of its record.

        Returns:
          The data set, the split and the number of the record.
        """
        return f"{self.identity} record {position}"


def open_builder(name: str, folder: str | None) -> Any:
    """Opens a data set of TFDS.

    Args:
      name: of the data set, as TFDS takes it.
      folder: TFDS's `data_dir`, or None for its default.

    Returns:
      Its builder.

    Raises:
      InputError: TFDS has no such data set.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=folder or None)
    except Exception as e:
        where = f"; no such set is prepared in data.dir = {folder!r} either" if folder else ""
        raise InputError(
            f"data.name = {name!r} is no source of ltjax (ltjax explain data.name) and no data set "
            f"of TFDS, whose names are in https://www.tensorflow.org/datasets/catalog{where}"
        ) from e


def open_split(name: str, folder: str | None, split: str) -> Any:
    """Opens a split of a data set of TFDS, without TensorFlow.

    Args:
      name: of the data set, as TFDS takes it.
      folder: TFDS's `data_dir`, or None for its default.
      split: such as "train".

    Returns:
      TFDS's random-access source of the records.

    Raises:
      InputError: the data set has no such split, or is not prepared in array_record files.
    """
    import tensorflow_datasets as tfds

    builder = open_builder(name, folder)
    splits = list(builder.info.splits)
    if splits and split.split("[")[0] not in splits:
        raise InputError(
            f"split {split!r} is none of {name}; set data.train_split and data.test_split to "
            f"some of {', '.join(splits)}"
        )
    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
        try:
            source[0]
        except ModuleNotFoundError:  # simulated data are arrays, and encoding needs TensorFlow
            source = builder.as_data_source(split=split)
    except Exception as e:
        where = f" --data_dir={folder}" if folder else ""
        raise InputError(
            f"data.name = {name!r}: there is no {split} split in array_record files in "
            f"{builder.data_dir}; prepare it once, on a machine with network: pip install "
            f"'ltjax[prepare]' && tfds build {name} --file_format=array_record{where} (or give the "
            "TFDS data_dir that has it as --data)"
        ) from e
    return source


def read_tfds(name: str, folder: str | None, split: str, *, size: int | None) -> EncodedSource:
    """Reads a split's labels, and where there are any, `id` (the official order) and `rank`.

    They are kept in a cache, keyed by the data set's version, split and files.

    Args:
      name: of the data set, as TFDS takes it.
      folder: TFDS's `data_dir`, or None for its default.
      split: such as "train".
      size: side in pixels of the square that the network sees; None takes the data set's fixed
        shape, or 224 where images differ.

    Returns:
      The images, which are read and decoded when they are needed.

    Raises:
      InputError: see `open_builder` and `open_split`; or the features lack `image` or `label`.
    """
    reader = TfdsReader(name, folder, split)
    builder = open_builder(name, folder)
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise InputError(
            f"data.name = {name!r} has the features {', '.join(features)}; it needs image and label"
        )
    names = tuple(features["label"].names or map(str, range(features["label"].num_classes)))
    shape = features["image"].shape
    fixed = shape is not None and None not in shape
    channels = 3 if not fixed or shape[2] in (1, 3, 4) else shape[2]
    key = f"{reader.identity} {_files(builder.data_dir)}"
    cache = Cache(Path(builder.data_dir), f"labels {split}", key, ("labels", "order", "rank"))
    known = None if _is_mocked(builder) else cache.load()
    if known is None:
        known = _scan(reader)
        if not _is_mocked(builder):
            cache.store(known)
    labels = known["labels"]
    return EncodedSource(
        reader,
        np.arange(len(labels), dtype=np.int64),
        labels,
        names,
        size or (shape[0] if fixed and shape[0] == shape[1] else 224),
        channels,
        known.get("order"),
        known.get("rank"),
    )


def _scan(reader: TfdsReader) -> dict[str, np.ndarray]:
    """Labels, official order and rank of all records."""
    records = reader.records()
    columns: dict[str, list] = {"label": [], "id": [], "rank": []}
    for position in range(len(records)):
        record = records[position]
        for name, column in columns.items():
            if name in record:
                column.append(record[name])
    found = {"labels": np.array(columns["label"], np.int64)}
    if columns["id"]:
        found["order"] = np.argsort(np.argsort([official_number(i) for i in columns["id"]]))
    if columns["rank"]:
        found["rank"] = np.array(columns["rank"], np.int64)
    return found


def official_number(identifier: bytes | str) -> int:
    """The number in an example's `id`, which is its place in the data set's official order.

    Args:
      identifier: the `id`.

    Returns:
      The number at its end; 0 where there is none.

    >>> official_number(b"train_00017")
    17
    """
    text = identifier.decode() if isinstance(identifier, bytes) else str(identifier)
    digits = "".join(c for c in text.rpartition("_")[2] if c.isdigit())
    return int(digits or 0)


def _files(folder: str) -> list[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            kept = [e for e in entries if "array_record" in e.name]
            return sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in kept)
    except OSError:
        return []


def _is_mocked(builder: Any) -> bool:
    return not os.path.isdir(str(builder.data_dir))
