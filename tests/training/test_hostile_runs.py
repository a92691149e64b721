"""Hostile data through the command line: train, evaluate and predict end with one line."""

import os
import signal

import numpy as np
import pytest

from ltjax.training.progress import SilentWatcher
from ltjax.training.run import run
from tests.data.hostile import ARCHIVES, IMAGES, LISTS, PICTURES, archive, npy, plant
from tests.data.pictures import write_folder
from tests.helpers import SMALLEST, small_config
from tests.test_main import CONFIG, call

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # of ml_collections
]
ODD = ("fifo.png", "zeros.png", "sparse.png", "strip.png", "square.tiff")
AS_IS = ["--config.data.profile=as_is", "--config.data.test_per_class=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a run of one epoch on images 8 x 8."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    run(small_config(train__epochs=1), folder, watcher=SilentWatcher())
    return folder


@pytest.fixture
def refused(tmp_path, monkeypatch, command):
    """Calls the command line in this process; gives its one line, after at most 100 seconds."""

    def bark(number, frame):
        raise AssertionError("the command took longer than 100 seconds")

    before = signal.signal(signal.SIGALRM, bark)
    monkeypatch.setenv("LTJAX_CACHE_DIR", str(tmp_path / "cache"))

    def call_here(*args):
        signal.alarm(100)
        code, said = command(*args)
        signal.alarm(0)
        assert code == 2, said
        *progress, last = said.splitlines()
        assert last.startswith("ltjax: error: "), said
        assert not progress or progress[0].startswith("in 1 epoch"), said  # a streamed run
        assert "Traceback" not in said
        return last

    yield call_here
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def given(path, kind):
    return [f"--config.data.name={kind}", f"--config.data.path={path}", *AS_IS]


@pytest.mark.parametrize("name", ["plain_array", "bomb", "label_2^40", "encrypted", "other_size"])
def test_archives(name, refused, finished, tmp_path):
    content, _ = ARCHIVES[name]
    (tmp_path / "set.npz").write_bytes(content)
    workdir = tmp_path / "run"
    line = refused(*CONFIG, *given(tmp_path / "set.npz", "npz"), "--workdir", workdir)
    assert "set.npz" in line
    changed = given(tmp_path / "set.npz", "npz")[:2]
    assert "set.npz" in refused("--mode=evaluate", "--workdir", finished, *changed)
    if name in ("plain_array", "bomb", "encrypted"):
        (tmp_path / "out.csv").write_text("as it was")
        paths = ["--input", tmp_path / "set.npz", "--output", tmp_path / "out.csv"]
        assert "set.npz" in refused("--mode=predict", "--workdir", finished, *paths)
        assert (tmp_path / "out.csv").read_text() == "as it was"
    assert not (workdir / "result.json").exists()


@pytest.mark.parametrize("name", ["twenty_digits", "two_hundred_million", "zeros"])
def test_lists(name, refused, tmp_path):
    (tmp_path / "list.txt").write_bytes(LISTS[name][0])
    where = [*given(tmp_path / "list.txt", "list"), f"--config.data.dir={tmp_path}"]
    assert "list.txt" in refused(*CONFIG, *where, "--workdir", tmp_path / "run")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("residency", ["resident", "streamed"])
def test_folders(name, residency, refused, finished, tmp_path):
    root = write_folder(tmp_path / "set", {"a": 4, "b": 4}, size=(12, 12))
    (tmp_path / "odd").mkdir()
    plant(tmp_path / "odd")
    if name in IMAGES:
        (tmp_path / "odd" / name).write_bytes(IMAGES[name][0])
    (tmp_path / "odd" / name).rename(root / "a" / name)
    where = ["--config.data.name=folder", f"--config.data.dir={root}", *AS_IS]
    where += ["--config.data.image_size=8", f"--config.data.residency={residency}"]
    where += [*SMALLEST, "--config.train.epochs=1", "--config.cpu_devices=1"]
    where += ["--config.train.batch_size=4", "--config.plan.num_blocks=2"]
    assert name in refused(*CONFIG, *where, "--workdir", tmp_path / "run")
    paths = ["--input", root / "a" / name, "--output", tmp_path / "out.csv"]
    assert name in refused("--mode=predict", "--workdir", finished, *paths)


def test_a_class_of_damaged_images(refused, tmp_path):
    root = write_folder(tmp_path / "set", {"a": 4, "b": 9}, size=(12, 12))
    for file in (root / "a").iterdir():
        file.write_bytes(b"")
    where = ["--config.data.name=folder", f"--config.data.dir={root}", *AS_IS]
    where += ["--config.data.image_size=8", "--config.data.skip_corrupt=True"]
    line = refused(*CONFIG, *where, "--workdir", tmp_path / "run")
    assert "images of class 'a' are damaged" in line


def test_an_output_that_is_the_input(refused, finished, tmp_path):
    picture = tmp_path / "pic.csv"
    picture.write_bytes(b"a picture")
    paths = ["--input", picture, "--output", picture]
    assert "is the same file" in refused("--mode=predict", "--workdir", finished, *paths)
    assert picture.read_bytes() == b"a picture"


@pytest.mark.parametrize("what", ["fifo", "bomb", "labels"])
def test_the_real_command(what, tmp_path):
    if what == "fifo":
        os.mkfifo(tmp_path / "set")
    else:
        labels = npy(np.array([0, 0, 1, 2**40]))
        content = archive([("images", npy(PICTURES)), ("labels", labels)])
        (tmp_path / "set").write_bytes(ARCHIVES["bomb"][0] if what == "bomb" else content)
    out = call(*CONFIG, *given(tmp_path / "set", "npz"), "--workdir", str(tmp_path / "run"))
    assert out.returncode == 2, out.stderr
    assert out.stderr.startswith("ltjax: error: data.path = ")
    assert out.stderr.count("\n") == 1
