"""Files that attack whoever reads them: images, paths, lists and archives, each with its outcome.

Everything is made here, and nothing takes 1 MB on disk. An outcome is a regular expression for the
reason that the one line of the message gives.
"""

import io
import os
import socket
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

LARGE = r"more (pixels )?than the 2\^27 allowed"
LONG = "at most 100 times its shorter one"
NO_IMAGE = "not an image that OpenCV reads|OpenCV: "


def written(kind, size, **options):
    """A gray image of zeros, by Pillow; size is width, height."""
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, content=b""):
    """A PNG of one bit per pixel."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(width, height):
    """A TIFF whose directory promises one strip of this size."""
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1))
    tags += ((278, height), (279, width * height % 2**32))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)


def bmp(width, height):
    """A BMP of 24 bits without its pixels."""
    return struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54, 0, 54, 40, width, height, 1, 24, *[0] * 6)


def jpeg(width, height):
    """A JPEG of 16 x 16 whose header promises another size."""
    data = bytearray(written("jpeg", (16, 16)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg2000(width, height):
    """A JPEG 2000 of 16 x 16 whose headers promise another size."""
    data = bytearray(written("jpeg2000", (16, 16)))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">II", height, width)
    at = data.index(b"\xff\x51") + 6
    data[at : at + 24] = struct.pack(">6I", width, height, 0, 0, width, height)  # in one tile
    return bytes(data)


def webp(width, height):
    """A lossless WebP of 16 x 16 whose header promises another size."""
    data = bytearray(written("webp", (16, 16), lossless=True))
    at = data.index(b"\x2f", 20) + 1
    bits = int.from_bytes(data[at : at + 4], "little") >> 28 << 28
    bits |= (width - 1) | (height - 1) << 14
    data[at : at + 4] = bits.to_bytes(4, "little")
    return bytes(data)


def gif(width, height):
    """A GIF of 16 x 16 whose header promises another size."""
    data = bytearray(written("gif", (16, 16)))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


# Content of an image file, and the reason why it is refused.
IMAGES = {
    "square.png": (png(60_000, 60_000), LARGE),
    "strip.png": (png(200_000, 1, bytes(25_001)), LONG),
    "column.png": (png(1, 200_000, bytes(400_000)), LONG),
    "wide.png": (png(2**31 - 1, 1), f"{LARGE}|{NO_IMAGE}"),
    "square.tiff": (tiff(30_000, 30_000), LARGE),
    "strip.tiff": (written("tiff", (30_000, 1)), LONG),
    "overflow.tiff": (tiff(2**32 - 1, 2**32 - 1), f"{LARGE}|{NO_IMAGE}"),
    "square.bmp": (bmp(40_000, 40_000), LARGE),
    "negative.bmp": (bmp(40_000, -40_000), LARGE),
    "lowest.bmp": (bmp(2**31 - 1, -(2**31)), f"{LARGE}|{NO_IMAGE}"),
    "square.jpg": (jpeg(65_500, 65_500), LARGE),
    "strip.jpg": (jpeg(65_500, 1), LONG),
    "square.webp": (webp(16_383, 16_383), LARGE),
    "strip.webp": (webp(16_383, 1), f"{LONG}|{NO_IMAGE}"),
    "square.jp2": (jpeg2000(50_000, 50_000), LARGE),
    "square.gif": (gif(65_000, 65_000), LARGE),
    "square.pgm": (b"P5 30000 30000 255\n", LARGE),
    "strip.pgm": (b"P5 200000 1 255\n" + bytes(200_000), LONG),
    "text.pgm": (b"P2 99999999999999999999 1 255\n0", f"{LARGE}|{NO_IMAGE}"),
    "square.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n", LARGE),
    "empty.png": (b"", "it is empty"),
    "text.png": (b"this is text\n" * 40, NO_IMAGE),
    "archive.png": (b"PK\x03\x04" + bytes(100), NO_IMAGE),
    "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NO_IMAGE),
    "header.png": (b"\x89PNG\r\n\x1a\n", NO_IMAGE),
    "markers.jpg": (b"\xff\xd8" + b"\xff" * 10_000 + b"\xff\xd9", NO_IMAGE),
}


def plant(folder: Path) -> dict[str, str]:
    """Makes what looks like an image and is no regular file of an allowed size.

    Args:
      folder: to make it in.

    Returns:
      Name, and the reason why it is refused.
    """
    os.mkfifo(folder / "fifo.png")
    (folder / "zeros.png").symlink_to("/dev/zero")
    (folder / "terminal.png").symlink_to("/dev/tty")
    (folder / "linked.png").symlink_to("fifo.png")
    (folder / "memory.png").symlink_to("/proc/self/mem")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("gone.png")
    (folder / "folder.png").mkdir()
    server = socket.socket(socket.AF_UNIX)
    try:  # the path of a socket is short
        before = os.getcwd()
        os.chdir(folder)
        server.bind("socket.png")
    finally:
        os.chdir(before)
        server.close()
    with open(folder / "sparse.png", "wb") as file:
        file.truncate(2**40)
    return {
        "fifo.png": "it is a named pipe",
        "zeros.png": "it is a device",
        "terminal.png": "it is a device",
        "linked.png": "it is a named pipe",
        "memory.png": "it is empty",
        "loop.png": "Too many levels of symbolic links",
        "nowhere.png": "No such file",
        "folder.png": "it is a folder",
        "socket.png": "it is a socket",
        "sparse.png": "1099511627776 bytes, more than the 536870912 allowed",
    }


# Content of a list, and the reason why it is refused.
LISTS = {
    "twenty_digits": (b"a/0.png 0\na/1.png 99999999999999999999\n", "line 2: .*not 'path label'"),
    "many_digits": (b"a/0.png 0\na/1.png " + b"9" * 5000 + b"\n", "line 2: .*not 'path label'"),
    "two_hundred_million": (b"a/0.png 0\na/1.png 200000000\n", "line 2: label 200000000 is out of"),
    "one_too_many": (b"a/0.png 0\n\na/1.png 2\n", "line 3: label 2 .* 0 to 1"),
    "binary": (bytes(range(256)) * 40, "line 1: .*not 'path label'"),
    "zeros": (bytes(500_000), "line 1: .*not 'path label'"),
    "one_line": (b"a" * 500_000 + b" 0\n", "line 1: .*not 'path label'"),
    "nul": (b"a\0b.png 0\n", "line 1: .*not 'path label'"),
    "blank": (b" \n" * 200_000, "is empty"),
    "utf16": ("a/0.png 0\n".encode("utf-16"), "line 1: .*not 'path label'"),
    "superscript": ("a/0.png ²\n".encode(), "line 1: .*not 'path label'"),
}


def npy(array, *, shape=None, version=1, kind=None):
    """A member of an archive, whose header may lie."""
    said = {"descr": kind or array.dtype.str, "fortran_order": False}
    header = f"{said | {'shape': array.shape if shape is None else shape}}\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + array.tobytes()


def archive(members, *, method=zipfile.ZIP_DEFLATED):
    """A zip file of pairs of name and content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        for name, content in members:
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def changed(data, offset, value):
    """An archive, one field of both headers of whose first member is another."""
    data = bytearray(data)
    for signature, skip in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = data.index(signature) + 4 + skip + offset
        data[at : at + len(value)] = value
    return bytes(data)


def _bomb():
    """Zeros as `images`, announced with 2^40 bytes."""
    zeros = npy(np.zeros(0, np.uint8), shape=(2**20, 1024, 1024), kind="|u1") + bytes(2**24)
    return archive([("images", zeros), ("labels", npy(LABELS))])


PICTURES = np.zeros((4, 8, 8), np.uint8)
LABELS = np.array([0, 0, 1, 1])
GOOD = [("images", npy(PICTURES)), ("labels", npy(LABELS))]


def _with(**arrays):
    members = dict(GOOD) | {
        name: value if isinstance(value, bytes) else npy(value) for name, value in arrays.items()
    }
    return archive(members.items())


# Content of an archive of `images` and `labels`, and the reason why it is refused.
ARCHIVES = {
    "plain_array": (npy(PICTURES), "not a zip file"),
    "text": (b"images and labels", "not a zip file"),
    "empty": (b"", "not a zip file"),
    "encrypted": (changed(archive(GOOD), 2, b"\x01"), "encrypted"),
    "compression": (changed(archive(GOOD), 4, b"\x63"), "by a method that NumPy does not write"),
    "bzip2": (archive(GOOD, method=zipfile.ZIP_BZIP2), "by a method that NumPy does not write"),
    "cut": (archive(GOOD)[:-60], "not a zip file"),
    "bad_content": (changed(archive(GOOD), 10, b"abcd"), "CRC"),
    "header_of_a_petabyte": (
        _with(images=npy(PICTURES, shape=(10**15, 8, 8))),
        "announced with 64000000000000000 bytes and has 256",
    ),
    "long_header": (
        _with(images=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr':"),
        "the header of the array 'images' cannot be read",
    ),
    "deep_header": (
        _with(images=b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000),
        "the header of the array 'images' cannot be read",
    ),
    "unknown_version": (
        _with(images=b"\x93NUMPY\x09\x09" + bytes(100)),
        "header of the array 'images'",
    ),
    "no_magic": (_with(images=bytes(300)), "header of the array 'images'"),
    "negative": (_with(images=npy(PICTURES, shape=(-4, 8, 8))), "announced"),
    "no_bytes": (
        _with(class_names=npy(np.zeros(0, np.uint8), shape=(10**15,), kind="<U0")),
        "not read",
    ),
    "bomb": (_bomb(), "announced with 1099511627776 bytes"),
    "twice": (archive([*GOOD, GOOD[0]]), "two arrays 'images'"),
    "objects": (_with(images=npy(PICTURES, kind="|O")), "type object, which is not read"),
    "no_dimensions": (_with(images=np.uint8(3)), r"images = 'uint8 \(\)'"),
    "floats": (
        _with(images=PICTURES - 0.5),
        "from -0.5 to -0.5 is not allowed; give pixels",
    ),
    "nan": (_with(images=PICTURES * np.nan), "values from nan to nan is not allowed"),
    "large_integers": (_with(images=PICTURES + np.int64(256)), "values from 256 to 256 is not"),
    "complex": (_with(images=PICTURES * 1j), "images = 'complex128"),
    "no_pixels": (_with(images=np.zeros((4, 0, 8), np.uint8)), r"images = 'uint8 \(4, 0, 8, 1\)'"),
    "strip": (
        _with(images=np.zeros((4, 1, 100_000), np.uint8)),
        "sides up to 4096",
    ),
    "names_of_no_dimension": (_with(class_names=np.array("a")), "class_names = "),
    "names_of_objects": (
        _with(class_names=npy(np.zeros(2, np.int64), kind="|O")),
        "type object, which is not read",
    ),
    "label_2^40": (_with(labels=np.array([0, 0, 1, 2**40])), r"labels.max\(\) = 1099511627776"),
    "label_2*10^8": (_with(labels=np.array([0, 0, 1, 2 * 10**8])), r"labels.max\(\) = 200000000"),
    "label_4": (_with(labels=np.array([0, 0, 1, 4])), "4 images have at most as many classes"),
    "label_2^63": (_with(labels=np.array([0, 0, 1, 2**63 + 5], np.uint64)), "labels below"),
    "label_-1": (_with(labels=np.array([0, 0, 1, -1])), "labels >= 0"),
    "labels_missing": (archive(GOOD[:1]), "lacks the array 'labels'"),
    "labels_short": (_with(labels=np.array([0, 1])), "one integer for each of 4 images"),
    "labels_of_floats": (_with(labels=np.zeros(4)), "one integer for each"),
    "other_size": (_with(test_images=PICTURES[:, :7], test_labels=LABELS), "test_images"),
    "other_channels": (
        _with(test_images=np.zeros((4, 8, 8, 3), np.uint8), test_labels=LABELS),
        r"test_images = \(8, 8, 3\)",
    ),
    "test_label": (_with(test_images=PICTURES, test_labels=np.array([0, 1, 2**40, 0])), "labels"),
    "test_labels_missing": (_with(test_images=PICTURES), "test_labels"),
}
