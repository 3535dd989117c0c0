"""Structures of the library in a fit: the density of each is finite, and its gradient that of differences.

Priors are put on each model's own typical values, variability and residual error (log-normal 0.2 where the text has
none); six subjects, simulated. What a fit does not run is refused in a sentence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pkpd import library
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design, measured_outputs
from pkpd.bayes.plan import plan
from pkpd.ground.errors import InputError
from pkpd.model.library import load
from pkpd.model.records import Records
from pkpd.model.spec import Model

SIGMOID = """
vtrial: model/1
name: sigmoid
states: {depot: mg, central: mg, site: mg/L, R: "1"}
parameters:
  KA:   {typical: 1.1 1/h, iiv: 0.3, status: assumed}
  VM:   {typical: 12 mg/h, iiv: 0.3, status: assumed}
  KM:   {typical: 2 mg/L, status: assumed}
  V:    {typical: 20 L, iiv: 0.2, status: assumed}
  KE0:  {typical: 0.3 1/h, status: assumed}
  EMAX: {typical: 2 1, status: assumed}
  EC50: {typical: 1.5 mg/L, iiv: 0.4, status: assumed}
  H:    {typical: 1.7 1, status: assumed}
  KOUT: {typical: 0.1 1/h, status: assumed}
  R0:   {typical: 50 1, iiv: 0.1, status: assumed}
  LAG:  {typical: 0.4 h, status: assumed}
equations: |
  C = central/V
  E = EMAX*site^H/(EC50^H + site^H)
  R(0) = R0
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - VM*C/(KM + C)
  d/dt(site) = KE0*(C - site)
  d/dt(R) = KOUT*R0 - KOUT*(1 + E)*R
doses: {depot: {lag: LAG}}
outputs: {CP: {is: C}, RESP: {is: R}}
"""
STUDIES = {
    "djebli_alirocumab": ("depot", "150", (24, 96, 240, 500), "adjoint"),  # target-mediated, quasi-steady state
    "kovalenko_dupilumab": ("depot", "600", (24, 96, 240, 800), "sensitivities"),  # transits, steep saturation
    "sigmoid": ("depot", "200", (1, 4, 12, 30), "adjoint"),  # saturable, effect compartment, sigmoid turnover
    "w4": ("central", "100", (1, 3, 190, 400), "adjoint"),  # Friberg with Emax behind two compartments
    "netterberg_docetaxel": ("central", "100", (1, 3, 190, 400), "adjoint"),  # Friberg, covariates in the equations
    "w3": ("L", "5", (24, 240, 500, 1500), "sensitivities"),  # target-mediated, stiff
}
REFUSED = {
    "hamberg_warfarin": "shared etas",
    "nicolas_alirocumab_ldl": "shared etas",
    "w1": "needs a prior",
}


def fitted(name: str) -> Model:
    """The text with a prior on everything that a fit estimates."""
    path = Path(library.__path__[0]) / f"{name}.yaml"
    text: dict[str, Any] = yaml.safe_load(SIGMOID if name == "sigmoid" else path.read_text(encoding="utf-8"))
    for p in text["parameters"].values():
        if p.get("scale", "log") == "log":
            p["prior"] = {"median": float(str(p["typical"]).split()[0]), "sd": 0.5}
        if "iiv" in p:
            p["iiv"] = {"typical": p["iiv"], "prior": 0.5}
        p.pop("note", None)
    for output in list(text["outputs"].values())[:2]:
        error = output.setdefault("error", {"log": 0.2})
        output["error"] = {kind: {"typical": term, "prior": term} for kind, term in error.items()}
    for part in ("golden", "domain", "summaries", "events"):
        text.pop(part, None)
    return Model.parse(yaml.safe_dump(text, sort_keys=False))


def study(model: Model, name: str) -> Records:
    """One dose; four samples of the first two outputs, values 1 until predictions are known."""
    state, amount, times, _ = STUDIES[name]
    covariates = {n: c.reference for n, c in model.covariates.items()}
    outputs = [n for n, o in list(model.outputs.items())[:2] if o.error is not None]
    rows = []
    for i in range(1, 7):
        own = [str(v) for v in covariates.values()]
        rows.append([str(i), "0", amount, state, ".", "1", ".", *own])
        rows += [[str(i), str(t + i), ".", ".", "1", "0", o, *own] for t in times for o in outputs]
    head = ["ID", "TIME", "AMT", "CMT", "DV", "EVID", "DVID", *covariates]
    return Records.parse("\n".join(",".join(r) for r in [head, *rows]) + "\n", model=model)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_density_and_gradient(name):
    model = fitted(name)
    records = study(model, name)
    made, how = design(model, records), plan(model, measured_outputs(model, records))
    assert made.family.name == "ode"
    assert STUDIES[name][3] in made.family.about["solver"]
    tight = {**made.family.arrays, "ode_settings": np.array([1e-9, 1e-11, 20_000])}
    made, rng = replace(made, family=replace(made.family, arrays=tight)), np.random.default_rng(1)
    law = density(how, made)
    x = somewhere(law, rng)
    found = law.predictions(x)
    assert np.isfinite(found).all()
    law = density(how, replace(made, dv=np.maximum(found, 1e-3) * np.exp(0.1 * rng.normal(size=len(found)))))
    total, gradient = law(x)
    assert np.isfinite(total)
    for direction in rng.normal(size=(6, len(x))):
        sides = [law(x + h * direction)[0] for h in (1e-4, -1e-4, 2e-4, -2e-4)]
        slope = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / 12e-4
        assert gradient @ direction == pytest.approx(slope, rel=1e-5, abs=1e-5 * np.abs(gradient).max())


def somewhere(law: Density, rng: np.random.Generator) -> np.ndarray:
    """Near the typical values, sds of effects 0.2, individuals apart."""
    layout = law.layout
    n_t, q, n_p, n_e = layout.sizes
    x = 0.1 * rng.normal(size=layout.size)
    x[:n_t] += [p.location for p in layout.plan.typical.values()]
    x[n_t : n_t + q] = np.log(0.2)
    x[n_t + q + n_p : n_t + q + n_p + n_e] = [np.log(p.scale) for p in layout.plan.error.values()]
    x[layout.population :] = rng.normal(size=layout.size - layout.population)
    return x


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_fitted_is_said(name):
    model = load(name)
    with pytest.raises(InputError, match=REFUSED[name]):
        plan(model, list(model.outputs)[-1])
