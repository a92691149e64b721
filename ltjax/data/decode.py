"""From a file's bytes to an RGB image, and from images to the size of the network; OpenCV alone."""

import cv2
import numpy as np

# More pixels than this are not a photograph, but a mistake or an attack: 2^27 are 400 MB.
MOST_PIXELS = 2**27
cv2.setNumThreads(0)  # images are decoded side by side; threads inside one are in the way
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # told in our own words


class DecodeError(ValueError):
    """Bytes that are no image, or not a whole one; the message is the reason alone."""


def image_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG or PNG header names; None for another format.

    >>> signature = b"\\x89PNG\\r\\n\\x1a\\n"
    >>> image_size(signature + bytes(11) + b"\\x05" + bytes(3) + b"\\x07")
    (7, 5)
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        return height, width
    if data[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        # Start-of-frame markers; 0xC4, 0xC8 and 0xCC are tables and an extension.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (
                int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7)
            )
            return height, width
        if marker == 0xFF:  # padding
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def decode(data: bytes, *, at_least: int | None = None) -> np.ndarray:
    """Decodes an image to uint8 RGB `[H, W, 3]`.

    Grey, RGBA (alpha is dropped), CMYK and 16-bit images become 8-bit RGB; the EXIF orientation is
    followed.

    Args:
      data: the file's content.
      at_least: decode a JPEG at 1/2, 1/4 or 1/8 of its size, as long as the shorter side keeps
        this many pixels; several times faster for large photographs.

    Raises:
      DecodeError: not an image, cut off, or larger than `MOST_PIXELS`.
    """
    size = image_size(data)
    jpeg = data[:2] == b"\xff\xd8"
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise DecodeError(f"its header says {size[1]} x {size[0]} pixels, at most 2^27 are read")
    # Coded pixels never hold these markers, so the end must lie behind the last scan, wherever
    # the end of a thumbnail in the header may lie.
    if jpeg and data[-2:] != b"\xff\xd9" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise DecodeError("the JPEG is cut off: it has no end marker")
    flag = cv2.IMREAD_COLOR
    if jpeg and size is not None and at_least:
        for factor, reduced in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            if min(size) >= factor * at_least:
                flag = reduced
                break
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as e:
        raise DecodeError(f"OpenCV: {e.err}") from e
    if image is None:
        raise DecodeError("it is empty" if not data else "it is not an image that OpenCV reads")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
