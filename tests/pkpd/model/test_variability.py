"""From population to individuals. Witness: the definition written out with NumPy; moments of the normal law."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.model import library
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws, covariance, individual, point, published

TEXT = """
vtrial: model/1
name: all_scales
covariates:
  WT: {unit: kg, reference: 70, range: [40, 160]}
  SEX: {labels: {0: female, 1: male}}
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1.5 1/h, se: 0.2, iiv: 0.7, above: CL/V, status: assumed}
  CL: {typical: 3 L/h, se: 0.1, iiv: 0.3, effects: {WT: power BW, SEX: {1: FM}}, status: assumed}
  V: {typical: 30 L, iiv: 0.2, effects: {WT: power 1 fixed}, status: assumed}
  BW: {typical: 0.75 1, scale: identity, se: 0.05, status: assumed}
  FM: {typical: 1.2 1, se: 0.1, status: assumed}
  F1: {typical: 0.8 1, scale: logit, se: 0.3, iiv: 0.5, effects: {WT: linear SF}, status: assumed}
  SF: {typical: -0.01 1/kg, scale: identity, status: assumed}
  B: {typical: -2 mg/L, scale: identity, se: 0.3, iiv: 0.4, status: assumed}
correlations: [[CL, V, 0.5], [KA, B, -0.2]]
equations: |
  C = central/V + B
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*central/V
doses: {depot: {bioavailability: F1}}
outputs: {CP: {is: C, error: {additive: 0.3 mg/L}}}
"""
R, N = 4, 50


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.parse(TEXT)


@pytest.fixture(scope="module")
def batch(model: Model) -> tuple[PopulationDraws, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    draws, random = published(model, R, 3), np.random.default_rng(5)
    covariates = {"WT": random.uniform(45, 150, (R, N)), "SEX": random.integers(0, 2, (R, N)).astype(float)}
    return draws, np.linalg.cholesky(draws.omega), covariates, random.standard_normal((R, N, len(model.eta_names)))


def test_individuals_follow_the_definition(model, batch) -> None:
    draws, root, covariates, z = batch
    found = dict(
        zip(model.parameters, np.moveaxis(individual(model, draws.typical, root, covariates, z=z), 2, 0), strict=True)
    )
    typical = {n: draws.typical[:, i, None] for i, n in enumerate(draws.names)}
    eta = dict(zip(model.eta_names, np.moveaxis(np.einsum("rij,rnj->rni", root, z), 2, 0), strict=True))
    size = covariates["WT"] / 70
    clearance = (
        typical["CL"] * np.exp(eta["CL"]) * size ** typical["BW"] * np.where(covariates["SEX"] == 1, typical["FM"], 1)
    )
    volume = typical["V"] * np.exp(eta["V"]) * size
    part = typical["KA"] - typical["CL"] / typical["V"]
    logit = np.log(typical["F1"] / (1 - typical["F1"])) + eta["F1"] + typical["SF"] * (covariates["WT"] - 70)
    expected = {
        "CL": clearance,
        "V": volume,
        "KA": clearance / volume + np.exp(np.log(part) + eta["KA"]),
        "F1": 1 / (1 + np.exp(-logit)),
        "B": typical["B"] + eta["B"],
        "BW": typical["BW"] + 0 * size,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-13, err_msg=name)
    assert (found["KA"] > found["CL"] / found["V"]).all()


def test_a_subject_does_not_depend_on_its_neighbours(model, batch) -> None:
    draws, root, covariates, z = batch
    whole = individual(model, draws.typical, root, covariates, z=z)
    some = {name: value[2:3, 7:9] for name, value in covariates.items()}
    part = individual(model, draws.typical[2:3], root[2:3], some, z=z[2:3, 7:9])
    assert np.array_equal(whole[2:3, 7:9], part)


def test_published_draws_have_the_stated_spread(model) -> None:
    draws = published(model, 20_000, 11)
    typical = dict(zip(draws.names, draws.typical.T, strict=True))
    three = 3 / np.sqrt(20_000)
    expected = {
        "CL": (np.log(typical["CL"]), np.log(3), 0.1),
        "F1": (np.log(typical["F1"] / (1 - typical["F1"])), np.log(4), 0.3),
        "B": (typical["B"], -2.0, 0.3),
        "KA": (np.log(typical["KA"] - typical["CL"] / typical["V"]), np.log(1.5 - 0.1), 0.2),
    }
    for name, (value, mean, sd) in expected.items():
        assert abs(value.mean() - mean) < three * sd, name
        assert abs(value.std() / sd - 1) < 3 / np.sqrt(2 * 20_000), name
    assert np.array_equal(typical["V"], np.full(20_000, 30.0))
    assert abs(np.corrcoef(typical["B"], np.log(typical["CL"]))[0, 1]) < three


def test_a_draw_does_not_depend_on_how_many_are_asked_for(model) -> None:
    assert np.array_equal(published(model, 3, 11).typical, published(model, 10, 11).typical[:3])
    assert not np.array_equal(published(model, 3, 12).typical, published(model, 3, 11).typical)


def test_covariance_of_the_text(model) -> None:
    names, omega = model.eta_names, covariance(model)
    assert names == ("KA", "CL", "V", "F1", "B")
    np.testing.assert_allclose(np.sqrt(np.diag(omega)), [0.7, 0.3, 0.2, 0.5, 0.4])
    assert omega[1, 2] == pytest.approx(0.5 * 0.3 * 0.2)
    assert omega[0, 4] == pytest.approx(-0.2 * 0.7 * 0.4)
    assert np.count_nonzero(omega) == 9


def test_the_point_is_the_text(model) -> None:
    draws = point(model)
    assert draws.typical.tolist() == [[p.value for p in model.parameters.values()]]
    assert draws.error.tolist() == [[0.3]]


def test_without_random_effects_everyone_is_typical() -> None:
    source = library.model_path("theophylline").read_text()
    for iiv in (
        "iiv: {typical: 0.785, prior: 1}, ",
        "iiv: {typical: 0.291, prior: 1}, ",
        "iiv: {typical: 0.147, prior: 1}, ",
    ):
        source = source.replace(iiv, "")
    bare = Model.parse(source.replace("omega: {block: [KA, CL, V], lkj: 2}\ncorrelations: [[CL, V, 0.55]]\n", ""))
    draws = point(bare)
    found = individual(bare, draws.typical, draws.omega, {}, z=np.zeros((1, 4, 0)))
    np.testing.assert_allclose(found, np.broadcast_to(draws.typical[:, None], (1, 4, 3)), rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WT", np.nan, "WT: is missing for 1 of 200"),
        ("WT", 20.0, "WT: is outside 40 to 160"),
        ("SEX", 2.0, "SEX: is not a category"),
        ("SEX", np.nan, "SEX: is missing"),
    ],
)
def test_a_covariate_the_model_cannot_use_is_named(model, batch, name: str, value: float, said: str) -> None:
    draws, root, covariates, z = batch
    wrong = {n: v.copy() for n, v in covariates.items()}
    wrong[name][1, 3] = value
    with pytest.raises(InputError) as caught:
        individual(model, draws.typical, root, wrong, z=z)
    assert str(caught.value).startswith(said)


def test_an_absent_covariate_is_named(model, batch) -> None:
    draws, root, covariates, z = batch
    with pytest.raises(InputError, match="WT: model all_scales needs"):
        individual(model, draws.typical, root, {"SEX": covariates["SEX"]}, z=z)


def test_a_draw_below_its_floor_is_refused(model, batch) -> None:
    draws, root, covariates, z = batch
    typical = draws.typical.copy()
    typical[0, 0] = 0.01
    with pytest.raises(InputError, match="must be greater than CL/V"):
        individual(model, typical, root, covariates, z=z)


def test_shapes_are_checked(model) -> None:
    draws = point(model)
    with pytest.raises(ValueError, match="omega has shape"):
        PopulationDraws(
            names=draws.names, typical=draws.typical, eta_names=draws.eta_names[:-1], omega=draws.omega,
            error_names=draws.error_names, error=draws.error,
        )  # fmt: skip


@pytest.mark.parametrize("draws", [0, -1])
def test_at_least_one_draw(model, draws: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        published(model, draws, 1)
