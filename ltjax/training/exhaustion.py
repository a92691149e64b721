"""What to do where the operating system refuses something: files, memory, threads."""

import errno
import os

# What to do about an error of the operating system, by its number.
_ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "make room there, then give the same command to go on, or use another --workdir",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "change the permissions there, or give a folder you may write to with --workdir",
    ),
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then give the same command "
    "to go on",
    errno.EMFILE: "raise the limit on open files (ulimit -n), then give the same command to go on",
}


_UNLOADED = ("failed to map segment", "cannot allocate memory")


def advice(error: BaseException) -> str:
    """What to do about an error of the operating system.

    Libraries wrap such errors in others; then the text tells which it was.

    Args:
      error: an `OSError`, or what a library made of one.

    Returns:
      The end of a message.

    >>> advice(PermissionError(13, "Permission denied"))
    'change the permissions there, or give a folder you may write to with --workdir'
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        number = next((n for n in _ADVICE if os.strerror(n) in str(error)), 0)
    return _ADVICE.get(number, "check that disk, then give the same command to go on")


def told(error: OSError) -> str:
    """An error of the operating system in one line: what, where, and what to do.

    >>> told(OSError(28, "No space left on device", "runs/a/config.json")).split("; ")[0]
    'No space left on device: runs/a/config.json'
    """
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}; {advice(error)}"


def exhausted(error: BaseException) -> str | None:
    """What to do where memory or threads are exhausted, of this machine or of a device.

    JAX and Python raise a `RuntimeError` like that of any other failure; the text tells them apart.

    Args:
      error: any error.

    Returns:
      One line; None for an error of another kind.

    >>> exhausted(RuntimeError("can't start new thread")).split("; ")[0]
    "can't start new thread"
    >>> exhausted(ImportError("x.so: failed to map segment from shared object")).split("; ")[1]
    'raise the limit (ulimit -v)'
    """
    text = str(error)
    if isinstance(error, MemoryError) or text.startswith("RESOURCE_EXHAUSTED"):
        return (
            f"there is not enough memory ({text or 'MemoryError'}); lower config.train.batch_size, "
            "config.evaluation.batch_size or the number of seeds, or use smaller images"
        )
    # Of the loader of shared libraries; there are no numbers for these.
    if isinstance(error, ImportError) and any(words in text.lower() for words in _UNLOADED):
        return f"there is not enough memory to load a library ({text}); raise the limit (ulimit -v)"
    if text.startswith("can't start new thread"):
        return f"{text}; raise the limit on processes (ulimit -u), or on memory (ulimit -v)"
    return None
