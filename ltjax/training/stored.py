"""What a run stored as JSON, read back: nothing of it is believed before it is checked."""

import json
import math
from pathlib import Path
from typing import Any

from ltjax.data.files import read_regular
from ltjax.errors import InputError

# No file that a run reads again is larger.
MOST_BYTES = 2**31
# Of an image or a vector of features, so that a damaged shape allocates nothing.
MOST_VALUES = 2**27


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
      InputError: the file is absent, damaged or no regular file.
    """
    try:
        return json.loads(read_regular(path, most=MOST_BYTES).decode())
    except (ValueError, OSError, RecursionError) as e:
        reason = e.strerror if isinstance(e, OSError) else " ".join(str(e).split())
        raise InputError(
            f"{path} cannot be read as JSON ({reason}); restore it, or use another --workdir"
        ) from e


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      InputError: see `read_json`, or it is another value.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; restore it, or use another --workdir")
    return content


def checked_result(path: Path) -> dict[str, Any]:
    """Content of a `result.json`.

    Raises:
      InputError: it is damaged, or not what a finished run writes.
    """
    content = read_object(path)
    wanted: dict[str, type] = {"test": dict, "train": dict, "method": str}
    wrong = [k for k, t in wanted.items() if not _is(content.get(k), t)]
    fitted = content.get("post_hoc", {})
    if not isinstance(fitted, dict) or not all(map(_is_correction, fitted.values())):
        wrong.append("post_hoc")
    if "best" in content and not _is_best(content["best"]):
        wrong.append("best")
    wrong += [k for k in ("stage", "versions") if not _is(content.get(k, {}), dict)]
    if "per_seed" in content and not _list_of(content["per_seed"], dict):
        wrong.append("per_seed")
    return _checked(path, content, wrong)


def checked_dataset(path: Path) -> dict[str, Any]:
    """Content of a `dataset.json`.

    Raises:
      InputError: it is damaged, or not what a run writes.
    """
    content = read_object(path)
    keys = ("class_names", "image_shape", "class_counts", "fingerprint")
    values: list[Any] = [content.get(key) for key in keys]
    names, shape, counts, prints = values
    checks = {
        "class_names": _list_of(names, str),
        "image_shape": _is_shape(shape),
        "class_counts": _list_of(names, str)
        and _list_of(counts, int, len(names))
        and all(0 <= count < 2**53 for count in counts),
        "mean": _numbers_of_channels(content.get("mean"), shape),
        "std": _numbers_of_channels(content.get("std"), shape) and min(content["std"]) > 0,
        "fingerprint": isinstance(prints, dict) and {"train", "test"} <= set(prints),
    }
    wrong = [key for key, right in checks.items() if not right]
    return _checked(path, content, wrong)


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _list_of(value: Any, kind: Any, length: int | None = None) -> bool:
    """Whether a value is a list of one kind, of that length or not empty."""
    right = isinstance(value, list) and all(_is(one, kind) for one in value)
    return right and (len(value) > 0 if length is None else len(value) == length)


def _is_correction(value: Any) -> bool:
    """Whether a value has a finite `tau` and a positive `temperature`."""
    if not isinstance(value, dict):
        return False
    numbers: list[Any] = [value.get("tau"), value.get("temperature")]
    return _list_of(numbers, int | float) and all(map(math.isfinite, numbers)) and numbers[1] > 0


def _is_best(value: Any) -> bool:
    """Whether a value has a `step` and a positive `temperature`."""
    if not isinstance(value, dict) or not _is(value.get("step"), int):
        return False
    temperature: Any = value.get("temperature")
    return _is(temperature, int | float) and math.isfinite(temperature) and temperature > 0


def _numbers_of_channels(value: Any, shape: Any) -> bool:
    """Whether a value is a finite number for each channel or feature of that shape."""
    right = _is_shape(shape) and _list_of(value, int | float, shape[-1])
    return right and all(map(math.isfinite, value))


def _is_shape(value: Any) -> bool:
    """Whether a value is the shape of an image, or the length of a vector of features."""
    right = _list_of(value, int) and len(value) in (1, 3) and min(value) > 0
    return right and math.prod(value) <= MOST_VALUES


def _checked(path: Path, content: dict[str, Any], wrong: list[str]) -> dict[str, Any]:
    if wrong:
        raise InputError(
            f"{path} is not what a run writes ({wrong[0]} is absent or wrong); restore it, or use "
            "another --workdir"
        )
    return content
