"""What a result comes from, besides its data: the configuration, the code and the processor."""

import ast
import functools
import hashlib
import json
import platform
import subprocess
from pathlib import Path

from ltjax.config import Config

PACKAGE = Path(__file__).parents[1]
# The folders of the package whose code decides what a training results in.
ROOMS = (
    *("augment", "data", "evaluation", "kernels", "losses", "models", "samplers"),
    *("training", "whitening"),
)
# What changes no result, though it lies in the same repository.
_CODE = ("ltjax", "configs", "experiments", ":!experiments/*/results", ":!*.md")
UNKNOWN = "unknown"


def configuration_digest(config: Config) -> str:
    """The hash of a whole resolved configuration.

    Args:
      config: resolved.

    Returns:
      The first 16 digits of the SHA-256 of its keys and values.

    >>> configuration_digest(Config()) == configuration_digest(Config(seed=1))
    False
    """
    text = json.dumps(config.flat(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_version() -> str:
    """The version of the code.

    Returns:
      In a clone what `git describe` says, with "-dirty" where code differs from the commit;
      elsewhere the version of the package.
    """
    from ltjax import __version__

    if not (PACKAGE.parent / ".git").exists():  # a wheel may be installed inside another clone
        return __version__
    try:
        commit = _git("describe", "--always", "--tags", "--abbrev=10")
        return commit + "-dirty" * bool(_git("status", "--porcelain", "--", *_CODE))
    except (OSError, subprocess.CalledProcessError):
        return __version__


def _git(*words: str) -> str:
    done = subprocess.run(
        # Without the lock that `git status` takes: a run that is killed would leave it behind.
        ["git", "--no-optional-locks", *words],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@functools.cache
def sources_digest() -> str:
    """The hash of the code that decides results, the same for commits that do not touch it.

    Returns:
      The first 16 digits of the SHA-256 of the Python code in `ROOMS`, without comments and
      docstrings, and of the native kernels' sources.
    """
    found = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*")):
            if path.suffix in (".py", ".cc", ".h"):
                found.update(path.relative_to(PACKAGE).as_posix().encode())
                text = path.read_text()
                found.update((_code(text) if path.suffix == ".py" else text).encode())
    return found.hexdigest()[:16]


def _code(text: str) -> str:
    """Python code without comments and docstrings.

    >>> _code('def f():\\n    "Words."\\n    return 1  # more') == _code("def f():\\n  return 1")
    True
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)


@functools.cache
def processor() -> str:
    """The model of the processor.

    Returns:
      Its name, or what is known of it where the system does not name it.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine() or UNKNOWN)
