"""TensorBoard's events: what a full disk does to them never hangs or ends a run."""

import os
import resource
import struct

import pytest

from ltjax.training.events import Events
from ltjax.training.progress import MetricsLog, read_metrics

pytestmark = pytest.mark.timeout(60)  # the queue of a dead thread was waited for without end


def events(folder):
    """The events of the only file of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.out.tfevents.*")
    content, found = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_events_hold_the_metrics_and_hide_what_came_later(tmp_path):
    log = Events(tmp_path / "tensorboard", 7, pytest.fail)
    log.write(8, {"train/loss": 0.5, "test/accuracy": 0.25})
    log.close()
    head, _, session, loss, accuracy = events(tmp_path / "tensorboard")
    assert head.file_version == "brain.Event:2"
    assert (session.step, session.session_log.status) == (8, 1)
    assert (loss.step, loss.summary.value[0].tag) == (8, "train/loss")
    assert loss.summary.value[0].simple_value == 0.5
    assert accuracy.summary.value[0].tag == "test/accuracy"


def test_no_line_no_file(tmp_path):
    Events(tmp_path / "tensorboard", 0, pytest.fail).close()
    assert not (tmp_path / "tensorboard").exists()


def refuse(*arguments):
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("broken", ["mkdir", "open", "write", "flush"])
def test_what_cannot_be_written_costs_one_line(tmp_path, monkeypatch, broken):
    from tensorboardX import record_writer

    notes = []
    log = MetricsLog(tmp_path, 0, notes.append)
    if broken == "mkdir":
        (tmp_path / "tensorboard").write_text("a file where the folder is to be")
    elif broken == "open":
        monkeypatch.setattr(record_writer, "open_file", refuse)
    else:
        monkeypatch.setattr(record_writer.RecordWriter, broken, refuse)
    for step in range(1, 31):  # more than the ten places of the queue that there was
        log.write(step, {"train/loss": 0.5})
    log.close()
    (note,) = notes
    assert "going on without them" in note
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 30


def test_a_limit_on_the_size_of_files_hangs_nothing(tmp_path):
    notes = []
    log = Events(tmp_path / "tensorboard", 0, notes.append)
    log.write(1, {"train/loss": 0.5})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        for step in range(2, 1000):
            log.write(step, {"train/loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.close()
    assert len(notes) == 1
    assert os.strerror(27) in notes[0]
