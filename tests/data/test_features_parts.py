"""Classes of several files of features, and what is said of labels and columns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ltjax.data.features import read_features
from ltjax.data.load import DataConfig, load_splits
from tests.data.test_features import LABELS, ROWS, WORDS, npz

OWN = np.array(["cat", "bee"])  # names of another file, in another order


@pytest.mark.parametrize("key", ["test_path", "validation_path"])
@pytest.mark.parametrize("labels", [LABELS, WORDS], ids=["numbers", "words"])
def test_classes_of_another_file_are_found_by_name(tmp_path, labels, key):
    named = {} if labels is WORDS else {"class_names": ["ant", "bee", "cat"]}
    npz(tmp_path / "x.npz", labels=labels, **named)
    npz(tmp_path / "y.npz", ROWS[:3], np.array([0, 1, 0]), class_names=OWN)
    found = read_features(str(tmp_path / "x.npz"), **{key: str(tmp_path / "y.npz")})
    part = next(one for one in found[1:] if one is not None)
    assert part.labels.tolist() == [2, 1, 2]
    assert part.class_names == ("ant", "bee", "cat")


def test_numbers_of_another_file_may_be_names_themselves(tmp_path):
    npz(tmp_path / "x.npz", labels=np.array(["1", "10", "2"])[LABELS])
    npz(tmp_path / "y.npz", ROWS[:3], np.array([2, 10, 1]))
    test = read_features(str(tmp_path / "x.npz"), str(tmp_path / "y.npz"))[1]
    assert test.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("labels", "given", "reason"),
    [
        (WORDS, {}, "test labels are numbers and training labels are names; give both the same"),
        (WORDS, {"class_names": ["cat", "dog", "ant"]}, "class 'dog', which the training part"),
        (LABELS, {"class_names": ["cat", "dog", "ant"]}, "class 'cat', which the training part"),
        (WORDS, {"class_names": OWN}, "test labels = 2 is not allowed; use numbers from 0 to 1"),
    ],
)
def test_classes_of_another_file_that_training_lacks(tmp_path, labels, given, reason):
    npz(tmp_path / "x.npz", labels=labels)
    npz(tmp_path / "y.npz", **given)
    with pytest.raises(ValueError, match=reason) as caught:
        read_features(str(tmp_path / "x.npz"), str(tmp_path / "y.npz"))
    assert "\n" not in str(caught.value)
    assert f"data.test_path = '{tmp_path / 'y.npz'}'" in str(caught.value)


def _parquet(path, **columns):
    pq.write_table(pa.table(columns), path)


REFUSED = {
    "npz: no labels": ("x.npz", lambda p: np.savez(p, features=ROWS), "give one label for each"),
    "npz: text as objects": (
        "x.npz",
        lambda p: npz(p, labels=WORDS.astype(object)),
        r"'labels' is of the type object, .*; store text as labels.astype\(str\)",
    ),
    "npz: a row without a label": (
        "x.npz",
        lambda p: npz(p, labels=np.where(np.arange(12) == 7, np.nan, LABELS)),
        "row 7 has no label; remove it, or give it one",
    ),
    "npy: no labels": (
        "x.npy",
        lambda p: np.save(p, ROWS),
        "it has no labels; put them beside it, into x.labels.npy or x.labels.txt",
    ),
    "parquet: no column of labels": (
        "x.parquet",
        lambda p: _parquet(p, features=list(ROWS), target=LABELS),
        "it has no labels; call their column label or labels",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_labels_that_are_not_there(tmp_path, what):
    file, write, reason = REFUSED[what]
    write(tmp_path / file)
    with pytest.raises(ValueError, match=reason) as caught:
        read_features(str(tmp_path / file))
    assert "\n" not in str(caught.value)


def splits(path):
    config = DataConfig(name="features", path=str(path), profile="as_is", test_per_class=1)
    return load_splits(config)


def test_labels_that_start_at_one_are_told(tmp_path):
    npz(tmp_path / "x.npz", labels=LABELS + 1)
    (line,) = splits(tmp_path / "x.npz").notes
    assert line == "labels: no row has the label of class 0; it is never predicted"


def test_columns_of_integers_beside_floats_are_told(tmp_path):
    columns = {"age": np.arange(12), "a": ROWS[:, 0], "b": ROWS[:, 1], "label": LABELS}
    _parquet(tmp_path / "x.parquet", **columns, name=WORDS)
    train, *_, notes = splits(tmp_path / "x.parquet")
    assert train.image_shape == (2,)
    assert notes == (
        "columns of integers are not taken as features: age; make them floats if they are some",
    )
    _parquet(tmp_path / "y.parquet", features=list(ROWS), age=np.arange(12), label=LABELS)
    assert not splits(tmp_path / "y.parquet").notes
