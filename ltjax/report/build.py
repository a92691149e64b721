"""The report of a run: one self-contained HTML page, a model card, and figures.

All are functions of the files in the workdir, so they can be made again at any time.
"""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltjax.report.figures import draw, exposures
from ltjax.report.html import page as html_page
from ltjax.report.html import svg
from ltjax.report.scores import SCORES, confused, score_table, shown
from ltjax.report.terminal import HEADLINES, _name, _percent, _seeds, _spread
from ltjax.samplers import exposure
from ltjax.training.workdir import read_json


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
        f'{svg(exposures(seen))}<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
        "</section>"
    )


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


def _classifier_line(diagnostics: dict[str, Any]) -> str:
    """What the diagnostics say of the classifier, in a sentence."""
    found = diagnostics["classifier"]
    parts = []
    if found["weight_norms"] is not None:
        low, high = min(found["weight_norms"]), max(found["weight_norms"])
        parts.append(f"norms of the class weights {low:.3g} to {high:.3g}")
    if found["mean_abs_gradient_cosine"] is not None:
        cosine = found["mean_abs_gradient_cosine"]
        parts.append(f"mean |cosine| between the gradients of two classes {cosine:.3f}")
    if found["hessian_condition_number"] is not None:
        number = found["hessian_condition_number"]
        parts.append(f"condition number of the Hessian {number:.3g}")
    text = "; ".join(parts) + ", on the test images."
    return text[:1].upper() + text[1:]


def card(workdir: Path) -> str:
    """The report in short, as Markdown: a model card."""
    result, dataset = (read_json(workdir / f"{name}.json") for name in ("result", "dataset"))
    counts = result["train"]["class_counts"]
    lines = [f"# {dataset['name']}, {_name(result)}, {_seeds(result)}", ""]
    lines += ["| score | test | 95% interval of the test images |", "|---|---|---|"]
    for key, name in SCORES:
        if result["test"].get(key) is not None:
            std = (result.get("test_std") or {}).get(key)
            value = shown(key, result["test"][key]) + (
                "" if std is None else f" ± {shown(key, std)}"
            )
            span = result["intervals"][0].get(key)
            words = "–" if span is None else " to ".join(shown(key, v) for v in span)
            lines.append(f"| {name} | {value} | {words} |")
    images = f"{sum(counts)} training images, {max(counts)} to {min(counts)} a class"
    lines += ["", f"{len(counts)} classes, {images}; {result['train']['steps']} steps.", ""]
    lines += [f"Fingerprints: {json.dumps(dataset['fingerprint'])}", ""]
    lines += [f"Classifier: {_classifier_line(read_json(workdir / 'diagnostics.json'))}", ""]
    lines += ["Command:", "", f"    {result.get('command', '')}", "", "Versions:", ""]
    lines += [f"    {json.dumps(result['versions'])}"]
    return "\n".join(lines) + "\n"


def page(workdir: Path, drawn: Mapping[str, str]) -> str:
    """The report as one HTML page; it loads nothing from anywhere.

    Args:
      workdir: of a finished run.
      drawn: its figures as SVG, by title.
    """
    result = read_json(workdir / "result.json")
    dataset = read_json(workdir / "dataset.json")
    diagnostics = read_json(workdir / "diagnostics.json")
    config = read_json(workdir / "config.json")
    kept = read_json(workdir / "evaluation.json")
    names = dataset["class_names"]
    train = result["train"]
    title = f"{dataset['name']}, {_name(result)}, {_seeds(result)}"
    head = "".join(f"<th>{name}</th>" for _, name in HEADLINES)
    values = "".join(f"<td>{_spread(result, key)}</td>" for key, _ in HEADLINES)
    sizes = ", ".join(f"{k}: {len(v)}" for k, v in dataset["groups"].items())
    speed = f"{train['images_per_second'] or 0:,.0f} images/s, {train['seconds']:.1f} s"
    wrong = confused(kept, workdir / "confused.npz", names)
    pictures = "" if wrong is None else svg(wrong).replace("<svg", '<svg class="pictures"', 1)
    figures = "".join(f"<section><h2>{n}</h2>{f}</section>" for n, f in drawn.items())
    state = _classifier_line(diagnostics)
    settings = html.escape(json.dumps(config, indent=2))
    software = html.escape(json.dumps(result["versions"], indent=2))
    body = f"""<section><table class="headline"><tr>{head}</tr><tr>{values}</tr></table>
<p>Test accuracy of the final step, averaged over classes but for top-1; classes per group:
{sizes}. {train["steps"]} steps in {train["epochs"]} epochs, {speed}.</p></section>
<section><h2>Every score</h2><div class="wide">{score_table(result)}</div></section>
{figures}
<section><h2>Classifier</h2><p>{state}</p></section>
<section><h2>Most surely wrong</h2>{pictures or "<p>No test image is called wrong.</p>"}</section>
{_exposure_section(dataset)}
<section><h2>Per class</h2><table>{_per_class_table(result, dataset)}</table></section>
<section><h2>Plan and data</h2><p>{html.escape(dataset["plan"])}</p>
<p>Fingerprints: {html.escape(json.dumps(dataset["fingerprint"]))}</p></section>
<section><h2>Command</h2><pre>{html.escape(result.get("command", ""))}</pre></section>
<section><h2>Configuration</h2><pre>{settings}</pre><h2>Versions</h2><pre>{software}</pre></section>"""
    return html_page(html.escape(title), body)


def write(workdir: Path) -> Path:
    """Writes `report.html`, `report.md` and `figures/` in a finished workdir; the page's path."""
    path = workdir / "report.html"
    (workdir / "figures").mkdir(exist_ok=True)
    drawn = {}
    for title, figure in draw(workdir).items():
        name = title.lower().replace(",", "").replace(" ", "_")
        figure.savefig(workdir / "figures" / f"{name}.png", dpi=150)
        drawn[title] = svg(figure)
        (workdir / "figures" / f"{name}.svg").write_text(drawn[title], encoding="utf-8")
    (workdir / "report.md").write_text(card(workdir), encoding="utf-8")
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page(workdir, drawn), encoding="utf-8")
    temporary.replace(path)
    return path
