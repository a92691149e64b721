"""The example of CONTRIBUTING.md is a diff that applies and works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
COPIED = ("ltjax", "tests", "docs", "configs", "pyproject.toml")
USE = """
from ltjax import config
wanted = config.default()
wanted.loss.name = "logit_norm"
print(config.resolve(wanted).loss.logit_norm_temperature)
"""


@pytest.mark.slow
def test_diff_adds_a_loss(tmp_path):
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (diff,) = re.findall(r"^```diff\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    # The copy is no part of a repository that a temporary folder may lie in.
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}

    def run(*command, stdin=None):
        done = subprocess.run(
            command, cwd=tmp_path, env=outside, input=stdin, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("git", "apply", "--whitespace=nowarn", "-", stdin=diff)
    run(sys.executable, "-m", "ruff", "check", "-q", "ltjax/losses", "tests/losses")
    run(sys.executable, "-m", "ruff", "format", "-q", "--check", "ltjax/losses", "tests/losses")
    assert run(sys.executable, "-c", USE).strip() == "0.04"
    tests = ("tests/losses/test_table.py", "ltjax/losses/logit_norm.py")
    out = run(sys.executable, "-m", "pytest", "-q", *tests, "-k", "logit_norm")
    assert int(re.search(r"(\d+) passed", out)[1]) > 25
    document = "tests/config/test_recipes.py::test_losses_document_names_every_setting"
    run(sys.executable, "-m", "pytest", "-q", document)


def test_tables_of_parts_exist():
    """The files and names that the first table sends a reader to."""
    table = GUIDE.split("## Where a new part goes")[1].split("\n\n## ")[0]
    rows = re.findall(r"^\| .*? \| .*? \| (`.*?) \| (.*?) \|$", table, re.MULTILINE)
    assert len(rows) == 6
    for names, test in rows:
        *attributes, path = re.findall(r"`([\w./]+)`", names)
        code = (ROOT / path).read_text()
        for attribute in attributes:
            assert re.search(rf"^(?:class )?{attribute}\b", code, re.MULTILINE), attribute
        assert (ROOT / re.findall(r"`(.*?)`", test)[0]).exists(), test
