"""Features of the CIFAR-LT images by EfficientNet-Lite0, kept in a folder outside the repository.

    python -m experiments.embeddings.extract --data-dir TFDS_DIR --cache FOLDER

Each prepared image is computed once, since the long-tailed subsets of all seeds are parts of them.
What is in the folder already is not computed again, so the command can be stopped and repeated.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ltjax.data.files import replacing
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.sources import EncodedSource, Source, Splits
from ltjax.data.stream import decode_all
from ltjax.kernels.allocator import keep_memory
from ltjax.serving.backbone import features_function, load_backbone

WEIGHTS, SIZE, FACTOR = "efficientnet_lite0", 128, 100.0
NAMES = ("cifar100_lt", "cifar10_lt")
# Images of a file, and of a call of the network.
FILE, BATCH = 1024, 64


class Features(NamedTuple):
    """A part of a data set.

    Attributes:
      features: float32 `[N, D]`.
      labels: int `[N]`.
    """

    features: np.ndarray
    labels: np.ndarray


def prepared(name: str, folder: str) -> Splits:
    """All training images that are prepared, and the test images."""
    return load_splits(DataConfig(name=name, dir=folder, profile="as_is"))


def subset(name: str, folder: str, seed: int) -> np.ndarray:
    """Positions, in the prepared training images, of the long-tailed subset of a seed.

    Seed 0 is the subset of the field's papers.
    """
    config = DataConfig(name=name, dir=folder, imbalance_factor=FACTOR, seed=seed)
    train = load_splits(config).train
    assert isinstance(train, EncodedSource)
    return np.asarray(train.positions)


def files(cache: Path, name: str, part: str, count: int) -> list[Path]:
    """The files of a part of a data set, which hold its features in order."""
    return [cache / f"{name}-{part}" / f"{start:06d}.npy" for start in range(0, count, FILE)]


def read(cache: Path, name: str, folder: str) -> tuple[Features, Features]:
    """Features of the prepared training images and of the test images, as `main` left them."""
    splits, parts = prepared(name, folder), []
    for part, source in (("train", splits.train), ("test", splits.test)):
        found = [np.load(path) for path in files(cache, name, part, len(source))]
        parts.append(Features(np.concatenate(found), source.labels))
    return parts[0], parts[1]


def compute(network: Callable[[np.ndarray], jax.Array], source: Source, paths: list[Path]) -> None:
    """Computes the features that are not there yet, a file at a time."""
    for number, path in enumerate(paths):
        if path.exists():
            continue
        places = np.arange(number * FILE, min((number + 1) * FILE, len(source)))
        part = source.subset(places)
        assert isinstance(part, EncodedSource)
        images, _ = decode_all(part, skip_corrupt=False, threads=1)
        padded = images.images[np.arange(-(-len(places) // BATCH) * BATCH) % len(places)]
        blocks = np.split(padded, len(padded) // BATCH)
        found = np.concatenate([np.asarray(network(block)) for block in blocks])[: len(places)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.save(file, found)
        print(f"{path} {len(places)}", flush=True)


def main() -> None:
    """Computes what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    given = parser.parse_args()
    network = jax.jit(features_function(*load_backbone(WEIGHTS), SIZE))
    for name in NAMES:
        splits = prepared(name, given.data_dir)
        for part, source in (("test", splits.test), ("train", splits.train)):
            compute(network, source, files(given.cache, name, part, len(source)))


if __name__ == "__main__":
    keep_memory()
    main()
