"""The allocator's setting: made by a program, never by an import, and turned off by a variable."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltjax.kernels.allocator import OFF, give_back

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


@pytest.mark.skipif(sys.platform != "linux", reason="an allocator of Linux")
def test_freed_memory_is_given_back_when_told():
    malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
    malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [malloc(64 << 10) for _ in range(512)]  # too small for mappings of their own
    for block in blocks:
        ctypes.memset(block, 1, 64 << 10)
    for block in blocks[:-1]:  # the last one keeps the heap's end
        free(block)
    before = resident()
    assert give_back()
    assert resident() < before - (16 << 20)
    free(blocks[-1])


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
