"""Features from files of every format, what they may hold, and what is refused in one line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from ltjax.data.features import read_features, read_given
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.rows import FeatureSource
from ltjax.data.statistics import normalization
from tests.data import hostile

ROWS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2] * 4)
WORDS = np.array(["ant", "bee", "cat"])[LABELS]


def npz(path, features=ROWS, labels=LABELS, **more):
    np.savez(path, features=features, labels=labels, **more)


def npy(path, features=ROWS, labels=LABELS):
    np.save(path, features)
    np.save(path.with_suffix(".labels.npy"), labels)


def npy_text(path, features=ROWS, labels=LABELS):
    np.save(path, features)
    path.with_suffix(".labels.txt").write_text("\n".join(map(str, labels)) + "\n")


def safetensors(path, features=ROWS, labels=LABELS):
    names, numbers = np.unique(labels, return_inverse=True)
    said = None if names.dtype.kind == "i" else {"class_names": json.dumps(names.tolist())}
    save_file({"features": features, "labels": numbers.astype(np.int64)}, path, said)


def parquet_list(path, features=ROWS, labels=LABELS):
    table = pa.table({"features": list(features), "label": labels, "name": WORDS})
    pq.write_table(table, path, row_group_size=5)


def parquet_columns(path, features=ROWS, labels=LABELS):
    columns = {f"x{i}": features[:, i] for i in range(features.shape[1])}
    # Categories, as pandas writes them, and a column that is no feature.
    pq.write_table(
        pa.table({"id": range(12), **columns, "labels": pa.array(labels).dictionary_encode()}), path
    )


FORMATS = {
    "npz": (npz, "x.npz"),
    "npy": (npy, "x.npy"),
    "npy and text": (npy_text, "x.npy"),
    "safetensors": (safetensors, "x.safetensors"),
    "parquet, a list": (parquet_list, "x.parquet"),
    "parquet, columns": (parquet_columns, "x.parquet"),
}


@pytest.mark.parametrize("labels", [LABELS, WORDS], ids=["numbers", "words"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_the_same(tmp_path, name, labels):
    write, file = FORMATS[name]
    write(tmp_path / file, labels=labels)
    train, *others = read_features(str(tmp_path / file))
    assert others == [None, None]
    np.testing.assert_array_equal(train.array(), ROWS)
    np.testing.assert_array_equal(train.labels, LABELS)
    assert train.class_names == (("0", "1", "2") if labels is LABELS else ("ant", "bee", "cat"))
    given = read_given(str(tmp_path / file), 3)
    np.testing.assert_array_equal(given.features, ROWS)
    assert given.labels == labels.tolist()
    assert given.names[:2] == (["ant", "bee"] if name == "parquet, a list" else ["0", "1"])


@pytest.mark.parametrize("kind", ["float16", "float64", "int8"])
def test_dtypes(tmp_path, kind):
    rows = (10 * ROWS).astype(kind)
    npz(tmp_path / "x.npz", rows)
    train, *_ = read_features(str(tmp_path / "x.npz"))
    found = train.subset(np.array([3, 1])).array()
    assert found.dtype == (np.float16 if kind == "float16" else np.float32)
    np.testing.assert_array_equal(found, rows[[3, 1]].astype(found.dtype))


def test_npy_is_mapped_and_a_subset_copies_nothing(tmp_path):
    npy(tmp_path / "x.npy")
    train, *_ = load_splits(
        DataConfig(name="features", path=str(tmp_path / "x.npy"), profile="as_is", test_per_class=1)
    )
    assert isinstance(train.features, np.memmap)
    assert len(train) == 9
    np.testing.assert_array_equal(train.rows(np.arange(9)), train.array())


def test_test_part_of_the_same_file_or_of_another(tmp_path):
    path = tmp_path / "x.npz"
    npz(path, labels=WORDS, test_features=ROWS[:2], test_labels=WORDS[:2])
    assert read_features(str(path))[1].labels.tolist() == [0, 1]
    parquet_list(tmp_path / "y.parquet", labels=np.array(["cat"] * 12))
    other = str(tmp_path / "y.parquet")
    for part in read_features(str(path), other, other)[1:]:
        assert part.labels.tolist() == [2] * 12
        assert part.class_names == ("ant", "bee", "cat")


def test_statistics_standardize():
    features = np.c_[ROWS * 1e-4 + 3e-4, np.full(12, 7.7)]  # small scale, and a constant
    source = FeatureSource(features, np.arange(12), LABELS, ("0", "1", "2"))
    mean, std = normalization("dataset", source)
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std[:3], features.std(axis=0)[:3], rtol=1e-3)
    assert std[3] == 1
    with pytest.raises(ValueError, match=r"data\.statistics = 'cifar'"):
        normalization("cifar", source)


def test_fingerprint_tells_rows_and_labels_apart():
    def source(features=ROWS, labels=LABELS):
        return FeatureSource(features, np.arange(12), labels, ("0", "1", "2"))

    changed = ROWS.copy()
    changed[11, 2] += 1
    prints = [source(), source(changed), source(labels=LABELS[::-1]), source().subset(LABELS)]
    assert len({one.fingerprint() for one in prints}) == 4
    assert source(ROWS.astype(np.float64)).fingerprint() == source().fingerprint()


def _parquet(**columns):
    return lambda path: pq.write_table(pa.table(columns), path)


def _bytes(content):
    return lambda path: path.write_bytes(content)


def _repeated(text, times):
    """A column that says one text so many times and holds it once."""
    return pa.DictionaryArray.from_arrays(np.zeros(times, np.int8), pa.array([text]))


def _not_finite(value):
    rows = ROWS.astype(np.float64)
    rows[7, 1] = value
    return rows


HUGE = b"\xff\xff\xff\xff\xff\xff\xff\x7f"
# Name of the file, what writes it, and the reason why it is refused.
REFUSED = {
    "no such file": ("x.npz", lambda path: None, "No such file"),
    "another suffix": ("x.csv", _bytes(b"1,2"), r"use a file \.npz, \.npy"),
    "a folder": ("x.npy", lambda path: path.mkdir(), "it is a folder"),
    "npz: text": ("x.npz", _bytes(b"text"), "not a zip file"),
    "npz: announced larger": ("x.npz", _bytes(hostile.ARCHIVES["cut"][0]), "not a zip file"),
    "npz: no features": ("x.npz", lambda p: np.savez(p, labels=LABELS), "lacks the array"),
    "npz: no labels": ("x.npz", lambda p: np.savez(p, features=ROWS), "no labels"),
    "npz: images": ("x.npz", lambda p: npz(p, np.zeros((12, 2, 2))), r"use numbers \[N, D\]"),
    "npz: no rows": ("x.npz", lambda p: npz(p, ROWS[:0], LABELS[:0]), r"use numbers \[N, D\]"),
    "npz: complex": ("x.npz", lambda p: npz(p, ROWS * 1j), r"use numbers \[N, D\]"),
    "npz: text as features": ("x.npz", lambda p: npz(p, WORDS[:, None]), r"use numbers \[N, D\]"),
    "npz: NaN": ("x.npz", lambda p: npz(p, _not_finite(np.nan)), "feature 1 of row 7 is nan"),
    "npz: infinite": ("x.npz", lambda p: npz(p, _not_finite(1e300)), "row 7 is 1e.300, which"),
    "npz: fewer labels": ("x.npz", lambda p: npz(p, labels=LABELS[:5]), "one for each of 12 rows"),
    "npz: label 12": ("x.npz", lambda p: npz(p, labels=LABELS + 10), "labels from 0 to at most 11"),
    "npz: label -1": ("x.npz", lambda p: npz(p, labels=LABELS - 1), "labels >= 0"),
    "npz: label 0.5": ("x.npz", lambda p: npz(p, labels=LABELS / 2), "an integer dtype"),
    "npz: names": ("x.npz", lambda p: npz(p, class_names=["a", "b"]), "from 0 to 1"),
    "npz: test part": (
        "x.npz",
        lambda p: npz(p, test_features=ROWS[:, :2], test_labels=LABELS),
        "2 features, and the training part 3",
    ),
    "npz: another class": (
        "x.npz",
        lambda p: npz(p, labels=WORDS, test_features=ROWS[:1], test_labels=["dog"]),
        "class 'dog'",
    ),
    "npy: text": ("x.npy", _bytes(b"text"), "cannot be read as .npy"),
    "npy: pickle": ("x.npy", lambda p: np.save(p, np.array([{}]), allow_pickle=True), "as .npy"),
    "npy: announced larger": (
        "x.npy",
        _bytes(hostile.npy(ROWS, shape=(10**12, 3))),
        "cannot be read as .npy",
    ),
    "npy: no labels beside": ("x.npy", lambda p: np.save(p, ROWS), "no labels"),
    "safetensors: text": ("x.safetensors", _bytes(b"text and more"), "as .safetensors"),
    "safetensors: header": ("x.safetensors", _bytes(HUGE + b"{}"), "as .safetensors"),
    "safetensors: cut": (
        "x.safetensors",
        lambda p: (safetensors(p), p.write_bytes(p.read_bytes()[:-9])),
        "as .safetensors",
    ),
    "safetensors: names": (
        "x.safetensors",
        lambda p: save_file({"features": ROWS}, p, {"class_names": "[1]"}),
        "no JSON list of strings",
    ),
    "parquet: text": ("x.parquet", _bytes(b"text"), "as .parquet"),
    "parquet: cut": (
        "x.parquet",
        lambda p: (parquet_list(p), p.write_bytes(p.read_bytes()[:-20])),
        "as .parquet",
    ),
    "parquet: no numbers": ("x.parquet", _parquet(label=[1]), "neither a list column nor float"),
    "parquet: no rows": (
        "x.parquet",
        _parquet(features=pa.array([], pa.list_(pa.float32())), label=pa.array([], pa.int64())),
        "it has no rows",
    ),
    "parquet: two lists": ("x.parquet", _parquet(a=[[1.0]], b=[[1.0]]), "list columns a, b"),
    "parquet: ragged": (
        "x.parquet",
        _parquet(features=[[1.0, 2.0], [1.0]], label=[0, 1]),
        "row 1 has 1 features, and row 0 2",
    ),
    "parquet: no features": (
        "x.parquet",
        _parquet(features=[[1.0], None], label=[0, 1]),
        "rows 0 to 1 has no features",
    ),
    "parquet: an empty number": (
        "x.parquet",
        _parquet(features=[[1.0], [None]], label=[0, 1]),
        "feature 0 of row 1 is nan",
    ),
    "parquet: no label": (
        "x.parquet",
        _parquet(features=[[1.0], [2.0]], label=["a", None]),
        "column label has empty cells",
    ),
    "parquet: no label column": ("x.parquet", _parquet(features=[[1.0]]), "no labels"),
    "parquet: a date": (
        "x.parquet",
        _parquet(features=[[1.0]], label=pa.array([0], pa.date32())),
        "label",
    ),
    "parquet: a time span": (
        "x.parquet",
        _parquet(features=[[1.0]], label=pa.array([0], pa.duration("s"))),
        "labels.dtype = 'timedelta64",
    ),
    "parquet: long labels": (
        "x.parquet",
        _parquet(features=[[1.0]] * 9000, label=_repeated("x" * 10**6, 9000)),
        "has 1000000 characters; use at most 4096",
    ),
    "npz: label 1e300": ("x.npz", lambda p: npz(p, labels=LABELS * 1e300), "an integer dtype"),
    "npy: empty lines": (
        "x.npy",
        lambda p: npy_text(p, labels=["a", "", *LABELS[2:]]),
        "row 1 has an empty label",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(tmp_path, name):
    file, write, reason = REFUSED[name]
    write(tmp_path / file)
    with pytest.raises(ValueError, match=reason) as caught:
        read_features(str(tmp_path / file))
    assert "\n" not in str(caught.value)
    assert f"data.path = '{tmp_path / file}'" in str(caught.value)


def test_other_numbers_of_features_are_not_predicted(tmp_path):
    npz(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="use 4 features"):
        read_given(str(tmp_path / "x.npz"), 4)


def test_numbers_of_a_few_bytes_are_decoded_a_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("ltjax.data.tables._MOST_AT_ONCE", 6)
    parquet_list(tmp_path / "x.parquet")
    train, *_ = read_features(str(tmp_path / "x.parquet"))
    np.testing.assert_array_equal(train.array(), ROWS)
    np.testing.assert_array_equal(train.labels, LABELS)


ODD = {
    "labels of truth": ({"labels": LABELS > 0}, "labels = 'bool' is not allowed"),
    "labels of time": ({"labels": LABELS.astype("M8[ns]")}, "use text or integers"),
    "labels beyond int64": ({"labels": LABELS.astype(np.uint64) + 2**63}, "use integers up to"),
    "half labels": ({"labels": LABELS / 2}, "labels = 'float64' is not allowed"),
    "one text of class names": ({"class_names": np.array("abcdef")}, r"class_names = '<U6 \(\)'"),
    "fewer class names": ({"class_names": ["a", "b"]}, r"a label = \[2\] is not allowed; use"),
    "names of numbers": ({"names": LABELS / 2}, "names = 'float64' is not allowed"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_labels_and_names_are_not_predicted(tmp_path, what):
    arrays, reason = ODD[what]
    npz(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=reason) as caught:
        read_given(str(tmp_path / "x.npz"), 3)
    assert f"--input = '{tmp_path / 'x.npz'}'" in str(caught.value)


def test_whole_floats_are_labels_of_what_is_predicted(tmp_path):
    npz(tmp_path / "x.npz", labels=LABELS.astype(np.float16))
    assert read_given(str(tmp_path / "x.npz"), 3).labels == LABELS.tolist()
