"""Features of images by a pretrained backbone, without any training."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.augment.device import normalize
from ltjax.data.weights import Pretrained, read_pretrained
from ltjax.errors import InputError
from ltjax.models import ModelConfig, make_backbone
from ltjax.models.pretrained import PRETRAINED

# Names of interpolations as `jax.image.resize` takes them.
_METHODS = {"bilinear": "linear", "bicubic": "cubic"}


def load_backbone(name: str) -> tuple[nn.Module, Pretrained]:
    """Reads a pretrained backbone by its name.

    Args:
      name: one of `ltjax.models.pretrained.PRETRAINED`.

    Returns:
      The module, and its variables with what images it takes.

    Raises:
      InputError: an unknown name, or a file that must be fetched first or is another.
    """
    if name not in PRETRAINED:
        raise InputError(f"--weights = {name!r} is not allowed; use one of {', '.join(PRETRAINED)}")
    backbone = PRETRAINED[name].backbone
    module = make_backbone(ModelConfig(name=backbone))
    return module, read_pretrained(name, backbone, module)


def features_function(
    module: nn.Module, pretrained: Pretrained, size: int | None = None
) -> Callable[[jax.Array], jax.Array]:
    """The backbone as a function of pixels.

    Images of another size are resized as a whole, as the backbone's entry says.

    Args:
      module: the backbone.
      pretrained: its variables.
      size: side of the square that the network sees, in pixels; None takes that of the entry.

    Returns:
      A function of uint8 images `[B, H, W, 3]` that gives float32 features `[B, D]`.
    """
    entry = pretrained.entry
    side = size or entry.size
    mean, std = (jnp.asarray(values, jnp.float32) * 255 for values in (entry.mean, entry.std))

    def features(images: jax.Array) -> jax.Array:
        pixels = images.astype(jnp.float32)
        if images.shape[1:3] != (side, side):
            shape = (images.shape[0], side, side, images.shape[3])
            resized = jax.image.resize(pixels, shape, _METHODS[entry.interpolation])
            pixels = jnp.clip(resized, 0, 255)
        out = module.apply(pretrained.weights.backbone, normalize(pixels, mean, std), train=False)
        assert isinstance(out, jax.Array)
        return out.astype(jnp.float32)

    return features
