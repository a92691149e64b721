"""How `LongTailClassifier` fits: its parameters, checked, and the configuration they make."""

from typing import NamedTuple

import numpy as np

from ltjax.config import METHODS, Config, resolve
from ltjax.config.options import MOST_EPOCHS as MOST_EPOCHS_EVER
from ltjax.config.options import TrainConfig
from ltjax.errors import Allowed, integer, number, number_or, one_of, require
from ltjax.evaluation.calibration import Correction
from ltjax.losses.logit_adjustment import TAU
from ltjax.losses.registry import LossConfig
from ltjax.models.mlp import HIDDEN
from ltjax.samplers import SamplerConfig
from ltjax.samplers.b3rs import BALANCE, NUM_BLOCKS
from ltjax.samplers.bet import FRACTION
from ltjax.whitening.options import WhiteningConfig
from ltjax.whitening.shrinkage import SMALLEST

AUTO = "auto"
# The method without steps: class means in white coordinates.
LDA = "lda"
CLASSIFIERS = (*METHODS, LDA)
# Rows that all epochs together see at most by default, and the fewest and most epochs: 75,000 to
# 300,000 rows were equally good on held-out rows of CIFAR-100-LT and CIFAR-10-LT.
ROWS_SEEN, FEWEST_EPOCHS, MOST_EPOCHS = 100_000, 2, 60
SMALLEST_BATCH, LARGEST_BATCH = 64, 1024


def _auto_or(integers: Allowed) -> Allowed:
    def check(value: object) -> bool:
        return value == AUTO if isinstance(value, str) else integers.check(value)

    return Allowed(check, f"{integers.words}, or {AUTO}")


# What each parameter may be.
ALLOWED: dict[str, Allowed] = {
    "method": one_of(*CLASSIFIERS),
    "shrinkage": number_or(number(SMALLEST, 1), AUTO),
    "weight_decay": number_or(number(0), AUTO),
    "tau": number_or(TAU.allowed, AUTO),
    "epochs": _auto_or(integer(1, MOST_EPOCHS_EVER)),
    "batch_size": _auto_or(integer(1, 2**20)),
    "learning_rate": number_or(number(0, open_low=True), AUTO),
    "hidden": HIDDEN.allowed,
    "n_blocks": NUM_BLOCKS.allowed,
    "balance": BALANCE.allowed,
    "fraction": FRACTION.allowed,
    "validation_fraction": number(0, 1, open_low=True, open_high=True),
    "seeds": integer(1, 1000),
}


class Settings(NamedTuple):
    """How to fit; the parameters of `LongTailClassifier`, checked.

    A number that is "auto" follows from the rows.
    """

    method: str
    shrinkage: float | str
    weight_decay: float | str
    tau: float | str
    epochs: int | str
    batch_size: int | str
    learning_rate: float | str
    hidden: tuple[int, ...]
    n_blocks: int
    balance: float
    fraction: float
    validation_fraction: float
    early_stopping: bool
    seeds: int
    seed: int
    device: str | None

    @property
    def whitens(self) -> bool:
        """Whether the rows are whitened; otherwise they are standardized.

        They are standardized under `hidden` too, whose outputs are whitened in their place, and for
        a BatchNorm, which does nothing else to rows that stay as they are.
        """
        if self.method == LDA:
            return True
        whitening = METHODS[self.method]["whitening.method"]
        return not self.hidden and whitening not in ("none", "batch_norm")

    def config(self, rows: int, num_classes: int) -> Config:
        """The configuration of a training on so many rows."""
        batch, epochs = self.batch_size, self.epochs
        if isinstance(batch, str):
            wanted = 2 ** int(np.log2(3 * np.sqrt(rows)))
            batch = int(np.clip(wanted, SMALLEST_BATCH, LARGEST_BATCH))
        if isinstance(epochs, str):
            epochs = int(np.clip(ROWS_SEEN // rows, FEWEST_EPOCHS, MOST_EPOCHS))
        sampler = SamplerConfig(
            num_blocks=min(self.n_blocks, num_classes, batch),
            balance=self.balance,
            fraction=self.fraction,
        )
        config = Config(
            method=self.method,
            seed=self.seed,
            train=TrainConfig(batch_size=batch, epochs=epochs),
            plan=sampler,
            loss=LossConfig(tau=self.given_tau),
            whitening=WhiteningConfig(shrinkage=self.shrinkage),
        )
        return resolve(config)

    @property
    def given_tau(self) -> float:
        """The strength of the logit adjustment before any choice."""
        return TAU.default if isinstance(self.tau, str) else self.tau

    def correction(self) -> Correction:
        """The correction before any choice: that of a loss that leaves the prior in its logits."""
        plain = {"loss.name": "cross_entropy", "loss.weighting": "none"}
        keys = METHODS.get(self.method, {})
        # Label-aware smoothing takes an unknown part of it out.
        aware = str(keys.get("loss.smoothing")).startswith("label_aware")
        uncorrected = plain.items() <= keys.items() and not aware
        return Correction(self.given_tau if uncorrected else 0.0)


def checked(settings: Settings) -> Settings:
    """Checks settings.

    Args:
      settings: as they were given.

    Returns:
      The same.

    Raises:
      InputError: naming the parameter, its value and what is allowed.
    """
    for name, allowed in ALLOWED.items():
        value = getattr(settings, name)
        try:
            fits = allowed.check(value)
        except TypeError:  # what cannot be compared with a number is none
            fits = False
        require(fits, name, value, allowed.words)
    return settings._replace(hidden=tuple(settings.hidden))
