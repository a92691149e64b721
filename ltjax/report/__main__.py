"""The command line of the report: one again, or several runs side by side."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ltjax.errors import InputError, one_line
from ltjax.report.build import write
from ltjax.report.compare import write_comparison
from ltjax.training.ending import asked, orderly


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report of one run again, or a page with several runs side by side.

    Args:
      argv: arguments as in `python -m ltjax.report A [B C] --out FILE`; None takes `sys.argv`.

    Returns:
      0 on success, 2 for input that cannot be used (one line on stderr), 130 on Ctrl-C.
    """
    return orderly(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ltjax.report",
        description="Writes the report of one finished run again, or compares several runs.",
    )
    parser.add_argument("workdirs", nargs="+", help="folders of finished runs")
    parser.add_argument("--out", type=Path, help="file of the comparison", default=None)
    given = parser.parse_args(argv)
    with asked(resumes=False):
        if len(given.workdirs) == 1 and given.out is None:
            print(one_line(write(given.workdirs[0])))
            return 0
        if given.out is None:
            raise InputError("--out is missing; give the comparison's file, such as --out c.html")
        print(one_line(write_comparison(given.workdirs, given.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
