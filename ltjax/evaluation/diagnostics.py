"""What the paper explains, as numbers: spectra of features, and the state of the classifier."""

from typing import Any

import numpy as np
from scipy.special import softmax

from ltjax.evaluation.hessian import EXACT_UP_TO, conditioning

# Eigenvalues below this share of their sum are rounding, not variance.
FLOOR = 1e-10


def spectrum(features: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance of features, as shares of their sum.

        p_i = lambda_i / sum_j lambda_j

    Args:
      features: float `[N, D]`.

    Returns:
      float64 `[D]`, descending; all 0 where no feature varies.

    >>> spectrum(np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    covariance = np.cov(features.astype(np.float64), rowvar=False, bias=True)
    values = np.linalg.eigvalsh(np.atleast_2d(covariance))  # of one feature it is a number
    values = np.maximum(values[::-1], 0)
    return values / max(values.sum(), np.finfo(float).tiny)


def effective_rank(shares: np.ndarray) -> float:
    """Effective rank of a spectrum: the exponential of its entropy.

        exp(H(p)),    H(p) = -sum_i p_i log p_i

    Args:
      shares: float `[D]`, eigenvalues as shares of their sum.

    Returns:
      A number from 1 (one direction) to D (white).

    Source: Roy and Vetterli, The effective rank (EUSIPCO 2007).

    >>> round(effective_rank(np.array([0.5, 0.5, 0.0])), 6)
    2.0
    """
    p = shares[shares > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def channel_correlation(features: np.ndarray) -> tuple[float, float]:
    """Mean and maximum of the absolute correlation `|rho_ij|`, `i != j`, over channels that vary.

    Args:
      features: float `[N, D]`.

    Returns:
      Mean and maximum; 0 and 0 where fewer than two channels vary.

    >>> [round(value, 6) for value in channel_correlation(np.array([[0.0, 0.0], [1.0, -1.0]]))]
    [1.0, 1.0]
    """
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

    `S_t` is the covariance of batch `t` about its own mean, as whitening sees it. The deviation
    does not depend on the scale of the features.

    Args:
      features: float `[N, D]`, of every image.
      batches: int `[S, B]`, image indices of each batch, such as an epoch of a sampler.
      reference: float `[M, D]`, features whose covariance is `S`; by default those of all the
        batches together, whose covariance the sampler's running statistics approach.

    Returns:
      float64 `[S]`.

    Source: ours, for the instability that https://arxiv.org/abs/2408.17197 describes.

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


def gaussian_entropy(shares: np.ndarray) -> float:
    """Differential entropy per channel of a Gaussian with this spectrum and a mean variance of 1.

        h / D = (1/2) log(2 pi e) + (1 / 2D) sum_i log(D p_i)

    It does not depend on the scale of the features. Its maximum, at equal eigenvalues, is 1.419.
    A direction without variance counts as one with the share `FLOOR`.

    Args:
      shares: float `[D]`, eigenvalues as shares of their sum.

    Returns:
      Entropy in nats.

    Source: Cover and Thomas, Elements of Information Theory (2006), section 8.4.

    >>> round(gaussian_entropy(np.array([0.5, 0.5])), 3)
    1.419
    """
    scaled = np.maximum(shares, FLOOR) * len(shares)
    return float(0.5 * np.log(2 * np.pi * np.e) + 0.5 * np.mean(np.log(scaled)))


def correlation_matrix(features: np.ndarray, *, most: int = 128) -> np.ndarray:
    """Correlation of the first channels.

    Args:
      features: float `[N, D]`.
      most: largest number of channels.

    Returns:
      float32 `[k, k]`, `k = min(D, most)`; 0 where a channel does not vary.

    >>> correlation_matrix(np.array([[0.0, 0.0], [1.0, -1.0]])).round(3).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = features[:, :most].astype(np.float64)
    x = x - x.mean(axis=0)
    norms = np.linalg.norm(x, axis=0)
    x = x / np.where(norms > 0, norms, 1)
    return (x.T @ x).astype(np.float32)


def gradient_cosines(features: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cosines between the gradients of the class weight vectors under plain cross entropy.

        G = X^T (softmax(Z) - Y) / N,    cos_ab = <g_a, g_b> / (|g_a| |g_b|)

    Args:
      features: float `[N, D]`, inputs of the classifier.
      logits: float `[N, C]`.
      labels: int `[N]`.

    Returns:
      float64 `[C, C]`; 0 where a gradient vanishes.

    Source: ours, for the gradients that https://arxiv.org/abs/2408.17197 looks at.

    >>> x, z = np.ones((2, 1)), np.zeros((2, 2))
    >>> gradient_cosines(x, z, np.array([0, 0])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    p = softmax(logits.astype(np.float64), axis=1)
    p[np.arange(len(labels)), labels] -= 1
    gradient = features.astype(np.float64).T @ p / len(labels)
    norms = np.linalg.norm(gradient, axis=0)
    unit = gradient / np.where(norms > 0, norms, 1)
    return unit.T @ unit


def describe_classifier(
    features: np.ndarray, logits: np.ndarray, labels: np.ndarray, kernel: np.ndarray | None
) -> dict[str, Any]:
    """Weight norms, gradient cosines and the conditioning of the Hessian, of a classifier.

    Args:
      features: float `[N, D]`, inputs of the classifier.
      logits: float `[N, C]`.
      labels: int `[N]`.
      kernel: class weights `[D, C]`, or None where the head has none.

    Returns:
      JSON; the condition number is None where the dense Hessian would be too large to compute
      after every run (`ltjax.evaluation.hessian.conditioning` then uses Lanczos iterations).

    Raises:
      InputError: fewer than two classes, or features that are all 0.
    """
    features, logits = _finite(features), _finite(logits)
    cosines = gradient_cosines(features, logits, labels)
    off = cosines[~np.eye(len(cosines), dtype=bool)]
    found: dict[str, Any] = {
        "weight_norms": None
        if kernel is None
        else np.linalg.norm(_finite(kernel), axis=0).tolist(),
        "mean_gradient_cosine": float(off.mean()) if off.size else None,
        "mean_abs_gradient_cosine": float(np.abs(off).mean()) if off.size else None,
        "hessian_condition_number": None,
    }
    if features.shape[1] * logits.shape[1] <= EXACT_UP_TO:
        number = conditioning(features, logits).condition_number
        found["hessian_condition_number"] = float(number)
    return found


def _finite(x: np.ndarray) -> np.ndarray:
    """float64 that squares without overflow, also of a network that diverged."""
    return np.clip(np.nan_to_num(x.astype(np.float64)), -1e60, 1e60)


def describe(features: np.ndarray) -> dict[str, Any]:
    """Spectrum, entropies, conditioning and channel correlation of features.

    Args:
      features: float `[N, D]`.

    Returns:
      JSON, with the keys that docs/evaluation.md explains.
    """
    features = _finite(features)
    shares = spectrum(features)
    mean, largest = channel_correlation(features)
    kept = shares[shares > FLOOR]
    return {
        "spectrum": shares.tolist(),
        "effective_rank": effective_rank(shares),
        "spectral_entropy": float(np.log(effective_rank(shares))),
        "gaussian_entropy": gaussian_entropy(shares),
        "condition_number": float(kept[0] / kept[-1]) if len(kept) else None,
        "rank": len(kept),
        "mean_abs_correlation": mean,
        "max_abs_correlation": largest,
    }
