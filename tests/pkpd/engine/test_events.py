"""Event records against brute force: doses written out one by one, carried from event to event by matrix exponentials.

The witness knows nothing of steady states, lags or shares: it gets boluses, rates on and off, resets, at explicit times.
NONMEM Users Guide part VI (PREDPP), chapter V, says what each record means.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from pkpd.engine.build import compiled
from pkpd.engine.changes import Changes
from pkpd.engine.solve import SolveStatus, solve
from pkpd.ground.errors import InputError
from pkpd.model.regimen import EventKind, Events, Schedule
from pkpd.model.spec import Model

MODEL = """
vtrial: model/1
name: events
states: {{depot: mg, central: mg}}
parameters:
  KA:  {{typical: 0.7 1/h, status: assumed}}
  CL:  {{typical: 3 L/h, status: assumed}}
  V:   {{typical: 30 L, status: assumed}}
  F1:  {{typical: 0.6 1, status: assumed}}
  LAG: {{typical: 1.5 h, status: assumed}}
  D1:  {{typical: 3 h, status: assumed}}
  R2:  {{typical: 20 mg/h, status: assumed}}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C{extra}
doses: {{depot: {{bioavailability: F1, lag: LAG, duration: D1}}, central: {{bioavailability: 0.5*F1 + 0.2, rate: R2}}}}
summaries:
  AV: {{of: C, as: average, window: 24 h}}
  HI: {{of: C, as: maximum, window: 24 h}}
outputs: {{CP: {{is: C}}, S: {{is: SUM}}}}
""".replace("doses:", "  SUM = AV + HI\ndoses:")
P = np.array([0.7, 3.0, 30.0, 0.6, 1.5, 3.0, 20.0])
KA, KE, F1, LAG = 0.7, 0.1, 0.6, 1.5
F2 = 0.5 * F1 + 0.2
TIMES = np.array([0.3, 1.0, 1.7, 4.0, 6.1, 9.0, 12.5, 16.0, 23.0, 26.0, 31.0, 47.0])
TIGHT = {"rtol": 1e-12, "atol": 1e-13}
DEPOT, CENTRAL = 0, 1


@pytest.fixture(scope="module")
def model():
    return compiled(Model.parse(MODEL.format(extra="")))


def record(time, amount=0.0, target=DEPOT, *, duration=0.0, ii=0.0, ss=0, kind=EventKind.DOSE, rate=0.0, more=0):
    return (time, amount, target, duration, ii, ss, kind, rate, more)


def events(*records):
    columns = [np.asarray(c) for c in zip(*records, strict=True)]
    kinds = (float, float, np.int32, float, float, np.int8, np.int8, float, np.int32)
    return Events.pack([Schedule(*(c.astype(k) for c, k in zip(columns, kinds, strict=True)))])


def brute(steps, times, ka=KA, ke=KE):
    """Central amount at `times` from steps (time, what, target, x), applied in their order at equal times."""
    queue = sorted(steps, key=lambda s: s[0])
    y, r, t, found = np.zeros(2), np.zeros(2), queue[0][0], []
    for at in times:
        while queue and queue[0][0] < at:
            time, what, target, x = queue.pop(0)
            y, t = carried(y, r, time - t, ka, ke=ke), time
            if what == "add":
                y[target] += x
            elif what == "rate":
                r[target] += x
            elif what == "reset":
                y, r = np.zeros(2), np.zeros(2)
            elif what == "put":
                y[target] = x
            elif what == "times":
                y[target] *= x
            elif what == "rates":
                ka, ke = x
        y, t = carried(y, r, at - t, ka, ke=ke), at
        found.append(y[1])
    return np.array(found)


def carried(y, r, dt, ka, *, ke):
    big = np.zeros((3, 3))
    big[:2, :2], big[:2, 2] = [[-ka, 0.0], [ka, -ke]], r
    return (expm(big * dt) @ np.append(y, 1.0))[:2]


def bolus(times, amount, target=DEPOT):
    return [(t, "add", target, amount) for t in np.atleast_1d(times)]


def infusion(times, rate, duration, target=CENTRAL):
    return [s for t in np.atleast_1d(times) for s in ((t, "rate", target, rate), (t + duration, "rate", target, -rate))]


def before(time, interval, cycles=60):
    """Times of the doses of a steady regimen before `time`, which is the last of them."""
    return time - interval * np.arange(cycles)[::-1]


PAST = before(2.0, 12.0)
FUTURE = 2.0 + 12.0 * np.arange(1, 3)
CASES = {
    "bolus with lag and share": (
        [record(0, 100), record(12, 50)], [*bolus(LAG, 100 * F1), *bolus(12 + LAG, 50 * F1)],
    ),
    "additional doses": (
        [record(0, 100, ii=8, more=3)], bolus(LAG + 8.0 * np.arange(4), 100 * F1),
    ),
    "infusion by duration: the share changes its rate": (
        [record(1, 80, CENTRAL, duration=4)], infusion(1, 80 * F2 / 4, 4),
    ),
    "infusion by rate: the share changes its duration": (
        [record(1, 80, CENTRAL, rate=16)], infusion(1, 16, 80 * F2 / 16),
    ),
    "modelled rate": ([record(1, 80, CENTRAL, rate=-1)], infusion(1, 20, 80 * F2 / 20)),
    "modelled duration, with lag": (
        [record(1, 80, DEPOT, rate=-2, ii=12, more=1)], infusion([1 + LAG, 13 + LAG], 80 * F1 / 3, 3, DEPOT),
    ),
    "steady state with lag": (
        [record(2, 100, ii=12, ss=1, more=2)], bolus(np.append(PAST, FUTURE) + LAG, 100 * F1),
    ),
    "steady state with a lag longer than the interval": (
        [record(2, 100, ii=0.6, ss=1)], bolus(before(2.0, 0.6, 1000) + LAG, 100 * F1),
    ),
    "steady state, infusion longer than the interval": (
        [record(2, 100, CENTRAL, duration=30, ii=12, ss=1, more=2)],
        infusion(np.append(PAST, FUTURE), 100 * F2 / 30, 30),
    ),
    "steady state, infusion by rate longer than the interval": (
        [record(2, 100, CENTRAL, rate=2, ii=12, ss=1)], infusion(PAST, 2, 100 * F2 / 2),
    ),
    "steady state, infusion with lag that still runs": (
        [record(2, 100, DEPOT, rate=-2, ii=4, ss=1, more=1)],
        infusion(np.append(before(2.0, 4.0, 200), 6.0) + LAG, 100 * F1 / 3, 3, DEPOT),
    ),
    "steady state, infusion exactly as long as the interval": (
        [record(2, 100, CENTRAL, duration=12, ii=12, ss=1)], infusion(PAST, 100 * F2 / 12, 12),
    ),
    "steady state, infusion with lag that ends exactly at the record": (
        [record(2, 100, DEPOT, rate=-2, ii=4.5, ss=1)],
        infusion(before(2.0, 4.5, 200) + LAG, 100 * F1 / 3, 3, DEPOT),
    ),
    "constant infusion at steady state ends at its record": (
        [record(2, 0, CENTRAL, rate=7, ss=1)], [(2 - 720.0, "rate", CENTRAL, 7), (2, "rate", CENTRAL, -7)],
    ),
    "constant modelled infusion at steady state, then on": (
        [record(2, 0, CENTRAL, rate=-1, ss=1), record(2, 400, CENTRAL, rate=20)],
        [(2 - 720.0, "rate", CENTRAL, 20), (2, "rate", CENTRAL, -20), *infusion(2, 20, 400 * F2 / 20)],
    ),
    "steady state added to what is there (SS 2)": (
        [record(0, 70, CENTRAL, duration=6), record(2, 100, ii=12, ss=2), record(9, 30, CENTRAL)],
        [*infusion(0, 70 * F2 / 6, 6), *bolus(PAST + LAG, 100 * F1), *bolus(9, 30 * F2, CENTRAL)],
    ),
    "two steady regimens (SS 1, then SS 2)": (
        [record(2, 100, ii=12, ss=1), record(2, 40, CENTRAL, duration=15, ii=8, ss=2)],
        [*bolus(PAST + LAG, 100 * F1), *infusion(before(2.0, 8.0, 90), 40 * F2 / 15, 15)],
    ),
    "steady state clears what was there (SS 1)": (
        [record(0, 500, CENTRAL, duration=20), record(0.8, 77), record(2, 100, ii=12, ss=1)],
        bolus(PAST + LAG, 100 * F1),
    ),
    "reset": (
        [record(0, 100, CENTRAL, duration=8), record(1, 100, ii=3, more=5), record(6, kind=EventKind.RESET),
         record(9, 40)],
        [*infusion(0, 100 * F2 / 8, 8)[:1], *bolus([1 + LAG, 4 + LAG], 100 * F1), (6, "reset", 0, 0),
         *bolus(9 + LAG, 40 * F1)],
    ),
    "reset and dose with lag (EVID 4); a delayed dose before it is lost": (
        [record(0, 100), record(5, 60), record(6, 40, kind=EventKind.RESET_DOSE)],
        [*bolus(LAG, 100 * F1), (6, "reset", 0, 0), *bolus(6 + LAG, 40 * F1)],
    ),
    "reset and dose with lag and steady state": (
        [record(0, 100), record(6, 40, kind=EventKind.RESET_DOSE, ii=12, ss=1)],
        bolus(before(6.0, 12.0) + LAG, 40 * F1),
    ),
    "records of one time in the order of the file": (
        [record(5, 60, CENTRAL), record(5, kind=EventKind.RESET), record(5, 20, CENTRAL), record(5, 3, CENTRAL,
         kind=EventKind.MULTIPLY), record(5, 10, CENTRAL)],
        bolus(5, 3 * 20 * F2 + 10 * F2, CENTRAL),
    ),
    "replace and multiply": (
        [record(0, 100), record(5, 17, CENTRAL, kind=EventKind.REPLACE), record(8, 0.25, kind=EventKind.MULTIPLY),
         record(8.5, 0.5, CENTRAL, kind=EventKind.MULTIPLY)],
        [*bolus(LAG, 100 * F1), (5, "put", CENTRAL, 17), (8, "times", DEPOT, 0.25), (8.5, "times", CENTRAL, 0.5)],
    ),
    "other records only stop the solver": (
        [record(0, 100), record(3, 55, kind=EventKind.OTHER), record(7, kind=EventKind.OTHER)], bolus(LAG, 100 * F1),
    ),
    "compartment off: what is in it and what runs into it is lost, a dose turns it on": (
        [record(0, 100), record(1, 60, DEPOT, duration=10), record(5, 0, DEPOT, kind=EventKind.OFF), record(12, 40)],
        [*bolus(LAG, 100 * F1), (1 + LAG, "rate", DEPOT, 60 * F1 / 10), (5, "put", DEPOT, 0),
         (5, "rate", DEPOT, -60 * F1 / 10), *bolus(12 + LAG, 40 * F1)],
    ),
    "compartment off at the time an infusion into it begins: that one ends, the additional one turns it on": (
        [record(5, 60, CENTRAL, duration=2, ii=6, more=1), record(5, 0, CENTRAL, kind=EventKind.OFF)],
        infusion(11, 60 * F2 / 2, 2),
    ),
    "compartment off, then on by an infusion of the same time": (
        [record(5, 60, CENTRAL, duration=8), record(7, 0, CENTRAL, kind=EventKind.OFF), record(7, 60, CENTRAL, duration=4)],
        [*infusion(5, 60 * F2 / 8, 8)[:1], (7, "rate", CENTRAL, -60 * F2 / 8), (7, "put", CENTRAL, 0), *infusion(7, 15 * F2, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", ["closed", "ode"])
@pytest.mark.parametrize("case", CASES)
def test_records_equal_brute_force(model, case, path):
    records, steps = CASES[case]
    if path == "closed" and any(r[6] == EventKind.OFF for r in records):
        path = "auto"
    found = solve(model, P[None], events(*records), TIMES, path=path, **TIGHT)
    assert found.status[0] == SolveStatus.OK
    expected = brute(steps, TIMES) / 30.0
    first = min((r[0] for r in records if r[5]), default=0.0)  # a steady state says nothing of the time before it
    seen = first < TIMES
    np.testing.assert_allclose(found.values[0, 0, seen], expected[seen], rtol=1e-8, atol=1e-12)


SLOW = MODEL.replace("central: mg}}", "central: mg, slow: mg}}").replace("CP: {{is: C}}", "CP: {{is: C}}, SL: {{is: slow}}").replace(
    "{extra}", "\n  slow(0) = 1\n  d/dt(slow) = KS*ONE*((1 + PULL*central)*exp(1 - slow/ONE) - 1)",
).replace("parameters:", """parameters:
  KS: {{typical: 0.0002 1/h, status: assumed}}
  PULL: {{typical: 2e-4 1/mg, status: assumed}}
  ONE: {{typical: 1 mg, status: assumed}}""").format()  # fmt: skip


@pytest.mark.slow
def test_a_slow_state_is_steady_too():
    """Kinetics settle in one interval, the logarithm of a marker in many; the marker itself is linear: fixed point by matrix
    exponentials."""
    known, slow, pull = compiled(Model.parse(SLOW)), 2e-4, 2e-4
    matrix = np.array([[-KA, 0, 0], [KA, -KE, 0], [0, slow * pull, -slow]])
    peak = np.linalg.solve(np.eye(3) - expm(matrix * 80), [100 * F1, 0, 0])
    expected = 1.0 + np.log1p((expm(matrix * (80 - LAG)) @ peak)[2])
    found = solve(
        known, np.r_[slow, pull, 1.0, P][None], events(record(0, 100, ii=80, ss=1)), [0.0], path="ode", after=True
    )
    assert found.values[0, known.outputs.index("slow"), 0] == pytest.approx(expected, rel=1e-5)


def test_an_empty_compartment_that_is_off_takes_nothing_until_it_is_on(model):
    """Central off from 4 to 10 h: it stays at 0 while the depot goes on; after ON it gets what the depot still gives."""
    given = events(record(0, 100), record(4, 0, CENTRAL, kind=EventKind.OFF), record(10, 0, CENTRAL, kind=EventKind.ON))
    found = solve(model, P[None], given, TIMES, **TIGHT).values[0, 0]
    inside = (TIMES > 4) & (TIMES <= 10)
    assert (found[inside] == 0.0).all()
    left = 60.0 * np.exp(-KA * (10 - LAG))
    late = TIMES > 10
    expected = brute([(10.0, "add", DEPOT, left)], TIMES[late]) / 30.0
    np.testing.assert_allclose(found[late], expected, rtol=1e-8)
    with pytest.raises(InputError, match="no closed form"):
        solve(model, P[None], given, TIMES, path="closed")


@pytest.mark.parametrize("path", ["closed", "ode"])
@pytest.mark.parametrize("late", [False, True])
def test_covariate_events_equal_segments_with_restarts(model, path, late):
    """CL, V, F1, LAG and KA change at 6 h and 14 h; each segment starts again from the amounts of the one before.

    LOCF: the dose at 6 h has the new share and lag; NOCB (`late`): those before. The volume changes the level at once.
    """
    rows = np.array([P, [1.1, 5.0, 25.0, 0.3, 0.5, 3, 20], [0.2, 2.0, 40.0, 0.9, 2.0, 3, 20]])
    changes = Changes(
        offsets=np.array([0, 2]), time=np.array([6.0, 14.0]), parameters=rows[1:], late=np.array([late, late])
    )
    given = events(record(0, 100), record(6, 50), record(15, 60, CENTRAL, duration=4), record(13.5, 20))
    first, last = (0, 1) if late else (1, 2)
    k = [(row[0], row[1] / row[2]) for row in rows]
    steps = [
        *bolus(LAG, 100 * F1), *bolus(6 + rows[first, 4], 50 * rows[first, 3]), *bolus(13.5 + 0.5, 20 * 0.3),
        (6, "rates", 0, k[1]), (14, "rates", 0, k[2]),
        *infusion(15, 60 * (0.5 * 0.9 + 0.2) / 4, 4),
    ]  # fmt: skip
    assert last in (1, 2)
    amount = brute(steps, TIMES)
    volume = np.where(TIMES > 14, 40.0, np.where(TIMES > 6, 25.0, 30.0))
    found = solve(model, P[None], given, TIMES, changes=changes, path=path, **TIGHT)
    np.testing.assert_allclose(found.values[0, 0], amount / volume, rtol=1e-8)
    # windows: Simpson on a fine grid of the witness, cut where the volume jumps
    fine = [
        np.linspace(a, b, 201) for a, b in ((3.0, 6.0), (6.0, 7.5), (7.5, 14.0), (14.0, 15.0), (15.0, 19.0), (19, 22))
    ]
    total, top = 0.0, 0.0
    for k, grid in enumerate(fine):
        inside = np.clip(grid, grid[0] + 1e-12, grid[-1] - 1e-12)
        curve = brute(steps, inside) / (30.0 if k == 0 else 25.0 if k < 3 else 40.0)
        weights = np.full(201, 2.0)
        weights[1::2], weights[[0, -1]] = 4.0, 1.0
        total += (weights * curve).sum() * (grid[1] - grid[0]) / 3.0
        top = max(top, curve.max())
    asked = {"AV": ([3.0], [22.0]), "HI": ([3.0], [22.0])}
    stats = solve(model, P[None], given, TIMES, changes=changes, windows=asked, path=path, **TIGHT).summaries
    assert stats["AV"][0, 0] == pytest.approx(total / 19.0, rel=2e-6)
    assert stats["HI"][0, 0] == pytest.approx(top, rel=1e-4)


@pytest.mark.parametrize("path", ["closed", "ode"])
@pytest.mark.parametrize("late", [False, True])
def test_a_steady_state_at_a_change_has_the_parameters_of_its_side(model, path, late):
    """CL changes at the very time of the record: LOCF, the steady state is that of the new value; NOCB, of the old."""
    after = P * np.array([1, 2, 1, 1, 1, 1, 1])
    changes = Changes(
        offsets=np.array([0, 1]), time=np.array([6.0]), parameters=after[None], late=np.array([late])
    )  # fmt: skip
    times = np.array([6.5, 9.0, 20.0])
    found = solve(model, P[None], events(record(6, 100, CENTRAL, ii=12, ss=1)), times, changes=changes, path=path,
                  **TIGHT)  # fmt: skip
    steady = 100 * F2 / -np.expm1(-12 * (KE if late else 2 * KE))
    np.testing.assert_allclose(found.values[0, 0], steady * np.exp(-2 * KE * (times - 6)) / 30, rtol=1e-8)


def _many(n=40):
    """Subjects with every kind of record, in any number, and changes."""
    rng = np.random.default_rng(3)
    parts, changes, offsets = [], [], [0]
    kinds = [EventKind.DOSE] * 6 + [EventKind.RESET, EventKind.RESET_DOSE, EventKind.MULTIPLY, EventKind.REPLACE]
    for _ in range(n):
        rows = []
        for t in np.sort(rng.uniform(0, 40, rng.integers(0, 9))):
            kind = kinds[rng.integers(len(kinds))]
            dose = kind in (EventKind.DOSE, EventKind.RESET_DOSE)
            target = int(rng.integers(2))
            rate = float(rng.choice([0.0, 0.0, 9.0, -2.0 if target == 0 else -1.0])) if dose else 0.0
            ss = int(rng.choice([0, 0, 0, 1, 2])) if dose else 0
            rows.append(record(t, rng.uniform(1, 90) if dose else 0.5, target, ii=8.0, ss=ss, kind=kind, rate=rate,
                               more=int(rng.integers(3)) if dose else 0))  # fmt: skip
        blank = [np.empty(0)] * 9
        columns = [np.asarray(c) for c in zip(*rows, strict=True)] if rows else blank
        types = (float, float, np.int32, float, float, np.int8, np.int8, float, np.int32)
        parts.append(Schedule(*(c.astype(k) for c, k in zip(columns, types, strict=True))))
        times = np.sort(rng.uniform(0, 40, rng.integers(0, 4)))
        changes += [(t, P * np.exp(0.3 * rng.normal(size=7)), rng.random() < 0.5) for t in times]
        offsets.append(len(changes))
    made = Changes(
        offsets=np.array(offsets), time=np.array([c[0] for c in changes]),
        parameters=np.array([c[1] for c in changes]), late=np.array([c[2] for c in changes]),
    )  # fmt: skip
    return P * np.exp(0.3 * rng.normal(size=(n, 7))), Events.pack(parts), made


@pytest.mark.parametrize("path", ["closed", "ode"])
def test_any_mixture_of_records_is_the_same_alone_and_in_a_crowd(model, path):
    parameters, given, changes = _many()
    whole = solve(model, parameters, given, TIMES, changes=changes, path=path)
    assert not whole.status.any()
    for i in (0, 7, 23, 39):
        alone = solve(model, parameters[[i]], given.subjects([i]), TIMES, changes=changes.part(i, i + 1), path=path)
        assert alone.values.tobytes() == whole.values[i].tobytes()
        assert alone.summaries["AV"].tobytes() == whole.summaries["AV"][i].tobytes()


def test_any_mixture_of_records_agrees_between_the_paths(model):
    parameters, given, changes = _many(200)
    closed = solve(model, parameters, given, TIMES, changes=changes, path="closed")
    ode = solve(model, parameters, given, TIMES, changes=changes, path="ode", **TIGHT)
    assert not ode.status.any()
    np.testing.assert_allclose(ode.values, closed.values, rtol=1e-8, atol=1e-9)
    for name in ("AV", "HI"):
        np.testing.assert_allclose(ode.summaries[name], closed.summaries[name], rtol=1e-7, atol=1e-8)


def test_what_the_model_does_not_give_is_refused_and_what_makes_no_sense_fails(model):
    with pytest.raises(InputError, match="RATE = -1 but the model gives no rate"):
        solve(model, P[None], events(record(0, 10, DEPOT, rate=-1)), TIMES)
    with pytest.raises(InputError, match="interval"):
        solve(model, P[None], events(record(0, 10, ss=1)), TIMES)
    bad = np.stack([P, P, P])
    bad[0, 4], bad[1, 5] = -1.0, -2.0
    given = events(record(0, 10, rate=-2))
    found = solve(model, bad, given.subjects([0, 0, 0]), TIMES)
    assert found.status.tolist() == [SolveStatus.NOT_FINITE, SolveStatus.NOT_FINITE, SolveStatus.OK]
    ode = solve(model, bad, given.subjects([0, 0, 0]), TIMES, path="ode")
    assert ode.status.tolist() == found.status.tolist()
