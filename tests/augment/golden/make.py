"""Makes `operations.npz` with torchvision: AutoAugment's policies and what its operations compute.

    pip install torch torchvision
    python -m tests.augment.golden.make

The file holds an image, what every operation makes of it at some magnitudes, computed by Pillow as
torchvision calls it, and the tables of both policies. Three things are not as torchvision's policy
has them, but as ltjax has them. Pixels are interpolated, where it takes the nearest by default.
Shears are about the center and translations by fractions of a pixel, where it shears about a corner
and translates by whole pixels. And the threshold of solarize begins at 256, as in the code of
AutoAugment's authors, where it begins at 255. The border of the image is gray, so that it does not
matter that Pillow repeats it and ltjax interpolates between it and gray.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional
from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy, _apply_op
from torchvision.transforms.functional import InterpolationMode

FOLDER = Path(__file__).parent
SIZE = (16, 20)
MAGNITUDES = (4, 9)
BETWEEN = {"interpolation": InterpolationMode.BILINEAR, "fill": [128.0, 128.0, 128.0]}
# By the names of ltjax.
OPERATIONS = {
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "solarize": "Solarize",
    "posterize": "Posterize",
    "color": "Color",
    "contrast": "Contrast",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "rotate": "Rotate",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "invert": "Invert",
}
POLICIES = {"cifar": AutoAugmentPolicy.CIFAR10, "imagenet": AutoAugmentPolicy.IMAGENET}


def picture():
    """Colors that change smoothly, of no more than 200 levels, and a gray border."""
    small = Image.fromarray(np.random.RandomState(0).randint(20, 220, (4, 5, 3)).astype(np.uint8))
    found = np.array(small.resize(SIZE[::-1], Image.Resampling.BILINEAR))
    found[[0, -1]] = found[:, [0, -1]] = 128
    return Image.fromarray(found)


def affine(image, name, value):
    """A shear or a translation about the center."""
    shear, moved = [0.0, 0.0], [0.0, 0.0]
    axis = "XY".index(name[-1])
    if name.startswith("Shear"):
        shear[axis] = float(np.rad2deg(np.arctan(value)))
    else:
        moved[axis] = value
    return functional.affine(image, angle=0.0, translate=moved, scale=1.0, shear=shear, **BETWEEN)


def operations():
    """What each operation makes of the image, by its name, magnitude and sign."""
    image = picture()
    space = AutoAugment()._augmentation_space(10, SIZE)
    space["Solarize"] = (torch.linspace(256.0, 0.0, 10), False)
    found = {"image": image}
    for ours, name in OPERATIONS.items():
        values, signed = space[name]
        for magnitude in MAGNITUDES if values.ndim else (0,):
            for sign in (1, -1) if signed else (1,):
                value = sign * float(values[magnitude] if values.ndim else values)
                if name[-1] in "XY":
                    made = affine(image, name, value)
                else:
                    made = _apply_op(image, name, value, **BETWEEN)
                found[f"{ours}/{magnitude}/{sign}"] = made
    return found


def tables():
    """Names, probabilities and magnitudes (-1 where there is none) of all steps, in order."""
    ours, found = {name: own for own, name in OPERATIONS.items()}, {}
    for key, policy in POLICIES.items():
        steps = [step for pair in AutoAugment(policy).policies for step in pair]
        found[f"{key}/names"] = [ours[name] for name, _, _ in steps]
        found[f"{key}/chances"] = [chance for _, chance, _ in steps]
        found[f"{key}/magnitudes"] = [-1 if m is None else m for _, _, m in steps]
    return found


def main():
    """Writes the file."""
    found = operations() | tables()
    arrays = {key: np.asarray(x) for key, x in found.items()}
    np.savez_compressed(FOLDER / "operations.npz", **arrays)


if __name__ == "__main__":
    main()
