"""A search among covariates by the regularised horseshoe: density, prior, and what it finds in simulated data."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest

from pkpd.bayes import fit
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design
from pkpd.bayes.plan import plan
from pkpd.bayes.prior import horseshoe
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model

NAMES = ("A", "B", "D", "E", "F", "G")
TEXT = """
vtrial: model/1
name: search
covariates:
{covariates}
  WT: {{unit: kg, reference: 70}}
states: {{central: mg}}
parameters:
  CL: {{typical: 3 L/h, iiv: {{typical: 0.3, prior: 0.5}}, prior: {{median: 3, sd: 1}}, status: assumed,
       effects: {{WT: power GW, {effects}}}}}
  V:  {{typical: 30 L, iiv: {{typical: 0.15, prior: 0.5}}, prior: {{median: 30, sd: 1}}, status: assumed}}
  GW: {{typical: 0 1, scale: identity, prior: {{horseshoe: 1, global: 0.1}}, status: assumed}}
{coefficients}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs:
  CP: {{is: C, error: {{proportional: {{typical: 0.15, prior: 0.5}}}}}}
"""


def text(names: tuple[str, ...] = NAMES, prior: str = "{horseshoe: 0.5, global: 0.1}") -> str:
    return TEXT.format(
        covariates="\n".join(f"  {n}: {{unit: '1', reference: 0}}" for n in names),
        effects=", ".join(f"{n}: linear K{n}" for n in names),
        coefficients="\n".join(
            f"  K{n}: {{typical: 0 1, scale: identity, prior: {prior}, status: assumed}}" for n in names
        ),
    )


def data(subjects: int, seed: int = 1, names: tuple[str, ...] = NAMES) -> str:
    """CL depends on the weight (power 0.75) and on the first covariate (0.3 a unit), on no other."""
    rng = np.random.default_rng(seed)
    lines = [f"ID,TIME,AMT,DV,EVID,WT,{','.join(names)}"]
    for i in range(subjects):
        weight, x = 70 * np.exp(0.25 * rng.normal()), rng.normal(size=len(names))
        cells = ",".join([f"{weight:.1f}", *(f"{v:.3f}" for v in x)])
        cl = 3 * (weight / 70) ** 0.75 * np.exp(0.3 * x[0] + 0.3 * rng.normal())
        v = 30 * np.exp(0.15 * rng.normal())
        lines.append(f"{i + 1},0,100,.,1,{cells}")
        for t in (1.0, 6.0, 18.0):
            y = 100 / v * np.exp(-cl / v * t) * (1 + 0.15 * rng.normal())
            lines.append(f"{i + 1},{t:g},.,{y:.6g},0,{cells}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def small() -> tuple[Density, Model, Records]:
    model = Model.parse(text(NAMES[:2]))
    records = Records.parse(data(4, names=NAMES[:2]), model=model)
    return density(plan(model, "CP"), design(model, records)), model, records


def somewhere(made: Density) -> np.ndarray:
    x = 0.5 * np.random.default_rng(3).normal(size=made.layout.size)
    x[:2] += np.log([3, 30])
    x[5:8] -= 1.0
    return x


@pytest.mark.slow
def test_gradient_is_the_central_difference(small):
    made = small[0]
    assert made.layout.population == 5 + 2 + 1 + 4  # typical values, omegas, error; one global and three own scales
    x = somewhere(made)
    exact = made(x)[1]
    for k in range(len(x)):
        h = 3e-4 * np.eye(len(x))[k]
        difference = (8 * (made(x + h)[0] - made(x - h)[0]) - made(x + 2 * h)[0] + made(x - 2 * h)[0]) / 36e-4
        assert exact[k] == pytest.approx(difference, rel=1e-7, abs=1e-6), k


@pytest.mark.slow
def test_the_coefficients_are_what_the_prior_says(small):
    """t = s z tau l/sqrt(1 + (tau l)^2); quantiles of the prior against 400,000 draws of the definition."""
    made = small[0]
    x = somewhere(made)
    named = made.layout.named(x)
    u = np.exp(x[8]) * np.exp(x[9:12])
    np.testing.assert_allclose(
        [named["GW"], named["KA"], named["KB"]], np.array([1.0, 0.5, 0.5]) * x[2:5] * u / np.sqrt(1 + u * u), rtol=1e-12
    )
    rng = np.random.default_rng(0)
    product = 0.1 * np.abs(rng.standard_cauchy(400_000) * rng.standard_cauchy(400_000))
    drawn = 0.5 * rng.normal(size=len(product)) * product / np.sqrt(1 + product**2)
    prior = horseshoe(0.5, 0.1)
    for p in (0.6, 0.75, 0.9, 0.975):
        assert prior.quantile(p) == pytest.approx(np.quantile(drawn, p), rel=0.03)
    assert prior.sd == pytest.approx(drawn.std(), rel=0.02)


def test_what_it_is_not_for():
    with pytest.raises(InputError, match="without iiv"):
        Model.parse(text().replace("prior: {median: 30, sd: 1}", "prior: {horseshoe: 1}"))
    model = Model.parse(text().replace("horseshoe: 1, global: 0.1", "horseshoe: 1, global: 0.2"))
    with pytest.raises(InputError, match="share one global scale"):
        plan(model, "CP")


@pytest.mark.slow
def test_it_is_the_pymc_model(small):
    made, model, records = small
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pkpd.bayes.likelihood import population_model

        whole = population_model(made.layout.plan, design(model, records))
        start = whole.initial_point()
        logp, dlogp = whole.compile_logp(), whole.compile_dlogp()
    x = somewhere(made)
    order = [
        "log_CL", "log_V", "z_GW", "z_KA", "z_KB", "omega_CL_log__", "omega_V_log__", "CP_proportional_log__",
        "horseshoe_log__", "horseshoe_GW_log__", "horseshoe_KA_log__", "horseshoe_KB_log__",
    ]  # fmt: skip
    place = {n: np.array([k]) for k, n in enumerate(order)}
    place |= {"z_CL": np.arange(12, 16), "z_V": np.arange(16, 20)}
    point = {n: x[place[n]].reshape(np.shape(start[n])) for n in start}
    value, gradient = made(x)
    assert value == pytest.approx(float(logp(point)), rel=1e-11)
    np.testing.assert_allclose(gradient[np.concatenate([place[n] for n in start])], dlogp(point), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_it_finds_the_two_that_matter():
    """60 subjects, 7 candidates, two real: those stay, the others are shrunk below what a wide prior leaves of them."""
    found = {}
    for name, prior in (("horseshoe", "{horseshoe: 0.5, global: 0.1}"), ("wide", "{median: 0, sd: 0.5}")):
        model = Model.parse(text(prior=prior).replace("{horseshoe: 1, global: 0.1}", prior))
        made = fit(model, Records.parse(data(60), model=model), seed=6, draws=1000, tune=1000, chains=2, cache=False)
        shutil.rmtree(made.tree_path.parent)
        found[name] = {p["name"]: p for p in made.diagnostics["parameters"]}
        assert made.diagnostics["max_rhat"] < 1.05
    own, wide = found["horseshoe"], found["wide"]
    assert abs(own["GW"]["mean"] - 0.75) < 3 * own["GW"]["sd"]
    assert abs(own["KA"]["mean"] - 0.3) < 3 * own["KA"]["sd"]
    assert own["KA"]["lower"] > 0.1
    for n in NAMES[1:]:
        assert own[f"K{n}"]["lower"] < 0.0 < own[f"K{n}"]["upper"]
    assert np.mean([own[f"K{n}"]["mean"] ** 2 for n in NAMES[1:]]) < 0.6 * np.mean(
        [wide[f"K{n}"]["mean"] ** 2 for n in NAMES[1:]]
    )
