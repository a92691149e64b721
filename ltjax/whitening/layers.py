"""Channel Whitening as a Flax module: a shell over `roots.whiten_batch`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.whitening.moments import HIGHEST, promote
from ltjax.whitening.roots import whiten_batch, whitening_matrix


class ChannelWhitening(nn.Module):
    """ZCA-whitens the channels of its input; used like `flax.linen.BatchNorm`.

        train: Z = (X - mu_batch) S_batch^(-1/2)        evaluate: Z = (X - mu) S^(-1/2)

    Training uses the statistics of the batch and updates the running mean and covariance
    in the collection `batch_stats`; evaluation uses those. Covariances are averaged and
    the root is taken once, since an average of whitening matrices is biased. The running
    values are corrected for their start: after the first step they are the first batch's.

    Attributes:
      use_running_average: evaluate (True) or train (False); may be given at the call.
      momentum: weight of the past in the running statistics, in [0, 1).
      shrinkage: relative ridge `a`, the same in training and evaluation, in (0, 1].
      axis_name: mapped axis over which the batch is spread.
      dtype: dtype of the output; None keeps the input's. Statistics are float32 or wider.

    Source: Zhang, arXiv 2112.05958 and 2408.17197; Huang et al. (CVPR 2018).
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    shrinkage: float = 1e-2
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Whitens `x` `[N, D]`; rows with `mask` False do not enter the statistics."""
        evaluate = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        size = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (size,), jnp.float32)
        covariance = self.variable("batch_stats", "covariance", jnp.eye, size, size, 0, jnp.float32)
        weight = self.variable("batch_stats", "weight", jnp.zeros, (), jnp.float32)
        if evaluate:
            matrix = whitening_matrix(covariance.value, shrinkage=self.shrinkage)
            centred = promote(x) - mean.value[None, :]
            out = jnp.matmul(centred, matrix.astype(centred.dtype), precision=HIGHEST)
            return out.astype(self.dtype or x.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        whitened = whiten_batch(x, shrinkage=self.shrinkage, mask=mask, axis_name=axis_name)
        if not self.is_initializing():
            weight.value = self.momentum * weight.value + (1 - self.momentum)
            rate = (1 - self.momentum) / weight.value
            for running, batch in (
                (mean, whitened.moments.mean),
                (covariance, whitened.moments.covariance),
            ):
                fresh = jax.lax.stop_gradient(batch).astype(jnp.float32)
                running.value += rate * (fresh - running.value)
        return whitened.output.astype(self.dtype or x.dtype)
