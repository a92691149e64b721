"""From the bytes of a file to an RGB image, by OpenCV."""

import functools

import numpy as np

from ltjax.augment.opencv import MAX_PIXELS, cv2

# Largest size of an image file: what the most pixels take where they are not compressed.
MAX_BYTES = 2**29
# Largest longer side, in shorter sides. A crop of a longer image would show next to nothing of it.
MAX_RATIO = 100


class DecodeError(ValueError):
    """The bytes are no complete image; the message is the reason only."""


@functools.cache
def _prepare_opencv() -> None:
    """Sets up OpenCV for this process, once, before its first image is decoded.

    Several images are decoded at once, so threads within one only get in the way. OpenCV's own
    messages are off, since `DecodeError` and the files' names say more.
    """
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Reads the size of an image from the header of its JPEG or PNG file.

    Args:
      data: content of the file.

    Returns:
      Height and width in pixels; None for other formats.

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
    """Decodes an image to 8-bit RGB.

    Gray, RGBA (alpha is dropped), CMYK and 16-bit images become 8-bit RGB, and the EXIF
    orientation is applied.

    Args:
      data: content of the file.
      at_least: decode a JPEG at 1/2, 1/4 or 1/8 of its size if its shorter side keeps at least
        this many pixels, which is several times faster for large photographs.

    Returns:
      uint8 `[H, W, 3]`.

    Raises:
      DecodeError: the data are not an image, or the image is truncated, has more than
        `MAX_PIXELS` pixels, or is more than `MAX_RATIO` times as long as wide.
    """
    _prepare_opencv()
    size = image_size(data)
    jpeg = data[:2] == b"\xff\xd8"
    if size is not None:
        _check_size(*size)
    # Coded pixels never contain these markers. The end marker must follow the last scan: an
    # earlier one may belong to a thumbnail in the header.
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
        if image is None:
            raise DecodeError("it is empty" if not data else "it is not an image that OpenCV reads")
        _check_size(*image.shape[:2])
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    except cv2.error as e:
        if "CV_IO_MAX_IMAGE" in e.err:
            raise DecodeError("it has more pixels than the 2^27 allowed") from e
        raise DecodeError(f"OpenCV: {' '.join(e.err.split())}") from e
    except MemoryError as e:
        raise DecodeError("there is not enough memory to decode it") from e


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise DecodeError(f"it has {width} x {height} pixels, more than the 2^27 allowed")
    if max(height, width) > MAX_RATIO * max(min(height, width), 1):
        raise DecodeError(
            f"it has {width} x {height} pixels; its longer side may be at most {MAX_RATIO} times "
            "its shorter one"
        )
