"""The result of a run as a table on the terminal."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ltjax.errors import one_line
from ltjax.report.read import read_run
from ltjax.report.scores import HEADLINES


def print_table(workdir: str | Path, *, console: Console | None = None) -> None:
    """Prints the result of a finished run as a table.

    Args:
      workdir: of a finished run.
      console: where to print; the standard output by default.

    Raises:
      InputError: the run is not finished, or a file is absent or damaged.
    """
    run = read_run(workdir)
    # `Text` and `markup=False`: a name such as "[/]" is shown, not taken for markup.
    table = Table(box=box.SIMPLE_HEAD, title=Text(one_line(f"{run.name}, {run.seeds_text}")))
    for score in HEADLINES:
        table.add_column(score.headline, justify="right")
    table.add_row(*(Text(score.of(run)) for score in HEADLINES))
    train = run.training
    speed = train.images_per_second
    out = console or Console()
    out.print(table)
    lines = (
        f"{train.steps} steps, {train.epochs} epochs, {train.seconds:.1f} s, "
        f"{'' if speed is None else f'{speed:,.0f} images/s; '}"
        f"training images per class {max(train.class_counts)} to {min(train.class_counts)}",
        f"report: {run.workdir / 'report.html'}",
    )
    for line in lines:
        out.print(one_line(line), highlight=False, soft_wrap=True, markup=False, emoji=False)
