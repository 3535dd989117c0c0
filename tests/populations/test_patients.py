"""Patients: typical values, covariates and random effects recomputed from their definition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, slots
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws, published
from populations import Cohort, Criteria, PopulationLaw, enrol, patients
from populations.patients import lower_roots, population_draw

EXAMPLE = Path(__file__).parents[2] / "examples" / "theophylline_copd" / "model.yaml"
SMOKING = {"SMOKING": {0: 0.15, 1: 0.45, 2: 0.40}}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.read(EXAMPLE)


@pytest.fixture(scope="module")
def draws(model: Model) -> PopulationDraws:
    """Published uncertainty, with correlated CL and V so that the Cholesky factor has something to do."""
    made = published(model, 50, 1)
    i, j = made.eta_names.index("CL"), made.eta_names.index("V")
    omega = made.omega.copy()
    omega[:, i, j] = omega[:, j, i] = 0.55 * np.sqrt(omega[:, i, i] * omega[:, j, j])
    omega *= np.linspace(0.5, 1.5, 50)[:, None, None]
    return replace(made, omega=omega)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rules = Criteria.parse({"age": "40 <= AGE <= 60", "weight": "40 <= WT <= 160"})
    law = PopulationLaw.read()
    return enrol(law, rules, seed=8, replicates=np.arange(30), subjects=200, overrides=SMOKING)


def test_clearance_is_its_definition(model: Model, draws: PopulationDraws, cohort: Cohort) -> None:
    """CL = typical (WT/70)^0.75 smoking factor exp(eta), eta from numpy's own Cholesky factor and z at its address."""
    got = patients(model, draws, cohort, seed=8)
    names, typical = list(model.parameters), draws.typical[got.draw]
    z = normals(
        8, Purpose.IIV, subject=cohort.subject[None, :, None], replicate=cohort.replicate[:, None, None],
        slot=slots(draws.eta_names),
    )  # fmt: skip
    eta = np.einsum("rij,rnj->rni", np.linalg.cholesky(draws.omega[got.draw]), z)
    smoking = cohort.covariates["SMOKING"]
    factor = np.where(smoking == 1, typical[:, [names.index("FEX")]], 1.0)
    factor = np.where(smoking == 2, typical[:, [names.index("FSMOKE")]], factor)
    size = cohort.covariates["WT"] / 70.0
    clearance = typical[:, [names.index("CL")]] * size**0.75 * factor * np.exp(eta[:, :, draws.eta_names.index("CL")])
    volume = typical[:, [names.index("V")]] * size * np.exp(eta[:, :, draws.eta_names.index("V")])
    np.testing.assert_allclose(got.parameters[:, :, names.index("CL")], clearance, rtol=1e-12)
    np.testing.assert_allclose(got.parameters[:, :, names.index("V")], volume, rtol=1e-12)
    fixed = names.index("NP0")  # no random effect: the replicate's own typical value for everybody
    assert (got.parameters[:, :, fixed] == typical[:, [fixed]]).all()


def test_variability_is_the_draws(model: Model, draws: PopulationDraws, cohort: Cohort) -> None:
    """sd and correlation of log CL and log V about their own typical values, 6,000 subjects, 4 standard errors."""
    one = replace(draws, typical=draws.typical[:1], omega=draws.omega[:1], error=draws.error[:1])
    got = patients(model, one, cohort, seed=3)
    names = list(model.parameters)
    bare = patients(model, replace(one, omega=np.zeros_like(one.omega)), cohort, seed=3)
    eta = {n: np.log(got.parameters[..., names.index(n)] / bare.parameters[..., names.index(n)]) for n in ("CL", "V")}
    for name in eta:
        i = draws.eta_names.index(name)
        expected = np.sqrt(one.omega[0, i, i])
        assert eta[name].std() == pytest.approx(expected, rel=4 / np.sqrt(2 * 6000))
        assert eta[name].mean() == pytest.approx(0.0, abs=4 * expected / np.sqrt(6000))
    r = np.corrcoef(eta["CL"].ravel(), eta["V"].ravel())[0, 1]
    assert r == pytest.approx(0.55, abs=4 * (1 - 0.55**2) / np.sqrt(6000))


def test_one_draw_per_replicate(model: Model, draws: PopulationDraws, cohort: Cohort) -> None:
    got = patients(model, draws, cohort, seed=8)
    assert got.draw.shape == (30,)
    assert len(set(got.draw)) > 10
    many = population_draw(5, np.arange(20_000, dtype=np.uint32), 50)
    counts = np.bincount(many, minlength=50)
    assert ((counts - 400.0) ** 2 / 400.0).sum() < 94.0  # chi-squared, 49 degrees of freedom: P(> 94) = 1e-4
    single = replace(draws, typical=draws.typical[:1], omega=draws.omega[:1], error=draws.error[:1])
    assert (patients(model, single, cohort, seed=8).draw == 0).all()


def test_any_split_gives_the_same_patients(model: Model, draws: PopulationDraws, cohort: Cohort) -> None:
    whole = patients(model, draws, cohort, seed=8)
    rows, columns = np.array([7, 2, 29]), np.array([150, 3])
    part = Cohort(
        covariates={name: x[np.ix_(rows, columns)] for name, x in cohort.covariates.items()},
        replicate=cohort.replicate[rows], subject=cohort.subject[columns],
        attempts=cohort.attempts[np.ix_(rows, columns)], screening=cohort.screening,
    )  # fmt: skip
    got = patients(model, draws, part, seed=8)
    assert (got.parameters == whole.parameters[np.ix_(rows, columns)]).all()
    assert (got.draw == whole.draw[rows]).all()


def test_draws_of_another_model_are_refused(model: Model, draws: PopulationDraws, cohort: Cohort) -> None:
    shuffled = replace(draws, names=(draws.names[1], draws.names[0], *draws.names[2:]))
    with pytest.raises(InputError, match="other parameters"):
        patients(model, shuffled, cohort, seed=8)
    without = replace(cohort, covariates={n: x for n, x in cohort.covariates.items() if n != "WT"})
    with pytest.raises(InputError, match="WT"):
        patients(model, draws, without, seed=8)


def test_lower_roots_are_cholesky_factors() -> None:
    """numpy.linalg.cholesky as oracle; a random effect without variance has a zero row; indefinite is refused."""
    a = normals(
        1, Purpose.IIV, subject=np.arange(20)[:, None, None], replicate=np.arange(4)[:, None], slot=np.arange(4)
    )
    omega = a @ a.transpose(0, 2, 1) + 0.1 * np.eye(4)
    np.testing.assert_allclose(lower_roots(omega), np.linalg.cholesky(omega), rtol=1e-10, atol=1e-12)
    omega[:, 2, :] = omega[:, :, 2] = 0.0
    root = lower_roots(omega)
    np.testing.assert_allclose(root @ root.transpose(0, 2, 1), omega, atol=1e-12)
    assert (root[:, 2] == 0).all()
    for bad in ([[1.0, 1.1], [1.1, 1.0]], [[-1.0, 0.0], [0.0, 1.0]], [[0.0, 0.1], [0.1, 1.0]], [[np.nan, 0], [0, 1.0]]):
        with pytest.raises(ValueError, match="positive semidefinite"):
            lower_roots(np.array([bad]))
