"""Events that come again or become worse: mean number, share and days by grade, worst grade by body system."""

import numpy as np

from reports import captions, results, rounding
from reports.event_course import Course
from reports.figures import event_course as drawing
from reports.figures import survival
from reports.figures.survival import Steps
from reports.study import Arm, Study
from reports.tables import Block, Plots, Section, Table, Text, columns
from trials.operating import Estimate, mean


def event_course(study: Study) -> Section:
    """What happens between the first occurrence of an event and the end of the trial."""
    blocks: list[Block] = [_worst(study)] if _lines(study) else []
    for number, course in enumerate(study.courses):
        blocks += [_first(study, course, number), _numbers(study, course, number), *_shares(study, course, number)]
    blocks.append(_table(study))
    blocks.append(Text(tone="note", text=_NOTE))
    return Section(key="courses", title="Adverse events over time", blocks=tuple(blocks))


_NOTE = (
    "Mean cumulative number: Nelson-Aalen estimate, with a terminal event as the end of all events (Ghosh and Lin); "
    "its standard error is from the influences of the subjects: events of one subject may depend on each other. "
    "Leaving the trial is taken to say nothing of events to come; where an event makes subjects leave, shares among "
    "those still followed are too small. Days at a grade are counted while in the trial."
)


def _worst(study: Study) -> Table:
    """Per cent of subjects by the worst grade of each term, and of each body system with several terms."""
    rows, marks = list[tuple[str, ...]](), list[str]()
    most = max(term.grades for term in study.terms)
    for label, keys, top, group in _lines(study):
        worst, by = results.grades(study.outcomes, keys), results.cells(study.outcomes, len(study.arms))
        for arm in study.arms:
            shares = [by.mean((worst == grade).astype(np.float64))[:, arm.index] for grade in range(top + 1)]
            subjects = int(by.sizes[:, arm.index].sum())
            cells = [_percent(mean(share), subjects) for share in shares] + ["–"] * (most - top)
            rows.append((label, arm.label, *cells))
            marks.append("group" if group and arm is study.arms[0] else "")
    held = (
        "Of a grade that moves the highest one it rose to counts; one held from the start that never rises is none.",
    )
    return Table(
        caption="Subjects by worst grade while in the trial, per cent (MCSE).",
        columns=columns("Body system, term", "Arm", "None", *(f"Grade {g}" for g in range(1, most + 1)), text=2),
        rows=tuple(rows), marks=tuple(marks),
        notes=("Grades are exclusive: every subject counts once in a row. A body system is as bad as its worst term. "
               "An event that cannot become worse has the grade of its first occurrence.",
               *held * any(course.moving for course in study.courses), captions.MCSE),
    )  # fmt: skip


def _lines(study: Study) -> list[tuple[str, tuple[str, ...], int, bool]]:
    """(label, keys, highest grade, whether a body system) by body system; events without grades are left out."""
    found: list[tuple[str, tuple[str, ...], int, bool]] = []
    graded = [term for term in study.terms if term.grades > 1]
    for soc in dict.fromkeys(term.soc for term in graded):
        own = [term for term in graded if term.soc == soc]
        if soc and len(own) > 1:
            found.append((soc, tuple(term.key for term in own), max(term.grades for term in own), True))
        found += [(term.term, (term.key,), term.grades, False) for term in own]
    return found


def _percent(share: Estimate, subjects: int) -> str:
    if share.value in (0.0, 1.0) and subjects:  # no error to tell: everybody or nobody
        return f"{rounding.count(subjects * share.value)} of {rounding.count(subjects)}"
    value, error = rounding.value_and_mcse(100 * share.value, 100 * share.mcse)
    return f"{value} ({error})"


def _pair(value: Estimate) -> str:
    return "{} ({})".format(*rounding.value_and_mcse(value.value, value.mcse))


def _what(course: Course) -> str:
    return "episodes" if course.moving else "events"


def _first(study: Study, course: Course, number: int) -> Plots:
    """Time to the first occurrence."""
    series = [
        Steps(label=study.arms[c.arm].label, look=study.arms[c.arm].look, day=course.day, value=c.first[0],
              lower=c.first[1], upper=c.first[2], at_risk=c.at_risk)
        for c in course.arms
    ]  # fmt: skip
    top = max(100 * float(np.nanmax(c.first[2], initial=0.0)) for c in course.arms)
    panel = survival.steps(
        series, course.day[course.ticks], y_label="With a first event (%)", name=f"first{number}",
        top=min(100.0, 1.15 * top + 1.0),
    )  # fmt: skip
    what = "rise of the grade" if course.moving else "event"
    return Plots(
        caption=f"{course.term}: share of subjects with a first {what} by day (Aalen-Johansen, a terminal event "
        "competing), mean over replicates; band: middle 95 % of single trials' curves. Below: subjects followed.",
        panels=(panel,),
    )  # fmt: skip


def _numbers(study: Study, course: Course, number: int) -> Plots:
    series = [
        Steps(label=study.arms[c.arm].label, look=study.arms[c.arm].look, day=course.day, value=c.value, lower=c.lower,
              upper=c.upper, at_risk=c.at_risk)
        for c in course.arms
    ]  # fmt: skip
    panel = drawing.numbers(
        series, course.day[course.ticks], y_label=f"Mean number of {_what(course)} per subject", name=f"number{number}"
    )
    begin = " An episode begins where the grade rises from 0." if course.moving else ""
    return Plots(
        caption=f"{course.term}: mean cumulative number of {_what(course)} per subject, mean over "
        f"{captions.replicates(study)}; band: middle 95 % of single trials' curves.{begin}" + captions.dose_key(study),
        panels=(panel,),
    )


def _shares(study: Study, course: Course, number: int) -> list[Block]:
    if not course.moving:
        return []
    series = [
        drawing.Shares(label=study.arms[c.arm].label, look=study.arms[c.arm].look, percent=100 * c.shares)
        for c in course.arms
    ]  # fmt: skip
    caption = (
        f"{course.term}: share of the subjects followed who are at each grade or worse on a day, mean over trials."
    )
    return [
        Plots(caption=caption, panels=(drawing.shares(series, course.day, term=course.term, name=f"share{number}"),))
    ]


def _table(study: Study) -> Table:
    most = max(len(c.days) for course in study.courses for c in course.arms)
    rows = tuple(
        (course.term, _arm(study, c.arm).label, _percent(c.had, 0), _pair(c.number),
         rounding.number(c.one, 2), *(_pair(d) for d in c.days),
         *["–"] * (most - len(c.days)))
        for course in study.courses for c in course.arms
    )  # fmt: skip
    ends = sorted({course.until for course in study.courses})
    day = " or ".join(rounding.plain(end) for end in ends)
    return Table(
        caption=f"Share of subjects with a first event and mean number of events or episodes by day {day}"
        f"{', and mean days at each grade or worse' if most else ''}.",
        columns=columns(
            "Term", "Arm", "First event|per cent (MCSE)", "Number|mean (MCSE)", "Standard error|of one trial",
            *(f"Grade {g}{' or worse' if g < most else ''}|days (MCSE)" for g in range(1, most + 1)), text=2,
        ),
        rows=rows, notes=(captions.MCSE,),
    )  # fmt: skip


def _arm(study: Study, index: int) -> Arm:
    return study.arms[index]
