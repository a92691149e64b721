"""How long the default whitening takes to compile for a chip that is not at hand.

    python -m experiments.accelerator.whitening --out experiments/accelerator/results \
        [--slice=v5e-4] [--rows=512] [--channels=2048] [--programs=value,gradient]
"""

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.accelerator.run import store_in, version_of
from experiments.accelerator.topologies import SLICES, devices_of, set_environment

FILE = "whitening.csv"
KEY = ("slice", "rows", "channels", "program")
FIELDS = (*KEY, "compile_cpu_seconds", "code_megabytes", "temporary_megabytes", "jax", "compiler")


def compiled(name: str, rows: int, channels: int, program: str) -> dict[str, Any]:
    """Compiles `whiten` with its defaults for one chip; what that takes.

    Args:
      name: one of `SLICES`; its environment is set.
      rows: of the batch.
      channels: of the batch.
      program: "value", or "gradient", which computes the value too.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from ltjax.whitening import whiten

    def pull(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        z, back = jax.vjp(whiten, x)
        return z, back(weights)[0]

    place = SingleDeviceSharding(devices_of(name)[0])
    x = jax.ShapeDtypeStruct((rows, channels), jnp.float32, sharding=place)
    step: Callable[..., Any] = whiten if program == "value" else pull
    arguments = (x,) if program == "value" else (x, x)
    platform = "tpu" if SLICES[name].topology else "cuda"
    lowered = jax.jit(step).trace(*arguments).lower(lowering_platforms=(platform,))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    memory = lowered.compile().memory_analysis()
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - began
    return {
        "slice": name,
        "rows": rows,
        "channels": channels,
        "program": program,
        "compile_cpu_seconds": round(seconds, 1),
        "code_megabytes": round(memory.generated_code_size_in_bytes / 1e6, 2),
        "temporary_megabytes": round(memory.temp_size_in_bytes / 1e6, 2),
        "jax": jax.__version__,
        "compiler": version_of(name),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| chips | rows x channels | program | compiling, CPU s | code, MB | temporaries, MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['slice']} | {row['rows']} x {row['channels']} | {row['program']} | "
        f"{row['compile_cpu_seconds']} | {row['code_megabytes']} | {row['temporary_megabytes']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Compiles what is asked for, one program after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slice", default="v5e-4", choices=sorted(SLICES))
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--programs", default="value,gradient")
    given = parser.parse_args(argv)
    set_environment(given.slice)
    for program in given.programs.split(","):
        row = compiled(given.slice, given.rows, given.channels, program)
        store_in(given.out / FILE, row, KEY, FIELDS, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
