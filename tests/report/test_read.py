"""A finished workdir is read and checked once; what is absent or damaged is told in one line."""

import json
import shutil

import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.report.read import FILES, read_run
from tests.report.workdirs import COUNTS, write_workdir


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("record") / "run")


@pytest.fixture
def copy(workdir, tmp_path):
    return shutil.copytree(workdir, tmp_path / "copy")


def test_one_seed(workdir):
    run = read_run(workdir)
    stored = json.loads((workdir / "result.json").read_text())
    assert run.test["accuracy"] == stored["test"]["accuracy"]
    assert run.test_std == {}
    assert run.seeds == (0,)
    assert run.title == "digits, ce, seed 0"
    assert run.training.class_counts == COUNTS
    assert run.config["train.epochs"] == 1
    assert run.nested_config["train"] == {"epochs": 1}
    assert run.spread("few") == run.intervals["few"]
    assert len(run.mistakes) == len(
        json.loads((workdir / "evaluation.json").read_text())["confused"]
    )
    assert [line["step"] for line in run.metrics] == [1, 1, 2]


def test_several_seeds_spread_by_their_deviation(tmp_path):
    run = read_run(write_workdir(tmp_path / "run", seeds=(0, 1)))
    mean, std = run.test["few"], run.test_std["few"]
    assert run.spread("few") == (mean - std, mean + std)
    assert run.seeds_text == "seeds 0, 1"


def test_unfinished(tmp_path):
    with pytest.raises(InputError, match=r"is not finished \(it has no result.json\)"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_an_absent_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        read_run(copy)


@pytest.mark.parametrize("name", ["result.json", *FILES])
def test_a_damaged_file_is_named_in_one_line(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=name) as caught:
        read_run(copy)
    assert "\n" not in str(caught.value)
    assert "restore it" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("result.json", ["train", "class_counts"]),
        ("result.json", ["test", "per_class"]),
        ("dataset.json", ["class_names"]),
        ("dataset.json", ["exposure", "class_counts"]),
        ("diagnostics.json", ["before_whitening", "spectrum"]),
        ("evaluation.json", ["confusion"]),
        ("evaluation.json", ["confused"]),
    ],
)
@pytest.mark.parametrize("value", ["absent", 3, [1.5, "x"]])
def test_what_does_not_fit_is_refused(copy, name, keys, value):
    content = json.loads((copy / name).read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if value == "absent":
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    (copy / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"{name} is not what a finished run writes"):
        read_run(copy)


def test_images_and_errors_agree(copy):
    np.savez(copy / "confused.npz", images=np.zeros((1, 4, 4, 1), np.uint8))
    with pytest.raises(InputError, match="do not agree"):
        read_run(copy)


def test_a_run_without_metrics_can_be_read(copy):
    (copy / "metrics.jsonl").unlink()
    assert read_run(copy).metrics == ()
