"""The rules of CONTRIBUTING.md that a linter does not know."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "ltjax").rglob("*.py"))
SOURCES = [
    *PACKAGE,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "experiments").rglob("*.py")),
    *sorted((ROOT / "configs").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.py")),
]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("experiments/*/README.md")),
]
LONGEST_FILE, LONGEST_FUNCTION = 330, 60


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods with the names of the classes they are in; no nested ones."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{inner}", f) for inner, f in functions(node))


def public(tree: ast.AST) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Those whose names have no leading underscore anywhere."""
    for title, node in functions(tree):
        if not any(part.startswith("_") for part in title.split(".")):
            yield title, node


def test_the_root_has_few_modules():
    modules = {path.stem for path in (ROOT / "ltjax").glob("*.py")}
    assert modules <= {"__init__", "__main__", "main", "errors", "estimator"}
