"""What a report or a comparison shows of a finished run; `ltjax.report.read` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GROUPS = ("many", "medium", "few")

Scores = Mapping[str, float | None]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Training:
    """How the run trained.

    Attributes:
      class_counts: training images per class.
      steps: steps of training.
      epochs: epochs of training.
      images_per_second: speed of training; None where nothing was trained.
      seconds: time that the training took.
    """

    class_counts: tuple[int, ...]
    steps: int
    epochs: int
    images_per_second: float | None
    seconds: float


@dataclass(frozen=True)
class Dataset:
    """The data of the run.

    Attributes:
      name: of the data set.
      class_names: one name per class.
      groups: class indices of many, medium and few.
      fingerprint: of the training and of the test part, by name.
      sampler: name of the sampler.
      exposure: as `ltjax.samplers.exposure.summary` gives it.
    """

    name: str
    class_names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]
    fingerprint: Mapping[str, str]
    sampler: str
    exposure: Mapping[str, Any]


@dataclass(frozen=True)
class Features:
    """Test features before or after whitening.

    Attributes:
      spectrum: eigenvalues of their covariance as shares of the sum, descending.
      effective_rank: of that spectrum.
      mean_abs_correlation: mean absolute correlation between two channels.
      correlation: float `[k, k]`, of the first k channels.
    """

    spectrum: tuple[float, ...]
    effective_rank: float
    mean_abs_correlation: float
    correlation: np.ndarray


@dataclass(frozen=True)
class Classifier:
    """State of the classifier; None where its head or its size leaves a quantity undefined.

    Attributes:
      weight_norms: norm of each class's weight vector.
      mean_abs_gradient_cosine: mean absolute cosine between the gradients of two classes.
      hessian_condition_number: of the softmax classifier, on the complement of its null space.
    """

    weight_norms: tuple[float, ...] | None
    mean_abs_gradient_cosine: float | None
    hessian_condition_number: float | None


@dataclass(frozen=True)
class Mistake:
    """A misclassified test image.

    Attributes:
      index: its number among the test images.
      label: its class.
      prediction: the class that the network predicted.
      confidence: probability of the prediction, from 0 to 1.
      image: uint8 `[H, W, C]`; None where the run's data is features.
    """

    index: int
    label: int
    prediction: int
    confidence: float
    image: np.ndarray | None


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run.

    Attributes:
      workdir: the folder that it was read from.
      method: name of the method.
      stage: name of the stage; "one" for end-to-end training.
      seeds: the seeds of the run, one or more.
      test: test scores by their stored key; the mean over seeds where there are several.
      test_std: standard deviation of each over seeds; empty for one seed.
      per_class: test accuracy of each class; None where it has no test image.
      intervals: 95% bootstrap interval of each score of the first seed.
      post_hoc: test scores of the first seed after each post-hoc correction, by its name.
      target_prior: test scores of the first seed under other class distributions, by the name of
        the distribution, then by whether the predictions are `as_they_are` or `adjusted` to it.
      training: how it trained.
      command: the command that a shell takes.
      versions: of the software, and the device.
      dataset: the data.
      config: the configuration by flat key, such as `loss.name`.
      nested_config: the same, in sections.
      before_whitening: test features before whitening, of the first seed.
      after_whitening: test features after it.
      classifier: state of the classifier, of the first seed.
      confusion: int `[C, C]`, row = true class, column = predicted class.
      reliability: float `[3, bins]`: images, sum of their confidence, number correct.
      calibrated: the same after the fitted temperature; None where no image was held out.
      mistakes: the most confident errors, the most confident first.
      metrics: lines of `metrics.jsonl`.
    """

    workdir: Path
    method: str
    stage: str
    seeds: tuple[int, ...]
    test: Scores
    test_std: Scores
    per_class: tuple[float | None, ...]
    intervals: Mapping[str, Interval | None]
    post_hoc: Mapping[str, Scores]
    target_prior: Mapping[str, Mapping[str, Scores]]
    training: Training
    command: str
    versions: Mapping[str, str]
    dataset: Dataset
    config: Mapping[str, Any]
    nested_config: Mapping[str, Any]
    before_whitening: Features
    after_whitening: Features
    classifier: Classifier
    confusion: np.ndarray
    reliability: np.ndarray
    calibrated: np.ndarray | None
    mistakes: tuple[Mistake, ...]
    metrics: tuple[Scores, ...]

    @property
    def name(self) -> str:
        """The method, and the second stage where there is one."""
        return self.method if self.stage == "one" else f"{self.method} + {self.stage}"

    @property
    def seeds_text(self) -> str:
        """The seeds in words, such as `seed 0` or `seeds 0, 1`."""
        listed = ", ".join(map(str, self.seeds))
        return f"seeds {listed}" if len(self.seeds) > 1 else f"seed {listed}"

    @property
    def title(self) -> str:
        """Data, method and seeds."""
        return f"{self.dataset.name}, {self.name}, {self.seeds_text}"

    def spread(self, key: str) -> Interval | None:
        """The uncertainty of a score, over seeds where there are several, else over test images.

        Args:
          key: of the score in `test`.

        Returns:
          `mean - std` and `mean + std` over several seeds; of one seed, its 95% interval; None
          where the score is not defined.
        """
        mean, std = self.test.get(key), self.test_std.get(key)
        if len(self.seeds) == 1:
            return self.intervals.get(key)
        return None if mean is None or std is None else (mean - std, mean + std)
