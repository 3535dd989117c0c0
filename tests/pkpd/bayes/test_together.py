"""Correlated residual errors: joint densities against SciPy, gradients, the PyMC model, pairing, simulation, refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import integrate, special, stats

from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design, measured_outputs
from pkpd.bayes.plan import plan
from pkpd.bayes.predictive import studies
from pkpd.ground.errors import InputError
from pkpd.model import together
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import point
from pkpd.posterior import Posterior

TEXT = """
vtrial: model/1
name: pairs
states: {central: mg}
parameters:
  CL: {typical: 2 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 2, sd: 1}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 20, sd: 1}, status: assumed}
equations: |
  C = central/V
  D = 2*C
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {additive: {typical: 0.2 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}, lloq: 0.5 mg/L}
  CD: {is: D, error: {log: {typical: 0.2, prior: 0.5}}}
  CU: {is: C, error: {proportional: {typical: 0.2, prior: 0.5}}}
residual_correlations: [[CP, CD, 0.5], [CP, CU, 0.3], [CD, CU, -0.2]]
sigma: {block: [CP, CD, CU], lkj: 1.5}
"""
DATA = """ID,TIME,AMT,DV,EVID,DVID,CENS,LIMIT
1,0,100,.,1,.,.,.
1,1,.,4.1,0,CP,0,.
1,1,.,9.9,0,CD,0,.
1,1,.,4.0,0,CU,0,.
1,2,.,3.9,0,CP,0,.
1,2,.,4.4,0,CU,0,.
1,2,.,4.1,0,CP,0,.
1,4,.,3.0,0,CP,-1,.
1,4,.,6.5,0,CD,0,.
1,6,.,2.0,0,CU,0,.
1,24,.,0.5,0,CP,1,.
1,24,.,1.1,0,CD,1,.
2,0,80,.,1,.,.,.
2,3,.,5.0,0,CD,0,.
2,3,.,2.5,0,CU,1,2.0
2,20,.,0.5,0,CP,1,.
2,20,.,1.5,0,CD,1,0.8
2,20,.,0.9,0,CU,0,.
"""
GROUPS = [(0, 1, 2), (3, 4), (6, 7), (9, 10), (11, 12), (13, 14, 15)]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.parse(TEXT)


@pytest.fixture(scope="module")
def records(model) -> Records:
    return Records.parse(DATA, model=model)


@pytest.fixture(scope="module")
def made(model, records) -> Density:
    return density(plan(model, measured_outputs(model, records)), design(model, records))


def somewhere(found: Density, seed: int = 1) -> np.ndarray:
    x = 0.2 * np.random.default_rng(seed).normal(size=found.layout.size)
    x[:2] += np.log([2.0, 20.0])
    x[2 : found.layout.ties.start] -= 1.2
    return x


def laws(found: Density, records: Records, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre and sd of every row, and the correlations of its output with those of all rows."""
    f, named = found.predictions(x), found.layout.named(x)
    output = records.output
    s = np.choose(output, [
        np.sqrt(named["CP_additive"] ** 2 + (named["CP_proportional"] * f) ** 2), np.full(len(f), named["CD_log"]),
        named["CU_proportional"] * f,
    ])  # fmt: skip
    names = ["CP", "CD", "CU"]
    r = np.eye(3)
    for i in range(3):
        for j in range(i):
            r[i, j] = r[j, i] = named[f"residual_corr_{names[j]}_{names[i]}"]
    return np.where(output == 1, np.log(f), f), s, r[np.ix_(output, output)]


def expected(found: Density, records: Records, x: np.ndarray) -> np.ndarray:
    """Log density of every group by SciPy: multivariate normal of what was measured, then the conditional law."""
    m, s, r = laws(found, records, x)
    logs = records.output == 1
    y = np.where(logs, np.log(records.dv), records.dv)
    low = np.where(logs, np.log(np.maximum(records.floor, 1e-300)), records.floor)
    bounds = [
        (y[k], np.inf) if records.over[k] else (low[k] if records.floor[k] > -np.inf else -np.inf, y[k])
        for k in range(len(y))
    ]
    rows = []
    for group in GROUPS:
        g = np.array(group)
        odd = (records.below | records.over)[g]
        a, c = g[~odd], g[odd]
        cov = r * np.outer(s, s)
        value, mean, left = 0.0, m[c], cov[np.ix_(c, c)]
        if len(a):
            value = stats.multivariate_normal(m[a], cov[np.ix_(a, a)]).logpdf(y[a]) - y[a][logs[a]].sum()
            gain = cov[np.ix_(c, a)] @ np.linalg.inv(cov[np.ix_(a, a)])
            mean, left = m[c] + gain @ (y[a] - m[a]), left - gain @ cov[np.ix_(a, c)]
        if len(c):
            value += np.log(rectangle([bounds[k] for k in c], mean, left))
        rows.append(value)
    return np.array(rows)


def rectangle(bounds, mean, cov) -> float:
    """P of one or two normals within bounds, by QUADPACK over the first."""
    sd = np.sqrt(cov[0, 0])
    (lo, hi) = bounds[0]
    if len(mean) == 1:
        return between((lo - mean[0]) / sd, (hi - mean[0]) / sd)
    b, left = cov[0, 1] / cov[0, 0], np.sqrt(cov[1, 1] - cov[0, 1] ** 2 / cov[0, 0])

    def inner(x):
        own = mean[1] + b * (x - mean[0])
        return stats.norm.pdf(x, mean[0], sd) * between((bounds[1][0] - own) / left, (bounds[1][1] - own) / left)

    ends = max(lo, min(mean[0], hi) - 12 * sd), min(hi, max(mean[0], lo) + 12 * sd)
    return integrate.quad(inner, *ends, epsabs=0.0, epsrel=1e-12, limit=500)[0]


def between(a: float, b: float) -> float:
    """P(a < Z < b) in the tail where it keeps its digits."""
    return special.ndtr(-a) - special.ndtr(-b) if a > 0 else special.ndtr(b) - special.ndtr(a)


def test_rows_measured_together_share_subject_time_and_rank(model, records):
    """By hand: the k-th of an output goes with the k-th of the others, (5) and (8) are left over; a dose in between
    puts the values after it together.
    """
    found = [tuple(g[g >= 0].tolist()) for g in together.groups(model, records)]
    assert sorted(found) == GROUPS
    late = Records.parse(DATA.replace("1,2,.,4.4,0,CU,0,.\n", "1,2,10,.,1,.,.,.\n1,2,.,4.4,0,CU,0,.\n"), model=model)
    found = [tuple(g[g >= 0].tolist()) for g in together.groups(model, late)]
    assert sorted(found) == [(0, 1, 2), (5, 4), *GROUPS[2:]]


@pytest.mark.slow  # compiles; the kernel alone: tests/pkpd/kernels/test_together.py
def test_joint_density_is_that_of_scipy(made, records):
    for seed in (1, 2, 3):
        x = somewhere(made, seed)
        rows = made.by_row(x)
        np.testing.assert_allclose(rows[[g[0] for g in GROUPS]], expected(made, records, x), rtol=1e-9)
        assert not rows[[k for g in GROUPS for k in g[1:]]].any()
        m, s, _ = laws(made, records, x)
        np.testing.assert_allclose(rows[[5, 8]], stats.norm(m, s).logpdf(records.dv)[[5, 8]], rtol=1e-12)


@pytest.mark.slow
def test_gradient_is_the_central_difference(made):
    for seed in (1, 2):
        x = somewhere(made, seed)
        exact = made(x)[1]
        for k in range(len(x)):
            h = 3e-4 * np.eye(len(x))[k]
            far = (8 * (made(x + h)[0] - made(x - h)[0]) - made(x + 2 * h)[0] + made(x - 2 * h)[0]) / 36e-4
            assert exact[k] == pytest.approx(far, rel=1e-6, abs=1e-6), (seed, k)


@pytest.mark.slow
def test_it_is_the_pymc_model(made, model, records):
    """Value and gradient of `population_model`, which goes through a Cholesky factor instead: relative 1e-10."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pkpd.bayes.likelihood import population_model

        built = population_model(made.layout.plan, design(model, records))
        start = built.initial_point()
        places = _places(made)
        assert set(places) == set(start)
        logp, dlogp = built.compile_logp(mode="NUMBA"), built.compile_dlogp(mode="NUMBA")
        for seed in (1, 2, 3):
            x = somewhere(made, seed)
            where = {name: x[places[name]].reshape(np.shape(start[name])) for name in start}
            value, gradient = made(x)
            assert value == pytest.approx(float(logp(where)), rel=1e-10)
            flat, at = np.empty(len(x)), 0
            for name, own in start.items():
                flat[places[name]] = dlogp(where)[at : at + np.size(own)]
                at += np.size(own)
            np.testing.assert_allclose(flat, gradient, rtol=1e-8, atol=1e-8)


def _places(found: Density) -> dict[str, slice]:
    """Place in our vector of each value variable of the PyMC model."""
    layout = found.layout
    names = list(layout.named(np.zeros(layout.size)))
    labels = names[: layout.ties.start]
    made = {n if n.startswith("log_") else f"{n}_log__": slice(k, k + 1) for k, n in enumerate(labels)}
    partial = [n for n in names if n.startswith("residual_partial")]
    made |= {f"{n}_logodds__": slice(layout.ties.start + k, layout.ties.start + k + 1) for k, n in enumerate(partial)}
    at = layout.population
    for name in layout.plan.spread:
        made[f"z_{name}"] = slice(at, at + layout.subjects)
        at += layout.subjects
    return made


@pytest.mark.slow
def test_without_correlation_it_is_the_density_of_independent_rows(made, model, records):
    """At r = 0 the law is that of the text without sigma, but for the prior of the correlations; 1e-12."""
    plain = Model.parse(TEXT.partition("residual_correlations")[0])
    alone = density(plan(plain, measured_outputs(plain, records)), design(plain, records))
    x = somewhere(made)
    x[made.layout.ties] = 0.0
    shapes = (2.0, 2.0, 1.5)  # LKJ(1.5) of three: partial correlations are 2 Beta(b, b) - 1, b by column
    prior = sum(stats.beta(b, b).logpdf(0.5) + np.log(0.25) for b in shapes)
    value, gradient = made(x)
    other, slope = alone(np.delete(x, np.r_[made.layout.ties]))
    assert value - prior == pytest.approx(other, rel=1e-12)
    np.testing.assert_allclose(np.delete(gradient, np.r_[made.layout.ties]), slope, rtol=1e-10, atol=1e-10)


def test_a_part_of_a_block_has_the_margin_of_its_prior(model, records):
    """Two of three outputs measured: LKJ(1.5) of three has margins 2 Beta(2, 2) - 1, the LKJ(2) of two."""
    found = plan(model, ["CP", "CU"])
    assert found.sigma == ((("CP", "CU"), 2.0),)
    assert found.priors["residual_corr_CP_CU"].quantile(0.9) == pytest.approx(2 * stats.beta(2, 2).ppf(0.9) - 1)


def test_simulated_studies_have_the_correlations(model):
    """The predictive draws of 4000 studies: correlations of log y - log f over rows measured together and not."""
    text = TEXT.replace("iiv: {typical: 0.3, prior: 0.5}, ", "iiv: {typical: 1e-6, prior: 0.5}, ").replace(
        "iiv: {typical: 0.2, prior: 0.5}, ", "iiv: {typical: 1e-6, prior: 0.5}, "
    )
    quiet = Model.parse(text)
    data = "ID,TIME,AMT,DV,EVID,DVID\n1,0,100,.,1,.\n" + "".join(
        f"1,{t},.,1,0,{o}\n" for t, o in [(1, "CP"), (1, "CD"), (1, "CU"), (2, "CD"), (3, "CU")]
    )
    number = np.arange(4000)
    y = studies(
        Posterior(draws=point(quiet), model=quiet), Records.parse(data, model=quiet), 7, (number, 0 * number)
    )  # fmt: skip
    y[:, [1, 3]] = np.log(y[:, [1, 3]])
    found = np.corrcoef(y, rowvar=False)
    truth = np.eye(5)
    truth[:3, :3] = [[1, 0.5, 0.3], [0.5, 1, -0.2], [0.3, -0.2, 1]]
    assert np.abs(found - truth).max() < 4 / np.sqrt(4000)  # 4 standard errors at r = 0


@pytest.mark.parametrize(
    ("change", "blq", "field", "told"),
    [
        (("error: {log: {typical: 0.2, prior: 0.5}}", "error: {log: {typical: 0.2, prior: 0.5}, t: 4}"), "m3",
         "outputs.CD.error.t", "Student t"),
        (("sigma: {block: [CP, CD, CU], lkj: 1.5}", ""), "m3", "", ""),
        (("[CD, CU, -0.2]]\nsigma: {block: [CP, CD, CU], lkj: 1.5}", "[CD, CP, 0.5]]"), "m3",
         "residual_correlations[2]", "twice"),
        ((", [CD, CU, -0.2]]\nsigma: {block: [CP, CD, CU], lkj: 1.5}", "]"), "m3", "residual_correlations",
         "leave some pairs out"),
        (("sigma: {block: [CP, CD, CU], lkj: 1.5}", "sigma: {block: [CP, CD]}"), "m3", "residual_correlations[1]",
         "in no block of sigma"),
        (("residual_correlations: [[CP, CD, 0.5], [CP, CU, 0.3], [CD, CU, -0.2]]\nsigma: {block: [CP, CD, CU], lkj: 1.5}",
          "sigma: {block: [CP]}"), "m3", "sigma.block", "fewer than two"),
        (("name: pairs", "name: pairs"), "m4", "blq", "m4"),
        (("name: pairs", "name: pairs"), "discard", "blq", "discarded"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_by_name(change, blq, field, told):
    def build():
        changed = Model.parse(TEXT.replace(*change))
        rows = Records.parse(DATA, model=changed)
        plan(changed, measured_outputs(changed, rows))
        return design(changed, rows, blq=blq)

    if not told:
        assert len(build().ties) == len(GROUPS)
        return
    with pytest.raises(InputError) as error:
        build()
    assert told in str(error.value)
    assert field in str(error.value)


def test_three_values_beyond_a_limit_at_one_time_are_refused(model):
    data = DATA.replace("2,20,.,0.9,0,CU,0,.", "2,20,.,0.9,0,CU,1,.")
    with pytest.raises(InputError, match="subject 2, 20 h"):
        design(model, Records.parse(data, model=model))


@pytest.fixture(scope="module")
def plain() -> str:
    """The data without what a twin does not take: values above a limit and in an interval."""
    lines = [line for line in DATA.splitlines() if not line.endswith(("-1,.", "0.8", "2.0"))]
    return "\n".join([*lines, "2,20,.,1.5,0,CD,1,."]) + "\n"


def particles(model: Model, records: Records, x: np.ndarray):
    """A case of the twin, two rows a patient: true values and effects at random."""
    from pkpd.twin.case import case_of
    from pkpd.twin.likelihood import people

    case = case_of(model, records, point(model))
    who = np.repeat(np.arange(len(records)), 2)
    return case, people(case, who, np.zeros(len(who), np.int64), x[: len(who) * 2].reshape(-1, 2))


def test_a_twin_takes_them_one_by_one(model, plain):
    """Conditional densities of a patient's rows add up to the joint ones of SciPy; correlations of the text."""
    from pkpd.twin.likelihood import fitted, pointwise

    records = Records.parse(plain, model=model)
    case, folk = particles(model, records, np.random.default_rng(4).normal(size=8))
    f = fitted(case, folk, case.levels)
    found = pointwise(case, folk, case.levels, f)
    r = np.array([[1, 0.5, 0.3], [0.5, 1, -0.2], [0.3, -0.2, 1]])
    for row, patient in enumerate(folk.who):
        total, used = 0.0, []
        for group in together.groups(model, records):
            g = group[group >= 0]
            if records.subject[g[0]] == patient:
                columns = [int(np.flatnonzero(case.levels.row[patient] == k)[0]) for k in g]
                total += one_group(records, g, f[row, columns], r)
                used += columns
        assert found[row, used].sum() == pytest.approx(total, rel=1e-9)


def one_group(records: Records, g: np.ndarray, f: np.ndarray, r: np.ndarray) -> float:
    """Log density of one group at the text's errors, by SciPy."""
    output, y = records.output[g], records.dv[g]
    logs, low = output == 1, records.below[g] | ((records.output[g] == 0) & (records.dv[g] <= 0.5))
    s = np.choose(output, [np.hypot(0.2, 0.1 * f), 0.2 + 0 * f, 0.2 * f])
    u = np.where(logs, np.log(y / f), y - f) / s
    a, c = np.flatnonzero(~low), np.flatnonzero(low)
    R = r[np.ix_(output, output)]
    value = stats.multivariate_normal(np.zeros(len(a)), R[np.ix_(a, a)]).logpdf(u[a]) if len(a) else 0.0
    value -= np.log(s[a]).sum() + np.log(y[a][logs[a]]).sum()
    if len(c):
        gain = R[np.ix_(c, a)] @ np.linalg.inv(R[np.ix_(a, a)]) if len(a) else np.zeros((len(c), 0))
        left = R[np.ix_(c, c)] - gain @ R[np.ix_(a, c)]
        value += np.log(rectangle([(-np.inf, u[k]) for k in c], gain @ u[a], left))
    return float(value)


def test_rows_that_come_one_by_one_leave_the_particles_of_all_at_once(model, plain):
    """A partner seen in an earlier update still counts: weights, row by row and together, bit for bit."""
    from pkpd.twin.sequential import from_prior, updated

    only = "\n".join(line for line in plain.splitlines() if not line.startswith("2")) + "\n"
    whole = Records.parse(only, model=model)
    lines = only.splitlines()
    state = None
    for stop in (4, 6, len(lines)):
        part = Records.parse("\n".join(lines[:stop]) + "\n", model=model)
        state = from_prior(model, part, point(model), seed=3, particles=200) if state is None else updated(state, part)
    once = from_prior(model, whole, point(model), seed=3, particles=200)
    np.testing.assert_array_equal(state.particles.log_weight, once.particles.log_weight)
    np.testing.assert_allclose(state.particles.log_likelihood, once.particles.log_likelihood, rtol=1e-10)


def test_a_value_is_checked_given_its_partner():
    """P(Y < y | partner) and the density of the conditional normal, in closed form, r 0.8."""
    from pkpd.twin.together import log_joint

    u, r = np.array([[1.0, -0.5]]), 0.8
    S = np.array([[[1.0, r], [r, 1.0]]])
    law = stats.norm(r * -0.5, np.sqrt(1 - r * r))
    own = stats.norm.logpdf(-0.5)
    assert log_joint(u, S, np.array([False, False]))[0] - own == pytest.approx(law.logpdf(1.0), rel=1e-12)
    assert log_joint(u, S, np.array([True, False]))[0] - own == pytest.approx(law.logcdf(1.0), rel=1e-12)
    both = stats.multivariate_normal(np.zeros(2), S[0]).cdf(u[0])
    assert np.exp(log_joint(u, S, np.array([True, True]))[0]) == pytest.approx(both, rel=1e-5)


def test_data_checks_see_the_partner(model):
    """p of a value given all others: that of a twin that never saw it, by the conditional normal given its partner."""
    from pkpd.twin.fit_checks import data_checks
    from pkpd.twin.forecasting import folk, followed
    from pkpd.twin.twin import twins

    blocks = (TEXT.partition("residual_correlations")[0], "residual_correlations: [[CP, CD, 0.9]]\n")
    tight = Model.parse("".join(blocks))
    data = "ID,TIME,AMT,DV,EVID,DVID\n1,0,100,.,1,.\n1,1,.,4.4,0,CP\n1,1,.,7.6,0,CD\n1,5,.,3.2,0,CP\n1,5,.,6.4,0,CD\n"
    check = data_checks(twins(tight, Records.parse(data, model=tight), point(tight), seed=1))[1]
    without = data.replace("1,1,.,7.6,0,CD\n", "")
    blind = twins(tight, Records.parse(without, model=tight), point(tight), seed=2)
    true = followed(blind, folk(blind, np.array([0])), np.array([[1.0]]))
    cp, cd = (true[name][:, 0] for name in ("CP", "CD"))
    u = (4.4 - cp) / np.hypot(0.2, 0.1 * cp)
    share = special.ndtr((np.log(7.6 / cd) - 0.2 * 0.9 * u) / (0.2 * np.sqrt(1 - 0.81)))
    below = float(blind.weight[0] @ share)
    assert check.p_others == pytest.approx(2 * min(below, 1 - below), rel=0.1)
    assert check.p_others < 0.6 * check.p
