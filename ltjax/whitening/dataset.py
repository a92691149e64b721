"""The statistics of a whole data set, for a layer whose inputs no training changes.

Features that are given, such as embeddings, stay what they are, so that their moments need no
running average: they are computed once, from all rows, and one root is taken for the whole
training.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.errors import InputError
from ltjax.whitening.methods import DIAGONAL
from ltjax.whitening.moments import GROUPS, batch_moments
from ltjax.whitening.running import Options, Running, start
from ltjax.whitening.shrinkage import FLOOR, ledoit_wolf, oas, relative_ridge


class DatasetMoments(NamedTuple):
    """Mean and covariance of all rows, float64.

    Attributes:
      mean: `[D]`.
      covariance: in the shape of `Moments.covariance`.
      rows: how many there are.
    """

    mean: np.ndarray
    covariance: np.ndarray
    rows: int


_moments = jax.jit(batch_moments, static_argnames=("groups", "diagonal"))


def dataset_moments(
    chunks: Iterable[np.ndarray], *, groups: int = GROUPS.default, diagonal: bool = False
) -> DatasetMoments:
    """Mean and (biased) covariance of rows that come in chunks, which need not fit into memory.

    Two parts `a` and `b` of all rows are joined, in float64, by

        d = mu_b - mu_a,    mu = mu_a + (n_b / n) d
        n S = n_a S_a + n_b S_b + (n_a n_b / n) d d^T

    Args:
      chunks: features `[N_i, D]`, any float dtype; one chunk at a time is in memory.
      groups: number of equal, contiguous channel groups; covariances within groups only.
      diagonal: compute variances only.

    Returns:
      What `batch_moments` gives for all rows, and their number.

    Raises:
      InputError: no rows.

    Source: Chan, Golub and LeVeque, Algorithms for computing the sample variance (The American
    Statistician, 1983), https://doi.org/10.1080/00031305.1983.10483115, eq. 2.1.

    >>> moments = dataset_moments([np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]])])
    >>> moments.covariance.tolist(), moments.rows
    ([[1.0, 0.0], [0.0, 0.0]], 2)
    """
    all_rows: DatasetMoments | None = None
    for chunk in chunks:
        if len(chunk):
            found = _moments(jnp.asarray(chunk), groups=groups, diagonal=diagonal)
            mean, covariance = (np.asarray(x, np.float64) for x in found)
            new = DatasetMoments(mean, covariance, len(chunk))
            all_rows = new if all_rows is None else _joined(all_rows, new, groups, diagonal)
    if all_rows is None:
        raise InputError("rows = 0 is not allowed; use at least one row")
    return all_rows


def _joined(a: DatasetMoments, b: DatasetMoments, groups: int, diagonal: bool) -> DatasetMoments:
    rows, step = a.rows + b.rows, b.mean - a.mean
    between = _outer(step, groups, diagonal) * (a.rows * b.rows / rows)
    covariance = (a.rows * a.covariance + b.rows * b.covariance + between) / rows
    return DatasetMoments(a.mean + (b.rows / rows) * step, covariance, rows)


def _outer(step: np.ndarray, groups: int, diagonal: bool) -> np.ndarray:
    each = step if groups == 1 else step.reshape(groups, -1)
    square: np.ndarray = each * each if diagonal else each[..., :, None] * each[..., None, :]
    return square


def dataset_statistics(options: Options, chunks: Callable[[], Iterable[np.ndarray]]) -> Running:
    """The state of a layer from all rows of a data set, as evaluation uses it.

    Args:
      options: options of the layer; a rule of the shrinkage takes the number of all rows.
      chunks: called once or twice; gives features `[N_i, D]` in the same order every time.

    Returns:
      The state, float32.

    Raises:
      InputError: no rows.

    Source: ours.

    >>> from ltjax.whitening.linen import ChannelWhitening
    >>> rows = np.array([[1.0], [3.0]], np.float32)
    >>> state = dataset_statistics(ChannelWhitening(shrinkage="auto"), lambda: [rows])
    >>> state.mean.tolist(), state.covariance.tolist(), round(float(state.shrinkage), 2)
    ([2.0], [[1.0]], 0.2)
    """
    diagonal = options.method in DIAGONAL
    moments = dataset_moments(chunks(), groups=options.groups, diagonal=diagonal)
    state = start(options, len(moments.mean))
    shrinkage = _intensity(options, moments, chunks)
    return state._replace(
        mean=jnp.asarray(moments.mean, jnp.float32),
        covariance=jnp.asarray(moments.covariance, jnp.float32),
        shrinkage=jnp.broadcast_to(jnp.asarray(shrinkage, jnp.float32), state.shrinkage.shape),
        weight=jnp.ones((), jnp.float32),
    )


def _intensity(
    options: Options, moments: DatasetMoments, chunks: Callable[[], Iterable[np.ndarray]]
) -> np.ndarray | float:
    """The intensity of the shrinkage, a number, or `[G]` for groups."""
    rule = options.shrinkage
    if not isinstance(rule, str):
        return rule
    size, rows = len(moments.mean) // options.groups, moments.rows
    if rule == "auto":
        return float(relative_ridge(size, rows))
    unit = np.trace(moments.covariance, axis1=-2, axis2=-1) / size
    unit = np.where(unit > 0, unit, 1.0)
    square = np.sum((moments.covariance / unit[..., None, None]) ** 2, axis=(-2, -1))
    if rule == "oas":
        values = oas(size, jnp.asarray(float(rows)), jnp.asarray(square, jnp.float32))
    else:
        fourth = _fourth(moments, unit, options.groups, chunks())
        values = ledoit_wolf(size, *map(jnp.float32, (rows, square, fourth)))
    clipped: np.ndarray = np.clip(np.asarray(values), FLOOR, 1.0)
    return clipped


def _fourth(
    moments: DatasetMoments, unit: np.ndarray, groups: int, chunks: Iterable[np.ndarray]
) -> np.ndarray:
    """The mean of `|x_i - mu|^4` of all rows, in the given unit of the variance."""
    total = np.zeros(unit.shape)
    for chunk in chunks:
        each = np.asarray(chunk, np.float64) - moments.mean
        if groups > 1:
            each = each.reshape(len(each), groups, each.shape[1] // groups)
        total += np.sum((np.sum(each * each, axis=-1) / unit) ** 2, axis=0)
    return total / moments.rows
