"""Channel Whitening as a Flax NNX module; `linen` has its twin, `running` the mathematics."""

from typing import Any, TypeVar

import jax
from flax import nnx
from flax.nnx.module import first_from
from jax.typing import DTypeLike

from ltjax.errors import InputError, require
from ltjax.whitening import running
from ltjax.whitening.functional import fold_into_dense
from ltjax.whitening.methods import METHOD
from ltjax.whitening.moments import GROUPS
from ltjax.whitening.newton_schulz import STEPS
from ltjax.whitening.running import MEMORY, MOMENTUM, STATS_EVERY, Running
from ltjax.whitening.shrinkage import SHRINKAGE

M = TypeVar("M", bound=nnx.Module)


class Frozen(nnx.Variable[jax.Array]):
    """The evaluation matrix of a layer, as `freeze` stores it."""


class ChannelWhitening(nnx.Module):
    """Whitens the channels of its input; used like `flax.nnx.BatchNorm`.

        train: Z = (X - mu_batch) S_train^(-1/2)        evaluate: Z = (X - mu) S^(-1/2)

    It computes what `ltjax.whitening.linen.ChannelWhitening` computes, to the bit; see there for
    the running statistics, `memory` and the shrinkage. `train()` and `eval()` of the module or of
    any module that contains it switch between the two.

    Args:
      num_features: D, number of channels.
      use_running_average: evaluate (True) or train (False); may be given at the call instead.
      momentum: weight of the past in the running statistics, in [0, 1).
      shrinkage: relative ridge `a` in (0, 1], or "auto", "ledoit_wolf", "oas".
      axis_name: mapped axis over which the batch is spread.
      dtype: dtype of the output; None keeps the input's. Statistics are float32 or wider.
      method: "zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm" or "none"; see `whiten`.
      groups: number of equal, contiguous channel groups, each whitened separately.
      memory: share of the running covariance in training, in [0, 1).
      stats_every: number of steps from one update of the running statistics to the next; the first
        step is one. For N < D the update is a third of the layer's cost.
      steps: number of Newton-Schulz steps; None iterates to rounding accuracy.
      native: whether training uses the native eigendecomposition (`ltjax.kernels`) where it is
        faster.
      rngs: accepted so that the layer can stand in for `flax.nnx.BatchNorm`; nothing is drawn.

    Attributes:
      batch_stats: the running statistics, each a `flax.nnx.BatchStat`, under the names that they
        have in the Linen layer's collection; see `ltjax.whitening.running.Running`.
      matrix: the evaluation matrix in a copy that `freeze` made, otherwise None.

    Raises:
      InputError: an argument out of range, or groups that do not divide D.

    Source: see the Linen layer.

    >>> import jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (128, 4)) * jnp.array([[1.0, 2.0, 3.0, 4.0]])
    >>> layer = ChannelWhitening(4, shrinkage=1e-3)
    >>> z = layer(x)
    >>> bool(jnp.allclose(z.T @ z / 128, jnp.eye(4), atol=0.01))
    True
    >>> layer.eval()
    >>> bool(jnp.allclose(layer(x), z, atol=1e-3))
    True
    """

    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool | None = False,
        momentum: float = MOMENTUM.default,
        shrinkage: float | str = SHRINKAGE.default,
        axis_name: str | None = None,
        dtype: DTypeLike | None = None,
        method: str = METHOD.default,
        groups: int = GROUPS.default,
        memory: float = MEMORY.default,
        stats_every: int = STATS_EVERY.default,
        steps: int | None = STEPS.default,
        native: bool = False,
        rngs: nnx.Rngs | None = None,
    ):
        self.num_features = num_features
        self.use_running_average = use_running_average
        self.momentum = momentum
        self.shrinkage = shrinkage
        self.axis_name = axis_name
        self.dtype = dtype
        self.method = method
        self.groups = groups
        self.memory = memory
        self.stats_every = stats_every
        self.steps = steps
        self.native = native
        self.check(num_features)
        state = {} if method == "none" else running.start(self, num_features)._asdict()
        stats = {k: nnx.BatchStat(v) for k, v in state.items() if v is not None}
        self.batch_stats: nnx.Dict[nnx.BatchStat[jax.Array]] = nnx.Dict(stats)
        self.matrix: Frozen | None = nnx.data(None)

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Whitens a batch; in training it updates the running statistics.

        Args:
          x: features `[N, D]`.
          use_running_average: evaluate (True) or train (False); None: as the layer is set.
          mask: bool `[N]`; padded rows (False) do not enter the statistics.

        Returns:
          `[N, D]`.

        Raises:
          InputError: features of another shape, or training of a frozen copy.
        """
        evaluating = first_from(
            use_running_average,
            self.use_running_average,
            error_msg="use_running_average is neither an argument nor set by the layer",
        )
        allowed = f"[N, {self.num_features}]"
        fits = x.ndim == 2 and x.shape[1] == self.num_features
        require(fits, "shape of the features", x.shape, allowed)
        if self.method == "none":
            return x.astype(self.dtype or x.dtype)
        state = self.running()
        if evaluating:
            out = running.evaluate(state, self._matrix(state), x)
        else:
            if self.matrix is not None:
                raise InputError("a frozen layer does not train; train the one that was frozen")
            out, state = running.train(self, state, x, mask=mask, axis_name=self.axis_name)
            for name, stat in self.batch_stats.items():
                stat[...] = getattr(state, name)
        return out.astype(self.dtype or x.dtype)

    def check(self, size: int) -> None:
        """Checks the options for a number of channels.

        Args:
          size: D, number of channels.

        Raises:
          InputError: naming the option, its value and what is allowed.
        """
        running.check_layer(self, size)

    def running(self) -> Running:
        """The current running statistics.

        Returns:
          The state that the functions of `ltjax.whitening.running` take.
        """
        found: dict[str, Any] = {name: stat[...] for name, stat in self.batch_stats.items()}
        return Running(**found)

    def _matrix(self, state: Running) -> jax.Array:
        if self.matrix is not None:
            return self.matrix[...]
        return running.running_matrix(self, state)


class StandardizedWhitening(nnx.Module):
    """Divides every channel by its standard deviation, then whitens.

        Z = V^(-1/2) (X - mu), then Z P^(-1/2),    V = diag S,  P = correlation of the channels

    It computes what `ltjax.whitening.linen.StandardizedWhitening` computes, to the bit.

    Args:
      standardize: a `ChannelWhitening` of method "batch_norm".
      whiten: the `ChannelWhitening` that follows.

    Source: Kessy, Lewin and Strimmer, Optimal whitening and decorrelation (The American
    Statistician, 2018, https://arxiv.org/abs/1512.00809), ZCA-cor; before a classifier: ours.

    >>> import jax.numpy as jnp
    >>> first = ChannelWhitening(4, method="batch_norm")
    >>> StandardizedWhitening(first, ChannelWhitening(4))(jnp.eye(4)).shape
    (4, 4)
    """

    def __init__(self, standardize: ChannelWhitening, whiten: ChannelWhitening):
        self.standardize = standardize
        self.whiten = whiten

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Whitens a batch; in training it updates the running statistics of both layers.

        Args:
          x: features `[N, D]`.
          use_running_average: evaluate (True) or train (False); None: as the layers are set.
          mask: bool `[N]`; padded rows (False) do not enter the statistics.

        Returns:
          `[N, D]`.

        Raises:
          InputError: features of another shape, or training of a frozen copy.
        """
        x = self.standardize(x, use_running_average, mask=mask)
        return self.whiten(x, use_running_average, mask=mask)

    def check(self, size: int) -> None:
        """Checks both layers for a number of channels.

        Args:
          size: D, number of channels.

        Raises:
          InputError: naming the option, its value and what is allowed.
        """
        self.standardize.check(size)
        self.whiten.check(size)


def freeze(module: M) -> M:
    """Copies a module and stores the evaluation matrix of every `ChannelWhitening` in the copy.

    The copy evaluates with the stored matrices and refuses to train; other layers compute the
    root of the running covariance in every call. Call `freeze` on the original again after further
    training.

    Args:
      module: a `ChannelWhitening` or any module that contains some.

    Returns:
      The copy, in evaluation mode.

    Source: ours.

    >>> freeze(ChannelWhitening(3)).matrix.shape
    (3, 3)
    """
    copy = nnx.clone(module)
    copy.eval()  # type: ignore[no-untyped-call]  # Flax leaves it untyped
    for _, layer in nnx.iter_modules(copy):
        if isinstance(layer, ChannelWhitening) and layer.method != "none":
            layer.matrix = Frozen(running.running_matrix(layer, layer.running()))
    return copy


def fold_into_linear(
    whitening: ChannelWhitening | StandardizedWhitening, linear: nnx.Linear
) -> nnx.Linear:
    """Folds whitening by running statistics and the linear layer after it into one linear layer.

        ((x - mu) W) K + b = x K' + b',    K' = W K,    b' = b - mu K'

    Args:
      whitening: the whitening layer; its current running statistics are used.
      linear: the layer after it, from features `[N, D]` to `[N, C]`.

    Returns:
      A new layer, with a bias.

    Source: ours.

    >>> fold_into_linear(ChannelWhitening(3), nnx.Linear(3, 2, rngs=nnx.Rngs(0))).kernel.shape
    (3, 2)
    """
    if isinstance(whitening, StandardizedWhitening):
        return fold_into_linear(whitening.standardize, fold_into_linear(whitening.whiten, linear))
    if whitening.method == "none":
        return nnx.clone(linear)
    state = whitening.running()
    matrix = running.running_matrix(whitening, state)
    bias = None if linear.bias is None else linear.bias[...]
    kernel, bias = fold_into_dense(state.mean, matrix, linear.kernel[...], bias)
    folded = nnx.Linear(
        linear.in_features,
        linear.out_features,
        dtype=linear.dtype,
        param_dtype=linear.param_dtype,
        precision=linear.precision,
        rngs=nnx.Rngs(0),
    )
    folded.kernel, folded.bias = nnx.Param(kernel), nnx.Param(bias)
    return folded
