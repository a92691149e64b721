"""One group of channels of a batch, as the whitening methods take it, with its statistics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.whitening.moments import psum
from ltjax.whitening.shrinkage import intensity


class Past(NamedTuple):
    """Running statistics that take part in whitening a training batch; constant to differentiation.

    Attributes:
      covariance: running covariance, in the shape of `Moments.covariance`, or None.
      share: its share `m` in the covariance that whitens, `(1 - m) S + m S_running`.
      shrinkage: running intensity, `[]` or `[G]`, which that of the batch updates, or None.
      rate: weight of the batch in that update.
    """

    covariance: jax.Array | None = None
    share: jax.Array | float = 0.0
    shrinkage: jax.Array | None = None
    rate: jax.Array | float = 0.0


class Batch(NamedTuple):
    """The centered rows of one group, divided by their largest entry, and how to whiten them.

    Attributes:
      rows: `[N, D]`, the rows on this device; padded rows are 0.
      total: number of rows of the whole batch, without padding.
      shrinkage: a number or the name of a rule.
      steps: number of Newton-Schulz steps; None iterates to rounding accuracy.
      past: running statistics that take part.
      axis_name: mapped axis over which the batch is spread.
      native: whether to use the native eigendecomposition where it is faster.
      block: rows that a product takes at once, for TPU; see `ltjax.whitening.moments.matmul`.
    """

    rows: jax.Array
    total: jax.Array
    shrinkage: float | str
    steps: int | None
    past: Past
    axis_name: str | None
    native: bool = False
    block: int | None = None

    @property
    def dual(self) -> bool:
        """Whether to decompose `X X^T`, `N x N`, since it is smaller than `X^T X`, `D x D`.

        A mixture with the running covariance needs `D x D`.
        """
        return self._count < self.rows.shape[1] and self.past.covariance is None

    @property
    def side(self) -> int:
        """Rows of the matrix that is decomposed."""
        return self._count if self.dual else self.rows.shape[1]

    @property
    def _count(self) -> int:
        """Number of rows of all devices, with padding."""
        devices: int = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
        return self.rows.shape[0] * devices

    def gathered(self) -> "Batch":
        """Gathers the rows of all devices on each of them.

        Returns:
          The batch with all rows, and without a mapped axis.
        """
        if self.axis_name is None:
            return self
        rows = jax.lax.all_gather(self.rows, self.axis_name, tiled=True)
        return self._replace(rows=rows, axis_name=None)

    def local(self, rows: jax.Array) -> jax.Array:
        """This device's part of what was computed for the rows of all devices.

        Args:
          rows: `[N, D]` of all devices, or of this one.

        Returns:
          `[N, D]` of this device.
        """
        if self.axis_name is None or rows.shape[0] == self.rows.shape[0]:
            return rows
        start = jax.lax.axis_index(self.axis_name) * self.rows.shape[0]
        return jax.lax.dynamic_slice_in_dim(rows, start, self.rows.shape[0])

    def intensity(self, product: jax.Array | None) -> jax.Array:
        """The intensity of the shrinkage, averaged with earlier ones if the past holds any.

        Args:
          product: `X^T X` or `X X^T` of the whole batch; only the estimates need it.

        Returns:
          `a`, `[]`.
        """
        a = intensity(self.shrinkage, self.rows, self.total, product, self.axis_name)
        if self.past.shrinkage is None:
            return a
        old = self.past.shrinkage.astype(a.dtype)
        return old + self.past.rate * (a - old)

    def variance(self) -> jax.Array:
        """Mean variance of the channels, the unit of the ridge.

        Returns:
          `[]`; 1 if there is no variance.
        """
        squares = psum(jnp.sum(self.rows * self.rows), self.axis_name)
        variance = squares / (self.total * self.rows.shape[1])
        old = self.past.covariance
        if old is not None:
            total = jnp.trace(old) if old.ndim == 2 else jnp.sum(old)
            variance += self.past.share * (total / old.shape[-1] - variance)
        return jnp.where(variance > 0, variance, jnp.ones_like(variance))

    def covariance(self, product: jax.Array) -> jax.Array:
        """The covariance to whiten with: that of the batch, or its mixture with the running one.

        Args:
          product: `X^T X` of the whole batch, `[D, D]`, or its diagonal, `[D]`.

        Returns:
          The shape of `product`.
        """
        covariance = product / self.total
        if self.past.covariance is None:
            return covariance
        return covariance + self.past.share * (self.past.covariance - covariance)
