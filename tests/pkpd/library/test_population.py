"""Published population figures, by the engine, within three combined standard errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.engine.build import of_dynamics
from pkpd.engine.dynamics import dynamics_of
from pkpd.engine.solve import solve
from pkpd.ground.units import Quantity
from pkpd.model.library import load
from pkpd.model.regimen import Dose, Events, Regimen
from pkpd.model.variability import individual, point, random_effects


@pytest.mark.parametrize(("dose", "printed", "large"), [(180.0, 0.745, 0.766), (135.0, 0.518, 0.549)])
def test_grade_four_neutropenia(dose: float, printed: float, large: float) -> None:
    """Share with a nadir below 0.5e9/L after 100 and 75 mg/m2 of docetaxel, 1.8 m2: models.md section 8, N = 400
    within three standard errors of both samples; the safety bar, N = 10,000, within 2 points.
    """
    model, n = load("netterberg_docetaxel"), 10_000
    draws = point(model)
    covariates = {name: np.full((1, n), c.reference) for name, c in model.covariates.items()}
    z = random_effects(model, 20261121, subject=np.arange(n), replicate=np.zeros(1, int))[:, :, 0]
    root = np.linalg.cholesky(draws.omega)
    people = individual(model, draws.typical, root, covariates, z=z)[0]
    dynamics = dynamics_of(model)
    shown = tuple(dict.fromkeys((*dynamics.states, *dynamics.outputs)))
    compiled = of_dynamics(replace(dynamics, outputs=shown, summaries=()))
    course = Regimen((Dose(amount=Quantity(dose, "mg"), into="central", duration=1.0),)).schedule(model.dose_units)
    given = {name: covariates[name][0] for name in compiled.inputs}
    times = np.arange(3.0, 22.0 * 24.0, 3.0)
    found = solve(compiled, people, Events.shared(course, n), times, covariates=given)
    assert (found.status == 0).all()
    share = float((found.values[:, shown.index("Circ")].min(axis=1) < 0.5).mean())
    error = np.sqrt(printed * (1 - printed) * (1 / 400 + 1 / n))
    assert abs(share - printed) <= 3 * error
    assert abs(share - large) <= 0.02
