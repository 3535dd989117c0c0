"""The generated solver with its discrete adjoint: against the engine's solver, differences, forward sensitivities and
the modes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import lambertw

from pkpd.bayes.adjoint import adjoint_family
from pkpd.bayes.density import Density, density, kernels_key
from pkpd.bayes.density_source import family_text
from pkpd.bayes.design import Path, design, measured_outputs
from pkpd.bayes.pieces import first_of, pieces_of
from pkpd.bayes.plan import plan
from pkpd.engine.build import compiled
from pkpd.engine.choice import Choice
from pkpd.engine.load import module
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model

DOSING = """
vtrial: model/1
name: dosing
states: {depot: mg, central: mg, side: mg, R: "1"}
parameters:
  KA:  {typical: 0.7 1/h, status: assumed}
  EM:  {typical: 8 1, status: assumed}
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
  d/dt(central) = KA*depot - 0.8*K*central + K*side
  d/dt(side) = 0.4*K*central - K*side
  d/dt(R) = K*R0*(R0/R)^0.3 - K*R*(1 + EM*C/(KM + C))
doses:
  depot: {bioavailability: F1, lag: LAG}
  central: {bioavailability: 0.5*F1 + 0.2, lag: 0.5*LAG, scale: V/V1, unit: mg}
outputs: {CP: {is: C, error: {additive: 1 mg/L}}, RESP: {is: R, error: {additive: 1 1}}}
"""
TYPICAL = np.array([0.7, 8.0, 1.5, 30.0, 25.0, 0.6, 1.6, 0.12, 5.0])
HEAD = "ID,TIME,AMT,RATE,CMT,II,ADDL,DV,EVID,DVID"
ONE = """0,100,0,depot,.,.,.,1,.
0.5,.,.,.,.,.,1,0,CP
3,.,.,.,.,.,1,0,CP
3,.,.,.,.,.,1,0,RESP
6,60,20,central,8,2,.,1,.
7.7,.,.,.,.,.,1,0,CP
9,.,.,.,.,.,1,0,RESP
9,50,25,depot,.,.,.,1,.
14,.,.,.,.,.,1,0,CP
24,.,.,.,.,.,1,0,RESP"""
TWO = """0,80,0,central,12,1,.,1,.
2,.,.,.,.,.,1,0,CP
5,100,0,depot,.,.,.,1,.
5.3,70,0,central,.,.,.,1,.
8,.,.,.,.,.,1,0,CP
11,.,.,.,.,.,1,0,RESP
20,.,.,.,.,.,1,0,CP"""
DATA = "\n".join([HEAD, *(f"{i},{line}" for i in range(1, 11) for line in (ONE if i % 2 else TWO).splitlines())]) + "\n"


class Case:
    """The family of all nine parameters of ten subjects: more than there are lanes."""

    def __init__(self) -> None:
        model = Model.parse(DOSING)
        self.records, self.form = Records.parse(DATA, model=model), compiled(model)
        base = np.tile(TYPICAL, (10, 1))
        family = adjoint_family(
            self.form, self.records, ["C", "R"], self.form.parameters, output=np.asarray(self.records.output, np.int64),
            base=base, rtol=1e-10,
        )  # fmt: skip
        assert family is not None
        self.about, self.arrays = family.about, [np.ascontiguousarray(a) for a in family.arrays.values()]
        self.module = module(family_text(family, kernels_key()))

    def predicted(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.module.predicted(X, np.asarray(self.records.dv), *self.arrays))

    def pulled(self, weights: np.ndarray, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.module.pulled(weights, X, *self.arrays))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def people() -> np.ndarray:
    return TYPICAL * np.exp(0.1 * np.random.default_rng(3).normal(size=(10, len(TYPICAL))))


@pytest.mark.slow
def test_value_is_that_of_solve(case):
    """Lags, shares and a scale by parameters, infusions, additional doses; three states by modes, one by steps."""
    assert case.about["modes"] == ["depot", "central", "side"]
    x, records = people(), case.records
    times = np.unique(records.time)
    found = solve(case.form, x, records.doses, times, rtol=1e-11, atol=1e-13).values
    expected = found[records.subject, records.output, np.searchsorted(times, records.time)]
    np.testing.assert_allclose(case.predicted(x), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_gradient_is_the_central_difference(case):
    """Every parameter of every subject at once: no subject's rows depend on another's parameters."""
    x = people()
    weights = np.random.default_rng(1).normal(size=len(case.records.dv))
    exact, subject = case.pulled(weights, x), case.records.subject
    assert (np.abs(exact) > 1e-3).sum() >= 80
    for k in range(x.shape[1]):

        def total(h, k=k):
            y = x.copy()
            y[:, k] *= 1 + h
            return np.bincount(subject, weights * case.predicted(y), minlength=len(x))

        difference = (8 * (total(1e-3) - total(-1e-3)) - (total(2e-3) - total(-2e-3))) / 12e-3 / x[:, k]
        np.testing.assert_allclose(exact[:, k], difference, rtol=1e-6, atol=1e-7, err_msg=case.form.parameters[k])


@pytest.mark.slow
def test_a_failed_subject_is_nan_alone(case):
    x = people()
    x[3, 0], x[4, 6] = np.nan, -0.5  # a lag that is no time
    value, gradient = case.predicted(x), case.pulled(np.ones(len(case.records.dv)), x)
    gone = np.isin(case.records.subject, (3, 4))
    first = case.records.time < 0.1
    assert np.isnan(value[gone & ~first]).all()
    assert np.isnan(gradient[3:5]).all()
    assert np.isfinite(value[~gone]).all()
    assert np.isfinite(np.delete(gradient, (3, 4), axis=0)).all()


LINEAR = """
vtrial: model/1
name: linear
states: {depot: mg, central: mg, peripheral: mg, site: mg/L}
parameters:
  KA: {typical: 1.1 1/h, iiv: {typical: 0.4, prior: 1}, prior: {median: 1, sd: 1}, above: CL/V, status: assumed}
  CL: {typical: 2.0 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 2, sd: 1}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 20, sd: 1}, status: assumed}
  Q:  {typical: 3 L/h, prior: {median: 3, sd: 1}, status: assumed}
  VP: {typical: 40 L, prior: {median: 40, sd: 1}, status: assumed}
  KE: {typical: 0.3 1/h, prior: {median: 0.3, sd: 1}, status: assumed}
  F1: {typical: 0.8 1, scale: logit, prior: {median: 0.8, sd: 1}, status: assumed}
omega: {block: [KA, CL, V], lkj: 2}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C - Q*C + Q*peripheral/VP
  d/dt(peripheral) = Q*C - Q*peripheral/VP
  d/dt(site) = KE*C - KE*site
doses: {depot: {bioavailability: F1, lag: 0.25 h}}
outputs:
  CP: {is: C, error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}}
  EF: {is: site, error: {log: {typical: 0.1, prior: 0.5}}}
"""
LINEAR_DATA = """ID,TIME,AMT,RATE,CMT,DV,EVID,DVID
1,0,150,0,depot,.,1,.
1,1,.,.,.,4.0,0,CP
1,6,.,.,.,3.5,0,CP
1,6,.,.,.,2.5,0,EF
1,12,80,40,central,.,1,.
1,20,.,.,.,2.5,0,CP
1,30,.,.,.,1.4,0,EF
2,0,120,0,depot,.,1,.
2,2,.,.,.,4.2,0,CP
2,9,.,.,.,2.5,0,EF
2,9.5,60,0,central,.,1,.
2,10,.,.,.,5.5,0,CP
2,36,.,.,.,0.7,0,CP
3,0,140,0,depot,.,1,.
3,4,.,.,.,5.0,0,CP
3,24,.,.,.,1.1,0,EF
"""


def built(text: str, data: str, path: Path) -> Density:
    """The density of a text on its data; a solver's tolerance is 1e-12."""
    model = Model.parse(text)
    records = Records.parse(data, model=model)
    made = design(model, records, path=path)
    if path == "ode":
        tight = {**made.family.arrays, "ode_settings": np.array([1e-12, 1e-14, 20_000])}
        made = replace(made, family=replace(made.family, arrays=tight))
    return density(plan(model, measured_outputs(model, records)), made)


def somewhere(made: Density) -> np.ndarray:
    """A point of the prior."""
    n_t, q, _, n_e = made.layout.sizes
    x = 0.3 * np.random.default_rng(2).normal(size=made.layout.size)
    x[:n_t] += [p.location for p in made.layout.plan.typical.values()]
    x[n_t : n_t + q] -= 1.0
    x[made.layout.population - n_e : made.layout.population] -= 1.0
    return x


@pytest.mark.slow
def test_modes_and_solver_are_one_density():
    """A linear model by its modes and by steps of all its states: value to 1e-8, gradient to 1e-6."""
    modes, ode = built(LINEAR, LINEAR_DATA, "modes"), built(LINEAR, LINEAR_DATA, "ode")
    x = somewhere(modes)
    (a, g), (b, h) = modes(x), ode(x)
    assert a == pytest.approx(b, rel=1e-8)
    assert np.abs(g - h).max() <= 1e-6 * np.abs(g).max()


MICHAELIS = """
vtrial: model/1
name: michaelis
states: {central: mg}
parameters:
  VM: {typical: 25 mg/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 25, sd: 1}, status: assumed}
  KM: {typical: 1.5 mg/L, prior: {median: 1.5, sd: 1}, status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -VM*C/(KM + C)
outputs: {CP: {is: C, error: {log: {typical: 0.1, prior: 0.5}}}}
"""
OCCASIONS = MICHAELIS.replace("parameters:", "occasion: {column: OCC}\nparameters:").replace(
    "KM: {typical: 1.5 mg/L,", "KM: {typical: 1.5 mg/L, iov: {typical: 0.2, prior: 0.5},"
)


@pytest.mark.parametrize("several", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_saturable_elimination(several):
    """Nine subjects against Lambert's W (Beal 1983, J Pharmacokinet Biopharm 11:623): x + log x = log x0 + x0 - VM t/(V
    KM), x = C/KM, values and slopes; six of them have a second occasion from 5 h on, with parameters of its own and the
    amount that was there. Steady states are refused.
    """
    model, n = Model.parse(OCCASIONS if several else MICHAELIS), 9
    rows = [
        f"{i},0,{100 * i},.,1,1\n{i},1,.,1,0,1\n{i},5,.,1,0,{1 + i % 3}\n{i},7,.,1,0,{1 + i % 3}\n"
        for i in range(1, n + 1)
    ]
    records, names = Records.parse("ID,TIME,AMT,DV,EVID,OCC\n" + "".join(rows), model=model), ("VM", "KM", "V")
    pieces = pieces_of(model, records)
    count = len(pieces.subject)
    assert count == (15 if several else 9)
    form, X = (
        replace(compiled(model), choice=Choice()),
        np.array([25.0, 1.5, 30.0]) * np.linspace(0.7, 1.4, count)[:, None],
    )
    X = X * np.exp(0.1 * np.random.default_rng(1).normal(size=X.shape))
    family = adjoint_family(
        form, records, ["C"], names, output=np.zeros(3 * n, np.int64), base=X, pieces=pieces, rtol=1e-10
    )
    arrays, made = [np.ascontiguousarray(a) for a in family.arrays.values()], module(family_text(family, kernels_key()))

    def exact(p: np.ndarray) -> np.ndarray:
        first, later = first_of(pieces)[:-1], np.isfinite(pieces.start)
        amount = np.zeros(count)
        amount[first] = 100.0 * np.arange(1, n + 1)
        amount[later] = left(p[first[pieces.subject[later]]], amount[first[pieces.subject[later]]], pieces.start[later])
        begun = np.where(later, pieces.start, 0.0)[pieces.row]
        return left(p[pieces.row], amount[pieces.row], records.time - begun) / p[pieces.row, 2]

    np.testing.assert_allclose(made.predicted(X, records.dv, *arrays), exact(X), rtol=1e-8)
    weights = np.random.default_rng(2).normal(size=3 * n)
    gradient, place = made.pulled(weights, X, *arrays), np.arange(count) - first_of(pieces)[pieces.subject]
    for nth in range(place.max() + 1):
        for k in range(3):
            moved = [X * (1 + h * np.outer(place == nth, np.eye(3)[k])) for h in (1e-4, -1e-4)]
            slope = np.bincount(records.subject, weights * (exact(moved[0]) - exact(moved[1]))) / 2e-4
            own = place == nth
            np.testing.assert_allclose((gradient * X)[own, k], slope[pieces.subject[own]], rtol=1e-6)
    with pytest.raises(InputError, match="steady states"):
        built(MICHAELIS, "ID,TIME,AMT,SS,II,DV,EVID\n1,0,100,1,12,.,1\n1,1,.,.,.,1,0\n", "auto")


def left(p: np.ndarray, amount: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Amount after some hours of saturable elimination, p (..., 3): VM, KM, V."""
    vm, km, v = p.T
    x = amount / (v * km)
    return np.asarray(v * km * lambertw(x * np.exp(x - vm * hours / (v * km))).real)
