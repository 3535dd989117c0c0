"""Adverse events that come again: the CDISC pilot in R, and numbers by hand.

    R> coxph(Surv(start, stop, status) ~ factor(arm) + cluster(id), d, ties = "efron", timefix = FALSE)   # survival 3.5-3
    R> g <- glm.nb(y ~ factor(arm) + offset(log(days)), n); sqrt(diag(sandwich(g)))                      # MASS, sandwich
    R> summary(survfit(Surv(start, stop, status) ~ arm, d, id = id, cluster = id, robust = TRUE, timefix = FALSE),
    R>         times = c(50, 100, 180))[c("cumhaz", "std.chaz")]

d: days of treatment-emergent events within exposure as rows of a counting process, several of a subject on one day
1e-6 d apart; n: all events of a subject.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trials.analysis.ae_records import AdverseEvents, adverse_events, read
from trials.analysis.ae_recurrent import ae_recurrent, mean_curves

PILOT = Path(__file__).resolve().parents[4] / "shared" / "data" / "trials"


@pytest.mark.witness
@pytest.mark.skipif(not PILOT.exists(), reason="../shared is not here")
def test_the_pilot_is_what_r_says() -> None:
    """Any event, 254 subjects in three arms: ratios and limits to 9 digits, mean numbers and standard errors to 6."""
    data = read(PILOT / "cdisc_pilot_adae.csv", PILOT / "cdisc_pilot_adsl.csv")
    found = ae_recurrent(data, "any")
    np.testing.assert_allclose(found.lwyy.estimate[0], [2.069266348, 1.907646164], rtol=1e-9)
    np.testing.assert_allclose(found.lwyy.lower[0], [1.573883760, 1.461635525], rtol=1e-9)
    np.testing.assert_allclose(found.lwyy.upper[0], [2.720571446, 2.489754679], rtol=1e-9)
    counted = found.negative_binomial
    np.testing.assert_allclose(counted.estimate[0], np.exp([1.169680767, 1.239788207]), rtol=1e-6)
    se = np.log(counted.upper[0] / counted.lower[0]) / (2 * 1.959963984540054)
    np.testing.assert_allclose(se, [0.16464885, 0.17499592], rtol=1e-5)
    np.testing.assert_allclose(found.theta, 1.118026262, rtol=1e-6)
    assert found.events.tolist() == [[281, 433, 412]]
    assert (found.events - found.undated).sum() == 1091
    curve = mean_curves(data, 0, np.array([50.0, 100.0, 180.0]), "any")
    np.testing.assert_allclose(
        curve.value[0],
        [[1.647153, 2.539575, 3.747642], [4.109307, 6.099575, 7.345919], [3.828652, 5.547621, 6.773415]], rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(curve.se[0, 0], [0.2129228, 0.3117830, 0.4072351], rtol=1e-6)


def _made() -> AdverseEvents:
    """Four subjects an arm; one of the drug has three events on one day, one without a day, one after exposure."""
    people = {"subject": list("abcdefgh"), "arm": ["placebo"] * 4 + ["drug"] * 4, "days": [100.0] * 7 + [50.0]}
    events = [("a", 20), ("e", 10), ("e", 10), ("e", 10), ("f", 30), ("f", None), ("h", 60), ("g", 40), ("b", 25)]
    return adverse_events(people, {
        "subject": [who for who, _ in events], "soc": ["Skin"] * 9, "term": ["Rash"] * 9,
        "day": [np.nan if day is None else float(day) for _, day in events],
    })  # fmt: skip


def test_what_counts_where() -> None:
    """Mean numbers by hand: (3 + 1 + 1)/4 after three on one day; undated ones count for the negative binomial alone."""
    data = _made()
    found = ae_recurrent(data)
    assert found.events.tolist() == [[2, 7]]
    assert found.again.tolist() == [[0, 2]]
    assert found.undated.tolist() == [[0, 2]]
    curve = mean_curves(data, 0, np.array([9.0, 10.0, 30.0, 45.0, 99.0]))
    np.testing.assert_allclose(curve.value[0, 1], [0.0, 0.75, 1.0, 1.25, 1.25])
    assert curve.value[0, 0].tolist() == [0.0, 0.0, 0.5, 0.5, 0.5]
    assert found.negative_binomial.estimate[0, 0] == pytest.approx((7 / 350) / (2 / 400), rel=0.05)
    assert found.lwyy.lower[0, 0] < found.lwyy.estimate[0, 0] < found.lwyy.upper[0, 0]
    assert np.isnan(ae_recurrent(data, least_grade=3).lwyy.estimate).all()  # no event: no estimate
