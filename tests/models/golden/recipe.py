"""Weights and images of the golden networks, the same wherever they are made."""

import zlib

import numpy as np

# Name of each golden network to the side of its images. The last part of a ResNet has one pixel.
SIZES = {"basic": 33, "resnext": 33, "efficientnet_lite": 40}
# The blocks of the small EfficientNet-Lite: number, kernel, stride, expansion, width.
STAGES = ((1, 3, 1, 1, 16), (1, 5, 2, 6, 24), (1, 3, 1, 6, 24))
# The blocks of the small ResNets.
BLOCKS = (1, 2, 1, 1)
# Name of each golden Vision Transformer to its grid, the side of its images, for which positions
# may be resampled, and what else differs. All have two blocks of two heads, width 16, and patches
# of 4 pixels.
VITS = {
    "vit": (4, 24, {}),
    "vit_gap": (3, 12, {"token": False}),
    "dinov2": (5, 12, {"registers": 2, "layer_scale": True}),
    "dinov2_own": (3, 12, {"registers": 2, "layer_scale": True}),
    "dinov2_hf": (3, 12, {"registers": 2, "layer_scale": True}),
    "clip_timm": (3, 20, {"pre_norm": True, "quick_gelu": True, "epsilon": 1e-5}),
    "clip_openai": (3, 12, {"pre_norm": True, "quick_gelu": True, "epsilon": 1e-5}),
    "clip_hf": (3, 12, {"pre_norm": True, "quick_gelu": True, "epsilon": 1e-5}),
    "augreg": (3, 12, {}),
    "big_vision": (3, 12, {}),
    "big_vision_gap": (3, 12, {"token": False}),
}


def tensor(name, shape):
    """A tensor of a state dict: random numbers that depend on its name and shape only."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))  # its stream never changes
    normal = draw.standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(normal)
    elif len(shape) == 4:
        values = normal * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("weight") and len(shape) == 1:
        values = 1 + 0.1 * normal
    else:
        values = 0.1 * normal
    return values.astype(np.float32)


def images(size):
    """Two normalized images `[2, size, size, 3]`."""
    return np.random.RandomState(0).standard_normal((2, size, size, 3)).astype(np.float32)


def direction(count):
    """The weights of the features in the scalar whose gradient is stored."""
    return np.random.RandomState(1).standard_normal((2, count)).astype(np.float32)
