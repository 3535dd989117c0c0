"""What a pilot's draws tell: exact where log p is quadratic, whatever law the draws have."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.bayes.pilot import curvature, metric


def definite(rng: np.random.Generator, *shape: int) -> np.ndarray:
    root = rng.normal(size=shape)
    return root @ root.swapaxes(-1, -2) + 0.3 * np.eye(shape[-1])


@pytest.mark.parametrize("law", ["normal", "skew", "two modes"])
def test_the_curvature_of_a_quadratic_is_exact_from_any_draws(law):
    """Gradient b - I u: its regression on u is -I (Stein's identity needs normal draws, the regression does not)."""
    rng = np.random.default_rng(1)
    info, u = definite(rng, 5, 3, 3), rng.normal(size=(40, 5, 3))
    u = {"normal": u, "skew": np.exp(u), "two modes": u + 4.0 * np.sign(u[:, :, :1])}[law]
    pull = rng.normal(size=(5, 3)) - np.einsum("nij,snj->sni", info, u)
    found = curvature(u, pull, (info, definite(rng, 5, 3, 3)))
    np.testing.assert_allclose(found, info, rtol=1e-9, atol=1e-9)


def test_where_draws_do_not_move_the_curvature_at_the_mean_decides():
    """One direction is constant in the draws: its information is that of the mean."""
    rng = np.random.default_rng(2)
    u = rng.normal(size=(40, 1, 2)) * [1.0, 0.0]
    pull = -u * [7.0, 0.0]
    found = curvature(u, pull, (np.diag([1.0, 3.0])[None], np.eye(2)[None]))
    assert found[0, 1, 1] == pytest.approx(3.0)
    assert found[0, 0, 0] == pytest.approx(7.0, rel=0.05)


def test_the_metric_lies_between_covariance_and_gradients():
    """M G M = C; of a normal law G is the inverse of C and M is C."""
    rng = np.random.default_rng(3)
    C, G = definite(rng, 6, 6), definite(rng, 6, 6)
    M = metric(C, G)
    np.testing.assert_allclose(M @ G @ M, C, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(metric(C, np.linalg.inv(C)), C, rtol=1e-8, atol=1e-8)
