"""Speed of training: this engine against PyTorch, its overheads, its start.

    python -m experiments.train_speed.run [--parts overhead cifar imagenet startup] [--rounds 5]
                                          [--out experiments/train_speed/results]

All contenders of a part take turns in one process; figures are medians of the rounds. Runs
unchanged on CPU and on GPU. PyTorch is optional: `pip install torch`.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import digits_lt
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
from ltjax.training.build import versions
from ltjax.training.devices import Engine, choose_engine

PARTS = ("overhead", "cifar", "imagenet", "startup")
COMMAND = "python -m experiments.train_speed.run --out experiments/train_speed/results"


def take_turns(contenders: dict[str, Callable[[int], None]], steps: int, rounds: int) -> dict:
    """Seconds a step of every contender, `[rounds]`."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for name, contender in contenders.items():
        started = time.perf_counter()
        contender(steps)
        print(f"  {name}: first steps {time.perf_counter() - started:.1f} s", flush=True)
    for _ in range(rounds):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender(steps)
            seconds[name].append((time.perf_counter() - started) / steps)
    return seconds


def rivals(name: str, images, labels, batch: int, classes: int, accelerator: bool) -> dict:
    """PyTorch's contenders, or none where it is absent."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from experiments.train_speed.rival import Rival

    kinds = {
        "torch eager": {"channels_last": False, "compiled": False},
        "torch eager, channels last": {"channels_last": True, "compiled": False},
        "torch.compile": {"channels_last": True, "compiled": True},
    }
    types = {"float32": False} | ({"bfloat16": True} if accelerator else {})
    return {
        f"{kind}, {dtype}": Rival(name, images, labels, batch, classes, bfloat16=half, **settings)
        for kind, settings in kinds.items()
        for dtype, half in types.items()
    }


def speed(name: str, size: int, batch: int, classes: int, rounds: int) -> dict[str, Any]:
    """Images a second of this engine with several seeds, fused and not, and of PyTorch."""
    devices = jax.devices()
    accelerator = devices[0].platform != "cpu"
    best = choose_engine(devices[0].platform)
    fused = best._replace(steps_per_call=20 if accelerator else 2)
    images, labels = synthetic(size, max(classes, 8 * batch), classes)
    seed_counts = (1, 2, 4, 8) if size < 64 else (1,)
    contenders: dict[str, Any] = rivals(name, images, labels, batch, classes, accelerator)
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
    seconds = take_turns(contenders, steps, rounds)
    _, flops = plain_step(make_config(name, images, labels, **common))
    peak = {d: product_speed(jnp.dtype(d), 8192 if accelerator else 2048) for d in DTYPES}
    reference = seconds.get("torch eager, float32")
    rows = {}
    for label, times in seconds.items():
        rate = seeds_of[label] * batch / float(np.median(times))
        kind = "bfloat16" if "bfloat16" in label else "float32"
        ratio = None
        if reference:
            ratio = seeds_of[label] * float(np.median(np.array(reference) / np.array(times)))
        rows[label] = {
            "images_per_second": rate,
            "of_torch_eager": ratio,
            "mfu": rate * flops / batch / peak[kind],
        }
    return {"batch": batch, "rows": rows, "flops_per_image": flops / batch, "product_flops": peak}


DTYPES = ("float32", "bfloat16")


def overheads(rounds: int) -> dict[str, Any]:
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
        "digits": overhead(configs.resolve(digits), 350),
        "resnet32_cifar": overhead(resnet, 16),
    }


def tables(content: dict[str, Any]) -> str:
    """All parts as Markdown."""
    text = []
    if "overhead" in content:
        text += ["| one device | bare jit, ms | mapped / jit | loop / jit |", "|---|---|---|---|"]
        for name, part in content["overhead"].items():
            ms, ratio = part["milliseconds"]["jit"], part["ratio_to_jit"]
            text.append(f"| {name} | {ms:.1f} | {ratio['mapped']:.3f} | {ratio['loop']:.3f} |")
        text.append("")
    for name, part in content.get("speed", {}).items():
        text += [f"| {name}, batch {part['batch']} | images/s | x torch eager | MFU |"]
        text += ["|---|---|---|---|"]
        for label, row in part["rows"].items():
            ratio = "" if row["of_torch_eager"] is None else f"{row['of_torch_eager']:.2f}"
            rate, mfu = row["images_per_second"], row["mfu"]
            text.append(f"| {label} | {rate:.3g} | {ratio} | {mfu:.1%} |")
        text.append("")
    if "startup" in content:
        part = content["startup"]
        text += ["| start to the first step | seconds |", "|---|---|"]
        text.append(f"| cold compilation cache | {part['cold_seconds']:.1f} |")
        text.append(f"| warm | {part['warm_seconds']:.1f} |")
    return "\n".join(text).rstrip() + "\n"


def figure(content: dict[str, Any], path: Path) -> None:
    """Images a second of every contender as bars."""
    from matplotlib.figure import Figure

    parts = content["speed"]
    heights = [len(part["rows"]) for part in parts.values()]
    page = Figure(figsize=(9, 0.8 + 0.3 * sum(heights)), layout="constrained")
    axes = page.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, part) in zip(axes, parts.items(), strict=True):
        labels = list(part["rows"])[::-1]
        rates = [part["rows"][label]["images_per_second"] for label in labels]
        colors = ["#d9661f" if label.startswith("torch") else "#1f6fb2" for label in labels]
        bars = axis.barh(labels, rates, color=colors)
        axis.bar_label(bars, fmt="{:.3g}", padding=3, fontsize=8)
        axis.set_title(f"{name}, batch {part['batch']}: images/s", loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.1)
    page.savefig(path, dpi=120)


def main() -> None:
    """Measures the parts and writes JSON, tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    kind = jax.devices()[0].device_kind
    file = args.out / f"{kind.lower().replace(' ', '_')}.json" if args.out else None
    # Parts measured before are kept.
    content = json.loads(file.read_text()) if file and file.exists() else {}
    content |= {"command": COMMAND, "versions": versions(jax.devices(), len(jax.devices()))}
    accelerator = jax.devices()[0].platform != "cpu"
    if "overhead" in args.parts:
        content["overhead"] = overheads(args.rounds)
    if "cifar" in args.parts:
        part = speed("resnet32_cifar", 32, 128, 10, args.rounds)
        content.setdefault("speed", {})["resnet32_cifar"] = part
    if "imagenet" in args.parts:
        batch = 256 if accelerator else 16
        part = speed("resnet50", 224, batch, 1000, args.rounds if accelerator else 3)
        content.setdefault("speed", {})["resnet50"] = part
    if "startup" in args.parts:
        content["startup"] = startup(args.rounds)
    print("\n" + tables(content))
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n")
        file.with_suffix(".md").write_text(tables(content))
        if "speed" in content:
            figure(content, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
