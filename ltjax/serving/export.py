"""A trained network as files: a program for jax alone (`jax.export`), its weights, its record."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export as jax_export

from ltjax.errors import InputError, one_line, require
from ltjax.evaluation.calibration import Correction
from ltjax.serving.card import card, weights
from ltjax.serving.load import Trained, corrections, folded_function
from ltjax.serving.onnx import as_onnx
from ltjax.serving.record import RECORD, record
from ltjax.training.stored import read_json
from ltjax.training.workdir import WEIGHTS, as_json, write_together

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

FORMATS = ("stablehlo", "onnx", "safetensors")

# What an export may write, and the keys by which its `model.json` is known again.
FILES = (
    "model.json",
    "model.stablehlo",
    "model.onnx",
    "run.py",
    WEIGHTS,
    "README.md",
    *RECORD,
)
MARKS = {"classes", "normalised_inside", "temperature", "folded"}

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


def check_folder(folder: str | Path) -> None:
    """Refuses a folder where an export would replace files of somebody else.

    Args:
      folder: where to write.

    Raises:
      InputError: it has a file of that name and is no folder of an earlier export.
    """
    path = Path(folder)
    there = [name for name in FILES if os.path.lexists(path / name)]
    if there and not _is_export(path / "model.json"):
        raise InputError(
            f"--output {one_line(path)} holds a {there[0]} that is not of an export, which would "
            "replace it; give another folder"
        )


def _is_export(path: Path) -> bool:
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and content.keys() >= MARKS


def write(
    trained: Trained,
    folder: str | Path,
    *,
    platforms: Sequence[str] = ("cpu",),
    format: str = "stablehlo",
) -> bool:
    """Writes a network as a program, its weights, and what `--workdir` needs to take it as a run.

    The program takes uint8 images `[b, H, W, C]`, or float32 features `[b, D]`, for any `b`,
    normalizes them and gives float32 logits `[b, classes]`.

    Args:
      trained: network.
      folder: where to write `FILES`; it is made where it is absent.
      platforms: of the program, some of `PLATFORMS`.
      format: "stablehlo"; "onnx" for `model.onnx` besides; "safetensors" for no program.

    Returns:
      Whether whitening and classifier are folded into one affine map in the program.

    Raises:
      InputError: an unknown platform or format, a folder that cannot be written, or one with files
        of these names that no export has written.
    """
    check_platforms(platforms)
    require(format in FORMATS, "format", format, f"one of {', '.join(FORMATS)}")
    check_folder(folder)
    has_program = format != "safetensors"
    dtype = jnp.dtype(jnp.uint8 if len(trained.image_shape) == 3 else jnp.float32)
    function, folded = folded_function(trained)
    facts = {
        "classes": trained.dataset["class_names"],
        "input": {"shape": ["b", *trained.image_shape], "dtype": dtype.name},
        "normalisation": {"mean": trained.dataset["mean"], "std": trained.dataset["std"]},
        "normalised_inside": True,
        "temperature": trained.temperature,
        "folded": folded and has_program,
        "platforms": list(platforms) if has_program else [],
        "method": trained.config.method,
        "jax": jax.__version__,
    }
    fitted = {"temperature": Correction(temperature=trained.temperature)}
    if trained.scores:  # it is the network of `result.json`, and so are its corrections
        fitted = corrections(trained.run)
    contents = {
        "model.json": as_json(facts),
        WEIGHTS: weights(trained),
        "README.md": card(trained, has_program=has_program).encode(),
        **record(trained.run, trained.scores, fitted),
    }
    if has_program:
        contents["model.stablehlo"] = _program(function, trained.image_shape, dtype, platforms)
        contents["run.py"] = PROGRAM.read_bytes()
    if format == "onnx":
        contents["model.onnx"] = as_onnx(function, trained.image_shape, dtype)
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_together(path, contents)
        for name in set(FILES) - set(contents):  # of an earlier export, so of another network
            (path / name).unlink(missing_ok=True)
    except OSError as e:
        raise InputError(f"--output {path} cannot be written ({e.strerror}); give another") from e
    return folded and has_program


def _program(
    function: Callable[[jax.Array], jax.Array],
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    platforms: Sequence[str],
) -> bytes:
    batch = jax_export.symbolic_shape("b")[0]
    images = jax.ShapeDtypeStruct((batch, *shape), dtype)
    exported = jax_export.export(jax.jit(function), platforms=list(platforms))(images)
    return bytes(exported.serialize())
