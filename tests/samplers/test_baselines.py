"""What holds for every sampler that draws classes, and what each of them promises."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from ltjax.samplers.baselines import (
    ClassAwareSampler,
    PowerSampler,
    ProgressiveSampler,
    RepeatFactorSampler,
)
from tests.samplers.cases import label_sets, samplers

pytestmark = pytest.mark.filterwarnings("ignore:no image of class")


def draws_per_class(sampler, epoch):
    return np.bincount(sampler.labels[sampler.epoch(epoch).ravel()], minlength=len(sampler.counts))


@hypothesis.settings(max_examples=200)
@hypothesis.given(samplers())
def test_every_sampler(sampler):
    labels, counts = sampler.labels, sampler.counts
    steps, batch = sampler.steps_per_epoch, sampler.batch_size
    assert steps == -(-len(labels) // batch)
    for epoch in range(2):
        indices = sampler.epoch(epoch)
        assert indices.shape == (steps, batch)
        assert indices.dtype == np.int64
        assert indices.min() >= 0
        assert indices.max() < len(labels)
        np.testing.assert_array_equal(sampler.epoch(epoch), indices)
        for step, row in enumerate(indices):
            np.testing.assert_array_equal(sampler[epoch * steps + step], row)
            slots = np.bincount(labels[row], minlength=len(counts))
            # No image twice, unless its class has fewer images than slots.
            _, first, times = np.unique(row, return_index=True, return_counts=True)
            repeated = labels[row[first[times > 1]]]
            assert (slots[repeated] > counts[repeated]).all()
        exposure = np.bincount(indices.ravel(), minlength=len(labels))
        for c in np.flatnonzero(counts):
            assert np.ptp(exposure[labels == c]) <= 1
    assert not sampler.flags(0).any()


def test_seeds_epochs_and_kinds_differ():
    labels = np.repeat(np.arange(5), 40)

    def make(seed):
        return [
            *(PowerSampler(labels, 20, power=p, seed=seed) for p in (1, 0)),
            ProgressiveSampler(labels, 20, epochs=3, seed=seed),
            RepeatFactorSampler(labels, 20, seed=seed),
            ClassAwareSampler(labels, 20, seed=seed),
        ]

    for sampler, other in zip(make(0), make(1), strict=True):
        assert (sampler.epoch(0) != sampler.epoch(1)).any()
        assert (sampler.epoch(0) != other.epoch(0)).any()
    first = make(0)
    assert (first[2].epoch(0) != first[3].epoch(0)).any()
    assert len({p.fingerprint() for p in [*first, *make(1)]}) == 10


@hypothesis.given(label_sets(smallest=1), st.integers(1, 20))
def test_instance_balanced_sees_every_image(labels, batch):
    exposure = np.bincount(
        PowerSampler(labels, batch, power=1, seed=3).epoch(0).ravel(), minlength=len(labels)
    )
    assert exposure.min() >= 1
    rounds = -(-len(labels) // batch) * batch / len(labels)
    assert exposure.max() <= np.ceil(rounds) + (rounds % 1 > 0)


COUNTS = np.array([60, 30, 9, 3])
LABELS = np.repeat(np.arange(4), COUNTS)


def repeat_factor_weights(threshold):
    return COUNTS * np.maximum(1, np.sqrt(threshold / (COUNTS / COUNTS.sum())))


RANDOM = {
    "square root": (lambda seed: PowerSampler(LABELS, 8, power=0.5, seed=seed), COUNTS**0.5),
    "class-balanced": (lambda seed: PowerSampler(LABELS, 8, power=0, seed=seed), np.ones(4)),
    "reverse": (lambda seed: PowerSampler(LABELS, 8, power=-1, seed=seed), 1 / COUNTS),
    "repeat factor": (
        lambda seed: RepeatFactorSampler(LABELS, 8, threshold=0.3, seed=seed),
        repeat_factor_weights(0.3),
    ),
    "class-aware": (
        lambda seed: ClassAwareSampler(LABELS, 8, images_per_class=2, seed=seed),
        np.ones(4),
    ),
}


@pytest.mark.parametrize("name", RANDOM)
def test_class_frequencies(name):
    """Every slot has the classes' probabilities, and the epoch has its expectation up to one."""
    make, weights = RANDOM[name]
    share = weights / weights.sum()
    each = 2 if name == "class-aware" else 1
    pvalues = []
    for seed in range(4):
        sampler = make(seed)
        epochs = np.stack([sampler.labels[sampler.epoch(e)] for e in range(300)])
        drawn = np.bincount(epochs.ravel(), minlength=4)
        assert stats.chisquare(drawn, share * drawn.sum()).pvalue > 1e-3
        per_epoch = np.stack([np.bincount(e.ravel(), minlength=4) for e in epochs])
        assert (np.abs(per_epoch - share * epochs[0].size) <= each).all()
        # The classes of one slot over the epochs are independent draws.
        for step in range(sampler.steps_per_epoch):
            seen = np.bincount(epochs[:, step, step % 8], minlength=4)
            pvalues.append(stats.chisquare(seen, share * len(epochs)).pvalue)
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3


def test_order_is_uniform():
    """All orders of two classes with two slots each come equally often."""
    sampler = PowerSampler(np.array([0, 0, 1, 1]), 4, power=1, seed=0)
    orders = [tuple(sampler.epoch(e)[0]) for e in range(4800)]
    _, times = np.unique(orders, axis=0, return_counts=True)
    assert len(times) == 24
    assert stats.chisquare(times).pvalue > 1e-3


def test_progressive_goes_from_instance_to_class_balanced():
    sampler = ProgressiveSampler(LABELS, 17, epochs=3, seed=0)  # 17 divides the 102 images
    assert draws_per_class(sampler, 0).tolist() == COUNTS.tolist()
    middle = (COUNTS + 102 / 4) / 2
    assert (np.abs(draws_per_class(sampler, 1) - middle) <= 1).all()
    for last in (2, 3, 50):
        assert (np.abs(draws_per_class(sampler, last) - 102 / 4) <= 1).all()
    single = ProgressiveSampler(LABELS, 17, epochs=1, seed=0)
    assert draws_per_class(single, 0).tolist() == COUNTS.tolist()


def test_repeat_factors_are_those_of_the_paper():
    sampler = RepeatFactorSampler(np.repeat([0, 1, 2], [9900, 75, 25]), 10, threshold=0.01, seed=0)
    np.testing.assert_allclose(sampler.repeats, [1, np.sqrt(0.01 / 0.0075), 2])
    # At a threshold below the rarest class's share nothing is repeated.
    plain = RepeatFactorSampler(LABELS, 17, threshold=0.001, seed=0)
    assert draws_per_class(plain, 0).tolist() == COUNTS.tolist()


@pytest.mark.parametrize("each", [1, 2, 4])
def test_class_aware_batches_hold_each_drawn_class_in_full(each):
    sampler = ClassAwareSampler(LABELS, 8, images_per_class=each, seed=0)
    for row in sampler.epoch(0):
        slots = np.bincount(sampler.labels[row], minlength=4)
        assert (slots % each == 0).all()
        # Cycles are shuffled afresh, so a batch over a cycle's end has up to one turn more.
        assert slots.max() <= (8 // each // 4 + 2) * each
    turns = draws_per_class(sampler, 0) / each
    assert np.ptp(turns) <= 1


GOLDEN = {
    "instance": [[0, 9, 1, 4, 7], [8, 6, 5, 3, 2]],
    "square_root": [[0, 9, 1, 4, 7], [8, 6, 5, 3, 2]],
    "class_balanced": [[0, 8, 1, 9, 7], [1, 4, 5, 3, 6]],
    "reverse": [[0, 8, 1, 5, 7], [7, 9, 3, 1, 5]],
    "progressive": [[6, 0, 4, 3, 7], [1, 2, 5, 8, 9]],
    "repeat_factor": [[7, 1, 4, 9, 3], [6, 2, 1, 5, 8]],
    "class_aware": [[1, 7, 8, 5, 4], [5, 1, 7, 6, 3]],
}


def golden_samplers():
    """One sampler of each kind, of ten images."""
    labels = np.array([0, 2, 0, 1, 0, 1, 0, 2, 1, 0])
    return {
        "instance": PowerSampler(labels, 5, power=1, seed=7),
        "square_root": PowerSampler(labels, 5, power=0.5, seed=7),
        "class_balanced": PowerSampler(labels, 5, power=0, seed=7),
        "reverse": PowerSampler(labels, 5, power=-1, seed=7),
        "progressive": ProgressiveSampler(labels, 5, epochs=3, seed=7),
        "repeat_factor": RepeatFactorSampler(labels, 5, threshold=0.5, seed=7),
        "class_aware": ClassAwareSampler(labels, 5, images_per_class=2, seed=7),
    }


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_lists(name):
    """The second epoch of one seed, pinned: a change of it changes every stored run."""
    assert golden_samplers()[name].epoch(1).tolist() == GOLDEN[name]


BAD = {
    "empty": (lambda: PowerSampler(np.array([]), 4, power=1, seed=0), "at least one label"),
    "negative": (lambda: PowerSampler(np.array([0, -1]), 4, power=1, seed=0), "labels >= 0"),
    "fractions": (lambda: PowerSampler(np.array([0.5]), 4, power=1, seed=0), "integer dtype"),
    "matrix": (lambda: PowerSampler(LABELS[None], 4, power=1, seed=0), "one dimension"),
    "batch 0": (lambda: PowerSampler(LABELS, 0, power=1, seed=0), "batch_size = 0"),
    "batch 1.5": (lambda: PowerSampler(LABELS, 1.5, power=1, seed=0), "batch_size = 1.5"),
    "seed": (lambda: PowerSampler(LABELS, 4, power=1, seed=-1), "seed = -1"),
    "power nan": (lambda: PowerSampler(LABELS, 4, power=np.nan, seed=0), "power = nan"),
    "power huge": (lambda: PowerSampler(LABELS, 4, power=-1e9, seed=0), "weights are finite"),
    "epochs": (lambda: ProgressiveSampler(LABELS, 4, epochs=0, seed=0), "epochs = 0"),
    "threshold": (
        lambda: RepeatFactorSampler(LABELS, 4, threshold=0.0, seed=0),
        "threshold = 0.0 is not allowed; use a number > 0 and <= 1",
    ),
    "k": (
        lambda: ClassAwareSampler(LABELS, 4, images_per_class=5, seed=0),
        "images_per_class = 5 is not allowed; use an integer from 1 to the batch size 4",
    ),
    "epoch": (lambda: PowerSampler(LABELS, 4, power=1, seed=0).epoch(-1), "epoch = -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_value(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [PowerSampler, ClassAwareSampler])
def test_an_epoch_of_the_largest_class(kind):
    """`n_max C` draws, rounded up to whole batches; a class without images does not count."""
    options = {"power": 0} if kind is PowerSampler else {"images_per_class": 1}
    labels = np.repeat([0, 1, 3], [12, 5, 1])
    usual = kind(labels, 4, seed=0, **options)
    sampler = kind(labels, 4, seed=0, epoch_size="largest_class", **options)
    assert (len(usual), len(sampler)) == (5, 9)  # ceil(18 / 4), ceil(12 * 3 / 4)
    assert len(kind(labels, 5, seed=0, epoch_size="largest_class", **options)) == 8
    np.testing.assert_array_equal(draws_per_class(sampler, 1), [12, 12, 0, 12])
    drawn = np.bincount(sampler.epoch(1).ravel(), minlength=18)
    assert (drawn[:12] == 1).all()
    assert drawn[17] == 12
    assert "epoch_size" not in repr(usual)
    assert "epoch_size='largest_class'" in repr(sampler)
    assert sampler.fingerprint() != usual.fingerprint()
    np.testing.assert_allclose(sampler.class_prior(), usual.class_prior())
