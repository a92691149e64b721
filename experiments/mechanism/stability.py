"""How steady the covariance of a batch is under each plan, on the features of a finished run."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.features import features, images_of
from ltjax.evaluation.diagnostics import covariance_stability
from ltjax.samplers import SamplerConfig, make_sampler
from ltjax.serving.load import load
from ltjax.training.build import build

PLANS = ("instance", "class_balanced", "b3rs", "b3rs_bet")
EPOCHS = 20


def measure(workdir: Path) -> dict[str, Any]:
    """Mean deviation of the batch's covariance from that of the plan, and of balanced images.

    Of runs with plain cross entropy alone, so that every plan is judged on the same features:
    `PLAN/own` from the covariance of all the plan's draws, `PLAN/balanced` from that of the
    balanced test images.
    """
    trained = load(workdir)
    if trained.config.method != "ce" or trained.config.whitening.method != "none":
        return {}
    job = build(trained.config)
    train, test = job.data.train, job.data.test
    own, balanced = (features(trained, images_of(part)) for part in (train, test))
    found = {}
    for name in PLANS:
        size = trained.config.train.batch_size
        sampler = make_sampler(SamplerConfig(name), train.labels, size, seed=0, epochs=EPOCHS)
        batches = np.stack(list(sampler.schedule(EPOCHS)))
        for words, reference in (("own", None), ("balanced", balanced)):
            deviation = covariance_stability(own, batches, reference=reference)
            found[f"{name}/{words}"] = float(deviation.mean())
    return found
