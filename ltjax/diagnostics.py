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


def covariance_stability(
    features: np.ndarray, batches: np.ndarray, *, reference: np.ndarray | None = None
) -> np.ndarray:
    """Relative deviation of the covariance of each batch from a full covariance.

        d_t = ||S_t - S|| / ||S||    (Frobenius)

    `S_t` is the covariance of batch `t` about its own mean, as whitening sees it. Free of
    the scale of the features.

    Args:
      features: float `[N, D]`, of every image.
      batches: int `[S, B]`, image indices of each batch, as `plan.epoch` gives.
      reference: float `[M, D]`, features whose covariance is `S`; by default those of all
        the batches together, what the running statistics of the plan tend to.

    Returns:
      float64 `[S]`.

    Source: ours, for the instability that arXiv 2408.17197 describes.

    >>> x = np.array([[0.0], [2.0], [0.0], [4.0]])
    >>> covariance_stability(x, np.array([[0, 1], [2, 3]]), reference=x[:2]).tolist()
    [0.0, 3.0]
    """
    x = features.astype(np.float64)

    def covariance(rows: np.ndarray) -> np.ndarray:
        return np.atleast_2d(np.cov(rows, rowvar=False, bias=True))

    full = covariance(x[batches.ravel()] if reference is None else reference.astype(np.float64))
    scale = max(float(np.linalg.norm(full)), np.finfo(float).tiny)
    return np.array([np.linalg.norm(covariance(x[row]) - full) / scale for row in batches])


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
