"""Reports of finished runs: pages, figures, model cards, comparisons, the table on the terminal."""

from ltjax.report.build import card, page, write
from ltjax.report.compare import comparison
from ltjax.report.terminal import print_table

__all__ = ["card", "comparison", "page", "print_table", "write"]
