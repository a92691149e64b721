"""What a finished run leaves of its evaluation: scores, and what a report draws."""

from pathlib import Path
from typing import Any

import numpy as np

from ltjax import config as configs
from ltjax.data.sources import ArraySource
from ltjax.data.stream import LoadRows, Rows
from ltjax.diagnostics import describe
from ltjax.evaluation.metrics import average
from ltjax.evaluation.outcome import HeldOut, details, post_hoc
from ltjax.evaluation.scores import intervals, scores, tally
from ltjax.models import Outputs
from ltjax.training.job import Job
from ltjax.training.seeds import Seeds
from ltjax.training.workdir import write_json


def score_seeds(config: Any, job: Job, seeds: Seeds) -> tuple[list[dict[str, Any]], list[Outputs]]:
    """Test scores and outputs of every seed."""
    test, counts = job.splits.test, job.splits.train.class_counts
    outputs = [seeds.predict(test, seeds.state_of(index)) for index in range(seeds.count)]
    sums = [tally(test.labels, out.logits) for out in outputs]
    return [scores(each, counts, **configs.thresholds(config)) for each in sums], outputs


def evaluation(config: Any, job: Job, seeds: Seeds) -> tuple[dict[str, Any], list[Outputs]]:
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


def write_details(folder: Path, job: Job, first: Outputs) -> None:
    """Writes `diagnostics.json`, `evaluation.json` and `confused.npz`, of the first seed."""
    test = job.splits.test
    kept = details(test.labels, first.logits)
    diagnostics = {
        "before_whitening": describe(np.asarray(first.features)),
        "after_whitening": describe(np.asarray(first.whitened)),
    }
    write_json(folder / "diagnostics.json", diagnostics)
    write_json(folder / "evaluation.json", kept)
    worst = [one["index"] for one in kept["confused"]]
    if isinstance(test, ArraySource):
        images = test.images[worst]
    else:
        images = LoadRows(test, None, 0, True)(Rows(0, np.array(worst, int))).images
    np.savez_compressed(folder / "confused.npz", images=images)
