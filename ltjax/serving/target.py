"""The class distribution that `--target_prior` names."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltjax.errors import InputError, one_line, require
from ltjax.evaluation.target import usual_priors
from ltjax.training.stored import read_json


def read_prior(text: str, class_names: Sequence[str], class_counts: np.ndarray) -> np.ndarray:
    """Reads a class distribution.

    Args:
      text: `uniform`, `train`, numbers in the order of the classes separated by commas, or a
        `.json` file with a list of them or an object with one for every class name.
      class_names: of the run.
      class_counts: its training images per class, `[C]`.

    Returns:
      Shares or counts, `[C]`, with a positive sum.

    Raises:
      InputError: another text, or numbers that are no distribution of these classes.

    >>> read_prior("3, 1", ["cat", "dog"], np.array([5, 5])).tolist()
    [3.0, 1.0]
    """
    usual = usual_priors(class_counts)
    if text in usual:
        return usual[text]
    if text.endswith(".json"):
        found = read_json(Path(text))
    else:
        try:
            found = json.loads(f"[{text}]")
        except ValueError:
            found = None
    if isinstance(found, dict):
        missing = [name for name in class_names if name not in found]
        others = [name for name in found if name not in class_names]
        if missing or others:
            what = f"lacks class {missing[0]!r}" if missing else f"has {others[0]!r}, no class"
            raise InputError(
                f"--target_prior {one_line(text)} {what}; give one number for each class of the run"
            )
        found = [found[name] for name in class_names]
    right = isinstance(found, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x < 1e300 for x in found
    )
    require(
        right and len(found) == len(class_names) and sum(found) > 0,
        "--target_prior",
        text,
        f"uniform, train, {len(class_names)} numbers >= 0 separated by commas in the order of the "
        "classes, or a .json file of them",
    )
    return np.array(found, np.float64)
