"""Files that other tools read are valid and call only targets of the Makefile."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def steps():
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_every_target_is_explained_and_phony():
    text = (ROOT / "Makefile").read_text()
    assert set(re.findall(r"^# make (\S+)", text, re.MULTILINE)) == TARGETS - {"clean"}
    (phony,) = re.findall(r"^\.PHONY: (.*)", text, re.MULTILINE)
    assert set(phony.split()) == TARGETS


def test_workflow_calls_make_alone():
    commands = [step["run"] for step in steps() if "run" in step]
    called = [
        re.fullmatch(r"make (\S+) PYTHON=python( HASHES=1)?", command) for command in commands
    ]
    assert all(called), commands
    assert {match[1] for match in called} <= TARGETS
    assert {"core", "test", "docs", "coverage"} == {match[1] for match in called}


def test_workflow_runs_the_oldest_and_the_newest_python():
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]


def test_runner_of_this_repository_calls_make():
    commands = re.findall(r"^ *make (\S+)(?: PYTHON=(\S+))?$", (ROOT / ".ci/run").read_text(), re.M)
    assert commands == [("test", ""), ("test-few", "python3.13")]


@pytest.mark.parametrize("tool", ["ruff", "mypy", "import-linter"])
def test_hooks_use_the_pinned_tools(tool):
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert tool in {hook["id"] for hook in hooks}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)
    assert re.search(rf"^{tool}==", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)


def test_citation():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'__version__ = "(.*)"', (ROOT / "ltjax/__init__.py").read_text())[1]
    assert content["version"] == version
    assert "https://arxiv.org/abs/2112.05958" in [r["url"] for r in content["references"]]


PIN = re.compile(r"^([\w.-]+)==([^\s;]+)(?: *; *python_version (<|>=) \"([\d.]+)\")?$", re.M)


def pins_of(file):
    """The pins of a file by normalized name: versions, each with the Pythons it is for."""
    pins = {}
    for name, version, sign, python in PIN.findall((ROOT / file).read_text()):
        name = re.sub("[-_.]+", "-", name).lower()
        pins.setdefault(name, {})[version] = sign + python
    return pins


def test_every_pin_has_hashes():
    pins = pins_of("requirements.txt") | pins_of("requirements-dev.txt")
    text = (ROOT / "requirements-hashes.txt").read_text().replace("\\\n", " ")
    hashed = {}
    for line in text.splitlines():
        name, version, rest = re.fullmatch(r"([\w-]+)(?:\[.*\])?==(\S+)(.*)", line).groups()
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), line
        assert name in pins or " ; " in rest, f"{name} is not pinned: make hashes"
        marker = re.search(r"python_full_version (<|>=) '([\d.]+)'", rest) if name in pins else None
        hashed.setdefault(name, {})[version] = marker[1] + marker[2] if marker else ""
    assert {name: hashed.get(name) for name in pins} == pins, "make hashes"


def test_every_python_has_one_version_of_every_package():
    """Python 3.11 keeps the JAX that is the last for it; later ones get the current."""
    for name, versions in pins_of("requirements.txt").items():
        markers = sorted(versions.values())
        assert markers in ([""], ["<3.12", ">=3.12"]), name
    jax = {marker: version for version, marker in pins_of("requirements.txt")["jax"].items()}
    assert pins_of("requirements.txt")["jaxlib"] == {jax[m]: m for m in jax}
    assert jax["<3.12"].startswith("0.10.")
    assert jax[">=3.12"].startswith("0.12.")


def test_another_python_has_an_environment_of_its_own():
    """`make test PYTHON=python3.13` must not test the Python of `.venv`."""
    for python, folder in (("python3", ".venv"), ("python3.13", ".venv-python3.13")):
        command = ["make", "-n", "test-fast", f"PYTHON={python}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert f"\n{folder}/bin/python -m pytest" in "\n" + done.stdout


def test_everything_a_run_needs_is_pinned():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = setup["options"]["install_requires"] + setup["options.extras_require"]["train"]
    names = {re.split("[<>=~!]", line)[0] for line in needed.split("\n") if line}
    pinned = set(pins_of("requirements.txt"))
    assert {re.sub("[-_.]+", "-", name).lower() for name in names} <= pinned
