"""A trained network, read from its workdir or its export alone: without its data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.augment.device import normalize
from ltjax.config import Config
from ltjax.errors import InputError
from ltjax.evaluation.calibration import Correction
from ltjax.models import Classifier, Outputs
from ltjax.serving.record import is_export, of_seed, read_variables
from ltjax.training import devices
from ltjax.training.build import model_of
from ltjax.training.restore import restore_states
from ltjax.training.workdir import FinishedRun, read_finished
from ltjax.whitening import fold_into_dense
from ltjax.whitening.linen import FROZEN, StandardizedWhitening, freeze


class Trained(NamedTuple):
    """One seed's network and what it needs to know.

    Attributes:
      run: its finished run, as one of this seed alone.
      model: network.
      variables: parameters, statistics and frozen whitening roots.
      temperature: fitted on held-out training images, 1 where none were held out.
      balanced: makes the logits fit balanced classes, fitted on the same images; None where none
        were held out, or it was fitted to another network.
      scores: on the test images of the run; empty where `result.json` tells of another network.
    """

    run: FinishedRun
    model: Classifier
    variables: dict[str, Any]
    temperature: float
    balanced: Correction | None = None
    scores: Mapping[str, Any] = MappingProxyType({})

    @property
    def path(self) -> Path:
        """The workdir."""
        return self.run.path

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self.run.config

    @property
    def dataset(self) -> dict[str, Any]:
        """Content of `dataset.json`: classes, image shape, normalization."""
        return self.run.dataset

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(H, W, C)`, or `(D,)` of given features."""
        return self.run.image_shape


def load_all(workdir: str | Path, checkpoint: str = "result") -> list[Trained]:
    """Reads the network of every seed.

    Args:
      workdir: of a finished run, or an export.
      checkpoint: "result" for the network that `result.json` tells of, or "best" for the best one
        on held-out images.

    Returns:
      The networks in the order of the seeds.

    Raises:
      InputError: the run is not finished, or its checkpoint cannot be read.
    """
    run = read_finished(workdir)
    exported = is_export(run)
    if exported and checkpoint != "result":
        raise InputError(
            f"--checkpoint = {checkpoint} is not allowed with {run.path}: an export has one "
            "network; leave it out"
        )
    model = model_of(run.config, run.num_classes)
    image = jnp.zeros((1, *run.image_shape), jnp.float32)
    roots = jax.jit(lambda variables: freeze(model, variables, image, train=False))
    if exported:
        key = jax.random.key(0)
        like = jax.eval_shape(lambda key: roots(model.init(key, image, train=False)), key)
        every = [read_variables(run, like)]
    else:
        one = devices.Mapping(devices.choose_devices(1)[:1])
        states = restore_states(run, one, checkpoint=checkpoint)
        every = [roots(state.variables) for state in states]
    return [
        Trained(of_seed(run, seed), model, variables, *_known(run, index, checkpoint))
        for index, (seed, variables) in enumerate(zip(run.config.seeds, every, strict=True))
    ]


def _known(
    run: FinishedRun, index: int, checkpoint: str
) -> tuple[float, Correction | None, Mapping[str, Any]]:
    """Temperature, adjustment and scores of the network of a seed."""
    best = run.best
    if checkpoint == "best" and best and best["step"] != run.result["train"].get("kept_step"):
        return best["temperature"], None, {}
    fitted = corrections(run)
    every = run.result.get("per_seed", [run.result["test"]])
    scores = every[index] if index < len(every) else {}
    temperature = fitted.get("temperature", Correction()).temperature
    return temperature, fitted.get("logit_adjustment"), scores


def corrections(run: FinishedRun) -> dict[str, Correction]:
    """What was fitted on held-out images to the network that `result.json` tells of, by name."""
    return {
        name: Correction(fitted["tau"], fitted["temperature"])
        for name, fitted in run.result.get("post_hoc", {}).items()
    }


def load(workdir: str | Path, checkpoint: str = "result") -> Trained:
    """Reads the network of the first seed.

    Args:
      workdir: of a finished run.
      checkpoint: see `load_all`.

    Returns:
      The network.

    Raises:
      InputError: the run is not finished, or its checkpoint cannot be read.
    """
    return load_all(workdir, checkpoint)[0]


def normalized(trained: Trained, images: jax.Array) -> jax.Array:
    """Normalizes images as the network expects them: `(x - mean) / std` per channel.

    Args:
      trained: network.
      images: uint8 `[B, H, W, C]`, or given features `[B, D]`.

    Returns:
      float32, the shape of the images.
    """
    mean, std = (jnp.asarray(trained.dataset[name], jnp.float32) for name in ("mean", "std"))
    return normalize(images, mean, std)


def logits_function(trained: Trained) -> Callable[[jax.Array], jax.Array]:
    """The network as a function, as the evaluation computes it.

    Args:
      trained: network.

    Returns:
      A function of uint8 images `[B, H, W, C]` that gives logits `[B, classes]`.
    """

    def logits(images: jax.Array) -> jax.Array:
        out = trained.model.apply(trained.variables, normalized(trained, images), train=False)
        assert isinstance(out, Outputs)  # a pair only where variables are mutable
        return out.logits

    return logits


def _whitenings(trained: Trained) -> list[tuple[jax.Array, jax.Array]]:
    """Running mean and frozen matrix of each whitening, in the order in which they are applied."""
    stats, frozen = trained.variables["batch_stats"]["whitening"], trained.variables[FROZEN]
    if isinstance(trained.model.whitening, StandardizedWhitening):
        names = ("standardize", "whiten")
        return [(stats[n]["mean"], frozen["whitening"][n]["matrix"]) for n in names]
    return [(stats["mean"], frozen["whitening"]["matrix"])]


def folded_function(trained: Trained) -> tuple[Callable[[jax.Array], jax.Array], bool]:
    """The network as a function in which whitening and a linear classifier are one affine map.

    A `cosine` head divides by the norm of the whitened features, so it is not folded.

    Args:
      trained: network.

    Returns:
      A function of uint8 images `[B, H, W, C]` that gives logits `[B, classes]`, and whether it is
      folded.
    """
    model, params = trained.model, trained.variables["params"]
    if trained.config.model.head == "cosine":
        return logits_function(trained), False
    kernel, bias = model.head.as_dense(params["head"])
    if model.whitening is not None:
        for mean, matrix in reversed(_whitenings(trained)):
            kernel, bias = fold_into_dense(mean, matrix, kernel, bias)
    features = features_function(trained)

    def logits(images: jax.Array) -> jax.Array:
        return features(images) @ kernel + bias[None, :]

    return logits, True


def features_function(trained: Trained) -> Callable[[jax.Array], jax.Array]:
    """The backbone as a function: what the classifier, or the whitening before it, takes.

    Args:
      trained: network.

    Returns:
      A function of uint8 images `[B, H, W, C]`, or given features `[B, D]`, that gives float32
      features `[B, D']`.
    """
    backbone = {
        name: trained.variables[name]["backbone"]
        for name in ("params", "batch_stats")
        if "backbone" in trained.variables.get(name, {})
    }

    def features(images: jax.Array) -> jax.Array:
        found = trained.model.backbone.apply(backbone, normalized(trained, images), train=False)
        assert isinstance(found, jax.Array)
        return found.astype(jnp.float32)

    return features
