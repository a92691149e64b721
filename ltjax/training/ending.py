"""How a process of the command line ends: with one line after an error or a signal.

The standard library only, until something goes wrong: the command line calls this first.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ltjax.training.streams import quiet_libraries

# Signals besides Ctrl-C that ask a process to end; Windows has no SIGHUP.
ASKING = tuple(
    int(getattr(signal, name)) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Asked(KeyboardInterrupt):
    """SIGTERM or SIGHUP asked this process to end.

    It passes wherever Ctrl-C does, so that what is half written is removed on its way.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def catch(numbers: tuple[int, ...], handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Sets the handler of signals.

    A signal that the process was started to ignore, as `nohup` does, stays ignored; so does all in
    other threads than the main one, which alone may set handlers.

    Args:
      numbers: of the signals.
      handler: takes the number and the frame.

    Returns:
      The handlers before.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    return before


def restore(before: dict[int, Any], after: int | None = None) -> None:
    """Sets handlers as they were; a terminal that is closed may send a second SIGHUP.

    Args:
      before: what `catch` gave.
      after: number of the signal that came; a SIGHUP has no successor.
    """
    for number, handler in before.items():
        again = number == after and number == getattr(signal, "SIGHUP", None)
        signal.signal(number, signal.SIG_IGN if again else handler)


@contextlib.contextmanager
def asked(*, resumes: bool) -> Iterator[None]:
    """Context in which SIGTERM, SIGHUP and SIGINT end the work; the second ends it at once.

    Args:
      resumes: whether the same command goes on where this one stopped.

    Returns:
      A context manager.

    Raises:
      Interrupted: a signal came.
    """

    def handler(number: int, frame: Any) -> None:
        restore(before, number)
        raise Asked(number)

    before = catch(ASKING, handler)
    try:
        yield
    except KeyboardInterrupt as e:
        from ltjax.errors import Interrupted

        raise Interrupted(getattr(e, "number", signal.SIGINT), resumes=resumes) from e
    finally:
        restore(before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Context of a short work that signals wait for, such as the renaming of several files."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*ASKING, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def orderly(work: Callable[[], int]) -> int:
    """Does the work of a command; what goes wrong outside of the program is told in one line.

    Args:
      work: gives an exit code.

    Returns:
      The code; 2 for input or a machine that cannot be used, and the signal's after a signal.
    """
    from ltjax.errors import InputError, Interrupted, one_line, print_any_text

    print_any_text(sys.stdout, sys.stderr)
    quiet_libraries()
    try:
        return work()
    except InputError as e:
        reason = str(e)
    except BrokenPipeError:  # the reader of the output went away; everything else is done
        return 0
    except (MemoryError, RuntimeError, ImportError) as e:
        from ltjax.training.exhaustion import exhausted

        if not (reason := exhausted(e) or ""):
            raise
    except OSError as e:
        from ltjax.training.exhaustion import told

        reason = told(e)
    except Interrupted as e:
        _say(str(e))
        return e.exit_code
    except KeyboardInterrupt:
        _say("interrupted; the same command resumes")
        return 130
    _say(f"error: {one_line(reason, most=3000)}")
    return 2


def _say(line: str) -> None:
    """Prints a line to standard error, which may be a terminal that is gone."""
    with contextlib.suppress(OSError, ValueError):
        print(f"ltjax: {line}", file=sys.stderr, flush=True)
