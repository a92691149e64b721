"""Adds the READMEs, CONTRIBUTING.md and CHANGELOG.md to the site as pages with working links."""

import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
# The target of a link or picture in the repository; an address on the web has a colon.
LINK = re.compile(r"""(\]\(|\bsrc="|\bsrcset=")([^)"#:\s]+)(?=[)"#\s])""")
CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md")


def _page_of(path: PurePosixPath) -> PurePosixPath:
    """The path in the site of a file of the repository."""
    if path.parts[0] == "docs":
        return PurePosixPath(*path.parts[1:])
    if path == PurePosixPath("README.md"):
        return PurePosixPath("index.md")
    if path.name == "README.md":
        return path.parent.with_suffix(".md")
    if str(path) in PAGES:
        return PurePosixPath(path.name.lower())
    return path


def _relative(target: PurePosixPath, page: PurePosixPath) -> str:
    shared = 0
    for a, b in zip(target.parts[:-1], page.parts[:-1], strict=False):
        if a != b:
            break
        shared += 1
    up = [".."] * (len(page.parts) - 1 - shared)
    return "/".join([*up, *target.parts[shared:]])


def moved(text: str, source: PurePosixPath) -> str:
    """The text of a document with its links rewritten for the site."""

    def one(match: re.Match) -> str:
        parts: list[str] = []
        for part in [*source.parent.parts, *PurePosixPath(match[2]).parts]:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        return match[1] + _relative(_page_of(PurePosixPath(*parts)), _page_of(source))

    code = [*CODE.findall(text), ""]
    return "".join(LINK.sub(one, a) + b for a, b in zip(CODE.split(text), code, strict=True))


def on_files(files, config):
    """Adds the pages, and the pictures and tables that they show."""
    sources = [*(ROOT / name for name in PAGES), *sorted(ROOT.glob("experiments/*/README.md"))]
    for path in sources:
        source = PurePosixPath(path.relative_to(ROOT).as_posix())
        content = moved(path.read_text(), source)
        files.append(File.generated(config, str(_page_of(source)), content=content))
    files.append(File.generated(config, "CITATION.cff", abs_src_path=str(ROOT / "CITATION.cff")))
    for path in sorted(ROOT.glob("experiments/*/results/*")):
        if path.suffix in (".png", ".svg", ".md"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites links that leave docs/, so that they lead to the pages added above."""
    if page.file.generated_by:
        return markdown
    return moved(markdown, PurePosixPath("docs", page.file.src_uri))


# A block of code, or one name in code.
BLOCK = re.compile(r"<pre.*?</pre>", re.DOTALL)
NAME = re.compile(r"<code>[^<]+</code>")
DOT = re.compile(r"(?<=[A-Za-z_])\.(?=[A-Za-z_])")


def breakable(html: str) -> str:
    """A page whose names in code, such as keys, may be broken after a dot.

    >>> breakable("<code>train.epochs</code> <pre><code>a.b</code></pre> <code>0.5</code>")
    '<code>train.<wbr>epochs</code> <pre><code>a.b</code></pre> <code>0.5</code>'
    """

    def one(match: re.Match) -> str:
        return DOT.sub(".<wbr>", match[0])

    blocks = [*BLOCK.findall(html), ""]
    parts = BLOCK.split(html)
    return "".join(NAME.sub(one, a) + b for a, b in zip(parts, blocks, strict=True))


def on_page_content(html, page, config, files):
    """Lets long names break at their dots."""
    return breakable(html)
