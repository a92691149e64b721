"""Tables and figures of the experiments on accuracy, on made-up and on stored results."""

from pathlib import Path

import numpy as np
import pytest

from experiments import store
from experiments.ablation import field
from experiments.baseline import run as baseline
from experiments.measures import MEASURES
from experiments.mechanism import run as mechanism
from experiments.protocols import EQUAL_SIZE, PROTOCOLS, ROWS, Trial, make_config
from experiments.results import Results, design, files, results
from experiments.sensitivity import run as sensitivity
from experiments.statistics import OneTest
from ltjax import config as configs
from ltjax.data.longtail import exponential_counts

ROOT = Path(__file__).parents[2] / "experiments"


def made_up(rng, *more):
    names = [*store.SCORES, "seconds", *more]
    numbers = {measure: float(rng.uniform(1, 9)) for measure in MEASURES}
    return {**{name: float(rng.random()) for name in names}, **numbers}


def curve(rng):
    return [{"step": step, **{c: float(rng.random()) for c in mechanism.CURVES}} for step in (5, 9)]


def test_picture_of_the_field_s_protocol(tmp_path):
    rng = np.random.default_rng(0)
    names = ("ce", "crt", "cw_la", "cw_la whitening.shrinkage=0.1")
    rows = {row: {seed: made_up(rng) for seed in (0, 1)} for row in names}
    rows["cw"] = {0: made_up(rng)}  # of one seed there is no CI
    keys = ("step", *field.CURVES)
    curves = {
        row: {seed: [dict.fromkeys(keys, 0.5), dict.fromkeys(keys, 2.0)] for seed in seeds}
        for row, seeds in rows.items()
        if row != "crt"
    }
    field.figure(Results(rows, design("cifar10")), curves, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_measures_of_the_field_s_networks():
    rng = np.random.default_rng(0)
    rows = {name: {seed: made_up(rng) for seed in (0, 1)} for name in ("ce", "cw_la")}
    for result in rows["ce"].values():
        result |= {
            measure.replace("before", "after"): result[measure]
            for measure in MEASURES
            if measure.startswith("before")
        }
    rank = "before_whitening/effective_rank"
    rows["ce"][0][rank] = rows["ce"][0]["after_whitening/effective_rank"] = 10.0
    rows["ce"][1][rank] = rows["ce"][1]["after_whitening/effective_rank"] = 12.0
    lines = field.measures(rows, ["crt", "ce", "cw_la"]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| `ce`", "| `cw_la`"]
    assert lines[2].split(" | ")[2] == "11"
    assert [line.count("the same") for line in lines[2:]] == [2, 0]
    for seeds in rows.values():  # a classifier too large for its Hessian
        for result in seeds.values():
            del result["classifier/hessian_condition_number"]
    assert "Hessian" in lines[0]
    without = field.measures(rows, ["ce", "cw_la"]).splitlines()
    assert "Hessian" not in without[0]
    assert without[2].count(" | ") == lines[2].count(" | ") - 1


def test_sensitivity_marks_the_default_and_orders_values(tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        row: {seed: made_up(rng) for seed in (100, 101)}
        for row in [sensitivity.BASE]
        + [sensitivity.row_of(k, v) for k, values in sensitivity.GRIDS.items() for v in values]
    }
    shown = [value for value, _ in sensitivity.grid("digits_20", rows, "whitening.shrinkage")]
    default = configs.SCHEMA["whitening.shrinkage"].default
    numbers = [value for value in shown if value != "auto"]
    assert default in shown
    assert numbers == sorted(numbers)
    assert shown[-1] == "auto"
    lines = sensitivity.table("digits_20", Results(rows, design("digits_20"))).splitlines()
    assert len(lines) == 2 + sum(1 + len(values) for values in sensitivity.GRIDS.values())
    assert sum("(default)" in line for line in lines) == len(sensitivity.GRIDS)
    sensitivity.figure("digits_20", rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_sensitivity_shows_varied_keys_against_the_protocol_s_default(tmp_path):
    rng = np.random.default_rng(0)
    names = [sensitivity.BASE, sensitivity.row_of("whitening.shrinkage", 0.9)]
    rows = {name: {s: made_up(rng) for s in (100, 101)} for name in names}
    for result in (r for seeds in rows.values() for r in seeds.values()):
        del result["few"]
    lines = sensitivity.table("cifar10_small", Results(rows, design("cifar10_small"))).splitlines()
    assert lines[0] == "| key | value | top-1 | medium | minus default |"
    assert [line.split(" | ")[1] for line in lines[2:]] == ["0.5 (default)", "0.9"]
    sensitivity.figure("cifar10_small", rows, tmp_path / "figure.png")


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
        factor: {name: {s: made_up(rng) for s in range(5)} for name in mechanism.ROWS}
        for factor in EQUAL_SIZE
    }
    for factor, rows in stores.items():
        for result in rows["ce"].values():
            result["classifier/hessian_condition_number"] = 10.0 * factor
    text = mechanism.table(stores)
    assert "| condition number of the Hessian | `ce` | 10 | 1e+03 | **x 1e+02**" in text
    mechanism.figure_of_imbalance(stores, tmp_path / "a.png")
    curves = {name: {s: curve(rng) for s in range(3)} for name in mechanism.ROWS}
    mechanism.figure_of_training(curves, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 10_000


def test_mechanism_counts_what_is_the_same_before_and_after_the_layer_once():
    rng = np.random.default_rng(0)
    rows = {name: {s: made_up(rng) for s in range(5)} for name in ("ce", "cw_la")}
    for result in rows["ce"].values():
        for measure in MEASURES:
            if measure.startswith("before_whitening/"):
                result[measure.replace("before", "after")] = result[measure]
    lines = mechanism.table({1: rows, 100: rows}).splitlines()
    named = [line.split(" | ")[:2] for line in lines if "classifier's input" in line]
    assert named
    assert {row for _, row in named} == {"`cw_la`"}


def test_stability_is_that_of_the_samplers(tmp_path):
    rng = np.random.default_rng(0)
    plans = [f"{plan}/{words}" for plan in mechanism.PLANS for words in ("own", "balanced")]
    stores = {
        factor: {"ce": {s: made_up(rng) | dict.fromkeys(plans, 0.25) for s in range(3)}}
        for factor in EQUAL_SIZE
    }
    lines = mechanism.table_of_stability(stores).splitlines()
    assert len(lines) == 2 + len(plans)
    assert lines[2] == "| `instance` | all the sampler's draws |" + " 0.250 ± 0.000 |" * len(stores)
    mechanism.figure_of_stability(stores, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 10_000


@pytest.mark.parametrize("factor", EQUAL_SIZE)
def test_data_of_equal_size_have_as_many_steps(factor):
    config = PROTOCOLS[EQUAL_SIZE[factor]].overrides
    counts = exponential_counts(config["data.max_count"], 10, factor)
    assert 312 <= sum(counts) <= 320


def test_baseline_compares_with_batch_norm(tmp_path):
    rng = np.random.default_rng(0)
    rows = {
        name: {seed: made_up(rng, *baseline.MEASURES) for seed in (100, 101)}
        for names in baseline.QUESTIONS.values()
        for name in names
    }
    found = Results(rows, design("baseline_digits"))
    lines = baseline.table(found).splitlines()
    assert len(lines) == 2 + len(rows) + len(baseline.QUESTIONS)
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    stores = {"baseline_digits": found, "baseline_cifar10": Results({}, OneTest())}
    baseline.figure(stores, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    gaps = baseline.gaps(found)
    ahead = np.mean(
        [rows["cw_la"][s]["accuracy"] - rows["bn_la"][s]["accuracy"] for s in rows["cw_la"]]
    )
    assert gaps["cw_la"][1] == pytest.approx(100 * ahead)
    assert "bn_la" not in gaps
    assert not any("max_count" in row for row in gaps)
    baseline.figure_of_gaps({"baseline_digits": found}, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 10_000


def test_a_rank_correlation_has_a_wide_interval_where_there_are_few_rows():
    rising = np.column_stack([np.arange(9), np.arange(9) ** 2])
    rank, low, high = baseline.rank_correlation(rising)
    assert rank == pytest.approx(1.0)
    assert low < rank
    noise = np.random.default_rng(0).random((12, 2))
    rank, low, high = baseline.rank_correlation(noise)
    assert low < rank < high
    assert high - low > 0.9


def test_pairs_are_rows_of_the_baseline():
    rows = [row for names in baseline.QUESTIONS.values() for row in names]
    assert {row for pair in baseline.PAIRS.values() for row in pair} <= set(rows)
    folder = ROOT / "baseline" / "results"
    assert (folder / "pairs.md").read_text() == baseline.pairs_table(baseline.stored(folder))


def test_baseline_of_a_row_shares_all_but_the_whitening():
    rows = [row for names in baseline.QUESTIONS.values() for row in names]
    assert {baseline.baseline_of(row) for row in rows} <= set(rows)
    assert baseline.baseline_of("cw_la_b3rs_bet") == "bn_la plan.name=b3rs_bet"
    assert baseline.baseline_of("bn_la whitening.shrinkage=0.1") == "bn_la"


@pytest.mark.parametrize("row", [r for names in baseline.QUESTIONS.values() for r in names])
def test_rows_of_the_baseline_can_be_trained(row):
    config = configs.resolve(make_config(PROTOCOLS["baseline_cifar10"], Trial(row, 100), "data"))
    assert config.loss.name == "logit_adjustment"
    if "shrinkage" not in row:
        assert config.whitening.shrinkage == (1e-5 if row.startswith("bn") else 0.1)


def test_rows_of_the_mechanism_are_rows():
    assert set(mechanism.ROWS) <= set(ROWS)


@pytest.mark.parametrize("path", files(ROOT / "sensitivity/results"), ids=lambda p: p.stem)
def test_stored_tables_of_the_sensitivity(path):
    made = sensitivity.table(path.stem, results(path))
    assert path.with_suffix(".md").read_text() == made


@pytest.mark.parametrize("path", files(ROOT / "baseline/results"), ids=lambda p: p.stem)
def test_stored_tables_of_the_baseline(path):
    assert path.with_suffix(".md").read_text() == baseline.table(results(path))


def test_stored_mechanism():
    folder = ROOT / "mechanism" / "results"
    stores = mechanism.stored(folder)
    assert (folder / "mechanism.md").read_text() == mechanism.table(stores)
    assert (folder / "stability.md").read_text() == mechanism.table_of_stability(stores)
    factor = mechanism.CURVES_AT
    curves = store.read_curves(folder / f"{EQUAL_SIZE[factor]}.csv")
    assert {row: set(seeds) for row, seeds in curves.items()} == {
        row: set(seeds) for row, seeds in stores[factor].items()
    }
    assert all(set(at) == {"step", *mechanism.CURVES} for at in curves["ce"][0])
