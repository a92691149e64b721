"""Makes `max_norm.npz` with PyTorch and a checkout of the published code of MaxNorm for it.

    pip install torch
    git clone https://github.com/ShadeAlsha/LTR-weight-balancing              # at e89f292
    python -m tests.models.golden.make_heads --max_norm LTR-weight-balancing

The file holds a classifier's weights, the radius that the code takes from them, the weights after
a step away from there, and their projection. None of that code is part of ltjax: it is imported
from where it lies.
"""

from pathlib import Path
from types import SimpleNamespace

import torch

from tests.golden import published, write

FOLDER = Path(__file__).parent
SHARE = 0.1


def max_norm(folder):
    """`MaxNorm_via_PGD` of a classifier of seven classes whose vectors differ in length."""
    norm = published(folder, "utils.regularizers").MaxNorm_via_PGD(thresh=SHARE)
    layer = torch.nn.Linear(5, 7)
    layer.weight.data *= torch.linspace(0.3, 3, 7)[:, None]
    network = SimpleNamespace(encoder=SimpleNamespace(fc=layer))
    found = {"share": SHARE, "weight": layer.weight.detach().clone()}
    norm.setPerLayerThresh(network)
    found["radius"] = norm.perLayerThresh[0]
    layer.weight.data += 0.1 * torch.randn(7, 5)
    found["moved"] = layer.weight.detach().clone()
    norm.PGD(network)
    return found | {"projected": layer.weight.detach()}


if __name__ == "__main__":
    write(__doc__, FOLDER, {"max_norm": max_norm})
