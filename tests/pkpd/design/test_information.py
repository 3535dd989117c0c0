"""Expected standard errors against a published comparison of five tools, and identities."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from pkpd.design.information import Arm, Pieces, information, names_of, pieces, population_of, shrinkage
from pkpd.design.optimal import optimal_times
from pkpd.ground.errors import InputError, RunFailed
from pkpd.ground.units import Quantity
from pkpd.model.regimen import Dose, Regimen
from pkpd.model.spec import Model

WARFARIN = """
vtrial: model/1
name: warfarin
states: {depot: mg, central: mg}
parameters:
  CL: {typical: 0.15 L/h, iiv: 0.2645751311064591, status: assumed}
  V:  {typical: 8 L, iiv: 0.1414213562373095, status: assumed}
  KA: {typical: 1 1/h, iiv: 0.7745966692414834, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
outputs: {CP: {is: C, error: {proportional: 0.1}}}
"""
TIMES = (0.5, 1, 2, 6, 24, 36, 72, 120)
VARIANCES = np.array([1, 1, 1, 2, 2, 2, 2])  # the relative error of a variance is twice that of its root
# PopED's own test of this example (tests/testthat/test_evaluate.fim.R): the design of Nyberg et al., Br J Clin Pharmacol
# 2015;79:6-17: 32 subjects, 70 mg; CL, V, KA, their variances 0.07, 0.02, 0.6, and that of the proportional error, 0.01
REDUCED = (4.7, 2.8, 13.9, 25.6, 30.3, 25.8, 11.2)
FULL = (3.6, 2.6, 4.8, 26.3, 30.9, 26.5, 12.4)


def once(amount: float = 70.0) -> Regimen:
    return Regimen((Dose(amount=Quantity(amount, "mg"), into="depot"),))


def arm(**changed) -> Arm:
    return replace(Arm(subjects=32, regimen=once(), times={"CP": TIMES}), **changed)


@pytest.fixture(scope="module")
def warfarin() -> Model:
    return Model.parse(WARFARIN)


@pytest.mark.parametrize(("full", "expected"), [(False, REDUCED), (True, FULL)])
def test_expected_errors_of_the_warfarin_example(warfarin, full, expected):
    found = information(warfarin, [arm()], full=full)
    assert found.names == ("CL", "V", "KA", "omega_CL", "omega_V", "omega_KA", "CP.proportional")
    assert np.round(found.rse * VARIANCES, 1).tolist() == list(expected)


def test_information_adds_over_arms_and_subjects(warfarin):
    whole = information(warfarin, [arm()])
    parts = information(warfarin, [arm(subjects=12), arm(subjects=20)])
    np.testing.assert_allclose(parts.matrix, whole.matrix, rtol=1e-12)
    four = information(warfarin, [arm(subjects=128)])
    np.testing.assert_allclose(four.se, whole.se / 2, rtol=1e-10)


def test_what_is_fixed_is_left_out(warfarin):
    every = information(warfarin, [arm()])
    some = information(warfarin, [arm()], fixed=["KA", "omega_V"])
    assert some.names == ("CL", "V", "omega_CL", "omega_KA", "CP.proportional")
    keep = [every.names.index(name) for name in some.names]
    np.testing.assert_allclose(some.matrix, every.matrix[np.ix_(keep, keep)], rtol=1e-12)
    assert (some.se <= every.se[keep] * (1 + 1e-12)).all()


def test_information_of_a_linear_model_by_hand():
    """log C = log(dose/V) - k t with a log-normal error and one random effect: the textbook linear mixed model."""
    text = (
        WARFARIN[: WARFARIN.index("states:")]
        + """
states: {central: mg}
parameters:
  K: {typical: 0.1 1/h, scale: identity, status: assumed}
  V: {typical: 8 L, iiv: 0.3, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -K*central
outputs: {CP: {is: C, error: {log: 0.2}}}
"""
    )
    t = np.array([1.0, 4.0, 10.0])
    plan = Arm(subjects=10, regimen=Regimen((Dose(amount=Quantity(100, "mg"), into="central"),)), times={"CP": t})
    found = information(Model.parse(text), [plan])
    E = np.stack([-t, -np.ones(3) / 8], axis=1)
    V = 0.3**2 * np.ones((3, 3)) + 0.2**2 * np.eye(3)
    inverse, slopes = np.linalg.inv(V), [2 * 0.3 * np.ones((3, 3)), 2 * 0.2 * np.eye(3)]
    expected = np.zeros((4, 4))
    expected[:2, :2] = 10 * E.T @ inverse @ E
    for i, a in enumerate(slopes):
        for j, b in enumerate(slopes):
            expected[2 + i, 2 + j] = 10 * 0.5 * np.trace(inverse @ a @ inverse @ b)
    assert found.names == ("K", "V", "omega_V", "CP.log")
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-6, atol=1e-9)


def test_derivatives_of_the_variance_are_differences_of_it():
    """Along every standard deviation, the correlation and the typical values, by differences over the text itself."""
    base = {"sd": 0.2645751311064591, "r": 0.4, "error": 0.1, "KA": 1.0}

    def at(**changed: float) -> Pieces:
        given = base | changed
        text = WARFARIN.replace("iiv: 0.2645751311064591", f"iiv: {given['sd']!r}").replace(
            "typical: 1 1/h", f"typical: {given['KA']!r} 1/h"
        )
        text = text.replace("proportional: 0.1", f"proportional: {given['error']!r}")
        model = Model.parse(text.replace("equations:", f"correlations: [[CL, V, {given['r']!r}]]\nequations:"))
        return pieces(population_of(model, ["CP"], ()), arm(), full=True, rtol=1e-10)

    here = at()
    names = names_of(
        population_of(
            Model.parse(WARFARIN.replace("equations:", "correlations: [[CL, V, 0.4]]\nequations:")), ["CP"], ()
        )
    )[0]
    for key, name in (("sd", "omega_CL"), ("r", "corr_V_CL"), ("error", "CP.proportional"), ("KA", "KA")):
        h = 1e-4 * base[key]
        slope = (at(**{key: base[key] + h}).V - at(**{key: base[key] - h}).V) / (2 * h)
        k = names.index(name)
        found = here.moved[k] if k < 3 else here.dV[k - 3]
        np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-6 * np.abs(slope).max())


def test_a_design_that_tells_too_little_says_so(warfarin):
    with pytest.raises(RunFailed, match="no information on every parameter"):
        _ = information(warfarin, [arm(times={"CP": [24.0]})]).se


def test_covariates_and_effects_are_parameters():
    text = WARFARIN.replace("parameters:", "covariates: {WEIGHT: {unit: kg, reference: 70}}\nparameters:\n"
                            "  BW: {typical: 0.75 1, scale: identity, status: assumed}").replace(
        "V:  {typical: 8 L,", "V:  {typical: 8 L, effects: {WEIGHT: power BW},")  # fmt: skip
    try:
        model = Model.parse(text)
    except InputError as error:
        pytest.fail(str(error))
    one = information(model, [arm()], fixed=["BW"])
    assert "BW" not in one.names
    two = information(model, [arm(covariates={"WEIGHT": 50.0}), arm(covariates={"WEIGHT": 95.0})])
    assert "BW" in two.names
    assert np.isfinite(two.se).all()


def test_expected_shrinkage(warfarin):
    rich, poor = shrinkage(warfarin, arm()), shrinkage(warfarin, arm(times={"CP": [24.0, 72.0]}))
    assert rich["CL"] < 0.05
    assert poor["KA"] > 0.9
    assert all(0 < rich[n] < poor[n] <= 1 for n in rich)


GRID = (0.5, 1, 2, 4, 6, 12, 24, 48, 72, 120)


@pytest.mark.parametrize("full", [False, True])
def test_optimal_times_are_the_best_of_all_choices(warfarin, full):
    """Exchange against every one of the 210 choices of four times."""
    found = optimal_times(warfarin, arm(times={"CP": GRID}), {"CP": 4}, full=full)
    every = {c: information(warfarin, [arm(times={"CP": c})], full=full).criterion for c in combinations(GRID, 4)}
    best = max(every, key=every.__getitem__)
    assert found.times["CP"] == best
    assert found.information.criterion == pytest.approx(every[best], rel=1e-9)


def test_optimal_times_respect_distance_and_what_is_known(warfarin):
    found = optimal_times(warfarin, arm(times={"CP": np.arange(1.0, 121.0)}), {"CP": 5}, apart=4.0)
    assert np.diff(found.times["CP"]).min() >= 4.0
    known = information(warfarin, [arm()])
    more = optimal_times(warfarin, arm(times={"CP": GRID}), {"CP": 2}, given=known)
    assert (more.information.se < known.se).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [(lambda m: information(m, [arm(times={"CC": [1.0]})]), "no such output"),
     (lambda m: information(m, [arm()], fixed=["CLL"]), "no such parameter"),
     (lambda m: optimal_times(m, arm(times={"CP": GRID}), {"CP": 11}), "number of candidates"),
     (lambda m: information(m, [arm(times={"CP": []})]), "at least one sample")],
)  # fmt: skip
def test_user_errors(warfarin, call, message):
    with pytest.raises(InputError, match=message):
        call(warfarin)
