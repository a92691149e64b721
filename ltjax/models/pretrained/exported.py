"""How an export of ltjax names the layers of its network, in `model.safetensors`."""

import flax.linen as nn
import numpy as np

from ltjax.models.pretrained.naming import Naming, Path, Place, Shapes, Tensors, identity

_BACKBONE = "backbone"


def _places(shapes: Shapes, backbone: nn.Module) -> dict[Path, Place]:
    del backbone
    return {
        path: Place("/".join((path[0], _BACKBONE, *path[1:])), shape, identity)
        for path, shape in shapes.items()
    }


def _head(tensors: Tensors) -> dict[str, np.ndarray]:
    # It stands on whitened features, which are not the backbone's.
    return {}


def _beside(name: str) -> bool:
    return name.split("/")[1:2] != [_BACKBONE]


# Whitening, classifier and projector are left out.
EXPORTED = Naming(_places, _head, _beside)
