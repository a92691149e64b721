"""The report of a run: one self-contained HTML page, a model card, and figures.

All are made from the files in the workdir, so they can be made again at any time.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from ltjax.report.axes import Drawn
from ltjax.report.figures import draw, exposures
from ltjax.report.html import picture, png, render, svg
from ltjax.report.read import read_run
from ltjax.report.record import Classifier, RunRecord
from ltjax.report.scores import HEADLINES, SCORES, prior_table, score_table
from ltjax.samplers.counting import sentence, table
from ltjax.training.store import kept
from ltjax.training.workdir import write_bytes


def _classifier_line(found: Classifier) -> str:
    """What the diagnostics say of the classifier, in a sentence."""
    parts = []
    if found.weight_norms is not None:
        low, high = min(found.weight_norms), max(found.weight_norms)
        parts.append(f"class-weight norms {low:.3g} to {high:.3g}")
    if found.mean_abs_gradient_cosine is not None:
        cosine = found.mean_abs_gradient_cosine
        parts.append(f"mean |cosine| between the gradients of two classes {cosine:.3f}")
    if found.hessian_condition_number is not None:
        number = found.hessian_condition_number
        parts.append(f"condition number of the Hessian {number:.3g}")
    if not parts:
        return "Nothing was measured of this classifier."
    return f"On the test images: {'; '.join(parts)}."


def card(run: RunRecord) -> str:
    """The model card of a run: the report in short.

    Args:
      run: a finished run.

    Returns:
      Markdown.
    """
    header, rows = score_table(run)
    return render(
        "card.md.j2",
        run=run,
        header=header[:3],
        rows=[row[:3] for row in rows],
        classifier=_classifier_line(run.classifier),
    )


def page(run: RunRecord, drawn: Sequence[Drawn], figures: Mapping[str, Markup]) -> str:
    """The report as one HTML page that loads nothing from elsewhere.

    Args:
      run: a finished run.
      drawn: its figures.
      figures: the same as SVG elements, by title.

    Returns:
      HTML.
    """
    seen, names = dict(run.dataset.exposure), run.dataset.class_names
    line = sentence(seen, names)
    return render(
        "run.html.j2",
        title=run.title,
        run=run,
        headlines=[(score.headline, score.of(run)) for score in HEADLINES],
        scores=score_table(run),
        priors=prior_table(run),
        adjusted=any("adjusted" in each for each in run.target_prior.values()),
        figures=[(one.title, one.caption, figures[one.title]) for one in drawn],
        classifier=_classifier_line(run.classifier),
        mistakes=[
            (
                one,
                None if one.image is None else picture(one.image),
                names[one.label],
                names[one.prediction],
            )
            for one in run.mistakes
        ],
        exposure_line=f"{line[0].upper()}{line[1:]}.",
        exposure_figure=svg(exposures(run), "Exposure"),
        exposure_table=table(seen, names),
        per_class=[
            (name, f"{count:,}", SCORES[0].shown(accuracy))
            for name, count, accuracy in zip(
                names, run.training.class_counts, run.per_class, strict=True
            )
        ],
    )


def write(workdir: str | Path) -> Path:
    """Writes `report.html`, `report.md` and `figures/` in a finished workdir.

    Args:
      workdir: of a finished run.

    Returns:
      Path of the page.

    Raises:
      InputError: the run is not finished, or a file is absent or damaged.
    """
    with kept(workdir) as place:
        return _write(place)


def _write(workdir: Path) -> Path:
    run = read_run(workdir)
    folder = run.workdir / "figures"
    folder.mkdir(exist_ok=True)
    drawn = draw(run)
    figures = {one.title: svg(one.figure, one.title) for one in drawn}
    for one in drawn:
        name = re.sub(r"\W+", "_", one.title.lower())
        write_bytes(folder / f"{name}.png", png(one.figure))
        write_text(folder / f"{name}.svg", figures[one.title])
    write_text(run.workdir / "report.md", card(run))
    return write_text(run.workdir / "report.html", page(run, drawn, figures))


def write_text(path: Path, text: str) -> Path:
    """Writes a file in one step, so that readers see all of it or none.

    Args:
      path: of the file; the text is first written beside it and then renamed.
      text: its content.

    Returns:
      The path.
    """
    write_bytes(path, text.encode())
    return path
