"""What whitening is compared with: PyTorch's routes, and JAX's own autodiff of `eigh`.

Every baseline whitens with the same shrunk covariance, (1 - a) S + a (tr S / D) I, and keeps a
running covariance. Written here from the formulas.
"""

from typing import Any

import jax
import jax.numpy as jnp

HIGHEST = jax.lax.Precision.HIGHEST


def eigh_autodiff(x: jax.Array, a: float) -> tuple[jax.Array, jax.Array]:
    """ZCA on the D x D side, differentiated by JAX: `(Z, S)`."""
    xc = x - jnp.mean(x, axis=0, keepdims=True)
    s = jnp.matmul(xc.T, xc, precision=HIGHEST) / x.shape[0]
    eye = jnp.eye(x.shape[1], dtype=x.dtype)
    values, vectors = jnp.linalg.eigh((1 - a) * s + a * jnp.trace(s) / x.shape[1] * eye)
    root = jnp.matmul(vectors / jnp.sqrt(values)[None, :], vectors.T, precision=HIGHEST)
    return jnp.matmul(xc, root, precision=HIGHEST), s


def torch_baselines(torch: Any) -> dict[str, Any]:
    """PyTorch functions of `(x, a)` to `(Z, S)`."""

    def moments(x, a):
        xc = x - x.mean(0)
        s = xc.T @ xc / x.shape[0]
        trace = s.diagonal().sum() / x.shape[1]
        return xc, s, (1 - a) * s + a * trace * torch.eye(x.shape[1], device=x.device)

    def eigh(x, a):
        xc, s, ridged = moments(x, a)
        values, vectors = torch.linalg.eigh(ridged)
        return xc @ (vectors * values.rsqrt()) @ vectors.T, s

    def svd(x, a):
        xc = x - x.mean(0)
        u, sigma, vt = torch.linalg.svd(xc, full_matrices=False)
        power = sigma**2 / x.shape[0]
        scale = ((1 - a) * power + a * power.sum() / x.shape[1]).rsqrt()
        with torch.no_grad():
            s = xc.T @ xc / x.shape[0]
        return (u * (sigma * scale)) @ vt, s

    def iternorm(x, a):
        """Huang et al. (CVPR 2019): five uncoupled Newton steps from the identity."""
        xc, s, ridged = moments(x, a)
        trace = ridged.diagonal().sum()
        normed = ridged / trace
        p = torch.eye(x.shape[1], device=x.device)
        for _ in range(5):
            p = 1.5 * p - 0.5 * (p @ p @ p) @ normed
        return xc @ p * trace.rsqrt(), s

    def cholesky(x, a):
        xc, s, ridged = moments(x, a)
        lower = torch.linalg.cholesky(ridged)
        return torch.linalg.solve_triangular(lower, xc.T, upper=False).T, s

    return {"eigh": eigh, "svd": svd, "iternorm 5": iternorm, "cholesky": cholesky}
