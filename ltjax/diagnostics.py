"""What the paper explains, as numbers: spectrum, correlation and effective rank of features."""

from typing import Any

import numpy as np


def spectrum(features: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance, descending, as shares of their sum, float64 `[D]`."""
    values = np.linalg.eigvalsh(np.cov(features.astype(np.float64), rowvar=False, bias=True))
    values = np.maximum(values[::-1], 0)
    return values / max(values.sum(), np.finfo(float).tiny)


def effective_rank(shares: np.ndarray) -> float:
    """`exp(H(p))`, `H(p) = -sum p_i log p_i` of the spectrum's shares.

    Source: Roy and Vetterli, The effective rank (EUSIPCO 2007).

    >>> round(effective_rank(np.array([0.5, 0.5, 0.0])), 6)
    2.0
    """
    p = shares[shares > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def channel_correlation(features: np.ndarray) -> tuple[float, float]:
    """Mean and maximum of `|rho_ij|`, `i != j`, over channels that vary."""
    x = features.astype(np.float64)
    x = x[:, x.std(axis=0) > 0]
    if x.shape[1] < 2:
        return 0.0, 0.0
    rho = np.abs(np.corrcoef(x, rowvar=False))
    off = rho[~np.eye(len(rho), dtype=bool)]
    return float(off.mean()), float(off.max())


def describe(features: np.ndarray) -> dict[str, Any]:
    """Spectrum, effective rank and channel correlation of features `[N, D]`."""
    shares = spectrum(features)
    mean, largest = channel_correlation(features)
    return {
        "spectrum": shares.tolist(),
        "effective_rank": effective_rank(shares),
        "mean_abs_correlation": mean,
        "max_abs_correlation": largest,
    }
