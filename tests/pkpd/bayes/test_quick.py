"""Quick looks against laws whose answer is known; what the diagnostics make of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pkpd.bayes.quick import looked

Floats = NDArray[np.float64]
SIZE = 8
_A = np.random.default_rng(2).normal(size=(SIZE, SIZE))
COVARIANCE = _A @ _A.T / SIZE + 0.2 * np.eye(SIZE)
MEAN = np.linspace(-1.0, 2.0, SIZE)
STARTS = np.random.default_rng(3).normal(size=(2, SIZE)) * 3.0


def normal(x: Floats) -> tuple[Floats, Floats]:
    """N(MEAN, COVARIANCE) times e^0.7."""
    away, precision = x - MEAN, np.linalg.inv(COVARIANCE)
    value = -0.5 * np.einsum("ni,ij,nj->n", away, precision, away)
    return value - 0.5 * np.linalg.slogdet(2.0 * np.pi * COVARIANCE)[1] + 0.7, -away @ precision


def funnel(x: Floats) -> tuple[Floats, Floats]:
    """Neal's: x0 ~ N(0, 9), the others N(0, e^x0)."""
    v, rest = x[:, 0], x[:, 1:]
    small = np.exp(-v)
    value = -v * v / 18.0 - 0.5 * small * (rest**2).sum(axis=1) - 0.5 * rest.shape[1] * v
    first = -v / 9.0 + 0.5 * small * (rest**2).sum(axis=1) - 0.5 * rest.shape[1]
    return value, np.column_stack([first, -small[:, None] * rest])


@pytest.mark.parametrize("method", ["laplace", "pathfinder"])
def test_a_normal_law_is_found(method: str):
    """Mean, covariance and log evidence (0.7) of a normal law in 8 dimensions; Laplace is exact."""
    found = looked(method, normal, STARTS, seed=1, draws=4000)
    exact = method == "laplace"
    assert found.log_evidence == pytest.approx(0.7, abs=1e-6 if exact else 0.02)
    assert found.effective > (15_999 if exact else 8_000)
    assert np.abs((found.x.mean(axis=0) - MEAN) / np.sqrt(np.diag(COVARIANCE))).max() < 0.08
    assert np.abs(np.cov(found.x, rowvar=False) - COVARIANCE).max() < 0.12
    assert found.paths == (1 if exact else 2)


@pytest.mark.parametrize("method", ["laplace", "pathfinder"])
def test_a_law_that_is_not_normal_is_called_far(method: str):
    """Neal's funnel in 8 dimensions (2003, Ann Stat 31:705): Pareto k above 0.7, and the sentence says so."""
    found = looked(method, funnel, STARTS * 0.3, seed=1, draws=2000)
    assert found.k > 0.7
    assert "far from the posterior" in found.sentence
    assert "not a fit" in found.sentence
