"""Convolutions of 3 x 3 and their gradients in NumPy, float64."""

import numpy as np


def _taps(x, stride):
    """The padded input under each of the nine taps, `(i, j, [B, H', W', C])`."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    down, across = ((side - 1) // stride + 1 for side in x.shape[1:3])
    for i in range(3):
        for j in range(3):
            rows = slice(i, i + stride * (down - 1) + 1, stride)
            columns = slice(j, j + stride * (across - 1) + 1, stride)
            yield i, j, padded[:, rows, columns]


def convolve(x, kernel, stride):
    """`[B, H', W', O]`."""
    return sum(tap @ kernel[i, j] for i, j, tap in _taps(x, stride))


def gradients(x, kernel, dy, stride):
    """Of the input and of the kernel."""
    dx = np.zeros((x.shape[0], x.shape[1] + 2, x.shape[2] + 2, x.shape[3]))
    dk = np.zeros(kernel.shape)
    down, across = dy.shape[1:3]
    for i, j, tap in _taps(x, stride):
        rows = slice(i, i + stride * (down - 1) + 1, stride)
        columns = slice(j, j + stride * (across - 1) + 1, stride)
        dx[:, rows, columns] += dy @ kernel[i, j].T
        dk[i, j] = np.einsum("bhwc,bhwo->co", tap, dy, optimize=True)
    return dx[:, 1:-1, 1:-1], dk
