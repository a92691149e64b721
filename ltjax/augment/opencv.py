"""OpenCV with a limit on the size of images; the package imports it from here alone.

OpenCV reads its limits when it is loaded. They hold for every format, since each of its decoders
checks them as soon as it knows the size of the image. Where a program has loaded OpenCV before
ltjax, OpenCV's own limit of 2^30 pixels stays.
"""

import os

# An image of more pixels than this is a mistake or an attack: 2^27 pixels are 400 MB.
MAX_PIXELS = 2**27
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

import cv2  # noqa: E402 - after the limit

__all__ = ["MAX_PIXELS", "cv2"]
