"""Finished workdirs for the tests of the report, without a training."""

import json

import numpy as np

from ltjax.evaluation.calibration import Correction
from ltjax.evaluation.details import details
from ltjax.evaluation.diagnostics import correlation_matrix, describe, describe_classifier
from ltjax.evaluation.metrics import average
from ltjax.evaluation.scores import intervals, scores, tally
from ltjax.evaluation.target import under_prior
from ltjax.samplers.baselines import PowerSampler
from ltjax.samplers.counting import exposure, summary
from ltjax.training.workdir import write_json

COUNTS = (200, 50, 5)


def outputs(seed):
    """Labels and logits of 60 test images of three classes; the better, the larger the seed."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=60)
    return labels, rng.normal(size=(60, 3)) + (1 + seed) * np.eye(3)[labels]


def write_workdir(
    folder,
    *,
    seeds=(0,),
    method="ce",
    names=("a", "b", "c"),
    data="d",
    groups=("many", "medium", "few"),
    **config,
):
    """Writes every file that a report reads, as a run with these seeds leaves them."""
    folder.mkdir(parents=True)
    labels, logits = outputs(seeds[0])
    each = [scores(tally(*outputs(seed)), COUNTS) for seed in seeds]
    mean, std = average(each)
    result = {
        "test": mean,
        "intervals": [intervals(*outputs(seed), COUNTS, resamples=20) for seed in seeds],
        "train": {
            "class_counts": COUNTS,
            "steps": 2,
            "epochs": 1,
            "images_per_second": None,
            "seconds": 1.0,
        },
        "target_prior": {
            "train": under_prior(labels, logits, COUNTS, COUNTS, balanced=Correction(1.0))
        },
        "method": method,
        "seed": seeds[0],
        "command": "ltjax --config configs/digits_lt.py",
        "versions": {"ltjax": "0"},
    }
    if len(seeds) > 1:
        result |= {"test_std": std, "seeds": seeds}
    members = np.repeat(np.arange(3), COUNTS)
    sampler = PowerSampler(members, 5, power=0, seed=0)
    dataset = {
        "name": "digits",
        "class_names": names,
        "image_shape": [4, 4, 1],
        "groups": dict(zip(groups, ([0], [1], [2]), strict=True)),
        "fingerprint": {"train": data, "test": data},
        "plan": "Shuffle",
        "exposure": summary(exposure(sampler, members, 1)),
    }
    features = np.random.default_rng(0).normal(size=(60, 4))
    kept = details(labels, logits)
    write_json(folder / "result.json", result)
    write_json(folder / "dataset.json", dataset)
    write_json(folder / "config.json", {"seed": seeds[0], "train": {"epochs": 1}, **config})
    write_json(folder / "evaluation.json", kept)
    described = {f"{name}_whitening": describe(features) for name in ("before", "after")}
    classifier = describe_classifier(features, logits, labels, None)
    write_json(folder / "diagnostics.json", {**described, "classifier": classifier})
    correlation = correlation_matrix(features)
    np.savez(folder / "correlation.npz", before=correlation, after=correlation)
    images = np.zeros((len(kept["confused"]), 4, 4, 1), np.uint8)
    np.savez(folder / "confused.npz", images=images)
    lines = [
        {"step": 1, "train/loss": 1.0, "train/accuracy": 0.2, "train/epoch": 0.5},
        {"step": 1, "test/balanced_accuracy": 0.1},
        {"step": 2, "test/balanced_accuracy": 0.2},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
