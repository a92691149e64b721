"""Tables on speed and safety in the documents are those of the stored results."""

import json
import re
from pathlib import Path

import pytest

from experiments.crash import run as crash
from experiments.train_speed import run as train_speed
from experiments.whitening_speed import run as whitening_speed

ROOT = Path(__file__).parents[2]


def stored(path):
    return json.loads((ROOT / "experiments" / path).read_text())


def shown(document, name):
    text = (ROOT / document).read_text()
    return re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)[0]


@pytest.mark.parametrize("document", ["docs/training.md", "experiments/train_speed/README.md"])
def test_training_speed(document):
    made = train_speed.tables(stored("train_speed/results/cpu.json"))
    assert shown(document, "speed") == made
    assert (ROOT / "experiments/train_speed/results/cpu.md").read_text() == made


@pytest.mark.parametrize("document", ["docs/training.md", "experiments/crash/README.md"])
def test_crash(document):
    made = crash.table(stored("crash/results/crash.json"))
    assert shown(document, "crash") == made


@pytest.mark.parametrize("document", ["docs/whitening.md", "experiments/whitening_speed/README.md"])
def test_whitening_speed(document):
    content = stored("whitening_speed/results/cpu.json")
    assert shown(document, "speed") == whitening_speed.table(content["milliseconds"])


def test_whitening_meets_its_gates_in_the_stored_run():
    content = stored("whitening_speed/results/cpu.json")
    assert whitening_speed.gates(content["milliseconds"]) == content["gates"]
    assert all(gate["holds"] for gate in content["gates"].values())
    step = stored("whitening_speed/results/step_cpu.json")
    assert step["ratio"] < 1.03
    low, high = step["ratio_quartiles"]
    words = (
        f"ratio of the steps {step['ratio']:.3f}, quartiles of neighbours {low:.3f} to {high:.3f}"
    )
    assert words in (ROOT / "docs/whitening.md").read_text()
