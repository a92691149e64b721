"""Hostile files of every kind: one line that names the file and the reason, at once, in no memory.

`tests.data.hostile` makes them; the same files go through the command line in
`tests.training.test_hostile_runs`.
"""

import contextlib
import signal

import numpy as np
import pytest

from ltjax.data.arrays import read_npz
from ltjax.data.decode import DecodeError, decode
from ltjax.data.folder import read_folder, split_folders
from ltjax.data.lists import read_list
from ltjax.data.load import DataConfig, load_splits
from ltjax.errors import InputError
from ltjax.serving.npz import stream_images
from ltjax.serving.pictures import UnreadableError, decode_file
from tests.data.hostile import ARCHIVES, GOOD, IMAGES, LISTS, archive, plant
from tests.data.pictures import encoded, picture, write_folder


@pytest.fixture(autouse=True)
def watchdog(monkeypatch, tmp_path):
    """A read that waits for ever fails after 100 seconds; caches stay in the test's folder."""

    def bark(number, frame):
        raise AssertionError("reading took longer than 100 seconds")

    monkeypatch.setenv("LTJAX_CACHE_DIR", str(tmp_path / "cache"))
    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", IMAGES)
def test_images(name, tmp_path):
    content, reason = IMAGES[name]
    assert len(content) < 2**20
    with pytest.raises(DecodeError, match=reason) as refused:
        decode(content)
    assert "\n" not in str(refused.value)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=f"{name}: .*({reason})"):
        decode_file(tmp_path / name, (8, 8, 3))


def test_long_images_are_cropped_before_they_are_resized(monkeypatch):
    from ltjax.augment import host

    largest, own = [], host.resize
    monkeypatch.setattr(host, "resize", lambda x, h, w: largest.append(h * w) or own(x, h, w))
    for shape in ((3, 300), (300, 3)):
        out = host.center_crop(picture(*shape), 224)
        assert out.shape == (224, 224, 3)
    assert max(largest) <= 16 * 256 * 256
    # Cutting the ends off moves nothing: the middle of the strip is in the middle of the crop.
    ramp = np.repeat(np.arange(9, 249, 2, dtype=np.uint8)[None], 6, axis=0)[..., None]
    out = host.center_crop(ramp, 64)[..., 0].astype(int)
    np.testing.assert_allclose(out, 256 - out[:, ::-1], atol=1)


def test_no_regular_files(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    reasons = plant(tmp_path / "set" / "a")
    lines = "".join(f"a/{name} 0\n" for name in reasons)
    (tmp_path / "list.txt").write_text(lines)
    folder = read_folder(str(tmp_path / "set"), size=8)
    listed = read_list(str(tmp_path / "list.txt"), str(tmp_path / "set"), size=8)
    assert len(folder) + 1 == len(listed) == len(reasons)  # folder.png is a folder
    for source in (folder, listed):
        for index, path in enumerate(source.reader.paths):
            with pytest.raises(DecodeError, match=f"{path} cannot be read: .*{reasons[path[2:]]}"):
                source.view(index)
    for name, reason in reasons.items():
        with pytest.raises(UnreadableError, match=f"{name}: .*{reason}"):
            decode_file(tmp_path / "set" / "a" / name, (8, 8, 3))


@pytest.mark.parametrize("name", LISTS)
def test_lists(name, tmp_path):
    content, reason = LISTS[name]
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"list.txt.*{reason}") as refused:
        read_list(str(tmp_path / "list.txt"), str(tmp_path), size=8)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("kind", ["fifo.png", "zeros.png", "socket.png", "folder.png"])
def test_lists_and_archives_that_are_no_files(kind, tmp_path):
    reason = plant(tmp_path)[kind]
    path = str(tmp_path / kind)
    for read in (
        lambda: read_list(path, str(tmp_path), size=8),
        lambda: read_npz(path),
        lambda: list(stream_images(path, (8, 8, 1))),
    ):
        with pytest.raises(InputError, match=reason):
            read()


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name, tmp_path):
    content, reason = ARCHIVES[name]
    assert len(content) < 2**20
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(InputError, match=rf"set.npz.*({reason})") as refused:
        read_npz(str(tmp_path / "set.npz"))
    assert "\n" not in str(refused.value)
    with contextlib.suppress(InputError):  # predict reads the images alone
        assert len(list(stream_images(str(tmp_path / "set.npz"), (8, 8, 1)))) == 4


def test_the_good_archive(tmp_path):
    (tmp_path / "set.npz").write_bytes(archive(GOOD))
    train, test = read_npz(str(tmp_path / "set.npz"))
    assert (len(train), train.class_names, test) == (4, ("0", "1"), None)


def test_an_archive_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    import os

    (tmp_path / "set.npz").write_bytes(archive(GOOD))
    monkeypatch.setattr(os, "sysconf", lambda name: 16)
    with pytest.raises(InputError, match="more than half of this machine's memory"):
        read_npz(str(tmp_path / "set.npz"))


def test_a_link_to_itself_is_no_class(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b": 2})
    (root / "loop").symlink_to("loop")
    assert read_folder(str(root), size=8).class_names == ("a", "b")


def test_a_link_to_itself_is_no_image_of_a_split(tmp_path):
    root = tmp_path / "both"
    for split in ("train", "test"):
        write_folder(root / split, {"a": 3, "b": 2})
        (root / split / "loop.jpg").symlink_to("loop.jpg")
    assert set(split_folders(str(root))) == {"train", "test"}


def caches(folder):
    return sorted((folder / "cache").glob("*.npz"))


def test_caches_of_any_content_are_as_good_as_none(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b": 2})
    expected = read_folder(str(root), size=8).fingerprint()
    (cache,) = caches(tmp_path)
    with np.load(cache) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "fewer.npz", **arrays | {n: arrays[n][:4] for n in ("paths", "labels")})
    np.savez(tmp_path / "other.npz", **arrays | {"labels": arrays["labels"][::-1]})
    np.savez(tmp_path / "without.npz", **{n: arrays[n][:4] for n in ("paths", "labels")})
    contents = [content for content, _ in ARCHIVES.values()]
    contents += [(tmp_path / f"{n}.npz").read_bytes() for n in ("fewer", "other", "without")]
    whole = cache.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(len(whole), size=30):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(rng.integers(8))
        contents.append(bytes(flipped))
    for content in contents:
        cache.write_bytes(content)
        assert read_folder(str(root), size=8).fingerprint() == expected


def test_a_cache_that_is_no_file(tmp_path):
    root = write_folder(tmp_path / "set", {"a": 3, "b": 2})
    expected = read_folder(str(root), size=8).fingerprint()
    (cache,) = caches(tmp_path)
    (tmp_path / "odd").mkdir()
    for name in plant(tmp_path / "odd"):
        cache.unlink(missing_ok=True)
        cache.symlink_to(tmp_path / "odd" / name)
        assert read_folder(str(root), size=8).fingerprint() == expected


def test_labels_of_any_source(tmp_path):
    from ltjax.errors import check_labels

    for label in (2**24, 2**40, 2**63 - 1):
        with pytest.raises(InputError, match="labels below 2"):
            check_labels(np.array([0, label]))


def test_a_test_part_of_another_shape(tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(
        tmp_path / "set.npz",
        images=images,
        labels=np.array([0, 0, 1, 1]),
        test_images=images[:, :6],
        test_labels=np.array([0, 0, 1, 1]),
    )
    config = DataConfig(name="npz", path=str(tmp_path / "set.npz"), profile="as_is")
    with pytest.raises(InputError, match=r"test_images = \(6, 8, 1\) is not allowed"):
        load_splits(config)


def test_an_image_with_the_name_of_another_format(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    assert decode_file(tmp_path / "a.png", (8, 8, 3)).shape == (8, 8, 3)
