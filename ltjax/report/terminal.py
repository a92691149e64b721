"""The result of a run as a table on the terminal."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ltjax.errors import one_line
from ltjax.report.read import read_run
from ltjax.report.record import RunRecord
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
    out = console or Console()
    out.print(table)
    for line in (_training(run), _weakest(run), *_calibration(run)):
        out.print(one_line(line), highlight=False, soft_wrap=True, markup=False, emoji=False)
    report = f"report: {run.workdir / 'report.html'}"
    out.print(one_line(report), highlight=False, soft_wrap=True, markup=False, emoji=False)


def _training(run: RunRecord) -> str:
    train = run.training
    speed = train.images_per_second
    return (
        f"{train.steps} steps, {train.epochs} epochs, {train.seconds:.1f} s, "
        f"{'' if speed is None else f'{speed:,.0f} images/s; '}"
        f"training images per class {max(train.class_counts)} to {min(train.class_counts)}"
    )


def _weakest(run: RunRecord, *, most: int = 3) -> str:
    """The classes of lowest accuracy, by name."""
    tested = [(value, c) for c, value in enumerate(run.per_class) if value is not None]
    counts, names = run.training.class_counts, run.dataset.class_names
    found = []
    for value, c in sorted(tested)[:most]:
        noun = "image" if counts[c] == 1 else "images"
        name = one_line(names[c], most=40)
        found.append(f"{name} {100 * value:.1f}% ({counts[c]:,} {noun})")
    return f"weakest classes: {', '.join(found)}"


def _calibration(run: RunRecord) -> tuple[str, ...]:
    """How far confidence is from accuracy, and what to do about it."""
    images, confidence, correct = run.reliability.sum(axis=1)
    before = run.test.get("ece")
    if before is None or not images:
        return ()
    gap = "above" if confidence > correct else "below"
    line = (
        f"calibration: confidence {100 * confidence / images:.1f}% is {gap} accuracy "
        f"{100 * correct / images:.1f}%, ECE {100 * before:.1f}%"
    )
    after = run.post_hoc.get("temperature", {}).get("ece")
    if after is None:
        return (
            f"{line}; --config.data.validation_fraction=0.1 fits a temperature on held-out images",
        )
    return (f"{line}; {100 * after:.1f}% after the temperature, which predict and export apply",)
