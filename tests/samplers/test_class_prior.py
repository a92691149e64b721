"""The class prior of every sampler is what the frequencies of its batches tend to."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.losses import bet_weights
from ltjax.samplers.b3rs import B3RS, PARTITIONS
from ltjax.samplers.base import BatchSampler
from ltjax.samplers.baselines import PowerSampler, ProgressiveSampler
from ltjax.samplers.bet import embed, embedded_slots
from ltjax.samplers.prefetch import PrefetchSampler
from ltjax.samplers.registry import SAMPLERS, SamplerConfig, make_sampler
from tests.samplers.cases import b3rs_samplers, samplers

# 53 images: no batch size divides them, so an epoch ends with a batch that repeats some. Classes 2
# and 3 tie, and class 4 has no images.
COUNTS = np.array([30, 12, 4, 4, 0, 3])
LABELS = np.repeat(np.arange(6), COUNTS)
EPOCHS = 200


def frequencies(sampler, steps, weights=None):
    """Class frequencies of the first batches, and the standard error of as many free draws."""
    rows = LABELS[sampler.rows(0, steps)]
    weights = np.ones(rows.shape) if weights is None else weights
    total = weights.sum()
    found = np.bincount(rows.ravel(), weights.ravel(), minlength=6) / total
    return found, np.sqrt(found * (1 - found) * (weights**2).sum()) / total


def assert_close(sampler, steps, weights=None, **which):
    prior = sampler.class_prior(**which)
    found, error = frequencies(sampler, steps, weights)
    assert prior.dtype == np.float64
    assert prior.sum() == pytest.approx(1, abs=1e-12)
    assert prior[4] == 0
    assert (np.abs(prior - found) <= 3 * error + 1e-12).all(), (prior, found, error)
    return np.abs(prior - found).max()


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"progressive", "b3rs_bet"}))
@pytest.mark.parametrize("batch", [7, 16])
@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_every_sampler(name, batch):
    config = SamplerConfig(name, num_blocks=3, threshold=0.3, images_per_class=3)
    sampler = make_sampler(config, LABELS, batch, seed=1, epochs=EPOCHS)
    assert not sampler.scheduled
    # Cycles and rounding scatter less than free draws; images in threes more than single ones.
    assert assert_close(sampler, EPOCHS * len(sampler)) < (2e-3 if name != "class_aware" else 5e-3)
    np.testing.assert_array_equal(sampler.class_prior(epoch=7), sampler.class_prior())


@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_instance_balanced_sampling_has_the_prior_of_the_data_to_the_bit():
    prior = PowerSampler(LABELS, 16, power=1, seed=0).class_prior()
    np.testing.assert_array_equal(prior, COUNTS / COUNTS.sum())


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_b3rs_of_every_balance_and_partition(balance, partition, blocks):
    options = {"num_blocks": blocks, "balance": balance, "partition": partition}
    sampler = B3RS(LABELS, 16, **options, seed=2)
    assert assert_close(sampler, EPOCHS * len(sampler)) < 2e-3


@hypothesis.given(b3rs_samplers())
@pytest.mark.filterwarnings("ignore:no image of class")
def test_blocks_have_their_quotas_exactly(sampler):
    prior = sampler.class_prior()
    for block, quota in zip(sampler.blocks, sampler.quotas, strict=True):
        drawn = np.isin(sampler.labels[sampler.epoch(1)], block).sum()
        assert drawn == quota * len(sampler)
        np.testing.assert_allclose(prior[block], quota / sampler.batch_size / len(block))


@hypothesis.given(samplers(), st.integers(0, 5))
@pytest.mark.filterwarnings("ignore:no image of class")
def test_a_prior_is_a_distribution_over_the_classes_with_images(sampler, epoch):
    prior = sampler.class_prior(epoch=epoch)
    assert prior.sum() == pytest.approx(1)
    assert ((prior > 0) == (sampler.counts > 0)).all()


EVERY, FRACTION = [1, 2, 3, 7], [0.125, 0.25, 0.5, 1.0]


def make_embedded(every, fraction, batch=8, seed=3):
    regular = PowerSampler(LABELS, batch, power=1, seed=seed)
    slots = embedded_slots(batch, fraction)
    balanced = B3RS(LABELS, slots, num_blocks=min(2, slots), seed=seed + 1)
    return embed(regular, balanced, every=every, fraction=fraction)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("fraction", FRACTION)
@pytest.mark.parametrize("weight", [None, 0.0, 0.3, 0.5, 1.0])
@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_bet_is_the_mixture_that_its_loss_averages(every, fraction, weight):
    sampler = make_embedded(every, fraction)
    steps = EPOCHS * len(sampler) // every * every
    weights = None
    if weight is not None:
        period = [bet_weights(sampler.flags(step), weight) for step in range(every)]
        weights = np.tile(np.array(period, np.float64), (steps // every, 1))
        np.testing.assert_allclose(weights.sum(axis=1), 8, rtol=1e-6)  # every batch counts alike
    assert_close(sampler, steps, weights, embedded_weight=weight)


@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_limits_of_bet():
    sampler = make_embedded(1, 0.5)
    regular, balanced = sampler.regular.class_prior(), sampler.balanced.class_prior()
    np.testing.assert_array_equal(sampler.class_prior(embedded_weight=0.0), regular)
    np.testing.assert_array_equal(sampler.class_prior(embedded_weight=1.0), balanced)
    np.testing.assert_allclose(
        sampler.class_prior(embedded_weight=0.3), 0.7 * regular + 0.3 * balanced, rtol=1e-12
    )
    # Batches of one kind are not weighted.
    alternating = make_embedded(2, 1.0)
    np.testing.assert_allclose(
        alternating.class_prior(embedded_weight=0.9), (regular + balanced) / 2, rtol=1e-12
    )


def means_over_seeds(make, epoch, seeds=400):
    drawn = [LABELS[make(seed).epoch(epoch)].ravel() for seed in range(seeds)]
    return np.bincount(np.concatenate(drawn), minlength=6) / sum(map(len, drawn))


@pytest.mark.parametrize("epoch", [0, 1, 2, 4, 9])
@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_progressive_by_epoch(epoch):
    def make(seed):
        return ProgressiveSampler(LABELS, 8, epochs=5, seed=seed)

    assert make(0).scheduled
    prior = make(0).class_prior(epoch=epoch)
    np.testing.assert_allclose(prior, means_over_seeds(make, epoch), atol=2e-3)
    share = min(epoch / 4, 1)
    uniform = np.where(COUNTS > 0, 1 / 5, 0)
    np.testing.assert_allclose(prior, (1 - share) * COUNTS / 53 + share * uniform, atol=1e-12)


@pytest.mark.parametrize("epoch", [0, 1, 3, 7])
@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_bet_in_a_stream_that_changes_reads_it_at_its_own_pace(epoch):
    """At half of the slots, epoch 1 reads the second half of the stream's first epoch."""

    def make(seed):
        regular = ProgressiveSampler(LABELS, 8, epochs=4, seed=seed)
        return embed(regular, B3RS(LABELS, 4, num_blocks=2, seed=seed), every=1, fraction=0.5)

    assert make(0).scheduled
    prior = make(0).class_prior(epoch=epoch)
    np.testing.assert_allclose(prior, means_over_seeds(make, epoch), atol=5e-3)


@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_shards_together_have_the_prior_of_the_whole_batch():
    sampler = make_embedded(1, 0.5)
    shards = [sampler.shard(i, 4) for i in range(4)]
    for shard in shards:
        np.testing.assert_array_equal(
            shard.class_prior(embedded_weight=0.3), sampler.class_prior(embedded_weight=0.3)
        )
    steps = EPOCHS * len(sampler)
    found = np.mean([frequencies(shard, steps)[0] for shard in shards], axis=0)
    np.testing.assert_allclose(found, sampler.class_prior(), atol=2e-3)


@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_prefetching_changes_nothing():
    sampler = ProgressiveSampler(LABELS, 8, epochs=3, seed=0)
    ahead = PrefetchSampler(sampler, epochs=3)
    assert ahead.scheduled
    np.testing.assert_array_equal(ahead.class_prior(epoch=1), sampler.class_prior(epoch=1))
    assert not PrefetchSampler(make_embedded(1, 0.5), epochs=3).shard(0, 2).scheduled
    ahead.close()


class InOrder(BatchSampler):
    def __repr__(self):
        return "InOrder()"

    def epoch(self, epoch):
        return np.zeros((1, 1), np.int64)


@pytest.mark.filterwarnings("ignore:no image of class 4")
def test_what_has_no_prior():
    with pytest.raises(InputError, match=r"InOrder\(\) has no class_prior, since it has no labels"):
        InOrder(1, 1).class_prior()
    with pytest.raises(InputError, match="epoch = -1"):
        ProgressiveSampler(LABELS, 8, epochs=3, seed=0).class_prior(epoch=-1)
    with pytest.raises(InputError, match="embedded_weight = 2"):
        make_embedded(1, 0.5).class_prior(embedded_weight=2.0)
