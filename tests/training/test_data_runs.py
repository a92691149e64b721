"""Whole runs on every kind of source, shrunk by `runlocal`."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ltjax import config as configs
from ltjax import report
from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run as train
from tests.data.pictures import encoded, picture, write_folder
from tests.helpers import SHARED, needs_data

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# A small network: what is tested is the data's way through the run.
SMALL = {
    "method": "logit_adjustment",
    "model__name": "mlp",
    "model__hidden": (8,),
    "data__image_size": 16,
    "data__limit": 96,
    "train__batch_size": 32,
}


def load(name):
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


class Told(SilentWatcher):
    """Keeps what a user is told."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def shrunk(name, **overrides):
    """A recipe with `runlocal` and a small network."""
    config = load(name)
    config.runlocal = True
    # The small network has no weights of others, and too few blocks to freeze some.
    whole = {"model__weights": "", "finetune__train": "all"}
    for key, value in {**SMALL, **whole, **overrides}.items():
        configs.put(config, key.replace("__", "."), value)
    return config


def run(name, folder, watcher=None, **overrides):
    return train(shrunk(name, **overrides), folder, watcher=watcher or SilentWatcher())


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_configs_resolve_and_say_what_to_expect(path):
    config = load(path.stem)
    configs.resolve(config)
    config.runlocal = True
    small = configs.resolve(config)
    assert small.train.epochs <= 2
    assert small.data.limit <= 512
    assert small.model.dtype == "float32"
    if small.model.name == "resnet50":
        assert small.data.limit * (small.data.image_size or 32) <= 64 * 32
    assert configs.resolve(small) == small
    text = path.read_text()
    for word in ("Command:", "Time:", "Accuracy:"):
        assert word in text
    assert f"ltjax --config {path.stem}" in text


@needs_data
@pytest.mark.parametrize("name", ["cifar10_lt", "cifar100_lt"])
def test_tfds(tmp_path, name):
    folder = str(SHARED / "tfds")
    outcome = run(name, tmp_path, data__name=name, data__dir=folder, data__image_size=None)
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["image_shape"] == [32, 32, 3]
    assert described["class_names"][0] in ("airplane", "apple")
    assert outcome.result["test"]["accuracy"] is not None


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return write_folder(root, {"ant": 40, "bee": 30, "cat": 20, "дом": 15})


def test_folder_resident_and_streamed_see_the_same_images(tmp_path, images):
    common = {"data__dir": str(images), "augment__max_shift": 0, "augment__flip": False}
    one = run("folder", tmp_path / "resident", data__residency="resident", **common)
    other = run("folder", tmp_path / "streamed", data__residency="streamed", **common)
    assert one.result["test"] == other.result["test"]
    assert report.write(other.workdir).exists()


def test_a_long_tail_as_it_comes_trains_predicts_and_exports(tmp_path):
    """Sizes 1 to 400, a damaged file, a nested folder, a .ppm, odd names; no setting changed."""
    from ltjax.serving import export
    from ltjax.serving.load import load as trained
    from ltjax.serving.predict import predict

    names = ("helicopter called airplanes", "x" * 60, "\U0001f99c", "\u9e1f", "<b>", "$x$")
    sizes = dict(zip(names, (1, 1, 2, 3, 50, 400), strict=True))
    root = write_folder(tmp_path / "set", sizes, size=(12, 12))
    (root / "$x$" / "7.jpg").write_bytes(b"no image")
    (root / "<b>" / "deep").mkdir()
    (root / "<b>" / "3.jpg").rename(root / "<b>" / "deep" / "3.jpg")
    (root / "\u9e1f" / "0.jpg").unlink()
    (root / "\u9e1f" / "0.ppm").write_bytes(encoded(picture(12, 12), "ppm"))
    told = Told()
    outcome = run("folder", tmp_path / "run", told, data__dir=str(root))
    assert outcome.result["train"]["class_counts"][:2] == [85, 10]
    assert sorted(outcome.result["train"]["class_counts"])[:4] == [1, 1, 1, 1]
    assert outcome.result["test"]["per_class"].count(None) == 2
    for words in ("deep/3.jpg", "no test image", names[0]):
        assert any(words in line for line in told.lines), words
    assert report.write(outcome.workdir).exists()
    network = trained(tmp_path / "run")
    done = predict(network, root, tmp_path / "out.csv")
    assert (done.predicted, len(done.skipped)) == (456, 1)
    assert "7.jpg" in str(done.skipped)
    export.write(network, tmp_path / "exported")
    assert (tmp_path / "exported" / "run.py").exists()


def test_folder_streamed_with_crops_resumes_bit_for_bit(tmp_path, images):
    settings = {
        "data__dir": str(images),
        "augment__crop_area": 0.3,
        "augment__colour_jitter": 0.2,
        "seeds": (0, 1),
    }
    whole = run("folder", tmp_path / "whole", **settings)

    class Stop(SilentWatcher):
        def update(self, step, text):
            if step == 4:
                raise KeyboardInterrupt

    config = shrunk("folder", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", watcher=Stop())
    resumed = train(config, tmp_path / "killed", watcher=SilentWatcher())
    assert resumed.result["per_seed"] == whole.result["per_seed"]


def test_list(tmp_path, images):
    lines = [f"{p.relative_to(images)} {i % 3}" for i, p in enumerate(sorted(images.glob("*/*")))]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "test.txt").write_text("\n".join(lines[:20]))
    outcome = run(
        "places_lt",
        tmp_path / "run",
        data__path=str(tmp_path / "train.txt"),
        data__test_path=str(tmp_path / "test.txt"),
        data__dir=str(images),
    )
    assert len(outcome.result["test"]["per_class"]) == 3


def test_npz(tmp_path):
    labels = np.arange(120) % 3
    stack = np.stack([picture(16, 16, seed=i) for i in range(120)])
    np.savez(tmp_path / "set.npz", images=stack, labels=labels, class_names=["a", "b", "ü"])
    outcome = run(
        "folder",
        tmp_path / "run",
        data__name="npz",
        data__path=str(tmp_path / "set.npz"),
        data__profile="pareto",
        data__imbalance_factor=4.0,
    )
    assert outcome.result["train"]["class_counts"] == [35, 14, 8]


def test_simulated_tfds_of_any_image_size(tmp_path):
    import tensorflow_datasets as tfds

    few = pytest.warns(UserWarning, match="no sampler draws")  # 40 images of 1,000 classes
    with tfds.testing.mock_data(num_examples=40), few:
        outcome = run("imagenet_lt", tmp_path, data__limit=40, train__batch_size=16)
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described["image_shape"] == [16, 16, 3]
    assert sum(outcome.result["train"]["class_counts"]) == 40


def test_damaged_images(tmp_path, images):
    import shutil

    shutil.copytree(images, tmp_path / "set")
    damaged = tmp_path / "set" / "bee" / "3.jpg"
    damaged.write_bytes(b"nothing")
    settings = {"data__dir": str(tmp_path / "set"), "data__residency": "resident"}
    with pytest.raises(ValueError, match=r"bee/3.jpg cannot be read"):
        run("folder", tmp_path / "stops", data__skip_corrupt=False, **settings)
    outcome = run("folder", tmp_path / "goes", **settings)
    (reason,) = outcome.result["train"]["damaged_images"]
    assert "bee/3.jpg" in reason


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"data__name": "cifar1000"}, r"data.name = 'cifar1000' is no source of ltjax"),
        (
            {"data__name": "cifar100"},
            r"no train split in array_record files in .*tfds build cifar100",
        ),
        ({"data__name": "folder", "data__dir": "nowhere"}, r"data.dir = 'nowhere'"),
        ({"data__name": "list", "data__path": "nowhere"}, r"data.path = 'nowhere'"),
        ({"data__max_count": 10**6, "data__name": "digits"}, r"data.max_count = 1000000 asks for"),
    ],
)
def test_bad_input(tmp_path, overrides, words):
    if overrides["data__name"] == "cifar100":
        overrides = {**overrides, "data__dir": str(tmp_path)}
    with pytest.raises(ValueError, match=words):
        run("cifar10_lt", tmp_path / "run", **overrides)
