"""A trained network as a file that runs with jax alone: StableHLO by `jax.export`."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export as jax_export

from ltjax.errors import InputError, require
from ltjax.serving.card import card, write_weights
from ltjax.serving.load import Trained, folded_function
from ltjax.training.workdir import write_bytes, write_json

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# The program that runs an export lies beside it, as this module's text.
PROGRAM = Path(__file__).with_name("exported.py")


def check_platforms(platforms: Sequence[str]) -> None:
    """Checks that there is a platform to export for, and that all are known.

    Args:
      platforms: some of `PLATFORMS`.

    Raises:
      InputError: none, or an unknown one.

    >>> check_platforms(["cpu", "cuda"])
    """
    for name in platforms or [""]:
        require(name in PLATFORMS, "platforms", name, f"some of {', '.join(PLATFORMS)}")


def write(trained: Trained, folder: str | Path, *, platforms: Sequence[str] = ("cpu",)) -> bool:
    """Writes `model.stablehlo`, `model.json`, `run.py`, `model.safetensors` and a model card.

    The function takes uint8 images `[b, H, W, C]`, or float32 features `[b, D]`, for any `b`,
    normalizes them and gives float32 logits `[b, classes]`.

    Args:
      trained: network.
      folder: where to write; it is made where it is absent.
      platforms: some of `PLATFORMS`.

    Returns:
      Whether whitening and classifier are folded into one affine map.

    Raises:
      InputError: an unknown platform, or a folder that cannot be written.
    """
    check_platforms(platforms)
    function, folded = folded_function(trained)
    batch = jax_export.symbolic_shape("b")[0]
    dtype = jnp.dtype(jnp.uint8 if len(trained.image_shape) == 3 else jnp.float32)
    shape = jax.ShapeDtypeStruct((batch, *trained.image_shape), dtype)
    exported = jax_export.export(jax.jit(function), platforms=list(platforms))(shape)
    facts = {
        "classes": trained.dataset["class_names"],
        "input": {"shape": ["b", *trained.image_shape], "dtype": dtype.name},
        "normalisation": {"mean": trained.dataset["mean"], "std": trained.dataset["std"]},
        "normalised_inside": True,
        "temperature": trained.temperature,
        "folded": folded,
        "platforms": list(platforms),
        "method": trained.config.method,
        "jax": jax.__version__,
    }
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_bytes(path / "model.stablehlo", bytes(exported.serialize()))
        write_json(path / "model.json", facts)
        write_bytes(path / "run.py", PROGRAM.read_bytes())
        write_weights(trained, path / "model.safetensors")
        write_bytes(path / "README.md", card(trained).encode())
    except OSError as e:
        raise InputError(f"--output {path} cannot be written ({e.strerror}); give another") from e
    return folded
