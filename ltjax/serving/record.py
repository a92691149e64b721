"""What an export tells of its run, so that `--workdir` takes an export as it takes a run.

An export lies elsewhere than its run and is given to others. So it has one network, and the names
of the run's files and folders, but not where they lay.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.data.weights import read_weights
from ltjax.errors import InputError, one_line
from ltjax.evaluation.calibration import Correction
from ltjax.training.workdir import WEIGHTS, FinishedRun, as_json

RECORD = ("config.json", "dataset.json", "result.json")
# Keys whose value may be a path.
_PLACES = {
    "": ("init_from",),
    "data": ("path", "test_path", "validation_path", "dir"),
    "model": ("weights", "head_init"),
}
# What `result.json` tells of the training that holds for the network wherever it is.
_TRAINING = ("class_counts", "steps", "epochs", "kept_step", "seconds")
_RUN = ("method", "configuration", "versions")


def of_seed(run: FinishedRun, seed: int) -> FinishedRun:
    """A finished run as that of one of its seeds."""
    return dataclasses.replace(
        run, config=dataclasses.replace(run.config, seed=seed, seeds=(seed,))
    )


def is_export(run: FinishedRun) -> bool:
    """Whether a folder with a record is that of an export, not the run itself."""
    return (run.path / WEIGHTS).exists() and not (run.path / "checkpoints").exists()


def record(
    run: FinishedRun, scores: Mapping[str, Any], fitted: Mapping[str, Correction]
) -> dict[str, bytes]:
    """The files that an export needs to be taken as a run.

    Args:
      run: of one seed.
      scores: of its network on the test images.
      fitted: corrections of its logits, by name.

    Returns:
      The content of each file of `RECORD`.
    """
    nested = run.config.nested()
    for section, keys in _PLACES.items():
        values = nested[section] if section else nested
        values |= {key: _without_place(values[key]) for key in keys}
    result = run.result
    told = {key: result[key] for key in _RUN if key in result}
    training = {key: result["train"][key] for key in _TRAINING if key in result["train"]}
    told |= {"test": dict(scores), "train": training, "seed": run.config.seed}
    told["post_hoc"] = {name: correction._asdict() for name, correction in fitted.items()}
    if stage := result.get("stage"):
        started = {"init_from": nested["init_from"]} if "init_from" in stage else {}
        told["stage"] = stage | started
    return {
        "config.json": as_json(nested),
        "dataset.json": as_json(run.dataset),
        "result.json": as_json(told),
    }


def _without_place(value: str) -> str:
    """The last part of a path; a name, or one of the Hugging Face hub, as it is."""
    return value if value.startswith("hf:") else PurePath(value).name


def read_variables(run: FinishedRun, like: dict[str, Any]) -> dict[str, Any]:
    """The variables of an export.

    Args:
      run: its record.
      like: variables of a network of its configuration; only names, shapes and types matter.

    Returns:
      The variables, as NumPy arrays.

    Raises:
      InputError: they cannot be read, are not finite, or do not fit the configuration.
    """
    path = run.path / WEIGHTS
    found, _ = read_weights(path)
    wanted = flatten_dict(like, sep="/")
    for name in sorted(wanted.keys() | found.keys()):
        if wrong := _wrong(found.get(name), wanted.get(name)):
            raise InputError(
                f"{path} does not go with the config.json beside it: {one_line(name, most=100)} "
                f"{wrong}; export the run again"
            )
    return dict(unflatten_dict(found, sep="/"))


def _wrong(found: np.ndarray | None, wanted: Any) -> str:
    """Why a tensor is not what a network needs; empty where it is."""
    if found is None:
        return "is missing"
    if wanted is None:
        return "is no part of the network"
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return f"is {found.dtype} {found.shape} instead of {wanted.dtype} {wanted.shape}"
    return "" if np.isfinite(found).all() else "has values that are not finite"
