"""Reads and checks what a finished run left in its workdir, once for all that shows it.

This is the one place of the report that knows the files' JSON; everything above it reads a
`RunRecord`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from ltjax.data.npz import read_arrays
from ltjax.errors import InputError
from ltjax.report.record import (
    Classifier,
    Dataset,
    Features,
    Interval,
    Mistake,
    RunRecord,
    Training,
)
from ltjax.training.progress import read_metrics
from ltjax.training.store import fetched
from ltjax.training.stored import read_json

FILES = (
    "dataset.json",
    "config.json",
    "diagnostics.json",
    "evaluation.json",
    "correlation.npz",
)
# Where the run's data is images.
PICTURES = "confused.npz"


def read_run(workdir: str | Path) -> RunRecord:
    """Reads a finished workdir.

    Args:
      workdir: folder of a run that has finished.

    Returns:
      Everything that a report or a comparison shows of it.

    Raises:
      InputError: the run is not finished, or a file is absent or damaged; one line that names it.
    """
    folder = fetched(workdir)
    if not folder.exists():
        raise InputError(f"workdir {folder} does not exist; give the workdir of a finished run")
    if not (folder / "result.json").exists():
        raise InputError(
            f"workdir {folder} is not finished (it has no result.json); give the workdir of a "
            "finished run"
        )
    _check_exist(folder, *FILES)
    with _checked(folder / "result.json"):
        outcome = _result(read_json(folder / "result.json"))
    classes = len(outcome["training"].class_counts)
    with _checked(folder / "dataset.json"):
        described = read_json(folder / "dataset.json")
        outcome["dataset"] = _dataset(described, classes)
        images_shown = len(described["image_shape"]) > 1
    with _checked(folder / "config.json"):
        nested = read_json(folder / "config.json")
        outcome["nested_config"] = nested
        outcome["config"] = flatten_dict(nested, sep=".")
    with _checked(folder / "correlation.npz"):
        correlations = _arrays(folder / "correlation.npz", "before", "after")
    with _checked(folder / "diagnostics.json"):
        outcome |= _diagnostics(read_json(folder / "diagnostics.json"), *correlations)
    images = None
    if images_shown:
        _check_exist(folder, PICTURES)
        with _checked(folder / PICTURES):
            (images,) = _arrays(folder / PICTURES, "images")
    with _checked(folder / "evaluation.json"):
        outcome |= _evaluation(read_json(folder / "evaluation.json"), images, classes)
    with _checked(folder / "metrics.jsonl"):
        lines = read_metrics(folder / "metrics.jsonl")
        outcome["metrics"] = tuple(_numbers(line) for line in lines)
    return RunRecord(workdir=folder, **outcome)


def _check_exist(folder: Path, *names: str) -> None:
    absent = [name for name in names if not (folder / name).exists()]
    if absent:
        raise InputError(
            f"workdir {folder} lacks {', '.join(absent)}, which every finished run has; restore "
            "it, or train again in another --workdir"
        )


@contextlib.contextmanager
def _checked(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file raises into one line that names the file."""
    try:
        yield
    except InputError:
        raise
    except (
        AttributeError,
        IndexError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
    ) as e:
        reason = f"it lacks {e}" if isinstance(e, KeyError) else " ".join(str(e).split())
        raise InputError(
            f"{path} is not what a finished run writes ({reason}); restore it, or train again in "
            "another --workdir"
        ) from e


def _same_length(**parts: Any) -> None:
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"numbers of entries do not agree: {lengths}")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numbers(content: Mapping[str, Any]) -> dict[str, float | None]:
    """The entries that are one number or null."""
    return {key: _number(v) for key, v in content.items() if not isinstance(v, list | dict)}


def _interval(value: Any) -> Interval | None:
    if value is None:
        return None
    low, high = value
    return float(low), float(high)


def _result(content: dict[str, Any]) -> dict[str, Any]:
    test, train = content["test"], content["train"]
    speed = train["images_per_second"]
    training = Training(
        class_counts=tuple(int(n) for n in train["class_counts"]),
        steps=int(train["steps"]),
        epochs=int(train["epochs"]),
        images_per_second=_number(speed),
        seconds=float(train["seconds"]),
    )
    per_class = tuple(_number(a) for a in test["per_class"])
    _same_length(class_counts=training.class_counts, per_class=per_class)
    return {
        "method": str(content["method"]),
        "stage": str(content.get("stage", {}).get("name", "one")),
        "seeds": tuple(int(s) for s in content.get("seeds") or [content["seed"]]),
        "test": _numbers(test),
        "test_std": _numbers(content.get("test_std", {})),
        "per_class": per_class,
        "intervals": {
            key: _interval(span)
            for key, span in content["intervals"][0].items()
            if key != "per_class"
        },
        "post_hoc": {
            str(name): _numbers(corrected["test"])
            for name, corrected in content.get("post_hoc", {}).items()
        },
        "target_prior": {
            str(name): {str(how): _numbers(found) for how, found in each.items()}
            for name, each in content.get("target_prior", {}).items()
        },
        "calibrated": _calibrated(content.get("post_hoc", {}).get("temperature", {})),
        "training": training,
        "command": str(content.get("command", "")),
        "versions": {str(k): str(v) for k, v in content["versions"].items()},
    }


def _calibrated(correction: Mapping[str, Any]) -> np.ndarray | None:
    """Reliability bins after a correction; runs of older versions have none."""
    bins = correction.get("reliability")
    return None if bins is None else _bins(bins)


def _bins(content: Mapping[str, Any]) -> np.ndarray:
    return np.array([content[key] for key in ("images", "confidence", "correct")], np.float64)


def _dataset(content: dict[str, Any], classes: int) -> Dataset:
    names = tuple(str(name) for name in content["class_names"])
    seen = content["exposure"]
    _same_length(class_counts=range(classes), class_names=names, exposure=seen["class_counts"])
    return Dataset(
        name=str(content["name"]),
        class_names=names,
        groups={str(k): tuple(int(c) for c in v) for k, v in content["groups"].items()},
        fingerprint={str(k): str(v) for k, v in content["fingerprint"].items()},
        sampler=str(content["plan"]),
        exposure=seen,
    )


def _diagnostics(
    content: dict[str, Any], before: np.ndarray, after: np.ndarray
) -> dict[str, Features | Classifier]:
    def features(part: dict[str, Any], correlation: np.ndarray) -> Features:
        return Features(
            spectrum=tuple(float(share) for share in part["spectrum"]),
            effective_rank=float(part["effective_rank"]),
            mean_abs_correlation=float(part["mean_abs_correlation"]),
            correlation=correlation,
        )

    head = content["classifier"]
    norms = head["weight_norms"]
    return {
        "before_whitening": features(content["before_whitening"], before),
        "after_whitening": features(content["after_whitening"], after),
        "classifier": Classifier(
            weight_norms=tuple(float(n) for n in norms) if norms else None,
            mean_abs_gradient_cosine=_number(head["mean_abs_gradient_cosine"]),
            hessian_condition_number=_number(head["hessian_condition_number"]),
        ),
    }


def _evaluation(content: dict[str, Any], images: np.ndarray | None, classes: int) -> dict[str, Any]:
    confused = content["confused"]
    shown = [None] * len(confused) if images is None else images
    _same_length(confused=confused, images=shown)
    confusion = np.array(content["confusion"], np.int64).reshape(classes, classes)
    mistakes = tuple(
        Mistake(
            int(one["index"]),
            int(one["label"]),
            int(one["prediction"]),
            float(one["confidence"]),
            image,
        )
        for one, image in zip(confused, shown, strict=True)
    )
    if any(not 0 <= c < classes for one in mistakes for c in (one.label, one.prediction)):
        raise ValueError(f"a class outside 0..{classes - 1} under 'confused'")
    return {
        "confusion": confusion,
        "reliability": _bins(content["reliability"]),
        "mistakes": mistakes,
    }


def _arrays(path: Path, *names: str) -> list[np.ndarray]:
    stored = read_arrays(path, names)
    return [stored[name] for name in names]
