"""Expected information of a fit: closed forms, nlme's standard errors, designs, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design
from pkpd.bayes.fisher import Part, expected, information, matrix_at, sentence
from pkpd.bayes.plan import plan
from pkpd.design.information import Arm
from pkpd.design.information import information as of_design
from pkpd.ground.units import Quantity
from pkpd.model.library import data_path
from pkpd.model.records import Records
from pkpd.model.regimen import Dose, Regimen
from pkpd.model.spec import Model


def test_one_way_random_effects():
    """y = mu + b + e, 20 subjects of 5 values: Searle, Casella & McCulloch, Variance Components (1992):
    I(mu) = n m/lambda, I(b, b) = n m^2/(2 lambda^2), I(b, e) = n m/(2 lambda^2), I(e, e) = n ((m - 1)/s_e^2 +
    1/lambda^2)/2 in the variances b, e, lambda = e + m b.
    """
    n, m, b, e = 20, 5, 0.3, 0.8
    one, eye = np.ones((m, m)), np.eye(m)
    part = Part(E=np.ones((m, 1)), V=b * one + e * eye, dV=np.stack([one, eye]))
    lam = e + m * b
    exact = np.array(
        [
            [n * m / lam, 0, 0],
            [0, n * m**2 / (2 * lam**2), n * m / (2 * lam**2)],
            [0, n * m / (2 * lam**2), n * ((m - 1) / e**2 + 1 / lam**2) / 2],
        ]
    )
    np.testing.assert_allclose(information([part] * n), exact, rtol=1e-12, atol=1e-12)


def test_what_is_told_of_the_least_known():
    """Products and ratios that stay along the least known direction; nothing is said where there is none."""

    def said(least: float, **moves: float) -> str:
        size = np.sqrt(sum(v * v for v in moves.values()))
        direction = {n: v / size for n, v in moves.items()}
        return sentence({"eigenvalue": least, "condition": 2 / least, "moves": moves, "direction": direction})

    assert said(0.01, log_V1=1.0, log_Q=-1.0, log_CL=0.01).startswith("The data tell V1*Q but hardly V1 and Q apart")
    assert "V1/Q but" in said(0.01, log_V1=1.0, log_Q=1.0)
    assert "VM/KM^0.5 but" in said(0.01, log_VM=0.5, log_KM=1.0)
    assert said(0.2, log_V1=1.0, log_Q=-1.0) == "The data tell all quantities apart (condition number 10)."
    assert "V1, Q and omega_Q apart" in said(0.01, log_V1=1.0, log_Q=-0.9, omega_Q=0.8)


THEOPHYLLINE = """
vtrial: model/1
name: theo
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1.5 1/h, iiv: {typical: 0.6, prior: 1}, prior: {median: 1.5, sd: 1}, status: assumed}
  CL: {typical: 2.8 L/h, iiv: {typical: 0.3, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}
  V:  {typical: 31 L, prior: {median: 30, sd: 1}, status: assumed}
equations: |
  C = central/V
  d/dt(depot)   = -KA*depot
  d/dt(central) =  KA*depot - CL*C
outputs: {CP: {is: C, error: {additive: {typical: 0.7 mg/L, prior: 1 mg/L}}}}
"""
KA = (0.243426261, 0.201986642, 0.262150195, -0.237345453, 0.180088354, -0.658762848, -0.814407152, -0.294652877,
      1.278878592, -0.434155363, 0.478780761, -0.205987114)  # fmt: skip
CL = (-0.564708755, 0.156209595, 0.076812758, -0.020399275, -0.259057503, 0.517621890, 0.191963000, 0.243843766,
      0.059081335, -0.529818677, 0.397299734, -0.268847868)  # fmt: skip


@pytest.fixture(scope="module")
def law() -> Density:
    model = Model.parse(THEOPHYLLINE)
    records = Records.read(data_path("theophylline.csv"), model)
    return density(plan(model, "CP"), design(model, records))


@pytest.mark.slow
def test_standard_errors_are_those_of_nlme(law):
    """R 4.2: nlme(conc ~ f(Dose*Wt, Time, lKA, lCL, lV), groupedData(conc ~ Time | Subject, Theoph), fixed = lKA + lCL
    + lV ~ 1, random = pdDiag(lKA + lCL ~ 1), method = "ML", control = nlmeControl(tolerance = 1e-7)), f the closed form:
    estimates, ranef(), sqrt(diag(varFix)); intervals() of the sds come from the observed information, ours is expected.
    """
    sds = np.array([0.5619480, 0.3434127, 0.7831640])
    x = np.concatenate(
        [[0.371912260, 1.041713418, 3.413801032], np.log(sds), np.array(KA) / sds[0], np.array(CL) / sds[1]]
    )
    se = np.sqrt(np.diag(np.linalg.inv(matrix_at(law, x)[0])))
    np.testing.assert_allclose(se[:3], [0.17426137635, 0.10569800319, 0.02566588803], rtol=1e-6)
    np.testing.assert_allclose(se[3:], [0.2319, 0.2252, 0.0686], rtol=0.07)


@pytest.mark.slow
def test_without_effects_it_is_that_of_the_design(law):
    """At effects of 0: the information of the same doses and times, first order, by sensitivities of the solver."""
    model, records = law.layout.plan.model, Records.read(data_path("theophylline.csv"))
    x = np.zeros(law.layout.size)
    x[:6] = np.log([1.5, 2.8, 31.0, 0.6, 0.3, 0.7])
    arms = [
        Arm(
            subjects=1, regimen=Regimen((Dose(amount=Quantity(float(records.doses.amount[i]), "mg"), into="depot"),)),
            times={"CP": tuple(records.time[records.subject == i])},
        )
        for i in range(len(records))
    ]  # fmt: skip
    found = of_design(model, arms)
    assert found.names == ("KA", "CL", "V", "omega_KA", "omega_CL", "CP.additive")
    matrix, places = matrix_at(law, x)
    assert places.tolist() == list(range(6))
    np.testing.assert_allclose(matrix, found.matrix * np.outer(found.values, found.values), rtol=1e-5, atol=1e-4)
    told = [{"name": "omega_KA", "mean": 0.6, "sd": 0.2}, {"name": "log_CL", "mean": 1.0, "sd": 0.1}]
    rows = expected(law, x, told)["quantities"]
    np.testing.assert_allclose([rows[0]["rse"], rows[1]["rse"]], found.rse[[3, 1]], rtol=1e-4)
