"""The rules of CONTRIBUTING.md that a linter does not know."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import ltjax

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
        overload = any(ast.unparse(d) == "overload" for d in node.decorator_list)
        if not overload and not any(part.startswith("_") for part in title.split(".")):
            yield title, node


def test_the_root_has_few_modules():
    modules = {path.stem for path in (ROOT / "ltjax").glob("*.py")}
    assert modules <= {"__init__", "__main__", "main", "errors", "estimator"}


def test_files_and_functions_are_short():
    long = []
    for path in PACKAGE:
        text = path.read_text()
        if (lines := text.count("\n")) > LONGEST_FILE:
            long.append(f"{name(path)}: {lines} lines")
        for title, node in functions(ast.parse(text)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and (lines := node.end_lineno - body[0].lineno + 1) > LONGEST_FUNCTION:
                long.append(f"{name(path)}: {title} has {lines} lines")
    assert not long, "\n".join(long)


# Stems that British spelling ends in -ise, and words that it spells in another way.
_ISE = (
    "character|custom|equal|final|general|initial|local|maxim|memor|minim|normal|optim|organ|"
    "orthogonal|parallel|parametr|penal|quant|random|recogn|regular|serial|special|stabil|standard|"
    "summar|symmetr|synchron|util|vector|visual"
)
BRITISH = re.compile(
    rf"(?:{_ISE})is(?:e|ed|es|er|ers|ing|ation|ations)(?![a-z])"
    r"|analys(?:e|ed|es|ing)(?![a-z])|artefact|behaviour|cancell|catalogue|centr(?:e|ed|es|ing)(?![a-z])"
    r"|colour|defence|favour|fibre|grey|honour|judgement|labell|licence|modell|neighbour|travell"
    r"|amongst|whilst",
    re.IGNORECASE,
)
# Keys of stored configurations and of exported models keep their names.
KEPT = ("colour_jitter", '"normalisation"', "normalised_inside", "thread._cancelled")


def test_spelling_is_american():
    found = []
    for path in (*SOURCES, *DOCUMENTS, ROOT / "mkdocs.yml", ROOT / "Makefile", ROOT / "setup.cfg"):
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for word in KEPT:
                line = line.replace(word, "")
            found += [f"{name(path)}:{number}: {match[0]}" for match in BRITISH.finditer(line)]
    assert not found, "\n".join(found)


def test_documents_are_wrapped():
    long = []
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for line in text.splitlines():
            shown = re.sub(r"\]\([^)]*\)", "]", line)
            if len(shown) > 100 and not line.startswith(("|", "    ", "  <", "![")):
                long.append(f"{name(path)}: {line}")
    assert not long, "\n".join(long)


def unexplained(node: ast.FunctionDef) -> list[str]:
    """What the docstring of a function leaves out of its arguments, errors and source."""
    text = ast.get_docstring(node) or ""
    arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    missing = [
        argument
        for argument in arguments
        if argument not in ("self", "cls")
        and not re.search(rf"`{argument}`|^ +{argument}(?:, \w+)*: ", text, re.MULTILINE)
    ]
    raises = any(
        isinstance(inner, ast.Raise) and "InputError" in ast.dump(inner) for inner in ast.walk(node)
    )
    return missing + (["Raises"] if raises and "Raises:" not in text else [])


def test_public_functions_are_explained():
    """Of the names that `import ltjax` offers: arguments, errors, and where they come from."""
    found = []
    for title, home in ltjax._HOME.items():
        thing = getattr(ltjax, title)
        if "Source:" not in (inspect.getdoc(thing) or ""):
            found.append(f"{home}.{title}: no source")
        if inspect.isfunction(thing):
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
            assert isinstance(node, ast.FunctionDef)
            found += [f"{home}.{title}: {missing}" for missing in unexplained(node)]
    assert not found, "\n".join(found)


def test_every_public_function_has_a_docstring():
    found = []
    for path in PACKAGE:
        for title, node in public(ast.parse(path.read_text())):
            if "." not in title and not ast.get_docstring(node):
                found.append(f"{name(path)}: {title}")
    assert not found, "\n".join(found)
