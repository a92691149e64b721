"""How the C library gives memory back: not at all, while a program trains."""

import ctypes
import os
import platform

# glibc's malloc.h: the name of each setting, its number, and the value it gets here.
SETTINGS = {
    "M_ARENA_MAX": (-8, 1),  # one heap, so that what a thread frees another can use
    "M_MMAP_MAX": (-4, 0),  # large blocks come from the heap, not from a mapping of their own
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),  # the heap's end is never given back
    "M_TOP_PAD": (-2, 64 * 2**20),  # and grows by 64 MiB at a time
}
OFF = "LTJAX_KEEP_MEMORY"


def keep_memory() -> bool:
    """Tells glibc's allocator to keep the memory that is freed, for the rest of the process.

    XLA's CPU client allocates its temporary buffer anew at every call: by default each step
    maps and unmaps hundreds of megabytes and pays a page fault for every 4 KiB of them. It is a
    setting of the whole process, so a program makes it, never a library at import. It has an
    effect only before JAX's backend starts. The environment variable LTJAX_KEEP_MEMORY=0 turns
    it off.

    Returns:
      Whether it was set: False elsewhere than on Linux with glibc, or where it is turned off.

    Source: ours; `mallopt(3)`, https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    if os.environ.get(OFF, "1") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(number, value) == 1 for number, value in SETTINGS.values())
