"""The folder of a run: its lock comes first, its files are written whole and checked when read."""

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.training import progress, stored, workdir
from ltjax.training.progress import MetricsLog, read_metrics
from ltjax.training.workdir import FinishedRun, Workdir, write_arrays, write_json
from tests.helpers import tiny_config

CONFIG = configs.resolve(tiny_config())

# Starts with a seed of its own, holds the folder for a moment, and writes a result of that seed.
CONTENDER = """
import sys, time
from ltjax import config as configs
from ltjax.errors import InputError
from ltjax.training.workdir import Workdir, write_json
from tests.helpers import tiny_config
folder = Workdir(sys.argv[1], configs.resolve(tiny_config(seed=int(sys.argv[2]))))
print("ready", flush=True)
sys.stdin.readline()
try:
    with folder.held():
        time.sleep(0.3)
        write_json(folder.result, {"seed": int(sys.argv[2])})
except InputError as e:
    print(e, file=sys.stderr)
    sys.exit(2)
"""


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "run").write_text("notes")
    with (
        pytest.raises(InputError, match="run is a file; give a folder"),
        Workdir(tmp_path / "run", CONFIG).held(),
    ):
        pass
    assert (tmp_path / "run").read_text() == "notes"


@pytest.mark.parametrize("kept", ["checkpoints/12", "result.json"])
def test_a_run_without_its_configuration_is_never_resumed(kept, tmp_path):
    (tmp_path / kept).mkdir(parents=True)
    words = r"has (checkpoints|result.json) but no config.json"
    with pytest.raises(InputError, match=words), Workdir(tmp_path, CONFIG).held():
        pass
    assert not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_of_two_processes_at_once_one_writes_config_and_result(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(tmp_path / "run"), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 2], errors
    loser = errors[codes.index(2)]
    assert "is in use by process" in loser or "belongs to another config" in loser
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert config["seed"] == result["seed"] == codes.index(0) + 1


def test_a_process_without_the_lock_writes_no_config(tmp_path):
    with Workdir(tmp_path, CONFIG).held():
        (tmp_path / "config.json").unlink()
        with pytest.raises(InputError, match="is in use"), Workdir(tmp_path, CONFIG).held():
            pass
        assert not (tmp_path / "config.json").exists()


def test_a_finished_run_in_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    with Workdir(tmp_path, CONFIG).held():
        write_json(tmp_path / "result.json", {"test": {}, "train": {}, "method": "ce"})

    def refuse(*arguments, **keywords):
        raise OSError(30, os.strerror(30))

    real = os.open

    def read_only(path, flags, *rest):
        return refuse() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else real(path, flags)

    monkeypatch.setattr(workdir.os, "open", read_only)
    for name in ("makedirs", "replace", "unlink"):
        monkeypatch.setattr(workdir.os, name, refuse)
    assert Workdir(tmp_path, CONFIG).finished()["method"] == "ce"


def test_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
        write_arrays(tmp_path / "a.npz", x=np.zeros(3))
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_temporary_files_cannot_be_guessed_nor_followed(tmp_path, monkeypatch):
    opened = []
    real = os.open
    monkeypatch.setattr(
        workdir.os, "open", lambda path, *rest: opened.append((path, rest[0])) or real(path, *rest)
    )
    write_json(tmp_path / "a.json", {})
    write_json(tmp_path / "a.json", {})
    (first, flags), (second, _) = opened
    assert first != second
    assert str(os.getpid()) not in (first.name, second.name)
    assert flags & os.O_EXCL  # so a link that lies there is refused


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, name):
    write_json(tmp_path / "a.json", {"old": True})

    def fail(*arguments, **keywords):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(workdir.os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.json", {"new": True})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


GARBAGE = [b"5", b"{}", b"[]", b"null", b"\xff\xfe\x00", b"", b'{"test": 3', b"[" * 100_000]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_damaged_file_of_a_finished_run_is_named(tmp_path, content):
    run = FinishedRun(tmp_path, CONFIG)
    for name in ("dataset", "result"):
        (tmp_path / f"{name}.json").write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.json") as caught:
            getattr(run, name)
        assert "\n" not in str(caught.value)


DATASET = {
    "class_names": ["a", "b"],
    "class_counts": [2, 1],
    "image_shape": [8, 8, 1],
    "mean": [0.5],
    "std": [1],
    "fingerprint": {"train": "0", "test": "1"},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_names": []},
        {"class_names": [1, 2]},
        {"class_names": "ab"},
        {"class_counts": [2]},
        {"class_counts": [True, 1]},
        {"image_shape": [8, 8]},
        {"image_shape": [8, 0, 1]},
        {"image_shape": [10**6, 10**6, 1]},
        {"mean": []},
        {"mean": [0.1, 0.2, 0.3]},
        {"mean": [float("nan")]},
        {"std": [0]},
        {"class_counts": [2, -1]},
        {"class_counts": [2, 10**30]},
        {"std": ["1"]},
        {"fingerprint": {"train": "0"}},
        {"fingerprint": None},
    ],
)
def test_every_entry_of_dataset_json_is_checked(tmp_path, wrong):
    path = tmp_path / "dataset.json"
    write_json(path, DATASET)
    assert stored.checked_dataset(path) == DATASET
    write_json(path, DATASET | wrong)
    with pytest.raises(InputError, match=rf"{next(iter(wrong))} is absent or wrong"):
        stored.checked_dataset(path)


RESULT = {
    **{"test": {}, "train": {}, "method": "ce", "stage": {}, "versions": {}, "per_seed": [{}]},
    "post_hoc": {"x": {"tau": 0.5, "temperature": 1.5, "test": {}}},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"post_hoc": [1]},
        {"post_hoc": {"x": {}}},
        {"post_hoc": {"x": {"tau": 0, "temperature": 0}}},
        {"post_hoc": {"x": {"tau": "1"}}},
        {"stage": "crt"},
        {"versions": None},
        {"per_seed": []},
        {"per_seed": [[0.5]]},
    ],
)
def test_entries_of_result_json_are_checked(tmp_path, wrong):
    write_json(tmp_path / "result.json", RESULT)
    assert stored.checked_result(tmp_path / "result.json") == RESULT
    write_json(tmp_path / "result.json", RESULT | wrong)
    with pytest.raises(InputError, match=rf"{next(iter(wrong))} is absent or wrong"):
        stored.checked_result(tmp_path / "result.json")


def test_a_path_that_is_not_utf8_is_refused_before_the_training(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff")
    with pytest.raises(InputError, match=r"a\\xff has a path that is not UTF-8"):
        Workdir(path, CONFIG).held().__enter__()
    assert not path.exists()


@pytest.mark.timeout(60)
def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    os.mkfifo(tmp_path / "metrics.jsonl")
    (tmp_path / "dataset.json").symlink_to("/dev/zero")
    run = FinishedRun(tmp_path, CONFIG)
    with pytest.raises(InputError, match=r"result\.json cannot be .*it is a named pipe"):
        assert run.result
    with pytest.raises(InputError, match=r"dataset\.json cannot be .*it is a device"):
        assert run.dataset
    with pytest.raises(InputError, match=r"metrics\.jsonl cannot be read \(it is a named pipe"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_lines_that_are_no_metrics_are_left_out(tmp_path):
    lines = [b'{"step": 1, "x": 1}', b"5", b"{}", b"\xff\xfe", b"null", b'{"step": "2"}']
    lines += [b'{"step": true}', b"[" * 100_000, b'{"step": 2}', b'{"step": 3, "x"']
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert read_metrics(path) == [{"step": 1, "x": 1}, {"step": 2}]
    log = MetricsLog(tmp_path, 1, print)
    log.write(2, {"x": float("nan")})
    log.close()
    assert read_metrics(path) == [{"step": 1, "x": 1}, {"step": 2, "x": None}]


OPERATIONS = ("open", "write", "fsync", "replace", "makedirs", "unlink")


class FailsOnce:
    """The module `os`, of which the n-th call of one function fails."""

    def __init__(self, name, number, error):
        self._name, self._number, self._error, self.calls = name, number, error, 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name != self._name:
            return real

        def call(*arguments, **keywords):
            self.calls += 1
            if self.calls == self._number:
                raise OSError(self._error, os.strerror(self._error))
            return real(*arguments, **keywords)

        return call


def files_of_a_run(folder):
    """Writes what a run writes by itself; returns what it left, or why it ended."""
    notes = []
    try:
        with Workdir(folder, CONFIG).held():
            write_json(folder / "dataset.json", DATASET)
            with contextlib.closing(MetricsLog(folder, 0, notes.append)) as log:
                for step in (1, 2):
                    log.write(step, {"train/loss": 0.5})
            write_arrays(folder / "correlation.npz", before=np.zeros(3))
            write_json(folder / "result.json", {"test": {}, "train": {}, "method": "ce"})
    except (InputError, OSError) as e:
        return str(e)
    names = ("config.json", "dataset.json", "metrics.jsonl", "correlation.npz", "result.json")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_of_ours_fails_once_and_the_next_start_is_whole(
    tmp_path, monkeypatch, name, error
):
    whole = files_of_a_run(tmp_path / "whole")
    for number in range(1, 100):
        folder = tmp_path / str(number)
        failing = FailsOnce(name, number, error)
        for module in (workdir, progress):
            monkeypatch.setattr(module, "os", failing)
        ended = files_of_a_run(folder)
        monkeypatch.undo()
        if failing.calls < number:
            break
        assert ended == whole or (os.strerror(error) in ended and "\n" not in ended)
        assert files_of_a_run(folder) == whole
        left = [p.name for p in folder.iterdir() if p.name.startswith(".")]
        assert left == [".lock"] or name == "unlink"
    assert number > 1, "nothing was tried"
