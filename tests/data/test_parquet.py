"""Parquet: lists of paths and labels, and image folders of Hugging Face datasets on disk."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ltjax.data.lists import read_list
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.sources import DecodeError
from ltjax.errors import InputError
from tests.data.pictures import encoded, picture, write_folder


def write_images(path, labels, *, names=None, first=0):
    """A file as `datasets` writes it: the bytes of images, labels, and names in the metadata."""
    content = [encoded(picture(seed=first + i), quality=95) for i in range(len(labels))]
    images = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(content)]
    table = pa.table({"image": images, "label": labels})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


def settings(folder):
    return DataConfig(
        name="parquet", dir=str(folder), profile="as_is", image_size=16, test_per_class=1
    )


def test_an_image_folder_of_the_hub(tmp_path):
    names = ["cat", "dog"]
    write_images(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, 1], names=names)
    write_images(tmp_path / "data" / "train-00001-of-00002.parquet", [0, 0], names=names, first=3)
    write_images(tmp_path / "data" / "test-00000-of-00001.parquet", [1], names=names, first=1)
    train, test, validation, _ = load_splits(settings(tmp_path))
    assert train.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 1, 1, 0, 0]
    assert validation is None
    again = pickle.loads(pickle.dumps(train))  # as a worker process gets it
    for i in range(5):
        np.testing.assert_allclose(again.image(i), picture(seed=i), atol=40)
    np.testing.assert_array_equal(test.view(0), train.view(1))
    assert train.reader.name(4).endswith("train-00001-of-00002.parquet row 1")


def test_names_as_labels_and_no_test_part(tmp_path):
    write_images(tmp_path / "train.parquet", ["b", "a", "b", "a"])
    train, test, *_ = load_splits(settings(tmp_path))
    assert train.class_names == ("a", "b")
    assert test.class_counts.tolist() == [1, 1]


def test_classes_of_the_test_part_are_found_by_name(tmp_path):
    write_images(tmp_path / "train.parquet", ["dog", "cat", "dog"])
    write_images(tmp_path / "test.parquet", [0, 1, 1], names=["dog", "cat"])
    assert load_splits(settings(tmp_path)).test.labels.tolist() == [1, 0, 0]
    write_images(tmp_path / "test.parquet", [0, 1, 1])
    with pytest.raises(InputError, match=r"test.parquet: its labels are numbers and training"):
        load_splits(settings(tmp_path))
    write_images(tmp_path / "train.parquet", [0, 1], names=["cat", "dog"])
    assert load_splits(settings(tmp_path)).test.labels.tolist() == [0, 1, 1]


def test_rows_without_an_image_are_named(tmp_path):
    table = pa.table({"image": [{"bytes": b"x"}, {"bytes": None}], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train.parquet")
    write_images(tmp_path / "test.parquet", [0, 1])
    train = load_splits(settings(tmp_path)).train
    for index, reason in enumerate(("it is not an image", "holds no bytes")):
        with pytest.raises(
            DecodeError, match=f"train.parquet row {index} cannot be read: .*{reason}"
        ):
            train.view(index)


@pytest.mark.parametrize("case", ["none", "text", "columns", "unlabeled"])
def test_bad_input(tmp_path, case):
    path = tmp_path / "train.parquet"
    if case == "text":
        path.write_text("no parquet")
    elif case == "columns":
        pq.write_table(pa.table({"text": ["a"], "label": [0]}), path)
    elif case == "unlabeled":
        write_images(path, [0, None, 1])
    words = {
        "none": r"has no file train\*.parquet",
        "text": "cannot be read as Parquet",
        "columns": "has the columns text, label; it needs image and label",
        "unlabeled": "has an image without a label",
    }
    with pytest.raises(InputError, match=words[case]) as refused:
        load_splits(settings(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_list(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 2})
    pq.write_table(
        pa.table({"path": ["a/0.jpg", "a/1.jpg"], "label": [1, 0]}), tmp_path / "l.parquet"
    )
    source = read_list(str(tmp_path / "l.parquet"), str(root), size=16)
    assert source.labels.tolist() == [1, 0]
    assert source.view(1).shape == (16, 16, 3)
    pq.write_table(pa.table({"path": ["a/0.jpg", None], "label": [1, 0]}), tmp_path / "l.parquet")
    with pytest.raises(InputError, match=r"row 2: .* is not path and label"):
        read_list(str(tmp_path / "l.parquet"), str(root), size=16)
    pq.write_table(pa.table({"name": ["a"], "label": [1]}), tmp_path / "l.parquet")
    with pytest.raises(InputError, match=r"columns name, label; it needs path \(or image, file,"):
        read_list(str(tmp_path / "l.parquet"), str(root), size=16)
