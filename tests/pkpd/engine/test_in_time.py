"""Covariates that change, and conditions on time, against SciPy's integration piece by piece."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.integrate import solve_ivp

from pkpd.engine.build import compiled
from pkpd.engine.changes import in_time
from pkpd.engine.solve import solve
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model
from pkpd.model.timeline import Series, timeline
from pkpd.model.variability import individual, point

TEXT = """
vtrial: model/1
name: in_time
covariates:
  WT:   {unit: kg, reference: 70, between: locf}
  CRCL: {unit: mL/min, reference: 100, between: nocb}
  TEMP: {unit: K, reference: 310, between: linear}
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 0.6 1/h, status: assumed}
  CL: {typical: 3 L/h, status: assumed, effects: {WT: power 0.75 fixed, CRCL: power 0.5 fixed}}
  V:  {typical: 30 L, status: assumed, effects: {WT: power 1 fixed}}
  B:  {typical: 0.05 1/K, scale: identity, status: assumed}
  F1: {typical: 0.5 1, status: assumed, effects: {CRCL: power -1 fixed}}
  TZ: {typical: 7.3 h, status: assumed}
equations: |
  C = central/V
  Q = if(TIME < TZ, 1, 3)
  d/dt(depot) = -KA*Q*depot
  d/dt(central) = KA*Q*depot - CL*(1 + B*(TEMP - 310))*C
doses: {depot: {bioavailability: F1}}
outputs: {CP: {is: C}}
"""
WT = ([0.0, 10.0], [60.0, 90.0])
CRCL = ([0.0, 8.0, 20.0], [120.0, 80.0, 40.0])
TEMP = ([2.0, 6.0, 18.0], [310.0, 313.0, 309.0])
DOSES = np.array([0.0, 8.0, 10.0, 24.0])
TIMES = np.array([1.0, 5.0, 7.3, 8.0, 9.5, 12.0, 19.0, 23.0, 30.0])


def _witness() -> np.ndarray:
    """LOCF: the value of the last record; NOCB: of the next (the last one after it); linear: np.interp."""
    cuts = np.unique(np.concatenate([WT[0], CRCL[0], TEMP[0], DOSES, [7.3, 30.0]]))
    y, found = np.zeros(2), {}
    for a, b in pairwise(cuts):
        middle = 0.5 * (a + b)
        wt = WT[1][np.searchsorted(WT[0], middle) - 1]
        crcl = CRCL[1][min(np.searchsorted(CRCL[0], middle), 2)]
        cl, v = 3 * (wt / 70) ** 0.75 * (crcl / 100) ** 0.5, 30 * wt / 70
        if a in DOSES:
            at = CRCL[1][min(np.searchsorted(CRCL[0], a), 2)]  # a dose sees the value of its own record
            y = y + np.array([100.0 * 0.5 * 100 / at, 0.0])

        def slope(t, y, cl=cl, v=v):
            ka = 0.6 * (1 if 0.5 * (a + b) < 7.3 else 3)  # noqa: B023
            warm = 1 + 0.05 * (np.interp(t, *TEMP) - 310)
            return [-ka * y[0], ka * y[0] - cl * warm * y[1] / v]

        inside = TIMES[np.clip(TIMES, a, b) == TIMES]
        inside = inside[inside > a]
        out = solve_ivp(slope, (a, b), y, "DOP853", t_eval=np.unique(np.append(inside, b)), rtol=1e-12, atol=1e-12)
        for k, t in enumerate(inside):
            found[t] = out.y[1, k] / v
        y = out.y[:, -1]
    return np.array([found[t] for t in TIMES])


def test_locf_nocb_and_linear_covariates_and_an_event_time_of_the_model():
    """Clearance, volume and share follow their records; the absorption rate jumps at TZ, where the solver stops."""
    model = Model.parse(TEXT)
    engine = compiled(model)
    assert len(engine.dynamics.stops) == 1
    series = {name: Series.of([x[0]], [x[1]]) for name, x in (("WT", WT), ("CRCL", CRCL), ("TEMP", TEMP))}
    line = timeline(model, {}, series, until=30.0)
    rows = len(line.time)
    typical = point(model)
    held = {name: values[None] for name, values in line.values.items()}
    parameters = individual(model, typical.typical, np.zeros((1, 0, 0)), held, z=np.zeros((1, rows, 0)))[0]
    start, covariates, changes = in_time(engine, line, parameters)
    k = len(DOSES)
    zero = np.zeros(k)
    given = Events.pack([Schedule(DOSES, zero + 100.0, np.zeros(k, np.int32), zero, zero, zero)])
    found = solve(engine, start, given, TIMES, covariates=covariates, changes=changes, rtol=1e-11, atol=1e-12)
    assert found.status[0] == 0
    np.testing.assert_allclose(found.values[0, 0], _witness(), rtol=1e-8)
