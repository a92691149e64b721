"""Indices per second and composition of every sampler, beside PyTorch and a Python generator.

    python -m experiments.sampler_speed.run [--lists ../shared/data/lists] [--rounds 15]
                                            [--sets places_lt imagenet_lt zipf_10m]
                                            [--out experiments/sampler_speed/results]

One core; the contenders take turns within every round, and ratios are medians of the ratios
within a round, so that a busy machine slows all of them alike. Needs torch (CPU) besides.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import itertools
import random
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from experiments import records
from ltjax.samplers import (
    SAMPLERS,
    BatchSampler,
    LabelIndex,
    SamplerConfig,
    exposure,
    index_labels,
    make_sampler,
)

BASELINES = ("WeightedRandomSampler", "torch.multinomial", "python_class_aware")


def label_set(name: str, lists: Path) -> tuple[np.ndarray, int]:
    """Labels and batch size of a data set."""
    if name == "places_lt":
        return np.load(lists / "places_lt_train_labels.npy"), 512
    if name == "imagenet_lt":
        counts, batch = np.loadtxt(lists / "imagenet_lt_train_counts.txt", dtype=int), 512
    else:
        rank = 1 / np.arange(1, 10_001)
        counts, batch = np.maximum(rank / rank.sum() * 1e7, 1).astype(int), 1024
        counts[0] += 10_000_000 - counts.sum()
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels), batch


def python_class_aware(index: LabelIndex, each: int, seed: int) -> Iterator[int]:
    """An endless class-aware stream in plain Python, written for speed: lists and cursors."""
    rng = random.Random(seed)
    ends = np.cumsum(index.sizes)
    images = [part.tolist() for part in np.split(index.by_class, ends[:-1])]
    for members in images:
        rng.shuffle(members)
    cursors = [0] * len(images)
    order = list(range(len(images)))
    while True:
        rng.shuffle(order)
        for c in order:
            members, cursor = images[c], cursors[c]
            for _ in range(each):
                if cursor == len(members):
                    rng.shuffle(members)
                    cursor = 0
                yield members[cursor]
                cursor += 1
            cursors[c] = cursor


def contenders(
    index: LabelIndex, samplers: dict[str, BatchSampler]
) -> dict[str, Callable[[int], object]]:
    """Functions that draw one epoch's indices, given its number."""
    import torch

    size = next(iter(samplers.values()))
    total = len(size) * size.batch_size
    weights = (1 / np.maximum(index.counts, 1))[index.labels]
    weighted = torch.utils.data.WeightedRandomSampler(weights.tolist(), total)
    stream = python_class_aware(index, 4, 0)
    next(stream)  # build its lists outside the measured time
    calls: dict[str, Callable[[int], object]] = {
        "WeightedRandomSampler": lambda epoch: list(weighted),
        "torch.multinomial": lambda epoch: torch.multinomial(weighted.weights, total, True),
        "python_class_aware": lambda epoch: list(itertools.islice(stream, total)),
    }
    calls |= {name: sampler.epoch for name, sampler in samplers.items()}
    # Half of its slots are embedded, so two epochs use up one of the balanced sampler, which
    # is kept between them: two are measured and count as two.
    bet = samplers["b3rs_bet"]
    calls["b3rs_bet"] = lambda epoch: (bet.epoch(2 * epoch), bet.epoch(2 * epoch + 1))
    return calls


def measure(calls: dict[str, Callable[[int], object]], rounds: int) -> dict[str, timing.Times]:
    """Seconds of every call for its epoch, the calls taking turns; one round warms up."""
    epochs = {name: itertools.count() for name in calls}
    contenders = {
        name: partial(lambda call, numbers: call(next(numbers)), call, epochs[name])
        for name, call in calls.items()
    }
    times = timing.interleaved(contenders, rounds)
    two = times["b3rs_bet"]  # two epochs a call
    return times | {"b3rs_bet": timing.Times(two.wall / 2, two.cpu / 2)}


def composition(sampler: BatchSampler, labels: np.ndarray) -> dict[str, float]:
    """What an epoch's batches are made of."""
    rows = sampler.epoch(0)
    classes = np.sort(labels[rows], axis=1)
    images = np.sort(rows, axis=1)
    seen = exposure(sampler, labels, 1)
    counts = seen.class_counts
    share = seen.class_epoch / seen.class_epoch.sum()
    rare = counts < 20
    return {
        "classes_per_batch": float((np.diff(classes, axis=1) > 0).sum(1).mean() + 1),
        "repeated_images_per_batch": float((np.diff(images, axis=1) == 0).sum(1).mean()),
        "share_of_draws_below_20_images": float(share[rare].sum()),
        "images_seen_in_an_epoch": float((seen.image_epoch > 0).mean()),
        "most_draws_of_an_image": int(seen.image_epoch.max()),
    }


def peak_bytes(sampler: BatchSampler) -> int:
    """Peak of the memory that an epoch takes, its result included."""
    tracemalloc.start()
    sampler.epoch(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def run_set(name: str, lists: Path, rounds: int) -> dict[str, dict[str, float]]:
    """All numbers of one data set, by contender."""
    labels, batch = label_set(name, lists)
    made: list[LabelIndex] = []
    indexing, _ = timing.timed(lambda: made.append(index_labels(labels)))
    (index,) = made

    def make(sampler: str) -> BatchSampler:
        return make_sampler(SamplerConfig(sampler), index, batch, seed=0, epochs=90)

    samplers = {sampler: make(sampler) for sampler in SAMPLERS}
    times = measure(contenders(index, samplers), rounds)
    total = len(samplers["b3rs"]) * batch
    rows: dict[str, dict[str, float]] = {}
    for contender, taken in times.items():
        rows[contender] = {
            "images": len(labels),
            "classes": len(index.counts),
            "batch_size": batch,
            "rounds": rounds,
            "seconds_to_index_labels": indexing,
            "seconds": taken.median,
            "million_indices_per_second": total / taken.median / 1e6,
            **{f"times_{r}": taken.times_faster(times[r]) for r in BASELINES},
        }
    for sampler in SAMPLERS:
        rows[sampler] |= composition(samplers[sampler], labels)
        rows[sampler]["peak_bytes_per_image"] = peak_bytes(make(sampler)) / len(labels)
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """The numbers of one data set as Markdown."""
    lines = [
        "| plan | million indices/s | x WeightedRandomSampler | x Python class-aware "
        "| classes in a batch | images repeated in a batch | draws of classes below 20 images "
        "| images seen in an epoch | most draws of an image | bytes/image |",
        "|---" * 10 + "|",
    ]
    for name, row in rows.items():
        cells = [
            f"`{name}`",
            f"{row['million_indices_per_second']:.1f}",
            f"{row['times_WeightedRandomSampler']:.1f}",
            f"{row['times_python_class_aware']:.1f}",
        ]
        if "classes_per_batch" in row:
            cells += [
                f"{row['classes_per_batch']:.1f}",
                f"{row['repeated_images_per_batch']:.2f}",
                f"{100 * row['share_of_draws_below_20_images']:.1f}%",
                f"{100 * row['images_seen_in_an_epoch']:.1f}%",
                f"{row['most_draws_of_an_image']:.0f}",
                f"{row['peak_bytes_per_image']:.0f}",
            ]
        lines.append("| " + " | ".join(cells + [""] * (10 - len(cells))) + " |")
    return "\n".join(lines)


def tables(results: timing.Parts) -> str:
    """The tables of all data sets."""
    return "\n\n".join(f"### {name}\n\n{table(rows)}" for name, rows in results.items()) + "\n"


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=Path, default=Path("../shared/data/lists"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sets", nargs="+", default=["places_lt", "imagenet_lt", "zipf_10m"])
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    about = records.environment("1 core")
    if args.out:
        timing.check(parser, args.out / "speed.csv", args.sets, about)
    results: timing.Parts = {}
    for name in args.sets:
        rounds = max(args.rounds // 5, 1) if name == "zipf_10m" else args.rounds
        results[name] = run_set(name, args.lists, rounds)
        print(f"\n{name}\n{table(results[name])}", flush=True)
    if args.out:
        results = timing.write(args.out / "speed.csv", results, about)
        (args.out / "speed.md").write_text(tables(results))


if __name__ == "__main__":
    main()
