"""Makes every table and figure on accuracy again from the stored results, and shows the tables.

    python -m experiments.remake

Nothing is trained. Tables are copied into the documents that show them, between the lines
`<!-- experiments/NAME/results/TABLE.md -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

from experiments import records
from experiments.ablation import figure
from experiments.ablation import run as ablation
from experiments.baseline import run as baseline
from experiments.kernel_accuracy import run as kernel_accuracy
from experiments.mechanism import run as mechanism
from experiments.results import files
from experiments.sensitivity import run as sensitivity

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "experiments/*/README.md")
TABLE = re.compile(r"(<!-- (experiments/\S+\.md) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """The documents that may show tables."""
    return [path for pattern in DOCUMENTS for path in sorted(records.ROOT.glob(pattern))]


def shown(text: str) -> str:
    """A document with its tables as they are stored now."""

    def table(match: re.Match[str]) -> str:
        return match[1] + (records.ROOT / match[2]).read_text().strip() + "\n" + match[4]

    return TABLE.sub(table, text)


def main() -> None:
    """Writes tables, figures and documents."""
    folders = records.ROOT / "experiments"
    for path in files(folders / "ablation" / "results"):
        ablation.write(path)
    figure.main()
    for path in files(folders / "sensitivity" / "results"):
        sensitivity.write(path)
    baseline.write(folders / "baseline" / "results")
    kernel_accuracy.write(folders / "kernel_accuracy" / "results")
    mechanism.write(folders / "mechanism" / "results")
    for path in documents():
        path.write_text(shown(path.read_text()))


if __name__ == "__main__":
    main()
