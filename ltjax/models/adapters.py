"""Small layers beside frozen ones: LoRA as a function of parameters, and AdaptFormer's adapters."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.errors import InputError, Option, integer, number

# Where the parameters of LoRA lie, beside "backbone" and "head".
LORA = "lora"
# The layers of an attention, whose kernels LoRA changes; those of networks without one are all
# layers with 2-D kernels.
_ATTENTION = ("query", "key", "value", "out")

LORA_RANK = Option(8, integer(1, 1024), "lora: rank of what is added to a kernel")
LORA_ALPHA = Option(
    8.0, number(0, open_low=True), "lora: what is added to a kernel is multiplied by alpha / rank"
)
ADAPTER_WIDTH = Option(64, integer(1, 4096), "adapter: channels of its bottleneck")
ADAPTER_SCALE = Option(
    0.1, number(0, open_low=True), "adapter: factor of what is added to the output of an MLP"
)


class LowRank(NamedTuple):
    """The size of LoRA's matrices.

    Attributes:
      rank: r.
      alpha: the product of the matrices is multiplied by `alpha / r`.
    """

    rank: int = LORA_RANK.default
    alpha: float = LORA_ALPHA.default


class AdapterSize(NamedTuple):
    """The size of adapters.

    Attributes:
      width: channels of the bottleneck.
      scale: factor of the output.
    """

    width: int = ADAPTER_WIDTH.default
    scale: float = ADAPTER_SCALE.default


def with_adapters(backbone: nn.Module, size: AdapterSize) -> nn.Module:
    """A backbone with an adapter in every block.

    Args:
      backbone: a module with an attribute `adapter`.
      size: of the adapters.

    Returns:
      The same with the attribute set.

    Raises:
      InputError: it has no such attribute.
    """
    if not hasattr(backbone, "adapter"):
        raise InputError(
            f"config.finetune.train = adapter is not allowed with a {type(backbone).__name__}; "
            "use a Vision Transformer, or last_N, norm_and_bias, head or all"
        )
    return backbone.clone(adapter=size)


def with_lora(params: dict[str, Any], size: LowRank, key: jax.Array) -> dict[str, Any]:
    """Adds the parameters of LoRA to those of a network.

    A is uniform within `1 / sqrt(D_in)` and B is 0, so that the network starts as it was. The
    factor `alpha / r` is stored beside them, since it belongs to them.

    Args:
      params: of the network, with its part "backbone".
      size: of the matrices.
      key: PRNG key.

    Returns:
      The same with a part "lora": for every kernel `[D_in, D_out]` that is changed, `a`
      `[D_in, r]` and `b` `[r, D_out]`.

    Raises:
      InputError: the backbone has no 2-D kernels.

    Source: Hu et al., LoRA (ICLR 2022, https://arxiv.org/abs/2106.09685); the start of A is that
    of https://github.com/microsoft/LoRA.

    >>> params = {"backbone": {"dense1": {"kernel": jnp.ones((4, 6))}}}
    >>> layer = with_lora(params, LowRank(2), jax.random.key(0))["lora"]["backbone"]["dense1"]
    >>> layer["a"].shape, layer["b"].shape
    ((4, 2), (2, 6))
    """
    flat = flatten_dict(params)
    kernels = [path for path, p in flat.items() if path[0] == "backbone" and p.ndim == 2]
    kernels = sorted(path for path in kernels if path[-1] == "kernel")
    attention = [path for path in kernels if path[-3:-2] == ("attention",)]
    chosen = [path for path in attention if path[-2] in _ATTENTION] or kernels
    if not chosen:
        raise InputError(
            "config.finetune.train = lora is not allowed with a backbone of convolutions alone; "
            "use last_N, norm_and_bias, head or all, or a Vision Transformer"
        )
    found: dict[tuple[str, ...], jax.Array] = {
        (LORA, "scale"): jnp.asarray(size.alpha / size.rank, jnp.float32)
    }
    for path, one in zip(chosen, jax.random.split(key, len(chosen)), strict=True):
        rows, columns = flat[path].shape
        bound = 1 / math.sqrt(rows)
        layer = (LORA, *path[:-1])
        found[*layer, "a"] = jax.random.uniform(one, (rows, size.rank), minval=-bound, maxval=bound)
        found[*layer, "b"] = jnp.zeros((size.rank, columns))
    return {**params, **unflatten_dict(found)}


def merged(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of the network itself, with what LoRA adds to its kernels.

        W + alpha / r A B

    Args:
      params: of a network, with or without a part "lora".

    Returns:
      The same without that part; the very same where there is none.

    Source: Hu et al., LoRA (ICLR 2022, https://arxiv.org/abs/2106.09685), eq. 3.

    >>> lora = {"scale": jnp.array(0.5), "w": {"a": jnp.ones((2, 1)), "b": jnp.ones((1, 2))}}
    >>> merged({"w": {"kernel": jnp.zeros((2, 2))}, "lora": lora})["w"]["kernel"].tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if LORA not in params:
        return params
    flat = flatten_dict({name: part for name, part in params.items() if name != LORA})
    added = flatten_dict(params[LORA])
    scale = added.pop(("scale",))
    for layer in {path[:-1] for path in added}:
        kernel = (*layer, "kernel")
        flat[kernel] = flat[kernel] + scale * (added[*layer, "a"] @ added[*layer, "b"])
    found: dict[str, Any] = unflatten_dict(flat)
    return found


def beside(params: Mapping[str, Any]) -> tuple[dict[str, Any], AbstractContextManager[Any]]:
    """The network's own parameters, and what LoRA adds, computed beside its layers.

        x W + alpha / r (x A) B

    Up to rounding it is the network of `merged`. There the gradient of A and B passes through one
    of the whole kernel, which is of no use where the kernel is frozen; here it does not.

    Args:
      params: of a network, with or without a part "lora".

    Returns:
      The parameters without that part, and a context; networks that are applied to them in it add
      the products to the outputs of their layers.

    Source: Hu et al., LoRA (ICLR 2022, https://arxiv.org/abs/2106.09685), eq. 3.

    >>> lora = {"scale": jnp.array(0.5), "a": jnp.ones((2, 1)), "b": jnp.ones((1, 3))}
    >>> own, added = beside({"kernel": jnp.zeros((2, 3)), "lora": lora})
    >>> with added:
    ...     y = nn.Dense(3, use_bias=False).apply({"params": own}, jnp.ones((1, 2)))
    >>> y.tolist()
    [[1.0, 1.0, 1.0]]
    """
    own = {name: part for name, part in params.items() if name != LORA}
    if LORA not in params:
        return own, nullcontext()
    added = flatten_dict(params[LORA])

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y, layer = call(*args, **kwargs), context.module
        a, b = (added.get((*layer.path, name)) for name in ("a", "b"))
        if a is None or b is None or context.method_name != "__call__":
            return y
        x, a, b, scale = (each.astype(y.dtype) for each in (args[0], a, b, added["scale",]))
        return y + scale * ((x @ a) @ b)

    return own, nn.intercept_methods(intercept)


class Adapter(nn.Module):
    """A bottleneck beside an MLP, whose output is added to that of the MLP.

        s (relu(x W_down + b_down) W_up + b_up)

    `W_up` and `b_up` start at 0, so that the network starts as it was.

    Attributes:
      width: channels of the bottleneck.
      scale: s.
      dtype: of the computation.

    Source: Chen et al., AdaptFormer (NeurIPS 2022, https://arxiv.org/abs/2205.13535), eq. 2 and 3.

    >>> x = jnp.ones((1, 3, 8))
    >>> y, _ = Adapter(2).init_with_output(jax.random.key(0), x)
    >>> y.shape, float(abs(y).max())
    ((1, 3, 8), 0.0)
    """

    width: int = ADAPTER_WIDTH.default
    scale: float = ADAPTER_SCALE.default
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The normalized tokens that the MLP takes, `[B, N, D] -> [B, N, D]`."""
        down = nn.initializers.he_uniform()
        y = nn.Dense(self.width, kernel_init=down, dtype=self.dtype, name="down")(x)
        up = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros, dtype=self.dtype, name="up")
        return self.scale * up(nn.relu(y))
