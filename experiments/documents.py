"""The documents that show tables of stored results.

Each table stands between the lines `<!-- experiments/NAME/results/TABLE.md -->` and `<!-- end -->`.
"""

import re

from experiments import records

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "experiments/*/README.md")
TABLE = re.compile(r"(<!-- (experiments/\S+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def shown(text: str) -> str:
    """A document with its tables as they are stored now."""

    def table(match: re.Match[str]) -> str:
        return match[1] + (records.ROOT / match[2]).read_text().strip() + "\n" + match[4]

    return TABLE.sub(table, text)


def fill() -> None:
    """Copies the tables as they are stored now into all documents."""
    for pattern in DOCUMENTS:
        for path in sorted(records.ROOT.glob(pattern)):
            path.write_text(shown(path.read_text()))
