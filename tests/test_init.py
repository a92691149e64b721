"""The package's names, and what importing it does and does not do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ltjax
from ltjax.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
SOURCE = (ROOT / "ltjax" / "__init__.py").read_text()


def run(code, **env):
    """Standard output of a fresh interpreter."""
    kept = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**kept, **env},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_editors_see_the_names_that_are_imported():
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        (alias,) = statement.names
        assert alias.asname == alias.name  # a re-export, for strict type checkers
        seen[alias.name] = statement.module
    assert seen == ltjax._HOME


@pytest.mark.parametrize("name", ltjax.__all__)
def test_every_name_is_there(name):
    assert getattr(ltjax, name) is not None
    assert name in dir(ltjax)


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ltjax.nothing


@pytest.mark.slow
def test_importing_the_package_alone_imports_nothing_else():
    found = run("import sys, ltjax; print(*sorted(m for m in sys.modules if '.' not in m))")
    assert "ltjax" in found.split()
    assert not {"jax", "numpy", "flax", "optax", "cv2", "absl"} & set(found.split())


STATE = """
import importlib, os, pkgutil, cv2, jax
def state():
    log = cv2.utils.logging.getLogLevel()
    given = dict(os.environ)
    given.pop("OPENCV_IO_MAX_IMAGE_PIXELS", None)  # the one that is set, see ltjax.augment.opencv
    return given, jax.config.values.copy(), cv2.getNumThreads(), log
cv2.setNumThreads(3)
import grain, ml_collections, orbax.checkpoint, sklearn, tensorboardX  # may change what they like
before = state()
import ltjax
for module in pkgutil.walk_packages(ltjax.__path__, "ltjax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(state() == before)
"""


@pytest.mark.slow
def test_importing_every_module_changes_no_global_state():
    assert run(STATE).strip() == "True"


# An installation without the extra: its packages cannot be found.
CORE = """
import sys
class Missing:
    names = ("grain", "ml_collections", "cv2", "tensorflow_datasets")
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.slow
def test_the_extra_that_is_missing_is_named():
    code = CORE + "import ltjax.main\nsys.exit(ltjax.main.main(['ltjax', '--mode=train']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("ltjax: error: ")
    assert done.stderr.endswith("run: pip install 'ltjax[train]'\n")
    assert done.stderr.count("\n") == 1
    code = CORE + "try:\n    from ltjax import run\nexcept ImportError as e:\n    print(e)"
    assert "ltjax.run needs ml_collections" in run(code)
    assert issubclass(MissingExtraError, ImportError)
