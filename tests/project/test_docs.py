"""Numbers in the documents match the stored results and defaults, and their code runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from docs import hooks
from experiments import documents
from experiments.ablation import figure
from experiments.ablation.run import gains
from experiments.tables import values
from ltjax import config as configs
from tests.project import core

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("experiments/*/README.md"),
]


def test_tables_come_from_the_stored_results():
    texts = [document.read_text() for document in DOCUMENTS]
    found = [match for text in texts for match in documents.TABLE.findall(text)]
    assert len(found) > 5
    for _, path, shown, _ in found:
        assert (ROOT / path).read_text().strip() == shown.strip(), path


def test_readme_table_and_picture_come_from_the_stored_results():
    assert figure.table() == (figure.RESULTS / "readme.md").read_text()
    assert figure.in_short() == (figure.RESULTS / "in_short.md").read_text()
    canvas = FigureCanvasAgg(figure.draw(figure.stored(figure.SHOWN), figure.THEMES["light"]))
    canvas.figure.set_dpi(figure.DPI)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba(), float)
    image = Image.open(ROOT / "docs/images/accuracy-light.png").convert("RGBA")
    # Another font version may move a letter by a pixel, but no data point.
    assert np.abs(drawn - np.asarray(image, float)).mean() < 1


def test_readme_says_what_the_picture_shows():
    found, head = figure.stored(figure.SHOWN), README.split("<picture>")[0]
    for name in ("cw_la_b3rs_bet", "crt"):
        assert f"{100 * values(found.rows, name).mean():.1f}%" in head
    difference, _ = gains(found)["cw_la_b3rs_bet", "crt"]
    assert difference.startswith("**")
    assert all(part in " ".join(head.split()) for part in difference.split(" ", 1))


def test_readme_code_is_six_lines_and_runs(capsys):
    code = core.snippet(README)
    assert len([line for line in code.splitlines() if line]) == 6
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_keys_used_most_have_their_real_defaults():
    text = (ROOT / "docs" / "recipes.md").read_text()
    rows = re.findall(r"^\| (`\S+`(?:, `\S+`)*) \| (.*?) \|", text, re.MULTILINE)
    checked = 0
    for names, defaults in rows:
        keys = re.findall(r"`([^`]+)`", names)
        if not all(key in configs.SCHEMA for key in keys):
            continue
        for key, shown in zip(keys, defaults.strip("`").split(", "), strict=True):
            default = configs.SCHEMA[key].default
            assert type(default)(shown) == default, key
            checked += 1
    assert checked > 10


def test_code_of_the_losses_runs(capsys):
    """The blocks run in order, and each prints a loss."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/losses.md").read_text(), re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/losses.md", "exec"), names)
        assert float(capsys.readouterr().out) > 0
    assert len(blocks) == 5


def test_no_document_names_a_missing_file():
    for document in DOCUMENTS:
        for _, target in hooks.LINK.findall(hooks.CODE.sub("", document.read_text())):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("name", ["ablation", "baseline", "crash", "mechanism", "sensitivity"])
def test_experiments_say_how_to_run_them(name):
    assert "python -m experiments." in (ROOT / "experiments" / name / "README.md").read_text()
