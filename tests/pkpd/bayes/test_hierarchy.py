"""Correlations of random effects: the C-vine of partial correlations is the LKJ law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pkpd.bayes.hierarchy import beta_shape, correlation_factor, covariances, pairs
from pkpd.bayes.prior import half_normal, lkj_correlation, normal


def lower(partial: np.ndarray, size: int) -> np.ndarray:
    """Free correlations, row by row, of a vector of partial correlations."""
    rows = correlation_factor(dict(zip(pairs(size), partial)), size, math.sqrt)
    factor = np.array([row + [0.0] * (size - len(row)) for row in rows])
    matrix = factor @ factor.T
    np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-14)
    return np.array([matrix[i, j] for i, j in pairs(size)])


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("shape", [1.0, 2.0, 5.0])
def test_density_is_det_to_the_power_of_shape_minus_one(size, shape):
    """Lewandowski, Kurowicka & Joe 2009, eq. 1: log density differences of R equal (shape-1) differences of log det
    R.
    """
    rng = np.random.default_rng(5)

    def log_density(partial: np.ndarray) -> float:
        prior = sum(
            stats.beta.logpdf((p + 1) / 2, beta_shape(shape, size, j), beta_shape(shape, size, j)) - math.log(2)
            for p, (_, j) in zip(partial, pairs(size))
        )
        step = 1e-6
        jacobian = np.array(
            [
                (lower(partial + step * e, size) - lower(partial - step * e, size)) / (2 * step)
                for e in np.eye(len(partial))
            ]
        )
        return prior - np.linalg.slogdet(jacobian)[1]

    def log_det(partial: np.ndarray) -> float:
        matrix = np.eye(size)
        for value, (i, j) in zip(lower(partial, size), pairs(size)):
            matrix[i, j] = matrix[j, i] = value
        return np.linalg.slogdet(matrix)[1]

    points = rng.uniform(-0.8, 0.8, (4, len(pairs(size))))
    excess = [log_density(p) - (shape - 1.0) * log_det(p) for p in points]
    np.testing.assert_allclose(excess, excess[0], rtol=0, atol=1e-6)


def test_covariances_of_draws():
    """Two draws against the matrices written by hand."""
    sd = np.array([[1.0, 2.0], [3.0, 0.5]])
    factor, omega = covariances(sd, {(1, 0): np.array([0.5, -0.2])})
    np.testing.assert_allclose(omega, [[[1.0, 1.0], [1.0, 4.0]], [[9.0, -0.3], [-0.3, 0.25]]], rtol=1e-14)
    np.testing.assert_allclose(factor @ factor.transpose(0, 2, 1), omega, rtol=1e-14)


@pytest.mark.parametrize(
    ("prior", "law"),
    [
        (normal(0.4, 2.0), stats.norm(0.4, 2.0)),
        (half_normal(0.5), stats.halfnorm(scale=0.5)),
        (lkj_correlation(2.0, 3), stats.beta(2.5, 2.5, loc=-1, scale=2)),
    ],
)
def test_prior_quantiles_and_sd(prior, law):
    """Against scipy.stats (the LKJ margin is a scaled Beta, section 3 of the paper)."""
    p = np.array([0.025, 0.5, 0.9])
    np.testing.assert_allclose(prior.quantile(p), law.ppf(p), rtol=1e-10, atol=1e-12)
    assert prior.sd == pytest.approx(law.std(), rel=1e-12)
