"""What is timed at one size, in processes of their own.

    python -m experiments.whitening_speed.contenders GROUP SIZE THREADS [--compile]

Serves the functions of a group, named CONTENDER | full or forward | threads. XLA takes as many
threads as its process has cores, so each number of threads is a process of its own; PyTorch
changes the number within a process, and is timed with one and with THREADS.
"""

from experiments import timing  # noqa: F401 - pins threads, so it comes before NumPy and JAX

# isort: split

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments import processes

SHRINKAGE = 0.1
MOMENTUM = 0.9
OURS: dict[str, dict[str, Any]] = {
    "zca": {},
    "zca, native": {"native": True},
    "zca, native, statistics skipped": {"native": True, "stats_every": 4},
    "zca_svd": {"method": "zca_svd"},
    "newton_schulz": {"method": "newton_schulz"},
    "cholesky": {"method": "cholesky"},
    "batch_norm": {"method": "batch_norm"},
}
ZCA = ("zca", "zca, native", "zca, native, statistics skipped")
Call = Callable[[], Any]
# A contender's name, "full" or "forward", and a function that returns when the work is done.
Named = tuple[str, str, Call]


def inputs(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with decaying spectrum, and a cotangent."""
    rng = np.random.default_rng(0)
    scales = 100.0 ** (-np.arange(d) / (2 * d))
    x = (rng.normal(size=(n, d)) * scales) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    return x.astype(np.float32), rng.normal(size=(n, d)).astype(np.float32)


def _blocking(function: Callable[..., Any], *args: Any) -> Call:
    import jax

    return lambda: jax.block_until_ready(function(*args))


def ours(n: int, d: int, methods: Sequence[str]) -> Iterator[Named]:
    """The layer by some methods: forward, and everything."""
    import jax
    import jax.numpy as jnp

    from ltjax.whitening.linen import ChannelWhitening

    x, g = map(jnp.asarray, inputs(n, d))
    for name in methods:
        layer = ChannelWhitening(shrinkage=SHRINKAGE, momentum=MOMENTUM, **OURS[name])
        state = layer.init(jax.random.key(0), x, use_running_average=True)
        apply = partial(layer.apply, use_running_average=False, mutable=["batch_stats"])
        _, state = jax.jit(apply)(state, x)  # the next step is one that skips the statistics

        def full(state, x, g, apply=apply):
            def loss(x):
                out, new = apply(state, x)
                return jnp.vdot(out, g), new

            return jax.grad(loss, has_aux=True)(x)

        forward = jax.jit(lambda state, x, apply=apply: apply(state, x)[0])
        yield f"ltjax {name}", "forward", _blocking(forward, state, x)
        yield f"ltjax {name}", "full", _blocking(jax.jit(full), state, x, g)


def products_and_autodiff(n: int, d: int) -> Iterator[Named]:
    """One product `[N, D] x [D, D]`, the two that whitening cannot do without, and autodiff."""
    import jax
    import jax.numpy as jnp

    from experiments.whitening_speed.baselines import HIGHEST, eigh_autodiff

    x, g = map(jnp.asarray, inputs(n, d))
    product = partial(jnp.matmul, precision=HIGHEST)
    yield "one product", "full", _blocking(jax.jit(product), x, jnp.eye(d))
    yield "two products", "full", _blocking(jax.jit(lambda x: product(x, product(x.T, x))), x)

    def full(x, g, running):
        def loss(x):
            z, s = eigh_autodiff(x, SHRINKAGE)
            return jnp.vdot(z, g), MOMENTUM * running + (1 - MOMENTUM) * s

        return jax.grad(loss, has_aux=True)(x)

    forward = jax.jit(lambda x: eigh_autodiff(x, SHRINKAGE)[0])
    yield "jax eigh autodiff", "forward", _blocking(forward, x)
    yield "jax eigh autodiff", "full", _blocking(jax.jit(full), x, g, jnp.eye(d))


def theirs(n: int, d: int, routes: Sequence[str]) -> Iterator[Named]:
    """Some of PyTorch's routes, eager, and with --compile compiled, too."""
    import torch

    from experiments.whitening_speed.baselines import torch_baselines

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, g = (torch.from_numpy(a).to(device) for a in inputs(n, d))

    def wait(value):
        if device == "cuda":
            torch.cuda.synchronize()
        return value

    for name in routes:
        variants = {"eager": torch_baselines(torch)[name]}
        if "--compile" in sys.argv:
            variants["compiled"] = torch.compile(variants["eager"], dynamic=False)
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

            yield f"torch {name}, {kind}", "forward", forward
            yield f"torch {name}, {kind}", "full", full


# Each group is a process, or one for each number of threads.
GROUPS: dict[str, Callable[[int, int], Iterator[Named]]] = {
    "products": products_and_autodiff,
    "ltjax zca": partial(ours, methods=ZCA),
    "ltjax": partial(ours, methods=[name for name in OURS if name not in ZCA]),
    "torch eigh": partial(theirs, routes=("eigh",)),
    "torch": partial(theirs, routes=("svd", "iternorm 5", "cholesky")),
}


def _steps(call: Call, threads: int, *, torch: bool) -> Callable[[int], None]:
    """The function of a number of steps, called once, which compiles."""

    def steps(count: int) -> None:
        if torch:
            import torch as library

            library.set_num_threads(threads)
        for _ in range(count):
            call()

    steps(1)
    return steps


def main() -> None:
    """Makes the functions, and serves them."""
    group, size, most = sys.argv[1:4]
    n, d = map(int, size.split("x"))
    torch = group.startswith("torch")
    counts = sorted({1, int(most)}) if torch else [int(most)]
    processes.serve(
        {
            f"{name} | {mode} | {threads}": _steps(call, threads, torch=torch)
            for name, mode, call in GROUPS[group](n, d)
            for threads in counts
        }
    )


if __name__ == "__main__":
    main()
