"""A whole concentration-QTc analysis of one file: every drug against placebo, the decision, the checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from trials.analysis import qt_checks as checks
from trials.analysis.contrasts import AnalysisStatus
from trials.analysis.qt import LEVEL, LIMIT, Course, QtFit, concentration_qt, course_of, geometric_mean_cmax
from trials.analysis.qt_bayes import Added, Posterior, Priors, posterior
from trials.analysis.qt_data import Ecgs
from trials.analysis.qt_risk import METRICS, Exposure, Herg, Margin
from trials.analysis.random_effects import Contrast

__all__ = ["ASSAY", "Asked", "Dose", "Drug", "QtStudy", "studied"]

Floats = NDArray[np.float64]
ASSAY = 5.0  # ms: what the lower limit of a positive control must exceed (ICH E14; Garnett et al. 2018)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked besides the model: degrees of freedom, the positive control, priors, draws, seed; by drug: the
    concentration of the decision (where not each dose's geometric mean Cmax), hERG data, share unbound in plasma."""

    df: str = "kenward_roger"
    at: Mapping[str, float] = field(default_factory=dict)
    positive: str | None = None
    priors: Priors = field(default_factory=Priors)
    draws: int = 4000
    seed: int = 20261121
    herg: Mapping[str, Herg] = field(default_factory=dict)
    unbound: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """One treatment: its exposure, what the model adds there, what was seen. `added` and `bayes` at `conc`."""

    treatment: str
    people: int
    cmax: float
    cmax_interval: tuple[float, float]
    sd_log: float
    conc: float
    added: Contrast
    bayes: Added | None
    by_time: checks.ByTime
    heart_rate: checks.ByTime | None
    hysteresis: checks.Hysteresis
    outliers: checks.Outliers

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided 90 % limits of what the model adds."""
        low, high = self.added.interval(LEVEL)
        return float(low[0]), float(high[0])

    @property
    def excluded(self) -> bool:
        """Whether an effect of 10 ms is excluded here."""
        return self.interval[1] < LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Drug:
    """One drug: the fit, its doses by exposure, checks of the model. Where `status` is not OK nothing was estimated."""

    name: str
    status: AnalysisStatus
    course: Course
    fit: QtFit
    lines: int
    people: int
    doses: tuple[Dose, ...]
    slope: Contrast
    treatment: Contrast
    quadratic: Contrast
    quadratic_p: float
    deciles: checks.Deciles | None
    posterior: Posterior | None
    margins: dict[str, Margin]

    @property
    def highest(self) -> Dose:
        """The dose of the decision."""
        return self.doses[-1]

    @property
    def sensitive(self) -> bool:
        """As a positive control: slope above 0 (one-sided 5 %) and lower limit at its Cmax above 5 ms."""
        return bool(self.slope.interval(LEVEL)[0][0] > 0.0) and self.highest.interval[0] > ASSAY


@dataclass(frozen=True, slots=True, kw_only=True)
class QtStudy:
    """All of it. rate: slopes of QTcF and QTcB on RR, {(correction, "off" or "on" drug): slope}."""

    data: Ecgs
    asked: Asked
    drugs: tuple[Drug, ...]
    placebo: checks.Outliers
    rate: dict[tuple[str, str], Contrast]

    @property
    def failed(self) -> tuple[Drug, ...]:
        """Drugs without an estimate."""
        return tuple(drug for drug in self.drugs if drug.status)

    @property
    def positive(self) -> Drug | None:
        """The positive control."""
        return next((drug for drug in self.drugs if drug.name == self.asked.positive), None)


def studied(data: Ecgs, asked: Asked | None = None) -> QtStudy:
    """Analyse every drug of the data. Errors: InputError for an unknown positive control, or no drug at all."""
    asked = asked or Asked()
    if len(data.drugs) < 2:
        raise InputError(f"has no treatment besides {data.drugs[0]}", field="treatment")
    named = {"--positive": (asked.positive,) if asked.positive else (), "--at": asked.at, "--herg": asked.herg,
             "--unbound": asked.unbound}  # fmt: skip
    for option, names in named.items():
        for name in names:
            if name not in data.drugs[1:]:
                remedy = nearest(name, data.drugs[1:])
                raise InputError("is not a drug of the file", field=option, value=name, remedy=remedy)
    return QtStudy(
        data=data, asked=asked, drugs=tuple(_drug(data, code, asked) for code in range(1, len(data.drugs))),
        placebo=checks.outliers(data, data.treatments.index(data.drugs[0])), rate=_rates(data),
    )  # fmt: skip


def _rates(data: Ecgs) -> dict[tuple[str, str], Contrast]:
    made = {}
    for corrected in ("fridericia", "bazett"):
        if corrected == "bazett" and not np.isfinite(data.qt).any():
            continue
        for when in ("off", "on"):
            made[corrected, when] = checks.rate_slope(data, on_drug=when == "on", corrected=corrected)
    return {key: slope for key, slope in made.items() if np.isfinite(slope.estimate[0])}


def _drug(data: Ecgs, code: int, asked: Asked) -> Drug:
    course = course_of(data, code)
    fit = concentration_qt(course, df=asked.df)
    status = AnalysisStatus(int(fit.status[0]))
    drawn = None if status else posterior(fit, asked.priors, seed=asked.seed, draws=asked.draws)
    names = np.unique(data.treatment[data.drug == code]).tolist()
    doses = [_dose(data, (name, k), (course, fit, drawn), asked) for k, name in enumerate(names, 1)]
    doses.sort(key=lambda dose: (math.isnan(dose.cmax), dose.cmax))  # the highest might be the one that is not known
    quadratic, p = checks.linearity(course, asked.df)
    return Drug(
        name=data.drugs[code], status=status, course=course, fit=fit, lines=int(fit.fit.moments.rows[0]),
        people=int(course.subject.max()) + 1, doses=tuple(doses), slope=fit.slope(), treatment=fit.treatment(),
        quadratic=quadratic, quadratic_p=p, deciles=None if status else checks.deciles(course, fit), posterior=drawn,
        margins=_margins(doses[-1], data.drugs[code], asked),
    )  # fmt: skip


def _dose(
    data: Ecgs, which: tuple[int, int], model: tuple[Course, QtFit, Posterior | None], asked: Asked
) -> Dose:  # fmt: skip
    (code, group), (course, fit, drawn) = which, model
    cmax, sd, people = (float(x[0]) for x in geometric_mean_cmax(course, group))
    conc = asked.at.get(data.drugs[data.drug[data.treatment == code][0]], cmax)
    changes = checks.panel(data, code, data.change)
    rates = checks.added_by_time(checks.panel(data, code, data.hr_change))
    return Dose(
        treatment=data.treatments[code], people=int(people), cmax=cmax, sd_log=sd,
        cmax_interval=_of_mean(cmax, sd, int(people)), conc=conc, added=fit.added(conc),
        bayes=None if drawn is None else drawn.added(fit.weights(conc)[0]), by_time=checks.added_by_time(changes),
        heart_rate=rates if np.isfinite(rates.mean).any() else None,
        hysteresis=checks.hysteresis(changes, seed=asked.seed), outliers=checks.outliers(data, code),
    )  # fmt: skip


def _of_mean(mean: float, sd: float, people: int) -> tuple[float, float]:
    """90 % t interval of a geometric mean."""
    from scipy.special import stdtrit

    if people < 2 or math.isnan(sd):
        return math.nan, math.nan
    half = float(stdtrit(people - 1, 0.5 + LEVEL / 2.0)) * sd / math.sqrt(people)
    return mean * math.exp(-half), mean * math.exp(half)


def _margins(dose: Dose, drug: str, asked: Asked) -> dict[str, Margin]:
    if drug not in asked.herg:
        return {}
    if drug not in asked.unbound:
        raise InputError(
            "a margin needs the share unbound in plasma", field="--unbound", remedy=f"--unbound {drug}=0.1"
        )
    exposure = Exposure(cmax=dose.conc, sd_log=dose.sd_log, people=dose.people, unbound=asked.unbound[drug])
    return {name: metric.run(exposure, asked.herg[drug]) for name, metric in METRICS.items()}
