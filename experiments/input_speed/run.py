"""How fast images come: streamed JPEGs against the bare decoder, resident ones against none.

python -m experiments.input_speed.run [--part streamed|resident]
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from ltjax.augment.host import HostAugment, random_resized_crop
from ltjax.data.decode import decode
from ltjax.data.folder import read_folder
from ltjax.data.stream import LoadRows, PlanRows, Stream
from ltjax.samplers.baselines import PowerSampler

RESULTS = Path(__file__).parent / "results"
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
        return cv2.resize(picture, (224, 224))

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(one, paths):
            pass
        return len(paths) / (time.perf_counter() - started)


def ours(rows: PlanRows, load: LoadRows, workers: int) -> float:
    """Images per second of the stream, once it runs."""
    stream = Stream(rows, load, workers=workers, threads=1 if workers else os.cpu_count() or 1)
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


def rival(paths: list[str], workers: int) -> float:
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


def streamed(rounds: int) -> dict[str, list[float]]:
    """Images per second of each contender, one entry a round."""
    cores = os.cpu_count() or 1
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        paths = [str(p) for p in sorted(Path(folder).rglob("*.jpg"))]
        source = read_folder(folder, size=224)
        rows = PlanRows(PowerSampler(source.labels, BATCH, power=1, seed=0), 10**6)
        load = LoadRows(source, HostAugment(), 0, False)
        contenders = {
            f"bare OpenCV, {cores} threads": lambda: bare(paths * 2, cores),
            "streamed, threads": lambda: ours(rows, load, 0),
            f"streamed, {cores} workers": lambda: ours(rows, load, cores),
            f"PyTorch DataLoader, {cores} workers": lambda: rival(paths, cores),
        }
        values: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, measure in contenders.items():
                values[name].append(measure())
    return values


def resident(rounds: int) -> dict[str, list[float]]:
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
    own, fixed = (Seeds(c, build(c), mapping) for c in (config, plain))
    batch = jax.tree.map(lambda x: x[None], fixed._loaders[0][0])
    batch = batch._replace(images=images[batch.indices[0]][None])
    split = jax.device_put(mapping.split(batch, lead=1))

    def step_fixed() -> None:
        fixed.states[0], _ = fixed._train_step(fixed.states[0], fixed._train_data[0], split)
        fixed.block()

    def step_own(step: int) -> None:
        own.step(step, 1)
        own.block()

    values: dict[str, list[float]] = {"resident input": [], "one fixed batch": []}
    for step in range(rounds + 2):
        started = time.perf_counter()
        step_own(step)
        between = time.perf_counter()
        step_fixed()
        if step >= 2:
            values["resident input"].append(between - started)
            values["one fixed batch"].append(time.perf_counter() - between)
    own.close()
    fixed.close()
    return values


def main() -> None:
    """Measures and writes results/PART.json and results/PART.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("streamed", "resident"), default="streamed")
    parser.add_argument("--rounds", type=int)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    measure, rounds = (streamed, 7) if args.part == "streamed" else (resident, 25)
    values = measure(args.rounds or rounds)
    base = next(iter(values)) if args.part == "streamed" else "one fixed batch"
    unit = "images/s" if args.part == "streamed" else "s/step"
    rows = [f"| input | {unit}, median | of {base}, median of the rounds |", "|---|---|---|"]
    for name, each in values.items():
        ratios = [a / b for a, b in zip(each, values[base], strict=True)]
        rows.append(f"| {name} | {statistics.median(each):.4g} | {statistics.median(ratios):.3f} |")
    names = ("jax", "grain", "opencv-python-headless", "torch", "numpy")
    facts = {
        "command": f"python -m experiments.input_speed.run --part {args.part}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
        "unit": unit,
        "values": values,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{args.part}.json").write_text(json.dumps(facts, indent=1) + "\n")
    (RESULTS / f"{args.part}.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
