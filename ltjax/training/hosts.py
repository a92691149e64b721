"""Several hosts: how they find each other, and how a host ends when another one is gone."""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

from ltjax.errors import InputError, Interrupted, one_line, require, shown

# A host that is silent for so long counts as lost; JAX's own 100 seconds are long for a run that
# loses only the steps since its last checkpoint.
SILENCE_SECONDS = 20
# The first host waits so long for the last one to start: five minutes, and one for the imports.
START_SECONDS = 360
# So much longer than another may a host need to load its data. One that is lost is noticed anyhow.
LOADING_SECONDS = 3600
# Functions that the C library calls must not be collected.
_kept: list[Any] = []


@contextlib.contextmanager
def joined(
    address: str | None, processes: int | None, process: int | None, *, stopped_code: int = 0
) -> Iterator[None]:
    """Context of a run on several hosts; to be entered before anything else of JAX.

    The hosts may start `START_SECONDS` apart. A host whose error ends the context, or a signal
    outside of the training steps, ends without waiting for the others. A host that loses another
    ends with one line and exit code 1, within `SILENCE_SECONDS` and a few more: where a collective
    operation fails, and also where JAX ends the process by SIGABRT. What libraries write to the
    standard error, below Python, goes to a file that the line names.

    Args:
      address: `HOST:PORT` of process 0; None takes all three from the environment that
        SLURM, Open MPI or Cloud TPU sets.
      processes: number of processes.
      process: number of this one, from 0.
      stopped_code: exit code after SIGTERM or SIGHUP outside of the training steps.

    Returns:
      A context manager.

    Raises:
      InputError: nothing to find in the environment, or the others cannot be reached.

    Source: ours.
    """
    if address is not None:
        _check_address(address)
        if process == 0 and "JAX_COORDINATOR_BIND_ADDRESS" not in os.environ:
            _check_free(int(address.rpartition(":")[2]))
    log, began = _apart(), time.monotonic()
    _tell_before_abort(
        log, lambda: f"no connection after {time.monotonic() - began:.0f} of {START_SECONDS} s"
    )
    try:
        _connect(address, processes, process)
        _tell_before_abort(log, lambda: "JAX ended this process")
        yield
        log.unlink(missing_ok=True)
    except Interrupted:  # every host stops at the same step
        log.unlink(missing_ok=True)
        raise
    except jax.errors.JaxRuntimeError as e:
        _end(one_line(e, most=300), log)
    except BaseException as e:
        # At exit JAX would wait for the others, who wait for this host. Called first, being last.
        atexit.register(os._exit, _code(e, stopped_code))
        if log.exists() and not log.stat().st_size:
            log.unlink(missing_ok=True)
        raise


def wait_for_all(name: str) -> None:
    """Waits until every host has called this with the same name, up to `LOADING_SECONDS`.

    Args:
      name: of what they have done.

    Raises:
      jax.errors.JaxRuntimeError: one of them has not.
    """
    from orbax.checkpoint import multihost  # which takes a second to load, and one host not at all

    barrier = multihost.get_barrier_sync_fn()
    _interruptibly(lambda: barrier(key=name, timeout_ms=LOADING_SECONDS * 1000))


def _interruptibly(work: Callable[[], None]) -> None:
    """Does what waits within C++, such that a signal ends this process meanwhile.

    Python handles a signal once its main thread has returned from C++: that waits for a thread.
    """
    done: Future[None] = Future()

    def call() -> None:
        try:
            work()
            done.set_result(None)
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=call, daemon=True).start()
    done.result()


def _code(error: BaseException, stopped_code: int) -> int:
    """Exit code of a host that ends by itself."""
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(getattr(error, "number", signal.SIGINT)).exit_code or stopped_code
    return 2 if isinstance(error, InputError | OSError) else 1


def _apart() -> Path:
    """Leads what libraries write to the standard error to a file, and Python's to where it went."""
    place = os.dup(2)
    sys.stderr.flush()
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = open(place, "w", buffering=1, encoding=encoding, errors=errors)  # noqa: SIM115
    descriptor, name = tempfile.mkstemp(prefix="ltjax-host-", suffix=".log")
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return Path(name)


def _end(reason: str, log: Path) -> None:
    """Ends this process with one line, at once: nothing waits for a host that is gone."""
    said = ""
    with contextlib.suppress(OSError):  # the file is gone after the training
        said = f"; messages of libraries are in {log}" if log.stat().st_size else ""
    line = (
        f"ltjax: error: another host of the run ended or cannot be reached ({reason}); see what "
        f"that one printed, then give the same command on every host to go on{said}\n"
    )
    with contextlib.suppress(OSError):  # nobody may read it
        os.write(sys.stderr.fileno(), line.encode(sys.stderr.encoding, "backslashreplace"))
    os._exit(1)


def _tell_before_abort(log: Path, reason: Callable[[], str]) -> None:
    """Has the line printed where JAX aborts the process, which no exception of Python can stop.

    Its service does so in a thread of its own, within C++, when it misses a host. A handler of
    Python's module `signal` would come too late, since it runs after the return from C.
    """

    def handle(number: int) -> None:
        _end(reason(), log)

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    _kept.append(kind(handle))
    library = ctypes.CDLL(None)
    library.signal.argtypes, library.signal.restype = [ctypes.c_int, kind], ctypes.c_void_p
    library.signal(signal.SIGABRT, _kept[-1])


def _check_address(address: str) -> None:
    """Refuses an address that leads nowhere: JAX would try it for minutes and then abort."""
    host, _, port = address.rpartition(":")
    try:
        require(
            port.isdecimal() and 0 < int(port) < 2**16, "port", port, "a number from 1 to 65535"
        )
        socket.getaddrinfo(host.strip("[]"), int(port))
    except (OSError, ValueError) as e:
        raise InputError(
            f"--coordinator_address = {shown(address)} is not allowed "
            f"({one_line(getattr(e, 'strerror', None) or e)}); use HOST:PORT of process 0, with a "
            "name or number of that host"
        ) from e


def _check_free(port: int) -> None:
    """Refuses a port of process 0 that is taken, at which JAX would crash."""
    try:
        with socket.create_server(("", port)):
            pass
    except OSError as e:
        raise InputError(
            f"--coordinator_address has port {port}, on which process 0 cannot listen "
            f"({e.strerror}); use another port on every host"
        ) from e


def _connect(address: str | None, processes: int | None, process: int | None) -> None:
    """Connects JAX's service of each host with that of process 0."""
    # JAX would take SIGTERM from Python; the loop asks the hosts itself.
    jax.config.update("jax_enable_preemption_service", False)
    if getattr(jax.config, "jax_cpu_collectives_implementation", None) in (None, "none"):
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        _interruptibly(
            lambda: jax.distributed.initialize(
                *(address, processes, process),
                initialization_timeout=START_SECONDS,
                heartbeat_timeout_seconds=SILENCE_SECONDS,
            )
        )
    except (ValueError, RuntimeError) as e:
        reason = " ".join(str(e).split())[:200]
        raise InputError(
            f"--distributed cannot connect ({reason}); give --coordinator_address=HOST:PORT, "
            "--num_processes=N and --process_id=I to every process, or start under SLURM or on "
            "Cloud TPU"
        ) from e
