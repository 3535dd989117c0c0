"""Mixed model: witnesses R lme4 1.1 with pbkrtest, explicit matrices, the paired t interval, invariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis.contrasts import AnalysisStatus
from trials.analysis.random_effects import contrast, fitted, moments, profiled

Floats = NDArray[np.float64]


def noise(replicates: int, n: int, slot: int) -> Floats:
    return normals(7, Purpose.SUMMARY_TRIAL, subject=np.arange(n), replicate=np.arange(replicates)[:, None], slot=slot)


def trial(replicates: int = 3, people: int = 9, rows: int = 6) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """x (R, n, 3), z (R, n, 2), y (R, n) with an intercept and a slope of each subject, subject (n,)."""
    subject, n = np.repeat(np.arange(people), rows), people * rows
    conc = np.abs(noise(replicates, n, 0))
    one = np.ones_like(conc)
    b0, b1 = noise(replicates, people, 2)[:, subject], noise(replicates, people, 3)[:, subject]
    y = 1.0 + 2.0 * conc + 1.5 * b0 + 0.8 * b1 * conc + noise(replicates, n, 4)
    return np.stack([one, conc, noise(replicates, n, 1)], -1), np.stack([one, conc], -1), y, subject


def dense(x: Floats, z: Floats, subject: NDArray[np.int64], factor: Floats) -> Floats:
    """V / sigma2 as a matrix of all rows."""
    same = subject[:, None] == subject
    made: Floats = np.eye(len(x)) + same * (z @ factor @ factor.T @ z.T)
    return made


def test_the_restricted_likelihood_is_that_of_explicit_matrices() -> None:
    """-2 log L_R = log|V| + log|X'V^-1 X| + y'Py + (n - p) log 2 pi at the best sigma2 (Harville 1977)."""
    x, z, y, subject = trial(1)
    factor = np.array([[0.7, 0.0], [-0.3, 0.5]])
    v = dense(x[0], z[0], subject, factor)
    inverse = np.linalg.inv(v)
    gram = x[0].T @ inverse @ x[0]
    beta = np.linalg.solve(gram, x[0].T @ inverse @ y[0])
    rest = y[0] - x[0] @ beta
    free = len(subject) - 3
    sigma2 = rest @ inverse @ rest / free
    by_hand = free * (math.log(2 * math.pi * sigma2) + 1) + np.linalg.slogdet(v)[1] + np.linalg.slogdet(gram)[1]
    found = profiled(moments(x, z, y, subject), factor[None])
    assert found.minus_two[0] == pytest.approx(by_hand, rel=1e-12)
    assert found.beta[0] == pytest.approx(beta, rel=1e-11)
    step = 1e-6
    for i, j in ((0, 0), (1, 0), (1, 1)):
        shift = np.zeros((2, 2))
        shift[i, j] = step
        up, down = (profiled(moments(x, z, y, subject), (factor + s * shift)[None]).minus_two[0] for s in (1, -1))
        assert found.slope[0, i, j] == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-6)


def test_kenward_roger_of_pairs_is_the_paired_t_test() -> None:
    """Two rows a subject, random intercept: KR's se and df of the difference are the paired t test's (exact F)."""
    people = 12
    subject, on = np.repeat(np.arange(people), 2), np.tile([0.0, 1.0], people)
    y = on * 0.7 + 2.0 * noise(1, people, 0)[0][subject] + noise(1, 2 * people, 1)[0]
    x = np.column_stack([np.ones(2 * people), on])
    fit = fitted(moments(x[None], x[None, :, :1], y[None], subject))
    found, difference = contrast(fit, [0.0, 1.0]), y[1::2] - y[::2]
    assert found.estimate[0] == pytest.approx(difference.mean(), rel=1e-9)
    assert found.se[0] == pytest.approx(difference.std(ddof=1) / math.sqrt(people), rel=1e-6)
    assert found.df[0] == pytest.approx(people - 1, rel=1e-6)


def test_a_replicate_is_the_same_bits_alone_and_in_a_batch() -> None:
    x, z, y, subject = trial()
    whole = fitted(moments(x, z, y, subject))
    at = contrast(whole, [0.0, 1.0, 0.0])
    for r in range(3):
        alone = fitted(moments(x[r : r + 1], z[r : r + 1], y[r : r + 1], subject))
        one = contrast(alone, [0.0, 1.0, 0.0])
        assert alone.beta[0].tolist() == whole.beta[r].tolist()
        assert (one.se[0], one.df[0]) == (at.se[r], at.df[r])


def test_missing_rows_are_as_if_they_were_not_there() -> None:
    x, z, y, subject = trial(1)
    gone = np.zeros(subject.size, bool)
    gone[[0, 7, 8, 30]] = True
    holes = np.where(gone, np.nan, y)
    with_holes = contrast(fitted(moments(x, z, holes, subject)), [0, 1, 0])
    without = contrast(fitted(moments(x[:, ~gone], z[:, ~gone], y[:, ~gone], subject[~gone])), [0, 1, 0])
    for name in ("estimate", "se", "df"):
        assert getattr(with_holes, name)[0] == pytest.approx(getattr(without, name)[0], rel=1e-9)


def test_no_spread_between_subjects_is_least_squares_and_said() -> None:
    """Where the best D is 0 the estimate is that of ordinary least squares."""
    subject = np.repeat(np.arange(8), 4)
    conc = np.tile([0.0, 1.0, 2.0, 3.0], 8)
    y = 0.5 * conc + np.tile([1.0, -1.0, -1.0, 1.0], 8) + np.repeat(np.tile([1e-3, -1e-3], 4), 4)
    x = np.column_stack([np.ones(32), conc])
    fit = fitted(moments(x[None], x[None], y[None], subject))
    assert fit.status[0] == 0
    assert fit.singular[0]
    assert fit.beta[0] == pytest.approx(np.linalg.lstsq(x, y, rcond=None)[0], abs=1e-9)
    assert np.isfinite(contrast(fit, [0.0, 1.0]).df[0])


def test_failures_are_values() -> None:
    x, z, y, subject = trial(1)
    doubled = np.concatenate([x, x[..., 1:2]], axis=-1)
    fit = fitted(moments(doubled, z, y, subject))
    assert fit.status[0] == AnalysisStatus.NOT_ESTIMABLE
    assert np.isnan(contrast(fit, [0, 1, 0, 0]).estimate[0])
    few = fitted(moments(x[:, :4], z[:, :4], y[:, :4], subject[:4]))
    assert few.status[0] == AnalysisStatus.NO_DEGREES_OF_FREEDOM
    exact = fitted(moments(x, z, x[..., 1] * 2.0, subject))
    assert exact.status[0] == AnalysisStatus.NO_VARIATION
    own = fitted(moments(x, z, x[..., 1] * (subject % 3), subject))  # all residuals are the subjects' own slopes
    assert own.status[0] in (AnalysisStatus.NO_VARIATION, AnalysisStatus.NOT_CONVERGED)
    with pytest.raises(InputError, match="kenward_roger"):
        contrast(fit, [0, 1, 0, 0], "kenward-roger")
    with pytest.raises(InputError, match="ascend"):
        moments(x, z, y, subject[::-1])
