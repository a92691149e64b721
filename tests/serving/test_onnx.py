"""Export to ONNX: what is done without the extra, and with a runtime that gives other numbers.

The packages of the extra are not among those of the tests; stand-ins take their places.
"""

import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.serving.onnx import as_onnx, check_onnx


def network(images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ jnp.ones((4, 3), jnp.float32)


def install(monkeypatch, factor):
    """A converter that keeps the function, and a runtime whose logits are off by a factor."""

    def to_onnx(function, given, model_name):
        assert given[0].shape == ("B", 2, 2)
        return SimpleNamespace(SerializeToString=lambda: function)

    def session(function, options, providers):
        def run(outputs, values):
            return [factor * np.asarray(function(jnp.asarray(values["x"])))]

        return SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name="x")], run=run)

    parts = {
        "jax2onnx": {"to_onnx": to_onnx},
        "onnxruntime": {"InferenceSession": session, "SessionOptions": SimpleNamespace},
    }
    for name, content in parts.items():
        spec = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__spec__=spec, **content))


def test_without_the_extra_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", SimpleNamespace(__spec__=ModuleSpec("x", None)))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime.*pip install 'ltjax\[onnx\]'"):
        check_onnx()


def test_a_file_that_agrees_is_given(monkeypatch):
    install(monkeypatch, 1 + 1e-6)
    assert as_onnx(network, (2, 2), np.dtype(np.uint8)) is network


@pytest.mark.parametrize("factor", [1.001, np.nan])
def test_other_logits_are_refused(monkeypatch, factor):
    install(monkeypatch, factor)
    with pytest.raises(InputError, match="gives other logits than the network"):
        as_onnx(network, (2, 2), np.dtype(np.uint8))


def test_a_network_that_cannot_be_converted_is_one_line(monkeypatch):
    def fail(*args, **options):
        raise NotImplementedError("no such\noperation")

    install(monkeypatch, 1.0)
    monkeypatch.setattr(sys.modules["jax2onnx"], "to_onnx", fail)
    with pytest.raises(InputError, match=r"onnx cannot convert this network \(NotImpl") as caught:
        as_onnx(network, (2, 2), np.dtype("float32"))
    assert "\n" not in str(caught.value)
