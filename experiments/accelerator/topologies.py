"""Chips that are not at hand: how XLA's compilers are told of them, and what they can do."""

import os
from typing import Any, NamedTuple

# The compiler's threads have stacks of about 64 KB by default. With units of 256 x 256 (v6e), the
# pass that joins matrix products overflows them on a step of ResNet-50: the process ends by signal
# 11.
_STACKS = ("fibers_default_thread_stack_size", "default_thread_stack_size")
# Must be set before the compiler is loaded, which otherwise looks for its chips.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "LIBTPU_INIT_ARGS": " ".join(f"--{name}={2**22}" for name in _STACKS),
}


class Chip(NamedTuple):
    """A kind of chip, from its maker's data sheet.

    Attributes:
      flops: most operations a second in bfloat16, for matrix products.
      bandwidth: bytes a second of its memory.
      memory: bytes.
      link: bytes a second to the other chips, both ways together.
    """

    flops: float
    bandwidth: float
    memory: float
    link: float


class Slice(NamedTuple):
    """Several chips.

    Attributes:
      chip: of which kind.
      topology: as the compiler takes it; empty for GPUs.
      devices: their number.
      accelerator: TPU's name of the slice; empty for GPUs.
    """

    chip: Chip
    topology: str
    devices: int
    accelerator: str


# https://cloud.google.com/tpu/docs/v5e, /v4, /v6e; NVIDIA's data sheet of the H100 SXM.
V5E = Chip(197e12, 819e9, 16 * 2**30, 200e9)
V4 = Chip(275e12, 1228e9, 32 * 2**30, 300e9)
V6E = Chip(918e12, 1640e9, 32 * 2**30, 448e9)
H100 = Chip(989e12, 3350e9, 80e9, 900e9)

SLICES = {
    "v5e-4": Slice(V5E, "v5e:2x2", 4, "v5litepod-4"),
    "v5e-8": Slice(V5E, "v5e:2x4", 8, "v5litepod-8"),
    "v4-8": Slice(V4, "v4:2x2x1", 4, "v4-8"),
    "v6e-4": Slice(V6E, "v6e:2x2", 4, "v6e-4"),
    "1 H100": Slice(H100, "", 1, ""),
    "4 H100": Slice(H100, "", 4, ""),
    "8 H100": Slice(H100, "", 8, ""),
}

# What XLA's compiler for GPUs asks of a device: the H100's own answers.
H100_TARGET = """\
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def set_environment(name: str) -> None:
    """Sets what the compiler of a slice reads when it is loaded; JAX must not have started.

    Args:
      name: one of `SLICES`.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if SLICES[name].topology:
        os.environ.update(TPU_ENVIRONMENT)
        os.environ["TPU_ACCELERATOR_TYPE"] = SLICES[name].accelerator
    else:
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        # Choosing kernels by timing needs the device.
        os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"


def devices_of(name: str) -> list[Any]:
    """Devices of a slice, for compiling alone.

    Args:
      name: one of `SLICES`.

    Raises:
      RuntimeError: the compiler is not installed.
    """
    from jax.experimental import topologies

    found = SLICES[name]
    if found.topology:
        described = topologies.get_topology_desc(platform="tpu", topology_name=found.topology)
        return list(described.devices)[: found.devices]
    _know_gpu()
    described = topologies.get_topology_desc(
        platform="cuda",
        topology_name="h100",
        target_config=H100_TARGET,
        topology=f"1x1x{found.devices}",
    )
    return list(described.devices)


def _know_gpu() -> None:
    """Without a GPU, JAX does not know that its platform "gpu" means CUDA here.

    Source: https://github.com/jax-ml/jax/issues/23971.
    """
    from jax._src import xla_bridge

    known = xla_bridge.canonicalize_platform

    def canonicalize(platform: str) -> str:
        return "cuda" if platform in ("gpu", "cuda") else known(platform)

    xla_bridge.canonicalize_platform = canonicalize
