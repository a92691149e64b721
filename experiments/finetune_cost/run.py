"""Memory and time of a step under each kind of fine-tuning, of a Vision Transformer on a CPU.

    python -m experiments.finetune_cost.run [--model vit_s16] [--size 224] [--batch 8] [--rounds 7]
                                            [--out experiments/finetune_cost/results]

The network starts from random numbers, which cost as much as published weights. All kinds take
turns in one process, a step each.
"""

from experiments import timing  # pins threads, so it comes before NumPy and JAX

# isort: split

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments import records
from experiments.accelerator.steps import calls
from experiments.train_speed.ours import Ours, make_config, synthetic
from ltjax.config import Config
from ltjax.training.build import build
from ltjax.training.devices import Engine, Mapping

KINDS = ("all", "last_1", "norm_and_bias", "lora", "adapter", "head")
# The part of a CSV file, and the name of the files.
PART, FILE = "finetune", "cost"
IMAGES, CLASSES = 64, 10


def settings(kind: str, model: str, images: np.ndarray, labels: np.ndarray, batch: int) -> Config:
    """The configuration of a kind, on these images."""
    return make_config(
        model,
        images,
        labels,
        runlocal=True,
        finetune__train=kind,
        model__hidden=(),
        augment__flip=True,  # with augmentation the images pass through a frozen network
        train__batch_size=batch,
        train__epochs=1000,
        cpu_devices=1,
    )


def operations(config: Config, device: jax.Device) -> float:
    """Floating-point operations of a step as it is written, before XLA's compiler."""
    step = calls(build(config), Mapping([device], backend="shard_map"))["train"]
    return float(step.trace().lower().cost_analysis()["flops"])


def sizes(contender: Ours) -> dict[str, float]:
    """Parameters of the network and of its optimizer, in millions and in MB."""
    state = contender.seeds.stacked()
    momentum = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim > 1]
    return {
        "million_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)) / 1e6,
        "million_learned": sum(leaf.size for leaf in momentum) / 1e6,
        "optimizer_megabytes": sum(leaf.nbytes for leaf in momentum) / 1e6,
    }


def measure(kinds: Sequence[str], model: str, size: int, batch: int, rounds: int) -> timing.Parts:
    """Medians of the seconds of a step, ratios to the first kind, operations and memory."""
    device = jax.devices()[0]
    images, labels = synthetic(size, IMAGES, CLASSES)
    configs = {kind: settings(kind, model, images, labels, batch) for kind in kinds}
    contenders = {
        kind: Ours(config, [device], Engine(False, False, 1)) for kind, config in configs.items()
    }
    calls_of = {kind: (lambda c=one: c(1)) for kind, one in contenders.items()}
    times = timing.interleaved(calls_of, rounds, alternate=True)
    first = times[kinds[0]]
    return {
        PART: {
            kind: {
                "milliseconds": 1e3 * times[kind].median,
                "cpu_milliseconds": 1e3 * float(np.median(times[kind].cpu)),
                "ratio": float(np.median(times[kind].wall / first.wall)),
                "cpu_ratio": float(np.median(times[kind].cpu / first.cpu)),
                "gigaflop": operations(configs[kind], device) / 1e9,
                **sizes(contenders[kind]),
                "batch_size": batch,
                "rounds": rounds,
            }
            for kind in kinds
        }
    }


def table(parts: timing.Parts) -> str:
    """The numbers as Markdown."""
    lines = [
        "| `finetune.train` | parameters that learn, millions | optimizer's memory, MB "
        "| GFLOP of a step | step, ms | of `all` | CPU time, of `all` |",
        "|---" * 7 + "|",
    ]
    for kind, row in parts[PART].items():
        cells = [
            f"`{kind}`",
            f"{row['million_learned']:.3f} of {row['million_parameters']:.1f}",
            f"{row['optimizer_megabytes']:.2f}",
            f"{row['gigaflop']:.0f}",
            f"{row['milliseconds']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['cpu_ratio']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(folder: Path) -> None:
    """Writes the table of the stored results."""
    (folder / f"{FILE}.md").write_text(table(timing.read(folder / f"{FILE}.csv")))


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_s16")
    parser.add_argument("--size", type=int, default=224, help="pixels of an image's side")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 1)
    found = measure(KINDS, args.model, args.size, args.batch, args.rounds)
    print(table(found))
    if args.out:
        path = args.out / f"{FILE}.csv"
        timing.write(path, found, records.environment(records.devices()))
        write(args.out)


if __name__ == "__main__":
    main()
