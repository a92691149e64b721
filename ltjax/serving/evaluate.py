"""Scores of a trained network on the test images of any source."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltjax import config as configs
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.sources import ArraySource, Source
from ltjax.errors import require
from ltjax.evaluation.calibration import Correction, correct
from ltjax.evaluation.metrics import average
from ltjax.evaluation.scores import intervals, scores, tally
from ltjax.serving.load import Trained, load_all, logits_function
from ltjax.training.restore import read_config
from ltjax.training.workdir import read_json


def evaluate(workdir: str | Path, data: DataConfig | None = None) -> dict[str, Any]:
    """Evaluates every seed of a finished run.

    Classes, normalisation and the counts that make the shot groups are those of its training.

    Args:
      workdir: of a finished run.
      data: another source to evaluate on; None is the data set of the run.

    Returns:
      `test`, with several seeds also `test_std`, `seeds` and `per_seed`; `intervals` of each
      seed; `post_hoc` of the first by the corrections that its training fitted; and `data`.

    Raises:
      InputError: no finished run, or a source of other classes or image sizes.
    """
    config = read_config(workdir)
    # The profile thins the training part only, and another source may be too small for it.
    source = dataclasses.replace(data or config.data, profile="as_is")
    test = load_splits(source).test
    networks = load_all(workdir)
    dataset = networks[0].dataset
    same = list(test.class_names) == list(dataset["class_names"])
    require(same, "classes of the source", list(test.class_names)[:5], "those of the training")
    require(
        test.image_shape == networks[0].image_shape,
        "images of the source",
        test.image_shape,
        f"images {networks[0].image_shape}",
    )
    counts, thresholds = dataset["class_counts"], configs.thresholds(config)
    logits = [_logits(n, test, config.evaluation.batch_size) for n in networks]
    found = [scores(tally(test.labels, z), counts, **thresholds) for z in logits]
    mean, std = average(found)
    several = len(found) > 1
    result: dict[str, Any] = {"test": mean if several else found[0]}
    if several:
        result |= {"test_std": std, "seeds": list(config.seeds), "per_seed": found}
    result["intervals"] = [intervals(test.labels, z, counts, **thresholds) for z in logits]
    fitted = read_json(Path(workdir) / "result.json").get("post_hoc", {})
    for name, fit in fitted.items():
        by = Correction(fit["tau"], fit["temperature"])
        changed = tally(test.labels, correct(logits[0], np.asarray(counts), by))
        post = by._asdict() | {"test": scores(changed, counts, **thresholds)}
        result.setdefault("post_hoc", {})[name] = post
    return result | {"data": {"name": source.name, "fingerprint": test.fingerprint()}}


def pixels(source: Source, indices: np.ndarray) -> np.ndarray:
    """Images as an evaluation sees them, uint8 `[B, H, W, C]`."""
    if isinstance(source, ArraySource):
        return source.images[indices]
    return np.stack([source.view(int(i)) for i in indices])


def _logits(network: Trained, source: Source, batch_size: int) -> np.ndarray:
    function = jax.jit(logits_function(network))
    parts = []
    for start in range(0, len(source), batch_size):
        # The last batch repeats its last image: one shape, one compilation.
        indices = np.arange(start, start + batch_size)
        inside = indices < len(source)
        images = pixels(source, np.minimum(indices, len(source) - 1))
        parts.append(np.asarray(function(images))[inside])
    return np.concatenate(parts)
