"""Standard output and standard error: closed, a pipe that nobody reads, what libraries say there.

The standard library only: the command line calls this before NumPy is imported.
"""

import contextlib
import logging
import os
import sys
import warnings


def open_streams() -> None:
    """Opens what is closed of the three standard streams, to nothing.

    Otherwise the next file that is opened would take its number, and what a library prints would
    be written into a checkpoint.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the whole process


def quiet_libraries() -> None:
    """Leaves what goes wrong to messages of our own, of one line each."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A cache that cannot be written, or is damaged, is as good as none.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def discard_output() -> None:
    """Sends to nothing what a closed pipe no longer takes, also what Python has yet to write."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nothing, stream.fileno())
                stream.flush()
            os.close(nothing)


def flushed(code: int) -> int:
    """The exit code of a process, once what it printed is out.

    Args:
      code: 0, or the code of an error.

    Returns:
      The same; 2 where the output of a success is lost, as on a full disk, except that a reader
      who went away, as `head -1` does, wanted no more.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except (OSError, ValueError) as e:
        if code == 0:
            with contextlib.suppress(OSError, ValueError):
                print(f"ltjax: error: the output cannot be written ({e})", file=sys.stderr)
        code = code or 2
    discard_output()
    return code
