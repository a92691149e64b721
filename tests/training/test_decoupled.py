"""Stage two: what it trains and what it leaves, heads by hand, resume, refusals."""

import shutil

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.config.recipes import STAGES
from ltjax.data.sources import ArraySource
from ltjax.errors import InputError
from ltjax.report.read import read_run
from ltjax.training import decoupled
from ltjax.training.build import build
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.devices import Mapping, choose_devices
from ltjax.training.multi_seed import Seeds
from ltjax.training.progress import SilentWatcher
from ltjax.training.restore import restore_states
from ltjax.training.run import run as train
from ltjax.training.workdir import read_finished
from tests.helpers import small_config
from tests.training.watchers import KillAt, Killed, saved

pytestmark = pytest.mark.slow
HELD_OUT = {"data__validation_fraction": 0.2}
METHOD = {"method": "cw", "train__epochs": 3, **HELD_OUT}


def run(folder, watcher=None, **overrides):
    config = small_config(**{**METHOD, **overrides})
    return train(config, folder, watcher=watcher or SilentWatcher())


def final(folder):
    """Parameters and batch statistics of the newest checkpoint."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    raw = checkpoints._manager.restore(checkpoints.steps()[-1])["state"]
    checkpoints.close()
    # One seed, so the axis of seeds has length 1.
    return jax.tree.map(lambda x: np.asarray(x)[0], (raw["params"], raw["batch_stats"]))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Workdir of a finished stage one."""
    folder = tmp_path_factory.mktemp("one")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    """Runs a stage two once; returns its report."""
    done = {}

    def get(stage):
        if stage not in done:
            folder = tmp_path_factory.mktemp(stage)
            done[stage] = run(folder, stage=stage, init_from=str(first))
        return done[stage]

    return get


@pytest.mark.parametrize("stage", [s for s in STAGES if s != "one"])
def test_backbone_and_statistics_stay_as_they_were(first, second, stage):
    outcome = second(stage)
    params, stats = final(outcome.workdir)
    old_params, old_stats = final(first)
    jax.tree.map(np.testing.assert_array_equal, params["backbone"], old_params["backbone"])
    jax.tree.map(np.testing.assert_array_equal, stats, old_stats)
    result = outcome.result
    assert result["stage"]["name"] == stage
    assert result["stage"]["init_from"] == str(first)
    # One epoch of stage two is one instance epoch.
    steps = result["train"]["steps"]
    assert steps == (3 * -(-sum(result["train"]["class_counts"]) // 64) if stage in TRAINED else 0)
    assert 0 <= result["test"]["balanced_accuracy"] <= 1
    assert read_run(outcome.workdir).name == f"cw + {stage}"


TRAINED = ("crt", "lws", "marc", "max_norm")


def test_lws_trains_the_scales_alone(first, second):
    head, old = final(second("lws").workdir)[0]["head"], final(first)[0]["head"]
    jax.tree.map(np.testing.assert_array_equal, head["dense"], old["dense"])
    assert np.ptp(head["scale"]) > 1e-3


def test_marc_trains_the_calibration_alone(first, second):
    head, old = final(second("marc").workdir)[0]["head"], final(first)[0]["head"]
    jax.tree.map(np.testing.assert_array_equal, head["dense"], old["dense"])
    assert np.ptp(head["calibration"]["scale"]) > 1e-3
    assert np.ptp(head["calibration"]["margin"]) > 1e-3


def test_max_norm_keeps_the_class_vectors_within_their_ball(first, second):
    outcome = second("max_norm")
    head, old = final(outcome.workdir)[0]["head"], final(first)[0]["head"]["dense"]
    norms = np.linalg.norm(old["kernel"].astype(np.float64), axis=0)
    radius = norms.min() + 0.1 * (norms.max() - norms.min())
    assert head["radius"] == pytest.approx(radius, rel=1e-6)
    assert outcome.result["stage"]["radius"] == pytest.approx(radius, rel=1e-6)
    found = np.linalg.norm(head["dense"]["kernel"].astype(np.float64), axis=0)
    assert found.max() <= radius * (1 + 1e-6)
    assert found.max() >= radius * (1 - 1e-6)  # they grow, and are held there
    assert np.abs(head["dense"]["bias"] - old["bias"]).max() > 1e-3


def test_crt_trains_a_fresh_head(first, second):
    head, old = final(second("crt").workdir)[0]["head"], final(first)[0]["head"]
    assert np.abs(head["dense"]["kernel"] - old["dense"]["kernel"]).max() > 1e-3


def test_posthoc_shifts_the_bias(first, second):
    outcome = second("posthoc_la")
    head, old = final(outcome.workdir)[0]["head"]["dense"], final(first)[0]["head"]["dense"]
    counts = np.array(outcome.result["train"]["class_counts"])
    np.testing.assert_array_equal(head["kernel"], old["kernel"])
    np.testing.assert_allclose(head["bias"], old["bias"] - np.log(counts / counts.sum()), rtol=1e-5)


def at_the_end(folder):
    """The seeds of a finished run, at its end."""
    finished = read_finished(folder)
    mapping = Mapping(choose_devices(finished.config.cpu_devices))
    seeds = Seeds(build(finished.config), mapping)
    seeds.take_over(restore_states(finished, mapping))
    return seeds


def test_ncm_has_the_mean_features_of_the_training_images(first, second):
    kernel = final(second("ncm").workdir)[0]["head"]["kernel"]
    at_end = at_the_end(first)
    train = at_end.job.data.train
    features = at_end.outputs(train, at_end.state_of(0)).whitened.astype(np.float64)
    for label in range(10):
        expected = features[train.labels == label].mean(axis=0)
        np.testing.assert_allclose(kernel[:, label], expected, rtol=1e-4, atol=1e-5)


def test_tau_is_the_best_on_held_out_training_images(first, second):
    outcome = second("tau_norm")
    facts = outcome.result["stage"]
    head, old = final(outcome.workdir)[0]["head"], final(first)[0]["head"]
    np.testing.assert_array_equal(head["kernel"], old["dense"]["kernel"])
    assert head["tau"] == pytest.approx(facts["tau"])
    tried = facts["held_out_balanced_accuracy"]
    assert tried[f"{facts['tau']:.2f}"] == max(tried.values())
    at_end = at_the_end(first)
    held, train = at_end.job.data.validation, at_end.job.data.train
    assert facts["held_out"] == len(held)
    # Held out: of the training set, and not trained on.
    whole = build(configs.resolve(small_config(method="cw"))).data
    images = {x.tobytes() for x in whole.train.images}
    kept, out = ({x.tobytes() for x in part.images} for part in (train, held))
    assert kept | out == images
    assert len(held) + len(train) == len(whole.train)
    features = at_end.outputs(held, at_end.state_of(0)).whitened.astype(np.float64)
    for tau in (0.0, facts["tau"]):
        kernel = old["dense"]["kernel"] / np.linalg.norm(old["dense"]["kernel"], axis=0) ** tau
        hits = np.argmax(features @ kernel, axis=1) == held.labels
        expected = np.mean([hits[held.labels == c].mean() for c in np.unique(held.labels)])
        assert tried[f"{tau:.2f}"] == pytest.approx(expected, abs=0.02)


def test_given_tau_is_taken(first, tmp_path):
    outcome = run(tmp_path, stage="tau_norm", init_from=str(first), decoupled__tau=0.5)
    assert outcome.result["stage"]["tau"] == 0.5
    assert "held_out" not in outcome.result["stage"]


def test_resume_equals_no_resume_bit_for_bit(first, second, tmp_path):
    whole = second("crt")
    with pytest.raises(Killed):
        run(tmp_path, KillAt(12), stage="crt", init_from=str(first))
    assert saved(tmp_path)
    resumed = run(tmp_path, stage="crt", init_from=str(first))
    assert resumed.result["test"] == whole.result["test"]
    jax.tree.map(np.testing.assert_array_equal, final(tmp_path), final(whole.workdir))


def test_finished_needs_stage_one_no_more(first, second, tmp_path):
    outcome = second("posthoc_la")
    copy = tmp_path / "moved"
    shutil.copytree(outcome.workdir, copy)
    gone = tmp_path / "gone"
    config = (copy / "config.json").read_text().replace(str(first), str(gone))
    (copy / "config.json").write_text(config)
    assert run(copy, stage="posthoc_la", init_from=str(gone)).finished_before


REFUSED = {
    "absent": ({"init_from": "/nowhere"}, "init_from = /nowhere does not exist"),
    "no init_from": ({"init_from": ""}, "stage two needs the workdir"),
    "other data": ({"data__imbalance_factor": 10.0}, "data.imbalance_factor: 20.0 -> 10.0"),
    "other model": ({"model__hidden": (8,)}, r"model.hidden: \[16\] -> \[8\]"),
    "other whitening": ({"method": "ce"}, 'whitening.method: "zca" -> "none"'),
    "other head": ({"stage": "lws", "model__head": "linear"}, "use lws or auto"),
    "other held-out images": (
        {"stage": "tau_norm", "data__validation_fraction": 0.0},
        "data.validation_fraction: 0.2 -> 0.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_write_nothing(first, tmp_path, case):
    overrides, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as caught:
        run(tmp_path / "run", **{"stage": "crt", "init_from": str(first), **overrides})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_tau_is_given_or_chosen_on_held_out_images():
    config = small_config(**METHOD, stage="tau_norm", init_from="run")
    with pytest.raises(InputError, match="is not allowed without held-out images"):
        decoupled.check_held_out(config, None)
    config.decoupled.tau = 0.5
    decoupled.check_held_out(config, None)


def test_stage_one_must_be_one_and_finished(first, second, tmp_path):
    with pytest.raises(ValueError, match="is itself a stage two"):
        run(
            tmp_path / "run",
            stage="crt",
            init_from=str(second("ncm").workdir),
            model__head="cosine",
        )
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(first / "config.json", unfinished)
    with pytest.raises(ValueError, match="is not finished"):
        run(tmp_path / "run", stage="crt", init_from=str(unfinished))
    with pytest.raises(ValueError, match="stage one needs none"):
        run(tmp_path / "run", init_from=str(first))
    with pytest.raises(ValueError, match="not allowed in stage one"):
        run(tmp_path / "run", model__head="lws")


def test_linear_heads_only(first, tmp_path):
    cosine = tmp_path / "cosine"
    shutil.copytree(first, cosine)
    text = (cosine / "config.json").read_text().replace('"head": "linear"', '"head": "cosine"')
    (cosine / "config.json").write_text(text)
    with pytest.raises(ValueError, match="needs a linear head"):
        run(tmp_path / "run", stage="lws", init_from=str(cosine))


@pytest.mark.rounds_alike
def test_seeds_go_on_from_their_own_networks(tmp_path):
    """Stage two of two seeds at once is stage two of each."""
    seeds = {"seeds": (3, 4), "data__seed": 0}
    run(tmp_path / "one", **seeds)
    both = run(tmp_path / "two", stage="ncm", init_from=str(tmp_path / "one"), **seeds)
    run(tmp_path / "one4", seed=4, data__seed=0)
    alone = run(
        tmp_path / "two4", stage="ncm", init_from=str(tmp_path / "one4"), seed=4, data__seed=0
    )
    assert both.result["per_seed"][1] == alone.result["test"]
    with pytest.raises(InputError, match="seeds"):
        run(tmp_path / "three", stage="ncm", init_from=str(tmp_path / "one"), data__seed=0)


@pytest.mark.parametrize("stage", ["crt", "posthoc_la"])
def test_a_projector_stays_in_stage_one(tmp_path, stage):
    contrastive = {"loss__contrastive": 0.5, "optimizer__warmup_epochs": 0}
    run(tmp_path / "one", **contrastive)
    run(tmp_path / "two", stage=stage, init_from=str(tmp_path / "one"))
    mapping = Mapping(jax.local_devices()[:1])
    one, two = (
        restore_states(read_finished(tmp_path / name), mapping)[0].params for name in ("one", "two")
    )
    assert set(one) - set(two) == {"projector"}
    jax.tree.map(np.testing.assert_array_equal, one["backbone"], two["backbone"])


def test_a_best_tau_at_the_end_of_the_grid_is_warned_of():
    """Class 1 has the longer weights; the second image is its own only up to some tau."""
    kernel = np.array([[1.0, 1.0], [0.0, 7.0]], np.float32)
    held = ArraySource(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]), ("a", "b"))
    rare_first = np.array([[1.0, 0.5], [0.2, 0.2]], np.float32)
    # At tau the logits are (1, 4.5 / 7.07^tau) and (0.2, 1.6 / 7.07^tau): right from 0.77 to 1.06.
    tau, tried = decoupled.best_tau(rare_first, kernel, held)
    assert tau == 0.95  # the later one of the two in the middle
    right = [tau for tau, score in tried.items() if score == 1]
    assert right == ["0.80", "0.85", "0.90", "0.95", "1.00", "1.05"]
    with pytest.warns(UserWarning, match="the largest tau tried, 5, is among the best"):
        decoupled.best_tau(np.array([[1.0, 0.5], [0.0, 0.2]], np.float32), kernel, held)
