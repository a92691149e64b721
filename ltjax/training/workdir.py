"""The folder of a run: its config, metrics and result, written so that a kill loses nothing."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ltjax import config as configs
from ltjax.config import Config
from ltjax.errors import InputError, one_line
from ltjax.training.ending import undisturbed
from ltjax.training.exhaustion import advice
from ltjax.training.safety import locked
from ltjax.training.store import fetched
from ltjax.training.stored import checked_dataset, checked_result, read_object

# What an export has in place of checkpoints.
WEIGHTS = "model.safetensors"
# What a run writes in its folder and reads again, and the weights of an export.
RUN_FILES = (
    "config.json",
    "dataset.json",
    "metrics.jsonl",
    "result.json",
    "evaluation.json",
    "diagnostics.json",
    WEIGHTS,
)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file beside its final place and renames it: readers see all of it or none.

    The temporary file has a name that nobody can guess and is gone if the writing fails.

    Args:
      path: of the file.
      content: of the file.

    Raises:
      OSError: it cannot be written; what was there before is as it was.
    """
    write_together(path.parent, {path.name: content})


def write_together(folder: Path, contents: dict[str, bytes]) -> None:
    """Writes files that belong together as `write_bytes` does: none is replaced before all are.

    Args:
      folder: of the files.
      contents: by name.

    Raises:
      OSError: one cannot be written; what was there before is as it was.
    """
    written: dict[Path, str] = {}
    try:
        for name, content in contents.items():
            temporary = folder / f".{name}-{secrets.token_hex(8)}"
            written[temporary] = name
            # The permissions are the umask's; a file or link of that name would be refused.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        with undisturbed():
            for temporary, name in written.items():
                os.replace(temporary, folder / name)
    except BaseException:
        for temporary in written:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise


def clear_unwritten(folder: Path) -> None:
    """Removes what a process that was killed while it wrote has left of `write_bytes`.

    Args:
      folder: where no other process may be writing.
    """
    for path in folder.glob(".*-" + "[0-9a-f]" * 16):
        with contextlib.suppress(OSError):  # it takes nothing but room
            path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON as `write_bytes` does."""
    write_bytes(path, as_json(value))


def as_json(value: Any) -> bytes:
    """JSON as all files have it."""
    return (json.dumps(value, indent=2) + "\n").encode()


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed `.npz` file as `write_bytes` does."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_bytes(path, content.getvalue())


def append_line(descriptor: int, line: str) -> None:
    """Appends a line to a file at once, past every buffer of Python.

    A buffer would keep what a full disk refused, and raise again when the file is closed.

    Args:
      descriptor: of the file, opened for appending.
      line: without its end.
    """
    _write_all(descriptor, (line + "\n").encode())


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Workdir:
    """Files of one run.

    A new folder stores the configuration, a folder of the same configuration is resumed, any
    other is refused before anything is written.

    Args:
      path: the folder.
      config: resolved configuration.
    """

    def __init__(self, path: str | Path, config: Config):
        self.path = Path(path)
        self.config = json.loads(json.dumps(config.nested()))
        self._flat = config.flat()

    def finished(self) -> dict[str, Any] | None:
        """The result of a run that has finished, from a folder that need not be writable.

        Returns:
          Content of `result.json`; None where there is none yet.

        Raises:
          InputError: the folder belongs to another configuration, or the file is damaged.
        """
        if not self.result.exists():
            return None
        self._check_config()
        return checked_result(self.result)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the folder for this process, which stores its configuration there if it is new.

        The lock comes first: of two processes that start together, the one that does not get it
        writes nothing.

        Raises:
          InputError: the folder cannot be written, is held by another process, or belongs to
            another configuration.
        """
        try:
            os.path.abspath(self.path).encode()
        except UnicodeEncodeError as e:
            raise InputError(
                f"workdir {one_line(self.path)} has a path that is not UTF-8, under which no "
                "checkpoint can be written; use another --workdir"
            ) from e
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"workdir {one_line(self.path)} is a file; give a folder")
        try:
            os.makedirs(self.path, exist_ok=True)
            probe = self.path / f".write-test-{secrets.token_hex(8)}"
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            os.unlink(probe)
        except OSError as e:
            raise InputError(
                f"workdir {self.path} cannot be written ({e.strerror}); {advice(e)}"
            ) from e
        with locked(self.path):
            clear_unwritten(self.path)
            if not self._check_config():
                write_json(self.path / "config.json", self.config)
            yield

    def _check_config(self) -> bool:
        """Whether the folder has a configuration, which must be this one."""
        stored = self.path / "config.json"
        if not stored.exists():
            self._check_empty()
            return False
        changed = configs.differences(
            self._flat, configs.completed(configs.flatten(read_object(stored)))
        )
        if changed:
            raise InputError(
                f"workdir {self.path} belongs to another config (stored -> given: "
                f"{'; '.join(changed)}); use another --workdir, or the stored config"
            )
        return True

    def _check_empty(self) -> None:
        """Refuses a folder without a configuration that holds a run nevertheless."""
        kept = any(self.checkpoints.glob("[0-9]*")) and self.checkpoints.name
        if kept := kept or (self.result.exists() and self.result.name):
            raise InputError(
                f"workdir {self.path} has {kept} but no config.json, so that nobody knows what run "
                "it is of; restore config.json, or use another --workdir"
            )

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        """The file that a finished run has."""
        return self.path / "result.json"


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What the workdir of a finished run tells of it.

    Attributes:
      path: the workdir.
      config: its resolved configuration.
    """

    path: Path
    config: Config

    @functools.cached_property
    def dataset(self) -> dict[str, Any]:
        """Content of `dataset.json`: classes, image shape, normalization, fingerprints."""
        return checked_dataset(self.path / "dataset.json")

    @functools.cached_property
    def result(self) -> dict[str, Any]:
        """Content of `result.json`."""
        return checked_result(self.path / "result.json")

    @property
    def best(self) -> dict[str, float] | None:
        """The best evaluation on held-out images; None where there were no such images."""
        return self.result.get("best")

    @property
    def files(self) -> list[Path]:
        """The files of the run that no output of another command may replace."""
        return [self.path / name for name in RUN_FILES]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(H, W, C)`, or `(D,)` of given features."""
        return tuple(self.dataset["image_shape"])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.dataset["class_names"])


def read_finished(workdir: str | Path, *, name: str = "workdir", what: str = "run") -> FinishedRun:
    """Finds a finished run and reads its configuration; the rest is read when it is asked for.

    Args:
      workdir: its folder, or a URL of it.
      name: what the folder is called in messages.
      what: what the run is called there.

    Raises:
      InputError: no finished run is there, or a file of it is damaged.
    """
    path = fetched(workdir)
    if not os.path.lexists(path):
        raise InputError(f"{name} {path} does not exist; give the workdir of a finished {what}")
    for file, wrong in (("config.json", "no workdir of a run"), ("result.json", "not finished")):
        if not (path / file).exists():
            raise InputError(
                f"{name} {path} is {wrong} (it has no {file}); "
                f"give the workdir of a finished {what}"
            )
    return FinishedRun(path, configs.resolve(read_object(path / "config.json")))
