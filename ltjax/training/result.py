"""What a finished run leaves of its evaluation: scores, and what a report draws."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltjax import config as configs
from ltjax.config import Config
from ltjax.data.sources import ArraySource
from ltjax.data.stream import LoadBatch
from ltjax.evaluation.details import HeldOut, details, post_hoc
from ltjax.evaluation.diagnostics import correlation_matrix, describe, describe_classifier
from ltjax.evaluation.metrics import average
from ltjax.evaluation.scores import intervals, scores, tally
from ltjax.models import Outputs
from ltjax.training.build import Job
from ltjax.training.multi_seed import Seeds
from ltjax.training.workdir import write_json


def score_seeds(
    config: Config, job: Job, seeds: Seeds
) -> tuple[list[dict[str, Any]], list[Outputs]]:
    """Test scores and outputs of every seed."""
    test, counts = job.splits.test, job.splits.train.class_counts
    outputs = [seeds.predict(test, seeds.state_of(index)) for index in range(seeds.count)]
    sums = [tally(test.labels, out.logits) for out in outputs]
    return [scores(each, counts, **configs.thresholds(config)) for each in sums], outputs


def evaluation(config: Config, job: Job, seeds: Seeds) -> tuple[dict[str, Any], list[Outputs]]:
    """The part of `result.json` that tells of the test images.

    Returns:
      `test` (the mean over seeds; with several also `test_std`, `seeds`, `per_seed`),
      `intervals` of each seed and, where images were held out of training, `post_hoc` scores
      of the first; and the outputs of each seed.
    """
    summaries, outputs = score_seeds(config, job, seeds)
    mean, std = average(summaries)
    test, counts = job.splits.test, job.splits.train.class_counts
    thresholds = configs.thresholds(config)
    found: dict[str, Any] = {"test": mean if seeds.count > 1 else summaries[0]}
    if seeds.count > 1:
        found |= {"test_std": std, "seeds": list(config.seeds), "per_seed": summaries}
    found["intervals"] = [
        intervals(test.labels, out.logits, counts, **thresholds) for out in outputs
    ]
    if job.validation is not None:
        held = job.validation
        held_out = HeldOut(held.labels, seeds.predict(held, seeds.state_of(0)).logits)
        found["post_hoc"] = post_hoc(held_out, test.labels, outputs[0].logits, counts, **thresholds)
    return found, outputs


def course(outputs: Outputs) -> dict[str, float]:
    """Diagnostics that are cheap enough for every evaluation during training."""
    line = {}
    for name, features in (("before", outputs.features), ("after", outputs.whitened)):
        found = describe(np.asarray(features))
        for key in ("effective_rank", "mean_abs_correlation", "gaussian_entropy"):
            line[f"diagnostics/{name}_whitening/{key}"] = found[key]
    return line


def write_details(folder: Path, job: Job, first: Outputs, params: Any) -> None:
    """Writes what a report draws, of the first seed.

    `diagnostics.json`, `correlation.npz`, `evaluation.json` and `confused.npz`.
    """
    test = job.splits.test
    kept = details(test.labels, first.logits)
    features, whitened = np.asarray(first.features), np.asarray(first.whitened)
    kernels = [x for x in jax.tree.leaves(params["head"]) if x.ndim == 2]
    kernel = np.asarray(kernels[0]) if kernels else None
    diagnostics = {
        "before_whitening": describe(features),
        "after_whitening": describe(whitened),
        "classifier": describe_classifier(whitened, first.logits, test.labels, kernel),
    }
    np.savez_compressed(
        folder / "correlation.npz",
        before=correlation_matrix(features),
        after=correlation_matrix(whitened),
    )
    write_json(folder / "diagnostics.json", diagnostics)
    write_json(folder / "evaluation.json", kept)
    worst = [one["index"] for one in kept["confused"]]
    if isinstance(test, ArraySource):
        images = test.images[worst]
    else:
        images = LoadBatch(test, None, 0, True)(0, np.array(worst, int)).images
    np.savez_compressed(folder / "confused.npz", images=images)


def command_line(arguments: Sequence[str]) -> str:
    """The command that a shell takes, of a process's arguments.

    >>> command_line(["/home/x/ltjax/main.py", "--config", "my config.py"])
    "python -m ltjax.main --config 'my config.py'"
    """
    program, *rest = arguments
    if program.replace("\\", "/").endswith(("ltjax/main.py", "ltjax/__main__.py")):
        return shlex.join(["python", "-m", "ltjax.main", *rest])
    return shlex.join([Path(program).name, *rest])
