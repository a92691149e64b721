"""Scores of a trained network on the test images of any source."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.load import DataConfig
from ltjax.data.loader import Batch, eval_batches
from ltjax.data.sources import Source
from ltjax.errors import require
from ltjax.evaluation.calibration import Correction
from ltjax.evaluation.details import post_hoc
from ltjax.evaluation.outputs import collect_outputs
from ltjax.evaluation.scores import scores_of_seeds
from ltjax.evaluation.target import under_prior
from ltjax.models import Outputs
from ltjax.serving.load import Trained, corrections, load_all
from ltjax.serving.scored import read_scored, stored_data
from ltjax.serving.target import read_prior
from ltjax.training.inputs import Resident
from ltjax.training.step import make_eval_step


def evaluate(
    workdir: str | Path,
    data: DataConfig | None = None,
    *,
    checkpoint: str = "result",
    target_prior: str = "",
) -> dict[str, Any]:
    """Evaluates every seed of a finished run.

    Classes, normalization and the counts that make the shot groups are those of its training.

    Args:
      workdir: of a finished run.
      data: another source to evaluate on, of which the test part is scored, or all images where
        it has none; None is the data set of the run.
      checkpoint: see `ltjax.serving.load.load_all`.
      target_prior: a class distribution to compute scores under as well, see
        `ltjax.serving.target.read_prior`; empty for none.

    Returns:
      JSON: what `ltjax.evaluation.scores.scores_of_seeds` gives; `post_hoc`, the scores of the
      first seed after each correction that its training fitted, for the best network the
      temperature alone; `target_prior`, where it is asked for; and `data`, the source's name, the
      fingerprint, the number of the images, what part they are, and notes.

    Raises:
      InputError: the run is not finished, the source has other classes or image sizes, or images
        would be scored that were trained on.
    """
    networks = load_all(workdir, checkpoint)
    run = networks[0].run
    names, counts = run.dataset["class_names"], np.asarray(run.dataset["class_counts"])
    prior = read_prior(target_prior, names, counts) if target_prior else None
    source = data or stored_data(run)
    test, part, notes = read_scored(run, source)
    same = list(test.class_names) == list(run.dataset["class_names"])
    require(same, "classes of the source", list(test.class_names)[:5], "those of the training")
    require(
        test.image_shape == run.image_shape,
        "images of the source",
        test.image_shape,
        f"images {run.image_shape}",
    )
    groups = run.config.evaluation.thresholds
    logits = [_logits(network, test) for network in networks]
    seeds = [network.config.seed for network in networks]
    result = scores_of_seeds(test.labels, logits, counts, seeds=seeds, **groups)
    fitted = corrections(run)
    if checkpoint == "best":
        fitted = {"temperature": Correction(temperature=networks[0].temperature)}
    if fitted:
        result["post_hoc"] = post_hoc(fitted, test.labels, logits[0], counts, **groups)
    if prior is not None:
        first = networks[0]
        result["target_prior"] = {
            target_prior: under_prior(
                test.labels,
                logits[0],
                counts,
                prior,
                temperature=first.temperature,
                balanced=first.balanced,
                **groups,
            )
        }
    about = {"images": len(test), "part": part, "notes": list(notes)}
    return result | {"data": {"name": source.name, "fingerprint": test.fingerprint(), **about}}


def _logits(network: Trained, source: Source) -> np.ndarray:
    """Logits of the whole source, by the step that the training evaluates with."""
    mean, std = (jnp.asarray(network.dataset[name], jnp.float32) for name in ("mean", "std"))
    data = Resident(None, mean, std, (), jax.random.key(0))
    step = jax.jit(make_eval_step(network.model))

    def outputs(batch: Batch) -> Outputs:
        return step(network.variables, data, batch)

    size = network.config.evaluation.batch_size
    return collect_outputs(outputs, eval_batches(source.labels, size, source)).logits
