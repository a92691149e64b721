"""The baseline: the same networks and recipe in PyTorch, eager and compiled."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class CifarBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; option-A shortcut."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.stride, self.new = stride, width - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return F.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm; projection where the shape changes."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *(nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)),
            *(nn.ReLU(), nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or before != out:
            conv = nn.Conv2d(before, out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def network(name: str, classes: int) -> nn.Module:
    """One of the names in `contender.SHAPES`."""
    shape: tuple[tuple[int, int, int], ...]  # width, blocks and stride of each stage
    if name.endswith("_cifar"):
        parts = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        blocks = (int(name.removeprefix("resnet").removesuffix("_cifar")) - 2) // 6
        shape, block, grow = ((16, blocks, 1), (32, blocks, 2), (64, blocks, 2)), CifarBlock, 1
        before = 16
    else:
        parts = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        parts.append(nn.MaxPool2d(3, 2, 1))
        shape, grow = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)), 4
        before, block = 64, Bottleneck
    for width, blocks, stride in shape:
        for i in range(blocks):
            parts.append(block(before, width, 1 if i else stride))
            before = grow * width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class PyTorchBaseline:
    """Training steps of a network on resident images: gather, shift, normalize, SGD.

    Args:
      name: of the network.
      images: uint8 `[N, H, W, 3]`.
      labels: int `[N]`.
      batch: images a step.
      classes: C.
      bfloat16: autocast.
      channels_last: memory format.
      compiled: `torch.compile`.
    """

    def __init__(self, name, images, labels, batch, classes, *, bfloat16, channels_last, compiled):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.images = torch.tensor(images, device=self.device)
        self.labels = torch.tensor(labels, device=self.device, dtype=torch.int64)
        self.batch, self.bfloat16 = batch, bfloat16
        model = network(name, classes).to(self.device, memory_format=self.format)
        self.optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        self.model = torch.compile(model) if compiled else model
        self.rng = np.random.default_rng(0)

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A random batch, shifted by up to 4 pixels and normalized."""
        index = torch.tensor(self.rng.integers(len(self.labels), size=self.batch))
        x, y = self.images[index.to(self.device)], self.labels[index.to(self.device)]
        size, margin = x.shape[1], 4
        x = F.pad(x, (0, 0, margin, margin, margin, margin))
        offsets = torch.tensor(self.rng.integers(2 * margin + 1, size=(2, self.batch, 1)))
        rows, columns = (offsets + torch.arange(size)).to(self.device)
        each = torch.arange(self.batch, device=self.device)[:, None, None]
        x = x[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        x = (x.to(torch.float32) / 255 - 0.5) / 0.25
        return x.contiguous(memory_format=self.format), y

    def __call__(self, steps: int) -> None:
        """Takes so many steps and waits for them."""
        for _ in range(steps):
            x, y = self.inputs()
            self.optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
                loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
        loss.item()
