"""Tables and figures of the experiments on accuracy, on made-up and on stored results."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.mechanism import run as mechanism
from experiments.protocols import EQUAL_SIZE, PROTOCOLS, ROWS
from experiments.rival import run as rival
from experiments.sensitivity import run as sensitivity
from experiments.trials import Trial, make_config
from ltjax import config as configs
from ltjax.data.longtail import exponential_counts

ROOT = Path(__file__).parents[2] / "experiments"


def made_up(rng, **more):
    numbers = {measure: float(rng.uniform(1, 9)) for measure in mechanism.MEASURES}
    course = [
        {
            "step": step,
            "test/balanced_accuracy": float(rng.random()),
            "before_whitening/mean_abs_correlation": float(rng.random()),
            "before_whitening/effective_rank": float(rng.random()),
            "after_whitening/effective_rank": float(rng.random()),
        }
        for step in (50, 100)
    ]
    found = {name: float(rng.random()) for name in ("accuracy", "many", "medium", "few", "seconds")}
    return {**found, "diagnostics": numbers, "course": course, **more}


def test_sensitivity_marks_the_default_and_orders_values(tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        row: {str(seed): made_up(rng) for seed in (100, 101)}
        for row in [sensitivity.BASE]
        + [sensitivity.row_of(k, v) for k, values in sensitivity.GRIDS.items() for v in values]
    }
    content = {"protocol": PROTOCOLS["digits_20"].describe(), "rows": rows}
    shown = [value for value, _ in sensitivity.grid(content, "whitening.shrinkage")]
    default = configs.SCHEMA["whitening.shrinkage"].default
    numbers = [value for value in shown if value != "auto"]
    assert default in shown
    assert numbers == sorted(numbers)
    assert shown[-1] == "auto"
    lines = sensitivity.table(content).splitlines()
    assert len(lines) == 2 + sum(1 + len(values) for values in sensitivity.GRIDS.values())
    assert sum("(default)" in line for line in lines) == len(sensitivity.GRIDS)
    sensitivity.figure(content, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_sensitivity_shows_varied_keys_against_the_protocol_s_default(tmp_path):
    rng = np.random.default_rng(0)
    names = [sensitivity.BASE, sensitivity.row_of("whitening.shrinkage", 0.9)]
    rows = {name: {str(s): made_up(rng, few=None) for s in (100, 101)} for name in names}
    content = {"protocol": PROTOCOLS["cifar10_small"].describe(), "rows": rows}
    lines = sensitivity.table(content).splitlines()
    assert lines[0] == "| key | value | top-1 | medium | minus default |"
    assert [line.split(" | ")[1] for line in lines[2:]] == ["0.5 (default)", "0.9"]
    sensitivity.figure(content, tmp_path / "figure.png")


@pytest.mark.parametrize("key", sensitivity.GRIDS)
def test_sensitivity_varies_what_the_method_uses(key):
    for value in sensitivity.GRIDS[key]:
        trial = Trial(sensitivity.row_of(key, value), 100)
        config = configs.resolve(make_config(PROTOCOLS["digits_20"], trial, ""))
        assert configs.get(config, key) == value
        assert value != configs.SCHEMA[key].default


def test_mechanism_shows_changes_of_condition_numbers_as_factors(tmp_path):
    rng = np.random.default_rng(0)
    stores = {
        factor: {name: {str(s): made_up(rng) for s in range(3)} for name in mechanism.ROWS}
        for factor in EQUAL_SIZE
    }
    for factor, rows in stores.items():
        for result in rows["ce"].values():
            result["diagnostics"]["classifier/hessian_condition_number"] = 10.0 * factor
    text = mechanism.table(stores)
    assert "| condition number of the Hessian | `ce` | 10 | 1e+03 | **x 1e+02**" in text
    mechanism.figure_of_imbalance(stores, tmp_path / "a.png")
    mechanism.figure_of_training(stores[100], tmp_path / "b.png")


def test_stability_is_that_of_the_plans(tmp_path):
    rng = np.random.default_rng(0)
    plans = [f"{plan}/{words}" for plan in mechanism.PLANS for words in ("own", "balanced")]
    stores = {
        factor: {"ce": {str(s): made_up(rng, probe=dict.fromkeys(plans, 0.25)) for s in range(3)}}
        for factor in EQUAL_SIZE
    }
    lines = mechanism.table_of_stability(stores).splitlines()
    assert len(lines) == 2 + len(plans)
    assert lines[2] == "| `instance` | all the plan's draws |" + " 0.250 ± 0.000 |" * len(stores)
    mechanism.figure_of_stability(stores, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 10_000


@pytest.mark.parametrize("factor", EQUAL_SIZE)
def test_data_of_equal_size_have_as_many_steps(factor):
    config = PROTOCOLS[EQUAL_SIZE[factor]].overrides
    counts = exponential_counts(config["data.max_count"], 10, factor)
    assert 312 <= sum(counts) <= 320


def test_rival_compares_with_batch_norm(tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        name: {
            str(seed): made_up(rng, probe={m: float(rng.random()) for m in rival.MEASURES})
            for seed in (100, 101)
        }
        for names in rival.QUESTIONS.values()
        for name in names
    }
    lines = rival.table({"rows": rows}).splitlines()
    assert len(lines) == 2 + len(rows) + len(rival.QUESTIONS)
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    rival.figure(
        {"rival_digits": {"rows": rows}, "rival_cifar10": {"rows": {}}}, tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").stat().st_size > 10_000
    found = rival.gaps({"rows": rows})
    ahead = np.mean(
        [rows["cw_la"][s]["accuracy"] - rows["bn_la"][s]["accuracy"] for s in rows["cw_la"]]
    )
    assert found["cw_la"][1] == pytest.approx(100 * ahead)
    assert "bn_la" not in found
    assert not any("max_count" in row for row in found)
    rival.figure_of_gaps({"rival_digits": {"rows": rows}}, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 10_000


def test_pairs_are_rows_of_the_rival():
    rows = [row for names in rival.QUESTIONS.values() for row in names]
    assert {row for pair in rival.PAIRS.values() for row in pair} <= set(rows)
    folder = ROOT / "rival" / "results"
    stores = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    assert (folder / "pairs.md").read_text() == rival.pairs_table(stores)


def test_rival_of_a_row_shares_all_but_the_whitening():
    rows = [row for names in rival.QUESTIONS.values() for row in names]
    assert {rival.rival_of(row) for row in rows} <= set(rows)
    assert rival.rival_of("cw_la_b3rs_bet") == "bn_la plan.name=b3rs_bet"
    assert rival.rival_of("bn_la whitening.shrinkage=0.1") == "bn_la"


@pytest.mark.parametrize("row", [r for names in rival.QUESTIONS.values() for r in names])
def test_rows_of_the_rival_can_be_trained(row):
    config = configs.resolve(make_config(PROTOCOLS["rival_cifar10"], Trial(row, 100), "data"))
    assert config.loss.name == "logit_adjustment"
    if "shrinkage" not in row:
        assert config.whitening.shrinkage == (1e-5 if row.startswith("bn") else 0.1)


def test_rows_of_the_mechanism_are_rows():
    assert set(mechanism.ROWS) <= set(ROWS)


@pytest.mark.parametrize("name", ["sensitivity", "rival"])
def test_stored_tables(name):
    module = {"sensitivity": sensitivity, "rival": rival}[name]
    for path in (ROOT / name / "results").glob("*.json"):
        content = json.loads(path.read_text())
        assert content["protocol"] == json.loads(json.dumps(PROTOCOLS[path.stem].describe()))
        assert path.with_suffix(".md").read_text() == module.table(content)


def test_stored_mechanism():
    folder = ROOT / "mechanism" / "results"
    if folder.exists():
        stores = mechanism.stored(folder)
        assert (folder / "mechanism.md").read_text() == mechanism.table(stores)
        assert (folder / "stability.md").read_text() == mechanism.table_of_stability(stores)
