"""Images, lists, archives and folders that are damaged at random."""

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ltjax.augment.opencv import cv2

Generator = np.random.Generator
# Values at which sizes and offsets overflow.
EDGES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
LABELS = ("-1", "0", "7", "99", "1e3", "²", "nan", "9" * 20, "9" * 5000, "200000000", "0x1", "")


def whole_images() -> list[bytes]:
    """One small image in each format and coding."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (5, 6, 3), np.uint8), (48, 36))
    found = [cv2.imencode(f".{kind}", image)[1].tobytes() for kind in ("hdr", "pam", "pfm", "sr")]
    color, gray = Image.fromarray(image), Image.fromarray(image[..., 0])
    deep = Image.fromarray(image[..., 0].astype(np.uint16) * 257)
    for picture, kind, options in (
        (color, "jpeg", {}),
        (color, "jpeg", {"progressive": True, "optimize": True}),
        (gray, "jpeg", {"quality": 40}),
        (color.convert("CMYK"), "jpeg", {}),
        (color, "png", {}),
        (deep, "png", {}),
        (color.quantize(16), "png", {}),
        (color.convert("RGBA"), "png", {}),
        (color, "bmp", {}),
        (color.quantize(16), "bmp", {}),
        (color, "webp", {}),
        (color.convert("RGBA"), "webp", {"lossless": True}),
        (color, "tiff", {}),
        (color, "tiff", {"compression": "tiff_lzw"}),
        (color, "tiff", {"compression": "tiff_deflate"}),
        (color, "tiff", {"compression": "jpeg"}),
        (deep, "tiff", {"compression": "packbits"}),
        (color, "gif", {}),
        (color, "jpeg2000", {}),
        (color, "ppm", {}),
        (gray, "ppm", {}),
        (color, "avif", {}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def _position(rng: Generator, size: int) -> int:
    """A place among bytes, half of the times one of the first."""
    return int(rng.integers(min(size, 80) if rng.random() < 0.5 else size))


def _flip(data: bytearray, rng: Generator) -> None:
    data[_position(rng, len(data))] ^= 1 << int(rng.integers(8))


def _edge(data: bytearray, rng: Generator) -> None:
    width, order = int(rng.choice([1, 2, 4])), str(rng.choice(["little", "big"]))
    at = _position(rng, len(data))
    value = int(rng.choice(EDGES)) % 2 ** (8 * width)
    data[at : at + width] = value.to_bytes(width, "little" if order == "little" else "big")


def _random(data: bytearray, rng: Generator) -> None:
    at = _position(rng, len(data))
    data[at : at + 8] = rng.bytes(int(rng.integers(1, 9)))


def _cut(data: bytearray, rng: Generator) -> None:
    del data[_position(rng, len(data)) :]


def _remove(data: bytearray, rng: Generator) -> None:
    at = _position(rng, len(data))
    del data[at : at + int(rng.integers(1, 40))]


def _repeat(data: bytearray, rng: Generator) -> None:
    at = _position(rng, len(data))
    data[at:at] = data[at : at + 40] * int(rng.integers(1, 50))


MUTATIONS: tuple[Callable[[bytearray, Generator], None], ...]
MUTATIONS = (_flip, _flip, _edge, _edge, _random, _cut, _remove, _repeat)


def damaged(data: bytes, rng: Generator) -> bytes:
    """One to four changes of bytes. The checksums of a PNG are made right again half of the times.

    Args:
      data: content of a file.
      rng: source of the random numbers.
    """
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if out:
            MUTATIONS[int(rng.integers(len(MUTATIONS)))](out, rng)
    png = out[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.5
    return _with_checksums(out) if png else bytes(out)


def _with_checksums(data: bytearray) -> bytes:
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def list_text(paths: list[str], rng: Generator) -> bytes:
    """Lines of a list, some of them wrong.

    Args:
      paths: of images.
      rng: source of the random numbers.
    """
    lines = [f"{path} {i % 2}".encode() for i, path in enumerate(paths)]
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(len(lines)))
        path = paths[int(rng.integers(len(paths)))].encode()
        label = str(rng.choice(LABELS)).encode()
        lines[at] = (
            path + b" " + label,
            path,
            rng.bytes(30),
            b"../" * 40 + b"etc/passwd 0",
            b"gone.png 1",
            b"a" * 300 + b" 1",
            b"\0" * 2000,
            b"/dev/zero 0",
            b"",
        )[int(rng.integers(9))]
    text = bytes(rng.choice([b"\n", b"\r\n", b"\r"])).join(lines) + b"\n"
    return damaged(text, rng) if rng.random() < 0.3 else text


def _header(array: np.ndarray, rng: Generator) -> bytes:
    kind, shape = array.dtype.str, array.shape
    if rng.random() < 0.3:
        kinds = ["|u1", "<i8", ">i4", "<f8", "<U0", "<U9999999", "|O", "|V8", "<M8[s]", "x"]
        kind = str(rng.choice(kinds))
    if rng.random() < 0.3:
        side = int(rng.choice([*EDGES, 10**15, -1]))
        shape = ((side,), (side, 8, 8), (side, 1, side), (), (4, side), (side,) * 40)[
            int(rng.integers(6))
        ]
    text = str({"descr": kind, "fortran_order": bool(rng.random() < 0.2), "shape": shape})
    if rng.random() < 0.1:
        text = str(rng.choice(["(" * 4000, "{" * 4000, "1" * 9000, "{'descr': '\\d'}", ""]))
    version = int(rng.choice([1, 1, 1, 1, 2, 3, 9]))
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


def archive(rng: Generator) -> bytes:
    """An archive of images and labels with headers that lie, or with damaged bytes.

    Args:
      rng: source of the random numbers.
    """
    count = int(rng.choice([12, 40]))
    arrays = {
        "images": rng.integers(0, 256, (count, 8, 8), np.uint8),
        "labels": np.arange(count) % 3,
        "class_names": np.array(["a", "b", "c"]),
        "test_images": rng.integers(0, 256, (6, 8, 8), np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    names = list(arrays)[: int(rng.integers(1, 6))]
    if rng.random() < 0.3:
        values = np.array([-1, 3, count, 2 * 10**8, 2**40, 2**63 - 1])
        arrays["labels"][int(rng.integers(count))] = rng.choice(values)
    if rng.random() < 0.1:
        names.append("images")
    lies = rng.random() < 0.5
    buffer = io.BytesIO()
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
    with zipfile.ZipFile(buffer, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        for name in names:
            array, content = arrays[name], io.BytesIO()
            np.save(content, array)
            data = content.getvalue()
            if lies and rng.random() < 0.5:
                data = _header(array, rng) + array.tobytes()
            file.writestr(f"{name}.npy", data)
    return damaged(buffer.getvalue(), rng) if rng.random() < 0.5 else buffer.getvalue()


def plant(folder: Path, images: list[bytes], rng: Generator) -> None:
    """Files with odd names, and what is no file, in a class folder.

    Args:
      folder: of a class.
      images: content of whole images.
      rng: source of the random numbers.
    """
    name = (
        b"x.png",
        b"\xff\xfe.jpg",
        b"a\nb.png",
        "猫.webp".encode(),
        b"-rf.bmp",
        b"$(x).tiff",
        b"a" * 250 + b".png",
        b".hidden.png",
        b"X.JPG",
    )[int(rng.integers(9))]
    path = os.path.join(os.fsencode(folder), name)
    if os.path.lexists(path):
        return  # planted before; writing to a FIFO would wait for a reader
    what = int(rng.integers(8))
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        os.mkdir(path)
    elif what < 5:
        to = ("/dev/zero", "/dev/tty", "/proc/self/mem", name, "..", "/etc/passwd", "/proc/kmsg")
        os.symlink(to[int(rng.integers(7))], path)
    else:
        with open(path, "wb") as file:
            file.write(images[int(rng.integers(len(images)))] if what < 7 else b"")
