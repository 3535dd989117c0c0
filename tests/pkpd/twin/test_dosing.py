"""Forecasts, targets and doses. Witnesses: AUC = dose/CL at steady state, closed forms of a bolus, the normal law."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.model.library import load
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import point
from pkpd.twin.dosing import Candidate, choose, metric, regimen
from pkpd.twin.fit_checks import data_checks, outside
from pkpd.twin.forecasting import folk, forecast, quantiles
from pkpd.twin.targets import Target
from pkpd.twin.twin import Settings, twins

BOLUS = """
vtrial: model/1
name: bolus
covariates:
  WT: {unit: kg, reference: 70, range: [40, 120]}
states: {central: mg}
parameters:
  CL: {typical: 5 L/h, iiv: 0.4, effects: {WT: power 0.75 fixed}, status: assumed}
  V: {typical: 50 L, iiv: 0.3, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs: {CP: {is: C, error: {additive: 0.5 mg/L, proportional: 0.1}}}
"""
HEAD = "ID,TIME,AMT,DV,EVID,WT\n"


def _twin(rows: str, particles: int = 2000):
    model = Model.parse(BOLUS)
    return twins(model, Records.parse(HEAD + rows, model=model), point(model), settings=Settings(particles=particles))


@pytest.fixture(scope="module")
def found():
    return _twin("A,0,1000,.,1,70\nA,2,.,14.1,0,70\nA,12,.,7.2,0,70\n")


def _parameters(found) -> tuple[np.ndarray, np.ndarray]:
    values = folk(found, np.array([0])).parameters
    return values[:, 0], values[:, 1]


def test_area_at_steady_state_is_dose_over_clearance(found):
    target = Target.parse("AUC24 100..200", found.case.model)
    plan = regimen(found, 0, Candidate(amount=500, every=12), start=24.0, horizon=600.0)
    area = metric(found, 0, target, plan, start=24.0, horizon=600.0)
    cl, _ = _parameters(found)
    np.testing.assert_allclose(area, 1000.0 / cl, rtol=1e-3)


@pytest.mark.parametrize(("text", "closed"), [
    ("trough >= 1", lambda k, c: c * np.exp(-12 * k)),
    ("peak >= 1", lambda k, c: c),
    ("time above 4 >= 0.5", lambda k, c: np.clip(np.log(np.maximum(c / 4, 1.0)) / k / 12, 0, 1)),
])  # fmt: skip
def test_metrics_are_those_of_the_closed_form_at_steady_state(found, text, closed):
    plan = regimen(found, 0, Candidate(amount=500, every=12), start=24.0, horizon=600.0)
    values = metric(found, 0, Target.parse(text, found.case.model), plan, start=24.0, horizon=600.0)
    cl, v = _parameters(found)
    k = cl / v
    top = 500.0 / v / (1.0 - np.exp(-12 * k))
    np.testing.assert_allclose(values, closed(k, top), rtol=2e-3, atol=2e-3)


def test_best_dose_has_the_largest_chance_and_its_mcse_is_that_of_the_weights(found):
    target = Target.parse("AUC24 150..250", found.case.model)
    candidates = [Candidate(amount=a, every=12) for a in (100, 300, 500, 700, 1500)]
    made = choose(found, candidates, target, start=24.0, horizon=240.0)
    cl, _ = _parameters(found)
    for choice in made.choices:
        area = 2.0 * choice.candidate.amount / cl
        met = (area >= 150) & (area <= 250)
        assert abs(choice.reached - found.weight[0][met].sum()) < 0.01
        mcse = np.sqrt(np.sum((found.weight[0] * (met - choice.reached)) ** 2))
        assert abs(choice.reached_mcse - mcse) < 0.003
    chances = [c.reached for c in made.choices]
    assert chances == sorted(chances, reverse=True)
    assert made.best.behind == 0.0
    assert made.best.tied


def test_harm_counts_against_a_dose(found):
    model = found.case.model
    target, toxic = Target.parse("AUC24 >= 100", model), Target.parse("AUC24 > 300", model)
    candidates = [Candidate(amount=a, every=12) for a in (300, 5000)]
    assert choose(found, candidates, target, start=24.0, horizon=120.0, toxic=toxic).best.candidate.amount == 300
    careless = choose(found, candidates, target, start=24.0, horizon=120.0, toxic=toxic, penalty=0.0)
    assert careless.best.candidate.amount == 5000
    assert careless.best.toxic > 0.99


def test_no_horizon_shorter_than_an_interval(found):
    with pytest.raises(InputError, match="shorter than an interval"):
        choose(
            found, [Candidate(amount=1, every=24)], Target.parse("trough > 1", found.case.model), start=0, horizon=12
        )


def test_regimens_are_judged_at_the_end_of_an_interval_of_their_own(found):
    """Every 48 h in a horizon that ends in the middle of an interval: the trough is before a dose, and AUC24 is half of
    dose/CL; closed forms at steady state. So are regimens of other intervals beside it.
    """
    model, candidates = found.case.model, [Candidate(amount=1000, every=e) for e in (48.0, 36.0, 12.0)]
    cl, v = _parameters(found)
    for text, closed in (("AUC24 > 0", lambda e: 1000.0 / cl * 24.0 / e),
                         ("trough > 0", lambda e: 1000.0 / v / np.expm1(e * cl / v))):  # fmt: skip
        made = choose(found, candidates, Target.parse(text, model), start=24.0, horizon=588.0)
        for choice in made.choices:
            value = quantiles(closed(choice.candidate.every)[None, :, None], found.weight[:1], (0.05, 0.5, 0.95))
            assert (choice.lower, choice.median, choice.upper) == pytest.approx(tuple(value[0, :, 0]), rel=3e-3)


def test_no_area_over_more_time_than_is_followed(found):
    """AUC96 over 72 h would be an AUC72."""
    with pytest.raises(InputError, match="more than the horizon of 72 h") as error:
        choose(found, [Candidate(amount=1, every=24)], Target.parse("AUC96 > 1", found.case.model), start=0)
    assert error.value.remedy == "a horizon of 96 h or more"


@pytest.mark.parametrize(("text", "problem"), [
    ("AUC24", "not a target"), ("area 1..2", "no such metric"), ("AUC24 3..2", "range is empty"),
    ("trough(CX) > 1", "no such output"), ("time above >= 1", "not a target|no such metric"),
])  # fmt: skip
def test_targets_that_say_nothing_are_refused(found, text, problem):
    with pytest.raises(InputError, match=problem):
        Target.parse(text, found.case.model)


@pytest.mark.parametrize(
    "text", ["AUC24 400..600", "trough 10..15", "cmax(CP) < 40", "time above 4.5 >= 0.5", "AUC48 > 1e3"]
)
def test_targets_read(found, text):
    assert str(Target.parse(text, found.case.model))


def test_forecast_of_a_new_measurement_is_the_mixture_of_normals(found):
    made = forecast(found, np.array([20.0]), levels=(0.05, 0.5, 0.95))
    cl, v = _parameters(found)
    f = 1000.0 / v * np.exp(-cl / v * 20.0)
    sd = np.sqrt(0.25 + 0.01 * f**2)
    share = [np.sum(found.weight[0] * stats.norm.cdf((q - f) / sd)) for q in made.measured[0, :, 0]]
    np.testing.assert_allclose(share, [0.05, 0.5, 0.95], atol=0.015)
    np.testing.assert_allclose(made.latent[0, 1, 0], quantiles(f[None, :, None], found.weight, (0.5,))[0, 0, 0])


def test_regimens_are_compared_on_common_random_numbers(found):
    one = forecast(
        found, np.array([20.0]), schedule=regimen(found, 0, Candidate(amount=500, every=12), start=13.0, horizon=12.0)
    )
    two = forecast(
        found, np.array([20.0]), schedule=regimen(found, 0, Candidate(amount=500, every=12), start=13.0, horizon=12.0)
    )
    assert np.array_equal(one.measured, two.measured)
    none = forecast(
        found, np.array([12.5]), schedule=regimen(found, 0, Candidate(amount=500, every=12), start=13.0, horizon=12.0)
    )
    plain = forecast(found, np.array([12.5]))
    assert np.array_equal(none.measured, plain.measured)  # nothing changes before the first new dose


def test_a_datum_that_does_not_fit_is_flagged_and_good_data_are_not():
    good = data_checks(_twin("A,0,1000,.,1,70\nA,2,.,16.4,0,70\nA,6,.,11,0,70\nA,12,.,6,0,70\n"))
    assert not any(d.unlikely for d in good)
    bad = data_checks(_twin("A,0,1000,.,1,70\nA,2,.,16.4,0,70\nA,6,.,110,0,70\nA,12,.,6,0,70\nA,18,.,3.3,0,70\n"))
    assert [d.unlikely for d in bad][1]


def test_predictive_p_given_the_others_is_that_without_the_datum():
    """Witness: the twin of the other data, its predictive distribution at that time."""
    rows = ["A,0,1000,.,1,70", "A,2,.,14.1,0,70", "A,6,.,14,0,70", "A,12,.,7.2,0,70"]
    datum = data_checks(_twin("\n".join(rows) + "\n", 20_000))[1]
    rest = _twin("\n".join([*rows[:2], rows[3]]) + "\n", 20_000)
    cl, v = _parameters(rest)
    f = 1000.0 / v * np.exp(-cl / v * 6.0)
    lower = np.sum(rest.weight[0] * stats.norm.cdf((14.0 - f) / np.sqrt(0.25 + 0.01 * f**2)))
    np.testing.assert_allclose(datum.p_others, 2 * min(lower, 1 - lower), atol=0.02)


def test_a_patient_outside_the_domain_is_named():
    model = load("goti_vancomycin")
    data = "ID,TIME,AMT,DV,EVID,CRCL,WT,DIAL\nA,0,1000,.,1,180,70,0\nA,11,.,9,0,180,70,0\n"
    said = outside(model, Records.parse(data, model=model))
    assert len(said) == 1
    assert "CRCL 180" in said[0]


def test_weighted_quantiles_of_equal_weights_are_those_of_hazen():
    values = np.random.default_rng(3).normal(size=(1, 501, 2))
    got = quantiles(values, np.full((1, 501), 1 / 501), (0.05, 0.5, 0.95))
    np.testing.assert_allclose(got[0], np.quantile(values[0], (0.05, 0.5, 0.95), axis=0, method="hazen"))
