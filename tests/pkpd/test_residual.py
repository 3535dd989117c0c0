"""Residual error. Witness: scipy.stats' densities and quantiles; integral of every density is 1."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from pkpd.model.spec import Model
from pkpd.model.variability import point
from pkpd.residual import CombinedError, correlated, correlation_root, error_of, log_density, observe, sd, taken

F = 3.0
LAWS = {
    "additive": (CombinedError(additive=0.4), stats.norm(F, 0.4)),
    "combined": (CombinedError(additive=0.3, proportional=0.1), stats.norm(F, np.hypot(0.3, 0.3))),
    "sum": (CombinedError(additive=0.3, proportional=0.1, sum_of_sd=True), stats.norm(F, 0.6)),
    "power": (CombinedError(power=0.2, exponent=0.5), stats.norm(F, 0.2 * np.sqrt(F))),
    "log": (CombinedError(log=0.25), stats.lognorm(0.25, scale=F)),
    "t": (CombinedError(additive=0.4, t=4.0), stats.t(4, F, 0.4)),
    "log t": (CombinedError(log=0.25, t=5.0), None),
    "beta": (CombinedError(precision=20.0, upper=10.0), stats.beta(6, 14, scale=10)),
}


@pytest.mark.parametrize("name", LAWS)
def test_density_and_simulation_agree_with_the_law(name: str) -> None:
    error, law = LAWS[name]
    low, high = (1e-9, 10 - 1e-9) if name == "beta" else (1e-12, 400.0) if "log" in name else (-200.0, 200.0)
    total, _ = integrate.quad(
        lambda y: float(np.exp(log_density(error, F, y))), low, high, points=[1.5, F, 4.5], limit=500
    )
    assert total == pytest.approx(1.0, abs=1e-5)
    z = np.linspace(-3, 3, 13)
    y = observe(error, F, z)
    if law is None:
        np.testing.assert_allclose(np.log(y / F), 0.25 * stats.t.ppf(stats.norm.cdf(z), 5), rtol=1e-9, atol=1e-12)
        return
    np.testing.assert_allclose(y, law.ppf(stats.norm.cdf(z)), rtol=1e-9)
    np.testing.assert_allclose(log_density(error, F, y), law.logpdf(y), rtol=1e-9)


def test_what_cannot_be_is_impossible_and_what_failed_stays_missing() -> None:
    assert log_density(CombinedError(log=0.2), 1.0, -1.0) == -np.inf
    assert log_density(CombinedError(precision=5.0), 0.5, 1.5) == -np.inf
    for error, _ in LAWS.values():
        assert np.isnan(observe(error, np.nan, 0.3))
    assert np.isnan(observe(CombinedError(precision=5.0), 1.5, 0.0))


TEXT = """
vtrial: model/1
name: errors
states: {A: mg}
parameters: {K: {typical: 1 1/h, status: assumed}}
equations: d/dt(A) = -K*A
outputs:
  A1: {is: A, error: {additive: 0.3 mg, proportional: 0.1, power: {typical: 0.2, exponent: 0.5}, combine: sd, t: 6}}
  A2: {is: A, error: {log: 0.2}}
  A3: {is: A, error: {beta: {precision: 80, upper: 70}}}
residual_correlations: [[A1, A2, 0.6]]
"""


def test_the_errors_of_a_text() -> None:
    model = Model.parse(TEXT)
    draws = point(model)
    assert draws.error_names == ("A1.additive", "A1.proportional", "A1.power", "A2.log")
    first, second, third = (error_of(model, draws, name) for name in model.outputs)
    assert sd(taken(first, np.zeros(2, np.int64), (1,)), np.array([[4.0], [9.0]])).tolist() == [[1.1], [1.8]]
    assert first.t == 6.0
    assert (second.is_log, float(sd(second, 5.0)[0])) == (True, 0.2)
    assert (third.precision, third.upper) == (80.0, 70.0)


def test_correlated_errors() -> None:
    z = correlated(correlation_root(Model.parse(TEXT)), np.random.default_rng(1).standard_normal((3, 100_000)))
    np.testing.assert_allclose(np.corrcoef(z), [[1, 0.6, 0], [0.6, 1, 0], [0, 0, 1]], atol=0.015)
