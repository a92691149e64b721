"""Compiles the train steps of the field's recipes for chips that are not at hand.

    python -m experiments.accelerator.run --out experiments/accelerator/results \
        [--slices=v5e-4,...] [--recipes=digits_lt,...] [--change=KEY=VALUE ...]

Each is compiled by a process of its own with a limit of CPU seconds, which other work does not
use up, and its row is stored when it ends.
"""

import argparse
import csv
import importlib
import importlib.metadata
import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.accelerator.topologies import SLICES, devices_of, set_environment

RECIPES = ("digits_lt", "cifar10_lt", "imagenet_lt")
METHOD = "cw_la_b3rs_bet"  # that with the most parts
FILE = "compiled.csv"
FIELDS = (
    "slice",
    "recipe",
    "changes",
    "batch",
    "whitening",
    "lower_seconds",
    "compile_seconds",
    "compile_cpu_seconds",
    "tflop",
    "gigabytes",
    "memory_gigabytes",
    "code_megabytes",
    "collectives",
    "collective_megabytes",
    "jax",
    "compiler",
    "error",
)
COLLECTIVE = re.compile(
    r"^\s*(?:ROOT )?%?[\w.\-]+ = (.+?) "
    r"(?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(",
    re.MULTILINE,
)
SIZES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "s8": 1, "u64": 8}


def compiled(name: str, recipe: str, changes: Sequence[str]) -> dict[str, Any]:
    """Compiles a train step of one dispatch of one step; what it needs of each device.

    Args:
      name: one of `SLICES`.
      recipe: name of a file of `ltjax/configs`.
      changes: `KEY=VALUE` of the configuration, values in JSON or text.
    """
    set_environment(name)
    import jax

    from experiments.accelerator.steps import calls, job_of
    from ltjax import config as configs
    from ltjax.training.devices import Mapping, choose_engine

    config = importlib.import_module(f"ltjax.configs.{recipe}").get_config()
    config.method, config.engine.native = METHOD, "off"
    for change in changes:
        key, _, text = change.partition("=")
        try:
            configs.put(config, key, json.loads(text))
        except ValueError:
            configs.put(config, key, text)
    resolved = configs.resolve(config)
    devices = devices_of(name)
    engine = choose_engine("tpu" if SLICES[name].topology else "gpu")
    mapping = Mapping(devices, backend="shard_map", engine=engine)
    call = calls(job_of(resolved), mapping)["train"]
    began = time.perf_counter()
    lowered = call.trace().lower()
    row: dict[str, Any] = {
        "batch": resolved.train.batch_size,
        "whitening": resolved.whitening.method,
        "lower_seconds": round(time.perf_counter() - began, 1),
        "jax": jax.__version__,
        "compiler": version_of(name),
    }
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    program = lowered.compile()
    row["compile_seconds"] = round(time.perf_counter() - began, 1)
    row["compile_cpu_seconds"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu, 1)
    return row | needs(program)


def version_of(name: str) -> str:
    """The package that compiles for a slice, with its version."""
    package = "libtpu" if SLICES[name].topology else "jax-cuda12-pjrt"
    return f"{package} {importlib.metadata.version(package)}"


def needs(program: Any) -> dict[str, Any]:
    """What a compiled program needs of each device; XLA for GPUs counts no operations."""
    cost, memory = program.cost_analysis(), program.memory_analysis()
    shapes = COLLECTIVE.findall(program.as_text())
    whole = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    return {
        "tflop": round(cost["flops"] / 1e12, 4) if cost else "",
        "gigabytes": round(cost["bytes accessed"] / 1e9, 3) if cost else "",
        "memory_gigabytes": round(whole / 1e9, 3),
        "code_megabytes": round(memory.generated_code_size_in_bytes / 1e6, 2),
        "collectives": len(shapes),
        "collective_megabytes": round(sum(map(size_of, shapes)) / 1e6, 2),
    }


def size_of(shapes: str) -> int:
    """Bytes of the shapes in a line of HLO.

    >>> size_of("(f32[2,3]{1,0}, bf16[4]{0})")
    32
    """
    total = 0
    for kind, dimensions in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes):
        number = SIZES.get(kind, 4)
        for each in filter(None, dimensions.split(",")):
            number *= int(each)
        total += number
    return total


def projected(row: dict[str, Any]) -> dict[str, float]:
    """A *projection* of the time of a step, from what the compiler counts; nothing is measured.

        max(operations / peak, bytes / bandwidth) + bytes of collectives * 2 (n - 1) / n / link

    Args:
      row: of `FILE`.

    Returns:
      Milliseconds of a step, at least, and images a second, at most.
    """
    found = SLICES[row["slice"]]
    chip, count = found.chip, found.devices
    on_chip = max(
        float(row["tflop"]) * 1e12 / chip.flops, float(row["gigabytes"]) * 1e9 / chip.bandwidth
    )
    between = float(row["collective_megabytes"]) * 1e6 * 2 * (count - 1) / count / chip.link
    seconds = on_chip + between
    return {"milliseconds": 1e3 * seconds, "images_per_second": int(row["batch"]) / seconds}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, with the projection."""
    lines = [
        "| chips | recipe | whitening | memory, GB of a chip | TFLOP | traffic, GB | collectives | "
        "code, MB | compiling, CPU s | *projection*: step, ms at least | *projection*: images/s at "
        "most |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=_place):
        head = f"| {row['slice']} | {row['recipe']} {row['changes']}".rstrip()
        if row["error"]:
            lines.append(f"{head} | {row['whitening']} | {row['error']} | | | | | | | |")
            continue
        memory = SLICES[row["slice"]].chip.memory / 1e9
        speed = "| |"
        if row["tflop"]:
            found = projected(row)
            speed = f"{found['milliseconds']:.2f} | {found['images_per_second']:,.0f} |"
        lines.append(
            f"{head} | {row['whitening']} | {row['memory_gigabytes']} of {memory:.0f} | "
            f"{row['tflop']} | {row['gigabytes']} | {row['collectives']} | "
            f"{row['code_megabytes'].removesuffix('0.0')} | {row['compile_cpu_seconds']} | "
            f"{speed}"
        )
    return "\n".join(lines) + "\n"


def _place(row: dict[str, Any]) -> tuple[int, str, int]:
    """By recipe, in the order of `RECIPES` and then of the alphabet, then by slice."""
    recipe = row["recipe"]
    number = RECIPES.index(recipe) if recipe in RECIPES else len(RECIPES)
    return number, recipe, list(SLICES).index(row["slice"])


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are stored."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def store(path: Path, row: dict[str, Any]) -> None:
    """Adds a row in place of one of the same step."""
    store_in(path, row, ("slice", "recipe", "changes"), FIELDS, table)


def store_in(
    path: Path,
    row: dict[str, Any],
    same: Sequence[str],
    fields: Sequence[str],
    table: Callable[[Sequence[dict[str, Any]]], str],
) -> None:
    """Adds a row to a file in place of one with the same values of `same`, and writes its table."""
    rows = [one for one in read(path) if any(one[key] != str(row[key]) for key in same)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="")
        writer.writeheader()
        writer.writerows([*rows, row])
    path.with_suffix(".md").write_text(table(read(path)))


def main(argv: Sequence[str] | None = None) -> int:
    """Compiles what is asked for, one process each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slices", default=",".join(SLICES))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--change", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--seconds", type=int, default=600, help="CPU seconds of one compilation")
    parser.add_argument("--one", action="store_true", help="compile here and print the row")
    given = parser.parse_args(argv)
    if given.one:
        most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (given.seconds, most))
        print(json.dumps(compiled(given.slices, given.recipes, given.change)))
        return 0
    for recipe in given.recipes.split(","):
        for name in given.slices.split(","):
            row = {"slice": name, "recipe": recipe, "changes": " ".join(given.change)}
            store(given.out / FILE, row | _apart(name, recipe, given.change, given.seconds))
    return 0


def _apart(name: str, recipe: str, changes: Sequence[str], seconds: int) -> dict[str, Any]:
    """Compiles in a process of its own, which may take too long or too much memory."""
    more = [f"--change={change}" for change in changes]
    command = [sys.executable, "-m", "experiments.accelerator.run", "--one", "--out=."]
    limit = f"--seconds={seconds}"
    done = subprocess.run(
        [*command, limit, f"--slices={name}", f"--recipes={recipe}", *more],
        capture_output=True,
        text=True,
    )
    if done.returncode == -signal.SIGXCPU:
        return {"error": f"not compiled within {seconds} CPU seconds"}
    if done.returncode < 0:
        return {"error": f"ended by {signal.Signals(-done.returncode).name}"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {"error": last[0][:200]}
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row | {"error": ""}


if __name__ == "__main__":
    sys.exit(main())
