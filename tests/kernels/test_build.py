"""Builds: no or a broken compiler, a cache that cannot be written, a kill, two builds at once."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltjax.kernels import build
from ltjax.kernels.build import CALLS, cpu_kind, find_compiler, load

ROOT = Path(__file__).parents[2]
# Without optimization: what is tested is how a library comes about, and test_units.py tests the
# optimized one.
SAY = """
from ltjax.kernels import build
assert build.FLAGS[0] == "-O3"
build.FLAGS = ("-O0", *build.FLAGS[1:])
print(build.load())
"""
# The native calls in the training of a network that has all kinds of layers.
NETWORK = """
import re
import jax, jax.numpy as jnp
from ltjax.models.resnet import ResNet, Shape
from ltjax.whitening.roots import eigh
network = ResNet(Shape((1, 1, 1, 1), bottleneck=True), native=True)
images = jnp.zeros((2, 32, 32, 3))
variables = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=True))
def loss(variables, matrix):
    y, _ = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return jnp.sum(y) + jnp.sum(eigh(matrix, native=True)[1])
text = jax.jit(jax.value_and_grad(loss)).lower(variables, jnp.eye(256)).as_text()
print(*sorted(set(re.findall(r"@ltjax_(\\w+)", text))))
"""
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")


def start(tmp_path, *, path=None, code=SAY, **variables):
    """A process that loads the kernels with a cache of its own."""
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}
    if path is not None:
        env["PATH"] = str(path)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=env, text=True, stdout=-1, stderr=-1
    )


def said(process):
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out


def libraries(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache" / "ltjax").rglob("*"))


def fake_compiler(folder, script):
    """A program called g++ in a folder for PATH."""
    folder.mkdir()
    (folder / "g++").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "g++").chmod(0o755)
    return folder


@pytest.mark.slow
def test_no_compiler_is_a_sentence(tmp_path):
    out = said(start(tmp_path, path=tmp_path, CXX=""))
    assert "path=None" in out
    assert "there is no C++ compiler (install g++, or set CXX)" in out


def test_without_a_compiler_xla_does_all(tmp_path):
    assert said(start(tmp_path, path=tmp_path, code=NETWORK, CXX="")) == "\n"


@pytest.mark.slow
@needs_compiler
def test_with_a_compiler_a_network_makes_all_calls():
    done = subprocess.run([sys.executable, "-c", NETWORK], cwd=ROOT, text=True, stdout=-1)
    assert done.stdout.split() == sorted(CALLS)


@pytest.mark.slow
def test_broken_compiler_is_a_sentence(tmp_path):
    script = 'case "$1" in --version) echo 1.0;; *) echo "x.cc:1: error: no" >&2; exit 1;; esac'
    folder = fake_compiler(tmp_path / "bin", f"PATH=/bin:/usr/bin; {script}")
    out = said(start(tmp_path, path=folder, CXX=""))
    assert "path=None" in out
    assert "error: no" in out
    assert libraries(tmp_path) == []


@pytest.mark.slow
def test_library_that_cannot_be_loaded_is_a_sentence(tmp_path):
    script = 'case "$1" in --version) echo 1.0;; *) for a; do o=$a; done; echo no > "$o";; esac'
    folder = fake_compiler(tmp_path / "bin", f"PATH=/bin:/usr/bin; {script}")
    assert "path=None" in said(start(tmp_path, path=folder, CXX=""))


def test_compiler_that_hangs_is_left(monkeypatch):
    monkeypatch.setattr(build, "MOST_SECONDS", 0.2)
    with pytest.raises(OSError, match="ran for more than"):
        build._run(["sleep", "5"])


@pytest.mark.slow
@needs_compiler
def test_killed_builds_and_two_at_once_leave_one_library(tmp_path):
    killed = start(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "cache" / "ltjax").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    both = [start(tmp_path), start(tmp_path)]
    found = {said(process) for process in both}
    assert len(found) == 1
    assert "reason=''" in found.pop()
    assert sum(name.endswith(".so") for name in libraries(tmp_path)) >= 1


@pytest.mark.slow
@needs_compiler
def test_a_cache_that_cannot_be_written_is_no_harm(tmp_path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    assert "reason=''" in said(start(tmp_path))


def test_this_cpu_is_named():
    assert len(cpu_kind()) > 3


@needs_compiler
def test_calls_are_there():
    assert load().reason == ""
    text = "".join(path.read_text() for path in build.SOURCES)
    assert sorted(CALLS) == sorted(re.findall(r"HANDLER_SYMBOL\(ltjax_(\w+),", text))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_threads_share_nothing_and_change_nothing(tmp_path, sanitizer):
    """A driver in C++ runs all kinds of units on one and four threads under a sanitizer."""
    import jax

    # Without optimization every access of the source is one that the sanitizer sees.
    flags = ["-O0", "-g1", "-march=native", "-std=c++17", "-w", f"-fsanitize={sanitizer}"]
    source, program = Path(__file__).with_name("threads.cc"), tmp_path / "threads"
    headers = ["-isystem", jax.ffi.include_dir()]
    command = [find_compiler(), *flags, *headers, str(source), "-o", str(program), "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True)
    if "cannot find" in built.stderr:
        pytest.skip(f"the compiler has no {sanitizer} sanitizer")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr[-3000:]
