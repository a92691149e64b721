"""The options of whitening, composed for a configuration."""

import dataclasses

from ltjax.errors import FLAG, Option, one_of, option
from ltjax.whitening.methods import METHOD, WHITENINGS
from ltjax.whitening.moments import GROUPS
from ltjax.whitening.newton_schulz import STEPS
from ltjax.whitening.running import MEMORY, MOMENTUM, STATS_EVERY
from ltjax.whitening.shrinkage import SHRINKAGE

STANDARDIZE = Option(
    False, FLAG, "divide channels by their standard deviation before they are whitened"
)


@dataclasses.dataclass(frozen=True)
class WhiteningConfig:
    """Options of the whitening before the classifier: the section `whitening` of the keys.

    `method` may be "auto", the default of the run's method; it must be resolved before a layer is
    built.
    """

    method: str = option("auto", one_of("auto", *WHITENINGS, "none"), METHOD.help)
    shrinkage: float | str = SHRINKAGE.field()
    momentum: float = MOMENTUM.field()
    groups: int = GROUPS.field()
    memory: float = MEMORY.field()
    standardize: bool = STANDARDIZE.field()
    stats_every: int = STATS_EVERY.field()
    steps: int | None = STEPS.field()
