"""Several workdirs side by side, as one HTML page."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ltjax.errors import InputError
from ltjax.report.html import page, plain_axes, svg
from ltjax.report.scores import BLUE, GREY, INK, ORANGE, SCORES, shown
from ltjax.training.progress import read_metrics
from ltjax.training.workdir import read_json

LOWER_IS_BETTER = ("head_to_tail", "nll", "ece", "classwise_ece")
COLOURS = (BLUE, ORANGE, "#3d8f5f", "#a05195", GREY, "#c7a000")
WIDTH = 6.4


class Finished(NamedTuple):
    """What a comparison reads of a workdir."""

    name: str
    result: dict[str, Any]
    dataset: dict[str, Any]
    config: dict[str, Any]
    diagnostics: dict[str, Any]
    metrics: list[dict[str, Any]]


def _read(path: Path) -> Finished:
    if not (path / "result.json").exists():
        raise InputError(f"workdir {path} is not finished (it has no result.json)")
    names = ("result", "dataset", "config", "diagnostics")
    result, dataset, config, diagnostics = (read_json(path / f"{name}.json") for name in names)
    metrics = read_metrics(path / "metrics.jsonl")
    return Finished(path.name, result, dataset, config, diagnostics, metrics)


def comparison(workdirs: Sequence[Path]) -> str:
    """The page: one column a workdir, the best of every score in bold, figures, what differs.

    Raises:
      InputError: fewer than two workdirs, or one that is not finished.
    """
    if len(workdirs) < 2:
        raise InputError("a comparison needs two workdirs or more")
    runs = [_read(path) for path in workdirs]
    prints = {str(run.dataset["fingerprint"]) for run in runs}
    same = len(prints) == 1
    warning = "" if same else "<p><b>These runs are of different data.</b></p>"
    figures = {"Test accuracy during training": _curves(runs), "Many, medium, few": _groups(runs)}
    if same:
        figures["Classes, most frequent first"] = _classes(runs)
    figures["Spectrum of the classifier's inputs"] = _spectra(runs)
    drawn = "".join(f"<section><h2>{n}</h2>{svg(f)}</section>" for n, f in figures.items())
    body = f"""<section>{warning}<div class="wide">{_scores(runs)}</div>
<p>Test scores; the best of a row is bold; ± is the standard deviation over seeds.</p></section>
{drawn}
<section><h2>What differs</h2><div class="wide">{_differences(runs)}</div></section>"""
    return page("Comparison", body)


def _titles(runs: list[Finished], first: str) -> str:
    cells = [first]
    for run in runs:
        seeds = f"{len(run.result.get('seeds', [0]))} seed(s)"
        cells.append(f"{run.result['method']}<br><small>{html.escape(run.name)}, {seeds}</small>")
    return "<tr>" + "".join(f"<th>{cell}</th>" for cell in cells) + "</tr>"


def _scores(runs: list[Finished]) -> str:
    rows = []
    for key, name in SCORES:
        values = [run.result["test"].get(key) for run in runs]
        known = [v for v in values if v is not None]
        best = (min if key in LOWER_IS_BETTER else max)(known) if known else None
        cells = []
        for run, value in zip(runs, values, strict=True):
            spread = run.result.get("test_std", {}).get(key)
            text = shown(key, value) + ("" if spread is None else f" ± {shown(key, spread)}")
            cells.append(f"<td>{f'<b>{text}</b>' if value is not None and value == best else text}")
        rows.append(f"<tr><td>{name}</td>{''.join(c + '</td>' for c in cells)}</tr>")
    return f"<table>{_titles(runs, 'score')}{''.join(rows)}</table>"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = isinstance(value, dict)
        found |= _flat(value, f"{prefix}{key}.") if inner else {prefix + key: value}
    return found


def _differences(runs: list[Finished]) -> str:
    """Configuration keys that are not the same in all runs."""
    configs = [_flat(run.config) for run in runs]
    rows = []
    for key in sorted(set().union(*configs)):
        cells = [json.dumps(config.get(key)) for config in configs]
        if len(set(cells)) > 1:
            line = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            rows.append(f"<tr><td>{html.escape(key)}</td>{line}</tr>")
    if not rows:
        return "<p>The configurations are the same.</p>"
    return f"<table>{_titles(runs, 'key')}{''.join(rows)}</table>"


def _label(run: Finished) -> str:
    method = run.result["method"]
    return method if method == run.name else f"{method} ({run.name})"


def _curves(runs: list[Finished]) -> Figure:
    figure, axes = plain_axes(WIDTH, 3.2)
    for index, run in enumerate(runs):
        points = [m for m in run.metrics if m.get("test/balanced_accuracy") is not None]
        accuracy = [100 * m["test/balanced_accuracy"] for m in points]
        colour = COLOURS[index % len(COLOURS)]
        steps = [m["step"] for m in points]
        axes.plot(steps, accuracy, color=colour, marker="o", markersize=3, label=_label(run))
    axes.set(xlabel="step", ylabel="balanced accuracy, %")
    axes.legend(frameon=False)
    return figure


def _groups(runs: list[Finished]) -> Figure:
    figure, axes = plain_axes(WIDTH, 3.2)
    names, width = ("many", "medium", "few"), 0.8 / len(runs)
    for index, run in enumerate(runs):
        values = [100 * (run.result["test"].get(name) or 0.0) for name in names]
        spans = [run.result["intervals"][0].get(name) for name in names]
        places = np.arange(len(names)) + (index - (len(runs) - 1) / 2) * width
        colour = COLOURS[index % len(COLOURS)]
        axes.bar(places, values, 0.92 * width, color=colour, alpha=0.6, label=_label(run))
        for place, span in zip(places, spans, strict=True):
            if span is not None:
                axes.plot([place, place], [100 * v for v in span], color=INK, linewidth=1.2)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("test accuracy, %")
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    return figure


def _classes(runs: list[Finished]) -> Figure:
    figure, axes = plain_axes(WIDTH, 3.2)
    counts = np.array(runs[0].result["train"]["class_counts"])
    order = np.argsort(-counts, kind="stable")
    for index, run in enumerate(runs):
        accuracy = [run.result["test"]["per_class"][c] for c in order]
        axes.plot(
            [np.nan if a is None else 100 * a for a in accuracy],
            color=COLOURS[index % len(COLOURS)],
            marker="o" if len(order) <= 30 else None,
            markersize=4,
            label=_label(run),
        )
    if len(order) <= 30:
        names = [f"{runs[0].dataset['class_names'][c]}\n{counts[c]}" for c in order]
        axes.set_xticks(range(len(order)), names)
    axes.set(xlabel="class and its training images", ylabel="test accuracy, %")
    axes.legend(frameon=False, loc="lower left")
    return figure


def _spectra(runs: list[Finished]) -> Figure:
    figure, axes = plain_axes(WIDTH, 3)
    for index, run in enumerate(runs):
        part = run.diagnostics["after_whitening"]
        shares = np.maximum(part["spectrum"], 1e-9)
        label = f"{_label(run)}: effective rank {part['effective_rank']:.1f}"
        places = np.arange(1, len(shares) + 1)
        axes.plot(places, shares, color=COLOURS[index % len(COLOURS)], label=label)
    axes.set(xlabel="eigenvalue", ylabel="share of the variance", yscale="log")
    axes.legend(frameon=False)
    return figure
