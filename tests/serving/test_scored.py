"""What an evaluation scores: no image that was trained on."""

import json

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.augment.opencv import cv2
from ltjax.data.arrays import digits
from ltjax.data.load import DataConfig
from ltjax.errors import InputError
from ltjax.main import main
from ltjax.serving.evaluate import evaluate
from ltjax.serving.scored import read_scored, stored_data
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from ltjax.training.workdir import FinishedRun, read_finished
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
    assert own.images.fingerprint() == finished.dataset["fingerprint"]["test"]
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
    assert len(read_scored(finished, DataConfig(**moved, test_per_class=7)).images) == 70
    with pytest.raises(InputError, match=r"data.seed = 9 would score images that were trained on"):
        read_scored(finished, DataConfig(**moved, test_per_class=7, seed=9))


def test_of_another_source_without_a_test_part_all_images_are_scored(
    trained, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("ltjax.main._start_jax", lambda devices: None)
    other = write(tmp_path / "other.npz", 900, 1797)
    where = ["--config.data.name=npz", f"--config.data.path={other}"]
    args = ["ltjax", "--mode=evaluate", "--workdir", str(trained[0]), *where]
    out = tmp_path / "out.json"
    assert main([*args, f"--output={out}", "--config.data.seed=1"]) == 0
    assert "images             897, all images of the source, which has no test part\n" in (
        capfd.readouterr().out
    )
    assert json.loads(out.read_text())["data"]["images"] == 897
    assert main([*args, "--config.data.limit=100"]) == 0
    assert "but for 79" in capfd.readouterr().out


def test_of_another_source_with_a_test_part_that_is_scored(trained, tmp_path):
    found = digits()
    parts = {"images": found.images[600:700], "labels": found.labels[600:700]}
    tests = {f"test_{name}": values[:30] for name, values in parts.items()}
    np.savez(tmp_path / "c.npz", **parts, **tests)
    data = DataConfig(name="npz", path=str(tmp_path / "c.npz"))
    images, part, _ = read_scored(read_finished(trained[0]), data)
    assert (len(images), part) == (30, "the test part of the source")


def test_the_own_test_part_is_named(trained):
    assert evaluate(trained[0])["data"]["part"] == "held out of the training"


def test_classes_of_another_source_without_images_are_named(trained, tmp_path):
    found = digits()
    some = np.flatnonzero(found.labels != 3)[:90]
    np.savez(tmp_path / "d.npz", images=found.images[some], labels=found.labels[some])
    data = evaluate(trained[0], DataConfig(name="npz", path=str(tmp_path / "d.npz")))["data"]
    assert data["images"] == 90
    assert any("1 class has no test image" in line for line in data["notes"])


def test_a_stored_place_that_is_not_read_is_left_out(tmp_path):
    config = configs.resolve(tiny_config(data__dir="TFDS_DIR", data__test_path="b.npz"))
    plain = configs.resolve(tiny_config())
    assert stored_data(FinishedRun(tmp_path, config)) == plain.data
