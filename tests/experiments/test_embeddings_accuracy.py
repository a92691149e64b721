"""The stored accuracies of classifiers on embeddings, and their tables."""

import numpy as np
import pytest

from experiments.embeddings import accuracy


@pytest.fixture(params=accuracy.NAMES)
def path(request):
    return accuracy.RESULTS / f"{request.param}.csv"


def test_stored_tables(path):
    found = accuracy.stored(path)
    assert path.with_suffix(".md").read_text() == accuracy.table(found)
    assert path.with_name(f"{path.stem}_parts.md").read_text() == accuracy.parts(found)


def test_accuracy_is_the_share_of_the_stored_images(path):
    rows, design = accuracy.stored(path)
    for row, seeds in rows.items():
        for seed, result in seeds.items():
            assert result["accuracy"] == pytest.approx(np.mean(design.correct[row][seed]), abs=1e-4)
