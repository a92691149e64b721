"""Several workdirs side by side, as one HTML page."""

import html
from collections.abc import Sequence
from pathlib import Path

from ltjax.errors import InputError
from ltjax.report_outcome import SCORES, shown
from ltjax.training.workdir import read_json


def comparison(workdirs: Sequence[Path], style: str) -> str:
    """The page: one column a workdir, the best of every score in bold.

    Raises:
      InputError: fewer than two workdirs, or one that is not finished.
    """
    if len(workdirs) < 2:
        raise InputError("a comparison needs two workdirs or more")
    for path in workdirs:
        if not (path / "result.json").exists():
            raise InputError(f"workdir {path} is not finished (it has no result.json)")
    results = [read_json(path / "result.json") for path in workdirs]
    prints = {str(read_json(p / "dataset.json")["fingerprint"]) for p in workdirs}
    warning = "" if len(prints) == 1 else "<p><b>These runs are of different data.</b></p>"
    rows = []
    for key, name in SCORES:
        values = [r["test"].get(key) for r in results]
        known = [v for v in values if v is not None]
        lower = key in ("head_to_tail", "nll", "ece", "classwise_ece")
        best = (min if lower else max)(known) if known else None
        cells = []
        for result, value in zip(results, values, strict=True):
            spread = result.get("test_std", {}).get(key)
            text = shown(key, value) + ("" if spread is None else f" ± {shown(key, spread)}")
            cells.append(f"<td>{f'<b>{text}</b>' if value is not None and value == best else text}")
        rows.append(f"<tr><td>{name}</td>{''.join(c + '</td>' for c in cells)}</tr>")
    titles = [
        f"{r['method']}<br><small>{html.escape(p.name)}, {len(r.get('seeds', [0]))} seed(s)</small>"
        for p, r in zip(workdirs, results, strict=True)
    ]
    head = "".join(f"<th>{t}</th>" for t in ["score", *titles])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison</title><style>{style}</style></head><body><main><h1>Comparison</h1>
<section>{warning}<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>
<p>Test scores; the best of a row is bold; ± is the standard deviation over seeds.</p></section>
</main></body></html>
"""
