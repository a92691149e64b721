"""Workdirs in object stores, on fsspec's store in memory; on emulators where they are installed."""

import json
import os
import signal
import socket
import time

import fsspec
import numpy as np
import pytest

from ltjax import config as configs
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.remote import copied_here
from ltjax.errors import InputError, Interrupted, MissingExtraError
from ltjax.training import lease
from ltjax.training import store as stores
from ltjax.training.run import run
from ltjax.training.store import Store, fetched, kept
from ltjax.training.workdir import read_finished
from tests.helpers import tiny_config

URL = "memory://bucket/runs/one"


@pytest.fixture
def store(monkeypatch):
    """fsspec's store in memory, empty, as a new process sees it."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    monkeypatch.setattr(stores, "_folders", {})
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    yield found
    found.store.clear()


def names(store, url=URL):
    root = url.removeprefix("memory:/")
    return {path.removeprefix(f"{root}/") for path in store.find(root)}


def forget(monkeypatch):
    """What a new process knows of the workdirs that this one has copied."""
    monkeypatch.setattr(stores, "_folders", {})


class Stop:
    """A watcher that asks the run to stop at a step."""

    def __init__(self, at):
        self.at = at

    def start(self, step, total):
        self.began = step

    def update(self, step, text):
        if self.at is not None and step >= self.at:
            os.kill(os.getpid(), signal.SIGTERM)
            self.at = None

    def evaluated(self, step, text): ...

    def note(self, text): ...

    def stop(self): ...


@pytest.mark.slow
def test_a_run_that_stops_goes_on_in_a_new_process(store, monkeypatch, tmp_path):
    config = configs.resolve(tiny_config())
    watcher = Stop(7)
    with pytest.raises(Interrupted):
        run(config, URL, watcher=watcher)
    there = names(store)
    assert {"config.json", "dataset.json", "metrics.jsonl", "manifest.json"} <= there
    assert ".lock" not in there
    assert any(name.startswith("checkpoints/") for name in there)
    assert not any("tmp" in name for name in there)
    forget(monkeypatch)
    watcher = Stop(None)
    result = run(config, URL, watcher=watcher).result
    assert watcher.began >= 7
    alone = run(config, tmp_path / "alone", watcher=Stop(None)).result
    assert result["test"] == alone["test"]
    forget(monkeypatch)
    assert read_finished(URL).result["test"] == alone["test"]
    listed = json.loads(store.cat_file(f"{URL}/manifest.json"))["files"]
    assert set(listed) == names(store) - {"manifest.json"}


def test_another_configuration_is_refused(store):
    config = configs.resolve(tiny_config())
    store.pipe_file(f"{URL}/manifest.json", b'{"files": ["config.json"]}')
    content = json.dumps(configs.resolve(tiny_config(train__epochs=5)).nested())
    store.pipe_file(f"{URL}/config.json", content.encode())
    with pytest.raises(InputError, match="belongs to another config"):
        run(config, URL, watcher=Stop(None))


def test_a_killed_push_leaves_what_was_there(store, monkeypatch):
    with kept(URL) as folder:
        (folder / "a.json").write_text("1")
        step = folder / "checkpoints" / "5"
        step.mkdir(parents=True)
        (step / "state").write_bytes(b"5")
        (folder / "checkpoints" / "6.orbax-checkpoint-tmp").mkdir()
        (folder / "checkpoints" / "6.orbax-checkpoint-tmp" / "state").write_bytes(b"half")
    assert names(store) == {"manifest.json", "a.json", "checkpoints/5/state"}
    # Killed after the files of a new checkpoint, before the manifest; its lock is left.
    store.pipe_file(f"{URL}/checkpoints/7/state", b"7")
    lock = {"host": socket.gethostname(), "process": os.getpid(), "token": "of one before"}
    store.pipe_file(f"{URL}/.lock", json.dumps(lock).encode())
    forget(monkeypatch)
    with kept(URL) as folder:
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["5"]
        (folder / "checkpoints" / "5" / "state").unlink()
        (folder / "a.json").write_text("22")
    assert names(store) == {"manifest.json", "a.json"}
    assert store.cat_file(f"{URL}/a.json") == b"22"


def test_a_holder_that_is_silent_is_gone(store):
    lock = {"host": "elsewhere", "process": 7, "token": "x"}
    store.pipe_file(f"{URL}/.lock", json.dumps(lock).encode())
    began = time.monotonic()
    with kept(URL) as folder:
        assert time.monotonic() - began >= lease.LEASE_SECONDS
        (folder / "a.json").write_text("1")
    assert names(store) == {"a.json", "manifest.json"}


def test_a_live_holder_is_named(store, monkeypatch):
    lock = {"host": "elsewhere", "process": 7, "token": "x"}
    store.pipe_file(f"{URL}/.lock", json.dumps(lock).encode())
    monkeypatch.setattr(
        lease.time,
        "sleep",
        lambda _: store.pipe_file(f"{URL}/.lock", json.dumps(lock | {"renewed": 1}).encode()),
    )
    with (
        pytest.raises(InputError, match="in use by process 7 of elsewhere"),
        kept(URL),
    ):
        pass


def test_a_holder_that_lost_its_workdir_writes_no_more(store):
    one = Store(URL)
    with one.lease.held():
        one.pull()
        store.pipe_file(f"{URL}/.lock", b'{"token": "of another"}')
        one.lease.renew()
        (one.folder / "a.json").write_text("1")
        with pytest.raises(InputError, match="taken over by another process"):
            one.push()
    assert names(store) == {".lock"}


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"files": 3}', b'{"files": ["../a"]}', b'{"files": ["absent"]}']
)
def test_a_damaged_manifest_is_one_line(store, content):
    store.pipe_file(f"{URL}/manifest.json", content)
    with pytest.raises(InputError) as caught:
        fetched(URL)
    assert "\n" not in str(caught.value)
    assert not (stores.temporary_folder() / "a").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [("nosuch://bucket/a", "cannot be used"), ("memory://", "names no folder")],
)
def test_a_url_that_leads_nowhere_is_one_line(store, url, words):
    with pytest.raises(InputError, match=words):
        fetched(url)


def test_the_missing_library_is_named(monkeypatch):
    def absent(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'ltjax\[cloud\]'"):
        fetched("gs://bucket/a")


def test_a_store_that_fails_is_one_line(store, monkeypatch):
    def broken(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(type(store), "pipe_file", broken)
    with pytest.raises(InputError, match="cannot be written") as caught, kept(URL):
        pass
    assert "\n" not in str(caught.value)
    assert "no route" in str(caught.value)


def test_folders_of_this_machine_stay_as_they_are(tmp_path):
    with kept(str(tmp_path)) as folder:
        assert folder == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_images_are_read_from_a_store(store, tmp_path, monkeypatch):
    """Features of a file in the store, which is copied again when it has changed."""
    monkeypatch.setenv("LTJAX_CACHE_DIR", str(tmp_path))
    path = tmp_path / "features.npz"
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    np.savez(path, features=rng.normal(size=(60, 4)).astype(np.float32), labels=labels)
    store.put_file(str(path), "/bucket/data/features.npz")
    url = "memory://bucket/data/features.npz"
    config = DataConfig(name="features", path=url, profile="as_is", test_per_class=5)
    splits = load_splits(config)
    assert len(splits.train) == 45
    copy = copied_here(url)
    before = os.stat(copy).st_mtime_ns
    assert copied_here(url) == copy
    assert os.stat(copy).st_mtime_ns == before
    store.pipe_file("/bucket/data/features.npz", b"changed")
    copied_here(url)
    with open(copy, "rb") as file:
        assert file.read() == b"changed"
    folder = copied_here("memory://bucket/data")
    assert os.listdir(folder) == ["features.npz"]
    with pytest.raises(InputError, match="no such file or folder"):
        copied_here("memory://bucket/absent")
