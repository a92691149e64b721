"""What an exported program is given: odd arrays, no arrays, and files that are none."""

import json
import os
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from ltjax.serving.export import PROGRAM

PIXELS = np.zeros((3, 4, 4, 1), np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Programs of two networks, of pictures and of features, that give two logits."""
    found = {}
    for name, shape, dtype in (("pictures", [4, 4, 1], "uint8"), ("features", [5], "float32")):
        folder = found[name] = tmp_path_factory.mktemp(name)

        def network(x):
            mean = x.astype(jnp.float32).reshape(x.shape[0], -1).mean(axis=1, keepdims=True)
            return jnp.concatenate([mean, -mean], axis=1)

        batch = jax.ShapeDtypeStruct((export.symbolic_shape("b")[0], *shape), dtype)
        (folder / "model.stablehlo").write_bytes(export.export(jax.jit(network))(batch).serialize())
        given = {"shape": ["b", *shape], "dtype": dtype}
        facts = {"input": given, "classes": ["a", "b"], "temperature": 1.0}
        (folder / "model.json").write_text(json.dumps(facts))
        (folder / "run.py").write_bytes(PROGRAM.read_bytes())
    return found


@pytest.fixture
def program(folders, monkeypatch):
    """Runs a program in this process."""

    def run(name, *args):
        file = str(folders[name] / "run.py")
        monkeypatch.setattr("sys.argv", [file, *map(str, args)])
        runpy.run_path(file, run_name="__main__")

    return run


def saved(path, array):
    np.save(path, array)


# Network, what writes the input, and the end of the program.
REFUSED = {
    "text": ("pictures", lambda p: p.write_text("text"), "cannot be read"),
    "objects": ("pictures", lambda p: saved(p, np.array([{}])), "cannot be read"),
    "another size": ("pictures", lambda p: saved(p, PIXELS[:, :2]), r"give uint8 \['N', 4, 4, 1\]"),
    "fractions": ("pictures", lambda p: saved(p, PIXELS / 255), "holds float64"),
    "a number": ("pictures", lambda p: saved(p, np.uint8(3)), r"holds uint8 \[\]"),
    "no rows": ("pictures", lambda p: saved(p, PIXELS[:0]), "no picture was read"),
    "words": ("features", lambda p: saved(p, np.array([["a"] * 5])), "give float32"),
    "a pipe": ("features", os.mkfifo, "Runs an exported network"),
    "nothing": ("features", lambda p: None, "Runs an exported network"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_odd_inputs_end_with_words(what, program, tmp_path):
    name, write, words = REFUSED[what]
    write(tmp_path / "in.npy")
    with pytest.raises(SystemExit, match=words):
        program(name, tmp_path / "in.npy")


def test_outputs_that_cannot_be(program, tmp_path):
    np.save(tmp_path / "in.npy", PIXELS)
    for output, words in (
        ("in.npy", "is the input"),
        ("out.csv", "give a .npy file"),
        ("nowhere/out.npy", "in a folder that exists"),
    ):
        with pytest.raises(SystemExit, match=words):
            program("pictures", tmp_path / "in.npy", tmp_path / output)
    np.testing.assert_array_equal(np.load(tmp_path / "in.npy"), PIXELS)


def test_pictures_beyond_the_limits_of_opencv_are_skipped(program, tmp_path, capsys):
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\0\xea\x60" * 2 + b"\1\0\0\0\0"
    (tmp_path / "large.png").write_bytes(header + bytes(100))
    (tmp_path / "empty.png").touch()
    with pytest.raises(SystemExit, match="no picture was read"):
        program("pictures", tmp_path)
    assert capsys.readouterr().err.count("no picture that OpenCV reads") == 2


def test_any_numbers_become_features(program, tmp_path, capsys):
    np.save(tmp_path / "in.npy", np.arange(10).reshape(2, 5))
    program("features", tmp_path / "in.npy", tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), [[2, -2], [7, -7]])
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == ["a", "a"]


def test_a_reader_that_goes_away_is_no_traceback(folders, tmp_path):
    saved(tmp_path / "in.npy", PIXELS)
    command = [sys.executable, str(folders["pictures"] / "run.py"), str(tmp_path / "in.npy")]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
