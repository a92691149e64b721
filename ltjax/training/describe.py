"""What a workdir tells of a run besides its scores: its data, and the versions behind it."""

import contextlib
import importlib.metadata
import platform
from typing import Any

import jax

from ltjax.config import Config
from ltjax.data.longtail import shot_groups
from ltjax.samplers.counting import exposure, summary
from ltjax.training.build import Job
from ltjax.training.provenance import code_version, processor, sources_digest


def describe_data(job: Job, config: Config, content: dict[str, str]) -> dict[str, Any]:
    """What a report or a prediction needs to know of the data, for `dataset.json`.

    Args:
      job: parts of the run.
      config: resolved configuration.
      content: fingerprints of the parts' content, by which a resumed run knows them again.

    Returns:
      JSON.
    """
    train = job.data.train
    groups = shot_groups(train.class_counts, **config.evaluation.thresholds)
    return {
        "name": config.data.name,
        "class_names": list(train.class_names),
        "class_counts": train.class_counts.tolist(),
        "test_counts": job.data.test.class_counts.tolist(),
        "groups": {name: members.tolist() for name, members in groups._asdict().items()},
        "image_shape": list(train.image_shape),
        "mean": job.data.mean.tolist(),
        "std": job.data.std.tolist(),
        "fingerprint": {"train": train.fingerprint(), "test": job.data.test.fingerprint()},
        "content": content,
        "plan": repr(job.samplers[0]),
        "plan_fingerprints": [sampler.fingerprint() for sampler in job.samplers],
        "exposure": summary(
            exposure(
                job.samplers[0],
                train.labels,
                config.train.epochs,
                num_classes=len(train.class_names),
            )
        ),
    }


def versions(devices: list[jax.Device], count: int) -> dict[str, str]:
    """Versions of what computes a result, the devices it runs on, and the processor."""
    names = ("ltjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    found["device"] = f"{count} x {devices[0].device_kind}"
    found["processor"] = processor()
    found["code"], found["sources"] = code_version(), sources_digest()
    return found
