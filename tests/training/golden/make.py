"""Makes `sam.npz` with PyTorch and a checkout of the published code of SAM for it.

    pip install torch
    git clone https://github.com/davda54/sam                                  # at 3c3afdb
    python -m tests.training.golden.make --sam sam

The file holds a data set, batches of it, and the parameters of a small network before the first
step and after each. None of that code is part of ltjax: it is imported from where it lies.
"""

from pathlib import Path

import torch

from tests.golden import published, write

FOLDER = Path(__file__).parent
SETTINGS = {"rho": 0.5, "rate": 0.1, "momentum": 0.9, "weight_decay": 0.01}


def sam(folder):
    """Four steps of SAM on SGD, whose first pass alone has the weights themselves."""
    images = torch.randn(24, 6)
    labels = torch.randint(0, 4, (24,))
    batches = torch.stack([torch.randperm(24)[:8] for _ in range(4)])
    network = torch.nn.Sequential(
        torch.nn.Linear(6, 5, bias=False),
        torch.nn.BatchNorm1d(5),
        torch.nn.ReLU(),
        torch.nn.Linear(5, 4),
    )
    optimizer = published(folder, "sam").SAM(
        network.parameters(),
        torch.optim.SGD,
        rho=SETTINGS["rho"],
        lr=SETTINGS["rate"],
        momentum=SETTINGS["momentum"],
        weight_decay=SETTINGS["weight_decay"],
    )
    found = {"images": images, "labels": labels, "batches": batches, **SETTINGS}

    def keep(step):
        for name, parameter in network.named_parameters():
            found[f"{step}/{name}"] = parameter.detach().clone()

    keep(0)
    for step, batch in enumerate(batches, 1):
        for passed in (optimizer.first_step, optimizer.second_step):
            value = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
            value.backward()
            passed(zero_grad=True)
        keep(step)
    return found


if __name__ == "__main__":
    write(__doc__, FOLDER, {"sam": sam})
