"""How JAX's backend starts for a command: its devices and its cache of compiled programs."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax
import platformdirs

from ltjax.kernels.build import cpu_kind


def start_jax(cpu_devices: int) -> None:
    """Sets the number of host devices, which JAX reads once, and the compilation cache.

    Args:
      cpu_devices: host devices where there is only a CPU.
    """
    if not getattr(jax.config, "jax_compilation_cache_dir", None):  # JAX_COMPILATION_CACHE_DIR
        jax.config.update("jax_compilation_cache_dir", str(_cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if not _counted_by_flag():
        jax.config.update("jax_num_cpu_devices", cpu_devices)


def offer_devices(cpu_devices: int) -> None:
    """Sets the number of host devices where nobody has set it and JAX has not started.

    Args:
      cpu_devices: host devices where there is only a CPU.
    """
    if _counted_by_flag() or getattr(jax.config, "jax_num_cpu_devices", -1) > 0:
        return
    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", cpu_devices)


def _counted_by_flag() -> bool:
    """Whether XLA's own flag says how many host devices there are."""
    return "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def _cache_folder() -> Path:
    """Folder of the compiled programs, one per kind of CPU, since they hold its instructions."""
    name = hashlib.sha256(cpu_kind().encode()).hexdigest()[:8]
    return platformdirs.user_cache_path("ltjax") / f"xla-{platform.machine()}-{name}"
