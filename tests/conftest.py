"""Strict JAX for every test: 4 host devices, no silent dtype or rank promotion."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import pytest

CACHE = Path(os.environ.get("LTJAX_TEST_CACHE", Path(tempfile.gettempdir()) / "ltjax-test-cache"))

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

hypothesis.settings.register_profile("ltjax", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("ltjax")


@pytest.fixture
def devices():
    """The four host devices."""
    assert jax.local_device_count() == 4
    return jax.local_devices()
