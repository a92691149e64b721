"""The data and tables of the experiment on the speed of classifiers on embeddings."""

import numpy as np

from experiments.embeddings.speed import CONTENDERS, Generator, measure, tables


def test_rows_have_classes_that_a_classifier_finds(tmp_path):
    counts = np.array([200, 90, 15])
    Generator(3, features=16).write(tmp_path, counts)
    labels = np.load(tmp_path / "train_labels.npy")
    assert np.bincount(labels).tolist() == counts.tolist()
    assert np.load(tmp_path / "train.npy").shape == (305, 16)
    found = measure("LongTailClassifier('lda')", tmp_path)
    assert found["balanced_accuracy"] > 0.4  # a third by chance
    assert {"many", "medium", "few"} <= set(found)
    assert found["seconds"] > 0


def test_the_table_says_how_many_times_faster():
    row = {"rows": 10.0, "classes": 2.0, "peak_over_features": 1.1, "balanced_accuracy": 0.5}
    each = zip(CONTENDERS, (2.0, 1.0, 30.0), strict=False)
    text = tables({"small": {name: {**row, "seconds": seconds} for name, seconds in each}})
    assert "### small: 10 rows, 2 classes" in text
    assert "| `LongTailClassifier()` | 2.0 | 15.0 | 1.10 | 50.0 |" in text
