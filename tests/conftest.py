"""Settings of every test: 4 host devices, and no implicit dtype or rank promotion."""

import os
import subprocess
import sys
import tempfile

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Set before JAX is imported, so that it also holds in processes that tests start.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.environ.get("LTJAX_TEST_CACHE", os.path.join(tempfile.gettempdir(), "ltjax-test-cache")),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Compiling takes most of the tests' time; the first flag halves it, and the second takes a third of
# the rest. With XLA_FLAGS set, even to nothing, the tests run as the environment says, as a user's
# program does. The jax of Python 3.12 and later does not know the second flag, and with the first
# alone it rounds differently in programs of one seed and of two, which tests compare to the bit.
if sys.version_info < (3, 12):
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    )
# Caches the labels of shared datasets here, not beside the datasets.
os.environ.setdefault("LTJAX_CACHE_DIR", os.environ["JAX_COMPILATION_CACHE_DIR"] + "-labels")

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("ltjax", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("ltjax")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a test marked `rounds_alike` in a process of its own, without the second flag."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    kept = [flag for flag in flags if not flag.startswith("--xla_cpu_use_fusion_emitters")]
    if not pyfuncitem.get_closest_marker("rounds_alike") or kept == flags:
        return None  # pytest goes on and runs it here
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env=os.environ | {"XLA_FLAGS": " ".join(kept)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


@pytest.fixture
def devices():
    """The four host devices."""
    assert jax.local_device_count() == 4
    return jax.local_devices()


@pytest.fixture
def command(monkeypatch, capfd):
    """Calls the command line in this process, where JAX has started.

    Returns:
      A function from arguments to the exit code and what was written to standard error.
    """
    from ltjax.main import main

    monkeypatch.setattr("ltjax.main._start_jax", lambda devices: None)

    def call(*args):
        code = main(["ltjax", *map(str, args)])
        return code, capfd.readouterr().err

    return call
