"""Tables on samplers in the documents match the stored results, and the code runs."""

import re
from pathlib import Path

import pytest

from experiments import timing
from experiments.sampler_speed import covariance, run
from ltjax.samplers import SAMPLERS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "sampler_speed" / "results"


def stored(name):
    return timing.read(RESULTS / f"{name}.csv")


def shown(document, name):
    text = (ROOT / document).read_text()
    return re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", text, re.DOTALL)[0].strip()


@pytest.mark.parametrize("document", ["docs/samplers.md", "experiments/sampler_speed/README.md"])
def test_speed(document):
    sets = stored("speed")
    assert shown(document, "speed") == run.table(sets["imagenet_lt"])
    assert (RESULTS / "speed.md").read_text() == run.tables(sets)


def test_the_goals_are_met_in_the_stored_run():
    sets = stored("speed")
    b3rs = sets["imagenet_lt"]["b3rs"]
    assert b3rs["times_WeightedRandomSampler"] >= 1
    assert b3rs["times_python_class_aware"] >= 5
    assert sets["zipf_10m"]["b3rs"]["images"] == 10_000_000
    assert all(sets["zipf_10m"][name]["seconds"] < 3 for name in SAMPLERS)


def test_covariance():
    batches = stored("covariance")
    assert (RESULTS / "covariance.md").read_text() == covariance.tables(batches)
    assert shown("docs/samplers.md", "covariance") == covariance.table(batches["64"])


def test_code_of_the_document_runs(capsys):
    text = (ROOT / "docs" / "samplers.md").read_text()
    first, grain = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(first, "docs/samplers.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(32,) 16 (8,)")
    exec(compile(grain, "docs/samplers.md", "exec"), {})
    assert capsys.readouterr().out == "56 (32, 8, 8, 3) True\n"
