"""The allocator's setting: made by a program, never by an import, and turned off by a variable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltjax.kernels.allocator import OFF

ROOT = Path(__file__).parents[2]
# 64 MiB freed and taken again a hundred times: without the setting every round maps it anew.
FAULTS = """
import resource, sys
from ltjax.kernels.allocator import keep_memory
kept = keep_memory() if sys.argv[1] == "keep" else None
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def touch():
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(ctypes.c_void_p(block))
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how, **variables):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env={**os.environ, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_kept():
    assert faults("keep")[0] == "True"
    assert faults("keep")[1] * 10 < faults("import")[1]


@pytest.mark.slow
def test_a_variable_turns_it_off():
    kept, count = faults("keep", **{OFF: "0"})
    assert kept == "False"
    assert count > 1000
