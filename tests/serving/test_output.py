"""Outputs of a prediction: whole or as before, and never in the place of an input."""

import os
import signal

import pytest

from ltjax.errors import InputError, Interrupted
from ltjax.serving.output import check_differs, written_whole
from ltjax.training.ending import asked


def test_an_output_takes_its_place_when_it_is_complete(tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("before")

    def fail():
        with written_whole(output) as file:
            file.write("half")
            raise InputError("the input is cut")

    with pytest.raises(InputError, match="cut"):
        fail()

    def stopped():
        with written_whole(output) as file:
            file.write("half")
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted), asked(resumes=False):
        stopped()
    assert os.listdir(tmp_path) == ["out.csv"]
    assert output.read_text() == "before"
    os.chmod(output, 0o600)
    with written_whole(output) as file:
        file.write("whole")
    assert output.read_text() == "whole"
    assert output.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["out.csv"]


def test_new_outputs_have_the_permissions_of_any_file(tmp_path):
    with written_whole(tmp_path / "out.csv") as file:
        file.write("é\n")
    (tmp_path / "other").touch()
    assert (tmp_path / "out.csv").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert (tmp_path / "out.csv").read_bytes() == "é\n".encode()


def test_a_link_stays(tmp_path):
    (tmp_path / "to.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to("to.csv")
    with written_whole(tmp_path / "link.csv") as file:
        file.write("after")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "to.csv").read_text() == "after"


def test_outputs_that_cannot_be_written(tmp_path):
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, reason in (
        ("fifo.csv", "no regular file"),
        ("folder.csv", "no regular file"),
        ("none/out.csv", "No such file"),
        ("a" * 300 + ".csv", "too long"),
    ):
        with pytest.raises(InputError, match=reason), written_whole(tmp_path / name) as file:
            file.write("x")
    assert sorted(os.listdir(tmp_path)) == ["fifo.csv", "folder.csv"]


@pytest.mark.parametrize("way", ["same", "linked", "hard"])
def test_an_input_is_no_output(tmp_path, way):
    picture, output = tmp_path / "a.png", tmp_path / "out.csv"
    picture.write_bytes(b"picture")
    if way == "same":
        output = picture
    elif way == "linked":
        output.symlink_to("a.png")
    else:
        output.hardlink_to(picture)
    with pytest.raises(InputError, match=r"is the same file as the input .*a\.png"):
        check_differs(output, [tmp_path / "b.png", picture])
    check_differs(tmp_path / "other.csv", [picture])
