"""Average bioequivalence and dose proportionality.

Witnesses: EMA's data set II (Q&A on the guideline) with its published interval, as kept in replicateBE (DS02.csv and ABE.Rd:
SAS Proc GLM, PE 102.26 %, 90 % CI 97.32-107.46 %, CVwR aside); Clayton and Leslie 1981 with the intervals published by
Fuglsang A, Schütz H, Labes D, AAPS J 2015;17:400 (data sets P1, P2, P4, as kept in MetidaBioeq, ciref.csv); Chow and Liu's
crossover of 24 subjects (data: hindawi.com/journals/jps/2015/298647, table 1) analysed by R 4.2; R's lm and confint; simulated truth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pkpd import InputError, bioequivalence, dose_proportionality
from pkpd.exposure.bioequivalence import crossover, paired, parallel

# subject, sequence, period 1, period 2
CHOW_LIU = """
1 RT 74.675 73.675 4 RT 96.400 93.250 5 RT 101.950 102.125 6 RT 79.050 69.450 11 RT 79.050 69.025 12 RT 85.950 68.700
15 RT 69.725 59.425 16 RT 86.275 76.125 19 RT 112.675 114.875 20 RT 99.525 116.250 23 RT 89.425 64.175 24 RT 55.175 74.575
2 TR 74.825 37.350 3 TR 86.875 51.925 7 TR 81.675 72.175 8 TR 92.700 77.500 9 TR 50.450 71.875 10 TR 66.125 94.025
13 TR 122.450 124.970 14 TR 99.075 85.225 17 TR 86.350 95.925 18 TR 49.925 67.100 21 TR 42.700 59.425 22 TR 91.725 114.050
"""
# EMA data set II: subject, sequence, values of periods 1 to 3
EMA_2 = """
1 RTR 4053.6 3970.4 3748.8 2 RTR 2986.2 2378.8 2804.6 3 RRT 3464.4 3340.2 4028.8 4 TRR 4105 3191.2 3803.6
5 TRR 4767.8 4542.6 3940 6 RRT 3050.8 3027.2 2419.6 7 RTR 2530.2 3072 2962.6 8 TRR 2205 2041.4 2018
9 RTR 4647.6 4159.6 3400 10 TRR 2228.2 2360.4 2221.2 11 RRT 1863.8 2212.4 2394.4 12 RRT 2278.4 3170.4 3927.2
13 RRT 2640.4 2430.4 2869.2 14 RTR 3030.8 2459.8 2970.4 15 RTR 2254.4 1994.8 2724.4 16 TRR 2959.6 3442 3342.6
17 TRR 2396.8 2659.4 2172 18 RRT 2725 2805.6 3146.6 19 RTR 2418.8 2749.8 2504 20 RRT 2662.4 2929.8 3037.2
21 RRT 2869.6 2666.4 3069 22 TRR 2949 2926.8 2855.4 23 TRR 3154.8 3185.6 3548.6 24 RTR 1874.8 1808.8 2730.8
"""
CLAYTON_T = [2.52, 8.87, 0.79, 1.68, 6.95, 1.05, 0.99, 5.6, 3.16]
CLAYTON_R = [4.98, 7.14, 1.81, 7.34, 4.25, 6.66, 4.76, 7.16, 5.52]
FUGLSANG_4_T = [1.185101, 0.835972, 0.857348, 1.368331, 0.920357, 1.894266, 0.750253, 0.651233, 0.984798, 1.111189,
                0.790866, 1.471855, 0.969579, 0.964421, 0.695598, 1.105636, 0.810931, 0.939955, 0.996109, 1.227112]  # fmt: skip
FUGLSANG_4_R = [2.355027, 1.007124, 20.611305, 20.184219, 1.527358, 0.054504, 1.648198, 1.139864, 0.571705, 0.472104,
                0.146488, 0.494847, 21.758691, 6.892494, 5.634118, 0.971559, 1.834850, 0.448799, 0.210797, 1.411891]  # fmt: skip


def _long(text: str, periods: int) -> pd.DataFrame:
    cells = text.split()
    rows = [cells[i : i + 2 + periods] for i in range(0, len(cells), 2 + periods)]
    return pd.DataFrame(
        [
            {"SUBJECT": int(r[0]), "SEQUENCE": r[1], "PERIOD": k + 1, "TREATMENT": r[1][k], "AUC": float(r[2 + k])}
            for r in rows
            for k in range(periods)
        ]
    )


def _percent(found: Any) -> tuple[float, float, float]:
    return tuple(round(100 * x, 2) for x in (found.ratio, found.lower, found.upper))  # type: ignore[return-value]


def test_ema_data_set_ii() -> None:
    found = bioequivalence(_long(EMA_2, 3), "AUC", columns={"sequence": "SEQUENCE"})
    assert _percent(found) == (102.26, 97.32, 107.46)
    assert found.df == 45  # ciref.csv, rds02
    assert found.accepted


@pytest.mark.parametrize(
    ("test", "reference", "welch", "published"),
    [
        (CLAYTON_T, CLAYTON_R, True, (48.58, 26.78, 88.14)),
        (CLAYTON_T, CLAYTON_R, False, (48.58, 27.15, 86.94)),
        (CLAYTON_T, CLAYTON_R[5:], True, (41.99, 23.71, 74.38)),
        (CLAYTON_T, CLAYTON_R[5:], False, (41.99, 18.26, 96.59)),
        (FUGLSANG_4_T, FUGLSANG_4_R, True, (71.97, 38.05, 136.15)),
        (FUGLSANG_4_T, FUGLSANG_4_R, False, (71.97, 38.60, 134.21)),
    ],
)
def test_parallel_reference_data_sets(test: list[float], reference: list[float], welch: bool, published: Any) -> None:
    found = parallel(test, reference, welch=welch)
    assert _percent(found) == published
    assert not found.accepted
    assert math.isnan(found.cv_intra)


def test_chow_and_liu_equals_r() -> None:
    """R: m <- lm(log(y) ~ q + s%in%q + p + t); exp(coef(m)["tT"]); exp(confint(m, "tT", level = .9)); anova(m)."""
    found = bioequivalence(_long(CHOW_LIU, 2), "AUC")
    assert found.ratio == pytest.approx(0.971756106544444, rel=1e-12)
    assert found.lower == pytest.approx(0.883129476221362, rel=1e-12)
    assert found.upper == pytest.approx(1.06927687958829, rel=1e-12)
    assert found.mse == pytest.approx(0.0372206086886527, rel=1e-12)
    assert found.cv_intra == pytest.approx(0.1947356418016170, rel=1e-12)
    table = {row.term: row for row in found.anova}
    for term, ss in {"sequence": 0.0862599835, "period": 0.0091363021, "treatment": 0.0098501624,
                     "subject(sequence)": 2.5235356219, "residual": 0.8188533912}.items():  # fmt: skip
        assert table[term].ss == pytest.approx(ss, abs=1e-10)
    assert table["period"].p == pytest.approx(0.6252003, abs=1e-7)
    assert table["treatment"].p == pytest.approx(0.6120778, abs=1e-7)
    assert table["subject(sequence)"].p == pytest.approx(0.0054463, abs=1e-7)
    # sequence against subject(sequence): F = 0.0862599835/0.1147061646 on 1 and 22; R: pf(.7520082, 1, 22, lower = FALSE)
    assert table["sequence"].f == pytest.approx(0.08625998350 / 0.11470616463, rel=1e-8)


def test_unequal_sequences_and_missing_periods() -> None:
    """R as above without subjects 1 and 4; a subject with one period left changes nothing but the counts."""
    data = _long(CHOW_LIU, 2)
    fewer = data[~data["SUBJECT"].isin([1, 4])]
    found = bioequivalence(fewer, "AUC")
    assert found.ratio == pytest.approx(0.968565138437108, rel=1e-12)
    assert found.lower == pytest.approx(0.871525817856027, rel=1e-12)
    assert found.upper == pytest.approx(1.07640922182143, rel=1e-12)
    table = {row.term: row for row in found.anova}
    assert table["period"].ss == pytest.approx(0.0104038708, abs=1e-10)  # drop1, partial
    half = data.copy()
    half.loc[half["SUBJECT"].isin([1, 4]) & (half["PERIOD"] == 2), "AUC"] = np.nan
    with_halves = bioequivalence(half, "AUC")
    assert with_halves.lower == pytest.approx(found.lower, rel=1e-12)
    assert (with_halves.dropped, with_halves.df) == (2, 20)
    assert math.isnan({row.term: row for row in with_halves.anova}["sequence"].f)


def test_paired_equals_r() -> None:
    """R: exp(t.test(log(w$y.T), log(w$y.R), paired = TRUE, conf.level = .9)$conf.int)."""
    found = bioequivalence(_long(CHOW_LIU, 2), "AUC", design="paired")
    assert found.lower == pytest.approx(0.884686042996676, rel=1e-12)
    assert found.upper == pytest.approx(1.067395533230953, rel=1e-12)


def test_two_one_sided_tests_agree_with_the_interval() -> None:
    """p = 0.05 exactly where an end of the 90 % interval touches the limit."""
    wide = bioequivalence(_long(CHOW_LIU, 2), "AUC")
    touching = bioequivalence(_long(CHOW_LIU, 2), "AUC", limits=(wide.lower, 1.5))
    assert touching.p == pytest.approx(0.05, abs=1e-12)
    assert touching.accepted
    assert not bioequivalence(_long(CHOW_LIU, 2), "AUC", limits=(wide.lower + 1e-4, 1.5)).accepted


def test_swapping_test_and_reference_inverts_the_ratio() -> None:
    one = bioequivalence(_long(CHOW_LIU, 2), "AUC")
    other = bioequivalence(_long(CHOW_LIU, 2), "AUC", test="R", reference="T")
    assert other.ratio == pytest.approx(1 / one.ratio, rel=1e-13)
    assert other.lower == pytest.approx(1 / one.upper, rel=1e-13)


def test_intervals_cover_as_often_as_they_say() -> None:
    """Simulated truth: ratio 0.92, CV 25 %, 12 subjects, period effect; 90 % of 800 intervals, within 3 standard errors."""
    rng = np.random.default_rng(7)
    sigma2 = math.log(1 + 0.25**2)
    sequence = np.repeat(["TR", "RT"], 6)
    arms = [s[k] for s in sequence for k in (0, 1)]
    who, when = np.repeat(np.arange(12), 2), np.tile([1, 2], 12)
    hits = cv_hits = 0
    for _ in range(800):
        y = np.repeat(rng.normal(3, 0.4, 12), 2) + 0.2 * (when == 2) + math.log(0.92) * (np.array(arms) == "T")
        y = y + rng.normal(0, math.sqrt(sigma2), 24)
        found = crossover(np.exp(y), subject=who.tolist(), period=when.tolist(), treatment=arms)
        hits += found.lower <= 0.92 <= found.upper
        cv_hits += found.cv_intra_lower <= 0.25 <= found.cv_intra_upper
    limit = 3 * math.sqrt(0.9 * 0.1 / 800)
    assert abs(hits / 800 - 0.9) < limit
    assert abs(cv_hits / 800 - 0.9) < limit


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": [1, 2, 0, 3.0]}, "must be finite and > 0"),
        ({"treatment": list("TRST")}, "neither test nor reference"),
        ({"treatment": list("TTTT")}, "does not occur"),
        ({"period": [1, 1, 1, 2]}, "has two values in period"),
        ({"subject": [1, 1]}, "one label per value"),
        ({"treatment": list("TRTR")}, "confounded"),
        ({"sequence": list("ABBB")}, "constant within a subject"),
        ({"level": 1.2}, "level"),
        ({"limits": (0.8, 0.9)}, "limits"),
        ({}, "degrees of freedom"),
    ],
)
def test_wrong_crossovers_are_refused(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"value": [1, 2, 3, 4.0], "subject": [1, 1, 2, 2], "period": [1, 2, 1, 2],
                             "treatment": list("TRRT")}  # fmt: skip
    if said not in ("degrees of freedom", "one label per value") and "value" not in change:
        for name, more in {"value": [5, 6, 7, 8.0], "subject": [3, 3, 4, 4], "period": [1, 2, 1, 2]}.items():
            given[name] = [*given[name], *more]
        given["treatment"] = [*given["treatment"], *given["treatment"]]
        change = {k: ([*v, *v] if k in ("treatment", "sequence", "period") else v) for k, v in change.items()}
    with pytest.raises(InputError, match=said):
        crossover(**(given | change))


@pytest.mark.parametrize(
    "call", [lambda: paired([1, 2], [1]), lambda: parallel([1], [1, 2]), lambda: paired([1.0], [2.0])]
)
def test_too_few_values_are_refused(call: Any) -> None:
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize("change", [{"design": "latin"}, {"columns": {"subject": "WHO"}}, {"value": "CMAX"}])
def test_wrong_tables_are_refused(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"value": "AUC"} | change
    with pytest.raises(InputError):
        bioequivalence(_long(CHOW_LIU, 2), given.pop("value"), **given)


# dose proportionality ----------------------------------------------------------------------------------------------

DOSES, VALUES = [10, 10, 20, 20, 40, 40], [1.0, 1.2, 2.1, 2.3, 4.0, 4.6]


def test_power_model_equals_r() -> None:
    """R: m <- lm(log(y) ~ log(x)); coef(m); confint(m, level = .9); and with + s, s = factor(c(1, 2, 1, 2, 1, 2))."""
    found = dose_proportionality(DOSES, VALUES)
    assert found.slope == pytest.approx(0.984649863833964, rel=1e-13)
    assert found.intercept == pytest.approx(-2.171494260392386, rel=1e-13)
    assert found.lower == pytest.approx(0.849757591368086, rel=1e-12)
    assert found.upper == pytest.approx(1.11954213629984, rel=1e-12)
    within = dose_proportionality(DOSES, VALUES, subject=[1, 2, 1, 2, 1, 2])
    assert within.lower == pytest.approx(0.9372214181931712, rel=1e-12)
    assert within.upper == pytest.approx(1.032078309474757, rel=1e-12)


def test_criterion_of_proportionality() -> None:
    """Smith 2000: 1 + ln(0.8)/ln r, 1 + ln(1.25)/ln r; the normalised ratio leaves its limits where the slope does."""
    found = dose_proportionality(DOSES, VALUES)
    assert found.critical == pytest.approx((1 + math.log(0.8) / math.log(4), 1 + math.log(1.25) / math.log(4)))
    assert found.verdict == "proportional"
    assert found.ratio == pytest.approx(4 ** (found.slope - 1))
    steep = dose_proportionality(DOSES, np.array(VALUES) ** 1.6)
    assert steep.verdict == "not proportional"
    assert steep.ratio_lower > 1.25
    assert dose_proportionality(DOSES, [1.0, 2.2, 1.1, 2.9, 4.0, 4.6]).verdict == "inconclusive"
    assert dose_proportionality(DOSES, [*VALUES[:5], np.nan]).dropped == 1


@pytest.mark.parametrize(
    ("dose", "value", "subject"),
    [([1, 1, 1], [1, 2, 3.0], None), ([1, 2], [1, 2.0], None), ([0, 1, 2], [1, 2, 3.0], None), ([1, 2, 4], [1, -2, 3.0], None),
     ([1, 2], [1, 2, 3.0], None), ([1, 2, 4], [1, 2, 3.0], [1, 2, 3])],
)  # fmt: skip
def test_wrong_dose_data_are_refused(dose: Any, value: Any, subject: Any) -> None:
    with pytest.raises(InputError):
        dose_proportionality(dose, value, subject=subject)
