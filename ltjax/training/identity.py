"""What a run must find again when it is resumed: its data, its samplers, what decides its numbers.

Each is stored when it is first known and compared on every start; what differs is refused, since
going on would give a result that no single run has.
"""

import os
import re
from pathlib import Path
from typing import Any

import jax

from ltjax.config import Config
from ltjax.data.fingerprints import changes, fingerprint
from ltjax.errors import InputError
from ltjax.training.build import Job
from ltjax.training.stored import checked_dataset

# Settings of JAX that decide the numbers of a run, by the environment variable that sets each.
SETTINGS = {
    "JAX_DEFAULT_PRNG_IMPL": "jax_default_prng_impl",
    "JAX_THREEFRY_PARTITIONABLE": "jax_threefry_partitionable",
    "JAX_RANDOM_SEED_OFFSET": "jax_random_seed_offset",
    "JAX_ENABLE_X64": "jax_enable_x64",
    "JAX_DEFAULT_MATMUL_PRECISION": "jax_default_matmul_precision",
}
# Flags of XLA that say how exactly it computes. Others, such as the number of host devices, may
# change from one start to the next.
EXACTNESS = re.compile("fast_m|precision|tf32|eigen|onednn|xnn|ynn")
WORDS = {
    "train": "the training images",
    "validation": "the held-out images",
    "test": "the test images",
}


def environment() -> dict[str, Any]:
    """The settings of JAX and of XLA that decide the numbers of a run (JSON)."""
    found = {name: getattr(jax.config, setting) for name, setting in SETTINGS.items()}
    flags = sorted(filter(EXACTNESS.search, os.environ.get("XLA_FLAGS", "").split()))
    return found | {"XLA_FLAGS": " ".join(flags) or None}


def content(job: Job) -> dict[str, str]:
    """Fingerprints of the content of every part of the data."""
    parts = {"train": job.data.train, "validation": job.data.validation, "test": job.data.test}
    return {name: fingerprint(part) for name, part in parts.items() if part is not None}


def samplers(job: Job) -> list[str]:
    """Descriptions and fingerprints of the samplers of all seeds."""
    return [f"{s!r} (fingerprint {s.fingerprint()})" for s in job.samplers]


def check_checkpoint(
    path: Path, meta: dict[str, Any], config: Config, job: Job, found: dict[str, str]
) -> None:
    """Refuses to go on from a checkpoint of other data, samplers, settings or kernels.

    What a checkpoint of an earlier version does not tell is not compared.

    Args:
      path: of the checkpoint, for the message.
      meta: what is stored beside its arrays.
      config: resolved configuration.
      job: parts of the run.
      found: fingerprints of the data as it is now.

    Raises:
      InputError: what differs, in one line.
    """
    if meta.get("plan") != samplers(job):
        raise InputError(
            f"checkpoint {path} was trained with the sampler {meta.get('plan')}, not "
            f"{samplers(job)}; the data has changed, or the way ltjax draws: restore them, or use "
            "another --workdir"
        )
    if changed := changes(meta.get("content", {}), found):
        raise InputError(
            f"checkpoint {path} was trained with other data: {_named(changed)} changed; restore "
            "the data, or use another --workdir"
        )
    check_environment(path, meta)
    native = bool(meta.get("native", False))
    if config.engine.native == "auto" and native and not job.native.used:
        raise InputError(
            f"checkpoint {path} was trained with native kernels, which this run cannot "
            f"use{job.native.because}; set config.engine.native to off to go on, with results "
            "equal up to rounding"
        )


def check_environment(path: Path, meta: dict[str, Any]) -> None:
    """Refuses to go on from a checkpoint of other settings of JAX.

    Args:
      path: of the checkpoint, for the message.
      meta: what is stored beside its arrays.

    Raises:
      InputError: the setting that differs, in one line.
    """
    stored, now = meta.get("environment", {}), environment()
    for name, value in stored.items():
        if name in now and value != now[name]:
            raise InputError(
                f"checkpoint {path} was trained with {name} = {value}, not {now[name]}, which "
                f"gives other numbers; {_setting(name, value)}, or use another --workdir"
            )


def check_dataset(path: Path, now: dict[str, Any]) -> None:
    """Refuses to replace a `dataset.json` by that of other data.

    A file that cannot be read is no obstacle: it is written again, and the checkpoint tells
    whether the data is the same.

    Args:
      path: of the stored file.
      now: what is to be written.

    Raises:
      InputError: the stored file describes other data.
    """
    try:
        stored = checked_dataset(path)
    except InputError:
        return
    changed = changes(stored["fingerprint"], now["fingerprint"])
    if isinstance(stored.get("content"), dict):
        changed = changed or changes(stored["content"], now["content"])
    names = [] if stored["class_names"] == now["class_names"] else ["the class names"]
    if changed or names:
        parts = " and ".join(names or [_named(changed)])
        raise InputError(
            f"{path} describes other data: {parts} changed; restore the data, or use another "
            "--workdir"
        )


def _named(parts: list[str]) -> str:
    """The parts in words; a change of class names changes every part."""
    return " and ".join(WORDS[part] for part in parts) + " or their classes"


def _setting(name: str, value: Any) -> str:
    return f"unset {name}" if value is None else f"set {name}={value}"
