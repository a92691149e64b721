"""Channel Whitening as a Flax Linen module; `nnx` has its twin, `running` the mathematics."""

from typing import Any

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from ltjax.errors import require
from ltjax.whitening import running
from ltjax.whitening.methods import METHOD
from ltjax.whitening.moments import GROUPS
from ltjax.whitening.newton_schulz import STEPS
from ltjax.whitening.running import MEMORY, MOMENTUM, STATS_EVERY, Running
from ltjax.whitening.shrinkage import SHRINKAGE

# Names of the collections: running statistics, and the matrices that `freeze` stores.
STATS = "batch_stats"
FROZEN = "frozen"


class ChannelWhitening(nn.Module):
    """Whitens the channels of its input; used like `flax.linen.BatchNorm`.

        train: Z = (X - mu_batch) S_train^(-1/2)        evaluate: Z = (X - mu) S^(-1/2)

    Training uses the statistics of the batch and updates the running mean and covariance in the
    collection `batch_stats`; evaluation uses these. It is the covariances that are averaged, and
    the root is taken afterwards, because an average of whitening matrices is biased. The averages
    are corrected for their start: after the first step they are the moments of the first batch.

    With `memory`, `m`, training whitens with `(1 - m) S_batch + m S_running` (centered on the
    batch), where `S_running` is the running covariance before the step; gradients flow through
    `S_batch` only. The first step has no past and uses the batch alone. This narrows the gap
    between training and evaluation if N / D is small. It always takes the root of a D x D matrix,
    even if N < D.

    Training and evaluation use the same shrinkage: the given number or, for a rule, the running
    average (corrected for its start) of what the rule gave for each batch, the current one
    included.

    Attributes:
      use_running_average: evaluate (True) or train (False); may be given at the call instead.
      momentum: weight of the past in the running statistics, in [0, 1).
      shrinkage: relative ridge `a` in (0, 1], or "auto", "ledoit_wolf", "oas".
      axis_name: mapped axis over which the batch is spread.
      dtype: dtype of the output; None keeps the input's. Statistics are float32 or wider.
      method: "zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm" or "none"; see `whiten`.
      groups: number of equal, contiguous channel groups, each whitened separately.
      memory: `m`, share of the running covariance in training, in [0, 1).
      stats_every: number of steps from one update of the running statistics to the next; the first
        step is one. For N < D the update is a third of the layer's cost.
      steps: number of Newton-Schulz steps; None iterates to rounding accuracy.
      native: whether training uses the native eigendecomposition (`ltjax.kernels`) where it is
        faster.

    Source: Zhang (https://arxiv.org/abs/2112.05958, https://arxiv.org/abs/2408.17197); Huang et al.
    (CVPR 2018, https://arxiv.org/abs/1804.08450); `memory` and `stats_every` are ours.

    >>> import jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (128, 4)) * jnp.array([[1.0, 2.0, 3.0, 4.0]])
    >>> layer = ChannelWhitening(shrinkage=1e-3)
    >>> variables = layer.init(jax.random.key(0), x, use_running_average=False)
    >>> z, updates = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    >>> bool(jnp.allclose(z.T @ z / 128, jnp.eye(4), atol=0.01))
    True
    >>> evaluated = layer.apply(updates, x, use_running_average=True)
    >>> bool(jnp.allclose(evaluated, z, atol=1e-3))
    True
    """

    use_running_average: bool | None = None
    momentum: float = MOMENTUM.default
    shrinkage: float | str = SHRINKAGE.default
    axis_name: str | None = None
    dtype: DTypeLike | None = None
    method: str = METHOD.default
    groups: int = GROUPS.default
    memory: float = MEMORY.default
    stats_every: int = STATS_EVERY.default
    steps: int | None = STEPS.default
    native: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Whitens a batch.

        Args:
          x: features `[N, D]`.
          use_running_average: evaluate (True) or train (False).
          mask: bool `[N]`; padded rows (False) do not enter the statistics.

        Returns:
          `[N, D]`.

        Raises:
          InputError: an attribute out of range, or groups that do not divide D.
        """
        evaluating = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        require(x.ndim == 2, "shape of the features", x.shape, "[N, D]")
        self.check(x.shape[1])
        if self.method == "none":
            return x.astype(self.dtype or x.dtype)
        state = self._running(x.shape[1])
        if evaluating:
            out = running.evaluate(state, self._matrix(state), x)
        else:
            # There is no mapped axis while the variables are initialized.
            axis_name = None if self.is_initializing() else self.axis_name
            out, state = running.train(self, state, x, mask=mask, axis_name=axis_name)
            self._store(state)
        return out.astype(self.dtype or x.dtype)

    def check(self, size: int) -> None:
        """Checks the attributes for a number of channels.

        Args:
          size: D, number of channels.

        Raises:
          InputError: naming the attribute, its value and what is allowed.
        """
        running.check_layer(self, size)

    def _running(self, size: int) -> Running:
        """The running statistics, which are declared if there are none yet."""
        found: dict[str, Any] = running.start(self, size)._asdict()
        for name, value in found.items():
            if value is not None:
                found[name] = self.variable(STATS, name, lambda v=value: v).value
        return Running(**found)

    def _store(self, state: Running) -> None:
        if self.is_initializing():
            return
        for name, value in state._asdict().items():
            if value is not None:
                self.put_variable(STATS, name, value)

    def _matrix(self, state: Running) -> jax.Array:
        """The evaluation matrix: the frozen one if there is one."""
        if self.is_mutable_collection(FROZEN) and not self.is_initializing():
            self.put_variable(FROZEN, "matrix", running.running_matrix(self, state))
        if self.has_variable(FROZEN, "matrix"):
            return self.get_variable(FROZEN, "matrix")
        return running.running_matrix(self, state)


class StandardizedWhitening(nn.Module):
    """Divides every channel by its standard deviation, then whitens.

        Z = V^(-1/2) (X - mu), then Z P^(-1/2),    V = diag S,  P = correlation of the channels

    A relative ridge shrinks the covariance toward the mean variance, so it affects channels of low
    variance most; after standardization it affects all channels alike. The layer is used like
    `ChannelWhitening`.

    Attributes:
      standardize: a `ChannelWhitening` of method "batch_norm".
      whiten: the `ChannelWhitening` that follows.

    Source: Kessy, Lewin and Strimmer, Optimal whitening and decorrelation (The American
    Statistician, 2018, https://arxiv.org/abs/1512.00809), ZCA-cor; before a classifier: ours.

    >>> import jax.numpy as jnp
    >>> layer = StandardizedWhitening(ChannelWhitening(method="batch_norm"), ChannelWhitening())
    >>> z, _ = layer.init_with_output(jax.random.key(0), jnp.eye(4), use_running_average=False)
    >>> z.shape
    (4, 4)
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
        """Whitens a batch; see `ChannelWhitening`.

        Args:
          x: features `[N, D]`.
          use_running_average: evaluate (True) or train (False).
          mask: bool `[N]`; padded rows (False) do not enter the statistics.

        Returns:
          `[N, D]`.

        Raises:
          InputError: an attribute out of range, or groups that do not divide D.
        """
        x = self.standardize(x, use_running_average, mask=mask)
        return self.whiten(x, use_running_average, mask=mask)

    def check(self, size: int) -> None:
        """Checks both layers for a number of channels.

        Args:
          size: D, number of channels.

        Raises:
          InputError: naming the attribute, its value and what is allowed.
        """
        self.standardize.check(size)
        self.whiten.check(size)


def freeze(module: nn.Module, variables: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Computes the evaluation matrix of every `ChannelWhitening` in a module and stores it.

    Evaluation with the returned variables uses the stored matrices; without them, every call
    computes the root of the running covariance again. Call `freeze` again after further training.

    Args:
      module: a `ChannelWhitening` or any module that contains some.
      variables: its variables.
      *args: arguments of an evaluation call; only their shapes matter, so one example is enough.
      **kwargs: keyword arguments of that call.

    Returns:
      `variables` with an additional collection "frozen".

    Source: ours.

    >>> import jax.numpy as jnp
    >>> layer = ChannelWhitening(use_running_average=True)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> freeze(layer, variables, jnp.ones((1, 3)))["frozen"]["matrix"].shape
    (3, 3)
    """
    live = {name: tree for name, tree in variables.items() if name != FROZEN}
    _, frozen = module.apply(live, *args, **kwargs, mutable=[FROZEN])
    return {**live, **frozen}
