"""The networks that the repository has are what their records say."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ltjax.augment.opencv import cv2
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.stream import decode_all
from ltjax.serving.load import load, logits_function
from ltjax.serving.predict import predict
from ltjax.serving.record import RECORD
from ltjax.training.workdir import WEIGHTS
from tests.helpers import SHARED, needs_data

ROOT = Path(__file__).parents[2]
NETWORKS = sorted((ROOT / "networks").iterdir())
pytestmark = pytest.mark.parametrize("folder", NETWORKS, ids=lambda path: path.name)


def test_a_network_is_small_and_names_no_place(folder):
    assert (folder / WEIGHTS).stat().st_size < 2_000_000
    assert not [name for name in RECORD if "/" in (folder / name).read_text()]


@pytest.mark.slow
def test_a_network_predicts_pictures_of_any_size(folder, tmp_path):
    for index, size in enumerate(((32, 32, 3), (90, 40, 3))):
        pixels = np.random.default_rng(index).integers(0, 256, size, np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), pixels)
    network = load(folder)
    predict(network, tmp_path, tmp_path / "out.csv", top_k=1)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.png"]
    assert {row["class_1"] for row in rows} <= set(network.dataset["class_names"])


@pytest.mark.slow
@needs_data
def test_a_network_is_as_good_as_it_says(folder):
    """On 1,000 test images; the accuracy of as many, drawn at random, is within 5 points."""
    network = load(folder)
    source = DataConfig(name=network.dataset["name"], dir=str(SHARED / "tfds"))
    test = load_splits(source).test
    images, _ = decode_all(test.subset(np.arange(1000)), skip_corrupt=False, threads=1)
    logits = jax.jit(logits_function(network))
    found = [np.asarray(logits(block)).argmax(1) for block in np.split(images.images, 10)]
    right = np.mean(np.concatenate(found) == test.labels[:1000])
    result = json.loads((folder / "result.json").read_text())
    assert abs(right - result["test"]["accuracy"]) < 0.05
