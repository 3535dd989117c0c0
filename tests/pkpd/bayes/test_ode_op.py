"""The Op of the generated solver: against the closed-form Op, central differences, and the posterior of both."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pytensor
    import pytensor.tensor as pt

    from pkpd.bayes.likelihood import population_model
    from pkpd.bayes.ode_op import Prediction, prediction

from pkpd.bayes.design import design
from pkpd.bayes.ode_design import ode_design
from pkpd.bayes.plan import plan
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model

DOSING = """
vtrial: model/1
name: dosing
states: {depot: mg, central: mg, R: "1"}
parameters:
  KA:  {typical: 0.7 1/h, status: assumed}
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
  d/dt(central) = KA*depot - VM*C/(KM + C)
  d/dt(R) = K*R0 - K*R*(1 + C/KM)
doses:
  depot: {bioavailability: F1, lag: LAG}
  central: {bioavailability: 0.5*F1 + 0.2, lag: 0.5*LAG, scale: V/V1, unit: mg}
outputs: {CP: {is: C, error: {additive: 1 mg/L}}, RESP: {is: R, error: {additive: 1 1}}}
"""
TYPICAL = np.array([0.7, 25.0, 1.5, 30.0, 25.0, 0.6, 1.6, 0.12, 5.0])
DATA = """ID,TIME,AMT,RATE,CMT,DV,EVID,DVID
1,0,100,0,depot,.,1,.
1,0.5,.,.,.,1,0,CP
1,3,.,.,.,1,0,CP
1,3,.,.,.,1,0,RESP
1,6,60,20,central,.,1,.
1,7.7,.,.,.,1,0,CP
1,9,.,.,.,1,0,RESP
1,14,.,.,.,1,0,CP
2,0,80,0,central,.,1,.
2,2,.,.,.,1,0,CP
2,5,100,0,depot,.,1,.
2,5.3,70,0,central,.,1,.
2,11,.,.,.,1,0,RESP
2,8,.,.,.,1,0,CP
2,20,.,.,.,1,0,CP
"""


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def records_of(model: Model, text: str) -> Records:
    rows = [line.split(",") for line in text.splitlines()]
    order = [rows[0], *sorted(rows[1:], key=lambda r: (int(r[0]), float(r[1])))]
    return Records.parse("\n".join(",".join(r) for r in order) + "\n", model=model)


@pytest.fixture(scope="module")
def dosing():
    """The function (X) -> value, gradient of a weighted sum of the rows, the records and the model."""
    model = Model.parse(DOSING)
    records, form = records_of(model, DATA), compiled(model)
    data = ode_design(
        form, records, ["C", "R"], list(form.parameters), base=np.tile(TYPICAL, (2, 1)), rtol=1e-9, atol=1e-11
    )
    X = pt.dmatrix("X")
    f = prediction(X, data)
    weights = pt.as_tensor(np.linspace(-1.0, 2.0, len(records.dv)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = pytensor.function([X], [f, pytensor.grad((weights * f).sum(), X)], mode="NUMBA")
    return run, records, form


def people() -> np.ndarray:
    return TYPICAL * np.exp(0.1 * np.random.default_rng(3).normal(size=(2, len(TYPICAL))))


@pytest.mark.slow
def test_value_is_that_of_solve(dosing):
    """Lag, share and scale by parameters, infusions, two outputs: the engine's own event records are the witness."""
    run, records, form = dosing
    x = people()
    times = np.sort(np.unique(records.time))
    found = solve(form, x, records.doses, times, rtol=1e-11, atol=1e-13).values
    expected = found[records.subject, records.output, np.searchsorted(times, records.time)]
    np.testing.assert_allclose(run(x)[0], expected, rtol=1e-8, atol=1e-9)


def test_gradient_is_the_central_difference(dosing):
    run, records, _ = dosing
    x, weights = people(), np.linspace(-1.0, 2.0, len(records.dv))
    exact = run(x)[1]
    for i in range(2):
        for k in range(len(TYPICAL)):

            def total(h, i=i, k=k):
                y = x.copy()
                y[i, k] *= 1 + h
                return float(weights @ run(y)[0])

            difference = (8 * (total(1e-3) - total(-1e-3)) - (total(2e-3) - total(-2e-3))) / 12e-3 / x[i, k]
            assert exact[i, k] == pytest.approx(difference, rel=1e-6, abs=1e-7), (i, k)
    assert (np.abs(exact) > 1e-3).sum() >= 15


def test_failed_solve_is_nan_never_an_exception(dosing):
    run, records, _ = dosing
    x = people()
    x[0, 0] = np.nan
    value, gradient = run(x)
    assert np.isnan(value[records.subject == 0]).all()
    assert np.isnan(gradient[0]).all()
    assert np.isfinite(value[records.subject == 1]).all()
    assert np.isfinite(gradient[1]).all()
    x = people()
    x[1, 6] = -0.5  # a lag that is no time
    assert np.isnan(run(x)[0][records.subject == 1][1:]).all()


@pytest.mark.slow
def test_python_fallback_gives_the_same(dosing):
    run, records, form = dosing
    data = ode_design(
        form, records, ["C", "R"], list(form.parameters), base=np.tile(TYPICAL, (2, 1)), rtol=1e-9, atol=1e-11
    )
    op, storage = Prediction(data.source, "x"), [[None], [None]]
    op.perform(None, [people(), *data.arrays], storage)
    np.testing.assert_array_equal(storage[0][0], run(people())[0])


def test_another_model_is_another_op():
    """PyTensor's cache on disk goes by the props: the source itself is one."""
    assert Prediction("a", "k") == Prediction("a", "k")
    assert Prediction("a", "k") != Prediction("b", "k")
    assert Prediction("a", "k") != Prediction("a", "l")


@pytest.mark.slow
def test_log_density_and_gradient_are_those_of_the_closed_form(model, records):
    """Theophylline forced through the ODE path, at three points of the prior."""
    how = plan(model, "CP")
    built = [population_model(how, design(model, records, path=path)) for path in ("closed", "ode")]
    functions = [(m.compile_logp(mode="NUMBA"), m.compile_dlogp(mode="NUMBA")) for m in built]
    rng = np.random.default_rng(4)
    start = built[0].initial_point()
    for _ in range(3):
        point = {name: value + 0.2 * rng.normal(size=np.shape(value)) for name, value in start.items()}
        (logp, dlogp), (ode_logp, ode_dlogp) = functions
        assert ode_logp(point) == pytest.approx(logp(point), abs=1e-5)
        closed, ode = dlogp(point), ode_dlogp(point)
        assert np.abs(closed - ode).max() <= 1e-5 * np.abs(closed).max()


def test_steady_states_are_refused(dosing):
    _, _, form = dosing
    model = Model.parse(DOSING)
    records = Records.parse(
        "ID,TIME,AMT,CMT,SS,II,DV,EVID,DVID\n1,0,100,depot,1,12,.,1,.\n1,1,.,.,.,.,1,0,CP\n", model=model
    )
    with pytest.raises(InputError, match="steady states"):
        ode_design(form, records, ["C", "R"], ["KA"], base=TYPICAL[None])


@pytest.mark.slow
def test_posterior_is_that_of_the_closed_form(model, records):
    """nutpie on both, same settings: means apart by less than four Monte Carlo errors, sds within their own."""
    import arviz as az
    import nutpie

    how, trees = plan(model, "CP"), []
    for path in ("closed", "ode"):
        made = nutpie.compile_pymc_model(population_model(how, design(model, records, path=path)), backend="numba")
        trees.append(nutpie.sample(made, draws=1000, tune=600, chains=2, cores=2, seed=5, progress_bar=False))
    for name in ("log_KA", "log_CL", "log_V", "omega_KA", "omega_CL", "omega_V", "CP_additive", "CP_proportional"):
        draws = [tree["posterior"][name].values for tree in trees]
        mean, sd = [d.mean() for d in draws], [d.std() for d in draws]
        ess = [float(az.ess(d)) for d in draws]
        error = np.hypot(*(s / np.sqrt(e) for s, e in zip(sd, ess, strict=True)))
        assert abs(mean[0] - mean[1]) <= 4 * error, name
        assert abs(np.log(sd[0] / sd[1])) <= 4 * np.sqrt(0.5 / ess[0] + 0.5 / ess[1]), name
