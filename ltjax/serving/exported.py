"""Runs an exported network: python run.py IMAGES [LOGITS.npy]

IMAGES is a picture, a folder of pictures, or a .npy file of uint8 [N, H, W, C]; of a network on
given features it is a .npy file of these, [N, D]. It needs jax, NumPy and flatbuffers, and OpenCV
for pictures. This file, `model.json` and `model.stablehlo` are all of it.
"""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export

BATCH = 64


def resize(image, height, width):
    """Bilinear, or by area if the image shrinks to less than half; as in training."""
    import cv2

    if image.shape[:2] == (height, width):
        return image
    shrinks = 2 * height < image.shape[0] or 2 * width < image.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=kind)


def center_square(image, size):
    """The shorter side becomes 8/7 of the size, and the central square is taken."""
    if image.shape[:2] == (size, size):
        return image
    shorter = min(image.shape[:2])
    image = middle(image, *(min(side, 16 * shorter) for side in image.shape[:2]))
    scale = size / 0.875 / shorter
    height, width = (max(size, round(side * scale)) for side in image.shape[:2])
    return middle(resize(image, height, width), size, size)


def middle(image, height, width):
    """The part of this size around the center."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def picture(path, shape):
    """The pixels of a file, uint8 [H, W, C]; None, with a line, where it is no picture."""
    try:
        import cv2
    except ImportError:
        sys.exit("pictures need OpenCV: pip install opencv-python-headless")
    try:
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except (OSError, MemoryError, cv2.error):  # unreadable, or larger than OpenCV allows
        image = None
    if image is None:
        print(f"skipped {path}: no picture that OpenCV reads", file=sys.stderr)
        return None
    height, width, channels = shape
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if height == width:
        image = center_square(image, height)
    image = resize(image, height, width)
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return image


def array(path, shape, dtype):
    """The inputs of a .npy file; ends the program with a line where they do not fit."""
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as e:
        sys.exit(f"{path} cannot be read: {e}")
    # Fractions that become pixels would all be 0; other numbers may become features.
    numbers = found.dtype == dtype or (len(shape) == 1 and found.dtype.kind in "fiu")
    if list(found.shape[1:]) != shape or not numbers:
        sys.exit(f"{path} holds {found.dtype} {list(found.shape)}; give {dtype} {['N', *shape]}")
    return found


def inputs(path, shape, dtype):
    """Batches of names and inputs."""
    if path.suffix == ".npy":
        images = array(path, shape, dtype)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            yield [str(start + i) for i in range(len(part))], part.astype(dtype)
        return
    if len(shape) == 1:
        sys.exit("this network takes features: give a .npy file of them")
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    for start in range(0, len(files), BATCH):
        found = [(str(f), picture(f, shape)) for f in files[start : start + BATCH]]
        found = [(name, image) for name, image in found if image is not None]
        if found:
            yield [name for name, _ in found], np.stack([image for _, image in found])


def output_of(given, source):
    """Where the logits go, or None; ends the program where they cannot."""
    if not given:
        return None
    if given[0].suffix != ".npy" or not given[0].parent.is_dir():
        sys.exit(f"{given[0]} is not allowed; give a .npy file in a folder that exists")
    if given[0].exists() and given[0].samefile(source):
        sys.exit(f"{given[0]} is the input; give another file for the logits")
    return given[0]


def main():
    """Prints the class and its probability for every image; writes the logits if asked to."""
    given = [Path(name) for name in sys.argv[1:3]]
    if not given or not (given[0].is_file() or given[0].is_dir()):  # no pipe, which would wait
        sys.exit(__doc__)
    source, output = given[0], output_of(given[1:], given[0])
    folder = Path(__file__).parent
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    network = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    logits = []
    for names, images in inputs(source, model["input"]["shape"][1:], model["input"]["dtype"]):
        logits.append(np.asarray(network.call(images)))
        probabilities = np.asarray(jax.nn.softmax(logits[-1] / model["temperature"], axis=-1))
        for name, row in zip(names, probabilities, strict=True):
            best = int(row.argmax())
            print(f"{name}\t{model['classes'][best]}\t{row[best]:.4f}")
    if not logits:
        sys.exit("no picture was read")
    if output:
        np.save(output, np.concatenate(logits))


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
