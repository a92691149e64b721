"""Whitening of standardised channels, ZCA-cor: two `ChannelWhitening` in a row."""

import flax.linen as nn
import jax

from ltjax.whitening.layers import ChannelWhitening


class StandardizedWhitening(nn.Module):
    """Divides every channel by its standard deviation, then whitens.

        Z = V^(-1/2) (X - mu), then Z P^(-1/2),    V = diag S,  P = correlation of the channels

    A relative ridge moves the covariance towards the mean variance, so without this it weighs
    most on channels of little variance; here it treats all channels alike. Used like
    `ChannelWhitening`.

    Attributes:
      standardize: a `ChannelWhitening` of method "batch_norm".
      whiten: the one that follows.

    Source: Kessy, Lewin and Strimmer, Optimal whitening and decorrelation (The American
    Statistician, 2018), ZCA-cor; before a classifier: ours.
    """

    standardize: ChannelWhitening
    whiten: ChannelWhitening

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Whitens `x` `[N, D]`; see `ChannelWhitening`."""
        x = self.standardize(x, use_running_average, mask=mask)
        return self.whiten(x, use_running_average, mask=mask)

    def check(self, size: int) -> None:
        """Checks both for `size` channels; raises `InputError`."""
        self.standardize.check(size)
        self.whiten.check(size)
