"""What the demo is expected to show, by three paths that must agree.

Witnesses: the figures stated in the issue and in docs/theophylline_demo.md before the first run; a superposition of
single doses in plain NumPy from the published values; the product's own functions (model text, `individual`, `solve`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, qmc

from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.units import Quantity
from pkpd.model import equations as eq
from pkpd.model.regimen import Dose, Events, Regimen
from pkpd.model.spec import Model
from pkpd.model.variability import individual, point, published

DEMO = Path(__file__).parents[2] / "examples" / "theophylline_copd" / "model.yaml"
CL, V, KA, FACTOR = 2.765, 31.79, 0.25, {0: 1.0, 1: 1.28, 2: 1.58}  # L/h, L, 1/h; by smoking
IIV = {"CL": 0.291, "V": 0.147, "KA": 0.2}
EC50, EMAX = 11.0, 0.20
DOSES = (200.0, 300.0, 400.0, 600.0)
TAU, CYCLES = 12.0, 40
NEVER, FORMER, CURRENT = 0, 1, 2


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.read(DEMO)


def superposed(dose: float, cl: np.ndarray, v: np.ndarray, ka: np.ndarray, *, after: np.ndarray) -> np.ndarray:
    """Levels `after` h after the last of many doses, (n, T), mg/L: one term per dose."""
    cl, v, ka = (np.asarray(x, float).reshape(-1, 1, 1) for x in (cl, v, ka))
    elapsed = np.asarray(after, float)[None, :, None] + TAU * np.arange(CYCLES)
    ke = cl / v
    return (dose * ka / (v * (ka - ke)) * (np.exp(-ke * elapsed) - np.exp(-ka * elapsed))).sum(axis=2)


def average(levels: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Trapezoidal average over a dosing interval."""
    return np.trapezoid(levels, after, axis=1) / (after[-1] - after[0])


def product(model: Model, dose: float, smoking: int, *, z: np.ndarray, weight: float = 70.0):
    """Own functions: text -> parameters -> solve; summaries over the last week of 40 doses, levels in the next 12 h."""
    draws, shape = point(model), z.shape[:2]
    parameters = individual(
        model,
        draws.typical,
        np.linalg.cholesky(draws.omega),
        {"WT": np.full(shape, weight), "SMOKING": np.full(shape, float(smoking))},
        z=z,
    )[0]
    regimen = Regimen((Dose(amount=Quantity(dose, "mg"), into="depot", every=TAU, times=CYCLES),))
    events = Events.shared(regimen.schedule(model.states), len(parameters))
    engine = compiled(model)
    found = solve(engine, parameters, events, [TAU * CYCLES - 12, TAU * CYCLES - 6, TAU * CYCLES])
    assert (found.status == 0).all()
    return parameters, found.values[:, engine.outputs.index("C")], {k: s[:, -1] for k, s in found.summaries.items()}


def nobody(model: Model) -> np.ndarray:
    """Random effects of the typical subject."""
    return np.zeros((1, 1, len(model.eta_names)))


@pytest.mark.parametrize(
    ("smoking", "stated"),
    [(NEVER, (6.0, 9.0, 12.0, 18.0)), (CURRENT, (3.8, 5.7, 7.6, 11.4)), (FORMER, (4.7, 7.1, 9.4, 14.1))],
)
def test_typical_average_levels(model, smoking, stated):
    """Stated to two digits: within 0.1 mg/L; the product's own average within 1e-6 of dose / (CL tau) and superposition."""
    grid = np.linspace(0, TAU, 20_001)
    for dose, figure in zip(DOSES, stated, strict=True):
        ours = average(superposed(dose, CL * FACTOR[smoking], V, KA, after=grid), grid)[0]
        _, _, summaries = product(model, dose, smoking, z=nobody(model))
        assert ours == pytest.approx(figure, abs=0.1)
        assert ours == pytest.approx(dose / (CL * FACTOR[smoking] * TAU), rel=1e-6)
        assert summaries["CAV"][0] == pytest.approx(ours, rel=1e-6)
        peak = superposed(dose, CL * FACTOR[smoking], V, KA, after=grid).max()
        assert summaries["CMAX"][0] == pytest.approx(peak, rel=1e-6)


def test_smokers_are_37_percent_lower(model):
    """1 - 1/1.58 at every dose, by the product."""
    for dose in DOSES:
        smoker, never = (product(model, dose, s, z=nobody(model))[2]["CAV"][0] for s in (CURRENT, NEVER))
        assert 100 * (1 - smoker / never) == pytest.approx(37, abs=0.5)


def test_share_of_the_greatest_effect(model):
    """36, 45, 52, 62 % of Emax, within 1 point: diminishing, not flat; FEV1 by the text's own equation."""
    fev1 = model.response["FEV1"]
    shares = []
    for dose, stated in zip(DOSES, (36, 45, 52, 62), strict=True):
        parameters, _, summaries = product(model, dose, NEVER, z=nobody(model))
        known = {name: parameters[:, k] for k, name in enumerate(model.parameters)}
        gain = eq.evaluate(fev1, {**known, **summaries, "TIME": np.array([2016.0])}) - known["BASE"] - known["PLAC"]
        ours = EMAX * dose / (CL * TAU) / (EC50 + dose / (CL * TAU))
        assert float(gain[0]) == pytest.approx(ours, rel=1e-6)
        shares.append(100 * float(gain[0]) / EMAX)
        assert shares[-1] == pytest.approx(stated, abs=1.0)
    steps = np.diff(shares) / np.diff(DOSES)
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()


def test_ten_to_twelve_mg_per_litre_give_a_tenth_of_a_litre(model):
    """EMAX is calibrated to the Cochrane mean difference of 0.10 L (0.04-0.16)."""
    values = {name: p.value for name, p in model.parameters.items()}
    for level in (10.0, 12.0):
        assert values["EMAX"] * level / (values["EC50"] + level) == pytest.approx(0.10, abs=0.006)


@pytest.mark.parametrize(
    ("dose", "smoking", "stated", "within"),
    [
        (200.0, NEVER, 0.00, 0.005),
        (300.0, NEVER, 0.01, 0.01),
        (400.0, NEVER, 0.07, 0.02),
        (600.0, NEVER, 0.53, 0.04),
        (200.0, CURRENT, 0.00, 0.005),
        (600.0, FORMER, 0.22, 0.04),
        (600.0, CURRENT, 0.07, 0.02),
    ],
)
def test_share_of_subjects_above_20_mg_per_litre(model, dose, smoking, stated, within):
    """4,096 subjects by quasi-Monte Carlo (between-subject variability of CL, V, ka); every subject by both paths."""
    normal = norm.ppf(qmc.Sobol(3, seed=11).random_base2(12))
    z = np.zeros((1, len(normal), len(model.eta_names)))
    for column, name in enumerate(("CL", "V", "KA")):
        z[0, :, model.eta_names.index(name)] = normal[:, column]
    parameters, _, summaries = product(model, dose, smoking, z=z)
    cl, v, ka = (
        typical * np.exp(IIV[name] * normal[:, column])
        for column, (name, typical) in enumerate((("CL", CL * FACTOR[smoking]), ("V", V), ("KA", KA)))
    )
    for name, own in (("CL", cl), ("V", v), ("KA", ka)):
        np.testing.assert_allclose(parameters[:, list(model.parameters).index(name)], own, rtol=1e-12)
    some = slice(0, 512)
    peaks = superposed(dose, cl[some], v[some], ka[some], after=np.linspace(0, TAU, 481)).max(axis=1)
    # the slowest have not reached steady state in 40 doses by superposition's account either: same doses, same levels
    np.testing.assert_allclose(summaries["CMAX"][some], peaks, rtol=2e-5)
    np.testing.assert_allclose(summaries["CAV"], dose / (cl * TAU), rtol=2e-3)
    assert (summaries["CMAX"] > 20).mean() == pytest.approx(stated, abs=within)


def test_levels_of_the_published_twelve_hourly_form(model):
    """464 mg every 12 h (Theo-Dur, 15 patients): 11.2, 15.5, 10.4 mg/L at 0, 6, 12 h, within 8 %.

    A model at steady state has the same level at 0 and 12 h: 11.0, between the two published ones.
    """
    ours = superposed(464.0, CL, V, KA, after=np.array([0.0, 6.0, 12.0]))[0]
    _, levels, _ = product(model, 464.0, NEVER, z=nobody(model))
    np.testing.assert_allclose(levels[0], ours, rtol=1e-6)
    np.testing.assert_allclose(ours, [11.2, 15.5, 10.4], rtol=0.08)
    np.testing.assert_allclose(ours, [11.0, 15.2, 11.0], atol=0.05)


def test_weight_moves_clearance_and_volume(model):
    """Allometry: (W/70)^0.75 on CL, W/70 on V; the cohort's 85 kg has 1.16 times the clearance."""
    heavy, _, summaries = product(model, 400.0, NEVER, z=nobody(model), weight=85.0)
    names = list(model.parameters)
    assert heavy[0, names.index("CL")] / CL == pytest.approx((85 / 70) ** 0.75, rel=1e-12)
    assert heavy[0, names.index("V")] / V == pytest.approx(85 / 70, rel=1e-12)
    assert pytest.approx(1.16, abs=0.005) == (85 / 70) ** 0.75
    assert summaries["CAV"][0] == pytest.approx(400 / (CL * (85 / 70) ** 0.75 * TAU), rel=1e-4)


def test_the_sensitivity_model_sees_the_same_draws_and_people():
    """Chance is addressed by a parameter's place: what both models share must stand at the same places, else the
    sensitivity run mixes the change of model with other draws (20 replicates: more than the change itself).
    """
    main, other = (Model.read(DEMO.with_name(name)) for name in ("model.yaml", "model_mm.yaml"))
    shared = [name for name in other.parameters if name in main.parameters]
    assert shared == list(main.parameters)
    assert other.eta_names[: len(main.eta_names)] == main.eta_names
    ours, theirs = published(main, 50, 1), published(other, 50, 1)
    for name in shared:
        assert np.array_equal(ours.typical[:, ours.names.index(name)], theirs.typical[:, theirs.names.index(name)])
    assert list(main.events) == list(other.events)
