"""Everything that is timed at one size, as functions without arguments that block."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.whitening_speed.baselines import eigh_autodiff, torch_baselines
from ltjax.whitening.linen import ChannelWhitening

SHRINKAGE = 0.1
MOMENTUM = 0.9
OURS: dict[str, dict[str, Any]] = {
    "zca": {},
    "zca, statistics skipped": {"stats_every": 4},
    "zca_svd": {"method": "zca_svd"},
    "newton_schulz": {"method": "newton_schulz"},
    "cholesky": {"method": "cholesky"},
    "batch_norm": {"method": "batch_norm"},
}
Call = Callable[[], Any]


def inputs(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with decaying spectrum, and a cotangent."""
    rng = np.random.default_rng(0)
    scales = 100.0 ** (-np.arange(d) / (2 * d))
    x = (rng.normal(size=(n, d)) * scales) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    return x.astype(np.float32), rng.normal(size=(n, d)).astype(np.float32)


def _blocking(function: Callable[..., Any], *args: Any) -> Call:
    return lambda: jax.block_until_ready(function(*args))


def floors(n: int, d: int) -> dict[str, Call]:
    """One product `[N, D] x [D, D]`, and the two that whitening cannot do without."""
    x, s = (jnp.asarray(a) for a in (inputs(n, d)[0], np.eye(d, dtype=np.float32)))
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return {
        "one product": _blocking(jax.jit(product), x, s),
        "two products": _blocking(jax.jit(lambda x: product(x, product(x.T, x))), x),
    }


def ours(n: int, d: int) -> dict[tuple[str, str], Call]:
    """The layer by every method, and JAX's autodiff of `eigh`: forward, and everything."""
    x, g = map(jnp.asarray, inputs(n, d))
    calls: dict[tuple[str, str], Call] = {}
    for name, options in OURS.items():
        layer = ChannelWhitening(shrinkage=SHRINKAGE, momentum=MOMENTUM, **options)
        state = layer.init(jax.random.key(0), x, use_running_average=True)
        apply = partial(layer.apply, use_running_average=False, mutable=["batch_stats"])
        _, state = jax.jit(apply)(state, x)  # the next step is one that skips the statistics

        def full(state, x, g, apply=apply):
            def loss(x):
                out, new = apply(state, x)
                return jnp.vdot(out, g), new

            return jax.grad(loss, has_aux=True)(x)

        calls[f"ltjax {name}", "forward"] = _blocking(
            jax.jit(lambda state, x, apply=apply: apply(state, x)[0]), state, x
        )
        calls[f"ltjax {name}", "full"] = _blocking(jax.jit(full), state, x, g)

    def full_autodiff(x, g, running):
        def loss(x):
            z, s = eigh_autodiff(x, SHRINKAGE)
            return jnp.vdot(z, g), MOMENTUM * running + (1 - MOMENTUM) * s

        return jax.grad(loss, has_aux=True)(x)

    calls["jax eigh autodiff", "forward"] = _blocking(
        jax.jit(lambda x: eigh_autodiff(x, SHRINKAGE)[0]), x
    )
    calls["jax eigh autodiff", "full"] = _blocking(jax.jit(full_autodiff), x, g, jnp.eye(d))
    return calls


def theirs(n: int, d: int, *, compiled: bool) -> dict[tuple[str, str], Call]:
    """PyTorch's routes, eager and compiled; nothing where PyTorch is absent."""
    try:
        import torch
    except ImportError:
        return {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, g = (torch.from_numpy(a).to(device) for a in inputs(n, d))
    calls: dict[tuple[str, str], Call] = {}

    def wait(value):
        if device == "cuda":
            torch.cuda.synchronize()
        return value

    for name, function in torch_baselines(torch).items():
        variants = {"eager": function}
        if compiled:
            torch.compiler.reset()
            variants["compiled"] = torch.compile(function, dynamic=False)
        for kind, run in variants.items():
            running = torch.eye(d, device=device)

            def forward(run=run):
                with torch.no_grad():
                    return wait(run(x, SHRINKAGE)[0])

            def full(run=run, running=running):
                leaf = x.detach().requires_grad_()
                z, s = run(leaf, SHRINKAGE)
                with torch.no_grad():
                    running.lerp_(s.detach(), 1 - MOMENTUM)
                return wait(torch.autograd.grad(z, leaf, g)[0])

            calls[f"torch {name}, {kind}", "forward"] = forward
            calls[f"torch {name}, {kind}", "full"] = full
    return calls
