"""What the pages of a report share: their style, and figures inside them."""

import io
from typing import Any

from matplotlib.figure import Figure

STYLE = """
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
.wide th { vertical-align: bottom; }
.wide td:first-child { white-space: normal; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
pre { background: var(--page); padding: .8rem; }
@media (max-width: 500px) { th, td { padding: .25rem; font-size: 14px; } }
@media print { body { background: #fff; } section { break-inside: avoid; padding: 0; } }
"""


def plain_axes(width: float, height: float) -> tuple[Figure, Any]:
    """A figure with one pair of axes, without the lines above and to the right; in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg(figure: Figure) -> str:
    """A figure as an SVG element, without a file's header."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def page(title: str, body: str) -> str:
    """A whole HTML page that loads nothing; `title` is escaped already."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head><body><main>
<h1>{title}</h1>
{body}
</main></body></html>
"""
