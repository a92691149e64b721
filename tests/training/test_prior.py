"""Which class distribution a run's loss corrects for."""

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.losses import log_prior
from ltjax.training.build import build
from ltjax.training.prior import final_prior
from tests.helpers import small_config


def job_of(**overrides):
    return build(configs.resolve(small_config(**overrides)))


UNBIASED = {
    "instance": {"plan__name": "instance"},
    "BET of weight 0": {"plan__name": "b3rs_bet", "loss__embedded_weight": 0.0},
}


@pytest.mark.parametrize("case", UNBIASED)
def test_a_sampler_with_the_prior_of_the_data_gives_the_counts_themselves(case):
    """So that the loss is the same to the bit as with `loss.prior=data`."""
    (found,) = job_of(method="logit_adjustment", **UNBIASED[case]).classes
    assert found.prior is found.counts


def test_bet_gives_the_mixture_with_the_weight_of_its_loss():
    job = job_of(method="cw_la_b3rs_bet", loss__embedded_weight=0.3, plan__every=2)
    (found,), (sampler,) = job.classes, job.samplers
    expected = 0.85 * sampler.regular.class_prior() + 0.15 * sampler.balanced.class_prior()
    np.testing.assert_allclose(found.prior, expected, rtol=1e-12)
    np.testing.assert_array_equal(found.counts, job.data.train.class_counts)


def test_the_data_stays_an_option():
    job = job_of(method="cw_la_b3rs_bet", loss__prior="data")
    np.testing.assert_array_equal(job.classes[0].prior, job.data.train.class_counts)


def test_older_runs_count_the_draws_of_the_first_epoch():
    job = job_of(loss__prior="plan")
    (found,) = job.classes
    assert found.counts is found.prior
    assert found.counts.sum() == job.steps_per_epoch * 64
    assert found.counts[9] > 6


def test_a_progressive_prior_changes_with_the_epoch():
    job = job_of(method="logit_adjustment", plan__name="progressive", train__epochs=4)
    (found,), (loss,) = job.classes, job.losses
    assert found.prior.shape == (4, 10)
    np.testing.assert_allclose(found.prior[0], found.counts / found.counts.sum())
    np.testing.assert_allclose(found.prior[3], 0.1)
    shift = loss.init(found.counts, found.prior)[0]
    np.testing.assert_allclose(shift[1], log_prior(found.prior[1]), rtol=1e-6)
    config = configs.resolve(small_config(plan__name="progressive", train__epochs=4))
    (sampler,) = job.samplers
    for epoch in range(4):  # the last one that was trained, where training stopped early
        for steps in (epoch * sampler.steps_per_epoch + 1, (epoch + 1) * sampler.steps_per_epoch):
            prior = final_prior(config, found.counts, sampler, steps)
            np.testing.assert_allclose(prior / prior.sum(), found.prior[epoch])


def test_class_balanced_batches_leave_nothing_to_correct():
    """As in a second stage: cRT with logit adjustment is cRT."""
    job = job_of(method="logit_adjustment", plan__name="class_balanced")
    (found,), (loss,) = job.classes, job.losses
    np.testing.assert_allclose(loss.init(*found)[0], np.log(0.1), rtol=1e-6)
