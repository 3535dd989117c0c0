"""Sequential Monte Carlo against what is known: evidence, weights of modes, quadrature. Pure numpy, nothing compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp
from scipy.stats import multivariate_normal

from pkpd.bayes.smc import LogDensity, Path, Tuning, run

Floats = NDArray[np.float64]
LOG_2PI = math.log(2.0 * math.pi)


def normal(sd: float) -> LogDensity:
    return lambda x: (
        -0.5 * (x**2).sum(axis=1) / sd**2 - x.shape[1] * (math.log(sd) + 0.5 * LOG_2PI),
        -x / sd**2,
    )


def two_normals(size: int, apart: float, sd: tuple[float, float]) -> LogDensity:
    """0.3 N(-m, sd^2) + 0.7 N(m, sd^2), times e^1.7; |2m| = apart."""
    middle = np.full((2, size), 0.5 * apart / math.sqrt(size)) * np.array([[-1.0], [1.0]])
    widths = np.array(sd)

    def evaluate(x: Floats) -> tuple[Floats, Floats]:
        away = x[:, None] - middle
        logs = np.log([0.3, 0.7]) - 0.5 * (away**2).sum(axis=2) / widths**2 - size * (np.log(widths) + 0.5 * LOG_2PI)
        total = logsumexp(logs, axis=1)
        share = np.exp(logs - total[:, None])
        return total + 1.7, -(share[:, :, None] * away / widths[:, None] ** 2).sum(axis=1)

    return evaluate


def share_and_evidence(path: Path, below: Callable[[Floats], Floats], runs: int, how: Tuning) -> tuple[Floats, Floats]:
    """(share below, its se), (log evidence, its se) of independent runs, weighted by their evidence."""
    done = [run(path, seed=20261122, replicate=r, tuning=how) for r in range(runs)]
    log_z, each = np.array([d.log_evidence for d in done]), np.array([below(d.x).mean() for d in done])
    z = np.exp(log_z - log_z.max())
    share = float((z * each).sum() / z.sum())
    own = np.sqrt(((z * (each - share)) ** 2).sum() * runs / (runs - 1)) / z.sum()
    told = log_z.max() + np.log(z.mean())
    return np.array([share, own]), np.array([told, z.std(ddof=1) / z.mean() / np.sqrt(runs)])


@pytest.mark.parametrize(("size", "apart", "particles"), [(2, 8.0, 600), (10, 10.0, 800)])
def test_shares_of_two_normals_and_their_evidence(size: int, apart: float, particles: int):
    """Known: shares 0.3 and 0.7, log evidence 1.7; modes 8 and 10 sds apart, unequal in 2 dimensions."""
    target = two_normals(size, apart, (1.0, 0.6) if size == 2 else (1.0, 1.0))
    path = Path(size=size, base=normal(4.0), target=target, draw=lambda z: 4.0 * z)
    share, evidence = share_and_evidence(path, lambda x: x.sum(axis=1) < 0.0, 6, Tuning(particles=particles))
    assert abs(share[0] - 0.3) < max(4.0 * share[1], 0.02)
    assert share[1] < 0.05
    assert abs(evidence[0] - 1.7) < max(4.0 * evidence[1], 0.05)
    assert evidence[1] < 0.15


@pytest.mark.slow
def test_shares_of_two_normals_in_thirty_dimensions():
    """Known as above, 12 sds apart, equal widths; of widths 1 and 0.6 no path of powers would find the narrow one."""
    path = Path(size=30, base=normal(4.0), target=two_normals(30, 12.0, (1.0, 1.0)), draw=lambda z: 4.0 * z)
    share, evidence = share_and_evidence(path, lambda x: x.sum(axis=1) < 0.0, 8, Tuning(particles=2000, kept=0.9))
    assert abs(share[0] - 0.3) < max(4.0 * share[1], 0.02)
    assert share[1] < 0.05
    assert abs(evidence[0] - 1.7) < max(4.0 * evidence[1], 0.1)


@pytest.mark.slow
def test_a_narrow_mode_in_thirty_dimensions_is_missed_and_no_run_says_so():
    """A limit that is documented: 0.7 of the mass has sds of 0.6, no path of powers finds it (Woodard, Schmidler & Huber
    2009, Electron J Probab 14:780); what is found is the other mode, log 0.3 below the whole.
    """
    path = Path(size=30, base=normal(4.0), target=two_normals(30, 12.0, (1.0, 0.6)), draw=lambda z: 4.0 * z)
    share, evidence = share_and_evidence(path, lambda x: x.sum(axis=1) < 0.0, 6, Tuning(particles=1000))
    assert share[0] > 0.95
    assert evidence[0] == pytest.approx(1.7 + math.log(0.3), abs=0.3)


def test_evidence_of_a_linear_model_is_exact():
    """y = X b + e, b ~ N(0, 4), e ~ N(0, 0.25): log evidence is the density of y under N(0, 4 X X' + 0.25)."""
    X = np.column_stack([np.ones(12), np.linspace(-1.0, 1.0, 12), np.linspace(-1.0, 1.0, 12) ** 2])
    y = X @ [1.0, -2.0, 0.5] + 0.5 * np.cos(7.0 * np.arange(12))
    exact = multivariate_normal(np.zeros(12), 4.0 * X @ X.T + 0.25 * np.eye(12)).logpdf(y)
    base = normal(2.0)

    def posterior(b: Floats) -> tuple[Floats, Floats]:
        (value, g), left = base(b), y - b @ X.T
        return value - 2.0 * (left**2).sum(axis=1) - 12 * (math.log(0.5) + 0.5 * LOG_2PI), g + 4.0 * left @ X

    path = Path(size=3, base=base, target=posterior, draw=lambda z: 2.0 * z)
    done = [run(path, seed=7, replicate=r, tuning=Tuning(particles=500)) for r in range(4)]
    found = np.array([d.log_evidence for d in done])
    mean = np.concatenate([d.x for d in done]).mean(axis=0)
    covariance = np.linalg.inv(4.0 * X.T @ X + 0.25 * np.eye(3))
    assert abs(found.mean() - exact) < 0.08
    assert np.abs((mean - 4.0 * covariance @ X.T @ y) / np.sqrt(np.diag(covariance))).max() < 0.12


def test_the_evidence_of_many_dimensions_is_not_too_large():
    """A normal law in 30 dimensions from one four times wider, log evidence 0. With a metric from a particle's own group
    the mean of these runs is 0.86, its variance below 0.99.
    """
    path = Path(size=30, base=normal(4.0), target=normal(1.0), draw=lambda z: 4.0 * z)
    done = [run(path, seed=3, replicate=r, tuning=Tuning(particles=500)) for r in range(4)]
    found = np.array([d.log_evidence for d in done])
    assert abs(found.mean()) < 0.4
    assert np.mean([d.x.var() for d in done]) == pytest.approx(1.0, abs=0.02)


def test_a_region_has_the_evidence_of_its_own():
    """N(0, 1) above 1.5, from N(0, 4): the log of its tail, and no particle outside."""
    path = Path(size=1, base=normal(2.0), target=normal(1.0), draw=lambda z: 2.0 * z, inside=lambda x: x[:, 0] > 1.5)
    done = [run(path, seed=5, replicate=r, tuning=Tuning(particles=500)) for r in range(6)]
    found = np.array([d.log_evidence for d in done])
    assert abs(found.mean() - log_ndtr(-1.5)) < 0.1
    assert min(d.x.min() for d in done) > 1.5


def test_numbers_come_by_address():
    """The same seed and run give the same draws; another run gives others."""
    path = Path(size=2, base=normal(3.0), target=normal(1.0), draw=lambda z: 3.0 * z)
    one, same, other = (run(path, seed=1, replicate=r, tuning=Tuning(particles=50)) for r in (0, 0, 1))
    assert np.array_equal(one.x, same.x)
    assert one.log_evidence == same.log_evidence
    assert not np.isclose(one.x, other.x).any()
    assert one.powers[-1] == 1.0
    assert 1 <= one.families <= 50
