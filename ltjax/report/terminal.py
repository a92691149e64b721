"""The result of a run as a table on the terminal."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ltjax.training.workdir import read_json

HEADLINES = (
    ("accuracy", "top-1"),
    ("balanced_accuracy", "balanced"),
    ("many", "many"),
    ("medium", "medium"),
    ("few", "few"),
)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _name(result: dict[str, Any]) -> str:
    stage = result.get("stage", {}).get("name", "one")
    return result["method"] if stage == "one" else f"{result['method']} + {stage}"


def _spread(result: dict[str, Any], key: str) -> str:
    """A headline value, with its standard deviation over seeds where there are several."""
    std = (result.get("test_std") or {}).get(key)
    return _percent(result["test"][key]) + ("" if std is None else f" ± {100 * std:.1f}")


def _seeds(result: dict[str, Any]) -> str:
    several = result.get("seeds")
    return f"seeds {', '.join(map(str, several))}" if several else f"seed {result['seed']}"


def print_table(workdir: Path, *, console: Console | None = None) -> None:
    """Prints the result of a run as a table."""
    result = read_json(workdir / "result.json")
    table = Table(box=box.SIMPLE_HEAD, title=f"{_name(result)}, {_seeds(result)}")
    for _, name in HEADLINES:
        table.add_column(name, justify="right")
    table.add_row(*(_spread(result, key) for key, _ in HEADLINES))
    train = result["train"]
    speed = train["images_per_second"]
    out = console or Console()
    out.print(table)
    out.print(
        f"{train['steps']} steps, {train['epochs']} epochs, {train['seconds']:.1f} s, "
        f"{'' if speed is None else f'{speed:,.0f} images/s; '}"
        f"training images per class {max(train['class_counts'])} to {min(train['class_counts'])}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"report: {workdir / 'report.html'}", highlight=False, soft_wrap=True)
