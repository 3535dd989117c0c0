"""Concentration-QTc: witnesses R nlme 3.1 (../shared/data/qt), R lme4 with pbkrtest, identities."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis import qt, qt_bayes, qt_data
from trials.analysis.random_effects import profiled

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
    assert [course.change.size, int(course.subject.max()) + 1] == [int(asked["n_obs"]), int(asked["n_subj"])]
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


def made(slope: float, people: int = 10, spread: float = 1.0) -> qt.Course:
    """A crossover; subjects have intercepts (sd 3 ms) and slopes (sd 0.1 ms) of their own, times `spread`."""
    subject, time = np.repeat(np.arange(people), 8), np.tile([1.0, 2.0, 4.0, 8.0], 2 * people)
    group = np.tile(np.repeat([0, 1], 4), people)
    z = normals(11, Purpose.SUMMARY_TRIAL, subject=np.arange(8 * people)[:, None], replicate=0, slot=np.arange(4))
    own = spread * z[:people][subject]
    conc = np.where(group == 1, 10.0 * (1 + subject % 3) * np.exp(-0.3 * time), 0.0)
    change = (slope + 0.1 * own[:, 0]) * conc + 3.0 * own[:, 1] + 2.0 * np.cos(time) + 2.0 * z[:, 2]
    return qt.Course(
        subject=subject, time=time, group=group, conc=conc[None], change=change[None],
        baseline=(400.0 + 5.0 * z[:, 3])[None],
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


def test_the_posterior_is_the_restricted_likelihood_under_flat_priors() -> None:
    """log p(u | y) - Jacobian = restricted log likelihood + constant, at any variances (Harville 1974)."""
    m = qt.concentration_qt(made(0.4)).fit.moments
    u = np.array([[0.3, -1.0, 0.4, 0.1], [-0.5, 0.2, -0.3, 0.4], [1.0, 0.5, 0.0, -0.2]])
    sd = qt_bayes._natural(u)
    jacobian = u[:, 0] + u[:, 1] + u[:, 3] + np.log1p(-(sd[:, 2] ** 2))
    found = qt_bayes._log_posterior(m, u, qt_bayes.Priors.flat())[0] - jacobian
    factor = np.zeros((3, 2, 2))
    factor[:, 0, 0], factor[:, 1, 0] = sd[:, 0] / sd[:, 3], sd[:, 2] * sd[:, 1] / sd[:, 3]
    factor[:, 1, 1] = np.sqrt(1 - sd[:, 2] ** 2) * sd[:, 1] / sd[:, 3]
    whole, free = profiled(m, factor), m.rows - (m.ww.shape[1] - 1)
    restricted = -0.5 * (whole.log_det + free * np.log(sd[:, 3] ** 2) + whole.rss / sd[:, 3] ** 2)
    assert found - found[0] == pytest.approx(restricted - restricted[0], rel=1e-9)


def test_the_posterior_agrees_with_the_mixed_model_and_with_a_sharp_prior_leaves_it() -> None:
    """Flat priors, 60 subjects: mean and limits within 0.1 se of REML's; a sharp prior pulls to itself."""
    fit = qt.concentration_qt(made(0.4, people=60))
    reml, weights = fit.added(20.0), fit.weights(20.0)[0]
    drawn = qt_bayes.posterior(fit, qt_bayes.Priors.flat(), draws=1500)
    flat = drawn.added(weights)
    assert drawn.sound
    assert flat.mean == pytest.approx(reml.estimate[0], abs=0.1 * reml.se[0])
    assert flat.sd == pytest.approx(reml.se[0], rel=0.06)
    assert (flat.lower, flat.upper) == pytest.approx(np.ravel(reml.interval()), abs=0.1 * reml.se[0])
    assert flat.below == pytest.approx(0.5 * math.erfc((flat.mean - 10.0) / flat.sd / math.sqrt(2)), abs=0.01)
    sharp = qt_bayes.Priors(on_drug=(3.0, 1e-4), slope_mean=(1.0, 1e-4))
    pulled = qt_bayes.posterior(fit, sharp, draws=400).added(weights)
    assert pulled.mean == pytest.approx(3.0 + 20.0 / fit.scale[0], abs=0.01)
    assert qt_bayes.posterior(fit, qt_bayes.Priors.flat(), draws=1500).added(weights) == flat


def test_the_posterior_is_sound_where_the_subjects_do_not_differ() -> None:
    """The best D is singular (variances of 0): importance sampling still has enough effective draws."""
    fit = qt.concentration_qt(made(0.4, people=12, spread=0.0))
    assert fit.fit.singular[0]
    assert qt_bayes.posterior(fit, draws=2000).effective > 500
