"""Runs the README's snippet in an environment that has only the core of ltjax.

    .venv-core/bin/python tests/project/core.py

`make core` creates the environment with `pip install .`, without the extra `train`.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
# Packages of the extra `train`, which a core installation must not have.
TRAINER = ("grain", "ml_collections", "tensorflow_datasets", "tensorboardX")


def snippet(text: str) -> str:
    """Returns the first Python block of a document."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def main() -> None:
    """Runs the snippet, and the command line, which must say in one line what is missing.

    Raises:
      AssertionError: the environment has more than the core, or the message is wrong.
    """
    found = [name for name in TRAINER if importlib.util.find_spec(name)]
    assert not found, f"not a core installation: {', '.join(found)} found"
    code = snippet(README.read_text())
    print(code)
    exec(compile(code, str(README), "exec"), {})
    command = [sys.executable, "-m", "ltjax.main", "--config", "configs/digits_lt.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stderr)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'ltjax[train]'" in done.stderr


if __name__ == "__main__":
    main()
