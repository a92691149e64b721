"""Fingerprints of the content of a part of the data."""

import dataclasses

import cv2
import numpy as np
import pytest

from ltjax.data.fingerprints import SAMPLE, fingerprint
from ltjax.data.folder import read_folder
from ltjax.data.sources import ArraySource


def source():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    return ArraySource(images, np.array([0, 1, 2, 0, 1, 2]), ("a", "b", "c"))


def test_of_arrays_every_pixel_label_and_name_counts():
    one = source()
    pixels, labels = one.images.copy(), one.labels.copy()
    pixels[5, 3, 3, 2] ^= 1
    labels[5] = 1
    others = [
        dataclasses.replace(one, images=pixels),
        dataclasses.replace(one, labels=labels),
        dataclasses.replace(one, class_names=("a", "c", "b")),
        one.subset(np.arange(5)),
    ]
    assert fingerprint(one) == fingerprint(source())
    assert len({fingerprint(other) for other in [one, *others]}) == 5


@pytest.fixture
def folder(tmp_path):
    for i, image in enumerate(source().images):
        (tmp_path / f"class{i % 2}").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"class{i % 2}" / f"{i}.png"), image)
    return tmp_path


def test_of_files_other_content_under_the_same_name_counts(folder):
    first = read_folder(str(folder), size=4)
    found = fingerprint(first)
    assert fingerprint(read_folder(str(folder), size=4)) == found
    cv2.imwrite(str(folder / "class0" / "2.png"), 255 - source().images[2])
    again = read_folder(str(folder), size=4)
    assert again.fingerprint() == first.fingerprint()  # which knows the names only
    assert fingerprint(again) != found


def test_a_file_that_cannot_be_read_is_no_error_here(folder):
    first = read_folder(str(folder), size=4)
    found = fingerprint(first)
    (folder / "class0" / "2.png").unlink()
    assert fingerprint(first) != found


def test_of_many_files_few_are_read(folder):
    first = read_folder(str(folder), size=4).subset(np.arange(1000) % 6)
    read = []

    class Reader:
        identity = ""

        def read(self, position):
            read.append(position)
            return b"content"

    fingerprint(dataclasses.replace(first, reader=Reader()))
    assert len(read) == SAMPLE
