"""The loop: outputs, resume bit for bit, refusals, damaged checkpoints."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest

from ltjax import config as configs
from ltjax import report
from ltjax.errors import Interrupted
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.progress import SilentWatcher, read_metrics
from ltjax.training.run import run as train
from ltjax.training.safety import locked
from tests.helpers import small_config
from tests.training.watchers import KillAt, Killed, Notes

pytestmark = pytest.mark.slow


NOTES = Notes()


def run(config, folder, watcher=None):
    return train(config, folder, watcher=watcher or SilentWatcher())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the small configuration."""
    folder = tmp_path_factory.mktemp("run")
    NOTES.lines.clear()  # a worker may come to this file twice
    return run(small_config(), folder, NOTES)


def final_state(folder, config):
    """Leaves of the newest checkpoint, as NumPy arrays."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    step = max(checkpoints._manager.all_steps())
    raw = checkpoints._manager.restore(step)
    checkpoints.close()
    return step, raw["state"]


def test_result_has_what_the_readme_says(finished):
    result = json.loads((finished.workdir / "result.json").read_text())
    assert result == finished.result
    assert set(result["test"]) == {
        "accuracy", "balanced_accuracy", "many", "medium", "few", "per_class", "top5",
        "worst_class", "harmonic_mean", "geometric_mean", "macro_f1", "head_to_tail", "nll",
        "ece", "classwise_ece",
    }  # fmt: skip
    low, high = result["intervals"][0]["balanced_accuracy"]
    assert low <= result["test"]["balanced_accuracy"] <= high
    kept = json.loads((finished.workdir / "evaluation.json").read_text())
    hits = np.trace(np.array(kept["confusion"]))
    np.testing.assert_allclose(result["test"]["accuracy"], hits / np.sum(kept["confusion"]))
    with np.load(finished.workdir / "predictions.npz") as found:
        confusion = np.zeros((10, 10), int)
        np.add.at(confusion, (found["labels"], found["predictions"]), 1)
    assert confusion.tolist() == kept["confusion"]
    train = result["train"]
    assert train["class_counts"] == [128, 91, 65, 47, 33, 24, 17, 12, 8, 6]
    assert train["steps"] == 4 * 7
    assert train["images_per_second"] > 0
    assert result["seed"] == 0
    assert result["versions"]["jax"] == jax.__version__
    per_class = result["test"]["per_class"]
    np.testing.assert_allclose(result["test"]["balanced_accuracy"], np.mean(per_class))
    for name in ("config.json", "dataset.json", "diagnostics.json", "metrics.jsonl"):
        assert (finished.workdir / name).exists()
    assert list((finished.workdir / "tensorboard").glob("events*"))


def test_metrics_have_one_line_a_log_step(finished):
    lines = read_metrics(finished.workdir / "metrics.jsonl")
    assert [m["step"] for m in lines if "train/loss" in m] == [7, 14, 21, 28]
    assert [m["step"] for m in lines if "test/accuracy" in m] == [14, 28]


def test_whitening_spreads_the_spectrum(finished):
    diagnostics = json.loads((finished.workdir / "diagnostics.json").read_text())
    before, after = diagnostics["before_whitening"], diagnostics["after_whitening"]
    lacks = [16 - part["effective_rank"] for part in (before, after)]
    assert lacks[1] < lacks[0]
    assert after["mean_abs_correlation"] < before["mean_abs_correlation"]


def test_finished_run_says_so_and_stays(finished):
    before = (finished.workdir / "result.json").stat().st_mtime_ns
    again = run(small_config(), finished.workdir)
    assert again.finished_before
    assert again.result == finished.result
    assert (finished.workdir / "result.json").stat().st_mtime_ns == before


def test_log_window_survives_a_checkpoint_in_its_middle(tmp_path):
    config = small_config(train__log_every_steps=10)
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", KillAt(20))
    run(config, tmp_path / "killed")
    run(config, tmp_path / "whole")
    lines = [
        [
            m["train/loss"]
            for m in read_metrics(tmp_path / name / "metrics.jsonl")
            if "train/loss" in m
        ]
        for name in ("killed", "whole")
    ]
    assert len(lines[0]) == 3
    assert lines[0] == lines[1]


@pytest.mark.parametrize("kill_at", [7, 21])
def test_resume_equals_no_resume_bit_for_bit(finished, tmp_path, kill_at):
    with pytest.raises(Killed):
        run(small_config(), tmp_path, KillAt(kill_at))
    assert not (tmp_path / "result.json").exists()
    resumed = run(small_config(), tmp_path)
    assert resumed.result["test"] == finished.result["test"]
    step, state = final_state(tmp_path, small_config())
    other_step, other = final_state(finished.workdir, small_config())
    assert step == other_step == 28
    jax.tree.map(np.testing.assert_array_equal, state, other)
    lines, whole = (read_metrics(d / "metrics.jsonl") for d in (tmp_path, finished.workdir))
    for line in (*lines, *whole):
        line.pop("train/images_per_second", None)
        line.pop("train/input_share", None)
    assert lines == whole


def test_another_config_is_refused_with_the_keys(finished):
    with pytest.raises(ValueError, match=r"optimizer.learning_rate: 0.1 -> 0.2") as caught:
        run(small_config(optimizer__learning_rate=0.2), finished.workdir)
    assert "another --workdir" in str(caught.value)


def cut_short(finished, tmp_path):
    """A copy of the finished run as if it had been killed right before its end."""
    folder = tmp_path / "copy"
    shutil.copytree(finished.workdir, folder)
    (folder / "result.json").unlink()
    return folder


def damage(checkpoint):
    for file in (checkpoint / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")


def test_damaged_newest_checkpoint_falls_back_and_says_so(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    damage(folder / "checkpoints" / "28")
    watcher = Notes()
    resumed = run(small_config(), folder, watcher)
    assert resumed.result["test"] == finished.result["test"]
    line, _ = watcher.lines  # the other is the exposure
    assert str(folder / "checkpoints" / "28") in line
    assert "going on from step 14" in line
    assert list((folder / "damaged").glob("28-*"))


def test_only_damaged_checkpoints_stop_and_nothing_is_overwritten(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    for step in ("14", "28"):
        damage(folder / "checkpoints" / step)
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(ValueError, match="cannot be read") as caught:
        run(small_config(), folder)
    assert str(folder / "checkpoints" / "28") in str(caught.value)
    assert "\n" not in str(caught.value)
    left = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    assert left == files


@pytest.mark.rounds_alike
def test_several_seeds(finished, tmp_path):
    config = small_config(seeds=(0, 1))
    with pytest.raises(Killed):
        run(config, tmp_path / "killed", KillAt(21))
    result = run(config, tmp_path / "killed").result
    whole = run(config, tmp_path / "whole").result
    assert result["per_seed"] == whole["per_seed"]
    assert result["seeds"] == [0, 1]
    assert result["per_seed"][0] == finished.result["test"]
    both = [s["balanced_accuracy"] for s in result["per_seed"]]
    np.testing.assert_allclose(result["test"]["balanced_accuracy"], np.mean(both))
    np.testing.assert_allclose(result["test_std"]["balanced_accuracy"], np.std(both, ddof=1))
    last = read_metrics(tmp_path / "killed" / "metrics.jsonl")[-1]
    assert last["test/balanced_accuracy/seed1"] == both[1]


def test_second_process_is_refused(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    with locked(folder), pytest.raises(ValueError, match="is in use by process"):
        run(small_config(), folder)


class SignalAt(SilentWatcher):
    """Sends a signal to this process at the first log at or after a step."""

    def __init__(self, step, number):
        self.at, self.number, self.sent = step, number, False

    def update(self, step, text):
        if step >= self.at and not self.sent:
            self.sent = True
            signal.raise_signal(self.number)


SIGNALS = [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_signal_writes_a_checkpoint_at_once(finished, tmp_path, number, code):
    with pytest.raises(Interrupted) as caught:
        run(small_config(), tmp_path, SignalAt(7, number))
    if number == signal.SIGHUP:  # a terminal may send a second one, which is ignored
        assert signal.getsignal(number) is signal.SIG_IGN
        signal.signal(number, signal.SIG_DFL)
    assert caught.value.exit_code == code
    assert final_state(tmp_path, small_config())[0] == 8
    assert run(small_config(), tmp_path).result["test"] == finished.result["test"]


def test_checkpoint_of_another_model_is_refused(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    other = small_config(model__hidden=(8,))
    (folder / "config.json").write_text(json.dumps(configs.resolve(other).nested()))
    with pytest.raises(ValueError, match=r"checkpoint .*28"):
        run(other, folder)


def test_exposure_is_told_before_training(finished):
    (line,) = NOTES.lines
    assert line.startswith("in 4 epochs the rarest image (class 9, 6 images) will")
    seen = json.loads((finished.workdir / "dataset.json").read_text())["exposure"]
    assert sum(seen["class_epoch"]) == 7 * 64
    assert sum(seen["class_schedule"]) == 4 * 7 * 64


def test_changed_data_is_refused(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    other = small_config(data__test_per_class=60)
    (folder / "config.json").write_text(json.dumps(configs.resolve(other).nested()))
    with pytest.raises(ValueError, match="the data has changed"):
        run(other, folder)


def test_a_plan_that_draws_otherwise_is_refused(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    other = small_config(plan__balance=0.4)
    (folder / "config.json").write_text(json.dumps(configs.resolve(other).nested()))
    with pytest.raises(ValueError, match=r"fingerprint \w{16}.*, not .*balance=0.4"):
        run(other, folder)


def test_damaged_config_is_named(finished, tmp_path):
    folder = cut_short(finished, tmp_path)
    (folder / "config.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match=r"config.json cannot be read as JSON"):
        run(small_config(), folder)


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        run(small_config(), tmp_path / "file" / "run")


def test_diverging_loss_stops_with_a_line(tmp_path):
    config = small_config(
        optimizer__learning_rate=1e6,
        optimizer__weight_decay=1e6,
        method="ce",
        optimizer__warmup_epochs=0,
    )
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d \(seed 0\)") as caught:
        run(config, tmp_path)
    assert "largest parameters: " in str(caught.value)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_skipped_updates_are_counted(tmp_path):
    config = small_config(
        optimizer__learning_rate=1e6, optimizer__warmup_epochs=0, train__on_nan="skip"
    )
    result = run(config, tmp_path).result
    assert 20 < result["train"]["skipped_updates"] < 28


def test_profile_of_some_steps(tmp_path):
    """Also within a dispatch of seven steps, of which the window is a part."""
    run(small_config(train__epochs=2, profile_steps=(8, 10), engine__steps_per_call=7), tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_report_is_self_contained(finished):
    path = report.write(finished.workdir)
    text = path.read_text()
    assert text.count("<svg") == 8
    assert "the rarest image (class 9, 6 images) will" in text
    # Its pictures are in the page itself.
    assert text.count("src=") == text.count('src="data:image/png;base64,') > 0
    for outside in ("<link", "<script", "@import", "url(http"):
        assert outside not in text
    assert f"{100 * finished.result['test']['balanced_accuracy']:.1f}%" in text
    assert path.stat().st_size < 3e6
    drawn = sorted(p.name for p in (finished.workdir / "figures").iterdir())
    assert len(drawn) == 14
    assert "confusion.png" in drawn
    assert "confusion.svg" in drawn
    card = (finished.workdir / "report.md").read_text()
    for part in (
        "balanced accuracy",
        "Command:",
        "condition number of the Hessian",
        "Fingerprints",
    ):
        assert part in card


def test_diagnostics_are_logged_at_every_evaluation(finished):
    lines = read_metrics(finished.workdir / "metrics.jsonl")
    evaluated = [line for line in lines if "test/balanced_accuracy" in line]
    assert len(evaluated) == 2
    stored = json.loads((finished.workdir / "diagnostics.json").read_text())
    for name in ("before_whitening", "after_whitening"):
        last = evaluated[-1][f"diagnostics/{name}/effective_rank"]
        np.testing.assert_allclose(last, stored[name]["effective_rank"], rtol=1e-6)
    assert len(stored["classifier"]["weight_norms"]) == 10
