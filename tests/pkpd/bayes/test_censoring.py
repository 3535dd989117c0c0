"""Values beyond a limit: the compiled density against SciPy, differences and PyMC; methods; what a fit is told."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from pkpd.bayes.censoring import kinds, limited
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design
from pkpd.bayes.plan import plan
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model

TEXT = """
vtrial: model/1
name: limits
states: {central: mg}
occasion: {column: OCC}
parameters:
  CL: {typical: 2 L/h, iiv: {typical: 0.3, prior: 0.5}, iov: {typical: 0.2, prior: 0.5}, prior: {median: 2, sd: 1}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 0.5}, prior: {median: 20, sd: 1}, status: assumed}
equations: |
  C = central/V
  D = 2*C
  d/dt(central) = -CL*C
outputs:
  CP: {is: C, error: {additive: {typical: 0.2 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}, lloq: 0.5 mg/L}
  CL2: {is: D, error: {log: {typical: 0.1, prior: 0.5}}}
  CT: {is: C, error: {additive: {typical: 0.2 mg/L, prior: 1 mg/L}, t: 4}}
"""
DATA = """ID,TIME,AMT,DV,EVID,DVID,CENS,LIMIT,OCC
1,0,100,.,1,.,.,.,1
1,1,.,4.1,0,CP,0,.,1
1,2,.,3.9,0,CT,0,.,1
1,4,.,3.0,0,CP,-1,.,1
1,12,.,0.3,0,CP,0,.,1
1,24,.,0.5,0,CP,1,0.2,2
1,30,.,0.5,0,CP,1,.,2
1,30,.,1.1,0,CL2,1,.,2
1,40,.,0.1,0,CL2,-1,.,2
2,0,80,.,1,.,.,.,1
2,0.5,.,4.5,0,CT,0,.,1
2,3,.,5.0,0,CL2,0,.,1
2,20,.,1.5,0,CL2,1,0.8,1
2,60,.,0.4,0,CP,1,.,1
"""


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.parse(TEXT)


@pytest.fixture(scope="module")
def records(model) -> Records:
    return Records.parse(DATA, model=model)


def made(model, records, blq="m3") -> Density:
    return density(plan(model, list(model.outputs)), design(model, records, blq=blq))


def point(found: Density, seed: int = 1) -> np.ndarray:
    x = 0.4 * np.random.default_rng(seed).normal(size=found.layout.size)
    x[:2] += np.log([2.0, 20.0])
    x[2 : found.layout.population] -= 1.2
    return x


def laws(found: Density, x: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and sd of rows of CP."""
    f, named = found.predictions(x)[rows], found.layout.named(x)
    return f, np.sqrt(named["CP_additive"] ** 2 + (named["CP_proportional"] * f) ** 2)


def test_every_row_has_the_probability_of_what_was_seen(model, records):
    """SciPy's normal, log-normal and Student t distributions are the witness, row by row."""
    found = made(model, records)
    x = point(found)
    f, s = laws(found, x, np.array([0, 2, 3, 4, 5, 11]))
    sigma, t = found.layout.named(x)["CL2_log"], found.layout.named(x)["CT_additive"]
    every = found.predictions(x)
    lower = stats.norm(f, s)
    logs = stats.norm(np.log(every[[6, 7, 9, 10]]), sigma)
    expected = {
        0: lower.logpdf(4.1)[0], 2: lower.logsf(3.0)[1], 3: lower.logcdf(0.5)[2],
        4: np.log(lower.cdf(0.5)[3] - lower.cdf(0.2)[3]), 5: lower.logcdf(0.5)[4], 11: lower.logcdf(0.4)[5],
        6: logs.logcdf(np.log(1.1))[0], 7: logs.logsf(np.log(0.1))[1], 9: logs.logpdf(np.log(5.0))[2] - np.log(5.0),
        10: np.log(logs.cdf(np.log(1.5))[3] - logs.cdf(np.log(0.8))[3]),
        1: stats.t(4, every[1], t).logpdf(3.9), 8: stats.t(4, every[8], t).logpdf(4.5),
    }  # fmt: skip
    np.testing.assert_allclose(found.by_row(x), [expected[k] for k in range(12)], rtol=1e-10)


def test_m4_is_the_law_of_positive_values(model, records):
    """Beal's M4: every row of the limited output given y > 0; SciPy's truncated normal is the witness."""
    found = made(model, records, "m4")
    x = point(found)
    f, s = laws(found, x, np.array([0, 2, 3, 4, 5, 11]))
    law = stats.truncnorm(-f / s, np.inf, f, s)
    rows = found.by_row(x)
    expected = [law.logpdf(4.1)[0], law.logsf(3.0)[1], law.logcdf(0.5)[2], law.logcdf(0.5)[4], law.logcdf(0.4)[5]]
    np.testing.assert_allclose(rows[[0, 2, 3, 5, 11]], expected, rtol=1e-8)
    assert rows[4] == pytest.approx(np.log(law.cdf(0.5)[3] - law.cdf(0.2)[3]), rel=1e-8)
    np.testing.assert_array_equal(rows[[1, 6, 7, 8, 9, 10]], made(model, records).by_row(x)[[1, 6, 7, 8, 9, 10]])


@pytest.mark.parametrize("blq", ["m3", "m4"])
def test_gradient_is_the_central_difference(model, records, blq):
    found = made(model, records, blq)
    for x in (point(found), point(found, 2)):
        exact = found(x)[1]
        for k in range(len(x)):
            h = 3e-4 * np.eye(len(x))[k]
            far = (8 * (found(x + h)[0] - found(x - h)[0]) - found(x + 2 * h)[0] + found(x - 2 * h)[0]) / 36e-4
            assert exact[k] == pytest.approx(far, rel=1e-7, abs=1e-6), k


def test_an_occasion_has_its_own_clearance(model, records):
    """C = dose/V exp(-k1 24 - k2 (t - 24)): the second occasion of subject 1 begins at 24 h (`test_pieces.py`: the rest)."""
    found = made(model, records)
    x = point(found)
    named, f = found.layout.named(x), found.predictions(x)
    v = np.exp(named["log_V"] + named["omega_V"] * named["z_V"][0])
    own = named["log_CL"] + named["omega_CL"] * named["z_CL"][0]
    first, second, _ = np.exp(own + named["omega_CL.iov"] * named["z_CL.iov"]) / v
    expected = 100 / v * np.exp(-first * np.array([1, 12, 24, 24]) - second * np.array([0, 0, 0, 6]))
    np.testing.assert_allclose(f[[0, 3, 4, 5]], expected, rtol=1e-12)


def test_a_row_far_beyond_its_limit_has_a_finite_density(model):
    """100 sds away: log Phi below -4000 and its gradient, where Phi is 0; and one before any drug is certain."""
    data = "ID,TIME,AMT,DV,EVID,DVID,CENS,OCC\n1,0,.,0.4,0,CP,1,1\n1,0,2000,.,1,.,.,1\n1,0.1,.,0.5,0,CP,1,1\n"
    data += "1,0.2,.,90,0,CP,0,2\n1,0.3,.,90,0,CL2,0,2\n1,0.3,.,90,0,CT,0,2\n"
    found = made(model, Records.parse(data, model=model))
    x = point(found)
    x[4:6] = np.log([0.1, 0.01])
    value, gradient = found(x)
    assert found.by_row(x)[1] < -4000
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert found.by_row(x)[0] == pytest.approx(0.0, abs=1e-4)


def test_a_limit_of_the_text_marks_rows_and_discarding_leaves_them_out(model, records):
    marked = limited(model, records, "m3")
    assert marked.below.tolist()[3]
    assert marked.dv[3] == 0.5
    assert kinds(model, marked, "m3")[0].tolist() == [0, 0, 2, 1, 3, 1, 1, 2, 0, 0, 3, 1]
    kept = design(model, records, blq="discard")
    assert kept.dv.tolist() == [4.1, 3.9, 4.5, 5.0]
    assert not kept.kind.any()
    alone = Records.parse(DATA + "3,0,80,.,1,.,.,.,1\n3,5,.,0.5,0,CP,1,.,1\n", model=model)
    found = made(model, alone, "discard")
    value, gradient = found(point(found))
    assert np.isfinite(value)
    assert (
        gradient[[11, 14, 18]].tolist() == (-point(found)[[11, 14, 18]]).tolist()
    )  # z of the subject left without data
    with pytest.raises(InputError, match="not a way to treat"):
        limited(model, records, "m5")
    with pytest.raises(InputError, match="Student t error cannot be censored"):
        limited(model, Records.parse(DATA.replace("3.9,0,CT,0", "3.9,0,CT,1"), model=model), "m3")


@pytest.mark.slow
@pytest.mark.parametrize("blq", ["m3", "m4"])
def test_it_is_the_pymc_model(model, records, blq):
    """Value and gradient of the plain PyMC model, whose log Phi is PyMC's own, to 1e-9."""
    found = made(model, records, blq)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pkpd.bayes.likelihood import population_model

        whole = population_model(found.layout.plan, design(model, records, blq=blq))
        names = [v.name for v in whole.value_vars]
        logp, dlogp = whole.compile_logp(), whole.compile_dlogp()
    x = point(found)
    labels = [
        "log_CL", "log_V", "omega_CL_log__", "omega_V_log__", "CP_additive_log__", "CP_proportional_log__",
        "CL2_log_log__", "CT_additive_log__", "omega_CL.iov_log__",
    ]  # fmt: skip
    values = dict(zip(labels, x[:9], strict=True)) | {"z_CL": x[9:11], "z_V": x[11:13], "z_CL.iov": x[13:]}
    value, gradient = found(x)
    assert value == pytest.approx(float(logp(values)), rel=1e-11)
    place = {n: np.array([k]) for k, n in enumerate(labels)} | {"z_CL": np.array([9, 10]), "z_V": np.array([11, 12])}
    place |= {"z_CL.iov": np.arange(13, len(x))}
    order = np.concatenate([place[n] for n in names])
    np.testing.assert_allclose(gradient[order], dlogp(values), rtol=1e-9, atol=1e-9)
