"""What an evaluation scores: no image that was trained on."""

import json

import numpy as np
import pytest

from ltjax.augment.opencv import cv2
from ltjax.data.arrays import digits
from ltjax.data.load import DataConfig
from ltjax.errors import InputError
from ltjax.serving.evaluate import evaluate
from ltjax.serving.scored import read_scored
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from ltjax.training.workdir import read_finished
from tests.helpers import tiny_config

pytestmark = pytest.mark.slow
SPLIT = {"data__test_per_class": 7, "data__seed": 0, "train__epochs": 1}


def write(path, first=0, last=600):
    found = digits()
    np.savez(path, images=found.images[first:last], labels=found.labels[first:last])
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on a file without a test part, and the file."""
    folder = tmp_path_factory.mktemp("scored")
    file = write(folder / "a.npz")
    config = tiny_config(data__name="npz", data__path=file, data__imbalance_factor=5.0, **SPLIT)
    run(config, folder / "run", watcher=SilentWatcher())
    return folder / "run", file


@pytest.mark.parametrize(("key", "before"), [("seed=1", 0), ("test_per_class=19", 7)])
def test_the_test_part_of_the_run_is_not_drawn_again(trained, command, key, before):
    code, said = command("--mode=evaluate", "--workdir", trained[0], f"--config.data.{key}")
    assert code == 2
    assert said.count("\n") == 1
    shown = key.replace("=", " = ")
    assert f"config.data.{shown} would score images that were trained on; leave it out" in said
    assert said.endswith(f"set apart with {before}\n")


def test_none_is_the_seed_of_the_run(trained, command):
    code, said = command("--mode=evaluate", "--workdir", trained[0], "--config.data.seed=None")
    assert code == 0, said


def test_keys_that_move_no_test_image_may_change(trained):
    stored = json.loads((trained[0] / "result.json").read_text())
    own = {"name": "npz", "path": trained[1], "test_per_class": 7}
    for more in ({"imbalance_factor": 3.0}, {"profile": "as_is"}, {"validation_fraction": 0.2}):
        found = evaluate(trained[0], DataConfig(**own, **more))
        assert found["test"]["accuracy"] == pytest.approx(stored["test"]["accuracy"])


def test_a_data_set_that_was_moved_is_known_again(trained, tmp_path):
    finished = read_finished(trained[0])
    moved = write(tmp_path / "b.npz")
    own = read_scored(finished, DataConfig(name="npz", path=moved, test_per_class=7))
    assert own.fingerprint() == finished.dataset["fingerprint"]["test"]
    with pytest.raises(InputError, match=r"data.seed = 5 would score images that were trained on"):
        read_scored(finished, DataConfig(name="npz", path=moved, test_per_class=7, seed=5))
    link = tmp_path / "link.npz"
    link.symlink_to(trained[1])
    with pytest.raises(InputError, match=r"data.test_per_class = 50 would score"):
        read_scored(finished, DataConfig(name="npz", path=str(link)))


def test_pictures_that_were_decoded_first_are_known_again(tmp_path):
    source = digits()
    for index in range(200):
        folder = tmp_path / "old" / f"c{source.labels[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{index}.png"), source.images[index])
    config = tiny_config(
        data__name="folder", data__dir=str(tmp_path / "old"), data__profile="as_is",
        data__image_size=8, **SPLIT,
    )  # fmt: skip
    run(config, tmp_path / "run", watcher=SilentWatcher())
    (tmp_path / "old").rename(tmp_path / "new")
    moved = {"name": "folder", "dir": str(tmp_path / "new"), "image_size": 8}
    finished = read_finished(tmp_path / "run")
    assert len(read_scored(finished, DataConfig(**moved, test_per_class=7))) == 70
    with pytest.raises(InputError, match=r"data.seed = 9 would score images that were trained on"):
        read_scored(finished, DataConfig(**moved, test_per_class=7, seed=9))
