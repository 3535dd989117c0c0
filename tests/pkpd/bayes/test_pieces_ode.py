"""Occasions and covariates that change in models that need a solver: against the engine, the modes and differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pkpd.bayes.adjoint import adjoint_family
from pkpd.bayes.density import Density, density, kernels_key
from pkpd.bayes.density_source import family_text
from pkpd.bayes.design import Path, design, measured_outputs
from pkpd.bayes.family import ode_family
from pkpd.bayes.ode_design import ode_design
from pkpd.bayes.pieces import first_of, pieces_of
from pkpd.bayes.plan import plan
from pkpd.engine.build import compiled
from pkpd.engine.changes import in_time
from pkpd.engine.choice import Choice
from pkpd.engine.load import module
from pkpd.engine.solve import solve
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.timeline import timeline

pytestmark = pytest.mark.slow
F64 = NDArray[np.float64]
LINEAR = """
vtrial: model/1
name: linear
covariates: {CR: {unit: mg/dL, reference: 1, between: nocb}, WT: {unit: kg, reference: 70, between: locf}}
states: {depot: mg, central: mg, peripheral: mg}
occasion: {column: OCC}
parameters:
  KA: {typical: 1.1 1/h, iov: {typical: 0.4, prior: 1}, prior: {median: 1, sd: 1}, above: CL/V, status: assumed}
  CL: {typical: 2.0 L/h, iiv: {typical: 0.3, prior: 0.5}, iov: {typical: 0.2, prior: 0.5}, prior: {median: 2, sd: 1},
       effects: {CR: power GC, WT: power 0.75 fixed}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 20, sd: 1}, status: assumed}
  Q:  {typical: 1 L/h, prior: {median: 1, sd: 1}, status: assumed}
  VP: {typical: 15 L, prior: {median: 15, sd: 1}, status: assumed}
  GC: {typical: -0.4 1, scale: identity, se: 0.1, status: assumed}
omega: {block: [CL, V], lkj: 2}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C - Q*C + Q*peripheral/VP
  d/dt(peripheral) = Q*C - Q*peripheral/VP
doses: {depot: {bioavailability: 0.9, lag: 0.25 h}}
outputs: {CP: {is: C, error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}}}
"""
LINEAR_DATA = """ID,TIME,AMT,RATE,CMT,II,ADDL,DV,EVID,OCC,CR,WT
1,0,100,0,depot,.,.,.,1,1,1.0,80
1,2,.,.,.,.,.,3.0,0,1,1.4,80
1,10,60,10,central,.,.,.,1,1,1.4,80
1,12,.,.,.,.,.,3.1,0,2,1.4,84
1,12,80,0,depot,.,.,.,1,2,1.4,84
1,13,.,.,.,.,.,4.1,0,2,1.4,84
1,30,.,.,.,.,.,2.0,0,3,2.0,84
2,0,120,0,depot,.,.,.,1,1,1.0,60
2,3,.,.,.,.,.,4.2,0,1,1.0,60
3,1,140,0,depot,24,3,.,1,5,1.2,71
3,20,.,.,.,.,.,1.5,0,5,1.2,71
3,50,.,.,.,.,.,2.5,0,7,1.2,66
"""


def built(path: Path) -> tuple[Density, Density]:
    """The density as a fit has it, and (for a solver) at a tolerance of 1e-11."""
    model = Model.parse(LINEAR)
    records = Records.parse(LINEAR_DATA, model=model)
    how, made = plan(model, measured_outputs(model, records)), design(model, records, path=path)
    tight = {**made.family.arrays, "ode_settings": np.array([1e-11, 1e-13, 20_000])}
    fine = replace(made, family=replace(made.family, arrays=tight)) if path != "modes" else made
    return density(how, made), density(how, fine)


@pytest.mark.parametrize("path", ["ode", "forward"])
def test_a_linear_model_is_one_density_by_modes_and_by_steps(path):
    """IOV, LOCF, NOCB, an infusion over a border: log density to 1e-6 as fitted, to 1e-10 with the gradient when steps
    are fine; the gradient is that of differences.
    """
    modes, (fitted, fine) = built("modes")[0], built(path)
    x = 0.3 * np.random.default_rng(2).normal(size=modes.layout.size)
    x[: modes.layout.sizes[0]] += [p.location for p in modes.layout.plan.typical.values()]
    (value, gradient), (a, g) = modes(x), fine(x)
    assert fitted(x)[0] == pytest.approx(value, abs=1e-6 * abs(value))
    assert a == pytest.approx(value, rel=1e-10)
    assert np.abs(g - gradient).max() <= 1e-8 * np.abs(gradient).max()
    for direction in np.random.default_rng(3).normal(size=(8, len(x))):
        sides = [fine(x + h * direction)[0] for h in (1e-4, -1e-4, 2e-4, -2e-4)]
        slope = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / 12e-4
        assert g @ direction == pytest.approx(slope, rel=1e-7, abs=1e-7 * np.abs(g).max())


MOVING = """
vtrial: model/1
name: moving
occasion: {column: OCC}
covariates:
  TEMP: {unit: "1", reference: 37, between: linear}
  CO: {unit: "1", reference: 0, between: locf}
  SEX: {unit: "1", reference: 1}
states: {depot: mg, central: mg, side: mg, R: "1"}
parameters:
  KA:  {typical: 0.7 1/h, iov: 0.1, status: assumed}
  VM:  {typical: 25 mg/h, status: assumed}
  KM:  {typical: 1.5 mg/L, status: assumed}
  V:   {typical: 30 L, status: assumed}
  V1:  {typical: 25 L, status: assumed}
  F1:  {typical: 0.6 1, status: assumed}
  LAG: {typical: 1.6 h, status: assumed}
  K:   {typical: 0.12 1/h, status: assumed}
  R0:  {typical: 5 1, status: assumed}
equations: |
  C = central/V
  R(0) = R0
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - VM*C/(KM + C)*(1 - 0.5*CO) - 0.3*K*central + K*side
  d/dt(side) = 0.3*K*central - K*side
  d/dt(R) = K*R0*(TEMP/37)^4 - K*R*(1 + SEX*C/(5 + C))
doses:
  depot: {bioavailability: F1, lag: LAG}
  central: {bioavailability: 0.5*F1 + 0.2, lag: 0.5*LAG, scale: V/V1, unit: mg}
outputs: {CP: {is: C, error: {additive: 1 mg/L}}, RESP: {is: R, error: {additive: 1 1}}}
"""
HEAD = "ID,TIME,AMT,RATE,CMT,II,ADDL,DV,EVID,DVID,OCC,TEMP,CO,SEX"
ONE = """0,.,.,.,.,.,1,0,RESP,1,37,0,1
0,100,0,depot,.,.,.,1,.,1,37,0,1
0.5,.,.,.,.,.,1,0,CP,1,38,0,1
3,.,.,.,.,.,1,0,CP,1,38,0,1
3,.,.,.,.,.,1,0,RESP,1,38,1,1
6,60,20,central,8,2,.,1,.,1,39,1,1
7.7,.,.,.,.,.,1,0,CP,2,38,1,1
9,.,.,.,.,.,1,0,RESP,2,38,0,1
9,50,25,depot,.,.,.,1,.,2,38,0,1
10,.,.,.,.,.,1,0,CP,2,38,0,1
14,.,.,.,.,.,1,0,CP,3,37,0,1
24,.,.,.,.,.,1,0,RESP,3,36,0,1"""
TWO = """0,80,0,central,12,1,.,1,.,1,37,0,0
2,.,.,.,.,.,1,0,CP,1,37,0,0
5,100,0,depot,.,.,.,1,.,4,37,1,0
5.3,70,0,central,.,.,.,1,.,4,37,1,0
8,.,.,.,.,.,1,0,CP,4,37,1,0
8,.,.,.,.,.,1,0,RESP,4,37,1,0
20,.,.,.,.,.,1,0,CP,4,37,1,0
40,60,0,central,.,.,.,1,.,5,37,1,0"""
DATA = "\n".join([HEAD, *(f"{i},{line}" for i in range(1, 19) for line in (ONE if i % 3 else TWO).splitlines())]) + "\n"


class Case:
    """The family of nine parameters that differ from piece to piece, of 18 subjects: more than there are lanes."""

    def __init__(self, how: str) -> None:
        model = Model.parse(MOVING)
        self.records, self.form = Records.parse(DATA, model=model), replace(compiled(model), choice=Choice())
        self.model, self.pieces = model, pieces_of(model, self.records)
        typical = np.array([float(p.value) for p in model.parameters.values()])
        rng, count = np.random.default_rng(3), len(self.pieces.subject)
        self.X = typical * np.exp(0.2 * rng.normal(size=(count, len(typical))))
        inputs = [self.pieces.inputs[name] for name in self.form.inputs]
        base, self.off = np.column_stack([self.X, *inputs]), 1.0 if how == "adjoint" else 1e3
        names, output = self.form.parameters, np.asarray(self.records.output, np.int64)
        family = (
            adjoint_family(self.form, self.records, ["C", "R"], names, output=output, base=base, pieces=self.pieces,
                           rtol=1e-11)
            if how == "adjoint" else
            ode_family(ode_design(self.form, self.records, ["C", "R"], names, base=base, pieces=self.pieces, rtol=1e-9,
                                  atol=1e-11))
        )  # fmt: skip
        assert family is not None
        self.arrays = [np.ascontiguousarray(a) for a in family.arrays.values()]
        self.module = module(family_text(family, kernels_key()))

    def predicted(self, X: F64) -> F64:
        return np.asarray(self.module.predicted(X, np.asarray(self.records.dv), *self.arrays))


@pytest.fixture(scope="module", params=["adjoint", "forward"])
def case(request) -> Case:
    return Case(request.param)


def test_the_solver_is_the_engine(case):
    """Lags, shares and scales by parameters that change, infusions over borders, covariates in the equations, linear
    ones among them: the engine's solver with its own changes.
    """
    records, found = case.records, np.empty(len(case.records.dv))
    line = timeline(case.model, records.covariates, records.series, occasion=records.occasion,
                    until=float(records.time.max()))  # fmt: skip
    first, inputs, changes = in_time(case.form, line, case.X)
    times = np.unique(records.time)
    for after in (False, True):
        solution = solve(case.form, first, records.doses, times, covariates=inputs, changes=changes, after=after,
                         rtol=1e-12, atol=1e-13)  # fmt: skip
        rows = records.after == after
        values = solution.values[records.subject, records.output, np.searchsorted(times, records.time)]
        found[rows] = values[rows]
    np.testing.assert_allclose(case.predicted(case.X), found, rtol=1e-10 * case.off, atol=1e-12 * case.off)


def test_every_piece_has_its_own_gradient(case):
    """Nine parameters of 5 to 9 pieces a subject, one at a time, against differences."""
    X, own, records = case.X, case.pieces.subject, case.records
    weights = np.random.default_rng(1).normal(size=len(records.dv))
    gradient = X * np.asarray(case.module.pulled(weights, X, *case.arrays))
    place = np.arange(len(own)) - first_of(case.pieces)[own]
    assert (np.abs(gradient) > 1e-6).mean() > 0.5
    for nth in range(place.max() + 1):
        for k in range(X.shape[1]):

            def total(h, nth=nth, k=k):
                moved = X * (1 + h * np.outer(place == nth, np.eye(X.shape[1])[k]))
                return np.bincount(records.subject, weights * case.predicted(moved), minlength=len(records))

            slope = (8 * (total(1e-3) - total(-1e-3)) - (total(2e-3) - total(-2e-3))) / 12e-3
            here = place == nth
            np.testing.assert_allclose(gradient[here, k], slope[own[here]], rtol=1e-7 * case.off, atol=1e-9 * case.off)


def test_a_failed_subject_is_nan_alone(case):
    """A later piece that cannot be solved: no value from there on, no gradient of that subject."""
    X, first = case.X.copy(), first_of(case.pieces)
    X[first[2] + 1, 2] = np.nan
    value = case.predicted(X)
    gradient = np.asarray(case.module.pulled(np.ones(len(value)), X, *case.arrays))
    assert np.isnan(value[case.records.subject == 2]).any()
    seen = case.pieces.row[case.records.subject == 2].max() + 1  # what comes after the last row has no gradient
    assert np.isnan(gradient[first[2] : seen]).all()
    assert np.isfinite(value[case.records.subject != 2]).all()
    assert np.isfinite(np.delete(gradient, range(first[2], first[3]), axis=0)).all()


STIFF = """
vtrial: model/1
name: target
states: {L: nmol, R: nmol/L, P: nmol/L}
occasion: {column: OCC}
parameters:
  V:   {typical: 3 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}
  KEL: {typical: 0.005 1/h, iov: {typical: 0.3, prior: 1}, prior: {median: 0.005, sd: 1}, status: assumed}
  KON: {typical: 2 L/nmol/h, status: assumed}
  KOFF: {typical: 0.02 1/h, status: assumed}
  KDEG: {typical: 0.05 1/h, prior: {median: 0.05, sd: 1}, status: assumed}
  R0:  {typical: 10 nmol/L, iov: {typical: 0.2, prior: 1}, prior: {median: 10, sd: 1}, status: assumed}
  KINT: {typical: 0.03 1/h, prior: {median: 0.03, sd: 1}, status: assumed}
equations: |
  C = L/V
  R(0) = R0
  d/dt(L) = -KEL*L - KON*C*R*V + KOFF*P*V
  d/dt(R) = KDEG*R0 - KDEG*R - KON*C*R + KOFF*P
  d/dt(P) = KON*C*R - KOFF*P - KINT*P
outputs: {CP: {is: C, error: {log: {typical: 0.2, prior: 0.5}}}}
"""


def test_a_stiff_model_with_occasions():
    """Target-mediated disposition goes by forward sensitivities: gradient against differences."""
    model = Model.parse(STIFF)
    rows = [f"{i},{k * 300},{1500 * i},.,1,{k + 1}\n" + "".join(f"{i},{k * 300 + t},.,{y},0,{k + 1}\n" for t, y in
            ((5, 450 * i), (60, 300 * i), (250, 90 * i))) for i in (1, 2, 3) for k in range(2)]  # fmt: skip
    records = Records.parse("ID,TIME,AMT,DV,EVID,OCC\n" + "".join(rows), model=model)
    made = design(model, records)
    assert made.family.about == {"solver": "generated, with forward sensitivities", "pieces": 6}
    tight = {**made.family.arrays, "ode_settings": np.array([1e-9, 1e-11, 100_000])}
    law = density(plan(model, ["CP"]), replace(made, family=replace(made.family, arrays=tight)))
    rng = np.random.default_rng(5)
    x = 0.3 * rng.normal(size=law.layout.size)
    x[: law.layout.sizes[0]] += [p.location for p in law.layout.plan.typical.values()]
    gradient = law(x)[1]
    for direction in rng.normal(size=(6, len(x))):
        sides = [law(x + h * direction)[0] for h in (1e-3, -1e-3, 2e-3, -2e-3)]
        slope = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / 12e-3
        assert gradient @ direction == pytest.approx(slope, rel=1e-5, abs=1e-5 * np.abs(gradient).max())
