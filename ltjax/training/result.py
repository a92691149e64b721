"""What a finished run leaves of its evaluation: scores, and what a report draws."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ltjax.data.sources import ArraySource, EncodedSource, Source
from ltjax.data.stream import LoadBatch
from ltjax.evaluation.calibration import Correction
from ltjax.evaluation.details import HeldOut, details, fit_corrections, post_hoc
from ltjax.evaluation.diagnostics import correlation_matrix, describe, describe_classifier
from ltjax.evaluation.scores import scores, scores_of_seeds, tally
from ltjax.evaluation.target import under_prior, usual_priors
from ltjax.models import Outputs
from ltjax.training.multi_seed import Seeds
from ltjax.training.workdir import write_arrays, write_json


def score_seeds(seeds: Seeds, groups: dict[str, int]) -> tuple[list[dict[str, Any]], list[Outputs]]:
    """Scores and outputs of every seed on the test images.

    Args:
      seeds: the states to evaluate.
      groups: thresholds of the shot groups.
    """
    test, counts = seeds.job.data.test, seeds.job.data.train.class_counts
    outputs = _test_outputs(seeds)
    return [scores(tally(test.labels, out.logits), counts, **groups) for out in outputs], outputs


def _test_outputs(seeds: Seeds) -> list[Outputs]:
    """Outputs of every seed on the test images."""
    test = seeds.job.data.test
    return [seeds.outputs(test, seeds.state_of(index)) for index in range(seeds.count)]


def final_scores(seeds: Seeds, groups: dict[str, int]) -> tuple[dict[str, Any], list[Outputs]]:
    """The part of `result.json` that tells of the test images.

    Args:
      seeds: the final states.
      groups: thresholds of the shot groups.

    Returns:
      What `ltjax.evaluation.scores.scores_of_seeds` gives and, where images were held out of
      training, the first seed's scores on them, `validation`, and its `post_hoc` scores on the test
      images; its scores under other class distributions, `target_prior`; and the outputs of every
      seed.
    """
    data, outputs = seeds.job.data, _test_outputs(seeds)
    labels, counts = data.test.labels, data.train.class_counts
    logits = [out.logits for out in outputs]
    found = scores_of_seeds(labels, logits, counts, seeds=seeds.job.seeds, **groups)
    corrections: dict[str, Correction] = {}
    if data.validation is not None:
        held = HeldOut(
            data.validation.labels, seeds.outputs(data.validation, seeds.state_of(0)).logits
        )
        found["validation"] = scores(tally(*held), counts, **groups)
        corrections = fit_corrections(held, counts)
        found["post_hoc"] = post_hoc(corrections, labels, logits[0], counts, **groups)
    found["target_prior"] = {
        name: under_prior(
            labels,
            logits[0],
            counts,
            prior,
            temperature=corrections.get("temperature", Correction()).temperature,
            balanced=corrections.get("logit_adjustment"),
            **groups,
        )
        for name, prior in usual_priors(counts).items()
    }
    return found, outputs


def course(outputs: Outputs) -> dict[str, float]:
    """Diagnostics that are cheap enough for every evaluation during training."""
    line = {}
    for name, features in (("before", outputs.features), ("after", outputs.whitened)):
        found = describe(np.asarray(features))
        for key in ("effective_rank", "mean_abs_correlation", "gaussian_entropy"):
            line[f"diagnostics/{name}_whitening/{key}"] = found[key]
    return line


def write_details(folder: Path, test: Source, first: Outputs, params: Mapping[str, Any]) -> None:
    """Writes what a report draws, `diagnostics.json`, `correlation.npz`, `evaluation.json` and, of
    images, `confused.npz`; and `predictions.npz`, labels and predictions of all test images.

    Args:
      folder: workdir of the run.
      test: the test images.
      first: the first seed's outputs on them.
      params: the first seed's parameters.
    """
    kept = details(test.labels, first.logits)
    write_arrays(
        folder / "predictions.npz",
        labels=test.labels.astype(np.int32),
        predictions=np.argmax(first.logits, axis=1).astype(np.int32),
    )
    features, whitened = np.asarray(first.features), np.asarray(first.whitened)
    kernels = [x for x in jax.tree.leaves(params["head"]) if x.ndim == 2]
    kernel = np.mean(kernels, axis=0) if kernels else None  # of several heads their average
    diagnostics = {
        "before_whitening": describe(features),
        "after_whitening": describe(whitened),
        "classifier": describe_classifier(whitened, first.logits, test.labels, kernel),
    }
    write_arrays(
        folder / "correlation.npz",
        before=correlation_matrix(features),
        after=correlation_matrix(whitened),
    )
    write_json(folder / "diagnostics.json", diagnostics)
    write_json(folder / "evaluation.json", kept)
    worst = [one["index"] for one in kept["confused"]]
    if isinstance(test, ArraySource):
        write_arrays(folder / "confused.npz", images=test.images[worst])
    elif isinstance(test, EncodedSource):
        images = LoadBatch(test, None, 0, True)(0, np.array(worst, int)).images
        write_arrays(folder / "confused.npz", images=images)


def command_line(arguments: Sequence[str]) -> str:
    """The command that a shell takes, of a process's arguments.

    >>> command_line(["/home/x/ltjax/main.py", "--config", "my config.py"])
    "python -m ltjax.main --config 'my config.py'"
    """
    program, *rest = arguments
    if program.replace("\\", "/").endswith(("ltjax/main.py", "ltjax/__main__.py")):
        return shlex.join(["python", "-m", "ltjax.main", *rest])
    return shlex.join([Path(program).name, *rest])
