"""Builds the native kernels at first use, keeps them in the user's cache, and gives them to XLA.

The library is keyed by everything that decides what is in it: the sources, the compiler and its
version, the flags, the kind of CPU and XLA's headers. It is compiled beside its final place and
renamed, so that a build that is killed, or two at once, leave whole libraries only. Where it
cannot be built (no compiler, another operating system) the reason is a sentence, and XLA's own
operators do the work.
"""

import atexit
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax

from ltjax.kernels.lapack import use_lapack

SOURCES = tuple(
    Path(__file__).with_name(name) for name in ("units.cc", "products.cc", "pooling.cc", "eigh.cc")
)
HEADERS = tuple(Path(__file__).with_name(name) for name in ("blocks.h", "tiles.h"))
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-w")
CALLS = (
    *(f"{name}_{way}" for name in ("unit", "product", "pool") for way in ("forward", "backward")),
    "eigh",
)
# A compiler that hangs must not hang a training.
MOST_SECONDS = 300


class Built(NamedTuple):
    """Outcome of `load`.

    Attributes:
      path: the library; None where there is none.
      reason: why there is none, in a sentence; empty where there is one.
      tiles: whether activations can be stored in bfloat16, for which a CPU and its system need
        matrix tiles (AMX).
    """

    path: Path | None
    reason: str
    tiles: bool = False


def find_compiler() -> str | None:
    """The C++ compiler of the environment variable CXX, else `g++`, `clang++` or `c++`; or None."""
    for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        if name and (path := shutil.which(name)):
            return path
    return None


def cpu_kind() -> str:
    """Names the instructions of this machine's CPU, on which compiled programs depend."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = sorted({line for line in lines if line.startswith(("model", "flags", "Features"))})
    return "\n".join([platform.machine(), platform.processor(), *found])


def _run(command: list[str]) -> str:
    """Output of a command.

    Raises:
      OSError: it failed, or ran for too long; the message is one line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired as e:
        raise OSError(f"{command[0]} ran for more than {MOST_SECONDS} s") from e
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise OSError(f"{command[0]} failed: {' '.join(lines[0].split())[:200]}")
    return done.stdout


def library_path(compiler: str) -> Path:
    """Where the library of these sources, compiler and CPU lies in the user's cache."""
    import platformdirs  # of the trainer's packages: whoever builds a network by XLA needs none

    version = _run([compiler, "--version"])
    digest = hashlib.sha256()
    for file in (*SOURCES, *HEADERS):
        digest.update(file.read_bytes() + b"\0")
    for part in (compiler, version, *FLAGS, cpu_kind(), jax.__version__):
        digest.update(part.encode() + b"\0")
    folder = Path(platformdirs.user_cache_dir("ltjax"))
    return folder / f"kernels-{digest.hexdigest()[:16]}.so"


def build(compiler: str, path: Path) -> None:
    """Compiles the library to `path`, in one step as others see it.

    Raises:
      OSError: the compiler failed, or nothing can be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kernels-") as folder:
        made = Path(folder) / path.name
        sources = map(str, SOURCES)
        _run([compiler, *FLAGS, "-I", jax.ffi.include_dir(), *sources, "-o", str(made)])
        made.replace(path)


def _build_somewhere(compiler: str, path: Path) -> Path:
    """Builds in the cache, or for this process alone where the cache cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".kernels-"):
            pass
    except OSError:
        folder = tempfile.TemporaryDirectory(prefix="ltjax-kernels-")
        atexit.register(folder.cleanup)
        path = Path(folder.name) / path.name
    build(compiler, path)
    return path


@functools.cache
def load() -> Built:
    """Builds the kernels if they are not there yet and registers them, once per process."""
    if platform.system() != "Linux":
        return Built(None, f"native kernels are for Linux, not {platform.system()}")
    compiler = find_compiler()
    if compiler is None:
        return Built(None, "there is no C++ compiler (install g++, or set CXX)")
    try:
        path = library_path(compiler)
        if not path.exists():
            path = _build_somewhere(compiler, path)
        library = ctypes.CDLL(str(path))
        use_lapack(library)
        for name in CALLS:
            target = jax.ffi.pycapsule(getattr(library, f"ltjax_{name}"))
            jax.ffi.register_ffi_target(f"ltjax_{name}", target, platform="cpu")
    except (OSError, AttributeError) as e:
        return Built(None, f"they cannot be built ({' '.join(str(e).split())[:300]})")
    has_tiles = library.ltjax_has_tiles
    has_tiles.restype = ctypes.c_bool
    return Built(path, "", has_tiles())
