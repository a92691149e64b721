"""Convolutions and their gradients in NumPy, float64."""

import numpy as np

# Every kind of widths that the kernels serve.
CHANNELS = (16, 32, 48, 64, 128, 256)


def error(found, wanted):
    """Largest difference, relative to the largest value."""
    return np.max(np.abs(np.asarray(found, np.float64) - wanted)) / np.max(np.abs(wanted))


def normal(rng, *shape):
    """Float32 draws of the normal distribution."""
    return rng.normal(size=shape).astype(np.float32)


def _border(x, size, stride, same):
    """Zeros before and after each axis: half a kernel, or as XLA's SAME puts them."""

    def before(side):
        total = max(0, (side - 1) // stride * stride + size - side)
        return total // 2 if same else size // 2

    return ((0, 0), *((before(side), size) for side in x.shape[1:3]), (0, 0))


def _taps(x, size, stride, same):
    """The padded input under each tap, with its slices: `(i, j, rows, columns, [B, H', W', C])`."""
    padded = np.pad(x, _border(x, size, stride, same))
    down, across = ((side - 1) // stride + 1 for side in x.shape[1:3])
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * (down - 1) + 1, stride)
            columns = slice(j, j + stride * (across - 1) + 1, stride)
            yield i, j, rows, columns, padded[:, rows, columns]


def convolve(x, kernel, stride, same=False):
    """`[B, H', W', O]`."""
    taps = _taps(x, len(kernel), stride, same)
    return sum(tap @ kernel[i, j] for i, j, _, _, tap in taps)


def gradients(x, kernel, dy, stride, same=False):
    """Of the input and of the kernel."""
    border = _border(x, len(kernel), stride, same)
    (_, (top, _), (left, _), _), dk = border, np.zeros(kernel.shape)
    dx = np.pad(np.zeros(x.shape), border)
    for i, j, rows, columns, tap in _taps(x, len(kernel), stride, same):
        dx[:, rows, columns] += dy @ kernel[i, j].T
        dk[i, j] = np.einsum("bhwc,bhwo->co", tap, dy, optimize=True)
    return dx[:, top : top + x.shape[1], left : left + x.shape[2]], dk
