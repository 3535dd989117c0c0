"""The twin's posterior against closed forms, integration on a grid, and scipy's optimiser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws, point
from pkpd.twin.case import case_of
from pkpd.twin.sequential import begun, from_prior, updated
from pkpd.twin.target import mode
from pkpd.twin.tempering import tempered
from pkpd.twin.twin import METHODS, Settings, twins

LINE = """
vtrial: model/1
name: line
parameters:
  A: {typical: 10 mg/L, scale: identity, iiv: 3, status: assumed}
  B: {typical: 0.5 mg/L/h, scale: identity, iiv: 0.4, status: assumed}
correlations: [[A, B, 0.5]]
equations: |
  Y = A + B*TIME
outputs: {LEVEL: {is: Y, error: {additive: 1.5 mg/L}}}
"""
BOLUS = """
vtrial: model/1
name: bolus
states: {central: mg}
parameters:
  CL: {typical: 5 L/h, iiv: 0.4, status: assumed}
  V: {typical: 50 L, iiv: 0.3, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*C
outputs: {CP: {is: C, error: {additive: 0.5 mg/L, proportional: 0.15}}}
"""
TIMES, SEEN = np.array([1.0, 4.0, 9.0]), np.array([8.0, 13.5, 15.0])
BOLUS_DATA = "ID,TIME,AMT,DV,EVID,CENS\nA,0,1000,.,1,0\nA,2,.,14.1,0,0\nA,12,.,7.2,0,0\nA,36,.,1.0,0,1\n"


def _line() -> tuple[Model, Records]:
    model = Model.parse(LINE)
    rows = "".join(f"\nA,{t:g},.,{y:g},0" for t, y in zip(TIMES, SEEN, strict=True))
    return model, Records.parse(f"ID,TIME,AMT,DV,EVID{rows}", model=model)


def _uncertain(model: Model, size: int, spread: tuple[float, float]) -> PopulationDraws:
    one, rng = point(model), np.random.default_rng(5)
    typical = one.typical + rng.normal(size=(size, 2)) * np.asarray(spread)
    return replace(one, typical=typical, omega=np.repeat(one.omega, size, 0), error=np.repeat(one.error, size, 0))


def _conjugate(spread: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and covariance of (A, B): Bayes' rule for a normal line (Gelman et al., BDA3, section 14.2)."""
    sd = np.array([3.0, 0.4])
    prior = np.outer(sd, sd) * np.array([[1.0, 0.5], [0.5, 1.0]]) + np.diag(np.square(spread))
    design = np.column_stack([np.ones(3), TIMES])
    precision = np.linalg.inv(prior) + design.T @ design / 1.5**2
    covariance = np.linalg.inv(precision)
    return covariance @ (np.linalg.inv(prior) @ [10.0, 0.5] + design.T @ SEEN / 1.5**2), covariance


def _values(found, model: Model, draws: PopulationDraws) -> np.ndarray:
    """(A, B) of every particle, (S, 2)."""
    c = found.case.coordinates
    return found.case.draws.typical[-1] + np.einsum("ij,sj->si", c.root, found.x[0])


@pytest.mark.parametrize("spread", [(0.0, 0.0), (2.0, 0.3)])
def test_linear_gaussian_posterior_is_the_closed_form(spread):
    model, records = _line()
    draws = _uncertain(model, 4000, spread)
    found = twins(model, records, draws, settings=Settings(particles=20_000))
    values, weight = _values(found, model, draws), found.weight[0]
    mean, covariance = _conjugate(spread)
    got = weight @ values
    sd = np.sqrt(np.diag(covariance))
    assert found.k[0] < 0.5
    tolerance = 5.0 / np.sqrt(found.ess[0]) + (0.03 if any(spread) else 0.0)  # 4,000 draws stand for the normal law
    np.testing.assert_array_less(np.abs(got - mean) / sd, tolerance)
    away = values - got
    np.testing.assert_allclose(np.einsum("s,si,sj->ij", weight, away, away) / np.outer(sd, sd),
                               covariance / np.outer(sd, sd), atol=0.08)  # fmt: skip


def test_population_uncertainty_widens_the_posterior():
    model, records = _line()
    sizes = []
    for spread in ((0.0, 0.0), (4.0, 0.8)):
        found = twins(model, records, _uncertain(model, 2000, spread), settings=Settings(particles=5000))
        values, weight = _values(found, model, None), found.weight[0]
        sizes.append(np.sqrt(weight @ (values - weight @ values) ** 2))
    assert (sizes[1] > 1.05 * sizes[0]).all()


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and sd of the two effects of the bolus patient, by a 400 x 400 grid of scipy's densities (M3)."""
    z = np.linspace(-5.0, 5.0, 400)
    a, b = np.meshgrid(z, z, indexing="ij")
    cl, v = 5.0 * np.exp(0.4 * a), 50.0 * np.exp(0.3 * b)

    def level(t: float) -> np.ndarray:
        return 1000.0 / v * np.exp(-cl / v * t)

    def sd(f: np.ndarray) -> np.ndarray:
        return np.sqrt(0.5**2 + (0.15 * f) ** 2)

    log = stats.norm.logpdf(a) + stats.norm.logpdf(b)
    for t, y in ((2.0, 14.1), (12.0, 7.2)):
        log += stats.norm.logpdf(y, level(t), sd(level(t)))
    log += stats.norm.logcdf(1.0, level(36.0), sd(level(36.0)))
    p = np.exp(log - log.max())
    p /= p.sum()
    mean = np.array([(p * a).sum(), (p * b).sum()])
    return mean, np.sqrt([(p * a**2).sum() - mean[0] ** 2, (p * b**2).sum() - mean[1] ** 2])


def _bolus():
    model = Model.parse(BOLUS)
    return model, Records.parse(BOLUS_DATA, model=model), point(model)


def test_posterior_is_that_of_a_grid_with_a_censored_level():
    found = twins(*_bolus(), settings=Settings(particles=20_000))
    mean, sd = _grid()
    got = found.weight[0] @ found.x[0]
    np.testing.assert_allclose(got, mean, atol=0.03)
    np.testing.assert_allclose(np.sqrt(found.weight[0] @ (found.x[0] - got) ** 2), sd, rtol=0.03)


def test_tempering_and_filter_and_nuts_density_reach_the_grid():
    model, records, draws = _bolus()
    mean, sd = _grid()
    case = case_of(model, records, draws)
    hot = tempered(case, 0, seed=3, particles=8000)
    assert hot.finished
    np.testing.assert_allclose(hot.particles.x.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(hot.particles.x.std(axis=0), sd, rtol=0.05)
    state = from_prior(model, records, draws, seed=4, particles=8000)
    np.testing.assert_allclose(state.weight @ state.particles.x, mean, atol=0.05)


def test_density_that_nuts_is_given_has_the_gradient_of_differences():
    from pkpd.bayes.individual import log_density

    model, records, draws = _bolus()
    density = log_density(case_of(model, records, draws), 0)
    x, step = np.array([0.3, -0.2]), 1e-4
    gradient = [(density(x + d)[0] - density(x - d)[0]) / (2 * step) for d in step * np.eye(2)]
    np.testing.assert_allclose(density(x)[1], gradient, rtol=1e-3)


@pytest.mark.slow
def test_nuts_reaches_the_grid():
    from pkpd.bayes.individual import sampled

    model, records, draws = _bolus()
    draw, x, ess, said = sampled(case_of(model, records, draws), 0, seed=1, particles=2000)
    mean, sd = _grid()
    assert not said
    assert ess > 400
    assert (draw == 0).all()
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.12)
    np.testing.assert_allclose(x.std(axis=0), sd, rtol=0.12)


def test_map_is_that_of_scipy_minimise():
    model, records, draws = _bolus()
    case = case_of(model, records, draws)
    found = mode(case, seed=1)

    def negative(z):
        cl, v = 5.0 * np.exp(0.4 * z[0]), 50.0 * np.exp(0.3 * z[1])
        f = 1000.0 / v * np.exp(-cl / v * np.array([2.0, 12.0, 36.0]))
        s = np.sqrt(0.5**2 + (0.15 * f) ** 2)
        return -(stats.norm.logpdf(z).sum() + stats.norm.logpdf([14.1, 7.2], f[:2], s[:2]).sum()
                 + stats.norm.logcdf(1.0, f[2], s[2]))  # fmt: skip

    best = optimize.minimize(negative, np.zeros(2), method="BFGS")
    np.testing.assert_allclose(found.x[0], best.x, atol=2e-3)
    np.testing.assert_allclose(found.value[0], -best.fun, atol=1e-5)
    np.testing.assert_allclose(found.covariance[0], best.hess_inv, atol=0.01)


def test_a_patient_is_the_same_alone_and_among_others():
    model, _, draws = _bolus()
    other = BOLUS_DATA.replace("A,", "B,").replace("14.1", "9.5").split("\n", 1)[1]
    several = twins(model, Records.parse(BOLUS_DATA + other, model=model), draws)
    whole = "ID,TIME,AMT,DV,EVID,CENS\n" + other + BOLUS_DATA.split("\n", 1)[1]
    both = twins(model, Records.parse(whole, model=model), draws)
    alone = twins(model, Records.parse(BOLUS_DATA, model=model), draws)
    for found, row in ((several, 0), (both, 1)):
        assert np.array_equal(found.weight[row], alone.weight[0])
        assert np.array_equal(found.x[row], alone.x[0])


def test_a_second_mode_is_found_by_tempering():
    """y = B^2 observed: two modes by symmetry, the optimiser sees one; each must hold half of the mass."""
    text = LINE.replace("A + B*TIME", "A + K*B^2*TIME").replace("correlations: [[A, B, 0.5]]\n", "")
    text = text.replace("typical: 0.5 mg/L/h, scale: identity, iiv: 0.4", "typical: 0 mg/L/h, scale: identity, iiv: 2")
    text = text.replace("equations:", "  K: {typical: 1 L*h/mg, status: assumed}\nequations:")
    model = Model.parse(text.replace("iiv: 3", "iiv: 0.5"))
    rows = "".join(f"\nA,{t:g},.,{10 + 4 * t:g},0" for t in (1.0, 2.0, 4.0, 8.0, 16.0))
    records = Records.parse(f"ID,TIME,AMT,DV,EVID{rows}", model=model)
    found = twins(model, records, point(model), settings=Settings(particles=4000))
    b = found.x[0, :, 1]
    assert abs(found.weight[0][b > 0].sum() - 0.5) < 0.06
    assert found.ok(0)


def test_another_round_does_not_hide_that_there_are_two_modes():
    """Squares again, with so many effective draws wanted that both rounds and tempering are tried."""
    text = LINE.replace("A + B*TIME", "A + K*B^2*TIME").replace("correlations: [[A, B, 0.5]]\n", "")
    text = text.replace("typical: 0.5 mg/L/h, scale: identity, iiv: 0.4", "typical: 0 mg/L/h, scale: identity, iiv: 2")
    text = text.replace("equations:", "  K: {typical: 1 L*h/mg, status: assumed}\nequations:").replace(
        "iiv: 3", "iiv: 0.5"
    )
    model, rows = Model.parse(text), "".join(f"\nA,{t:g},.,{10 + 4 * t:g},0" for t in (1.0, 2.0, 4.0, 8.0, 16.0))
    records = Records.parse(f"ID,TIME,AMT,DV,EVID{rows}", model=model)
    methods = []
    for least in (1.0, 395.0):
        found = twins(model, records, point(model), settings=Settings(particles=400, least_ess=least, nuts=False))
        methods.append(METHODS[found.method[0]])
        assert any("the posterior has 2 modes" in said for said in found.warnings[0]), found.warnings
    assert methods[0] == "importance sampling" != methods[1]


def test_updates_one_by_one_or_together_are_the_same_bits():
    model, records, draws = _bolus()
    lines = BOLUS_DATA.strip().split("\n")
    state = begun(twins(model, Records.parse("\n".join(lines[:3]), model=model), draws), draws)
    first = updated(updated(state, Records.parse("\n".join(lines[:4]), model=model)), records)
    once = updated(state, records)
    assert np.array_equal(first.particles.x, once.particles.x)
    np.testing.assert_allclose(first.particles.log_weight, once.particles.log_weight, rtol=1e-12)
    assert [u.previous for u in first.log[1:]] == [u.digest for u in first.log[:-1]]


def test_a_changed_past_is_refused():
    model, records, draws = _bolus()
    state = begun(twins(model, records, draws), draws)
    for old, new in (("14.1", "14.2"), ("1000", "500")):
        with pytest.raises(InputError, match="has changed"):
            updated(state, Records.parse(BOLUS_DATA.replace(old, new) + "A,40,.,1.0,0,0\n", model=model))


def test_the_door_gives_functions_whatever_was_imported_before():
    """A module of the same name would hide a function once it is imported."""
    from importlib import import_module
    from pkgutil import iter_modules

    import pkpd.twin

    for module in iter_modules(pkpd.twin.__path__):
        import_module(f"pkpd.twin.{module.name}")
    assert all(callable(getattr(pkpd.twin, name)) for name in pkpd.twin.__all__)
    assert sorted(pkpd.twin.__all__) == list(pkpd.twin.__all__)
