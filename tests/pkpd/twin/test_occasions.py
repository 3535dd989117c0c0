"""Effects between occasions, covariates in time, several outputs. Witness: the normal law's closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.bayes.density import density
from pkpd.bayes.design import design
from pkpd.bayes.plan import plan
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import point
from pkpd.twin.case import case_of
from pkpd.twin.forecasting import forecast
from pkpd.twin.likelihood import likelihood
from pkpd.twin.sequential import from_prior, updated
from pkpd.twin.twin import Settings, twins

LEVEL = """
vtrial: model/1
name: level
parameters:
  A: {typical: 10 mg/L, scale: identity, iiv: 3, iov: 2, status: assumed}
  Z: {typical: 1 mg/L/h, scale: identity, status: assumed}
occasion: {every: 24 h}
equations: |
  Y = A + 0*Z*TIME
outputs: {LEVEL: {is: Y, error: {additive: 1.5 mg/L}}}
"""
TIMES = np.array([1.0, 5.0, 26.0, 30.0, 50.0])
SEEN = np.array([14.0, 12.0, 17.5, 16.0, 9.0])


def _records(model: Model, n: int = 5) -> Records:
    rows = "".join(f"\nA,{t:g},.,{y:g},0" for t, y in zip(TIMES[:n], SEEN[:n], strict=True))
    return Records.parse(f"ID,TIME,AMT,DV,EVID{rows}", model=model)


def _conjugate() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (eta, kappa 0, 1, 2) given the levels: normal-normal conditioning."""
    prior = np.diag([9.0, 4.0, 4.0, 4.0])
    day = (TIMES // 24).astype(int)
    design = np.column_stack([np.ones(5), *[(day == k).astype(float) for k in range(3)]])
    spread = design @ prior @ design.T + 1.5**2 * np.eye(5)
    gain = prior @ design.T @ np.linalg.inv(spread)
    return gain @ (SEEN - 10.0), prior - gain @ design @ prior


def test_occasions_closed_form_by_importance_and_by_updates():
    model = Model.parse(LEVEL)
    mean, covariance = _conjugate()
    found = twins(model, _records(model), point(model), settings=Settings(particles=20_000))
    assert found.case.coordinates.names == ("A", "A.iov@0", "A.iov@1", "A.iov@2")
    scale = np.array([3.0, 2.0, 2.0, 2.0])
    np.testing.assert_allclose(found.weight[0] @ found.x[0] * scale, mean, atol=0.08)
    assert found.x.shape[2] == 4
    away = (found.x[0] - found.weight[0] @ found.x[0]) * scale
    np.testing.assert_allclose(np.einsum("s,si,sj->ij", found.weight[0], away, away), covariance, atol=0.25)
    state = from_prior(model, _records(model), point(model), seed=3, particles=20_000)
    np.testing.assert_allclose(state.weight @ state.particles.x * scale, mean, atol=0.1)


KIDNEY = """
vtrial: model/1
name: kidney
covariates: {CRCL: {unit: mL/min, reference: 100, between: locf}}
states: {central: mg}
parameters:
  CL: {typical: 5 L/h, iiv: 0.4, effects: {CRCL: power 1 fixed}, status: assumed}
  V: {typical: 50 L, iiv: 0.3, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs: {CP: {is: C, error: {additive: 0.5 mg/L, proportional: 0.1}}}
"""


@pytest.mark.parametrize("between", ["locf", "nocb", "linear"])
def test_a_covariate_may_change_from_now_on_and_not_in_the_past(between: str):
    """A first change after the last level is an update, whose posterior is that of all rows from the prior; a corrected
    value before it is another history.
    """
    model = Model.parse(KIDNEY.replace("locf", between))
    draws, rows = point(model), ["A,0,1000,.,1,100", "A,6,.,12,0,100", "A,24,.,3,0,40"]

    def read(*lines: str) -> Records:
        return Records.parse("\n".join(["ID,TIME,AMT,DV,EVID,CRCL", *lines]), model=model)

    first = from_prior(model, read(*rows[:2]), draws, seed=3, particles=3000)
    now, whole = updated(first, read(*rows)), from_prior(model, read(*rows), draws, seed=5, particles=3000)
    mean, other = now.weight @ now.z, whole.weight @ whole.z
    np.testing.assert_allclose(mean, other, atol=0.12)
    later = read(*rows, "A,30,.,2,0,40")
    assert updated(now, later).seen == 3
    for old, new in (("12,0,100", "12,0,70"), ("3,0,40", "3,0,60")):
        changed = read(*(row.replace(old, new) for row in rows), "A,30,.,2,0,40")
        with pytest.raises(InputError, match="what was seen before has changed"):
            updated(now, changed)


def test_a_new_occasion_comes_from_the_population():
    model = Model.parse(LEVEL)
    mean, covariance = _conjugate()
    found = twins(model, _records(model), point(model), settings=Settings(particles=20_000), until=120.0)
    made = forecast(found, np.array([52.0, 80.0]), levels=(0.1587, 0.5, 0.8413))
    here, there = 10 + mean[0] + mean[3], 10 + mean[0]
    np.testing.assert_allclose(made.latent[0, 1], [here, there], atol=0.1)
    sd = [np.sqrt(covariance[0, 0] + covariance[3, 3] + 2 * covariance[0, 3]), np.sqrt(covariance[0, 0] + 4.0)]
    np.testing.assert_allclose(0.5 * (made.latent[0, 2] - made.latent[0, 0]), sd, rtol=0.04)
    new = np.sqrt(np.square(sd) + 1.5**2)
    np.testing.assert_allclose(0.5 * (made.measured[0, 2] - made.measured[0, 0]), new, rtol=0.04)


def test_an_occasion_that_begins_with_an_update_is_the_same_posterior():
    from pkpd.twin.sequential import begun

    model = Model.parse(LEVEL)
    first = twins(model, _records(model, 2), point(model), settings=Settings(particles=20_000))
    state = updated(begun(first, point(model)), _records(model))
    mean, _ = _conjugate()
    np.testing.assert_allclose(state.weight @ state.particles.x * [3.0, 2.0, 2.0, 2.0], mean, atol=0.1)


VARYING = """
vtrial: model/1
name: varying
covariates:
  CRCL: {unit: mL/min, reference: 100, between: locf}
states: {central: mg}
parameters:
  CL: {typical: 5 L/h, iiv: 0.4, effects: {CRCL: power 1 fixed}, status: assumed}
  V: {typical: 50 L, status: assumed}
  S: {typical: 2 1, iiv: 0.3, status: assumed}
equations: |
  C = central/V
  E = S*C
  d/dt(central) = -CL*C
outputs: {CP: {is: C, error: {proportional: 0.1}}, EFF: {is: E, error: {proportional: 0.2}}}
"""


def test_covariates_in_time_and_two_outputs_against_a_grid():
    model = Model.parse(VARYING)
    data = ("ID,TIME,AMT,DV,EVID,DVID,CRCL\nA,0,1000,.,1,.,100\nA,10,.,9.0,0,CP,100\nA,12,.,.,2,.,50\n"
            "A,20,.,7.0,0,CP,.\nA,20,.,16.0,0,EFF,.\n")  # fmt: skip
    found = twins(model, Records.parse(data, model=model), point(model), settings=Settings(particles=20_000))
    z = np.linspace(-5, 5, 801)
    a, b = np.meshgrid(z, z, indexing="ij")
    k = 5.0 * np.exp(0.4 * a) / 50.0
    c10, c20 = 20.0 * np.exp(-10 * k), 20.0 * np.exp(-12 * k - 8 * k / 2)
    e20 = 2.0 * np.exp(0.3 * b) * c20
    log = -0.5 * (a**2 + b**2)
    for y, f, s in ((9.0, c10, 0.1), (7.0, c20, 0.1), (16.0, e20, 0.2)):
        log += -0.5 * ((y - f) / (s * f)) ** 2 - np.log(s * f)
    p = np.exp(log - log.max())
    p /= p.sum()
    got = found.weight[0] @ found.x[0]
    np.testing.assert_allclose(got, [(p * a).sum(), (p * b).sum()], atol=0.02)


def test_real_theophylline_subjects_by_two_algorithms():
    """Boeckmann's 12 subjects: importance sampling and tempering share nothing but the density."""
    from pkpd.model.library import data_path, load
    from pkpd.model.variability import published
    from pkpd.twin.tempering import tempered

    model = load("theophylline")
    records = Records.read(data_path("theophylline.csv"), model)
    found = twins(model, records, published(model, 300, 1), settings=Settings(particles=4000))
    assert (found.k < 0.7).all()
    for patient in (0, 7):
        hot = tempered(found.case, patient, seed=9, particles=4000).particles.x
        mean = found.weight[patient] @ found.x[patient]
        sd = np.sqrt(found.weight[patient] @ (found.x[patient] - mean) ** 2)
        np.testing.assert_array_less(np.abs(hot.mean(axis=0) - mean) / sd, 0.12)
        np.testing.assert_allclose(hot.std(axis=0), sd, rtol=0.12)


SATURABLE = """
vtrial: model/1
name: saturable
states: {central: mg}
occasion: {column: OCC}
parameters:
  VM: {typical: 10 mg/h, iiv: {typical: 0.3, prior: 0.5}, iov: {typical: 0.25, prior: 0.5}, prior: {median: 10, sd: 1},
       status: assumed}
  V:  {typical: 30 L, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 30, sd: 1}, status: assumed}
  KM: {typical: 2 mg/L, prior: {median: 2, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -VM*C/(KM + C)
outputs: {CP: {is: C, error: {proportional: {typical: 0.1, prior: 0.5}}}}
"""


@pytest.mark.slow
def test_a_twin_has_the_likelihood_of_a_fit():
    """Occasions of a model that needs a solver: the engine's likelihood of the twin and the density of a fit, which
    has a solver, a history in pieces and individual parameters of its own.
    """
    model = Model.parse(SATURABLE)
    lines = ["ID,TIME,AMT,DV,EVID,OCC"]
    for i in (1, 2, 3):
        for k in range(3):
            lines.append(f"{i},{48 * k},{200 * i},.,1,{k + 1}")
            lines += [f"{i},{48 * k + t},.,{y * i},0,{k + 1}" for t, y in ((1, 6), (8, 5), (20, 2.5), (40, 0.7))]
    records = Records.parse("\n".join(lines) + "\n", model=model)
    made = design(model, records)
    tight = {**made.family.arrays, "ode_settings": np.array([1e-11, 1e-13, 20_000])}
    law = density(plan(model, ["CP"]), replace(made, family=replace(made.family, arrays=tight)))
    case = replace(case_of(model, records, point(model)), rtol=1e-11, atol=1e-13)
    z, x, at = np.random.default_rng(1).normal(size=(3, 5)), np.zeros(law.layout.size), law.layout.population
    x[:at] = np.log([10, 30, 2, 0.3, 0.2, 0.1, 0.25])
    x[at:] = np.concatenate([z[:, 0], z[:, 1], z[:, 2:].ravel()])
    found = likelihood(case, np.arange(3), np.zeros(3, np.int64), z)
    np.testing.assert_allclose(found, np.bincount(records.subject, law.by_row(x)), rtol=1e-8)
