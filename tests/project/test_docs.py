"""Numbers and code in the documents are what the code and the stored results say."""

import re
from pathlib import Path

import pytest

from ltjax import config as configs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("experiments/*/README.md"),
]
TABLE = re.compile(r"<!-- (experiments/\S+\.md) -->\n(.*?)<!-- end -->", re.DOTALL)


def test_tables_come_from_the_stored_results():
    found = [match for document in DOCUMENTS for match in TABLE.findall(document.read_text())]
    assert len(found) > 5
    for path, shown in found:
        assert (ROOT / path).read_text().strip() == shown.strip(), path


def test_readme_code_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    counts = capsys.readouterr().out
    assert counts.startswith("[")


def test_readme_keys_have_their_real_defaults():
    rows = re.findall(r"^\| (`\S+`(?:, `\S+`)*) \| (.*?) \|", README, re.MULTILINE)
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


def test_no_document_names_a_missing_file():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("name", ["ablation", "crash", "mechanism", "rival", "sensitivity"])
def test_experiments_say_how_to_run_them(name):
    assert "python -m experiments." in (ROOT / "experiments" / name / "README.md").read_text()
