"""A fitted classifier as two files: arrays in safetensors, the rest in JSON; no pickle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.errors import InputError, one_line
from ltjax.evaluation.calibration import Correction
from ltjax.training.choice import Candidate
from ltjax.training.fitting import Fitted
from ltjax.training.settings import Settings
from ltjax.training.workdir import write_bytes, write_json
from ltjax.whitening.classwise import Basis, ClassMoments

ARRAYS, FACTS = "arrays.safetensors", "classifier.json"
FORMAT = 1


def write(folder: str | Path, fitted: Fitted, settings: Settings, facts: dict[str, Any]) -> None:
    """Writes a classifier.

    Args:
      folder: is made if it does not exist.
      fitted: the classifier.
      settings: that it was fitted with.
      facts: what else belongs to it, as JSON.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    tree = {
        "moments": fitted.moments._asdict(),
        "basis": fitted.basis._asdict(),
        "scale": fitted.scale,
        "variables": fitted.variables,
    }
    flat = {name: np.ascontiguousarray(leaf) for name, leaf in flatten_dict(tree, sep="/").items()}
    write_bytes(path / ARRAYS, safetensors.numpy.save(flat))
    shrinkage, strength, correction = fitted.candidate
    about = {
        "format": FORMAT,
        "settings": settings._asdict(),
        "candidate": [shrinkage, strength, list(correction)],
        "epochs": fitted.epochs,
        **facts,
    }
    write_json(path / FACTS, about)


def read(folder: str | Path) -> tuple[Fitted, Settings, dict[str, Any]]:
    """Reads what `write` wrote.

    Args:
      folder: that it was written to.

    Returns:
      The classifier, the settings and the other facts.

    Raises:
      InputError: there is no classifier, or it cannot be read.
    """
    path = Path(folder)
    try:
        facts = json.loads((path / FACTS).read_bytes())
        flat = safetensors.numpy.load((path / ARRAYS).read_bytes())
        if facts.pop("format") != FORMAT:
            raise ValueError("it is of another version of ltjax")
        settings = facts.pop("settings")
        settings = Settings(**settings | {"hidden": tuple(settings["hidden"])})
        shrinkage, strength, correction = facts.pop("candidate")
        tree = unflatten_dict(flat, sep="/")
        fitted = Fitted(
            ClassMoments(**tree["moments"]),
            Basis(**tree["basis"]),
            tree["scale"],
            {"batch_stats": {}} | tree["variables"],
            Candidate(shrinkage, strength, Correction(*correction)),
            facts.pop("epochs"),
        )
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        why = one_line(error, most=200)
        raise InputError(f"{path} holds no classifier that can be read: {why}") from error
    return fitted, settings, facts
