"""The page of a concentration-QTc analysis: the decision first, then what it rests on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from reports.figures import effects, qt
from reports.figures.palette import Look, looks
from reports.page import Page
from reports.tables import Block, Facts, Plots, Section, Table, Text, columns
from trials.analysis.qt import LEVEL, LIMIT
from trials.analysis.qt_checks import CATEGORIES, DELAY, HEART_RATE, ByTime
from trials.analysis.qt_risk import METRICS
from trials.analysis.qt_study import ASSAY, Dose, Drug, QtStudy
from trials.analysis.random_effects import Contrast

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["page", "rows", "sentences"]

DF = {
    "kenward_roger": "Kenward-Roger", "satterthwaite": "Satterthwaite", "containment": "containment (as R's nlme)",
    "normal": "normal law",
}  # fmt: skip


def page(study: QtStudy, name: str) -> Page:
    """The page. name: of the file."""
    people = len(study.data.subjects)
    breaches = tuple(f"{drug.name}: no model, {drug.status.advice}." for drug in study.failed)
    return Page(
        brand="QT", kicker="Concentration and QTcF · ICH E14",
        title=f"QT effects in {name}",
        byline=f"{people} subjects · {study.data.subject.size} lines · {', '.join(study.data.drugs[1:])} against "
        f"{study.data.drugs[0]}",
        breaches=breaches, answer=sentences(study), trust=_trust(study),
        sections=(_decision(study), *(_of_drug(drug, study) for drug in study.drugs if not drug.status),
                  _checks(study), _outliers(study)),
    )  # fmt: skip


def sentences(study: QtStudy) -> tuple[str, ...]:
    """What was found, in words."""
    return tuple(_said(drug, study) for drug in study.drugs if not drug.status)


def _said(drug: Drug, study: QtStudy) -> str:
    dose, where = drug.highest, "the geometric mean Cmax"
    if drug.name in study.asked.at:
        where = "the concentration asked for"
    low, high = dose.interval
    head = (
        f"{drug.name}: at {where} ({_n(dose.conc)}) it adds {dose.added.estimate[0]:.1f} ms of QTcF to placebo "
        f"(90 % interval {low:.1f} to {high:.1f})"
    )
    if drug.name == study.asked.positive:
        verdict = "the assay is sensitive" if drug.sensitive else "assay sensitivity is not shown"
        return f"{head}; as positive control: {verdict} (lower limit above {ASSAY:g} ms and a slope above 0)."
    verdict = "is excluded" if dose.excluded else "is not excluded"
    return f"{head}: an effect of {LIMIT:g} ms {verdict}."


def rows(study: QtStudy) -> list[tuple[str, ...]]:
    """Every dose: treatment, subjects, Cmax, slope, what is added with its interval, P(below 10 ms), decision."""
    return [_row(drug, dose) for drug in study.drugs if not drug.status for dose in drug.doses]


def _row(drug: Drug, dose: Dose) -> tuple[str, ...]:
    low, high = dose.interval
    return (
        dose.treatment, str(dose.people), f"{_n(dose.cmax)} ({_range(*dose.cmax_interval)})", _n(dose.conc),
        f"{dose.added.estimate[0]:.1f} ({low:.1f} to {high:.1f})", _bayes(dose), _chance(dose),
        "yes" if dose.excluded else "no",
    )  # fmt: skip


def _bayes(dose: Dose) -> str:
    b = dose.bayes
    return "–" if b is None else f"{b.mean:.1f} ({b.lower:.1f} to {b.upper:.1f})"


def _chance(dose: Dose) -> str:
    if dose.bayes is None:
        return "–"
    p = dose.bayes.below
    return "< 0.001" if p < 0.001 else "> 0.999" if p > 0.999 else f"{p:.3f}"


def _n(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"


def _range(low: float, high: float) -> str:
    return f"{_n(low)} to {_n(high)}"


def _contrast(found: Contrast, digits: str = ".3g") -> str:
    low, high = (float(x[0]) for x in found.interval(LEVEL))
    return f"{found.estimate[0]:{digits}} ({low:{digits}} to {high:{digits}})"


def _decision(study: QtStudy) -> Section:
    table = Table(
        caption=f"What the model adds to placebo (ddQTcF), by treatment; {LIMIT:g} ms excluded: upper limit below it.",
        columns=columns("Treatment", "Subjects", "Cmax|geometric mean, 90 % interval", "At concentration",
                        "ddQTcF, ms|model, 90 % interval", "ddQTcF, ms|Bayesian, 90 % interval",
                        f"P(below {LIMIT:g} ms)|Bayesian", f"{LIMIT:g} ms excluded"),
        rows=tuple(rows(study)),
        notes=(f"Standard errors and degrees of freedom: {DF[study.asked.df]}. Bayesian: {_priors(study)}.",),
    )  # fmt: skip
    return Section(key="decision", title="Decision", blocks=(table, *_forest(study)))


def _priors(study: QtStudy) -> str:
    p = study.asked.priors
    if p.intercept is None:
        return "flat priors"
    return f"half-normal priors (scale {p.intercept:g} ms) of standard deviations, flat ones of coefficients"


def _forest(study: QtStudy) -> tuple[Block, ...]:
    doses = [dose for drug in study.drugs if not drug.status for dose in drug.doses]
    if not doses:
        return ()
    marks = looks([False] * len(doses), [not dose.excluded for dose in doses])
    shown = [
        effects.Row(label=dose.treatment, look=look, value=float(dose.added.estimate[0]), outer=dose.interval)
        for dose, look in zip(doses, marks, strict=True)
    ]
    drawn = effects.forest(
        shown, x_label="ddQTcF at the concentration of the decision, ms", name="qt-forest",
        reference=effects.Reference(label=f"{LIMIT:g} ms", value=LIMIT),
    )  # fmt: skip
    return (
        Plots(caption="Model-predicted ddQTcF with 90 % intervals; open marks: 10 ms not excluded.", panels=(drawn,)),
    )


def _of_drug(drug: Drug, study: QtStudy) -> Section:
    facts = (
        ("Lines, subjects", f"{drug.lines}, {drug.people}"),
        ("Slope, ms per unit of concentration", _contrast(drug.slope, ".4g")),
        ("Effect of treatment at concentration 0, ms", _contrast(drug.treatment)),
        ("Residual sd, ms", f"{math.sqrt(drug.fit.fit.sigma2[0]):.2f}"),
        ("Sd of subjects' intercepts, ms", f"{math.sqrt(drug.fit.fit.d[0, 0, 0]):.2f}"),
        ("Sd of subjects' slopes", f"{math.sqrt(drug.fit.fit.d[0, 1, 1]) / drug.fit.scale[0]:.4g}"),
        *_singular(drug), *_effective(drug),
    )  # fmt: skip
    blocks: list[Block] = [Facts(facts=facts)]
    if drug.deciles is not None:
        blocks.append(Plots(
            caption="Line and band: the model, 90 % interval of the mean. Points: observed, the model's intercept, "
            "times and baseline taken off, by tenths of the concentration, 90 % intervals over subjects. Dotted: Cmax.",
            panels=(_deciles(drug, _key(drug, study)),),
        ))  # fmt: skip
    look = looks([False] * len(drug.doses), [False] * len(drug.doses))
    series = [_points(dose.treatment, mark, dose.by_time) for dose, mark in zip(drug.doses, look, strict=True)]
    blocks.append(Plots(
        caption="Observed difference from placebo by time with 90 % intervals.",
        panels=(qt.course(series, limit=LIMIT, y="ddQTcF, ms", name=f"qt-time-{_key(drug, study)}"),),
    ))  # fmt: skip
    blocks.append(Plots(
        caption="Mean effect against mean concentration in order of time; counter-clockwise: the effect comes late.",
        panels=tuple(_loop(dose, mark, study, k) for k, (dose, mark) in enumerate(zip(drug.doses, look, strict=True))),
        across=2,
    ))  # fmt: skip
    return Section(key=f"drug-{_key(drug, study)}", title=drug.name, blocks=tuple(blocks))


def _key(drug: Drug, study: QtStudy) -> str:
    return str(study.data.drugs.index(drug.name))


def _singular(drug: Drug) -> tuple[tuple[str, str], ...]:
    return (("Random effects", "a variance of 0 or a correlation of 1 fits best"),) if drug.fit.fit.singular[0] else ()


def _effective(drug: Drug) -> tuple[tuple[str, str], ...]:
    if drug.posterior is None:
        return ()
    sound = "" if drug.posterior.sound else ": too few, do not use the Bayesian numbers"
    return (("Effective draws of the posterior", f"{drug.posterior.effective:.0f}{sound}"),)


def _deciles(drug: Drug, key: str) -> Markup:
    assert drug.deciles is not None
    look = looks([False], [False])[0]
    top = max(float(drug.deciles.conc.max()), *(dose.conc for dose in drug.doses)) * 1.05
    conc = np.linspace(0.0, top, 60)
    found = [drug.fit.added(x) for x in conc]
    limits = np.array([[float(x[0]) for x in one.interval(LEVEL)] for one in found])
    line = qt.Line(conc=conc, mean=np.array([f.estimate[0] for f in found]), lower=limits[:, 0], upper=limits[:, 1])
    d = drug.deciles
    points = qt.Points(label=drug.name, look=look, x=d.conc, mean=d.mean, lower=d.lower, upper=d.upper)
    at = [(dose.treatment, dose.conc) for dose in drug.doses]
    return qt.deciles(line, points, limit=LIMIT, at=at, name=f"qt-deciles-{key}", x="Concentration")


def _points(label: str, look: Look, found: ByTime) -> qt.Points:
    return qt.Points(label=label, look=look, x=found.times, mean=found.mean, lower=found.lower, upper=found.upper)


def _loop(dose: Dose, look: Look, study: QtStudy, k: int) -> Markup:
    from trials.analysis.qt_checks import panel

    shown = panel(study.data, study.data.treatments.index(dose.treatment), study.data.change)
    conc, mean = np.nanmean(shown.conc, axis=0), dose.by_time.mean
    points = qt.Points(label=dose.treatment, look=look, x=conc, mean=mean, lower=mean, upper=mean)
    code = study.data.treatments.index(dose.treatment)
    return qt.loop(points, shown.times, name=f"qt-loop-{code}-{k}", x="Mean concentration")


def _checks(study: QtStudy) -> Section:
    made: list[tuple[str, ...]] = []
    for drug in study.drugs:
        for dose in drug.doses:
            made += [_delay(dose), *_rate(dose)]
        if not drug.status:
            bent = f"squared concentration {_contrast(drug.quadratic)} ms, p = {drug.quadratic_p:.2g}"
            made.append((drug.name, "Straight line", bent, "curvature" if drug.quadratic_p < 0.05 else "none seen"))
            apart = abs(float(drug.treatment.estimate[0]) / float(drug.treatment.se[0]))
            made.append((drug.name, "Effect at concentration 0", f"{_contrast(drug.treatment)} ms",
                         "not explained by concentration" if apart > 1.96 else "none seen"))  # fmt: skip
    made += [_correction(key, slope) for key, slope in study.rate.items()]
    table = Table(
        caption="Checks of what the model assumes; intervals are 90 %.",
        columns=columns("Of", "Check", "Found", "Verdict", words=("Check", "Found", "Verdict")), rows=tuple(made),
        notes=(f"Delay: flagged above {DELAY:g} h. Heart rate: flagged where a mean change passes {HEART_RATE:g} bpm. "
               "QTc on RR: a correction that holds has slope 0.",),
    )  # fmt: skip
    blocks: list[Block] = [table, *_heart(study), *_risk(study)]
    return Section(key="checks", title="Checks", blocks=tuple(blocks))


def _delay(dose: Dose) -> tuple[str, ...]:
    h = dose.hysteresis
    if math.isnan(h.delay):
        return dose.treatment, "Delay (hysteresis)", "no concentration or effect to compare", "unknown"
    area = f"loop {_n(h.area)}" + ("" if math.isnan(h.area_interval[0]) else f" ({_range(*h.area_interval)})")
    found = f"effect's peak {h.delay:g} h ({_range(*h.delay_interval)}) after the concentration's; {area}"
    late = "loop counter-clockwise, peaks together" if h.area_interval[0] > 0.0 else "none"
    verdict = "delay: a direct model may be wrong" if h.suggested else late
    return dose.treatment, "Delay (hysteresis)", found, verdict


def _rate(dose: Dose) -> tuple[tuple[str, ...], ...]:
    if dose.heart_rate is None:
        return ()
    k = dose.heart_rate.worst
    mean, low, high = (float(x[k]) for x in (dose.heart_rate.mean, dose.heart_rate.lower, dose.heart_rate.upper))
    passed, open_ = abs(mean) > HEART_RATE, max(-low, high) > HEART_RATE
    beyond = f"beyond {HEART_RATE:g} bpm" if passed else f"{HEART_RATE:g} bpm not excluded" if open_ else "none"
    found = f"largest mean change {mean:.1f} bpm ({low:.1f} to {high:.1f}) at {dose.heart_rate.times[k]:g} h"
    return ((dose.treatment, "Heart rate", found, beyond),)


def _correction(key: tuple[str, str], slope: Contrast) -> tuple[str, ...]:
    low, high = (float(x[0]) for x in slope.interval(LEVEL))
    name = {"fridericia": "QTcF on RR", "bazett": "QTcB on RR"}[key[0]]
    where = "without drug" if key[1] == "off" else "on drug"
    holds = "holds" if low <= 0.0 <= high else "over-corrects" if high < 0.0 else "under-corrects"
    return where, name, f"{_contrast(slope)} ms per s", holds


def _heart(study: QtStudy) -> tuple[Block, ...]:
    doses = [dose for drug in study.drugs for dose in drug.doses if dose.heart_rate is not None]
    if not doses:
        return ()
    marks = looks([False] * len(doses), [False] * len(doses))
    series = [_points(d.treatment, look, d.heart_rate) for d, look in zip(doses, marks, strict=True) if d.heart_rate]
    drawn = qt.course(series, limit=HEART_RATE, y="Heart rate, bpm", name="qt-heart")
    return (Plots(caption="Change of heart rate less placebo's, 90 % intervals.", panels=(drawn,)),)


def _risk(study: QtStudy) -> tuple[Block, ...]:
    found = [(drug, key, m) for drug in study.drugs for key, m in drug.margins.items()]
    if not found:
        return (Text(text="No hERG data were given (--herg, --unbound): no safety margin."),)
    made = tuple(
        (drug.name, METRICS[key].words, f"{m.estimate:.3g} ({m.lower:.3g} to {m.upper:.3g})", METRICS[key].source,
         "both errors" if m.whole else "not all errors known")
        for drug, key, m in found
    )  # fmt: skip
    caption = "Margins; reference drugs measured in the same assay are the better yardstick (ICH E14/S7B Q&A)."
    heads = columns("Drug", "Metric", "Margin|90 % interval", "Held against", "Interval holds",
                    words=("Metric", "Held against", "Interval holds"))  # fmt: skip
    return (Table(caption=caption, columns=heads, rows=made),)


def _outliers(study: QtStudy) -> Section:
    groups = [study.placebo, *(dose.outliers for drug in study.drugs for dose in drug.doses)]
    made = tuple(
        (o.treatment, str(o.subjects), *(_share(o.counts[name], o.shares[name]) for name in CATEGORIES)) for o in groups
    )
    table = Table(
        caption="Subjects with at least one value beyond each limit, with exact 90 % intervals.",
        columns=columns("Treatment", "Subjects", *CATEGORIES), rows=made,
    )  # fmt: skip
    return Section(key="outliers", title="Categorical outliers", blocks=(table,))


def _share(count: int, share: object) -> str:
    low, high = (100.0 * float(getattr(share, name)) for name in ("lower", "upper"))
    return f"{count} ({low:.1f} to {high:.1f} %)"


def _trust(study: QtStudy) -> tuple[str, ...]:
    lost = int(np.count_nonzero(~study.data.before)) - int(
        np.count_nonzero(~study.data.before & np.isfinite(study.data.change) & np.isfinite(study.data.conc))
    )
    model = (
        "dQTcF on treatment, concentration, time and baseline with a subject's own intercept and slope (Garnett et al. "
        "2018), fitted by REML."
    )
    missing = (f"{lost} lines after the dose lack QTcF, baseline or concentration and are left out.",) if lost else ()
    assay = () if study.positive else ("No positive control was named: nothing is said of assay sensitivity.",)
    flagged = [d.treatment for drug in study.drugs for d in drug.doses if d.hysteresis.suggested]
    late = (f"Peak effect and peak concentration are apart for {', '.join(flagged)}.",) if flagged else ()
    return model, *missing, *late, *assay
