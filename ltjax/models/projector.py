"""The projection of features that a contrastive loss compares."""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax

from ltjax.errors import Option, integer
from ltjax.models.heads import normalized

PROJECTION = Option(
    128, integer(1, 4096), "size of the projections that a contrastive loss compares"
)
# Where the network leaves its projection for the training step.
CONTRAST = "contrast"


class Projection(NamedTuple):
    """What a contrastive loss compares.

    Attributes:
      vectors: of the examples, of norm 1, `[B, P]`.
      centers: of the classes, of norm 1, `[C, P]`; None for a loss that needs none.
    """

    vectors: chex.Array
    centers: chex.Array | None


class Projector(nn.Module):
    """A perceptron from features to vectors of norm 1, and a learned center for every class.

    Attributes:
      num_classes: C.
      size: P.
      centers: whether there are centers.

    Source: Zhu et al., Balanced Contrastive Learning (CVPR 2022), https://arxiv.org/abs/2207.09052;
    there the centers are projections of the classifier's weights, here parameters of their own.
    """

    num_classes: int
    size: int = PROJECTION.default
    centers: bool = True

    @nn.compact
    def __call__(self, z: jax.Array) -> Projection:
        """Features `[B, D]` to projections."""
        hidden = nn.relu(nn.Dense(z.shape[-1], name="hidden")(z))
        vectors = nn.Dense(self.size, name="out")(hidden)
        if not self.centers:
            return Projection(normalized(vectors, axis=1), None)
        centers = self.param(
            "centers", nn.initializers.normal(1.0), (self.num_classes, self.size), vectors.dtype
        )
        return Projection(normalized(vectors, axis=1), normalized(centers, axis=1))
