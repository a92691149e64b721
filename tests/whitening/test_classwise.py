"""Whitening by the covariance within classes: its moments and its scales."""

import numpy as np

from ltjax.whitening.classwise import class_moments, within_class_basis
from ltjax.whitening.functional import whitening_matrix


def moments_of(rows, labels):
    chunk = rows, labels, np.ones(len(labels))
    return class_moments(lambda: iter([chunk]), 3)


def test_rows_can_be_taken_away_again():
    rng = np.random.default_rng(0)
    rows, labels = 5 + rng.normal(size=(60, 4)), np.repeat([0, 1, 2], [40, 15, 5])
    rows += labels[:, None]
    held = np.r_[0:10, 40:42, 55:60]  # of class 2 all
    kept = np.setdiff1d(np.arange(60), held)
    left = moments_of(rows, labels).without(moments_of(rows[held], labels[held]))
    for found, expected in zip(left, moments_of(rows[kept], labels[kept]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_scales_are_those_of_whitening():
    rng = np.random.default_rng(1)
    labels, shrinkages = np.arange(90) % 3, (0.01, 0.5, 1.0)
    basis = within_class_basis(moments_of(rng.normal(size=(90, 4)) * [1, 2, 3, 4], labels))
    for shrinkage, scale in zip(shrinkages, basis.scales(np.array(shrinkages)), strict=True):
        variances = basis.variances.astype(np.float32)
        inverse = whitening_matrix(variances, method="batch_norm", shrinkage=shrinkage)
        np.testing.assert_allclose(scale, 1 / np.asarray(inverse), rtol=1e-5)


def test_coordinates_keep_the_digits_of_rows_far_from_zero():
    rng = np.random.default_rng(2)
    rows, labels = 1e7 + rng.normal(size=(200, 5)), rng.integers(0, 3, 200)
    basis = within_class_basis(moments_of(rows, labels))
    wanted = (rows - basis.center) @ basis.rotation
    kept = rows.copy()
    np.testing.assert_allclose(basis.single().coordinates(rows), wanted, atol=1e-5)
    assert (rows == kept).all()
    np.testing.assert_allclose(basis.coordinates(rows, overwrite=True), wanted, atol=1e-5)
    assert (rows != kept).any()
    for narrow in (np.float16, np.float32):
        few = rng.normal(size=(10, 5)).astype(narrow)
        wanted = (few - basis.center) @ basis.rotation
        found = basis.single().coordinates(few.copy(), overwrite=True)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
