"""Which files of a folder are pictures, and what is said of the others."""

import pytest

from ltjax.errors import InputError
from ltjax.serving.pictures import picture_files


def test_files_of_other_endings_are_counted(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.PNG", "deep/b.ppm", "notes.txt", "deep/LICENSE", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"")
    notes = []
    found = picture_files(tmp_path, note=notes.append)
    assert [path.name for path in found] == ["a.PNG", "b.ppm"]
    assert notes == [
        f"{tmp_path}: 2 files are no images and are ignored: 1 .txt, 1 without an ending"
    ]


def test_nothing_to_predict_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no picture .*1 file is no image and is ignored"):
        picture_files(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        picture_files(tmp_path / "gone")
