"""Images written for tests."""

import io

import numpy as np
from PIL import Image

from ltjax.augment.opencv import cv2


def picture(height=40, width=60, seed=0):
    """A smooth colorful image, uint8 `[H, W, 3]`, which JPEG keeps nearly as it is."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(image, kind="jpeg", **options):
    """The file's content, by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def write_folder(root, classes, *, size=(40, 60)):
    """`root/CLASS/number.jpg`; classes maps names to numbers of images."""
    number = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            content = encoded(picture(*size, seed=number), quality=95)
            (root / name / f"{i}.jpg").write_bytes(content)
            number += 1
    return root
