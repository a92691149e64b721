"""Tables on speed and crash safety in the documents match the stored results."""

import re
from pathlib import Path

import pytest

from experiments import records, timing
from experiments.crash import faults
from experiments.crash import run as crash
from experiments.finetune_cost import run as finetune_cost
from experiments.input_speed import run as input_speed
from experiments.kernel_accuracy import run as kernel_accuracy
from experiments.predict_speed import run as predict_speed
from experiments.train_speed import run as train_speed
from experiments.whitening_speed import run as whitening_speed

ROOT = Path(__file__).parents[2]


def stored(path):
    return timing.read(ROOT / "experiments" / path)


def shown(document, name):
    text = (ROOT / document).read_text()
    return re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)[0]


@pytest.mark.parametrize("document", ["docs/training.md", "experiments/train_speed/README.md"])
def test_training_speed(document):
    made = train_speed.tables(stored("train_speed/results/cpu.csv"))
    assert shown(document, "experiments/train_speed/results/cpu.md") == made
    assert (ROOT / "experiments/train_speed/results/cpu.md").read_text() == made


@pytest.mark.parametrize("document", ["docs/training.md", "experiments/crash/README.md"])
def test_crash(document):
    made = crash.table(crash.read(ROOT / "experiments/crash/results/crash.csv"))
    assert shown(document, "crash") == made


@pytest.mark.parametrize("document", ["docs/training.md", "experiments/crash/README.md"])
def test_faults(document):
    made = faults.table(records.read(ROOT / "experiments/crash/results/faults.csv"))
    assert shown(document, "faults") == made


def test_a_try_is_read_back(tmp_path):
    tries = [crash.Try(4, (0, 1, 2), 1.25, (70, 140), True), crash.Try(1, (0,), None, (), False)]
    crash.write(tmp_path / "crash.csv", tries)
    assert crash.read(tmp_path / "crash.csv") == tries


def test_accuracy_with_native_kernels():
    folder = ROOT / "experiments/kernel_accuracy/results"
    assert (folder / "accuracy.md").read_text() == kernel_accuracy.table(
        kernel_accuracy.stored(folder)
    )


@pytest.mark.parametrize("document", ["docs/whitening.md", "experiments/whitening_speed/README.md"])
def test_whitening_speed(document):
    made = whitening_speed.table(stored("whitening_speed/results/cpu.csv"))
    assert shown(document, "speed") == made
    assert (ROOT / "experiments/whitening_speed/results/cpu.md").read_text() == made


def test_the_document_names_the_gates_that_whitening_misses_in_the_stored_run():
    gates = whitening_speed.gates(stored("whitening_speed/results/cpu.csv"))
    assert set(gates) == set(whitening_speed.GATES)
    assert {size for size, (_, gain) in gates.items() if not gain} == {"128x64"}
    assert {size for size, (cost, _) in gates.items() if not cost} == {"128x64"}
    zca = stored("whitening_speed/results/step_cpu.csv")["resnet32_cifar"]["zca"]
    assert zca["ratio"] < 1.03
    low, high = zca["lower_quartile"], zca["upper_quartile"]
    words = f"ratio of the steps {zca['ratio']:.3f}, quartiles of neighbors {low:.3f} to {high:.3f}"
    assert words in (ROOT / "docs/whitening.md").read_text()


@pytest.mark.parametrize("part", ["streamed", "resident"])
def test_input_speed(part):
    made = input_speed.table(part, stored(f"input_speed/results/{part}.csv")[part])
    assert (ROOT / f"experiments/input_speed/results/{part}.md").read_text() == made


def test_prediction_speed():
    made = predict_speed.table(stored("predict_speed/results/predict.csv"))
    assert (ROOT / "experiments/predict_speed/results/predict.md").read_text() == made


def test_the_cost_of_fine_tuning():
    made = finetune_cost.table(stored("finetune_cost/results/cost.csv"))
    assert (ROOT / "experiments/finetune_cost/results/cost.md").read_text() == made
