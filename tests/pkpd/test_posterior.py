"""The posterior artefact: round trip, tampering, combination with a text, median; the residual error."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pkpd.ground.errors import InputError, RunFailed
from pkpd.ground.units import Quantity
from pkpd.model.library import load
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws, published
from pkpd.posterior import Posterior, combine, draws_digest, median, read, require_sound, write
from pkpd.residual import CombinedError, error_of, observe, sd

TRIAL = """vtrial: model/1
name: trial
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 0.25 1/h, se: 0.10, iiv: 0.2, status: assumed}
  V:  {typical: 30 L, iiv: 0.5, status: assumed}
  CL: {typical: 3 L/h, iiv: 0.5, status: assumed}
  EC: {typical: 11 mg/L, se: 0.2, iiv: 0.3, status: assumed}
correlations: [[CL, EC, 0.4]]
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
  E = C/(EC + C)
outputs: {CP: {is: C, error: {additive: 0.3 mg/L, proportional: 0.1}}, EF: {is: E, error: {additive: 0.1 1}}}
"""


def fitted(size: int = 300) -> Posterior:
    """Made-up draws of the library model: typical values and covariances that differ from row to row."""
    rng = np.random.default_rng(4)
    model = load("theophylline")
    cl, v = 2.8 * np.exp(0.09 * rng.normal(size=size)), 32.0 * np.exp(0.05 * rng.normal(size=size))
    root = np.tril(0.1 * rng.normal(size=(size, 3, 3))) + 0.3 * np.eye(3)
    draws = PopulationDraws(
        names=("KA", "CL", "V"),
        typical=np.stack([cl / v + 1.4 * np.exp(0.2 * rng.normal(size=size)), cl, v], axis=1),
        eta_names=("KA", "CL", "V"),
        omega=root @ root.transpose(0, 2, 1),
        error_names=("CP.additive", "CP.proportional"),
        error=np.abs(rng.normal(0.3, 0.05, (size, 2))),
    )
    return Posterior(draws=draws, model=model, diagnostics={"ok": True, "verdict": "fine"}, data="d")


def test_round_trip_is_exact(tmp_path):
    posterior = fitted()
    stored = read(write(posterior, tmp_path / "p.parquet"))
    assert stored.digest == posterior.digest
    assert stored.model.to_dict() == posterior.model.to_dict()
    assert stored.diagnostics == posterior.diagnostics
    for name in ("typical", "omega", "error"):
        np.testing.assert_array_equal(getattr(stored.draws, name), getattr(posterior.draws, name))


def test_digest_sees_every_value_and_the_model():
    posterior = fitted()
    typical = posterior.draws.typical.copy()
    typical[17, 1] = np.nextafter(typical[17, 1], 9.0)
    changed = replace(posterior, draws=replace(posterior.draws, typical=typical))
    assert changed.digest != posterior.digest
    other = Model.parse(TRIAL)
    assert replace(posterior, model=other).digest != posterior.digest
    assert replace(posterior, data="e").digest != posterior.digest
    assert replace(posterior, diagnostics={}).digest == posterior.digest


def test_a_changed_file_is_refused(tmp_path):
    path = write(fitted(), tmp_path / "p.parquet")
    table = pq.read_table(path)
    values = table["typical.CL"].to_numpy().copy()
    values[0] *= 1.01
    place = table.schema.get_field_index("typical.CL")
    pq.write_table(table.set_column(place, "typical.CL", [values]), path)
    with pytest.raises(InputError, match="do not match its digest"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1xxxxPAR1"])
def test_what_is_no_posterior_is_refused(tmp_path, content):
    path = tmp_path / "p.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a posterior"):
        read(path)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "absent.parquet")


def test_combine_takes_rows_whole_and_the_rest_from_the_text():
    """CL, V: typical values, variances and their covariance of one posterior row; KA, EC as published by address."""
    model, posterior = Model.parse(TRIAL), fitted()
    made = combine(model, posterior, ["CL", "V"], draws=200, seed=11)
    assert made.names == ("KA", "V", "CL", "EC")
    assert made.eta_names == ("KA", "V", "CL", "EC")
    source = {tuple(x): i for i, x in enumerate(posterior.draws.typical[:, 1:])}
    rows = np.array([source[(cl, v)] for v, cl in made.typical[:, 1:3]])
    assert len(set(rows)) == 200  # each once before any is used again
    omega = posterior.draws.omega[rows]
    np.testing.assert_array_equal(made.omega[:, 2, 2], omega[:, 1, 1])
    np.testing.assert_array_equal(made.omega[:, 1, 1], omega[:, 2, 2])
    np.testing.assert_array_equal(made.omega[:, 1, 2], omega[:, 1, 2])
    text = published(model, 200, 11)
    np.testing.assert_array_equal(made.typical[:, [0, 3]], text.typical[:, [0, 3]])
    np.testing.assert_array_equal(made.omega[:, 0], text.omega[:, 0])
    np.testing.assert_array_equal(made.error, text.error)
    correlation = made.omega[:, 2, 3] / np.sqrt(made.omega[:, 2, 2] * made.omega[:, 3, 3])
    np.testing.assert_allclose(correlation, 0.4, rtol=1e-12)
    np.testing.assert_array_equal(made.omega, made.omega.transpose(0, 2, 1))


def test_combine_is_deterministic_by_address_and_cycles():
    model, posterior = Model.parse(TRIAL), fitted(50)
    one, two = (combine(model, posterior, ["CL"], draws=120, seed=s) for s in (1, 1))
    assert draws_digest(one) == draws_digest(two)
    assert draws_digest(one) != draws_digest(combine(model, posterior, ["CL"], draws=120, seed=2))
    counts = np.unique(one.typical[:, 2], return_counts=True)[1]
    assert len(counts) == 50
    assert set(counts) == {2, 3}
    np.testing.assert_array_equal(combine(model, posterior, ["CL"], draws=30, seed=1).typical, one.typical[:30])


@pytest.mark.parametrize(
    ("old", "new", "take", "problem"),
    [
        ("", "", ["CLL"], "no such parameter in the model"),
        ("", "", ["EC"], "the fit has no such parameter"),
        ("", "", ["KA"], "differ in its floor"),
        ("V:  {typical: 30 L, iiv: 0.5", "V:  {typical: 30 L", ["V"], "differ in its between-subject variability"),
    ],
)
def test_combine_refuses_parameters_that_are_not_the_same(old, new, take, problem):
    with pytest.raises(InputError, match=problem):
        combine(Model.parse(TRIAL.replace(old, new)), fitted(), take, draws=5, seed=1)


def test_combine_refuses_another_unit():
    posterior = fitted()
    parameters = dict(posterior.model.parameters)
    parameters["V"] = replace(parameters["V"], typical=Quantity(32000.0, "mL"))
    other = replace(posterior, model=replace(posterior.model, parameters=parameters))
    with pytest.raises(InputError, match="differ in its unit"):
        combine(Model.parse(TRIAL), other, ["V"], draws=5, seed=1)


def test_combine_keeps_floors():
    """Taking CL from a fit may lift the floor above a published KA: refused, not clipped."""
    model = load("theophylline")
    posterior = fitted()
    fast = replace(posterior, draws=replace(posterior.draws, typical=posterior.draws.typical * [1.0, 100.0, 1.0]))
    with pytest.raises(InputError, match="falls below its floor"):
        combine(model, fast, ["CL"], draws=20, seed=1)
    whole = combine(model, posterior, ["KA", "CL", "V"], draws=20, seed=1)
    assert (whole.typical[:, 0] > whole.typical[:, 1] / whole.typical[:, 2]).all()


def test_median_is_one_draw():
    draws = fitted().draws
    middle = median(draws)
    assert len(middle) == 1
    np.testing.assert_array_equal(middle.typical[0], np.median(draws.typical, axis=0))
    np.testing.assert_array_equal(middle.omega[0], np.median(draws.omega, axis=0))
    np.testing.assert_array_equal(middle.error[0], np.median(draws.error, axis=0))


def test_median_covariance_is_made_positive_definite_and_said_so(caplog):
    """Three singular matrices whose elementwise median has correlations 0.9, 0.9, -0.9: no covariance matrix."""
    base = fitted(3)

    def of(a: float, b: float, c: float) -> np.ndarray:
        return np.array([[1.0, a, b], [a, 1.0, c], [b, c, 1.0]])

    omega = np.stack([of(0.9, 0.9, 0.9), of(0.9, -0.9, -0.9), of(-0.9, 0.9, -0.9)])
    draws = replace(base.draws, omega=omega)
    assert np.linalg.eigvalsh(np.median(omega, axis=0))[0] < 0
    with caplog.at_level(logging.WARNING):
        middle = median(draws)
    assert "not positive definite" in caplog.text
    assert np.linalg.eigvalsh(middle.omega[0])[0] > 0
    np.testing.assert_array_equal(middle.omega[0], middle.omega[0].T)


def test_an_unsound_fit_is_refused_unless_forced(caplog):
    bad = replace(fitted(), diagnostics={"ok": False, "verdict": "7 divergent transitions: raise target_accept."})
    with pytest.raises(RunFailed, match=r"refused\. 7 divergent transitions"):
        require_sound(bad)
    with caplog.at_level(logging.WARNING):
        require_sound(bad, force=True)
    assert "by force" in caplog.text
    require_sound(fitted())
    with pytest.raises(RunFailed, match="no diagnostics"):
        require_sound(replace(fitted(), diagnostics={}))


def test_residual_error_is_combined():
    """sd = sqrt(a^2 + (b f)^2), at f = 0, 3, 4 by hand; NaN stays NaN."""
    error = CombinedError(additive=0.3, proportional=0.1)
    np.testing.assert_allclose(sd(error, [0.0, 4.0]), [0.3, 0.5])
    np.testing.assert_allclose(observe(error, [0.0, 4.0], [2.0, -1.0]), [0.6, 3.5])
    assert np.isnan(observe(error, np.nan, 1.0))
    model, draws = load("theophylline"), fitted(3).draws
    found = error_of(model, draws, "CP")
    np.testing.assert_array_equal(found.additive, draws.error[:, 0])
    np.testing.assert_array_equal(found.proportional, draws.error[:, 1])
    assert error_of(model, replace(draws, error_names=("CP.additive", "OTHER.proportional")), "CP").proportional == 0.0


def test_no_sampler_is_loaded():
    """Workers read posteriors: pymc, pytensor, nutpie, arviz stay out of the process."""
    code = (
        "import sys, pkpd.posterior, pkpd.bayes; "
        "print([n for n in ('pymc', 'pytensor', 'nutpie', 'arviz', 'arviz_stats') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
