"""Every text field of an untrusted workdir: it is shown, runs nothing, and breaks nothing."""

import json
import re
import xml.etree.ElementTree as ET

import markdown
import pytest

from ltjax.errors import InputError
from ltjax.report import __main__ as command
from ltjax.report import print_table, write, write_comparison
from ltjax.report.axes import label, plain_axes
from ltjax.report.html import svg
from tests.report.test_pages import Page
from tests.report.workdirs import write_workdir

NAMES = (
    "$a$ \\$\\frac{$ _x_ *y*",
    "bell\x07 esc\x1b[31m \u202eevil\ud800",
    "猫 👩‍🔬 <img src=x onerror=alert(1)>",
)
FIELD = "</title></style><script>document.title='ran'</script><svg onload=alert(1)>"
LINK = "[x](javascript:alert(1)) ![](http://e.vil/x) @a www.e.vil"


@pytest.fixture
def workdir(tmp_path):
    folder = write_workdir(tmp_path / "[red]\n\x1b[2J $x$", names=NAMES, method=LINK + FIELD)
    result = json.loads((folder / "result.json").read_text())
    result["command"], result["versions"] = f"ltjax\n\n# {FIELD}\udcff", {FIELD: LINK}
    result["post_hoc"] = {FIELD: {"test": result["test"]}}
    (folder / "result.json").write_text(json.dumps(result))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {FIELD: LINK}))
    return folder


def test_nothing_runs_and_everything_is_visible(workdir, tmp_path):
    friendly = write_workdir(tmp_path / "friendly")
    compared = write_comparison([workdir, friendly], tmp_path / "c.html")
    for path in (write(workdir), compared):
        text = path.read_text()
        page = Page(text)
        assert not {"script", "iframe", "object", "a"} & set(page.tags)
        sources = [value for name, value in page.attributes if name == "src"]
        assert len(sources) == page.tags.count("img")
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert "default-src 'none'" in text
        assert text.replace("\n", "").replace("\u200d", "").isprintable()
    shown = write(workdir).read_text()
    assert r"bell\x07 esc\x1b[31m \u202eevil\ud800" in shown
    for drawing in (workdir / "figures").glob("*.svg"):
        ET.fromstring(drawing.read_text())


def test_markdown_shows_no_link_picture_or_emphasis(workdir):
    write(workdir)
    shown = markdown.markdown((workdir / "report.md").read_text(), extensions=["tables"])
    tags = Page(shown).tags
    assert not {"script", "svg", "img", "a", "em", "strong"} & set(tags)
    assert "table" in tags
    assert "[x](javascript:alert(1))" in "".join(Page(shown).texts)


@pytest.mark.parametrize("key", ["steps", "epochs", "seconds", "images_per_second"])
def test_numbers_that_are_text_are_refused(workdir, key):
    result = json.loads((workdir / "result.json").read_text())
    result["train"][key] = FIELD
    (workdir / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="is not what a finished run writes"):
        write(workdir)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_shows_the_table(workdir, encoding, monkeypatch, capsys):
    import io
    import sys

    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert command.main([str(workdir)]) == 0
    print_table(workdir)
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    assert "\x1b" not in shown
    assert r"\x1b[2J" in shown


@pytest.mark.parametrize("name", [r"$\frac{$", "$a$", r"\$", r"a\$b$", "\x01\x7f", "\ud800", "猫"])
def test_any_name_can_be_drawn(name):
    figure, axes = plain_axes(1)
    axes.set_title(label(name))
    texts = [t.text for t in ET.fromstring(svg(figure, "t")).iter() if t.tag.endswith("}text")]
    assert label(name).replace(r"\$", "$") in texts
    assert re.fullmatch(r"[^\x00-\x1f\x7f]*", "".join(filter(None, texts)))
