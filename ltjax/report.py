"""The report of a run: a table on the terminal and one self-contained HTML page.

Both are functions of the files in the workdir, so they can be made again at any time.
"""

import argparse
import html
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from ltjax.compare import comparison
from ltjax.data import exposure
from ltjax.errors import InputError
from ltjax.report_outcome import (
    BLUE,
    GREY,
    ORANGE,
    confused,
    confusion,
    reliability,
    score_table,
)
from ltjax.training.watch import read_metrics
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


def print_table(workdir: Path, *, console: Console | None = None) -> None:
    """Prints the result of a run as a table."""
    result = read_json(workdir / "result.json")
    table = Table(box=box.SIMPLE_HEAD, title=f"{_name(result)}, seed {result['seed']}")
    for _, name in HEADLINES:
        table.add_column(name, justify="right")
    table.add_row(*(_percent(result["test"][key]) for key, _ in HEADLINES))
    train = result["train"]
    speed = train["images_per_second"]
    out = console or Console()
    out.print(table)
    out.print(
        f"{train['steps']} steps, {train['epochs']} epochs, {train['seconds']:.1f} s, "
        f"{'' if speed is None else f'{speed:,.0f} images/s; '}"
        f"training images per class {max(train['class_counts'])} to {min(train['class_counts'])}",
        highlight=False,
    )
    out.print(f"report: {workdir / 'report.html'}", highlight=False, soft_wrap=True)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def curves(metrics: list[dict[str, Any]]) -> Figure:
    """Training loss, and training and test accuracy, against the epoch."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    train = [m for m in metrics if m.get("train/loss") is not None]
    epochs = [m["train/epoch"] for m in train]
    left.plot(epochs, [m["train/loss"] for m in train], color=BLUE)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.plot(epochs, [m["train/accuracy"] for m in train], color=GREY, label="training batches")
    test = [m for m in metrics if m.get("test/balanced_accuracy") is not None]
    per_step = epochs[-1] / train[-1]["step"] if train else 1.0
    right.plot(
        [m["step"] * per_step for m in test],
        [m["test/balanced_accuracy"] for m in test],
        color=ORANGE,
        marker="o",
        markersize=3,
        label="test, balanced",
    )
    right.set(xlabel="epoch", ylabel="accuracy")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def counts_and_accuracy(result: dict[str, Any], dataset: dict[str, Any]) -> Figure:
    """Training images of each class, most frequent first, against its test accuracy."""
    counts = np.array(result["train"]["class_counts"])
    order = np.argsort(-counts, kind="stable")
    accuracy = [result["test"]["per_class"][c] for c in order]
    figure, axes = _figure(8, 3.2)
    places = np.arange(len(order))
    axes.bar(places, counts[order], color=BLUE, alpha=0.35, width=0.8)
    axes.set(xlabel="class, most frequent first", yscale="log")
    axes.set_ylabel("training images", color=BLUE)
    if len(order) <= 30:
        axes.set_xticks(places, [dataset["class_names"][c] for c in order])
    right = axes.twinx()
    right.spines[["top"]].set_visible(False)
    right.plot(
        places,
        [np.nan if a is None else 100 * a for a in accuracy],
        color=ORANGE,
        marker="o",
        markersize=4,
    )
    right.set_ylabel("test accuracy, %", color=ORANGE)
    right.set_ylim(min([100 * a for a in accuracy if a is not None], default=0) - 5, 101)
    return figure


def spectra(diagnostics: dict[str, Any]) -> Figure:
    """Eigenvalues of the feature covariance before and after whitening."""
    figure, axes = _figure(8, 3)
    for name, colour in (("before", GREY), ("after", BLUE)):
        part = diagnostics[f"{name}_whitening"]
        shares = np.maximum(part["spectrum"], 1e-9)
        label = (
            f"{name} whitening: effective rank {part['effective_rank']:.1f} of {len(shares)}, "
            f"mean |correlation| {part['mean_abs_correlation']:.2f}"
        )
        axes.plot(np.arange(1, len(shares) + 1), shares, color=colour, label=label)
    axes.set(xlabel="eigenvalue", ylabel="share of the variance", yscale="log")
    axes.legend(frameon=False)
    return figure


def exposures(seen: dict[str, Any]) -> Figure:
    """How often the images of each class are seen in the whole schedule, by rank of class."""
    counts = np.array(seen["class_counts"])
    order = np.argsort(-counts, kind="stable")
    figure, axes = _figure(8, 3)
    places = np.arange(len(order))
    axes.bar(places, counts[order], color=BLUE, alpha=0.35, width=0.8)
    axes.set(xlabel="class, most frequent first", yscale="log")
    axes.set_ylabel("training images", color=BLUE)
    right = axes.twinx()
    right.spines[["top"]].set_visible(False)
    least, most = (np.array(seen[key])[order] for key in ("class_least", "class_most"))
    mean = np.array(seen["class_schedule"])[order] / np.maximum(counts[order], 1)
    right.fill_between(places, least, most, color=ORANGE, alpha=0.25, linewidth=0)
    right.plot(places, mean, color=ORANGE, marker="o", markersize=4)
    right.set_ylabel(f"views of an image, {seen['epochs']} epochs", color=ORANGE)
    right.set_ylim(0, 1.08 * max(most.max(), 1))
    return figure


def _exposure_section(dataset: dict[str, Any]) -> str:
    seen, names = dataset["exposure"], dataset["class_names"]
    header, *rows = exposure.table(seen, names)
    line = exposure.sentence(seen, names)
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<section><h2>Exposure</h2><p>{html.escape(line[0].upper() + line[1:])}.</p>"
        f'{_svg(exposures(seen))}<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
        "</section>"
    )


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --page: #f5f7fa; --card: #fff; --line: #e4e7eb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --page: #12171d; --card: #1e252e; --line: #3a4552; }
  svg { filter: invert(0.88) hue-rotate(180deg); }
  svg.pictures { filter: none; background: #fff; }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
body { color: var(--ink); background: var(--page); }
main { max-width: 900px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
section { background: var(--card); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
section p { overflow-wrap: anywhere; }
svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
.wide td { white-space: nowrap; }
.wide th { overflow-wrap: anywhere; }
.wide td:first-child { white-space: normal; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; background: var(--page); padding: .8rem; font-size: 13px; }
@media (max-width: 500px) { th, td { padding: .25rem; font-size: 14px; } }
@media print { body { background: #fff; } section { break-inside: avoid; padding: 0; } }
"""


def _per_class_table(result: dict[str, Any], dataset: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count}</td><td>{_percent(accuracy)}</td></tr>"
        for name, count, accuracy in zip(
            dataset["class_names"],
            result["train"]["class_counts"],
            result["test"]["per_class"],
            strict=True,
        )
    )
    return f"<tr><th>class</th><th>training images</th><th>test accuracy</th></tr>{rows}"


def page(workdir: Path) -> str:
    """The report as one HTML page; it loads nothing from anywhere."""
    result = read_json(workdir / "result.json")
    dataset = read_json(workdir / "dataset.json")
    diagnostics = read_json(workdir / "diagnostics.json")
    config = read_json(workdir / "config.json")
    metrics = read_metrics(workdir / "metrics.jsonl")
    kept = read_json(workdir / "evaluation.json")
    names = dataset["class_names"]
    test, train = result["test"], result["train"]
    title = f"{dataset['name']}, {_name(result)}, seed {result['seed']}"
    head = "".join(f"<th>{name}</th>" for _, name in HEADLINES)
    values = "".join(f"<td>{_percent(test[key])}</td>" for key, _ in HEADLINES)
    sizes = ", ".join(f"{k}: {len(v)}" for k, v in dataset["groups"].items())
    speed = f"{train['images_per_second'] or 0:,.0f} images/s, {train['seconds']:.1f} s"
    figures = (
        ("Learning curves", curves(metrics)),
        ("Training images and test accuracy", counts_and_accuracy(result, dataset)),
        ("Confusion", confusion(kept, train["class_counts"], names)),
        ("Reliability", reliability(kept)),
        ("Covariance spectrum of the test features", spectra(diagnostics)),
    )
    wrong = confused(kept, workdir / "confused.npz", names)
    pictures = "" if wrong is None else _svg(wrong).replace("<svg", '<svg class="pictures"', 1)
    drawn = "".join(f"<section><h2>{n}</h2>{_svg(f)}</section>" for n, f in figures)
    settings = html.escape(json.dumps(config, indent=2))
    software = html.escape(json.dumps(result["versions"], indent=2))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>
<h1>{html.escape(title)}</h1>
<section><table class="headline"><tr>{head}</tr><tr>{values}</tr></table>
<p>Test accuracy of the final step, averaged over classes but for top-1; classes per group:
{sizes}. {train["steps"]} steps in {train["epochs"]} epochs, {speed}.</p></section>
<section><h2>Every score</h2><div class="wide">{score_table(result)}</div></section>
{drawn}
<section><h2>Most surely wrong</h2>{pictures or "<p>No test image is called wrong.</p>"}</section>
{_exposure_section(dataset)}
<section><h2>Per class</h2><table>{_per_class_table(result, dataset)}</table></section>
<section><h2>Plan and data</h2><p>{html.escape(dataset["plan"])}</p>
<p>Fingerprints: {html.escape(json.dumps(dataset["fingerprint"]))}</p></section>
<section><h2>Configuration</h2><pre>{settings}</pre><h2>Versions</h2><pre>{software}</pre></section>
</main></body></html>
"""


def write(workdir: Path) -> Path:
    """Writes `report.html` in a finished workdir and returns its path."""
    path = workdir / "report.html"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page(workdir), encoding="utf-8")
    temporary.replace(path)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m ltjax.report A [B C] --out FILE`: one report again, or several side by side."""
    parser = argparse.ArgumentParser(prog="python -m ltjax.report")
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="the comparison's file", default=None)
    given = parser.parse_args(argv)
    try:
        if len(given.workdirs) == 1 and given.out is None:
            print(write(given.workdirs[0]))
            return 0
        if given.out is None:
            raise InputError("--out is missing; give the comparison's file")
        given.out.write_text(comparison(given.workdirs, _STYLE), encoding="utf-8")
        print(given.out)
    except (InputError, OSError) as e:
        print(f"ltjax: error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
