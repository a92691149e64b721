"""Pages, cards, figures and the terminal's table show any name as text, and load nothing."""

import base64
import errno
import html.parser
import io
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from ltjax.report import build, print_table, write, write_comparison
from ltjax.report.axes import class_ticks, label, log_scale, plain_axes
from ltjax.report.build import card
from ltjax.report.compare import comparison
from ltjax.report.figures import draw, exposures
from ltjax.report.html import _families, picture, png, svg
from ltjax.report.read import read_run
from tests.report.workdirs import write_workdir

SCRIPT, MATH, MARKUP, CJK = "<script>alert(1)</script>", r"$\frac{$ $x$", "[/] [red]", "猫と犬 дом"
NAMES = (SCRIPT, MATH, CJK)


class Page(html.parser.HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A workdir all of whose names are hostile; a folder's name has no slash."""
    folder = tmp_path_factory.mktemp("pages") / "<script>$x$ [red] 猫"
    return write_workdir(
        folder, names=NAMES, method=MARKUP + SCRIPT, groups=(SCRIPT, MATH, CJK), note=SCRIPT
    )


@pytest.fixture(scope="module")
def pages(hostile, tmp_path_factory):
    """The report of the hostile run, and its comparison with a friendly one."""
    folder = tmp_path_factory.mktemp("comparison")
    friendly = write_workdir(folder / "friendly", seeds=(1, 2))
    compared = write_comparison([hostile, friendly], folder / "c.html")
    return {"report": write(hostile).read_text(), "comparison": compared.read_text()}


@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_names_are_text(pages, kind):
    page = Page(pages[kind])
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    shown = "\n".join(page.texts)
    for name in (SCRIPT, MARKUP):
        assert name in shown
    if kind == "report":
        for name in NAMES:
            assert name in page.texts


@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_a_page_loads_nothing_and_allows_no_script(pages, kind):
    page = Page(pages[kind])
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', pages[kind])
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy
    loading = [v for n, v in page.attributes if n in ("src", "href", "xlink:href") if v]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loading)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in pages[kind]
    assert "url(http" not in pages[kind]


def test_identifiers_of_a_page_are_distinct(pages):
    for text in pages.values():
        drawings = [ET.fromstring(part) for part in re.findall(r"(?s)<svg.*?</svg>", text)]
        clips = [
            {one.get("id") for one in root.iter() if one.tag.endswith("clipPath")}
            for root in drawings
        ]
        assert len(set().union(*clips)) == sum(map(len, clips)) > 0


def test_figures_show_names_letter_by_letter(hostile):
    run = read_run(hostile)
    figures = {one.title: one.figure for one in draw(run)}
    figures["Exposure"] = exposures(run)
    for title in ("Training images and test accuracy", "Confusion", "Exposure"):
        root = ET.fromstring(svg(figures[title], title))
        texts = [one.text for one in root.iter() if one.tag.endswith("}text")]
        for name in (SCRIPT[:23] + "…", MATH, CJK):
            assert name in texts


def test_the_same_run_gives_the_same_bytes(hostile):
    run = read_run(hostile)
    first, second = ([svg(one.figure, one.title) for one in draw(run)] for _ in range(2))
    assert first == second


def test_a_figure_that_cannot_be_written_leaves_the_one_before(hostile, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    workdir = shutil.copytree(hostile, tmp_path / "run")
    one = draw(read_run(workdir))[:1]
    name = re.sub(r"\W+", "_", one[0].title.lower())
    figure = workdir / "figures" / f"{name}.png"
    figure.parent.mkdir(exist_ok=True)
    figure.write_text("as it was")
    monkeypatch.setattr(build, "draw", lambda run: one)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(workdir)
    assert figure.read_text() == "as it was"
    assert not list(figure.parent.glob(".*"))


def test_labels_are_one_line():
    assert label("a\nb\t c") == "a b c"
    assert len(label("x" * 500)) == 24


def test_the_card_shows_names_as_text(hostile):
    text = card(read_run(hostile))
    assert "<script" not in text
    assert r"\[/\] \[red\]&lt;script>" in text.splitlines()[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_the_terminal_parses_no_markup(hostile):
    out = io.StringIO()
    print_table(hostile, console=Console(file=out, width=200))
    shown = out.getvalue()
    assert MARKUP + SCRIPT in shown
    assert str(hostile / "report.html") in shown
    assert "balanced" in shown


def test_a_card_and_a_page_have_every_part(tmp_path):
    workdir = write_workdir(tmp_path / "run", seeds=(0, 1))
    text = write(workdir).read_text()
    for part in ("Learning curves", "Most confident errors", "Exposure", "Configuration"):
        assert f"<h2>{part}</h2>" in text
    assert "95% interval, seed 0" in text
    assert "± one standard deviation over seeds" in text
    assert text.count("<svg") == 8
    errors = len(json.loads((workdir / "evaluation.json").read_text())["confused"])
    assert text.count('<img src="data:image/png;base64,') == errors > 0
    assert len(list((workdir / "figures").iterdir())) == 14
    markdown = (workdir / "report.md").read_text()
    for part in ("balanced accuracy", "tail-to-head confusion", "Command:", "Fingerprints"):
        assert part in markdown


def test_a_run_without_training_or_errors_has_a_page(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    (workdir / "metrics.jsonl").unlink()
    kept = json.loads((workdir / "evaluation.json").read_text())
    kept["confused"] = []
    (workdir / "evaluation.json").write_text(json.dumps(kept))
    np.savez(workdir / "confused.npz", images=np.zeros((0, 4, 4, 1), np.uint8))
    text = write(workdir).read_text()
    assert "Learning curves" not in text
    assert "Every test image is classified correctly." in text
    other = write_workdir(tmp_path / "other")
    (other / "metrics.jsonl").unlink()
    compared = comparison([read_run(workdir), read_run(other)])
    assert "Test accuracy during training" not in compared
    assert compared.count("<svg") == 3


def test_an_image_of_a_page_has_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    for pixels in (image, image[:, :, :1]):
        content = base64.b64decode(picture(pixels).removeprefix("data:image/png;base64,"))
        shown = imread(io.BytesIO(content))[:, :, :3]
        assert np.array_equal(np.round(255 * shown), np.broadcast_to(pixels, image.shape))


def test_a_number_stands_clear_of_its_line(hostile):
    figure = next(one.figure for one in draw(read_run(hostile)) if "many" in one.title)
    png(figure)  # lays the figure out
    axes = figure.axes[0]
    tops = [axes.transData.transform((0, line.get_ydata().max()))[1] for line in axes.lines]
    places = [text.get_window_extent().y0 for text in axes.texts]
    assert len(tops) == len(places) == 3
    assert all(place > top for place, top in zip(places, tops, strict=True))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((6, 128), ["10", "20", "50", "100"]), ((5, 5000), ["10", "50", "100", "500", "1,000"])],
)
def test_ticks_are_round_numbers(values, ticks):
    figure, axes = plain_axes(3)
    axes.plot(values)
    log_scale(axes)
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    shown = [
        text.get_text() for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high
    ]
    assert set(ticks) <= set(shown)


def test_a_picture_uses_fonts_of_the_system_for_what_its_own_lacks():
    figure, axes = plain_axes(3)
    axes.set_title("plain, дом")
    assert _families(frozenset("plain, дом")) == ()
    png(figure)
    assert figure.axes[0].title.get_fontfamily() == ["sans-serif"]


def test_reliability_is_shown_as_trained_and_after_the_temperature(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    result = json.loads((workdir / "result.json").read_text())
    bins = json.loads((workdir / "evaluation.json").read_text())["reliability"]
    result["post_hoc"] = {"temperature": {"test": result["test"], "reliability": bins}}
    (workdir / "result.json").write_text(json.dumps(result))
    figure = next(one.figure for one in draw(read_run(workdir)) if one.title == "Reliability")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["as trained", "after temperature scaling"]


@pytest.mark.parametrize(("classes", "named"), [(30, True), (31, False)])
def test_many_classes_have_no_room_for_names(classes, named):
    figure, axes = plain_axes(3)
    class_ticks(axes, [f"class {c}" for c in range(classes)])
    assert ("class 0" in svg(figure, "t")) == named
