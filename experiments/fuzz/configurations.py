"""Random configurations, most of them wrong, through the resolver, the flags and the build.

    python -m experiments.fuzz.configurations [--configurations 10000] [--first 0] [--out DIR]

Values of every type and size are made from the schema itself, so that a new key is tried without
a change here. A configuration may only resolve or be refused: by an `InputError` of one line that
names a key of it. One that resolves must be of the declared types, be the same after a round
through JSON, and build: its step is traced without computing, or refused by one line.

Each configuration is drawn from the seed and its own number, so that the work can be cut into
portions, and one that fails can be tried alone.
"""

import argparse
import dataclasses
import functools
import json
import math
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from experiments import records
from ltjax import config as configs
from ltjax.config.command_line import override
from ltjax.data.loader import Batch, TrainLoader
from ltjax.errors import InputError, one_line
from ltjax.training.build import Job, build, initial_state, keys
from ltjax.training.inputs import AXIS, Resident

# Of computing; a configuration that takes longer is as good as one that hangs.
SECONDS = 2.0
EDGES = [2**k + d for k in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64) for d in (-1, 0, 1)]
INTEGERS = [*EDGES, *(-x for x in EDGES), 10**30, -(10**30), 10**4000]
NUMBERS = [0.0, -0.0, 0.5, 1.0, 1.5, 1e-9, 1e-30, 1e-45, 5e-324, 1e30, 1e308]
NUMBERS += [math.inf, -math.inf, math.nan]
TEXTS = ["", "auto", "None", "1", "a\nb", "\0", "\udcff", "\x1b[2J", "猫", "$x$", "[/]", "x" * 5000]


class Strange:
    """A value with a long `repr` of many lines, and that compares with nothing."""

    def __repr__(self) -> str:
        return "strange\n" * 1000

    def __eq__(self, other: object) -> bool:
        raise TypeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


# What a `get_config()` may hold besides what JSON can.
OBJECTS: list[Any] = [
    *(b"auto", 1j, Decimal(1), frozenset({1}), range(3), int, len, Strange()),
    *(np.float32(0.25), np.int64(3), np.bool_(True), np.str_("auto"), np.float64(np.nan)),
    *(np.zeros(0), np.zeros(1), np.ones((2, 2)), np.array("auto"), np.array([1, 2])),
]
# The odd ones of each kind, and how others of it are drawn.
Draw = Callable[[random.Random], Any]
LEAVES: list[Draw] = [
    lambda rng: rng.choice([None, True, False]),
    lambda rng: rng.randint(-3, 300),
    lambda rng: rng.choice(INTEGERS),
    lambda rng: rng.choice(NUMBERS),
    lambda rng: struct.unpack("f", rng.randbytes(4))[0],
    lambda rng: rng.choice(TEXTS),
    lambda rng: "".join(
        chr(rng.randrange(2 ** rng.randint(1, 16))) for _ in range(rng.randint(0, 8))
    ),
]


def leaf(rng: random.Random, *, objects: bool) -> Any:
    """A value of any type.

    Args:
      rng: to draw with.
      objects: whether it may be one that JSON cannot hold.
    """
    if objects and rng.random() < 0.3:
        return rng.choice(OBJECTS)
    return rng.choice(LEAVES)(rng)


def nested(rng: random.Random, depth: int = 0, *, objects: bool) -> Any:
    """A list, a tuple or a dictionary of at most three values, some of which are such themselves.

    Args:
      rng: to draw with.
      depth: of lists around it.
      objects: see `leaf`.
    """
    found = [
        nested(rng, depth + 1, objects=objects)
        if depth < 3 and rng.random() < 0.2
        else leaf(rng, objects=objects)
        for _ in range(rng.randint(0, 3))
    ]
    kind = rng.choice([list, tuple, dict])
    if kind is dict:
        return dict(zip(rng.sample(["epochs", "name", "a.b", ""], len(found)), found, strict=True))
    return kind(found)


@functools.cache
def near(path: str) -> list[Any]:
    """Values that a key may well have: names in its text of what is allowed, and near its default.

    Args:
      path: of the key.
    """
    key = configs.SCHEMA[path]
    words = [w.strip(",") for w in key.allowed.replace("one of", "").split()]
    found: list[Any] = [key.default, *words]
    for word in words:
        try:
            limit = float(word)
        except ValueError:
            continue
        found += [limit, limit / 2, math.nextafter(limit, 0), math.nextafter(limit, math.inf)]
        found += [int(limit), int(limit) + 1, int(limit) - 1, int(limit) // 2, 1, 2]
    if isinstance(key.default, tuple):
        found += [(), (1,), (1, 2), [3, 4], (2, 1), (1, 1), ("a", "b"), ((1, 2), 3), (0, 2**31)]
    return found


def changes(rng: random.Random, *, objects: bool) -> dict[str, Any]:
    """One to four keys, or names that are none, with values: half of them near to what is allowed.

    Args:
      rng: to draw with.
      objects: see `leaf`.
    """
    names = list(configs.SCHEMA)
    if rng.random() < 0.1:
        names += ["train", "train.x", "x.y"] * (len(names) // 6)
    found = {}
    for path in rng.sample(names, rng.randint(1, 4)):
        draw = rng.random()
        if path in configs.SCHEMA and draw < 0.5:
            found[path] = rng.choice(near(path))
        else:
            found[path] = (leaf if draw < 0.8 else nested)(rng, objects=objects)
    return found


def stored(changed: dict[str, Any]) -> configs.Config:
    """The configuration of a config.json with these values.

    Args:
      changed: dotted keys to values that JSON can hold.
    """
    flat = configs.Config().flat()
    kept = {k: v for k, v in flat.items() if not any(k.startswith(f"{c}.") for c in changed)}
    try:
        nested = unflatten_dict(kept | changed, sep=".")
    except TypeError:  # a key within a key
        nested = kept | changed
    return configs.resolve(json.loads(json.dumps(nested)))


def from_file(changed: dict[str, Any]) -> configs.Config:
    """The configuration of a file whose get_config() sets these values, whatever their types.

    Args:
      changed: dotted keys to values.
    """
    config = configs.default()
    with config.unlocked(), config.ignore_type():
        for path, value in changed.items():
            *sections, name = path.split(".")
            node = config
            for section in sections:
                if not isinstance(node.get(section), ConfigDict):
                    node[section] = ConfigDict()
                node = node[section]
            try:
                node[name] = value
            except (ValueError, TypeError, KeyError, ArithmeticError) as e:  # get_config() fails
                raise InputError("config file: not set") from e
    return configs.resolve(config)


def from_flags(changed: dict[str, Any]) -> configs.Config:
    """The configuration of a command with flags --config.KEY=VALUE.

    Args:
      changed: dotted keys to values, which are written as text.
    """
    words = [f"--config.{path}={value!s}" for path, value in changed.items()]
    return configs.resolve(override(configs.default(), ["ltjax", *words]))


Enter = Callable[[dict[str, Any]], configs.Config]
# Ways for a configuration to come in, and whether it may then hold what JSON cannot.
ENTRIES: list[tuple[Enter, bool]] = [(stored, False), (from_file, True), (from_flags, False)]


def resolved(enter: Enter, changed: dict[str, Any]) -> configs.Config | None:
    """Resolves a configuration, and checks that it is one, or refused in order.

    Args:
      enter: one of `ENTRIES`.
      changed: dotted keys to values.

    Returns:
      The configuration; None where it was refused.
    """
    began = time.thread_time()  # a busy machine is no fault of the configuration
    config, refusal = None, ""
    try:
        config = enter(changed)
    except InputError as e:
        refusal = str(e)
    assert time.thread_time() - began < SECONDS
    if config is None:
        assert refusal == one_line(refusal)
        assert len(refusal) < 3000, refusal
        assert "config" in refusal, refusal
        return None
    for path, key in configs.SCHEMA.items():
        value = configs.get(config, path)
        assert type(value) in key.types or (value is None and key.optional), (path, value)
    text = json.dumps(config.nested(), allow_nan=False)
    assert configs.resolve(json.loads(text)) == config
    return config


def built(config: configs.Config) -> bool:
    """Builds what trains from a configuration and traces its first step, without computing.

    The digits stand for any data, and one network is small, since the values count.

    Args:
      config: resolved.

    Returns:
      Whether it was built; False where it was refused by one line.
    """
    data = dataclasses.replace(config.data, name="digits", residency="auto", workers=0)
    model = dataclasses.replace(config.model, name="convnet")
    first = dataclasses.replace(config, data=data, model=model, cpu_devices=1)
    try:
        job = build(first)
        trace_step(job)
    except InputError as e:
        refusal = str(e)
    else:
        return True
    assert refusal == one_line(refusal)
    return False


def trace_step(job: Job) -> None:
    """Traces the first training step of a job: shapes and dtypes are found, nothing is computed.

    Args:
      job: as `build` makes it.
    """
    images = job.data.train.images  # type: ignore[union-attr]  # the digits are an array
    loader = TrainLoader(job.data.train, job.samplers[0], job.epochs, seed=job.seeds[0])
    classes = [jnp.asarray(found) for found in job.classes[0]]

    def step(batch: Batch) -> Any:
        mixed = () if job.mixing is None else job.mixing.init(classes[0])
        data = Resident(
            jnp.asarray(images),
            jnp.asarray(job.data.mean),
            jnp.asarray(job.data.std),
            job.losses[0].init(*classes),
            keys(job.seeds[0])[1],
            mixed,
            contrast_state=() if job.contrast is None else job.contrast.init(*classes),
        )
        state = initial_state(job, job.seeds[0])
        return job.train_step(state, data, batch)

    # Native kernels have no rule for `vmap`, so that the axis of devices is only named.
    jax.make_jaxpr(step, axis_env=[(AXIS, 1)])(loader[0])


def run(numbers: Iterable[int], builds: float, seed: int) -> dict[str, int]:
    """Tries configurations; the first that does not end in order is made small and raised.

    Args:
      numbers: of the configurations, which come in by each of `ENTRIES` in turn.
      builds: share of those that resolve which is built too.
      seed: of all draws.

    Returns:
      How many resolved and were refused, and how many of those that were built were refused then.
    """
    found: Counter[str] = Counter()
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        enter, objects = ENTRIES[number % len(ENTRIES)]
        changed, deep = changes(rng, objects=objects), rng.random() < builds
        try:
            found.update(outcomes(enter, changed, deep=deep))
        except Exception as e:
            small = smallest(enter, changed, deep=deep)
            e.add_note(f"number {number} of seed {seed}, {enter.__name__}: {small!r:.2000}")
            raise
    return dict(found)


def outcomes(enter: Enter, changed: dict[str, Any], *, deep: bool) -> list[str]:
    """What became of a configuration.

    Args:
      enter: how it comes in.
      changed: dotted keys to values.
      deep: whether to build it if it resolves.

    Returns:
      `resolved` or `refused`; besides, `built` or `not built` if that was tried.
    """
    config = resolved(enter, changed)
    if config is None:
        return ["refused"]
    return ["resolved", *(["built" if built(config) else "not built"] if deep else [])]


def smallest(enter: Enter, changed: dict[str, Any], *, deep: bool) -> dict[str, Any]:
    """The values of a failing configuration without those that it fails without.

    Args:
      enter: how it comes in.
      changed: dotted keys to values.
      deep: whether it fails when it is built.
    """
    for path in list(changed):
        fewer = {name: value for name, value in changed.items() if name != path}
        try:
            outcomes(enter, fewer, deep=deep)
        except Exception:
            changed = fewer
    return changed


def main() -> None:
    """Prints, and stores if told so, how many configurations resolved, were refused and built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--builds", type=float, default=0.2, help="share of those that resolve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    began, used = time.monotonic(), time.process_time()
    found = run(range(args.first, args.first + args.configurations), args.builds, args.seed)
    line = {"what": "configurations", "seed": str(args.seed), "first": str(args.first)} | {
        name: str(found.get(name, 0)) for name in ("resolved", "refused", "built", "not built")
    }
    line["seconds"] = f"{time.monotonic() - began:.0f}"
    line["cpu_seconds"] = f"{time.process_time() - used:.0f}"
    print(line)
    if args.out:
        line |= records.environment("cpu")
        records.update(
            args.out / "configurations.csv",
            lambda old: records.merged(old, [line], ("seed", "first")),
        )


if __name__ == "__main__":
    main()
