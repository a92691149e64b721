"""How the C library gives memory back: not at all while a program trains, or when it is told to."""

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
    library = None if os.environ.get(OFF, "1") == "0" else _glibc()
    if library is None:
        return False
    return all(library.mallopt(number, value) == 1 for number, value in SETTINGS.values())


def give_back() -> bool:
    """Gives memory that has been freed back to the system, once; glibc keeps much of it.

    Compiling a program and an eigendecomposition each leave tens of megabytes, in heaps of several
    threads, so that the next part of the work would take new memory.

    Returns:
      Whether there was any: False elsewhere than on Linux with glibc.

    Source: ours; `malloc_trim(3)`, https://man7.org/linux/man-pages/man3/malloc_trim.3.html.
    """
    library = _glibc()
    return library is not None and library.malloc_trim(0) == 1


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
