"""A wheel contains the data files that the package reads."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")


@pytest.mark.slow
def test_wheel_has_the_package_data(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(ROOT / "ltjax", source / "ltjax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(out), str(source)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = out.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    beside = {
        p for p in (ROOT / "ltjax").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
    }
    expected = {path.relative_to(ROOT).as_posix() for path in beside}
    assert "ltjax/report/templates/base.html.j2" in expected
    assert expected <= inside
    assert {f"ltjax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")} <= inside
