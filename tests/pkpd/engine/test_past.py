"""What the dynamics know of past doses: TAD and DOSE, doses through transits (Savic et al., JPKPD 2007)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from scipy.integrate import quad, solve_ivp

from pkpd.engine.build import compiled
from pkpd.engine.changes import Changes
from pkpd.engine.past import last_dose
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import SolveStatus, solve
from pkpd.ground.errors import InputError
from pkpd.model.regimen import EventKind, Events, Schedule
from pkpd.model.spec import Model

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
TAD = """
vtrial: model/1
name: clocks
states: {A: mg}
parameters:
  K:  {typical: 0.1 1/h, status: assumed}
  W:  {typical: 0.2 1/h, status: assumed}
  F1: {typical: 0.9 1, status: assumed}
  D0: {typical: 200 mg, status: assumed}
  V:  {typical: 10 L, status: assumed}
equations: |
  KT = K*(1 + exp(-W*TAD))*D0/(D0 + DOSE)
  C = A/V
  d/dt(A) = -KT*A
doses: {A: {bioavailability: F1}}
outputs: {CP: {is: C}}
"""
P = np.array([[0.1, 0.2, 0.9, 200.0, 10.0]])


def record(time, amount=100.0, target=0, *, ii=0.0, ss=0, kind=EventKind.DOSE, more=0, duration=0.0):
    return (time, amount, target, duration, ii, ss, kind, 0.0, more)


def schedule(*records):
    kinds = (float, float, np.int32, float, float, np.int8, np.int8, float, np.int32)
    return Schedule(*(np.asarray(c).astype(k) for c, k in zip(zip(*records, strict=True), kinds, strict=True)))


def events(*records):
    return Events.pack([schedule(*records)])


def brute_tad(doses, at, rows=P):
    """A(t)/V for KT of the last dose: each interval in closed form."""
    k, w, f, d0, v = rows[0]
    y = 0.0
    for (t, amount), until in zip(doses, [*(t for t, _ in doses[1:]), np.inf], strict=True):
        if t < at:
            y, s = y + amount * f, min(until, at) - t
            y *= np.exp(-d0 / (d0 + amount) * (k * s + k / w * (1 - np.exp(-w * s))))
    return y / v


RECORDS = [record(2.0), record(12.0, 300.0, ii=6.0, more=2), record(30.0, 50.0)]
DOSES = [(2.0, 100.0), (12.0, 300.0), (18.0, 300.0), (24.0, 300.0), (30.0, 50.0)]


def test_rate_and_share_by_the_last_dose():
    """Witness: interval by interval in closed form; ADDL counts."""
    times = np.array([1.0, 2.0, 5.0, 12.0, 13.0, 20.0, 24.0, 29.0, 30.0, 40.0])
    found = solve(compiled(Model.parse(TAD)), P, events(*RECORDS), times, **TIGHT)
    wanted = [brute_tad(DOSES, t) for t in times]
    assert found.status.tolist() == [0]
    np.testing.assert_allclose(found.values[0, 0], wanted, rtol=1e-8, atol=1e-12)


def test_reset_cancels_doses_to_come_and_the_clock_goes_on():
    """NONMEM: EVID 3 cancels additional doses; the last dose given stays the last dose."""
    given = events(record(0.0, 100.0, ii=10.0, more=5), record(15.0, kind=EventKind.RESET), record(40.0))
    times = np.array([[0.0, 9.0, 14.0, 39.0, 41.0]])
    tad, dose = last_dose(given, times, after=False)
    assert tad.tolist() == [[0.0, 9.0, 4.0, 29.0, 1.0]]
    assert dose.tolist() == [[0.0, 100.0, 100.0, 100.0, 100.0]]
    assert last_dose(given, np.array([[10.0, 20.0, np.nan]]), after=True)[0][0, :2].tolist() == [0.0, 10.0]


def test_sample_at_the_dose_is_before_it_or_after():
    given = events(*RECORDS)
    assert last_dose(given, np.array([[12.0]]), after=False)[0][0, 0] == 10.0
    assert last_dose(given, np.array([[12.0]]), after=True)[0][0, 0] == 0.0


def test_steady_state_of_a_rate_by_time_since_dose():
    """Witness: 60 doses written out."""
    model = compiled(Model.parse(TAD))
    times = np.array([0.1, 3.0, 7.9, 12.0])
    found = solve(model, P, events(record(0.0, ii=8.0, ss=1)), times, **TIGHT)
    past = [record(8.0 * k, 100.0) for k in range(60)]
    wanted = solve(model, P, events(*past), times + 8.0 * 59, **TIGHT)
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-8)


def test_no_time_passes_since_no_dose():
    """A' = TAD: 0 until the first dose, at a change of parameters before it too; then (t - dose)^2/2."""
    start, stop = TAD.index("states:"), TAD.index("parameters:")
    text = TAD[:start] + "states: {A: mg, B: h^2}\n" + TAD[stop:]
    text = text.replace("-KT*A\n", "-KT*A\n  d/dt(B) = TAD\n").replace("{CP: {is: C}}", "{B: {is: B}}")
    moved = Changes(offsets=np.array([0, 1]), time=np.array([1.0]), parameters=P, late=np.array([False]))
    found = solve(compiled(Model.parse(text)), P, events(record(5.0)), [0.5, 4.0, 5.0, 8.0], changes=moved, **TIGHT)
    np.testing.assert_allclose(found.values[0, 0], [0, 0, 0, 4.5], atol=1e-9)


def test_sensitivities_of_a_rate_by_time_since_dose():
    """Witness: central differences of the closed form above."""
    times, h = np.array([3.0, 13.0, 29.0]), 1e-5
    found = sensitivities(compiled(Model.parse(TAD)), P, events(*RECORDS), times, wrt=["W", "D0"], **TIGHT)
    for k, column in enumerate((1, 3)):
        up, down = P.copy(), P.copy()
        up[0, column] *= 1 + h
        down[0, column] *= 1 - h
        slope = np.array([(brute_tad(DOSES, t, up) - brute_tad(DOSES, t, down)) / (2 * h) for t in times])
        np.testing.assert_allclose(found.gradient[0, 0, k], slope, rtol=1e-6, atol=1e-9)


TRANSIT = """
vtrial: model/1
name: savic
states: {depot: mg, central: mg}
parameters:
  N:   {typical: 3 1, status: assumed}
  MTT: {typical: 2 h, status: assumed}
  KA:  {typical: 1 1/h, status: assumed}
  CL:  {typical: 3 L/h, status: assumed}
  V:   {typical: 30 L, status: assumed}
  F1:  {typical: 0.6 1, status: assumed}
  LAG: {typical: 0.5 h, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
doses: {depot: {transit: {number: N, time: MTT}, bioavailability: F1, lag: LAG}}
summaries: {AV: {of: C, as: average, window: 400 h}}
outputs: {CP: {is: C}, S: {is: SUM}}
""".replace("doses:", "  SUM = 2*AV\ndoses:")
ROW = np.array([3.0, 2.0, 1.0, 3.0, 30.0, 0.6, 0.5])


@pytest.fixture(scope="module")
def savic():
    return compiled(Model.parse(TRANSIT))


def rows(*changed):
    return np.array([[*pair, *ROW[2:]] for pair in changed])


def superposed(row, doses, times):
    """C(t) by quadrature of the gamma density against the one-compartment response, dose by dose."""
    n, mtt, ka, cl, v, f, lag = row
    ktr, ke = (n + 1) / mtt, cl / v

    def response(u):
        return ka / (v * (ka - ke)) * (np.exp(-ke * u) - np.exp(-ka * u))

    def one(s):
        def integrand(x):  # x = ktr * time in the transits
            return np.exp(n * np.log(x) - x - special.gammaln(n + 1)) * response(s - x / ktr) if x > 0 else 0.0

        points = [p for p in (n + 1 + k * np.sqrt(n + 1) for k in (-6, -3, 0, 3, 6, 12)) if 0 < p < ktr * s]
        return quad(integrand, 0, ktr * s, points=points or None, epsabs=1e-13, epsrel=1e-11, limit=400)[0]

    return np.array([sum(f * d * one(t - at - lag) for at, d in doses if t > at + lag) for t in times])


@pytest.mark.parametrize("n", [0, 1, 5, pytest.param(20, marks=pytest.mark.slow)])
def test_against_a_chain_of_states(savic, n):
    """Witness: n + 1 states of rate ktr written out, by DOP853."""
    times = np.array([0.2, 0.7, 1.0, 2.0, 3.0, 4.5, 8.0, 12.4, 13.0, 16.0, 30.0])
    row = np.array([n, 2.0, *ROW[2:]])
    given = [(0.0, 100.0), (12.0, 50.0)]
    found = solve(savic, row[None], events(*(record(t, d) for t, d in given)), times, rtol=1e-9, atol=1e-11)
    ktr, size = (n + 1) / 2.0, n + 1

    def rhs(t, y):
        flow = ktr * y[:size]
        slope = -flow + np.concatenate([[0.0], flow[:-1]])
        depot, central = y[size:]
        return np.concatenate([slope, [flow[-1] - depot, depot - 0.1 * central]])

    y, at, wanted = np.zeros(size + 2), 0.0, []
    todo = sorted([*((t + 0.5, 0.6 * d) for t, d in given), *((t, None) for t in times)], key=lambda s: s[0])
    for t, amount in todo:
        if t > at:
            y, at = solve_ivp(rhs, (at, t), y, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1], t
        if amount is None:
            wanted.append(y[-1] / 30.0)
        else:
            y[0] += amount
    assert found.status.tolist() == [0]
    peak = max(wanted)
    assert (np.abs(found.values[0, 0] - wanted) <= 1e-6 * peak).all()


@pytest.mark.parametrize(("n", "mtt"), [(0.3, 1.0), (2.7, 2.0), (9.4, 6.0), (60.0, 30.0)])
def test_real_numbers_of_transits_by_quadrature(savic, n, mtt):
    """Witness: SciPy's quad over the gamma density; doses that overlap add up."""
    times = np.array([0.6, 2.0, 5.0, 9.0, 14.0, 20.0, 40.0, 55.0])
    given = [(0.0, 100.0), (6.0, 50.0), (12.0, 80.0)]
    found = solve(savic, rows((n, mtt)), events(*(record(t, d) for t, d in given)), times, rtol=1e-9, atol=1e-11)
    wanted = superposed(rows((n, mtt))[0], given, times)
    np.testing.assert_allclose(found.values[0, 0], wanted, rtol=2e-6, atol=2e-7 * wanted.max())


def test_area_is_share_times_dose_over_clearance(savic):
    """Witness: AUC = F dose/CL, also at default tolerances, narrow and broad transits, and for those who take none."""
    changed = [(0.0, 1.0), (1.0, 3.0), (4.5, 5.0), (30.0, 4.0), (100.0, 20.0), (400.0, 40.0)]
    given = Events.shared(schedule(record(1.0)), len(changed))
    found = solve(savic, rows(*changed), given, [401.0])
    np.testing.assert_allclose(400 * found.summaries["AV"][:, 0], 0.6 * 100 / 3.0, rtol=1e-5)
    tight = solve(savic, rows(*changed), given, [401.0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(400 * tight.summaries["AV"][:, 0], 0.6 * 100 / 3.0, rtol=1e-6)


@pytest.mark.slow
def test_long_transits_and_frequent_doses(savic):
    """AUC of 8 hourly doses whose inputs overlap: nothing is dropped while it matters; too many at once are said."""
    found = solve(savic, rows((2.2, 10.0)), events(record(1.0, ii=1.0, more=7)), [401.0], rtol=1e-9, atol=1e-11)
    assert 400 * found.summaries["AV"][0, 0] == pytest.approx(8 * 20.0, rel=1e-6)
    with pytest.raises(InputError, match="more than 64 doses"):
        solve(savic, rows((2.2, 10.0)), events(record(1.0, ii=0.2, more=99)), [401.0])


@pytest.mark.slow
def test_a_subject_alone_and_among_others(savic):
    """The number of doses at once of one subject does not move a bit of another."""
    many, few = schedule(record(0.0, ii=1.0, more=6)), schedule(record(0.0, ii=2.5, more=2))
    times = np.array([3.0, 9.0, 20.0])
    both = solve(savic, rows((2.0, 3.0), (2.0, 3.0)), Events.pack([many, few]), times, **TIGHT)
    alone = solve(savic, rows((2.0, 3.0)), Events.pack([few]), times, **TIGHT)
    assert np.array_equal(both.values[1], alone.values[0])


def test_reset_ends_what_is_on_its_way(savic):
    """EVID 3 empties the transits: nothing comes after; EVID 4 starts anew."""
    times = np.array([2.0, 4.0, 9.0, 13.0])
    kind = EventKind.RESET
    gone = solve(savic, rows((3.0, 4.0)), events(record(0.0), record(3.0, kind=kind)), times, **TIGHT)
    assert gone.values[0, 0, 0] > 0
    assert (np.abs(gone.values[0, 0, 1:]) == 0).all()
    anew = solve(savic, rows((3.0, 4.0)), events(record(0.0), record(3.0, kind=EventKind.RESET_DOSE)), times, **TIGHT)
    first = solve(savic, rows((3.0, 4.0)), events(record(0.0)), times - 3.0, **TIGHT)
    np.testing.assert_allclose(anew.values[0, 0, 1:], first.values[0, 0, 1:], rtol=1e-8)


def test_values_at_the_record_hold_for_its_dose(savic):
    """A dose keeps the transits of its record when parameters change under way: all of it arrives."""
    later = rows((8.0, 9.0))
    moved = Changes(offsets=np.array([0, 1]), time=np.array([1.5]), parameters=later, late=np.array([False]))
    found = solve(savic, rows((3.0, 2.0)), events(record(0.0), record(6.0)), [8.0, 400.0], changes=moved, **TIGHT)
    wanted = superposed(rows((3.0, 2.0))[0], [(0.0, 100.0)], [8.0]) + superposed(later[0], [(6.0, 100.0)], [8.0])
    assert found.values[0, 0, 0] == pytest.approx(wanted[0], rel=1e-7)
    assert 400 * found.summaries["AV"][0, 1] == pytest.approx(40.0, rel=1e-7)


def test_what_cannot_be_solved_is_said(savic):
    for bad, what in (
        (record(0.0, duration=1.0), "infusion"), (record(0.0, ii=12.0, ss=1), "steady state"),
        (record(0.0, kind=EventKind.OFF), "turning off"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            solve(savic, rows((3.0, 2.0)), events(bad), [1.0])
    with pytest.raises(InputError, match="transits"):
        sensitivities(savic, rows((3.0, 2.0)), events(record(0.0)), [1.0])
    found = solve(savic, rows((-1.0, 2.0), (3.0, 0.0), (3.0, 2.0)), Events.shared(schedule(record(0.0)), 3), [5.0])
    assert found.status.tolist() == [SolveStatus.NOT_FINITE, SolveStatus.NOT_FINITE, 0]
