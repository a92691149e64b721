"""Random configurations, most of them wrong, through the resolver, the flags and the build.

    python -m experiments.fuzz.configurations [--configurations 10000] [--builds 200] [--out DIR]

Values of every type and size are made from the schema itself, so that a new key is tried without
a change here. A configuration may only resolve or be refused: by an `InputError` of one line that
names a key of it. One that resolves must be of the declared types, be the same after a round
through JSON, and build: its step is traced without computing, or refused by one line.
"""

import argparse
import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from experiments import records
from ltjax import config as configs
from ltjax.config.command_line import override
from ltjax.data.loader import Batch, TrainLoader
from ltjax.errors import InputError, one_line
from ltjax.training.build import Job, build, initial_state, keys
from ltjax.training.step import AXIS, Resident

# Of computing; a configuration that takes longer is as good as one that hangs.
SECONDS = 2.0
EDGES = [2**k + d for k in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64) for d in (-1, 0, 1)]
INTEGERS = st.sampled_from([*EDGES, *(-x for x in EDGES), 10**30, -(10**30), 10**4000])
NUMBERS = st.sampled_from(
    [
        0.0,
        -0.0,
        0.5,
        1.0,
        1.5,
        1e-9,
        1e-30,
        1e-45,
        5e-324,
        1e30,
        1e308,
        math.inf,
        -math.inf,
        math.nan,
    ]
) | st.floats(width=32)
TEXTS = st.sampled_from(
    ["", "auto", "None", "1", "a\nb", "\0", "\udcff", "\x1b[2J", "猫", "$x$", "[/]", "x" * 5000]
) | st.text(max_size=8)


class Strange:
    """A value with a long `repr` of many lines, and that compares with nothing."""

    def __repr__(self) -> str:
        return "strange\n" * 1000

    def __eq__(self, other: object) -> bool:
        raise TypeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["epochs", "name", "a.b", ""]), inner, max_size=2)
    )


JSON_LEAVES = st.none() | st.booleans() | st.integers(-3, 300) | INTEGERS | NUMBERS | TEXTS
PYTHON_LEAVES = JSON_LEAVES | st.sampled_from(
    [
        *(b"auto", 1j, Decimal(1), frozenset({1}), range(3), int, len, Strange()),
        *(np.float32(0.25), np.int64(3), np.bool_(True), np.str_("auto"), np.float64(np.nan)),
        *(np.zeros(0), np.zeros(1), np.ones((2, 2)), np.array("auto"), np.array([1, 2])),
    ]
)


def near(path: str) -> st.SearchStrategy[Any]:
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
    return st.sampled_from(found)


def values(leaves: st.SearchStrategy[Any], path: str) -> st.SearchStrategy[Any]:
    """Values of a key: half of them near to what is allowed, the others of any type.

    Args:
      leaves: values of any type.
      path: of the key.
    """
    return near(path) | leaves | st.recursive(leaves, _nested, max_leaves=4)


@st.composite
def changes(draw: st.DrawFn, leaves: st.SearchStrategy[Any]) -> dict[str, Any]:
    """One to four keys, or names that are none, with values.

    Args:
      draw: of hypothesis.
      leaves: values of any type.
    """
    keys = st.sampled_from(list(configs.SCHEMA))
    names = keys if draw(st.integers(0, 9)) else keys | st.sampled_from(["train", "train.x", "x.y"])
    paths = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    known = configs.SCHEMA
    return {p: draw(values(leaves, p) if p in known else leaves) for p in paths}


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
ENTRIES: dict[str, tuple[Enter, st.SearchStrategy[Any]]] = {
    "config.json": (stored, changes(JSON_LEAVES)),
    "config file": (from_file, changes(PYTHON_LEAVES)),
    "flags": (from_flags, changes(JSON_LEAVES)),
}


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
    batch = jax.tree.map(lambda x: x[None], loader[0])
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
        )
        state = initial_state(job, job.seeds[0])
        return jax.vmap(lambda one: job.train_step(state, data, one), axis_name=AXIS)(batch)

    jax.eval_shape(step, batch)


def run(count: int, builds: int, start: int) -> dict[str, int]:
    """Tries configurations; the first that does not end in order is made small and raised.

    Args:
      count: number of configurations, a third of them by each of `ENTRIES`.
      builds: number of those that are built too, a third of them by each.
      start: seed of the first third; the others count on.

    Returns:
      How many resolved and were refused, and how many of those that were built were refused then.
    """
    found: Counter[str] = Counter()
    quiet = settings(
        max_examples=math.ceil(count / len(ENTRIES)),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    most = {f: math.ceil(builds * i / 3) for i, (f, _) in enumerate(ENTRIES.values(), 1)}
    for number, (enter, strategy) in enumerate(ENTRIES.values()):

        @seed(start + number)
        @quiet
        @given(st.just(enter), strategy)
        def one(enter: Enter, changed: dict[str, Any]) -> None:
            config = resolved(enter, changed)
            found["refused" if config is None else "resolved"] += 1
            if config is not None and found["built"] + found["not built"] < most[enter]:
                found["built" if built(config) else "not built"] += 1

        one()
    return dict(found)


def main() -> None:
    """Prints, and stores if told so, how many configurations resolved, were refused and built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--builds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    began = time.monotonic()
    found = run(args.configurations, args.builds, args.seed)
    line = {"what": "configurations", "seed": str(args.seed)} | {
        name: str(found.get(name, 0)) for name in ("resolved", "refused", "built", "not built")
    }
    line["seconds"] = f"{time.monotonic() - began:.0f}"
    print(line)
    if args.out:
        line |= records.environment("cpu")
        records.update(
            args.out / "configurations.csv", lambda old: records.merged(old, [line], ("seed",))
        )


if __name__ == "__main__":
    main()
