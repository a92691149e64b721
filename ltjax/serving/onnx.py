"""A trained network as an ONNX file, by jax2onnx, compared with the network in onnxruntime."""

import contextlib
import importlib.util
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ltjax.errors import InputError, one_line

# Largest difference of a logit, as a share of the largest logit.
TOLERANCE = 1e-4
# Batch sizes at which the file is compared with the network.
COMPARED = (1, 5)


def check_onnx() -> None:
    """Checks that the packages of the extra are there.

    Raises:
      InputError: one of them is not.
    """
    for name in ("jax2onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise InputError(
                f"--format = onnx needs {name}, which is not installed; pip install 'ltjax[onnx]', "
                "or leave it out for StableHLO"
            )


def as_onnx(
    function: Callable[[jax.Array], jax.Array], shape: Sequence[int], dtype: np.dtype[Any]
) -> bytes:
    """Converts a function of a batch.

    Args:
      function: of an array `[b, *shape]`, for any `b`.
      shape: of one example.
      dtype: of the array.

    Returns:
      The content of an `.onnx` file; its input and its output have a free batch size.

    Raises:
      InputError: the packages of the extra are absent, the network cannot be converted, or
        onnxruntime gives other numbers.

    Source: jax2onnx, https://github.com/enpasos/jax2onnx.
    """
    check_onnx()
    import onnxruntime

    # It says of each of its parts that another package does not fit, with a traceback.
    logging.getLogger("jax2onnx").setLevel(logging.ERROR)
    from jax2onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    given = jax.ShapeDtypeStruct(("B", *shape), dtype)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # to which it prints what it traces
            content: bytes = to_onnx(function, [given], model_name="ltjax").SerializeToString()
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as e:  # of many kinds, for an operation that one of them does not know
        raise InputError(
            f"--format = onnx cannot convert this network ({one_line(repr(e), most=300)}); leave "
            "it out for StableHLO"
        ) from e
    name = session.get_inputs()[0].name
    rng = np.random.default_rng(0)
    for count in COMPARED:
        values = rng.integers(0, 256, (count, *shape)).astype(dtype)
        expected = np.asarray(function(jax.numpy.asarray(values)))
        found = session.run(None, {name: values})[0]
        check_agrees(found, expected)
    return content


def check_agrees(found: np.ndarray, expected: np.ndarray) -> None:
    """Checks that a runtime's logits are those of the network.

    Args:
      found: `[B, C]`.
      expected: `[B, C]`.

    Raises:
      InputError: a shape, or a value by more than `TOLERANCE` of the largest one, differs.

    >>> check_agrees(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0001]]))
    """
    gap = np.inf
    if found.shape == expected.shape:
        gap = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
    if not gap <= TOLERANCE:
        raise InputError(
            f"--format = onnx gives other logits than the network, by {gap:.2g} of the largest; "
            "leave it out for StableHLO"
        )
