"""Which images of a source an evaluation scores: never those that the run was trained on."""

import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np

from ltjax.data.load import DataConfig, Parts, read_parts, split_parts
from ltjax.data.loader import is_resident
from ltjax.data.places import unread_by
from ltjax.data.sources import EncodedSource, Source
from ltjax.data.split import untested_notes
from ltjax.data.stream import decode_all
from ltjax.errors import InputError, shown
from ltjax.training.workdir import FinishedRun


class Scored(NamedTuple):
    """The images that an evaluation scores.

    Attributes:
      images: they themselves.
      part: which part of the source they are, in words.
      notes: what a user should know of how they were read, one line each.
    """

    images: Source
    part: str
    notes: tuple[str, ...]


def read_scored(run: FinishedRun, data: DataConfig) -> Scored:
    """Reads the images to score.

    Args:
      run: the finished run.
      data: the source, that of the run or another.

    Returns:
      The test part of the source. Where it has none: of the data set of the run what was held out
      of the training, of another all images.

    Raises:
      InputError: data that cannot be read or split, or keys that would move the test part of the
        run into what it was trained on.
    """
    parts = read_parts(data)
    # The profile thins the training part only, and another source may be too small for it.
    config = dataclasses.replace(data, profile="as_is")
    if parts.test is not None:
        split, part, whole = split_parts(parts, config), "the test part of the source", parts.test
    elif _is_own(run, data, parts):
        _check_split(stored_data(run), data)
        split, part, whole = split_parts(parts, config), "held out of the training", None
    else:
        whole = parts.train
        split = split_parts(parts._replace(test=whole), config)
        part = "all images of the source, which has no test part"
    notes = split.notes
    if whole is parts.train and list(whole.class_names) == run.dataset["class_names"]:
        trained = np.asarray(run.dataset["class_counts"])
        notes += untested_notes(whole.class_names, trained, split.test.class_counts)
    if whole is not None and len(split.test) < len(whole):
        part += f" but for {len(whole) - len(split.test):,}, since data.limit = {data.limit}"
    return Scored(split.test, part, notes)


def stored_data(run: FinishedRun) -> DataConfig:
    """Where the data of a run is, without files and folders that its source did not read.

    Args:
      run: the finished run.

    Returns:
      The data section of its configuration.
    """
    data = run.config.data
    unread: dict[str, Any] = unread_by(data.name)  # its keys are fields, which mypy cannot see
    return dataclasses.replace(data, **unread)


def _check_split(trained: DataConfig, data: DataConfig) -> None:
    """Refuses keys by which other images would be held out than in the training."""
    changed = [
        name
        for name, empty in (("seed", 0), ("test_per_class", 0), ("test_path", ""))
        if (getattr(trained, name) or empty) != (getattr(data, name) or empty)
    ]
    if changed:
        value, before = (shown(getattr(c, changed[0])) for c in (data, trained))
        raise InputError(
            f"config.data.{changed[0]} = {value} would score images that were trained on; leave it "
            f"out: the test images of the run were set apart with {before}"
        )


def _is_own(run: FinishedRun, data: DataConfig, parts: Parts) -> bool:
    """Whether a source without a test part is the data set of the run, also one that was moved."""
    trained = run.config.data
    if _place(trained) == _place(data):
        return True
    if list(parts.train.class_names) != run.dataset["class_names"]:
        return False
    keys = {name: getattr(trained, name) for name in ("seed", "test_per_class", "limit")}
    own = dataclasses.replace(data, profile="as_is", **keys)
    try:
        held_out = split_parts(parts, own).test
    except InputError:  # too small to be split like it
        return False
    return _same(held_out, run)


def _place(data: DataConfig) -> tuple[str, ...]:
    return data.name, os.path.realpath(data.path), os.path.realpath(data.dir)


def _same(test: Source, run: FinishedRun) -> bool:
    """Whether a part is the test part of the run, whose images may have been decoded first."""
    stored, data = run.dataset["fingerprint"]["test"], run.config.data
    if test.fingerprint() == stored:
        return True
    counts = run.dataset.get("test_counts", test.class_counts.tolist())
    if not isinstance(test, EncodedSource) or not np.array_equal(counts, test.class_counts):
        return False
    if not is_resident("auto", test, len(test), data.resident_megabytes, False):
        return False
    decoded, _ = decode_all(test, skip_corrupt=data.skip_corrupt, threads=data.threads)
    return decoded.fingerprint() == stored
