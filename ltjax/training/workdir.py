"""The folder of a run: its config, metrics and result, written so that a kill loses nothing."""

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any

from ltjax import config as configs
from ltjax.config import Config
from ltjax.errors import InputError


def write_json(path: Path, value: Any) -> None:
    """Writes JSON beside the final place and renames it: readers see all of it or none."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with open(temporary, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
      InputError: the file is absent or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, OSError) as e:
        raise InputError(
            f"{path} cannot be read as JSON ({' '.join(str(e).split())}); "
            "restore it, or use another --workdir"
        ) from e


class Workdir:
    """Files of one run.

    Opening a folder claims it for a configuration: a new folder stores it, a folder of the
    same configuration is resumed, any other is refused before anything is written.

    Args:
      path: the folder.
      config: resolved configuration.
      claim: whether to claim it; with several hosts one does.

    Raises:
      InputError: it cannot be written, or belongs to another configuration.
    """

    def __init__(self, path: str | Path, config: Config, *, claim: bool = True):
        self.path = Path(path)
        self.config = json.loads(json.dumps(config.nested()))
        if claim:
            self._claim(config.flat())

    def _claim(self, flat: dict[str, Any]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-test-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as e:
            raise InputError(
                f"workdir {self.path} cannot be written ({e.strerror}); "
                "give a folder you may write to with --workdir"
            ) from e
        stored = self.path / "config.json"
        if stored.exists():
            known = configs.completed(configs.flatten(_object(stored)))
            changed = configs.differences(flat, known)
            if changed:
                raise InputError(
                    f"workdir {self.path} belongs to another config (stored -> given: "
                    f"{'; '.join(changed)}); use another --workdir, or the stored config"
                )
        else:
            write_json(stored, self.config)

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
        return _object(self.path / "dataset.json")

    @functools.cached_property
    def result(self) -> dict[str, Any]:
        """Content of `result.json`."""
        return _object(self.path / "result.json")

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(H, W, C)`."""
        return tuple(self.dataset["image_shape"])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.dataset["class_names"])


def read_finished(workdir: str | Path, *, name: str = "workdir", what: str = "run") -> FinishedRun:
    """Finds a finished run and reads its configuration; the rest is read when it is asked for.

    Args:
      workdir: its folder.
      name: what the folder is called in messages.
      what: what the run is called there.

    Raises:
      InputError: no finished run is there, or a file of it is damaged.
    """
    path = Path(workdir)
    for file, wrong in (("config.json", "no workdir of a run"), ("result.json", "not finished")):
        if not (path / file).exists():
            raise InputError(
                f"{name} {path} is {wrong} (it has no {file}); "
                f"give the workdir of a finished {what}"
            )
    return FinishedRun(path, configs.resolve(_object(path / "config.json")))


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; restore it, or use another --workdir")
    return content
