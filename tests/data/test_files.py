"""Folders and list files: classes, labels, cache, bad input."""

import os

import numpy as np
import pytest

from ltjax.data import scan
from ltjax.data.folder import read_folder
from ltjax.data.lists import read_list
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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


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
    listed, own = [], scan._scan
    monkeypatch.setattr(scan, "_scan", lambda *a: listed.append(a) or own(*a))
    again = read_folder(str(root), size=32)
    assert not listed
    assert again.fingerprint() == first.fingerprint()
    (root / "a" / "new.jpg").write_bytes(encoded(picture()))
    changed = read_folder(str(root), size=32)
    assert listed
    assert len(changed) == len(first) + 1
    assert changed.fingerprint() != first.fingerprint()
    (root / "a" / "deep" / "er").mkdir(parents=True)
    read_folder(str(root), size=32)
    (root / "a" / "deep" / "er" / "x.jpg").write_bytes(encoded(picture()))
    assert len(read_folder(str(root), size=32)) == len(first) + 2  # no folder is too deep
    assert not list(root.rglob("*.npz"))  # nothing is written among the images
    assert len(list((tmp_path / ".cache").rglob("*.npz"))) == 1  # and the stale one is replaced


def test_a_cache_belongs_to_a_key(tmp_path):
    from ltjax.data.cache import Cache

    (tmp_path / "file").write_text("no folder")

    def cache(key, name="x"):
        return Cache(tmp_path / "file" / "below", name, key, ("labels",))

    cache("key").store({"labels": np.arange(3)})
    np.testing.assert_array_equal(cache("key").load()["labels"], np.arange(3))
    assert cache("other").load() is None
    assert cache("key", "y").load() is None


def test_names_that_are_not_utf8(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b": 3})
    name = os.fsencode(root / "a") + b"/\xff\xfe.jpg"
    with open(name, "wb") as file:
        file.write(encoded(picture(seed=9)))
    source = read_folder(str(root), size=32)
    assert len(source) == 7
    write_folder(root, {os.fsdecode(b"c\xff"): 1})
    assert read_folder(str(root), size=32).class_names == ("a", "b", r"c\xff")
    assert all(source.view(i).shape == (32, 32, 3) for i in range(7))
    os.truncate(name, 100)
    with pytest.raises(DecodeError, match=r"\\xff\\xfe.jpg cannot be read"):
        source.image(source.reader.paths.index(os.fsdecode(b"a/\xff\xfe.jpg")))


def test_separate_test_folder(tmp_path):
    write_folder(tmp_path / "train", {"a": 3, "b": 4, "c": 5})
    write_folder(tmp_path / "test", {"a": 2, "c": 2})
    train, test, _, notes = load_splits(DataConfig(name="folder", dir=str(tmp_path), **SETTINGS))
    assert train.class_counts.tolist() == [3, 4, 5]
    assert test.class_counts.tolist() == [2, 0, 2]
    assert notes == ("1 class has no test image, and scores are over the others: b",)
    write_folder(tmp_path / "test", {"d": 1})
    with pytest.raises(ValueError, match="class 'd', which the training images lack"):
        load_splits(DataConfig(name="folder", dir=str(tmp_path), **SETTINGS))


def test_folder_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"data.dir = .*nowhere' does not exist"):
        read_folder(str(tmp_path / "nowhere"), size=32)
    with pytest.raises(ValueError, match="has no class folders"):
        read_folder(str(tmp_path), size=32)
    (tmp_path / "set" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="no image in them"):
        read_folder(str(tmp_path / "set"), size=32)


def test_a_class_without_images(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 4, "c": 4})
    (root / "b").mkdir()
    (root / "__MACOSX").mkdir()
    splits = load_splits(DataConfig(name="folder", dir=str(root), **SETTINGS))
    assert splits.train.class_names == ("a", "c")
    assert splits.notes == (
        f"{root}: __MACOSX is skipped, since it holds no class",
        f"class 'b' is left out, since {root}/b has no image",
    )


def test_a_long_tail_as_it_comes(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 1, "b": 2, "c": 3, "d": 9})
    settings = {**SETTINGS, "test_per_class": 2}
    train, test, _, notes = load_splits(DataConfig(name="folder", dir=str(root), **settings))
    assert train.class_counts.tolist() == [1, 1, 1, 7]
    assert test.class_counts.tolist() == [0, 1, 2, 2]
    assert notes == (
        "a class of fewer than 3 images has fewer than 2 test images, all its images but one: b",
        "1 class has no test image, and scores are over the others: a",
    )


def test_what_lies_in_class_folders(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 2, "a/front/left": 1, "b": 2, "b/.hidden": 1})
    (root / "a" / "x.PPM").write_bytes(encoded(picture(seed=7), "ppm"))
    (root / "b" / "x.gif").write_bytes(encoded(picture(seed=8), "gif"))
    (root / "b" / "x.avif").write_bytes(encoded(picture(seed=8), "avif"))
    (root / "b" / "x.pgm").write_bytes(encoded(picture(seed=8)[..., 0], "ppm"))
    for name in ("a/notes.txt", "b/more.TXT", "b/.DS_Store", "b/LICENSE"):
        (root / name).write_text("no image")
    (root / "b" / "again").symlink_to(root / "b")
    notes = []
    source = read_folder(str(root), size=16, note=notes.append)
    assert source.class_counts.tolist() == [4, 5]
    assert all(source.view(i).shape == (16, 16, 3) for i in range(9))
    assert notes == [
        f"{root}: 1 image lies deeper in its class folder, a/front/left/0.jpg, and is read too",
        f"{root}: 3 files are no images and are ignored: 2 .txt, 1 without an ending",
    ]


@pytest.mark.parametrize("name", ["validation", "valid", "Val"])
def test_a_validation_folder_is_for_choosing(tmp_path, name):
    write_folder(tmp_path / "training", {"a": 4, "b": 5})
    write_folder(tmp_path / name, {"a": 2, "b": 1})
    config = DataConfig(name="folder", dir=str(tmp_path), **SETTINGS)
    train, test, validation, notes = load_splits(config)
    assert train.class_counts.tolist() == [2, 3]
    assert test.class_counts.tolist() == [2, 2]
    assert validation.class_counts.tolist() == [2, 1]
    assert "validation part but no test part" in notes[0]
    write_folder(tmp_path / "testing", {"a": 1, "b": 1})
    (tmp_path / "extra").mkdir()
    train, test, validation, notes = load_splits(config)
    assert [len(part) for part in (train, test, validation)] == [9, 2, 3]
    assert notes == (f"beside training, {name}, testing these folders are not read: extra",)
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="has test and testing, which both mean the test part"):
        load_splits(config)


def test_splits_without_training_images(tmp_path):
    write_folder(tmp_path / "test", {"a": 4, "b": 5})
    with pytest.raises(ValueError, match="has test but no folder train"):
        load_splits(DataConfig(name="folder", dir=str(tmp_path), **SETTINGS))


def test_classes_may_be_called_as_splits(tmp_path):
    root = write_folder(tmp_path, {"train": 4, "bus": 5})  # vehicles
    train = load_splits(DataConfig(name="folder", dir=str(root), **SETTINGS)).train
    assert train.class_names == ("bus", "train")


def test_one_class_is_refused(tmp_path):
    root = write_folder(tmp_path, {"a": 4})
    with pytest.raises(ValueError, match=r"all 4 training images are of one class, 'a'"):
        load_splits(DataConfig(name="folder", dir=str(root), **SETTINGS))


def test_list(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b b": 2})
    lines = ["a/0.jpg 0", "a/1.jpg 0", "b b/0.jpg 1", "", "b b/1.jpg 1", "a/2.jpg 0"]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "test.txt").write_text("a/2.jpg 0\n")
    settings = {"path": str(tmp_path / "train.txt"), "test_path": str(tmp_path / "test.txt")}
    train, test, *_ = load_splits(DataConfig(name="list", dir=str(root), **settings, **SETTINGS))
    assert train.labels.tolist() == [0, 0, 1, 1, 0]
    assert test.class_counts.tolist() == [1, 0]
    np.testing.assert_array_equal(train.view(4), test.view(0))


TABLES = {
    "header": "id,Label,file_name\n1,dog,b b/0.jpg\n2,cat,a/0.jpg\n3,cat,a/1.jpg\n",
    "no_header": "b b/0.jpg,dog\n\na/0.jpg,cat\na/1.jpg,cat\n",
    "quoted": '\ufeffpath,label\n"b b/0.jpg",dog\na/0.jpg,cat\na/1.jpg, cat\n',
}


@pytest.mark.parametrize("case", TABLES)
def test_csv(tmp_path, case):
    root = write_folder(tmp_path / "set", {"a": 3, "b b": 2})
    (tmp_path / "list.csv").write_text(TABLES[case], encoding="utf-8")
    source = read_list(str(tmp_path / "list.csv"), str(root), size=32)
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [1, 0, 0]
    assert source.view(0).shape == (32, 32, 3)
    (tmp_path / "test.csv").write_text("path,label\na/2.jpg,cow\n")
    with pytest.raises(ValueError, match=r"line 2: label 'cow' is no class of the training list"):
        read_list(str(tmp_path / "test.csv"), str(root), size=32, classes=source.class_names)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na/0.jpg\n", "line 2: 'a/0.jpg' is not 'path,label'"),
        ('path,label\n"a/0.jpg,1\n', "it is no CSV"),
        ("path,label\n", "is empty"),
        ("img,cls\na/0.jpg,a\n", r"line 1: 'img,cls' names neither .* call them path \(or image,"),
        ("id,img,cls\n1,a/0.jpg,a\n", r"line 1: 'id,img,cls' .* and label \(or class, category"),
        ("path,label\na,0\nb,7\n", "line 3: label 7 is out of range; a list of 2 images"),
    ],
)
def test_csv_bad_input(tmp_path, text, words):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_list(str(tmp_path / "list.csv"), str(tmp_path), size=32)


def test_csv_of_names_without_endings(tmp_path):
    for name in ("0", "1"):
        (tmp_path / name).write_bytes(encoded(picture()))
    (tmp_path / "list.csv").write_text("0,dog\n1,cat\n")
    source = read_list(str(tmp_path / "list.csv"), str(tmp_path), size=32)
    assert source.labels.tolist() == [1, 0]


def test_a_list_for_choosing(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b": 2})
    for name, text in (("train", "a/0.jpg 0\nb/0.jpg 1\n"), ("other", "a/1.jpg 0\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    paths = {"path": tmp_path / "train.txt", "validation_path": tmp_path / "other.txt"}
    paths["test_path"] = tmp_path / "other.txt"
    places = {key: str(path) for key, path in paths.items()}
    splits = load_splits(DataConfig(name="list", dir=str(root), **places, **SETTINGS))
    assert [len(part) for part in splits[:3]] == [2, 1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/0.jpg zero", "'a/0.jpg zero' is not 'path label', .* names give a .csv or .parquet"),
        ("a/0.jpg 0\na/1.jpg -1", "line 2"),
        ("a/0.jpg", "line 1"),
        ("\n", "is empty; it needs lines"),
        ("a/0.jpg 7", "label 7 is out of range; the training list has classes 0 to 1"),
    ],
)
def test_list_bad_input(tmp_path, text, words):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_list(str(tmp_path / "list.txt"), str(tmp_path), size=32, classes=("0", "1"))


def test_missing_and_damaged_images_are_named(tmp_path):
    root = write_folder(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "list.txt").write_text("a/0.jpg 0\na/gone.jpg 0\nb/0.jpg 1\n")
    source = read_list(str(tmp_path / "list.txt"), str(root), size=32)
    with pytest.raises(DecodeError, match=r"a/gone.jpg cannot be read: No such file"):
        source.image(1)
    (root / "b" / "0.jpg").write_text("text")
    with pytest.raises(DecodeError, match=r"b/0.jpg cannot be read: it is not an image"):
        source.view(2)
