"""A fitted classifier as two files: arrays in safetensors, the rest in JSON; no pickle."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.data.files import read_regular
from ltjax.errors import InputError, one_line
from ltjax.evaluation.calibration import Correction
from ltjax.training.choice import Candidate
from ltjax.training.fitting import Fitted
from ltjax.training.settings import Settings, checked
from ltjax.training.workdir import as_json, write_together
from ltjax.whitening.classwise import Basis, ClassMoments

ARRAYS, FACTS = "arrays.safetensors", "classifier.json"
FORMAT = 2
# Largest size of a file in bytes.
MOST_BYTES = 2**33


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
    arrays = safetensors.numpy.save(flat)
    shrinkage, strength, correction = fitted.candidate
    about = {
        "format": FORMAT,
        "settings": settings._asdict(),
        "candidate": [shrinkage, strength, list(correction)],
        "rows": fitted.rows,
        "epochs": fitted.epochs,
        **facts,
    }
    about = json.loads(json.dumps(about))  # as it will be read, so that the digest agrees
    content = as_json(about | {"sha256": _digest(about, arrays)})
    write_together(path, {ARRAYS: arrays, FACTS: content})


def _digest(about: dict[str, Any], arrays: bytes) -> str:
    """SHA-256 of what both files hold; a flipped bit would give other predictions."""
    text = json.dumps(about, sort_keys=True)
    return hashlib.sha256(text.encode() + arrays).hexdigest()


@contextlib.contextmanager
def readable(folder: str | Path) -> Iterator[None]:
    """Context in which anything that goes wrong is the fault of the files.

    Args:
      folder: of the classifier.

    Raises:
      InputError: anything went wrong, in one line.
    """
    try:
        yield
    except Exception as error:  # of odd content, of many kinds
        why = one_line(getattr(error, "strerror", None) or repr(error), most=200)
        raise InputError(f"{folder} holds no classifier that can be read: {why}") from error


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
    with readable(path):
        facts = json.loads(read_regular(path / FACTS, most=MOST_BYTES))
        arrays = read_regular(path / ARRAYS, most=MOST_BYTES)
        if facts.get("format") != FORMAT:
            raise ValueError("it is of another version of ltjax")
        if facts.pop("sha256") != _digest(facts, arrays):
            raise ValueError("it does not agree with its SHA-256")
        settings = facts["settings"]
        settings = checked(Settings(**settings | {"hidden": tuple(settings["hidden"])}))
        shrinkage, strength, correction = facts["candidate"]
        tree = unflatten_dict(safetensors.numpy.load(arrays), sep="/")
        fitted = Fitted(
            ClassMoments(**tree["moments"]),
            facts["rows"],
            Basis(**tree["basis"]),
            tree["scale"],
            {"batch_stats": {}} | tree["variables"],
            Candidate(shrinkage, strength, Correction(*correction)),
            facts["epochs"],
        )
    return fitted, settings, facts
