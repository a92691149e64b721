"""Convolutions of 3 x 3 and their gradients in NumPy, float64."""

import numpy as np


def _border(x, stride, same):
    """Zeros before and after each axis; a strided SAME puts none before an even side."""
    before = [int(not (same and stride == 2 and side % 2 == 0)) for side in x.shape[1:3]]
    return ((0, 0), *((n, 1) for n in before), (0, 0))


def _taps(x, stride, same):
    """The padded input under each of the nine taps, `(i, j, [B, H', W', C])`."""
    padded = np.pad(x, _border(x, stride, same))
    down, across = ((side - 1) // stride + 1 for side in x.shape[1:3])
    for i in range(3):
        for j in range(3):
            rows = slice(i, i + stride * (down - 1) + 1, stride)
            columns = slice(j, j + stride * (across - 1) + 1, stride)
            yield i, j, padded[:, rows, columns]


def convolve(x, kernel, stride, same=False):
    """`[B, H', W', O]`."""
    return sum(tap @ kernel[i, j] for i, j, tap in _taps(x, stride, same))


def gradients(x, kernel, dy, stride, same=False):
    """Of the input and of the kernel."""
    dx = np.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2, x.shape[3]))
    dk = np.zeros(kernel.shape)
    down, across = dy.shape[1:3]
    for i, j, tap in _taps(x, stride, same):
        rows = slice(i, i + stride * (down - 1) + 1, stride)
        columns = slice(j, j + stride * (across - 1) + 1, stride)
        dx[:, rows, columns] += dy @ kernel[i, j].T
        dk[i, j] = np.einsum("bhwc,bhwo->co", tap, dy, optimize=True)
    _, (top, _), (left, _), _ = _border(x, stride, same)
    return dx[:, top : top + x.shape[1], left : left + x.shape[2]], dk
