"""How fast images come: streamed JPEGs against the bare decoder, resident ones against none.

python -m experiments.input_speed.run --part streamed|resident [--rounds N]
                                      [--out experiments/input_speed/results]
"""

import os

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from experiments import records
from ltjax.augment.host import HostAugment, random_resized_crop
from ltjax.data.decode import decode
from ltjax.data.folder import read_folder
from ltjax.data.stream import Batches, LoadBatch, Stream
from ltjax.samplers import PowerSampler

Rows = dict[str, dict[str, float]]
FIXED = "one fixed batch"
BATCH, STEPS, IMAGES = 64, 16, 512


def write_pictures(root: Path) -> None:
    """500x375 JPEGs of quality 90: smooth scenes with fine noise, about 60 kB each."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = root / f"class{number % 8}"
        folder.mkdir(parents=True, exist_ok=True)
        scene = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = cv2.resize(scene, (500, 375), interpolation=cv2.INTER_CUBIC).astype(float)
        picture += rng.normal(0, 6, picture.shape)
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])


def bare(paths: list[str], threads: int) -> float:
    """Images per second of read, imdecode and resize alone, one thread for each core."""

    def one(path: str) -> np.ndarray:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None  # written by `write_pictures`
        return cv2.resize(picture, (224, 224))

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(one, paths):
            pass
        return len(paths) / (time.perf_counter() - started)


def ours(batches: Batches, load: LoadBatch, workers: int) -> float:
    """Images per second of the stream, once it runs."""
    stream = Stream(batches, load, workers=workers, threads=1 if workers else os.cpu_count() or 1)
    try:
        for step in range(8 if workers else 4):
            stream[step]
        first = 8 if workers else 4
        started = time.perf_counter()
        for step in range(first, first + STEPS):
            stream[step]
        return BATCH * STEPS / (time.perf_counter() - started)
    finally:
        stream.close()


class TorchImages:
    """The same pictures and the same decode for PyTorch's DataLoader."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        cv2.setNumThreads(1)
        image = decode(Path(self.paths[index]).read_bytes(), at_least=448)
        return random_resized_crop(image, np.random.default_rng(index), 224, HostAugment())


def pytorch(paths: list[str], workers: int) -> float:
    """Images per second of PyTorch's DataLoader, from its ninth batch on."""
    import torch.utils.data as data

    drawn = (paths * 4)[: BATCH * (STEPS + 8)]
    loader = iter(
        data.DataLoader(
            TorchImages(drawn),
            BATCH,
            num_workers=workers,
            prefetch_factor=2,
            multiprocessing_context="spawn",
        )
    )
    for _ in range(8):
        next(loader)
    started = time.perf_counter()
    for _ in range(STEPS):
        next(loader)
    return BATCH * STEPS / (time.perf_counter() - started)


def streamed(rounds: int) -> Rows:
    """Images per second of each contender; ratios to the bare decoder."""
    cores = os.cpu_count() or 1
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        paths = [str(p) for p in sorted(Path(folder).rglob("*.jpg"))]
        source = read_folder(folder, size=224)
        batches = PowerSampler(source.labels, BATCH, power=1, seed=0).schedule(10**6)
        load = LoadBatch(source, HostAugment(), 0, False)
        contenders = {
            f"bare OpenCV, {cores} threads": lambda: bare(paths * 2, cores),
            "streamed, threads": lambda: ours(batches, load, 0),
            f"streamed, {cores} workers": lambda: ours(batches, load, cores),
            f"PyTorch DataLoader, {cores} workers": lambda: pytorch(paths, cores),
        }
        values: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, measure in contenders.items():
                values[name].append(measure())
    base = next(iter(values.values()))
    return {
        name: {
            "images_per_second": statistics.median(each),
            "ratio": statistics.median(a / b for a, b in zip(each, base, strict=True)),
            "rounds": rounds,
        }
        for name, each in values.items()
    }


def resident(rounds: int) -> Rows:
    """Seconds of a ResNet-32 step of 128 images: resident input, and one fixed batch."""
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    from experiments.train_speed.ours import make_config, synthetic
    from ltjax.training.build import build
    from ltjax.training.devices import Mapping
    from ltjax.training.multi_seed import Seeds

    images, labels = synthetic(32, 2000, 10)
    mapping = Mapping(jax.local_devices())
    sizes = {"train__batch_size": 128}
    config = make_config("resnet32_cifar", images, labels, augment__flip=True, **sizes)
    plain = make_config("resnet32_cifar", images, labels, **{**sizes, "augment__max_shift": 0})
    own, fixed = (Seeds(build(c), mapping) for c in (config, plain))
    batch = jax.tree.map(lambda x: x[None], fixed._loaders[0][0])
    batch = batch._replace(images=images[batch.indices[0]][None])
    split = jax.device_put(mapping.split(batch, lead=1))

    def step_fixed() -> None:
        fixed.states[0], _ = fixed._train_step(fixed.states[0], fixed._train_data[0], split)
        fixed.block()

    steps = itertools.count()

    def step_own() -> None:
        own.step(own.load(next(steps), 1))
        own.block()

    contenders = {"resident input": step_own, FIXED: step_fixed}
    times = timing.interleaved(contenders, rounds, warm_up=2)
    own.close()
    fixed.close()
    return {
        name: {
            "seconds": found.median,
            "ratio": found.times_faster(times[FIXED]),
            "rounds": rounds,
        }
        for name, found in times.items()
    }


def table(part: str, rows: Rows) -> str:
    """The numbers of a part as Markdown."""
    column, unit, base = (
        ("images_per_second", "images/s", next(iter(rows)))
        if part == "streamed"
        else ("seconds", "s/step", FIXED)
    )
    lines = [f"| input | {unit}, median | of {base}, median of the rounds |", "|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row[column]:.4g} | {row['ratio']:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints, and writes PART.csv and PART.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("streamed", "resident"), default="streamed")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    measure, rounds = (streamed, 7) if args.part == "streamed" else (resident, 25)
    rows = measure(args.rounds or rounds)
    print(table(args.part, rows))
    if args.out:
        about = records.environment(f"{records.cores()} cores")
        timing.write(args.out / f"{args.part}.csv", {args.part: rows}, about)
        (args.out / f"{args.part}.md").write_text(table(args.part, rows))


if __name__ == "__main__":
    main()
