"""Concentration-QTc: witnesses R nlme 3.1 (../shared/data/qt), R lme4 with pbkrtest, identities."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.analysis import qt, qt_data

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "qt"
FILE = FOLDER / "scr002_concentration_qtc.csv"

witness = pytest.mark.witness
needs = pytest.mark.skipif(not FOLDER.exists(), reason="../shared/data/qt is not here")

# Rscript: lmer(dqtcf_ms ~ TRT + S + T + cb + (1 + S | subject)), S = conc / max(conc); lmerTest::contest of
# TRT + gm S, ddf = "Kenward-Roger" (pbkrtest), the same data as the nlme reference
PBKRTEST = {"dofetilide": (71.14381, 3.845983366, 22.45864828), "ranolazine": (11.74164652, 1.391753462, 20.34204159)}


@pytest.fixture(scope="module")
def scr002() -> qt_data.Ecgs:
    return qt_data.read(FILE)


def reference(drug: str) -> dict[str, float]:
    with (FOLDER / "scr002_cqtc_lme_reference.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["drug"] == drug)
    return {k: float(v) for k, v in row.items() if k not in ("drug", "random")}


@witness
@needs
@pytest.mark.parametrize("drug", ["dofetilide", "ranolazine"])
def test_the_model_is_nlmes(scr002: qt_data.Ecgs, drug: str) -> None:
    """Bars: slope and SE 1 %, ddQTcF and limits 0.3 ms. Most are held far closer (the file rounds dQTcF to 0.001)."""
    asked = reference(drug)
    course = qt.course_of(scr002, scr002.drugs.index(drug))
    assert (course.change.size, course.subject.max() + 1) == (asked["n_obs"], asked["n_subj"])
    cmax, _, people = qt.geometric_mean_cmax(course, 1)
    assert (cmax[0], people[0]) == (pytest.approx(asked["geomean_cmax"], rel=1e-7), asked["n_subj"])
    found = qt.concentration_qt(course, df="normal")
    slope, at = found.slope(), found.added(cmax)
    assert slope.estimate[0] == pytest.approx(asked["slope"], rel=1e-4)
    assert slope.se[0] == pytest.approx(asked["slope_se"], rel=1e-4)
    assert found.treatment().estimate[0] == pytest.approx(asked["trt_intercept"], abs=1e-3)
    assert found.treatment().se[0] == pytest.approx(asked["trt_se"], abs=1e-3)
    assert at.estimate[0] == pytest.approx(asked["ddqtcf_at_gmcmax"], abs=1e-3)
    assert np.ravel(at.interval()) == pytest.approx([asked["lo90"], asked["hi90"]], abs=1e-3)
    spread = np.sqrt([found.fit.d[0, 0, 0], found.fit.d[0, 1, 1] / found.scale[0] ** 2, found.fit.sigma2[0]])
    assert spread == pytest.approx([asked["sd_int"], asked["sd_slope"], asked["sd_resid"]], rel=1e-3)
    contained = qt.concentration_qt(course, df="containment").slope()
    assert contained.df[0] == asked["slope_df"]


@witness
@needs
@pytest.mark.parametrize("drug", ["dofetilide", "ranolazine"])
def test_kenward_roger_is_pbkrtests_and_within_the_bar_of_nlme(scr002: qt_data.Ecgs, drug: str) -> None:
    asked = reference(drug)
    found = qt.concentration_qt(qt.course_of(scr002, scr002.drugs.index(drug)))
    at = found.added(asked["geomean_cmax"])
    estimate, se, df = PBKRTEST[drug]
    assert (at.estimate[0], at.se[0]) == (pytest.approx(estimate, abs=1e-3), pytest.approx(se, rel=1e-4))
    assert at.df[0] == pytest.approx(df, rel=1e-4)
    assert np.ravel(at.interval()) == pytest.approx([asked["lo90"], asked["hi90"]], abs=0.3)
    assert not found.excluded(asked["geomean_cmax"])[0]  # both drugs prolong QT by more than 10 ms at this dose


def made(slope: float, people: int = 10) -> qt.Course:
    """A crossover without noise but a little: the truth is known."""
    subject, time = np.repeat(np.arange(people), 8), np.tile([1.0, 2.0, 4.0, 8.0], 2 * people)
    group = np.tile(np.repeat([0, 1], 4), people)
    conc = np.where(group == 1, 10.0 * (1 + subject % 3) * np.exp(-0.3 * time), 0.0)
    noise = np.sin(np.arange(8.0 * people) ** 2)
    change = slope * conc + 2.0 * np.cos(time) + noise
    return qt.Course(
        subject=subject, time=time, group=group, conc=conc[None], change=change[None],
        baseline=(400.0 + subject + noise[::-1])[None],
    )  # fmt: skip


def test_the_unit_of_concentration_changes_nothing() -> None:
    course = made(0.4)
    grams = qt.Course(**{name: getattr(course, name) for name in ("subject", "time", "group", "change", "baseline")},
                      conc=course.conc * 1e-6)  # fmt: skip
    one, other = qt.concentration_qt(course), qt.concentration_qt(grams)
    assert other.slope().estimate[0] * 1e-6 == pytest.approx(one.slope().estimate[0], rel=1e-9)
    assert other.added(20e-6).interval()[1][0] == pytest.approx(one.added(20.0).interval()[1][0], rel=1e-8)


def test_the_decision_is_of_the_upper_limit() -> None:
    course = made(0.4)
    found = qt.concentration_qt(course)
    upper = found.added(20.0).interval(0.90)[1][0]
    assert found.excluded(20.0, limit=upper + 1e-9)[0]
    assert not found.excluded(20.0, limit=upper - 1e-9)[0]
    lost = qt.Course(**{name: getattr(course, name) for name in ("subject", "time", "group", "conc", "baseline")},
                     change=np.full_like(course.change, np.nan))  # fmt: skip
    assert not qt.concentration_qt(lost).excluded(20.0)[0]  # no fit excludes nothing


def test_geometric_mean_of_the_largest_concentration() -> None:
    course = made(0.0, people=3)
    cmax, sd, people = qt.geometric_mean_cmax(course, 1)
    peaks = [10.0 * k * math.exp(-0.3) for k in (1, 2, 3)]
    assert cmax[0] == pytest.approx(math.prod(peaks) ** (1 / 3))
    assert (sd[0], people[0]) == (pytest.approx(np.std(np.log(peaks), ddof=1)), 3)


def test_corrections_of_qt() -> None:
    """QT / cube root and / square root of RR in seconds: 400 ms at RR 512 ms and 640 ms."""
    assert float(qt_data.fridericia(400.0, 512.0)) == pytest.approx(500.0)
    assert float(qt_data.bazett(400.0, 640.0)) == pytest.approx(500.0)
    assert float(qt_data.fridericia(400.0, 1000.0)) == 400.0


LINES = "subject,treatment,time_h,conc,qt_ms,rr_ms\n"


def written(tmp_path: Path, *lines: str, header: str = LINES) -> Path:
    path = tmp_path / "qt.csv"
    path.write_text(header + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_file_with_qt_and_rr_is_read(tmp_path: Path) -> None:
    """Baseline: the mean of the lines before the dose of the same treatment; missing cells stay missing."""
    rows = ("b,x,-1,,400,1000", "b,x,0,,404,1000", "b,x,1,5,420,1000", "b,x,2,NA,380,512",
            "b,placebo,0,,400,1000", "b,placebo,1,3,401,1000")  # fmt: skip
    data = qt_data.read(written(tmp_path, *rows))
    x = data.drug == 1
    assert data.drugs == ("placebo", "x")
    assert data.change[x].tolist() == pytest.approx([-2.0, 2.0, 18.0, 475.0 - 402.0])
    assert data.conc[~x].tolist() == [0.0, 0.0]  # whatever the file says of placebo
    assert np.isnan(data.conc[x]).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("header", "line", "said"), [
    (LINES, "1,x,1,5,400,800", "no line is of placebo"),
    (LINES, "1,placebo,1,0,abc,800", "qt.csv:2 qt_ms: is not a number"),
    (LINES, "1,placebo,1,-1,400,800", None),
    (LINES, "1,placebo,1,0,0.4,0.8", "must be in ms"),
    ("subject,treatment,time_h,conc,qt_ms\n", "1,placebo,1,0,400", "QTcF is not there"),
    ("subject,treatment,time_h,qtcf_ms\n", "1,placebo,1,400", "no such column"),
    (LINES, ",placebo,1,0,400,800", "subject: is empty"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, header: str, line: str, said: str | None) -> None:
    path = written(tmp_path, line, header=header)
    if said is None:
        assert qt_data.read(path).conc.tolist() == [0.0]
        return
    with pytest.raises(InputError, match=said):
        qt_data.read(path)
