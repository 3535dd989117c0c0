"""The joint density of rows measured together, alone: SciPy's multivariate normal, and differences for the gradients."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats

from pkpd.kernels.observations import ABOVE, BELOW, BETWEEN, MEASURED
from pkpd.kernels.together import together

Y = np.array([4.1, 9.9, 4.0, 3.9, 4.4, 3.0, 6.5, 0.5, 1.1, 0.9, 0.5, 1.5])
F = np.array([4.0, 8.5, 4.3, 3.5, 3.9, 2.8, 6.0, 0.6, 1.0, 0.8, 0.4, 1.2])
OUTPUT = np.array([0, 1, 2, 0, 2, 0, 1, 0, 1, 2, 0, 1])
KIND = (
    np.array(
        [MEASURED, MEASURED, MEASURED, MEASURED, MEASURED, ABOVE, MEASURED, BELOW, BETWEEN, MEASURED, BELOW, BELOW]
    )
    + 8
)
FLOOR = np.where(KIND == BETWEEN + 8, 0.7, 0.0)
TERMS = np.array([[0, 1, -1], [-1, -1, 2], [-1, 3, -1]])  # additive and proportional, log, proportional
SD = np.array([0.2, 0.1, 0.2, 0.15])
ROWS = np.array([[0, 1, 2], [3, 4, -1], [5, 6, -1], [7, 8, 9], [10, 11, -1]])
R = np.array([[1.0, 0.6, 0.3], [0.6, 1.0, -0.2], [0.3, -0.2, 1.0]])


@njit
def run(f, sd, C, each):
    gf, gs, gC = np.zeros(f.size), np.zeros(sd.size), np.zeros(C.shape)
    return together(Y, f, OUTPUT, TERMS, KIND, FLOOR, sd, gf, gs, each, ROWS, C, gC), gf, gs, gC


def test_density_is_that_of_scipy():
    """Three and two measured; one above a limit given its partner."""
    each = np.zeros(len(Y))
    run(F, SD, np.linalg.cholesky(R), each)
    s = np.choose(OUTPUT, [np.hypot(0.2, 0.1 * F), 0.2 + 0 * F, 0.15 * F])
    y, m = np.where(OUTPUT == 1, np.log(Y), Y), np.where(OUTPUT == 1, np.log(F), F)
    for rows in ([0, 1, 2], [3, 4]):
        cov = R[np.ix_(OUTPUT[rows], OUTPUT[rows])] * np.outer(s[rows], s[rows])
        expected = stats.multivariate_normal(m[rows], cov).logpdf(y[rows]) - y[rows][OUTPUT[rows] == 1].sum()
        assert each[rows[0]] == pytest.approx(expected, rel=1e-12)
    u = (y[6] - m[6]) / s[6]
    above = stats.norm(m[5] + 0.6 * s[5] * u, s[5] * 0.8).logsf(3.0)
    assert each[5] == pytest.approx(stats.norm(m[6], s[6]).logpdf(y[6]) - y[6] + above, rel=1e-12)


def test_gradients_are_differences():
    """In predictions, errors and the root of the correlations, two values beyond limits among the groups."""
    C, none = np.linalg.cholesky(R), np.empty(0)
    _, gf, gs, gC = run(F, SD, C, none)
    for exact, place, at in ((gf, 0, F), (gs, 1, SD), (gC, 2, C)):
        for k in np.ndindex(at.shape):
            if place == 2 and k[1] >= k[0]:
                continue  # rows of the root have length 1: the diagonal follows
            values = []
            for h in (1e-6, -1e-6):
                given = [F, SD, C]
                moved = at.copy()
                moved[k] += h
                if place == 2:
                    moved[k[0], k[0]] = np.sqrt(1.0 - (moved[k[0], : k[0]] ** 2).sum())
                given[place] = moved
                values.append(run(*given, none)[0])
            slope = exact[k] - (exact[k[0], k[0]] * C[k] / C[k[0], k[0]] if place == 2 else 0.0)
            assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-6), (place, k)
