"""The rows that add one technique at a time, and their table on made-up results."""

import dataclasses

import pytest

from experiments.additive import run as additive
from experiments.protocols import PROTOCOLS, Trial, make_config
from experiments.results import Results, files, results
from experiments.statistics import OneTest
from ltjax import config as configs
from ltjax.configs import cifar10_lt_strong
from tests.experiments.test_tables import ROOT


@pytest.mark.parametrize("protocol", additive.PROTOCOLS)
@pytest.mark.parametrize("start", additive.STARTS)
def test_every_row_can_be_trained_and_changes_the_start(protocol, start):
    def config(row):
        return configs.resolve(make_config(PROTOCOLS[protocol], Trial(row, 0), "data"))

    rows = [additive.row_of(start, part) for part in additive.EVERYTHING]
    found = [config(row) for row in (start, *rows)]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
    assert len({one.train.epochs for one in found}) == 1


def test_all_parts_of_the_strong_recipe_are_in_its_row():
    strong = configs.resolve(cifar10_lt_strong.get_config())
    protocol = PROTOCOLS["cifar10_small_bfloat16"]
    row = make_config(protocol, Trial(additive.row_of("cw_la", additive.THREE), 0))
    ours = configs.resolve(row)
    assert ours.loss == strong.loss
    # The protocol has a ridge of its own, whatever that of the recipes becomes.
    ridge = protocol.overrides["whitening.shrinkage"]
    assert ours.whitening == dataclasses.replace(strong.whitening, shrinkage=ridge)
    assert ours.augment == dataclasses.replace(strong.augment, max_shift=2)
    for key in ("weight_decay", "sam_rho", "swa_epochs", "ema_decay"):
        assert getattr(ours.optimizer, key) == getattr(strong.optimizer, key)


def test_a_part_is_compared_with_its_own_start():
    def seeds(accuracy, seconds):
        return {
            s: {"accuracy": accuracy + s / 100, "few": 0.1, "seconds": seconds} for s in range(3)
        }

    rows = {"bn_la": seeds(0.5, 10.0), additive.row_of("bn_la", "SAM"): seeds(0.52, 20.0)}
    rows |= {"cw_la": seeds(0.55, 12.0)}
    lines = additive.table(Results(rows, OneTest())).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| `cw_la`", ""],
        ["| `bn_la`", ""],
        ["| `bn_la`", "SAM"],
    ]
    cells = lines[-1].split(" | ")
    assert cells[4].startswith("+2.0 [")
    assert cells[6:] == ["2.0", "3 |"]


@pytest.mark.parametrize("path", files(ROOT / "additive/results"), ids=lambda path: path.stem)
def test_stored_tables(path):
    assert path.with_suffix(".md").read_text() == additive.table(results(path))
