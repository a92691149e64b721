"""Folders and list files: classes, labels, cache, bad input."""

import os

import numpy as np
import pytest

from ltjax.data.folder import read_folder, read_list
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.sources import DecodeError
from tests.data.pictures import encoded, picture, write_folder

SETTINGS = {
    "profile": "as_is",
    "imbalance_factor": 10.0,
    "test_per_class": 2,
    "seed": 0,
    "image_size": 32,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("LTJAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_folder(tmp_path):
    root = write_folder(tmp_path / "set", {"b": 3, "a": 2, "ü": 4})
    (root / "a" / "notes.txt").write_text("no image")
    (root / "readme.md").write_text("no class")
    source = read_folder(str(root), size=32)
    assert source.class_names == ("a", "b", "ü")
    assert source.class_counts.tolist() == [2, 3, 4]
    np.testing.assert_allclose(source.image(2), picture(seed=0), atol=40)
    assert source.view(0).shape == (32, 32, 3)


def test_second_start_reads_the_cache(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "set", {"a": 2, "b": 3})
    first = read_folder(str(root), size=32)
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda p: listed.append(p) or real(p))
    again = read_folder(str(root), size=32)
    assert not listed
    assert again.fingerprint() == first.fingerprint()
    (root / "a" / "new.jpg").write_bytes(encoded(picture()))
    changed = read_folder(str(root), size=32)
    assert listed
    assert len(changed) == len(first) + 1
    assert changed.fingerprint() != first.fingerprint()


def test_unwritable_data_keeps_its_cache_at_home(tmp_path):
    from ltjax.data.cache import Cache

    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file" / "below", "x", "key", ("labels",))
    cache.store({"labels": np.arange(3)})
    np.testing.assert_array_equal(cache.load()["labels"], np.arange(3))
    assert Cache(tmp_path / "file" / "below", "x", "other", ("labels",)).load() is None


def test_names_that_are_not_utf8(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b": 3})
    name = os.fsencode(root / "a") + b"/\xff\xfe.jpg"
    with open(name, "wb") as file:
        file.write(encoded(picture(seed=9)))
    source = read_folder(str(root), size=32)
    assert len(source) == 7
    (root / os.fsdecode(b"c\xff")).mkdir()
    assert read_folder(str(root), size=32).class_names == ("a", "b", r"c\xff")
    assert all(source.view(i).shape == (32, 32, 3) for i in range(7))
    os.truncate(name, 100)
    with pytest.raises(DecodeError, match=r"\\xff\\xfe.jpg cannot be read"):
        source.image(source.reader.paths.index(os.fsdecode(b"a/\xff\xfe.jpg")))


def test_separate_test_folder(tmp_path):
    write_folder(tmp_path / "train", {"a": 3, "b": 4, "c": 5})
    write_folder(tmp_path / "test", {"a": 2, "c": 2})
    train, test = load_splits(DataConfig(name="folder", dir=str(tmp_path), **SETTINGS))
    assert train.class_counts.tolist() == [3, 4, 5]
    assert test.class_counts.tolist() == [2, 0, 2]
    (tmp_path / "test" / "d").mkdir()
    with pytest.raises(ValueError, match="class 'd', which the training images lack"):
        load_splits(DataConfig(name="folder", dir=str(tmp_path), **SETTINGS))


def test_folder_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"data.dir = .*nowhere"):
        read_folder(str(tmp_path / "nowhere"), size=32)
    with pytest.raises(ValueError, match="has no class folders"):
        read_folder(str(tmp_path), size=32)
    (tmp_path / "set" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="no image in them"):
        read_folder(str(tmp_path / "set"), size=32)


def test_a_class_without_images(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 4, "c": 4})
    (root / "b").mkdir()
    assert read_folder(str(root), size=32).class_counts.tolist() == [4, 0, 4]
    with pytest.raises(ValueError, match="the smallest class has 0 images"):
        load_splits(DataConfig(name="folder", dir=str(root), **SETTINGS))


def test_list(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b b": 2})
    lines = ["a/0.jpg 0", "a/1.jpg 0", "b b/0.jpg 1", "", "b b/1.jpg 1", "a/2.jpg 0"]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "test.txt").write_text("a/2.jpg 0\n")
    settings = {"path": str(tmp_path / "train.txt"), "test_path": str(tmp_path / "test.txt")}
    train, test = load_splits(DataConfig(name="list", dir=str(root), **settings, **SETTINGS))
    assert train.labels.tolist() == [0, 0, 1, 1, 0]
    assert test.class_counts.tolist() == [1, 0]
    np.testing.assert_array_equal(train.view(4), test.view(0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/0.jpg zero", "line 1: 'a/0.jpg zero' is not 'path label'"),
        ("a/0.jpg 0\na/1.jpg -1", "line 2"),
        ("a/0.jpg", "line 1"),
        ("\n", "is empty; it needs lines"),
        ("a/0.jpg 7", "label 7 is out of range; the training list has classes 0 to 1"),
    ],
)
def test_list_bad_input(tmp_path, text, words):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_list(str(tmp_path / "list.txt"), str(tmp_path), size=32, classes=2)


def test_missing_and_damaged_images_are_named(tmp_path):
    root = write_folder(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "list.txt").write_text("a/0.jpg 0\na/gone.jpg 0\nb/0.jpg 1\n")
    source = read_list(str(tmp_path / "list.txt"), str(root), size=32)
    with pytest.raises(DecodeError, match=r"a/gone.jpg cannot be read: No such file"):
        source.image(1)
    (root / "b" / "0.jpg").write_text("text")
    with pytest.raises(DecodeError, match=r"b/0.jpg cannot be read: it is not an image"):
        source.view(2)
