"""Channel Whitening as a Flax module, a shell over `apply`; its evaluation as one affine map."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.whitening.functional import Whitened, apply_matrix, whiten_batch, whitening_matrix
from ltjax.whitening.methods import Past, check_options
from ltjax.whitening.moments import batch_moments, promote

# Collection of the matrices that `freeze` stores.
FROZEN = "frozen"


class ChannelWhitening(nn.Module):
    """Whitens the channels of its input; used like `flax.linen.BatchNorm`.

        train: Z = (X - mu_batch) S_train^(-1/2)        evaluate: Z = (X - mu) S^(-1/2)

    Training uses the statistics of the batch and updates the running mean and covariance
    in the collection `batch_stats`; evaluation uses those. Covariances are averaged and
    the root is taken once, since an average of whitening matrices is biased. The running
    values are corrected for their start: after the first step they are the first batch's.

    With `memory`, training whitens with `(1 - m) S_batch + m S_running` (centred on the
    batch), the running covariance being that before the step; gradients go through the
    batch's share. The first step has no past and uses the batch alone. It lessens the gap
    between training and evaluation where N / D is small, and has no dual side: its root
    is that of a D x D matrix even if N < D.

    The shrinkage is one stored value, used in training and evaluation alike: a number, or
    the corrected running average of what the rule gave for each batch, this one included.

    Attributes:
      use_running_average: evaluate (True) or train (False); may be given at the call.
      momentum: weight of the past in the running statistics, in [0, 1).
      shrinkage: relative ridge `a` in (0, 1], or "auto", "ledoit_wolf", "oas".
      axis_name: mapped axis over which the batch is spread.
      dtype: dtype of the output; None keeps the input's. Statistics are float32 or wider.
      method: "zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm" or "none".
      groups: whiten so many equal, contiguous groups of channels separately.
      memory: share of the running covariance in training, in [0, 1).
      stats_every: update the running statistics at every so many steps, the first included;
        for N < D the update is a third of the layer's cost.
      steps: Newton-Schulz: number of steps; None iterates until rounding.

    Source: Zhang, arXiv 2112.05958 and 2408.17197; Huang et al. (CVPR 2018); memory and
    `stats_every` are ours.
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    shrinkage: float | str = 1e-2
    axis_name: str | None = None
    dtype: Any = None
    method: str = "zca"
    groups: int = 1
    memory: float = 0.0
    stats_every: int = 1
    steps: int | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Whitens `x` `[N, D]`; rows with `mask` False do not enter the statistics.

        Raises:
          InputError: an attribute out of range, or groups that do not divide D.
        """
        evaluate = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        require(x.ndim == 2, "shape of the features", x.shape, "[N, D]")
        self.check(x.shape[1])
        if self.method == "none":
            return x.astype(self.dtype or x.dtype)
        self._declare(x.shape[-1])
        out = self._evaluate(x) if evaluate else self._train(x, mask)
        return out.astype(self.dtype or x.dtype)

    def check(self, size: int) -> None:
        """Checks the attributes for `size` channels.

        Raises:
          InputError: naming the attribute, its value and what is allowed.
        """
        check_options(
            size,
            method=self.method,
            shrinkage=self.shrinkage,
            groups=self.groups,
            steps=self.steps,
        )
        mixed = self.method != "zca_svd"
        allowed = "a number >= 0 and < 1" if mixed else "0 with zca_svd, or the method zca"
        require(
            0 <= self.memory < 1 and (mixed or self.memory == 0), "memory", self.memory, allowed
        )
        require(0 <= self.momentum < 1, "momentum", self.momentum, "a number >= 0 and < 1")
        require(self.stats_every >= 1, "stats_every", self.stats_every, "an integer >= 1")

    def _declare(self, size: int) -> None:
        """Declares the running statistics: mean 0, covariance I, weight 0."""
        each = size // self.groups
        lead = () if self.groups == 1 else (self.groups,)
        start = 1.0 if isinstance(self.shrinkage, str) else self.shrinkage

        def covariance():
            if self.method == "batch_norm":
                return jnp.ones((*lead, each), jnp.float32)
            return jnp.broadcast_to(jnp.eye(each, dtype=jnp.float32), (*lead, each, each))

        self.variable("batch_stats", "mean", jnp.zeros, (size,), jnp.float32)
        self.variable("batch_stats", "covariance", covariance)
        self.variable("batch_stats", "shrinkage", jnp.full, lead, start, jnp.float32)
        self.variable("batch_stats", "weight", jnp.zeros, (), jnp.float32)
        if self.stats_every > 1:
            self.variable("batch_stats", "step", jnp.zeros, (), jnp.int32)

    def _get(self, name: str) -> jax.Array:
        return self.get_variable("batch_stats", name)

    def _matrix(self) -> jax.Array:
        return whitening_matrix(
            self._get("covariance"),
            method=self.method,
            shrinkage=self._get("shrinkage"),
            steps=self.steps,
        )

    def _evaluate(self, x: jax.Array) -> jax.Array:
        if self.is_mutable_collection(FROZEN) and not self.is_initializing():
            self.put_variable(FROZEN, "matrix", self._matrix())
        frozen = self.has_variable(FROZEN, "matrix")
        matrix = self.get_variable(FROZEN, "matrix") if frozen else self._matrix()
        centred = promote(x) - self._get("mean").astype(promote(x).dtype)[None, :]
        turned = matrix if matrix.ndim == 1 else jnp.swapaxes(matrix, -1, -2)
        return apply_matrix(turned.astype(centred.dtype), centred.T).T

    def _train(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        fixed = self.is_initializing()
        axis_name = None if fixed else self.axis_name
        due, weight, rate = self._schedule()
        past = Past()
        if isinstance(self.shrinkage, str) and not fixed:
            past = past._replace(shrinkage=self._get("shrinkage"), rate=rate)
        if self.memory > 0:
            # A running covariance that no batch has entered yet is no past.
            share = jnp.where(self._get("weight") > 0, self.memory, 0.0)
            past = past._replace(covariance=self._get("covariance"), share=share)
        whitened = whiten_batch(
            x,
            method=self.method,
            shrinkage=self.shrinkage,
            groups=self.groups,
            steps=self.steps,
            mask=mask,
            axis_name=axis_name,
            past=past,
        )
        if not fixed:
            self._update(x, mask, whitened, due, weight, rate)
        return whitened.output

    def _schedule(self) -> tuple[jax.Array | None, jax.Array, jax.Array]:
        """Whether this step updates (None: always), the new weight and the rate."""
        weight = self.momentum * self._get("weight") + (1 - self.momentum)
        rate = (1 - self.momentum) / weight
        if self.stats_every == 1:
            return None, weight, rate
        due = self._get("step") % self.stats_every == 0
        return due, jnp.where(due, weight, self._get("weight")), jnp.where(due, rate, 0.0)

    def _update(self, x, mask, whitened: Whitened, due, weight, rate) -> None:
        """Moves the running statistics towards the batch's."""

        def move(running, fresh):
            fresh = jax.lax.stop_gradient(fresh).astype(jnp.float32)
            return running + rate * (fresh - running)

        old = self._get("covariance")
        if due is None:
            covariance = move(old, whitened.moments.covariance)
        else:
            # Recomputed inside the branch, so that other steps do not pay for the product.
            covariance = jax.lax.cond(
                due,
                lambda rows: move(
                    old,
                    batch_moments(
                        rows,
                        groups=self.groups,
                        diagonal=self.method == "batch_norm",
                        mask=mask,
                        axis_name=self.axis_name,
                    ).covariance,
                ),
                lambda rows: old,
                jax.lax.stop_gradient(x),
            )
            self.put_variable("batch_stats", "step", self._get("step") + 1)
        new = {
            "mean": move(self._get("mean"), whitened.moments.mean),
            "covariance": covariance,
            "weight": weight,
        }
        if isinstance(self.shrinkage, str):
            new["shrinkage"] = jax.lax.stop_gradient(whitened.shrinkage).astype(jnp.float32)
        for name, value in new.items():
            self.put_variable("batch_stats", name, value)


def freeze(module: nn.Module, variables: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Takes the evaluation roots of every `ChannelWhitening` in a module, once for all batches.

    Evaluation with the variables returned uses the stored matrices; without them each
    call takes the root of the running covariance anew. Freeze again after training on.

    Args:
      module: a `ChannelWhitening` or any module that contains some.
      variables: its variables.
      *args: arguments of one evaluation call; what they hold does not matter, so one
        example is enough.
      **kwargs: likewise.

    Returns:
      `variables` with the collection "frozen" besides.

    Source: ours.
    """
    live = {name: tree for name, tree in variables.items() if name != FROZEN}
    _, frozen = module.apply(live, *args, **kwargs, mutable=[FROZEN])
    return {**live, **frozen}


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
