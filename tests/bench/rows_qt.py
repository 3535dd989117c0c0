"""Concentration-QTc: agreement with nlme (../shared/data/qt), size and coverage of the decision on simulated trials."""

from __future__ import annotations

import csv
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.streams import Purpose, normals
from tests.bench.harness import Measured, row
from trials.analysis import qt, qt_bayes, qt_data

Floats = NDArray[np.float64]
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "qt"
TIMES = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 24.0])
AT = 10.0  # concentration of the decision
SEED = 20261122


@lru_cache(maxsize=1)
def _file() -> qt_data.Ecgs:
    return qt_data.read(FOLDER / "scr002_concentration_qtc.csv")


def _reference() -> dict[str, dict[str, float]]:
    with (FOLDER / "scr002_cqtc_lme_reference.csv").open() as file:
        return {r["drug"]: {k: float(v) for k, v in r.items() if k not in ("drug", "random")}
                for r in csv.DictReader(file)}  # fmt: skip


def _against(df: str) -> tuple[float, float]:
    """Largest relative difference of slope and its SE; largest difference of ddQTcF and its limits, ms."""
    relative, apart = 0.0, 0.0
    for drug, asked in _reference().items():
        found = qt.concentration_qt(qt.course_of(_file(), _file().drugs.index(drug)), df=df)
        plain = qt.concentration_qt(qt.course_of(_file(), _file().drugs.index(drug)), df="normal").slope()
        relative = max(relative, abs(plain.estimate[0] / asked["slope"] - 1), abs(plain.se[0] / asked["slope_se"] - 1))
        at = found.added(asked["geomean_cmax"])
        pairs = zip((at.estimate, *at.interval()), ("ddqtcf_at_gmcmax", "lo90", "hi90"), strict=True)
        apart = max(apart, *(abs(float(ours[0]) - asked[name]) for ours, name in pairs))
    return relative, apart


@row("qt.slope", unit="relative", bar="<= 0.01")
def slope() -> Measured:
    return Measured(_against("normal")[0], "slope and SE of both drugs against nlme")


@row("qt.ddqtcf", unit="ms", bar="<= 0.3")
def ddqtcf() -> Measured:
    same, ours = _against("normal")[1], _against("kenward_roger")[1]
    return Measured(ours, f"Kenward-Roger against nlme's normal limits; with normal limits {same:.2g}")


def crossover(replicates: int, people: int, *, added: float, own: float = 0.4) -> qt.Course:
    """Trials of one dose and placebo; true ddQTcF = `added` x conc / AT: sd of subjects' intercepts 5 ms, of their
    slopes `own` x added / AT, residual 7 ms; a time course of 4 ms in both periods."""
    subject, time_ = np.repeat(np.arange(people), 2 * TIMES.size), np.tile(TIMES, 2 * people)
    group = np.tile(np.repeat([0, 1], TIMES.size), people)
    rows = subject.size

    def z(slot: int, size: int) -> Floats:
        columns, rows_ = np.arange(size)[None], np.arange(replicates)[:, None]
        return normals(SEED, Purpose.SUMMARY_TRIAL, subject=columns, replicate=rows_, slot=slot)

    size = np.exp(0.3 * z(0, people))[:, subject]
    conc = np.where(group == 1, 1.0, 0.0) * size * 20.0 * (np.exp(-0.15 * time_) - np.exp(-1.2 * time_))
    slopes = added / AT * (1.0 + own * z(1, people))[:, subject]
    baseline = 400.0 + 15.0 * z(2, people)[:, subject] + 5.0 * z(3, 2 * people)[:, np.arange(rows) // TIMES.size]
    change = slopes * conc + 5.0 * z(4, people)[:, subject] + 4.0 * np.cos(time_ * np.pi / 12.0) + 7.0 * z(5, rows)
    return qt.Course(
        subject=subject, time=time_, group=group, conc=conc, change=change - 0.3 * (baseline - 400.0), baseline=baseline
    )


def _simulated(df: str, people: int, replicates: int) -> tuple[float, float]:
    """Shares of trials: 10 ms excluded although true; 90 % interval holds the truth."""
    found = qt.concentration_qt(crossover(replicates, people, added=10.0), df=df)
    low, high = found.added(AT).interval(0.90)
    return float(found.excluded(AT).mean()), float(((low <= 10.0) & (high >= 10.0)).mean())


@row("qt.size", unit="%", bar="3.9 .. 6.1")
def size() -> Measured:
    """A true effect of exactly 10 ms declared excluded: 5 %, within 3 Monte Carlo errors of 4,000 trials (and 3.3 %)."""
    begin = time.process_time()
    wrong = {n: _simulated("kenward_roger", n, 4000) for n in (12, 24)}
    normal = {n: _simulated("normal", n, 4000) for n in (12, 24)}
    note = ", ".join(
        f"{n} subjects {100 * wrong[n][0]:.1f} % (normal limits {100 * normal[n][0]:.1f} %)" for n in wrong
    )
    return Measured(100 * max(w[0] for w in wrong.values()), f"{note}; {time.process_time() - begin:.0f} CPU s")


@row("qt.coverage", unit="%", bar="88.6 .. 91.4")
def coverage() -> Measured:
    """Of the two-sided 90 % interval, 24 subjects, 4,000 trials."""
    held = _simulated("kenward_roger", 24, 4000)[1]
    return Measured(100 * held, "Kenward-Roger, true ddQTcF 10 ms")


@row("qt.bayes_coverage", unit="%", bar="85.5 .. 94.5")
def bayes_coverage() -> Measured:
    """Of the Bayesian 90 % interval, 24 subjects, 400 trials: 3 Monte Carlo errors."""
    course = crossover(400, 24, added=10.0)
    held, sound = [], []
    for r in range(400):
        one = qt.Course(subject=course.subject, time=course.time, group=course.group, conc=course.conc[r : r + 1],
                        change=course.change[r : r + 1], baseline=course.baseline[r : r + 1])  # fmt: skip
        fit = qt.concentration_qt(one)
        drawn = qt_bayes.posterior(fit, draws=1000, seed=SEED + r)
        found = drawn.added(fit.weights(AT)[0])
        held.append(found.lower <= 10.0 <= found.upper)
        sound.append(drawn.effective)
    return Measured(100 * float(np.mean(held)), f"effective draws of 1,000: {min(sound):.0f} to {max(sound):.0f}")


@row("qt.speed", unit="ms", bar="<= 10")
def speed() -> Measured:
    course = crossover(400, 24, added=10.0)
    qt.concentration_qt(crossover(2, 24, added=10.0)).excluded(AT)
    begin = time.process_time()
    qt.concentration_qt(course).excluded(AT)
    return Measured(1000 * (time.process_time() - begin) / 400, "CPU a trial: fit, Kenward-Roger, decision; 480 lines")
