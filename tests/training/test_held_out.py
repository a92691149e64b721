"""Early stopping on held-out images, and the best network that later commands can take."""

import json
import shutil

import jax
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.evaluation.details import HeldOut
from ltjax.serving.load import load, load_all
from ltjax.training import held_out
from ltjax.training.held_out import Best
from ltjax.training.run import run as train
from ltjax.training.workdir import write_json
from tests.helpers import tiny_config
from tests.training.watchers import KillAt, Killed, Notes, saved

# Held-out scores of the epochs; after the third nothing is better for two epochs.
SCORES = [0.2, 0.5, 0.6, 0.6, 0.55, 0.9]
STEPS = 6  # of an epoch


def config(**overrides):
    settings = {
        "train__epochs": 6,
        "train__early_stopping": 2,
        "train__log_every_steps": STEPS,
        "evaluation__every_epochs": 1,
        "checkpoint__every_epochs": 4,
        "data__validation_fraction": 0.2,
        "seeds": (0, 1),
    }
    return tiny_config(**(settings | overrides))


def scripted(held, counts, step):
    """The score of `SCORES` in place of the network's own."""
    assert len(held) == 2  # seeds
    return Best(step, SCORES[step // STEPS - 1], 1.0)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Folder, result and notes of a run that stops early."""
    folder, notes = tmp_path_factory.mktemp("stopped"), Notes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "scored", scripted)
        return folder, train(config(), folder, watcher=notes).result, notes


def leaves(networks):
    return [np.asarray(x) for one in networks for x in jax.tree.leaves(one.variables)]


@pytest.mark.slow
def test_it_stops_and_keeps_the_best(stopped):
    folder, result, notes = stopped
    assert result["train"]["steps"] == 5 * STEPS
    assert result["train"]["epochs"] == 5
    assert result["train"]["kept_step"] == result["best"]["step"] == 3 * STEPS
    assert "early stopping: trained to epoch 5, kept epoch 3" in "\n".join(notes.lines)
    for one, other in zip(leaves(load_all(folder)), leaves(load_all(folder, "best")), strict=True):
        np.testing.assert_array_equal(one, other)
    assert load(folder).temperature == pytest.approx(result["best"]["temperature"])


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(stopped, tmp_path, monkeypatch):
    folder, result, _ = stopped
    monkeypatch.setattr(held_out, "scored", scripted)
    with pytest.raises(Killed):
        train(config(), tmp_path / "early", watcher=KillAt(4 * STEPS))
    assert saved(tmp_path / "early")
    shutil.copytree(folder, tmp_path / "late")  # killed after the training, before its result
    (tmp_path / "late" / "result.json").unlink()
    for name in ("early", "late"):
        again = train(config(), tmp_path / name, watcher=Notes()).result
        for key in ("test", "per_seed", "best", "post_hoc"):
            assert again[key] == result[key]


@pytest.mark.slow
def test_the_best_can_be_another_than_the_result(stopped, tmp_path):
    folder, result, _ = stopped
    shutil.copytree(folder, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    stored["train"]["kept_step"] = 5 * STEPS  # as of a run that does not stop early
    write_json(tmp_path / "run" / "result.json", stored)
    last, best = load(tmp_path / "run"), load(tmp_path / "run", "best")
    assert best.temperature == result["best"]["temperature"]
    assert any(np.any(a != b) for a, b in zip(leaves([last]), leaves([best]), strict=True))
    del stored["best"]
    write_json(tmp_path / "run" / "result.json", stored)
    with pytest.raises(InputError, match=r"--checkpoint = best is not allowed .* validation"):
        load(tmp_path / "run", "best")


def test_early_stopping_needs_held_out_images(tmp_path):
    with pytest.raises(InputError, match="early_stopping = 2 is not allowed without held-out"):
        train(config(data__validation_fraction=0.0), tmp_path)
    assert not list(tmp_path.iterdir())


def test_scores_are_means_over_seeds():
    labels = np.array([0, 0, 1])
    right, wrong = (np.eye(2)[y] * 9 for y in (labels, 1 - labels))
    found = held_out.scored([HeldOut(labels, right), HeldOut(labels, wrong)], np.array([5, 2]), 7)
    assert found.balanced_accuracy == 0.5
    assert found.nll == pytest.approx(4.5, abs=0.01)
