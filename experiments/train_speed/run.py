"""Speed of training: this engine against PyTorch, its overheads, its start.

    python -m experiments.train_speed.run [--parts overhead cifar imagenet startup] [--rounds 5]
                                          [--out experiments/train_speed/results]

All contenders of a part take turns in one process; figures are medians of the rounds. Runs
unchanged on CPU and on GPU. PyTorch is optional: `pip install torch`.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import digits_lt
from experiments import records
from experiments.train_speed.ours import (
    Ours,
    make_config,
    plain_step,
    product_speed,
    synthetic,
)
from experiments.train_speed.overhead import overhead
from experiments.train_speed.startup import startup
from ltjax import config as configs
from ltjax.training.devices import Engine, choose_engine

OVERHEAD = "overhead "  # before the network's name, in the names of parts
# What --parts may name, and the parts of the results that it makes.
PARTS = {
    "overhead": (f"{OVERHEAD}digits", f"{OVERHEAD}resnet32_cifar"),
    "cifar": ("resnet32_cifar",),
    "imagenet": ("resnet50",),
    "startup": ("startup",),
}
DTYPES = ("float32", "bfloat16")
Numbers = dict[str, dict[str, float]]


def baselines(
    name: str, images: Any, labels: Any, batch: int, classes: int, accelerator: bool
) -> dict[str, Callable[[int], None]]:
    """PyTorch's contenders, or none where it is absent."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from experiments.train_speed.pytorch_baseline import PyTorchBaseline

    kinds = {
        "torch eager": {"channels_last": False, "compiled": False},
        "torch eager, channels last": {"channels_last": True, "compiled": False},
        "torch.compile": {"channels_last": True, "compiled": True},
    }
    types = {"float32": False} | ({"bfloat16": True} if accelerator else {})
    return {
        f"{kind}, {dtype}": PyTorchBaseline(
            name, images, labels, batch, classes, bfloat16=half, **settings
        )
        for kind, settings in kinds.items()
        for dtype, half in types.items()
    }


def speed(name: str, size: int, batch: int, classes: int, rounds: int) -> Numbers:
    """Images a second of this engine with several seeds, fused and not, and of PyTorch."""
    devices = jax.devices()
    accelerator = devices[0].platform != "cpu"
    best = choose_engine(devices[0].platform)
    fused = best._replace(steps_per_call=20 if accelerator else 2)
    images, labels = synthetic(size, max(classes, 8 * batch), classes)
    seed_counts = (1, 2, 4, 8) if size < 64 else (1,)
    contenders = baselines(name, images, labels, batch, classes, accelerator)
    seeds_of = dict.fromkeys(contenders, 1)
    common = {"train__batch_size": batch, "train__epochs": 1000}

    def add(seeds: int, engine: Engine, dtype: str, on: list) -> None:
        few = len(on)
        label = f"ltjax, {dtype}, {seeds} seed{'s' * (seeds > 1)}, {few} device{'s' * (few > 1)}"
        label += f", {engine.steps_per_call} steps a call"
        config = make_config(
            name, images, labels, model__dtype=dtype, seeds=tuple(range(seeds)), **common
        )
        contenders[label], seeds_of[label] = Ours(config, on, engine), seeds

    for seeds in seed_counts:
        add(seeds, best._replace(steps_per_call=1), "float32", devices)
    add(1, fused, "float32", devices)
    for count in {1, 2, 4} & set(range(1, len(devices))):
        add(1, best._replace(steps_per_call=1), "float32", devices[:count])
    if accelerator:
        for seeds in seed_counts:
            add(seeds, fused, "float32", devices)
            add(seeds, fused, "bfloat16", devices)
    elif size < 64:
        add(1, best._replace(steps_per_call=1), "bfloat16", devices)
    steps = 40 if accelerator else 2
    times = timing.interleaved(
        {label: partial(contender, steps) for label, contender in contenders.items()}, rounds
    )
    _, flops = plain_step(make_config(name, images, labels, **common))
    peak = {d: product_speed(jnp.dtype(d), 8192 if accelerator else 2048) for d in DTYPES}
    reference = times.get("torch eager, float32")
    rows = {}
    for label, mine in times.items():
        rate = seeds_of[label] * batch * steps / mine.median
        product = peak["bfloat16" if "bfloat16" in label else "float32"]
        rows[label] = {
            "batch_size": batch,
            "images_per_second": rate,
            "cpu_seconds_per_image": float(np.median(mine.cpu)) / (seeds_of[label] * batch * steps),
            "mfu": rate * flops / batch / product,
            "flops_per_image": flops / batch,
            "product_flops": product,
        }
        if reference:
            rows[label]["times_torch_eager"] = seeds_of[label] * mine.times_faster(reference)
    return rows


def overheads(rounds: int) -> timing.Parts:
    """Of the digits' network with whitening, and of ResNet-32."""
    one = {"cpu_devices": 1, "evaluation__every_epochs": 1000, "optimizer__warmup_epochs": 0}
    digits = digits_lt.get_config()
    digits.method, digits.cpu_devices = "cw_la", 1
    # The loop of 50 epochs with its logs and its checkpoint, then 350 steps of the others.
    digits.train.epochs, digits.evaluation.every_epochs = 50 * (rounds + 2), 1000
    digits.train.log_every_steps = 10
    images, labels = synthetic(32, 2048, 10)
    resnet = make_config(
        "resnet32_cifar",
        images,
        labels,
        train__batch_size=128,
        train__epochs=rounds + 2,
        train__log_every_steps=4,
        checkpoint__every_epochs=1,
        **one,
    )
    return {
        f"{OVERHEAD}digits": overhead(configs.resolve(digits), 350),
        f"{OVERHEAD}resnet32_cifar": overhead(resnet, 16),
    }


def networks(parts: timing.Parts) -> timing.Parts:
    """The parts that compare images a second of a network."""
    return {
        name: rows
        for name, rows in parts.items()
        if name != "startup" and not name.startswith(OVERHEAD)
    }


def tables(parts: timing.Parts) -> str:
    """All parts as Markdown."""
    text = []
    overheads = {name: rows for name, rows in parts.items() if name.startswith(OVERHEAD)}
    if overheads:
        text += ["| one device | bare jit, ms | mapped / jit | loop / jit |", "|---|---|---|---|"]
        for name, rows in overheads.items():
            ratios = [rows[kind]["ratio_to_jit"] for kind in ("mapped", "loop")]
            cells = [f"{rows['jit']['milliseconds']:.1f}", *(f"{ratio:.3f}" for ratio in ratios)]
            text.append(f"| {name.removeprefix(OVERHEAD)} | {' | '.join(cells)} |")
        text.append("")
    for name, rows in networks(parts).items():
        batch = next(iter(rows.values()))["batch_size"]
        text += [f"| {name}, batch {batch:.0f} | images/s | x torch eager | MFU |"]
        text += ["|---|---|---|---|"]
        for label, row in rows.items():
            ratio = f"{row['times_torch_eager']:.2f}" if "times_torch_eager" in row else ""
            rate, mfu = row["images_per_second"], row["mfu"]
            text.append(f"| {label} | {rate:.3g} | {ratio} | {mfu:.1%} |")
        text.append("")
    if "startup" in parts:
        rows = parts["startup"]
        text += ["| start to the first step | seconds |", "|---|---|"]
        text.append(f"| cold compilation cache | {rows['cold']['seconds']:.1f} |")
        text.append(f"| warm | {rows['warm']['seconds']:.1f} |")
    return "\n".join(text).rstrip() + "\n"


def figure(parts: timing.Parts, path: Path) -> None:
    """Images a second of every contender as bars."""
    from matplotlib.figure import Figure

    shown = networks(parts)
    heights = [len(rows) for rows in shown.values()]
    page = Figure(figsize=(9, 0.8 + 0.3 * sum(heights)), layout="constrained")
    axes = page.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, rows) in zip(axes, shown.items(), strict=True):
        labels = list(rows)[::-1]
        rates = [rows[label]["images_per_second"] for label in labels]
        colors = ["#d9661f" if label.startswith("torch") else "#1f6fb2" for label in labels]
        bars = axis.barh(labels, rates, color=colors)
        axis.bar_label(bars, fmt="{:.3g}", padding=3, fontsize=8)
        batch = rows[labels[0]]["batch_size"]
        axis.set_title(f"{name}, batch {batch:.0f}: images/s", loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.1)
    page.savefig(path, dpi=120)


def main() -> None:
    """Measures the parts and writes results, tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    kind = jax.devices()[0].device_kind
    accelerator = jax.devices()[0].platform != "cpu"
    file = args.out / f"{kind.lower().replace(' ', '_')}.csv" if args.out else None
    about = records.environment(records.devices())
    if file:
        names = [name for part in args.parts for name in PARTS[part]]
        timing.check(parser, file, names, about)
    parts: timing.Parts = {}
    if "overhead" in args.parts:
        parts |= overheads(args.rounds)
    if "cifar" in args.parts:
        parts["resnet32_cifar"] = speed("resnet32_cifar", 32, 128, 10, args.rounds)
    if "imagenet" in args.parts:
        batch, rounds = (256, args.rounds) if accelerator else (16, 3)
        parts["resnet50"] = speed("resnet50", 224, batch, 1000, rounds)
    if "startup" in args.parts:
        parts["startup"] = startup(args.rounds)
    print("\n" + tables(parts))
    if file:
        parts = timing.write(file, parts, about)  # and those measured before on this machine
        file.with_suffix(".md").write_text(tables(parts))
        if networks(parts):
            figure(parts, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
