"""Reports of finished runs: pages, figures, model cards, comparisons, the table on the terminal."""

from ltjax.report.build import write
from ltjax.report.compare import comparison, write_comparison
from ltjax.report.read import read_run
from ltjax.report.record import RunRecord
from ltjax.report.terminal import print_table

__all__ = ["RunRecord", "comparison", "print_table", "read_run", "write", "write_comparison"]
