"""Checks of a concentration-QTc analysis: witnesses scipy's t tests, made data whose answer is known, identities."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis import qt_checks, qt_data, qt_risk, qt_study
from trials.analysis.qt import course_of

Floats = NDArray[np.float64]
TIMES = np.array([-0.5, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])


def ecgs(*, late: float = 0.0, bend: float = 0.0, parallel: bool = False, beat: float = 0.0) -> qt_data.Ecgs:
    """12 subjects on placebo and drug: QTcF = 400 + 2 (effect site conc) + bend conc^2 + noise (sd 1 ms), the effect
    site `late` hours behind; 3 cos(t) ms in both; RR 900 to 1100 ms, on drug heart rate higher by `beat`."""
    people = 24 if parallel else 12
    texts: dict[str, list[str]] = {"subject": [], "treatment": []}
    numbers: dict[str, list[float]] = {"time": [], "conc": [], "qtcf": [], "rr": [], "qt": []}
    z = normals(3, Purpose.SUMMARY_TRIAL, subject=np.arange(people)[:, None], replicate=0, slot=np.arange(100))
    for s in range(people):
        for arm in ("placebo", "drug"):
            if parallel and (arm == "drug") != (s % 2 == 1):
                continue
            for k, t in enumerate(TIMES):
                c, e = (_conc(x, arm) * math.exp(0.2 * z[s, 99]) for x in (t, t - late))
                noise, rr = z[s, k + 20 * (arm == "drug")], 1000.0 + 30.0 * z[s, 40 + k + 20 * (arm == "drug")]
                rr = 60_000.0 / (60_000.0 / rr + beat * (c > 0.0))
                qtcf = 400.0 + z[s, 98] * 5.0 + 3.0 * math.cos(t) + 2.0 * e + bend * c * c + noise
                texts["subject"].append(f"s{s:02d}")
                texts["treatment"].append(arm)
                for name, value in zip(numbers, (t, c, qtcf, rr, qtcf * (rr / 1000.0) ** (1 / 3)), strict=True):
                    numbers[name].append(value)
    return qt_data.ecgs(texts, numbers)


def _conc(t: float, arm: str) -> float:
    return 10.0 * (math.exp(-0.3 * t) - math.exp(-1.5 * t)) if arm == "drug" and t > 0.0 else 0.0


def test_by_time_differences_are_scipys_paired_and_welch_intervals() -> None:
    for parallel in (False, True):
        data = ecgs(parallel=parallel)
        shown = qt_checks.panel(data, data.treatments.index("drug"), data.change)
        assert shown.paired is not parallel
        found = qt_checks.added_by_time(shown)
        for k in (0, 4):
            pair = shown.active[:, k], shown.placebo[:, k]
            test = stats.ttest_ind(*pair, equal_var=False) if parallel else stats.ttest_rel(*pair)
            limits = test.confidence_interval(0.90)
            assert (found.lower[k], found.upper[k]) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_a_late_effect_is_seen_and_a_direct_one_is_not() -> None:
    """An effect that follows the concentration by 2 h: delay 2 h, counter-clockwise; one without delay: neither."""
    late, direct = (
        qt_checks.hysteresis(qt_checks.panel(data, data.treatments.index("drug"), data.change))
        for data in (ecgs(late=2.0), ecgs())
    )
    assert late.suggested
    assert late.delay == pytest.approx(2.0, abs=1.0)
    assert late.area_interval[0] > 0.0
    assert not direct.suggested
    assert abs(direct.delay) <= qt_checks.DELAY
    assert direct.area_interval[0] < 0.0 < direct.area_interval[1]
    early = qt_checks._area(np.array([1.0, 2.0, 1.0]), np.array([2.0, 2.0, 0.0]))
    assert early < 0.0  # up on the left, down on the right: clockwise


def test_curvature_is_found_where_it_is() -> None:
    assert qt_checks.linearity(course_of(ecgs(bend=0.5), 1))[1] < 1e-3
    assert qt_checks.linearity(course_of(ecgs(), 1))[1] > 0.01


def test_fridericia_holds_on_data_made_with_it_and_bazett_does_not() -> None:
    data = ecgs()
    holds, over = (qt_checks.rate_slope(data, on_drug=False, corrected=c) for c in ("fridericia", "bazett"))
    low, high = (float(x[0]) for x in holds.interval())
    assert low < 0.0 < high
    assert over.estimate[0] == pytest.approx(-400.0 / 6.0, abs=15.0)  # d/dRR of QTcF RR^(1/3 - 1/2) at RR = 1 s
    assert float(over.interval()[1][0]) < 0.0


def test_heart_rate_is_flagged_by_its_mean() -> None:
    data = ecgs(beat=12.0)
    found = qt_checks.added_by_time(qt_checks.panel(data, data.treatments.index("drug"), data.hr_change))
    assert found.mean[found.worst] == pytest.approx(12.0, abs=2.0)


def test_outliers_are_counted_by_subject_strictly_beyond_the_limit() -> None:
    texts = {
        "subject": ["a"] * 4 + ["b"] * 3,
        "treatment": ["placebo", "drug", "drug", "drug", "placebo", "drug", "drug"],
    }
    table = (("time", [0, 0, 1, 2, 0, 0, 1]), ("conc", [0] * 7), ("qtcf", [400, 440, 500.5, 471, 400, 420, 450]))
    numbers = {name: np.array(column, np.float64) for name, column in table}
    data = qt_data.ecgs(texts, numbers)
    found = qt_checks.outliers(data, data.treatments.index("drug"))
    assert found.subjects == 2
    assert found.counts == {"QTcF > 450 ms": 1, "QTcF > 480 ms": 1, "QTcF > 500 ms": 1, "dQTcF > 30 ms": 1,
                            "dQTcF > 60 ms": 1}  # fmt: skip
    assert found.lines["dQTcF > 30 ms"] == 2


def test_tenths_lie_on_the_line_they_were_made_from() -> None:
    data = ecgs()
    study = qt_studied(data)
    drug = study.drugs[0]
    assert drug.deciles is not None
    assert drug.deciles.n.sum() == 12 * 7
    line = drug.fit.treatment().estimate[0] + drug.fit.slope().estimate[0] * drug.deciles.conc
    assert np.abs(drug.deciles.mean - line).max() < 2.5


def qt_studied(data: qt_data.Ecgs, **asked: object) -> qt_study.QtStudy:
    return qt_study.studied(data, qt_study.Asked(draws=400, **asked))  # type: ignore[arg-type]


def test_a_positive_control_and_a_decision() -> None:
    data = ecgs()
    study = qt_studied(data, positive="drug", at={"drug": 3.0}, herg={"drug": qt_risk.Herg(ic50=20.0)},
                       unbound={"drug": 0.5})  # fmt: skip
    drug = study.drugs[0]
    assert drug.sensitive  # 2 ms a unit, Cmax about 5: 10 ms, and at 3 the lower limit is above 5
    assert drug.highest.added.estimate[0] == pytest.approx(6.0, abs=1.0)
    assert drug.highest.excluded
    assert drug.margins["herg_margin"].estimate == pytest.approx(20.0 / (0.5 * 3.0))
    assert not drug.margins["herg_margin"].whole
    with pytest.raises(InputError, match="not a drug of the file"):
        qt_studied(data, positive="drugg")
    with pytest.raises(InputError, match="--unbound"):
        qt_studied(data, herg={"drug": qt_risk.Herg(ic50=20.0)})


def test_the_margin_carries_both_errors() -> None:
    """Variances of the logarithms add: sd ln(45/20)/(2 x 1.96) of the IC50, 0.2/5 of the mean Cmax."""
    exposure = qt_risk.Exposure(cmax=2.0, sd_log=0.2, people=25, unbound=0.5)
    m = qt_risk.herg_margin(exposure, qt_risk.Herg(ic50=30.0, lower=20.0, upper=45.0))
    sd = math.hypot(math.log(45 / 20) / (2 * stats.norm.ppf(0.975)), 0.2 / 5)
    assert (m.estimate, m.lower) == pytest.approx((30.0, 30.0 * math.exp(-stats.norm.ppf(0.95) * sd)))
    with pytest.raises(InputError, match="unbound"):
        qt_risk.herg_margin(qt_risk.Exposure(cmax=2.0, sd_log=0.2, people=25, unbound=1.5), qt_risk.Herg(ic50=30.0))


@pytest.mark.parametrize(("column", "rows", "ok"), [("conc", "all", False), ("qtcf", "one time", True)])
def test_missing_values_end_in_a_status_or_are_left_out(column: str, rows: str, ok: bool) -> None:
    """No concentration at all: no model, nothing excluded; no QTcF at one time: that time is no level of the factor."""
    whole = ecgs()
    gone = whole.time == 2.0 if rows == "one time" else np.ones(whole.time.size, bool)
    left = np.where(gone, np.nan, getattr(whole, column))
    changed = replace(whole, conc=left) if column == "conc" else replace(whole, qtcf=left)
    drug = qt_studied(changed).drugs[0]
    assert (drug.status == 0) is ok
    assert drug.highest.excluded is False
    assert ok is (drug.lines == 12 * 2 * 6)
    assert math.isnan(drug.highest.hysteresis.delay) is not ok


def test_the_dose_of_the_decision_is_the_highest_exposure_and_an_unknown_one_comes_last() -> None:
    """Doses named in no order; without concentrations a dose may be the highest: nothing is excluded then."""
    z = normals(5, Purpose.SUMMARY_TRIAL, subject=np.arange(8)[:, None], replicate=0, slot=np.arange(40))
    lines = [(s, k, t) for s in range(8) for k in range(4) for t in (-1.0, 1.0, 2.0, 4.0)]
    for middle, order in ((1.0, ["b", "c", "a"]), (math.nan, ["c", "a", "b"])):
        size = {"placebo": 0.0, "a": 5.0, "b": middle, "c": 3.0}
        conc = [0.0 if t < 0 else list(size.values())[k] * t * math.exp(-t / 2.0) for _, k, t in lines]
        qtcf = [400.0 + np.nan_to_num(c) + z[s, k * 4 + int(t) % 4] for c, (s, k, t) in zip(conc, lines, strict=True)]
        texts = {"subject": [f"s{s}" for s, _, _ in lines], "treatment": [list(size)[k] for _, k, _ in lines],
                 "drug": ["placebo" if k == 0 else "drug" for _, k, _ in lines]}  # fmt: skip
        data = qt_data.ecgs(texts, {"time": [t for *_, t in lines], "conc": conc, "qtcf": qtcf})
        drug = qt_studied(data).drugs[0]
        assert [dose.treatment for dose in drug.doses] == order
        assert drug.highest.excluded is math.isfinite(middle)


def test_a_time_without_placebo_is_no_peak_of_a_resample() -> None:
    """By hand: effects of -5, -1 and nothing known: the peak is at 2 h in every resample, that of concentration too."""
    shown = qt_checks.Panel(
        times=np.array([1.0, 2.0, 4.0]), active=np.tile([5.0, 9.0, 4.0], (4, 1)), conc=np.tile([1.0, 3.0, 2.0], (4, 1)),
        placebo=np.tile([10.0, 10.0, np.nan], (4, 1)), paired=True,
    )  # fmt: skip
    found = qt_checks.hysteresis(shown)
    assert (found.delay, *found.delay_interval) == (0.0, 0.0, 0.0)
