"""Results of training runs by row and seed, one line of a CSV file each."""

import base64
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import records
from experiments.protocols import PROTOCOLS, Trial, make_config
from ltjax import config as configs
from ltjax.errors import InputError

# Columns by name; one that a run has no value for is absent.
Result = dict[str, float]
# Results by row, then by seed.
Rows = dict[str, dict[int, Result]]
Curve = list[dict[str, float]]

SCORES = ("accuracy", "many", "medium", "few")
NAMES = ("row", "seed", *records.LAST)
HASHED = Path(__file__).with_name("hashed_keys.txt")
# Keys that do not change the outcome, or to rounding only.
NOT_HASHED = {
    *configs.FREE_ON_RESUME,
    *("checkpoint.every_epochs", "checkpoint.keep", "train.log_every_steps", "runlocal"),
}


class Run(NamedTuple):
    """What a finished run hands over.

    Attributes:
      result: scores, seconds and diagnostics.
      curve: what was logged at the evaluations during training, a dictionary an evaluation.
      correct: bool `[C, n]`, which of a class's test images are classified correctly, where all
        runs of a protocol have the same ones.
      kernels: what computed the convolutions.
    """

    result: Result
    curve: Curve
    correct: np.ndarray | None = None
    kernels: str = "XLA"


@functools.cache
def _hashed_keys() -> frozenset[str]:
    return frozenset(HASHED.read_text().split())


@functools.cache
def fingerprint(protocol: str, row: str) -> str:
    """The hash of the configuration that trains a row, the same for all its seeds.

    SHA-256 of the resolved flat configuration, its first 16 digits. Of the keys those in
    hashed_keys.txt count, and of keys that came later those that do not mean the behavior that
    there was before them, which is their default unless they name another. Keys that do not change
    the outcome do not count. The seed is set to 0, a seed of the data that follows it to None where
    there is a test set of its own, and the network that a second stage starts from is named by its
    own hash.
    """
    trial = Trial(row, 0)
    first = fingerprint(protocol, trial.first.row) if trial.first else ""
    # A tau that tau_norm chooses by itself is a result, not a setting.
    about = PROTOCOLS[protocol]
    found = make_config(about, trial, init_from=first, tau=1.0)
    flat = configs.resolve(found).flat()
    if about.split_ratio is None and found.data.seed is None:
        flat["data.seed"] = None  # a subset for each seed, where others share the one of seed 0
    return digest(flat)


def digest(flat: dict[str, Any]) -> str:
    """The hash of a flat configuration: see `fingerprint`."""
    known = _hashed_keys()
    counted = {
        key: value
        for key, value in flat.items()
        if key in known or (key not in NOT_HASHED and value != configs.SCHEMA[key].older)
    }
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path) -> Rows:
    """The results in a CSV file, seeds in order.

    >>> rows = read(records.ROOT / "experiments/ablation/results/digits_20.csv")
    >>> len(rows["cw_la"]), round(rows["cw_la"][0]["accuracy"], 3)
    (20, 0.984)
    """
    return parse(records.read(path))


def parse(lines: list[records.Line]) -> Rows:
    """The results in lines of a CSV file."""
    rows: Rows = {}
    for line in lines:
        rows.setdefault(line["row"], {})[int(line["seed"])] = records.numbers(line, NAMES)
    return {row: dict(sorted(seeds.items())) for row, seeds in rows.items()}


def curves_path(path: Path) -> Path:
    """The file of the curves that belong to a file of results."""
    return path.with_name(f"{path.stem}_curves.csv")


def read_curves(path: Path) -> dict[str, dict[int, Curve]]:
    """The curves that belong to a file of results, by row and seed."""
    curves: dict[str, dict[int, Curve]] = {}
    for line in records.read(curves_path(path)):
        seeds = curves.setdefault(line["row"], {})
        seeds.setdefault(int(line["seed"]), []).append(records.numbers(line, ("row", "seed")))
    return curves


def correct_path(path: Path) -> Path:
    """The file of correctly classified test images that belongs to a file of results."""
    return path.with_name(f"{path.stem}_correct.csv")


def read_correct(path: Path) -> dict[str, dict[int, np.ndarray]]:
    """Which test images are classified correctly, bool `[C, n]` by row and seed."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for line in records.read(correct_path(path)):
        shape = int(line["classes"]), int(line["images_per_class"])
        packed = np.frombuffer(base64.b64decode(line["bits"]), np.uint8)
        bits = np.unpackbits(packed, count=shape[0] * shape[1]).reshape(shape)
        found.setdefault(line["row"], {})[int(line["seed"])] = bits.astype(bool)
    return found


def correct_line(key: records.Line, correct: np.ndarray) -> records.Line:
    """The line of `correct_path` for a run that `key` names, of bool `[C, n]`."""
    classes, images = correct.shape
    bits = base64.b64encode(np.packbits(correct).tobytes()).decode()
    return {**key, "classes": str(classes), "images_per_class": str(images), "bits": bits}


class Store:
    """Results by row and seed in a CSV file, or in memory where `path` is None.

    Args:
      path: of the file.
      protocol: a name of `PROTOCOLS`.
    """

    def __init__(self, path: Path | None, protocol: str):
        self.path, self.protocol = path, protocol
        self.rows: Rows = {}
        self.curves: dict[str, dict[int, Curve]] = {}
        if path is not None:
            self.rows, self.curves = read(path), read_curves(path)

    def __contains__(self, trial: Trial) -> bool:
        return trial.seed in self.rows.get(trial.row, {})

    def same_network(self, trial: Trial) -> bool:
        """Whether a stored second stage stands on the stored network of its stage one.

        The diagnostics of the features before whitening tell: they do not depend on the head. They
        are stored with six digits, of which the last may differ by rounding. In bfloat16 they may
        differ by more, since a stage that trains nothing does not use native kernels: the condition
        number by 0.1%, where that of other seeds differs by tens of percent.
        """
        if trial.first is None:
            return True
        in_float32 = "model.dtype" not in PROTOCOLS[self.protocol].overrides
        tolerance = 1e-5 if in_float32 else 5e-3
        mine, stage_one = (self.rows.get(t.row, {}).get(t.seed, {}) for t in (trial, trial.first))
        features = [name for name in mine if name.startswith("before_whitening/")]
        return bool(stage_one) and all(
            math.isclose(mine[name], stage_one.get(name, math.nan), rel_tol=tolerance)
            for name in features
        )

    def check(self, names: Sequence[str], added: Sequence[str] | None = None) -> None:
        """Refuses rows of another configuration, and to add runs of other code to a row.

        Args:
          names: the rows.
          added: those that will get runs; all of them by default.

        Raises:
          InputError: the file holds such rows, or a row of different kinds of runs.
        """
        if self.path is not None:
            lines = records.read(self.path)
            for name in names:
                self._check(lines, name)
            stored = [line for line in lines if line["row"] in names]
            # What is known before a run: all but its device and kernels, which are the stored ones.
            here = [
                {**line, **records.environment(line["device"])}
                for line in stored
                if added is None or line["row"] in added
            ]
            records.require_one_kind(self.path, [*stored, *here])

    def _check(
        self, lines: list[records.Line], row: str, about: records.Line | None = None
    ) -> None:
        stored = [line for line in lines if line["row"] == row]
        mine = fingerprint(self.protocol, row)
        others = {line["configuration"] for line in stored} - {mine}
        if others:
            raise InputError(
                f"{self.path}: row {row!r} holds results of another configuration "
                f"({others.pop()}; now it is {mine}); give another --out, or delete the lines of "
                "that row and run it again"
            )
        for name in ("device", "processor"):
            kinds = {line[name] for line in lines} - {(about or {}).get(name), records.UNKNOWN}
            if about is not None and kinds:
                raise InputError(
                    f"{self.path} holds results of the {name} {kinds.pop()!r}, and this is "
                    f"{about[name]!r}; runs of one seed would differ by rounding, and seconds do "
                    "not compare; give another --out"
                )

    def put(self, trial: Trial, run: Run, about: records.Line) -> None:
        """Keeps a run, in the file at once; `about` is its `records.environment`."""
        if self.path is None:
            self.rows.setdefault(trial.row, {})[trial.seed] = run.result
            if run.curve:
                self.curves.setdefault(trial.row, {})[trial.seed] = run.curve
            return
        key = {"row": trial.row, "seed": str(trial.seed)}
        cells = dict.fromkeys((*SCORES, "seconds"), "")
        cells |= {name: str(value) for name, value in run.result.items()}
        named = {"configuration": fingerprint(self.protocol, trial.row), "kernels": run.kernels}
        line = {**key, **cells, **named, **about}
        path = self.path

        def change(lines: list[records.Line]) -> list[records.Line]:
            self._check(lines, trial.row, about)
            found = records.merged(lines, [line], ("row", "seed"))
            records.require_one_kind(path, [one for one in found if one["row"] == trial.row])
            order = list(dict.fromkeys(line["row"] for line in found))
            return sorted(found, key=lambda line: (order.index(line["row"]), int(line["seed"])))

        if run.curve:  # first, so that a run that is stored has its curve
            points = [{**key, **{k: str(v) for k, v in at.items()}} for at in run.curve]
            keys = ("row", "seed", "step")
            records.update(curves_path(self.path), lambda old: records.merged(old, points, keys))
            self.curves = read_curves(self.path)
        if run.correct is not None:
            bits = correct_line(key, run.correct)
            records.update(
                correct_path(self.path), lambda old: records.merged(old, [bits], ("row", "seed"))
            )
        self.rows = parse(records.update(self.path, change))
