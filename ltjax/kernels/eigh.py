"""The eigendecomposition of a symmetric matrix on two threads, for CPUs."""

import jax
import jax.numpy as jnp

from ltjax.kernels.build import load

# Below, LAPACK's own driver on one thread is as fast.
SMALLEST = 128


def supports(size: int, dtype: jax.typing.DTypeLike) -> bool:
    """Whether a decomposition can be computed here, and is faster than by XLA.

    Args:
      size: number of rows.
      dtype: float32 alone.

    Returns:
      False also where there is no library (`ltjax.kernels.build.load` says why).
    """
    on_cpu = jax.default_backend() == "cpu"
    return (
        size >= SMALLEST and jnp.dtype(dtype) == jnp.float32 and on_cpu and load().path is not None
    )


def eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors of a symmetric matrix, by LAPACK's parts on two threads.

    The result is the same for any number of threads. It is a constant to differentiation.

    Args:
      matrix: `[D, D]`, float32, of at least 8 rows, where `supports` was asked before.

    Returns:
      `(values, vectors)`: eigenvalues `[D]`, ascending, and eigenvectors `[D, D]`, in columns; NaN
      where the matrix has an entry that is not finite.

    Source: Cuppen's divide and conquer as in LAPACK's `ssyevd`,
    https://www.netlib.org/lapack/lug/node30.html; dividing the work between threads is ours.
    """
    matrix = jax.lax.stop_gradient(matrix)
    size = matrix.shape[0]
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((size,), (size, size))]
    values, rows = jax.ffi.ffi_call("ltjax_eigh", shapes, vmap_method="sequential")(matrix)
    # `shard_map` does not know by itself that the result varies where the matrix does.
    axes = tuple(jax.typeof(matrix).mat.varying)
    if axes:
        values, rows = (jax.lax.pcast(x, axes, to="varying") for x in (values, rows))
    return values, rows.T
