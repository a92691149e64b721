"""The folder of a run: its config, metrics and result, written so that a kill loses nothing."""

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
    """Reads JSON; a damaged file is an `InputError` that names it."""
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
            content = read_json(stored)
            changed = configs.differences(flat, _flatten(content))
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


def _flatten(nested: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(nested, dict):
        return {prefix[:-1]: nested}
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat.update(_flatten(value, f"{prefix}{name}."))
    return flat
