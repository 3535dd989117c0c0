"""Statistics over windows against formulas of one compartment, by every way to solve: C = D/V e^(-K t) after a bolus,
D A/(V (A - K)) (e^(-K t) - e^(-A t)) by mouth, R/(K V) (1 - e^(-K t)) in an infusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.engine.build import Compiled, compiled, of_dynamics
from pkpd.engine.dynamics import Statistic
from pkpd.engine.endpoints import Endpoint
from pkpd.engine.request import STATISTICS, windows_of
from pkpd.engine.solve import solve
from pkpd.engine.stream import summarise
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: windows
states: {gut: mg, body: mg}
parameters:
  A: {typical: 1 1/h, status: assumed}
  K: {typical: 0.1 1/h, status: assumed}
  V: {typical: 8 L, status: assumed}
  EC: {typical: 3 mg/L, status: assumed}
equations: |
  C = body/V
  E = C^2/(EC^2 + C^2)
  J = if(C > EC, 1, 0)
  d/dt(gut) = -A*gut
  d/dt(body) = A*gut - K*body
outputs: {CP: {is: C}, EFF: {is: E}, HIGH: {is: J}}
"""
A, K, V, EC, D = 1.0, 0.1, 8.0, 3.0, 100.0
P = np.array([[A, K, V, EC]])
TIGHT = {"rtol": 1e-11, "atol": 1e-13}
WAYS = ("closed", "linear", "tsit5", pytest.param("rodas5p", marks=pytest.mark.slow))


def asking(of: str, thresholds: tuple[float, ...] = (0.0,)) -> Compiled:
    """A solver of every statistic of `of`: named as their kinds, times above and below with the threshold's number."""
    base = compiled(Model.parse(TEXT)).dynamics
    plain = [Statistic(name=k, of=of, kind=k, window=0.0) for k in STATISTICS[:5]]
    timed = [
        Statistic(name=f"{kind}{i}", of=of, kind=kind, window=0.0, threshold=level)
        for kind in STATISTICS[5:]
        for i, level in enumerate(thresholds)
    ]
    return of_dynamics(replace(base, outputs=(of,), summaries=(*plain, *timed)))


def doses(*rows: tuple[float, float, int, float]) -> Schedule:
    """(time, amount, state, duration)."""
    t, amount, state, duration = (np.asarray(c, float) for c in zip(*rows, strict=True))
    z = np.zeros(len(t))
    return Schedule(t, amount, state.astype(np.int32), duration, z, z.astype(np.int8))


def found(way: str, schedule: Schedule, windows, *, of="C", thresholds=(0.0,), parameters=P, **options):
    """{statistic: (window,)} of the one subject."""
    model = asking(of, thresholds)
    if way == "linear":
        model = replace(model, form=None)
    path = "closed" if way in ("closed", "linear") else way
    lo, hi = (np.asarray(side, float) for side in zip(*windows, strict=True))
    asked = {s.name: (lo, hi) for s in model.summaries}
    events = Events.shared(schedule, len(parameters))
    solution = solve(model, parameters, events, [0.0], windows=asked, path=path, **(TIGHT | options))
    assert (solution.status == 0).all()
    return {name: values[0] if len(parameters) == 1 else values for name, values in solution.summaries.items()}


def bolus(t):
    return D / V * np.exp(-K * np.asarray(t))


TWO = doses((0.0, D, 1, 0.0), (12.0, D, 1, 0.0))


@pytest.mark.parametrize("way", WAYS)
def test_bolus(way: str) -> None:
    """Zero width at a dose, a start at a dose, a dose inside, the part before the first dose, no number as an end."""
    windows = [(12, 12), (12, 20), (6, 18), (-5, 10), (-5, 0), (0, 0), (5, np.nan), (np.nan, 5), (6, 12), (13, 13)]
    level = 5.0
    got = found(way, TWO, windows, thresholds=(level,))
    before, after = bolus(12), bolus(12) + D / V
    area = lambda c0, h: c0 * (1 - np.exp(-K * h)) / K  # noqa: E731
    nan = np.nan
    expected = {
        "average": [before, area(after, 8) / 8, (area(bolus(6), 6) + area(after, 6)) / 12, area(bolus(0), 10) / 10,
                    0.0, 0.0, nan, nan, area(bolus(6), 6) / 6, after * np.exp(-K)],
        "maximum": [before, after, after, bolus(0), 0.0, 0.0, nan, nan, bolus(6), after * np.exp(-K)],
        "minimum": [before, after * np.exp(-8 * K), before, bolus(10), 0.0, 0.0, nan, nan, before, after * np.exp(-K)],
        "time_of_maximum": [12, 12, 12, 0, 0, 0, nan, nan, 6, 13],
        "time_of_minimum": [12, 20, 12, 10, 0, 0, nan, nan, 12, 13],
    }  # fmt: skip
    first, second = np.log(D / V / level) / K, 12 + np.log(after / level) / K
    assert 6 < first < 10
    assert second > 20
    above = np.array([0, 8, (first - 6) + 6, first, 0, 0, nan, nan, first - 6, 0])
    width = np.array([0, 8, 12, 10, 0, 0, nan, nan, 6, 0])
    for name, values in (expected | {"time_above0": above, "time_below0": width - above}).items():
        np.testing.assert_allclose(got[name], values, rtol=2e-9, atol=2e-9, err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_extremum_inside(way: str) -> None:
    """By mouth: tmax = ln(A/K)/(A - K); the level is passed going up and going down, each to its own accuracy."""
    curve = lambda t: D / V * A / (A - K) * (np.exp(-K * t) - np.exp(-A * t))  # noqa: E731
    peak = np.log(A / K) / (A - K)
    level = 4.0
    got = found(way, doses((0.0, D, 0, 0.0)), [(0, 24), (1, 2), (peak, 24), (0, peak)], thresholds=(level, curve(peak)))
    np.testing.assert_allclose(got["maximum"], curve(np.array([peak, 2, peak, peak])), rtol=1e-10)
    np.testing.assert_allclose(got["minimum"], curve(np.array([0, 1, 24, 0])), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["time_of_maximum"], [peak, 2, peak, peak], atol=2e-5 if way == "rodas5p" else 1e-6)
    np.testing.assert_allclose(got["time_of_minimum"], [0, 1, 24, 0], atol=1e-12)
    up, down = _crossings(curve, level, peak)
    np.testing.assert_allclose(got["time_above0"][0], down - up, rtol=1e-9)
    np.testing.assert_allclose(got["time_below0"][0], 24 - (down - up), rtol=1e-9)
    # a level that the curve touches with its top: above it at most within the rounding of the top
    assert (got["time_above1"] < 1e-4).all()


def _crossings(curve, level: float, peak: float) -> tuple[float, float]:
    """By bisection on the formula."""
    ends = []
    for low, high in ((0.0, peak), (100.0, peak)):
        for _ in range(200):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if curve(middle) < level else (low, middle)
        ends.append(0.5 * (low + high))
    return ends[0], ends[1]


@pytest.mark.parametrize("way", WAYS)
def test_infusion_peaks_at_its_end(way: str) -> None:
    rate, end = D / 4.0, 4.0
    top = rate / (K * V) * (1 - np.exp(-K * end))
    got = found(way, doses((0.0, D, 1, end)), [(0, 24), (4, 24), (2, 4)], thresholds=(top,))
    np.testing.assert_allclose(got["maximum"], [top] * 3, rtol=1e-10)
    np.testing.assert_allclose(got["time_of_maximum"], [4, 4, 4], atol=1e-12)
    assert (got["time_above0"] < 1e-6).all()


@pytest.mark.parametrize("way", WAYS)
def test_plateau(way: str) -> None:
    """Nothing leaves: C = D/V = 12.5 exactly, from the dose on. The level itself is neither above nor below."""
    still = np.array([[A, 0.0, V, EC]])
    got = found(way, doses((1.0, D, 1, 0.0)), [(2, 10), (0, 5)], thresholds=(12.5, 12.0, 13.0), parameters=still)
    assert got["maximum"].tolist() == [12.5, 12.5]
    assert got["minimum"].tolist() == [12.5, 0.0]
    assert got["average"][0] == pytest.approx(12.5, rel=1e-15)
    assert got["average"][1] == pytest.approx(10.0, rel=1e-14)
    assert got["time_of_maximum"].tolist() == [2.0, 1.0]
    assert got["time_of_minimum"].tolist() == [2.0, 0.0]
    above = [got[f"time_above{i}"].tolist() for i in range(3)]
    below = [got[f"time_below{i}"].tolist() for i in range(3)]
    np.testing.assert_allclose(above, [[0, 0], [8, 4], [0, 0]], atol=1e-13)
    np.testing.assert_allclose(below, [[0, 1], [0, 1], [8, 5]], atol=1e-13)


@pytest.mark.parametrize("way", WAYS)
def test_more_than_one_dose_at_a_time_and_reset_of_the_running_maximum(way: str) -> None:
    """Windows that overlap, that follow each other and that share ends are each their own."""
    curve = lambda t: bolus(t) + (bolus(t - 12) if t >= 12 else 0.0)  # noqa: E731
    windows = [(1, 5), (5, 9), (3, 7), (9, 12), (12, 15), (1, 15)]
    got = found(way, TWO, windows)
    np.testing.assert_allclose(
        got["maximum"], [curve(1), curve(5), curve(3), curve(9), curve(12), curve(12)], rtol=1e-10
    )
    low = [bolus(5), bolus(9), bolus(7), bolus(12), curve(15), bolus(12)]
    np.testing.assert_allclose(got["minimum"], low, rtol=1e-10)
    total = got["average"] * np.diff(windows, axis=1)[:, 0]
    assert total[0] + total[1] + total[3] + total[4] == pytest.approx(total[5], rel=1e-11)


@pytest.mark.parametrize("way", ["tsit5"])
@pytest.mark.parametrize("tight", [True, False])
def test_an_output_that_bends(way: str, tight: bool) -> None:
    """E = C^2/(EC^2 + C^2) rises with C: extremes at those of C, E above 1/2 where C is above EC; area by quadrature."""
    options = {} if tight else {"rtol": 1e-6, "atol": 1e-8}
    curve = lambda t: D / V * A / (A - K) * (np.exp(-K * t) - np.exp(-A * t))  # noqa: E731
    effect = lambda c: c**2 / (EC**2 + c**2)  # noqa: E731
    peak = np.log(A / K) / (A - K)
    got = found(way, doses((0.0, D, 0, 0.0)), [(0, 24), (3, 24)], of="E", thresholds=(0.5,), **options)
    fine = 1e-9 if tight else 1e-6
    np.testing.assert_allclose(got["maximum"], [effect(curve(peak)), effect(curve(3.0))], rtol=fine)
    np.testing.assert_allclose(got["time_of_maximum"], [peak, 3.0], atol=1e-5 if tight else 5e-3)
    np.testing.assert_allclose(got["minimum"], [0.0, effect(curve(24.0))], rtol=fine, atol=1e-9)
    up, down = _crossings(curve, EC, peak)
    np.testing.assert_allclose(got["time_above0"], [down - up, down - 3.0], rtol=fine)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    t = 12 + 12 * nodes
    assert got["average"][0] == pytest.approx(np.dot(weights, effect(curve(t))) / 2, rel=1e-8 if tight else 1e-5)


@pytest.mark.parametrize("way", ["tsit5"])
def test_an_output_that_jumps(way: str) -> None:
    """J = 1 while C > EC: its time above 1/2 is that of C above EC; to each jump's place within a step by bisection."""
    got = found(way, doses((0.0, D, 1, 0.0)), [(0, 24), (2, 4)], of="J", thresholds=(0.5,))
    np.testing.assert_allclose(got["time_above0"], [np.log(D / V / EC) / K, 2.0], rtol=1e-7)
    np.testing.assert_allclose(got["time_below0"], [24 - np.log(D / V / EC) / K, 0.0], rtol=1e-7, atol=1e-12)
    assert got["maximum"].tolist() == [1.0, 1.0]
    assert got["minimum"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("way", WAYS)
def test_same_bits_in_any_company(way: str) -> None:
    """A subject's statistics do not depend on the lanes beside it."""
    rng = np.random.default_rng(3)
    many = P * np.exp(0.5 * rng.standard_normal((21, 4)))
    windows = [(0, 24), (3, 17), (12, 13)]
    whole = found(way, TWO, windows, thresholds=(4.0,), parameters=many, rtol=1e-6, atol=1e-8)
    back = found(way, TWO, windows, thresholds=(4.0,), parameters=many[::-1].copy(), rtol=1e-6, atol=1e-8)
    part = found(way, TWO, windows, thresholds=(4.0,), parameters=many[5:8].copy(), rtol=1e-6, atol=1e-8)
    for name, values in whole.items():
        assert np.array_equal(values, back[name][::-1]), name
        assert np.array_equal(values[5:8], part[name]), name
        assert np.isfinite(values).all()


def test_equal_windows_of_an_output_are_done_once() -> None:
    model = asking("C", (1.0, 2.0))
    same = {s.name: ([0.0, 3.0], [24.0, 5.0]) for s in model.summaries}
    groups = windows_of(model, np.zeros((2, 1)), np.zeros(2), same)
    assert groups.of == ("C", "C")
    assert groups.level.tolist() == [1.0, 2.0]
    picked = {name: g for name, g, _, _ in groups.picks}
    assert [picked[n] for n in ("average", "maximum", "time_above0", "time_above1", "time_below0", "time_below1")] == [
        0, 0, 0, 1, 0, 1,
    ]  # fmt: skip
    apart = same | {"minimum": ([0.0, 3.0], [24.0, 6.0])}
    assert len(windows_of(model, np.zeros((2, 1)), np.zeros(2), apart).of) == 3
    own = same | {"minimum": (np.array([[0.0, 3.0], [0.0, 2.0]]), np.array([[24.0, 5.0], [24.0, 5.0]]))}
    assert len(windows_of(model, np.zeros((2, 1)), np.zeros(2), own).of) == 3


def test_endpoints_of_a_stream_are_those_of_the_formula() -> None:
    """After a bolus: tmax 0, time above by the logarithm; a window that starts at a dose; from the solver, not samples."""
    level = 5.0
    ends = [
        Endpoint(name="TMAX", of="C", kind="time_of_maximum", end=24.0),
        Endpoint(name="TMIN", of="C", kind="time_of_minimum", end=24.0),
        Endpoint(name="UP", of="C", kind="time_above", end=24.0, threshold=level),
        Endpoint(name="DOWN", of="C", kind="time_below", end=24.0, threshold=level),
        Endpoint(name="LATE", of="C", kind="time_of_maximum", start=3.0, end=24.0),
        Endpoint(name="AREA", of="C", kind="area", start=12.0, end=12.0),
        Endpoint(name="TROUGH", of="C", kind="value", end=12.0),
    ]
    got = summarise(
        compiled(Model.parse(TEXT)), np.repeat(P, 3, axis=0), TWO, [0.0, 24.0], outputs=["C"], endpoints=ends
    )
    assert set(got.how) == {"solver"}
    first, after = np.log(D / V / level) / K, bolus(12) + D / V
    second = min(np.log(after / level) / K, 12.0)
    above = first + second
    expected = {"TMAX": 12, "TMIN": 12, "UP": above, "DOWN": 24 - above, "LATE": 12, "AREA": 0.0, "TROUGH": bolus(12)}
    for name, value in expected.items():
        np.testing.assert_allclose(got.endpoint(name), value, rtol=1e-6, err_msg=name)
