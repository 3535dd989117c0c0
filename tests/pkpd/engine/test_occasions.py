"""Variability between occasions: closed form over the borders, variance between and within subjects, addresses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.engine.build import compiled, of_dynamics
from pkpd.engine.changes import in_time, rows_at
from pkpd.engine.dynamics import Statistic
from pkpd.engine.solve import solve
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model
from pkpd.model.timeline import Series, Timeline, timeline
from pkpd.model.variability import along, covariance, point

TEXT = """
vtrial: model/1
name: occasions
states: {central: mg}
parameters:
  CL: {typical: 2 L/h, iiv: 0.3, iov: 0.2, status: assumed}
  V: {typical: 20 L, iiv: 0.2, status: assumed}
occasion: {every: 24 h}
equations: |
  C = central/V
  d/dt(central) = -CL*C
doses: {central: {bioavailability: 1}}
outputs: {CP: {is: C}}
"""
MODEL = Model.parse(TEXT)
SEED = 5


def _rows(line: Timeline, n: int, model: Model = MODEL) -> np.ndarray:
    draws = point(model)
    root = np.linalg.cholesky(covariance(model))[None]
    return along(model, (draws.typical, root), line, seed=SEED, subject=np.arange(n), replicate=np.zeros(1, np.int64))


def _bolus(n: int) -> Events:
    zero = np.zeros(1)
    return Events.shared(Schedule(zero, zero + 100.0, zero.astype(np.int32), zero, zero, zero.astype(np.int8)), n)


@pytest.mark.parametrize(("path", "tolerance"), [("closed", 1e-12), ("ode", 1e-8)])
def test_clearance_of_each_occasion_holds_from_its_border_on(path: str, tolerance: float) -> None:
    """log(V C/dose) = -sum over occasions of CL_k x (hours in it)/V, CL_k = 2 exp(0.3 z + 0.2 z_k) by address."""
    n, times = 7, np.array([5.0, 23.0, 24.0, 30.0, 47.5, 70.0])
    line = timeline(MODEL, {}, until=72.0, size=n)
    start, covariates, changes = in_time(compiled(MODEL), line, _rows(line, n))
    found = solve(
        compiled(MODEL), start, _bolus(n), times, covariates=covariates, changes=changes, rtol=1e-11, atol=1e-13, path=path
    )  # fmt: skip
    who = np.arange(n)[:, None]
    eta = 0.3 * normals(SEED, Purpose.IIV, subject=who, replicate=0, slot=slots(["CL"]))
    kappa = 0.2 * normals(SEED, Purpose.IOV, subject=who, replicate=0, index=np.arange(3), slot=slots(["CL"]))
    clearance = 2.0 * np.exp(eta + kappa)
    volume = 20.0 * np.exp(0.2 * normals(SEED, Purpose.IIV, subject=who, replicate=0, slot=slots(["V"])))
    inside = np.clip(times[:, None] - 24.0 * np.arange(3), 0.0, 24.0)
    expected = 100.0 / volume * np.exp(-(clearance @ inside.T) / volume)
    np.testing.assert_allclose(found.values[:, 0], expected, rtol=tolerance)
    assert not np.allclose(clearance[:, 0], clearance[:, 1])


def test_variance_between_subjects_is_iiv_and_within_is_iov() -> None:
    """One-way decomposition of log CL over 4,000 subjects x 6 occasions: within 4 standard errors of 0.09 and 0.04.

    Mean squares of normal data: E MSW = iov^2, E MSB = k iiv^2 + iov^2, each chi-squared over its degrees of freedom.
    """
    n, k = 4000, 6
    line = timeline(MODEL, {}, until=24.0 * k - 1.0, size=n)
    log_cl = np.log(_rows(line, n)[:, 0]).reshape(n, k)
    within = log_cl.var(axis=1, ddof=1).mean()
    between = k * log_cl.mean(axis=1).var(ddof=1)
    assert within == pytest.approx(0.04, abs=4 * 0.04 * np.sqrt(2 / (n * (k - 1))))
    of_means = k * 0.09 + 0.04
    error = np.hypot(of_means * np.sqrt(2 / (n - 1)), 0.04 * np.sqrt(2 / (n * (k - 1)))) / k
    assert (between - within) / k == pytest.approx(0.09, abs=4 * error)
    each = (log_cl - log_cl.mean(axis=1, keepdims=True)).var(axis=0) * k / (k - 1)  # one omega for every occasion
    np.testing.assert_allclose(each, 0.04, atol=5 * 0.04 * np.sqrt(2 / n))
    volume = _rows(line, n)[:, 1].reshape(n, k)
    assert (volume == volume[:, :1]).all()  # no iov: the same on all occasions


def test_an_occasion_is_the_same_however_many_follow_and_by_any_name_of_its_time() -> None:
    """Numbers of the data are the index of the address: occasions 3 and 1 by a column are periods 3 and 1."""
    periods = timeline(MODEL, {}, until=100.0, size=2)
    text = TEXT.replace("{every: 24 h}", "{column: OCC}")
    told = Series.of([[0.0, 1.0, 50.0], [0.0, 9.0]], [[3.0, 3.0, 1.0], [0.0, 2.0]])
    by_column = timeline(Model.parse(text), {}, occasion=told, size=2)
    assert by_column.time.tolist() == [-np.inf, 50.0, -np.inf, 9.0]
    a, b = _rows(periods, 2).reshape(2, 5, 2), _rows(by_column, 2, Model.parse(text)).reshape(2, 2, 2)
    assert np.array_equal(b, np.stack([a[0, [3, 1]], a[1, [0, 2]]]))
    assert np.array_equal(_rows(timeline(MODEL, {}, until=30.0, size=2), 2).reshape(2, 2, 2), a[:, :2])


def test_what_holds_at_a_record_and_at_a_sample() -> None:
    """At a border a record belongs to the new occasion, a sample to the old one unless it comes after."""
    line = timeline(MODEL, {}, until=48.0, size=2)
    who, time = np.array([0, 0, 1]), np.array([24.0, 25.0, 48.0])
    assert rows_at(line, who, time).tolist() == [1, 1, 5]
    assert rows_at(line, who, time, samples=True).tolist() == [0, 1, 4]
    assert rows_at(line, who, time, samples=True, after=True).tolist() == [1, 1, 5]


def test_gentamicin_is_solved_over_its_occasions() -> None:
    """Three compartments: one occasion of kappa 0 is the typical newborn; AUC from 0 on = dose/CLI (models.md 6).

    With a clearance for each occasion the amount eliminated is the sum of CLI_k AUC_k: mass is kept over the borders.
    """
    model = load("germovsek_gentamicin")
    engine = compiled(model)
    held = {"WT": 2.12, "PMA": 33.0, "PNA": 5.4, "SCR": 72.4696}
    told = Series.of([[0.0, 24.0, 48.0]], [[1.0, 2.0, 3.0]])
    line = timeline(model, {name: np.array([value]) for name, value in held.items()}, occasion=told)
    rows = _rows(line, 1, model)
    start, covariates, changes = in_time(engine, line, rows)
    borders = np.array([0.0, 24.0, 48.0, 4000.0])
    windows = {"AUC": (borders[:-1], borders[1:])}
    statistic = Statistic(name="AUC", of="C", kind="average", window=1.0)
    asked = of_dynamics(replace(engine.dynamics, outputs=("CLI", "C"), summaries=(statistic,)))
    found = solve(
        asked, start, _bolus(1), borders[1:] - 1.0, covariates=covariates, changes=changes, windows=windows,
        rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    area = found.summaries["AUC"][0] * np.diff(borders)
    clearance = rows[:, 0] / (6.21 * (2.12 / 70) ** 0.632) * 0.0783314  # golden CLI of the typical newborn
    assert np.std(np.log(clearance)) > 0.01
    np.testing.assert_allclose(found.values[0, 0], clearance, rtol=1e-5)
    np.testing.assert_allclose(np.sum(found.values[0, 0] * area), 100.0, rtol=1e-5)
