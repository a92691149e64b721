"""One contender in a process of its own, which takes steps when it is told to.

    python -m experiments.train_speed.contender KIND NETWORK WORK THREADS

Batches lie ready; only the step is timed.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import processes

# Batch and side of the images of each network.
SHAPES = {"resnet32_cifar": (128, 32), "resnet8_cifar": (128, 16), "resnet50": (16, 224)}
CLASSES = 10
Steps = Callable[[int], None]


def pytorch(network: str, work: str, *, threads: int, **settings: bool) -> Steps:
    """Steps of PyTorch."""
    import torch

    from experiments.train_speed.pytorch_baseline import PyTorchBaseline

    torch.set_num_threads(threads)
    batch, side = SHAPES[network]
    images = np.random.default_rng(0).integers(256, size=(2 * batch, side, side, 3), dtype=np.uint8)
    labels = np.arange(len(images)) % CLASSES
    trained = PyTorchBaseline(network, images, labels, batch, CLASSES, **settings)
    ready = trained.inputs()
    trained.inputs = lambda: ready  # type: ignore[method-assign]
    if work == "training":
        return trained
    trained.model.eval()

    def evaluate(steps: int) -> None:
        half = torch.autocast("cpu", torch.bfloat16, enabled=settings["bfloat16"])
        with torch.no_grad(), half:
            for _ in range(steps):
                trained.model(ready[0])

    return evaluate


def ours(network: str, work: str, *, native: bool, dtype: str) -> Steps:
    """Steps of this package's network with SGD, jitted, on one host device."""
    import jax
    import jax.numpy as jnp
    import optax

    from ltjax.models import ModelConfig, make_model
    from ltjax.whitening.options import WhiteningConfig

    jax.config.update("jax_num_cpu_devices", 1)
    batch, side = SHAPES[network]
    config = ModelConfig(name=network, head="linear", dtype=dtype)
    model = make_model(config, WhiteningConfig(method="none"), CLASSES, native=native)
    images = jax.random.normal(jax.random.key(0), (batch, side, side, 3))
    labels = jnp.arange(batch) % CLASSES
    variables = jax.jit(lambda key: model.init(key, images[:2], train=False))(jax.random.key(1))
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))

    def step(state, images, labels):
        params, stats, opt_state = state

        def loss_of(params):
            variables = {"params": params, "batch_stats": stats}
            out, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(out.logits, labels)
            return losses.mean(), new["batch_stats"]

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    trained = jax.jit(step, donate_argnums=0)

    def evaluation(images):
        out: Any = model.apply(variables, images, train=False)
        return out.logits

    evaluated = jax.jit(evaluation)
    start = jax.tree.map(jnp.copy, (variables["params"], variables["batch_stats"]))
    held = [(*start, optimizer.init(variables["params"]))]

    def train(steps: int) -> None:
        for _ in range(steps):
            held[0], loss = trained(held[0], images, labels)
        jax.block_until_ready((held[0], loss))

    def evaluate(steps: int) -> None:
        for _ in range(steps):
            logits = evaluated(images)
        logits.block_until_ready()

    return train if work == "training" else evaluate


def contender(kind: str, network: str, work: str, threads: int) -> Steps:
    """The contender of a name of `run.CONTENDERS`."""
    if kind.startswith("torch"):
        words = {"channels_last": "channels last", "compiled": "compile", "bfloat16": "bfloat16"}
        settings = {name: word in kind for name, word in words.items()}
        return pytorch(network, work, threads=threads, **settings)
    if "allocator" in kind:
        from ltjax.kernels.allocator import keep_memory

        assert keep_memory(), "the allocator's setting needs glibc"
    if "kernels" in kind:
        from ltjax.kernels.build import load

        assert load().path is not None, load().reason
    dtype = "bfloat16" if "bfloat16" in kind else "float32"
    return ours(network, work, native="kernels" in kind, dtype=dtype)


def main() -> None:
    """Compiles and warms up, then answers."""
    kind, network, work, threads = sys.argv[1:]
    steps_of = contender(kind, network, work, int(threads))
    steps_of(2)
    processes.serve({work: steps_of})


if __name__ == "__main__":
    main()
