"""Non-compartmental analysis.

Witnesses: WinNonlin's results on R's Theoph and Indometh, as published beside NonCompart's by Han S, "Validation of
noncompartmental analysis performed by NonCompart", 2018-05-11 (NonCompart-tests, validation.md; WinNonlin 6.3 and 7.0);
closed forms; the engine's closed-form solution; a plain scalar analysis written anew below.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest

import pkpd
from pkpd import Events, InputError, NcaReason, NcaRules, Records, accumulation, nca, noncompartmental
from pkpd.exposure.areas import _log_means
from pkpd.exposure.table import CDISC
from pkpd.model.library import data_path

SEVEN = {"rtol": 0, "atol": 0.6e-7}  # the published tables have seven decimals


@pytest.fixture(scope="module")
def theoph() -> tuple[np.ndarray, np.ndarray]:
    records = Records.read(data_path("theophylline.csv"))
    return records.time.reshape(12, 11), records.dv.reshape(12, 11)


TIMES = [0.25, 0.5, 0.75, 1, 1.25, 2, 3, 4, 5, 6, 8]
INDOMETH = [  # R: matrix(Indometh$conc, 6, byrow = TRUE)
    [1.50, 0.94, 0.78, 0.48, 0.37, 0.19, 0.12, 0.11, 0.08, 0.07, 0.05],
    [2.03, 1.63, 0.71, 0.70, 0.64, 0.36, 0.32, 0.20, 0.25, 0.12, 0.08],
    [2.72, 1.49, 1.16, 0.80, 0.80, 0.39, 0.22, 0.12, 0.11, 0.08, 0.08],
    [1.85, 1.39, 1.02, 0.89, 0.59, 0.40, 0.16, 0.11, 0.10, 0.07, 0.07],
    [2.05, 1.04, 0.81, 0.39, 0.30, 0.23, 0.13, 0.11, 0.08, 0.10, 0.06],
    [2.31, 1.44, 1.03, 0.84, 0.64, 0.42, 0.24, 0.17, 0.13, 0.10, 0.09],
]

# validation.md, test 1 (Theoph, 320 mg, linear) and test 2 (linear up, log down); fits are the same in both
THEOPH_FITS = {
    "lambda_z": [0.0484570, 0.1040864, 0.1024443, 0.0992870, 0.0866189, 0.0877957, 0.0883365, 0.0814505, 0.0824586,
                 0.0749598, 0.0954586, 0.1102595],
    "lambda_z_points": [3, 4, 3, 3, 4, 7, 4, 6, 3, 3, 3, 3],
    "lambda_z_lower": [9.05, 7.03, 9.00, 9.02, 7.02, 2.03, 6.98, 3.53, 8.80, 9.38, 9.03, 9.03],
    "half_life": [14.3043776, 6.6593416, 6.7660874, 6.9812467, 8.0022640, 7.8949979, 7.8466683, 8.5100379, 8.4059988,
                  9.2469158, 7.2612365, 6.2865082],
    "adjusted_r2": [0.9999995, 0.9957931, 0.9986499, 0.9978483, 0.9979708, 0.9978896, 0.9980053, 0.9887655, 0.9988873,
                    0.9990174, 0.9999965, 0.9987936],
    "cmax": [10.5, 8.33, 8.2, 8.6, 11.4, 6.44, 7.09, 7.56, 9.03, 10.21, 8.0, 9.75],
    "tmax": [1.12, 1.92, 1.02, 1.07, 1.00, 1.15, 3.48, 2.02, 0.63, 3.55, 0.98, 3.52],
    "clast": [3.28, 0.90, 1.05, 1.15, 1.57, 0.92, 1.15, 1.25, 1.12, 2.42, 0.86, 1.17],
    "tlag": [0.0] * 12,
}  # fmt: skip
THEOPH_LINEAR = {
    "auc_last": [148.92305, 91.5268, 99.2865, 106.7963, 121.2944, 73.77555, 90.7534, 88.55995, 86.32615, 138.3681, 80.0936,
                 119.9775],
    "auc_inf": [216.6119330, 100.1734591, 109.5359707, 118.3788814, 139.4197778, 84.2544183, 103.7718018, 103.9066868,
                99.9087179, 170.6520606, 89.1027449, 130.5888316],
    "auc_inf_pred": [216.6149558, 100.0643176, 109.5857218, 118.4435586, 139.2546304, 84.4966986, 103.8931470, 103.6430515,
                     99.8660677, 170.5679125, 89.1007190, 130.6390680],
    "extrapolated": [31.2489169, 8.6316867, 9.3571734, 9.7843309, 13.0005786, 12.4371737, 12.5452209, 14.7697297,
                     13.5949777, 18.9180022, 10.1109623, 8.1257573],
    "cl": [1.4772963, 3.1944589, 2.9214147, 2.7031849, 2.2952267, 3.7980204, 3.0836893, 3.0796863, 3.2029237, 1.8751605,
           3.5913596, 2.4504393],
    "vz": [30.4867482, 30.6904416, 28.5170999, 27.2259641, 26.4979947, 43.2597345, 34.9084408, 37.8105081, 38.8427934,
           25.0155401, 37.6221852, 22.2242936],
    "aumc_last": [1459.0711035, 706.5865660, 803.1858700, 901.0842105, 1017.1143165, 609.1523875, 782.4198600, 739.5345980,
                  705.2296255, 1278.1800420, 617.2422125, 977.8807235],
    "aumc_inf": [4505.5348194, 999.7722880, 1150.9647687, 1303.2524014, 1667.7216119, 978.4284857, 1245.0984083,
                 1298.1157547, 1201.7715381, 2473.9934274, 928.5599714, 1330.3840024],
    "mrt_last": [9.7974834, 7.7199964, 8.0895778, 8.4374104, 8.3855010, 8.2568329, 8.6213834, 8.3506664, 8.1693626,
                 9.2375341, 7.7065110, 8.1505343],
    "mrt": [20.8000305, 9.9804109, 10.5076420, 11.0091630, 11.9618725, 11.6127855, 11.9984272, 12.4930916, 12.0286954,
            14.4972959, 10.4212275, 10.1875787],
    "auc_inf_dose": [0.6769123, 0.3130421, 0.3422999, 0.3699340, 0.4356868, 0.2632951, 0.3242869, 0.3247084, 0.3122147,
                     0.5332877, 0.2784461, 0.4080901],
}  # fmt: skip
THEOPH_LOG = {
    "auc_last": [147.2347485, 88.7312755, 95.8781978, 102.6336232, 118.1793538, 71.6970150, 87.9692274, 86.8065635,
                 83.9374360, 135.5760701, 77.8934723, 115.2202082],
    "auc_inf": [214.9236316, 97.3779346, 106.1276685, 114.2162046, 136.3047316, 82.1758833, 100.9876292, 102.1533003,
                97.5200039, 167.8600307, 86.9026173, 125.8315397],
    "cl": [1.4889010, 3.2861654, 3.0152363, 2.8017040, 2.3476808, 3.8940865, 3.1687049, 3.1325469, 3.2813780, 1.9063502,
           3.6822827, 2.5430826],
    "cl_pred": [1.4888800, 3.2898527, 3.0138235, 2.8001184, 2.3505287, 3.8826393, 3.1649020, 3.1406522, 3.2828138,
                1.9073063, 3.6823685, 2.5420677],
    "vz": [30.7262325, 31.5715024, 29.4329299, 28.2182304, 27.1035678, 44.3539348, 35.8708471, 38.4594978, 39.7942323,
           25.4316257, 38.5746722, 23.0645237],
    "aumc_last": [1499.1290852, 716.2787279, 810.8726830, 911.7828093, 1038.8799844, 618.6659191, 795.6267785, 756.3619816,
                  723.3794155, 1306.7406149, 626.6357849, 982.6343023],
    "aumc_inf": [4545.5928011, 1009.4644499, 1158.6515817, 1313.9510002, 1689.4872798, 987.9420173, 1258.3053268,
                 1314.9431383, 1219.9213281, 2502.5540002, 937.9535438, 1335.1375811],
    "mrt": [21.1498046, 10.3664599, 10.9175260, 11.5040681, 12.3949276, 12.0222866, 12.4599947, 12.8722531, 12.5094471,
            14.9085758, 10.7931564, 10.6105161],
    "mrt_pred": [21.1501401, 10.3400455, 10.9283095, 11.5172082, 12.3664205, 12.0905386, 12.4876944, 12.8113828, 12.4989252,
                 14.8974756, 10.7926025, 10.6195388],
}  # fmt: skip
# validation.md, test 4: Indometh, 25 mg as a bolus, linear up, log down
INDOMETH_BOLUS = {
    "c0": [2.3936170, 2.5281595, 4.9653691, 2.4622302, 4.0408654, 3.7056250],
    "lambda_z": [0.1583205, 0.3022800, 0.4218926, 0.4554455, 0.2527478, 0.3535205],
    "lambda_z_points": [3, 9, 10, 11, 8, 9],
    "adjusted_r2": [0.9941335, 0.9401933, 0.8603043, 0.8586943, 0.8544516, 0.8902329],
    "auc_last": [2.0098984, 3.2028878, 3.4743971, 2.7483832, 2.3983736, 3.2908266],
    "auc_inf": [2.3257135, 3.4675431, 3.6640188, 2.9020789, 2.6357645, 3.5454087],
    "extrapolated": [13.5792780, 7.6323571, 5.1752381, 5.2960545, 9.0065258, 7.1806138],
    "back_extrapolated": [20.5542573, 16.3658871, 25.4552663, 18.4484084, 27.8259014, 20.8230657],
    "cl": [10.7493892, 7.2097158, 6.8231092, 8.6145142, 9.4849143, 7.0513732],
    "vz": [67.8963898, 23.8511160, 16.1726192, 18.9144805, 37.5271908, 19.9461495],
    "aumc_inf": [7.8261005, 9.4059410, 7.0217278, 5.9719996, 6.5856658, 8.3472113],
    "mrt_last": [1.6442602, 2.0023083, 1.4550148, 1.6027502, 1.5624335, 1.6987892],
    "mrt": [3.3650320, 2.7125665, 1.9164006, 2.0578350, 2.4985790, 2.3543721],
    "vss": [36.1720388, 19.5568334, 13.0758105, 17.7272490, 23.6988080, 16.6015562],
    "vss_pred": [36.2269851, 19.3419923, 11.8493272, 16.1136274, 22.6263772, 15.3613252],
}
# validation.md, test 5: the same as an infusion over 0.25 h, linear
INDOMETH_INFUSION = {
    "lambda_z": [0.1583205, 0.3022800, 0.4218926, 0.4290762, 0.2527478, 0.3535205],
    "lambda_z_points": [3, 9, 10, 10, 8, 9],
    "auc_last": [1.7412500, 2.9325000, 2.9337500, 2.4775000, 1.9537500, 2.8725000],
    "auc_inf": [2.0570651, 3.1971553, 3.1233717, 2.6406412, 2.1911408, 3.1270821],
    "cl": [12.1532371, 7.8194513, 8.0041706, 9.4673975, 11.4095817, 7.9946733],
    "mrt_last": [1.7536791, 2.0570119, 1.5814337, 1.6436680, 1.7726328, 1.8010226],
    "mrt": [3.6631905, 2.8124621, 2.1074203, 2.1726312, 2.8624239, 2.5258069],
    "vss": [44.5196227, 21.9919102, 16.8681518, 20.5691634, 32.6590590, 20.1930009],
    "vss_pred": [44.5831617, 21.7528377, 15.2920802, 18.6921722, 31.2841719, 18.7048438],
}


@pytest.mark.parametrize(("method", "published"), [("linear", THEOPH_LINEAR), ("linear-up/log-down", THEOPH_LOG)])
def test_theoph_equals_winnonlin(theoph: Any, method: Any, published: dict[str, list[float]]) -> None:
    found = noncompartmental(*theoph, 320, rules=NcaRules(method=method))
    for name, values in (THEOPH_FITS | published).items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **SEVEN)


@pytest.mark.parametrize(
    ("route", "duration", "method", "published"),
    [
        ("bolus", 0.0, "linear-up/log-down", INDOMETH_BOLUS),
        ("infusion", 0.25, "linear", INDOMETH_INFUSION),
    ],
)
def test_indometh_equals_winnonlin(route: Any, duration: float, method: Any, published: dict[str, list[float]]) -> None:
    found = noncompartmental(TIMES, INDOMETH, 25, route=route, duration=duration, rules=NcaRules(method=method))
    for name, values in published.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **SEVEN)


# closed forms -----------------------------------------------------------------------------------------------------


def test_one_exponential_is_exact_whatever_the_sampling() -> None:
    """C = D/V e^-kt: the logarithmic rule is exact, so AUC = D/CL, MRT = 1/k, Vss = Vz = V to rounding."""
    k, v, dose = np.array([0.1, 0.35, 2.0]), np.array([10.0, 25.0, 3.0]), np.array([100.0, 5.0, 40.0])
    t = np.array([0.2, 0.7, 1.5, 4.0, 7.0, 13.0])
    conc = (dose / v)[:, None] * np.exp(-k[:, None] * t)
    found = noncompartmental(t, conc, dose, route="bolus", windows={"a": (0.5, 3.0), "b": (6.0, 30.0)})
    truth = {"c0": dose / v, "auc_inf": dose / (k * v), "aumc_inf": dose / (v * k**2), "lambda_z": k, "mrt": 1 / k,
             "cl": k * v, "vz": v, "vss": v, "half_life": np.log(2) / k, "r2": np.ones(3)}  # fmt: skip
    for name, start, end in (("auc[a]", 0.5, 3.0), ("auc[b]", 6.0, 30.0)):
        truth[name] = dose / v * (np.exp(-k * start) - np.exp(-k * end)) / k
    for name, value in truth.items():
        np.testing.assert_allclose(found[name], value, rtol=5e-13, err_msg=name)
    np.testing.assert_array_equal(found.profiles.zero_rule, 2)


def test_the_engine_s_profiles_give_back_clearance_rate_constant_and_volume() -> None:
    """AUC = F dose/CL and lambda_z = ke where ka > ke, on densely sampled closed-form profiles of the engine."""
    compiled = pkpd.compiled(pkpd.load("theophylline"))
    names = compiled.parameters
    typical = {"CL": 3.0, "V": 30.0, "KA": 1.5}
    assert set(names) == set(typical)
    table = np.array([[typical[n] * f for n in names] for f in (1.0, 1.3)])
    t = np.concatenate([np.linspace(0, 12, 1201), np.linspace(12.1, 80, 680)])
    values = pkpd.solve(compiled, table, _one_dose(200.0), np.tile(t, (2, 1))).values[:, 0, :]
    found = noncompartmental(t, values, 200.0, points=np.tile(t >= 20.0, (2, 1)))
    by_rule = noncompartmental(t, values, 200.0)
    cl, v, ka = (table[:, names.index(n)] for n in ("CL", "V", "KA"))
    np.testing.assert_allclose(found["auc_inf"], 200.0 / cl, rtol=2e-5)
    np.testing.assert_allclose(found["cl"], cl, rtol=2e-5)
    np.testing.assert_allclose(found["lambda_z"], cl / v, rtol=1e-6)
    np.testing.assert_allclose(found["mrt"], v / cl + 1 / ka, rtol=5e-5)
    np.testing.assert_allclose(by_rule["lambda_z"], cl / v, rtol=2e-3)  # the tie rule reaches back towards tmax


def _one_dose(amount: float) -> Events:
    one = np.array([0, 1, 2])
    return Events(
        one, np.zeros(2), np.full(2, amount), np.zeros(2, np.int32), np.zeros(2), np.zeros(2), np.zeros(2, np.bool_)
    )


def test_an_infusion_gives_clearance_and_steady_state_volume() -> None:
    """One compartment, infusion of length T: C = R/CL (1 - e^-kt) up to T; CL, V and MRT = 1/k (less T/2) come back."""
    cl, v, length, dose = 5.0, 20.0, 2.0, 100.0
    t = np.concatenate([np.linspace(0, 2, 2001), np.linspace(2.25, 30, 60)])
    rise = dose / length / cl * (1 - np.exp(-cl / v * np.minimum(t, length)))
    conc = rise * np.exp(-cl / v * np.maximum(t - length, 0))
    found = noncompartmental(t, conc, dose, route="infusion", duration=length)
    for name, truth in {"cl": cl, "vss": v, "vz": v, "mrt": v / cl, "tmax": length}.items():
        np.testing.assert_allclose(found[name], truth, rtol=2e-6, err_msg=name)
    assert found["lambda_z_lower"][0] > length


def test_steady_state_of_a_bolus_regimen() -> None:
    """C = C0 e^-kt/(1 - e^-k tau): averages, extremes, fluctuation, swing, accumulation and residence in closed form."""
    k, v, dose, tau = 0.2, 15.0, 120.0, 6.0
    t = np.array([0.0, 0.5, 1, 2, 4, 6])
    once = dose / v * np.exp(-k * t)
    gain = 1 / (1 - math.exp(-k * tau))
    first = noncompartmental(t, once, dose, route="bolus", tau=tau)
    held = noncompartmental(t, once * gain, dose, route="bolus", tau=tau, steady=True)
    top, low = dose / v * gain, dose / v * gain * math.exp(-k * tau)
    average = dose / (k * v * tau)
    truth = {"cavg": average, "cmin": low, "tmin": tau, "ctrough": low, "cmax": top, "fluctuation": 100 * (top - low) / average,
             "swing": 100 * (top - low) / low, "auc_tau": dose / (k * v), "cl": k * v, "vz": v, "mrt": 1 / k, "vss": v,
             "accumulation_index": gain}  # fmt: skip
    for name, value in truth.items():
        np.testing.assert_allclose(held[name], value, rtol=1e-12, err_msg=name)
    for ratio in accumulation(first, held).values():
        np.testing.assert_allclose(ratio, gain, rtol=1e-12)
    assert held.why(0)["auc_inf"] is NcaReason.STEADY_STATE
    assert first.why(0)["cavg"] is NcaReason.NOT_STEADY_STATE


def test_a_trough_between_and_beyond_the_samples() -> None:
    """At steady state by mouth without a sample at 0 or tau: the lowest value starts the profile, log rule, lambda_z."""
    k = 0.3
    t = np.array([1.0, 2, 4, 9])
    conc = 8 * np.exp(-k * t)
    within = noncompartmental(t, conc, 10, tau=6.0, steady=True)
    np.testing.assert_allclose(within["ctrough"], 8 * math.exp(-1.8), rtol=1e-12)
    assert within.profiles.conc[0, 0] == conc[2]  # the lowest of [0, tau]
    assert (within["cmin"][0], within["tmin"][0]) == (conc[2], 4)  # a sampled one, not the value put in at time 0
    outside = noncompartmental(t, conc, 10, tau=0.5, steady=True)
    assert outside.why(0)["cmin"] is outside.why(0)["cmax"] is NcaReason.NO_MEASURABLE
    beyond = noncompartmental(t, conc, 10, tau=12.0, steady=True)
    np.testing.assert_allclose(beyond["ctrough"], 8 * math.exp(-3.6), rtol=1e-12)
    tail = 8 / k * (math.exp(-k) - math.exp(-k * 12)) + 0.5 * (conc[0] + conc[3])
    np.testing.assert_allclose(beyond["auc_tau"], tail, rtol=1e-12)


def test_logarithmic_means_lose_no_digits_near_equality() -> None:
    """Against 40-digit arithmetic: both integrals to 2e-14, also where c1 and c2 agree to 12 digits."""
    mpmath.mp.dps = 40
    gaps = np.concatenate([[1e-13, 1e-9, 1e-5, 1e-3, 0.0199, 0.199, 0.202, 0.7], [-1e-9, -1e-3, -0.03, -4.0]])
    c2 = np.full(gaps.size, 3.0)
    c1 = c2 * np.exp(gaps)
    got = _log_means(c1, c2)
    for a, b, mean, moment in zip(c1, c2, *got, strict=True):
        length = mpmath.log(mpmath.mpf(a) / mpmath.mpf(b))
        exact = (mpmath.mpf(a) - mpmath.mpf(b)) / length
        assert abs(mean / exact - 1) < 2e-15
        assert abs(moment / ((exact - mpmath.mpf(b)) / length) - 1) < 2e-14


# a plain analysis written anew --------------------------------------------------------------------------------------


def _plain(t: np.ndarray, c: np.ndarray) -> dict[str, float]:
    """Extravascular, linear-up/log-down, default rules; one subject, loops and polyfit."""
    pairs = [(x, y) for x, y in zip(t, c, strict=True) if not np.isnan(y)]
    positive = [i for i, (_, y) in enumerate(pairs) if y > 0]
    if not positive:
        return {}
    kept = [(x, y) for i, (x, y) in enumerate(pairs) if (y > 0 or i < positive[0]) and i <= positive[-1]]
    if kept[0][0] > 0:
        kept.insert(0, (0.0, 0.0))
    auc = sum(
        (a[1] - b[1]) * (b[0] - a[0]) / math.log(a[1] / b[1]) if 0 < b[1] < a[1] else (a[1] + b[1]) / 2 * (b[0] - a[0])
        for a, b in pairwise(kept)
    )
    cmax = max(y for _, y in kept)
    tmax = next(x for x, y in kept if y == cmax)
    late = [(x, math.log(y)) for x, y in kept if x > tmax and y > 0]
    fits = []
    for start in range(len(late) - 2):
        x, y = np.array(late[start:]).T
        slope, _ = np.polyfit(x, y, 1)
        r2 = np.corrcoef(x, y)[0, 1] ** 2
        fits.append((1 - (1 - r2) * (len(x) - 1) / (len(x) - 2), len(x), -slope))
    fits = [f for f in fits if f[2] > 0]
    out = {"auc_last": auc, "cmax": cmax, "tmax": tmax, "tlast": kept[-1][0]}
    if fits:
        best = max(f[0] for f in fits)
        chosen = max((f for f in fits if f[0] > best - 1e-4), key=lambda f: f[1])
        out |= {"lambda_z": chosen[2], "lambda_z_points": chosen[1], "auc_inf": auc + kept[-1][1] / chosen[2]}
    return out


def test_ragged_profiles_with_gaps_equal_a_plain_analysis() -> None:
    rng = np.random.default_rng(20)
    t = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24.0])
    level = 30 * (np.exp(-0.15 * t) - np.exp(-1.2 * t)) * np.exp(rng.normal(0, 0.25, (300, t.size)))
    conc = np.where(level < 1.0, 0.0, level)
    conc[rng.random(conc.shape) < 0.15] = np.nan
    conc[0], conc[1] = 0.0, np.nan
    found = noncompartmental(t, conc)
    names = ("auc_last", "cmax", "tmax", "tlast", "lambda_z", "lambda_z_points", "auc_inf")
    wanted = np.array([[_plain(t, row).get(n, np.nan) for n in names] for row in conc])
    np.testing.assert_allclose(np.stack([found[n] for n in names], axis=1), wanted, rtol=1e-9)
    assert 0 < np.count_nonzero(np.isnan(found["lambda_z"])) < 100


def test_a_subject_does_not_depend_on_the_others(theoph: Any) -> None:
    """Identical bits alone, in a batch, in another order, and with padding behind."""
    t, c = theoph
    whole = noncompartmental(t, c, 320, tau=24, windows={"a": (0, 30)})
    order = np.arange(12)[::-1]
    turned = noncompartmental(t[order], c[order], 320, tau=24, windows={"a": (0, 30)})
    padded = noncompartmental(np.pad(t[3], (0, 4), constant_values=np.nan),
                              np.pad(c[3], (0, 4), constant_values=np.nan), 320, tau=24, windows={"a": (0, 30)})  # fmt: skip
    for name, values in whole.values.items():
        np.testing.assert_array_equal(turned[name][order], values, err_msg=name)
        np.testing.assert_array_equal(padded[name][0], values[3], err_msg=name)


def test_scaling_of_time_dose_and_concentration(theoph: Any) -> None:
    """Powers of two change the exponent only: AUC scales with both, MRT with time, CL with dose/(C t)."""
    t, c = theoph
    one, two = noncompartmental(t, c, 320), noncompartmental(t * 4, c * 2, 320)
    for name, factor in {
        "auc_inf": 8,
        "aumc_inf": 32,
        "mrt": 4,
        "lambda_z": 0.25,
        "cl": 1 / 8,
        "vz": 0.5,
        "r2": 1,
    }.items():
        np.testing.assert_allclose(two[name], one[name] * factor, rtol=1e-12, err_msg=name)


# rules ------------------------------------------------------------------------------------------------------------


BELOW = [0, 0.0, 4.0, 0.3, 2.0, 1.0, 0.2, 0.1]  # limit 0.5: two before, one between, two after


@pytest.mark.parametrize(
    ("rules", "auc"),
    [
        (NcaRules(method="linear"), 0 + 2.0 + (4 + 2) / 2 * 2 + 1.5),  # 0, 0, 4, -, 2, 1
        (NcaRules(method="linear", middle="zero"), 0 + 2.0 + 2.0 + 1.0 + 1.5),
        (NcaRules(method="linear", middle="half"), 0 + 2.0 + 4.25 / 2 + 2.25 / 2 + 1.5),
        (NcaRules(method="linear", first="missing"), 4.0 + 6.0 + 1.5),  # 0 put in at time 0, then 4 at time 2
        (NcaRules(method="linear", first="half"), 0.25 + 4.25 / 2 + 6.0 + 1.5),
    ],
)
def test_values_below_the_limit(rules: NcaRules, auc: float) -> None:
    """By hand on eight samples an hour apart."""
    found = noncompartmental(np.arange(8.0), BELOW, lloq=0.5, rules=rules, windows={"whole": (0, 6)})
    assert found["auc_last"][0] == pytest.approx(auc, rel=1e-14)
    assert found["tlast"][0] == 5
    assert found["auc_all"][0] == pytest.approx(auc + 0.5, rel=1e-14)  # a triangle to the first below the limit
    assert found.profiles.n_below[0] == 5


def test_a_last_below_the_limit_as_zero_ends_the_profile() -> None:
    found = noncompartmental(np.arange(8.0), BELOW, lloq=0.5, windows={"whole": (0, 9)},
                             rules=NcaRules(method="linear", last="zero"))  # fmt: skip
    assert found["auc[whole]"][0] == pytest.approx(9.5 + 0.5)
    assert found["auc_last"][0] == pytest.approx(9.5)


@pytest.mark.parametrize(
    ("method", "auc"),
    [
        ("linear", 2 + 5 + 4.5 + 4.5),
        ("linear-up/log-down", 2 + 5 + 3 / math.log(2) + 4.5),
        ("linear-log", 2 + 5 + 3 / math.log(2) + 3 / math.log(2)),
        ("log", 2 + 2 / math.log(6 / 4) + 3 / math.log(2) + 3 / math.log(2)),
    ],
)
def test_trapezoidal_rules(method: Any, auc: float) -> None:
    """By hand: 0, 4, 6, 3, 6 an hour apart; the four rules differ in one segment each."""
    found = noncompartmental(np.arange(5.0), [0, 4.0, 6.0, 3.0, 6.0], rules=NcaRules(method=method))
    assert found["auc_last"][0] == pytest.approx(auc, rel=1e-14)
    assert found["tmax"][0] == 2  # the first of two


def test_a_bolus_whose_first_values_do_not_fall_starts_at_the_first() -> None:
    found = noncompartmental([0, 0.5, 1, 2, 3, 4], [[0, 5, 6, 4, 2, 1], [9, 5, 4, 3, 2, 1]], 10, route="bolus")
    np.testing.assert_array_equal(found["c0"], [5, 9])
    np.testing.assert_array_equal(found.profiles.zero_rule, [3, 1])
    np.testing.assert_array_equal(np.isnan(found["back_extrapolated"]), [False, False])


def test_points_chosen_by_eye_and_limits_of_the_fit(theoph: Any) -> None:
    t, c = theoph
    fixed = np.zeros(t.shape, bool)
    fixed[0, -5:] = True  # R: coef(lm(log(conc) ~ Time, tail(subset(Theoph, Subject == "1"), 5)))
    fixed[1, -2:] = True
    found = noncompartmental(t, c, 320, points=fixed)
    x, y = t[0, -5:], np.log(c[0, -5:])
    assert found["lambda_z"][0] == pytest.approx(-np.polyfit(x, y, 1)[0], rel=1e-12)
    assert found["lambda_z_points"][0] == 5
    assert found.why(1)["lambda_z"] is NcaReason.FEW_FIXED_POINTS
    assert found["lambda_z_points"][2] == 3  # the rules choose for a row without points
    limited = noncompartmental(t, c, 320, rules=NcaRules(min_adjusted_r2=0.99, max_extrapolated=20, min_span_ratio=1.5))
    assert limited.why(7)["lambda_z"] is NcaReason.POOR_FIT
    assert limited["adjusted_r2"][7] == pytest.approx(0.9887655, abs=1e-7)  # the fit stays visible
    assert limited.why(7)["cl"] is NcaReason.NO_TERMINAL_SLOPE
    assert limited.why(0)["lambda_z"] is NcaReason.SHORT_SPAN
    assert np.isfinite(limited["cl"][1])
    far = noncompartmental(t, c, 320, rules=NcaRules(max_extrapolated=20))
    assert far.why(0)["cl"] is NcaReason.LARGE_EXTRAPOLATION
    assert np.isfinite(far["lambda_z"][0])


def test_what_cannot_be_had_is_nan_with_its_reason() -> None:
    rows = [
        [0, 0, 0, 0, 0.0],
        [np.nan] * 5,
        [0, 1, 2, 3, 4.0],
        [0, 3, 2, 0, 0.0],
        [0, 1, 3, 3.5, 3.6],
        [0, 9, 2, 2.5, 3],
    ]
    found = noncompartmental([0, 1, 2, 3, 4], rows, [1, 1, 1, np.nan, 1, 1])
    reasons = [found.why(k).get("lambda_z", NcaReason.OK).name for k in range(6)]
    assert reasons == ["NO_MEASURABLE", "NO_MEASURABLE", "FEW_POINTS", "FEW_POINTS", "FEW_POINTS", "NO_DECLINE"]
    assert found.why(3)["auc_last_dose"] is NcaReason.NO_DOSE
    assert found.why(2)["cl"] is NcaReason.NO_TERMINAL_SLOPE
    assert found.why(2)["vss"] is NcaReason.NOT_THIS_ROUTE
    for name, values in found.values.items():
        np.testing.assert_array_equal(np.isnan(values), found.reasons[name] != NcaReason.OK, err_msg=name)
        assert not np.any(np.isinf(values))


def test_every_rule_is_in_the_result() -> None:
    said = noncompartmental([0, 1, 2, 3], [0, 3, 2, 1.0], 1, rules=NcaRules(max_extrapolated=20)).rules
    assert said["trapezoidal rule"] == "linear-up/log-down"
    assert said["most extrapolated, %"] == "20"
    assert said["value at time zero where not sampled"] == "zero"
    assert all(reason is NcaReason.OK or reason.text for reason in NcaReason)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"time": [0, 1, 1, 2]}, r"time\[0\]: has two samples at one time"),
        ({"time": [0, 2, 1, 3]}, r"time\[0\]: must rise"),
        ({"time": [-1, 0, 1, 2]}, "counted from the dose"),
        ({"time": [0, 1, 2]}, "does not fit the concentrations"),
        ({"time": [], "concentration": []}, "holds no sample"),
        ({"concentration": [0, 1, -2, 1]}, r"concentration\[0\]: must be finite and >= 0"),
        ({"concentration": [0, 1, np.inf, 1]}, "must be finite"),
        ({"dose": 0}, "dose: must be finite and > 0"),
        ({"dose": [1, 2]}, "one per subject"),
        ({"route": "oral"}, "route: is not a route"),
        ({"route": "infusion"}, "duration: must be finite and > 0 for an infusion"),
        ({"duration": 1}, "is for infusions"),
        ({"steady": True}, "tau: is needed at steady state"),
        ({"lloq": -1}, "lloq"),
        ({"windows": {"a": (3, 1)}}, r"windows\.a"),
        ({"rules": NcaRules(middle="half")}, "lloq: must be > 0"),
    ],
)
def test_wrong_input_is_refused(arguments: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"time": [0, 1, 2, 3], "concentration": [0, 3, 2, 1.0]} | arguments
    with pytest.raises(InputError, match=said):
        noncompartmental(given.pop("time"), given.pop("concentration"), given.pop("dose", None), **given)


@pytest.mark.parametrize(
    "wrong", [{"method": "trapezoid"}, {"last": "half"}, {"min_points": 2}, {"max_extrapolated": -1}]
)
def test_wrong_rules_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        NcaRules(**wrong)


# the table --------------------------------------------------------------------------------------------------------


def test_records_and_table_give_the_same(theoph: Any) -> None:
    """The records' own doses (mg), and the same as a shuffled table with a column of doses."""
    records = Records.read(data_path("theophylline.csv"))
    one = nca(records)
    frame = pd.DataFrame({"ID": np.array(records.ids)[records.subject], "TIME": records.time, "DV": records.dv,
                          "D": records.doses.amount[records.subject]})  # fmt: skip
    two = nca(frame.sample(frac=1, random_state=1).sort_values("ID", kind="stable"), dose="D").set_index("ID")
    np.testing.assert_allclose(two.loc[list(one["ID"]), "cl"], one["cl"], rtol=1e-14)
    direct = noncompartmental(*theoph, records.doses.amount)
    np.testing.assert_array_equal(one["cl"], direct["cl"])
    assert one.attrs["units"]["auc_inf"] == "mg/L*h"
    assert one.attrs["rules"]["route"] == "extravascular"
    assert "vss_pred: not defined for this route" in one["reasons"].iloc[0]


@pytest.mark.parametrize(
    ("units", "factor", "unit"),
    [
        ({}, 1.0, "L/h"),
        ({"concentration_unit": "ng/mL"}, 1000.0, "L/h"),
        ({"concentration_unit": "ng/mL", "dose_unit": "ug"}, 1.0, "L/h"),
        ({"dose_unit": "mg/kg"}, 1.0, "L/h/kg"),
        ({"concentration_unit": "umol/L", "dose_unit": "mmol"}, 1000.0, "L/h"),
        ({"time_unit": "min"}, 1.0, "L/min"),
    ],
)
def test_clearance_comes_in_litres_whatever_the_units(units: dict[str, str], factor: float, unit: str) -> None:
    frame = pd.DataFrame({"ID": 1, "TIME": [0, 1, 2, 4, 8], "DV": [0, 10, 8, 4, 1.0]})
    plain = noncompartmental(frame["TIME"], frame["DV"], 100)["cl"][0]
    found = nca(frame, dose=100, **units)
    assert found["cl"].iloc[0] == pytest.approx(plain * factor, rel=1e-14)
    assert found.attrs["units"]["cl"] == unit


def test_profiles_by_several_columns_and_terminal_times() -> None:
    frame = pd.DataFrame({"ID": [1] * 6 + [2] * 6, "PERIOD": ([1] * 6 + [2] * 6), "TIME": [0, 1, 2, 4, 8, 12] * 2,
                          "DV": [0, 10, 8, 4, 1, 0.5] * 2})  # fmt: skip
    found = nca(frame, by=("ID", "PERIOD"), dose=10, terminal={(2, 2): (2, 8)})
    assert list(found["ID"]) == [1, 2]
    assert found["lambda_z_upper"].tolist() == [12, 8]
    assert set(CDISC) <= set(found.columns)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dose": "AMOUNT"}, "is not a column"),
        ({"dose": "TIME"}, "must be constant within a profile"),
        ({"concentration_unit": "nmol/L"}, "is no volume"),
        ({"terminal": {9: (1, 2)}}, "is no profile"),
        ({"terminal": {1: (20, 30)}}, "holds no sample"),
        ({"concentration": "TEXT"}, "not a number"),
    ],
)
def test_wrong_tables_are_refused(change: dict[str, Any], said: str) -> None:
    frame = pd.DataFrame({"ID": 1, "TIME": [0, 1, 2, 4], "DV": [0, 10, 8, 4.0], "TEXT": ["BLQ", "1", "2", "3"]})
    with pytest.raises(InputError, match=said):
        nca(frame, **({"dose": 1.0} | change))


def test_doubles_name_the_profile() -> None:
    with pytest.raises(InputError, match="profile B7: has two samples at one time"):
        nca(pd.DataFrame({"ID": ["B7"] * 3, "TIME": [0, 1, 1], "DV": [0, 1, 2.0]}))


@pytest.mark.parametrize(("time", "value", "said"), [(-1.0, 1.0, "before the dose"), (1.0, -1.0, "negative")])
def test_bad_samples_name_the_profile(time: float, value: float, said: str) -> None:
    with pytest.raises(InputError, match=f"profile 5: .*{said}"):
        nca(pd.DataFrame({"ID": [4, 5, 5], "TIME": [0, time, 3], "DV": [0, value, 2.0]}))


def test_records_of_two_outputs_are_refused() -> None:
    """Warfarin's concentration and prothrombin, say, must not be mixed."""
    text = "ID,TIME,AMT,DV,EVID,DVID\n1,0,10,.,1,.\n1,1,.,5,0,1\n1,2,.,80,0,2\n"
    with pytest.raises(InputError, match="several outputs"):
        nca(Records.parse(text))


def test_records_with_several_doses_are_refused() -> None:
    text = "ID,TIME,AMT,DV,EVID\n1,0,10,.,1\n1,1,.,5,0\n1,12,10,.,1\n1,13,.,6,0\n"
    with pytest.raises(InputError, match="subject 1: needs one dose per subject"):
        nca(Records.parse(text))
