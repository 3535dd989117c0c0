"""Laboratory toxicity: grades, shifts, nadir, duration, cycles, what was given of the doses, eDISH."""

from dataclasses import replace

import numpy as np
from markupsafe import Markup

from reports import captions, rounding
from reports.figures import laboratory as drawing
from reports.study import Study
from reports.tables import Block, Heading, Plots, Section, Table, Text, columns
from reports.toxicity import Doses, Liver, Share, Test, Toxicity
from trials.operating import Estimate

_NONE = "–"
_WILSON = "In brackets: the 95 % interval (Wilson) one trial would typically report, median limits over replicates."


def toxicity(study: Study) -> Section:
    """Everything the laboratory saw."""
    found = study.toxicity
    if found is None:
        raise LookupError("the protocol has no laboratory test")
    blocks: list[Block] = [_intro(found), _figure(study, found)]
    blocks += [_worst(study, test) for test in found.tests]
    blocks += [_shift(study, test) for test in found.tests]
    blocks.append(_courses(study, found))
    blocks += [_cycles(study, test) for test in found.tests if test.cycles]
    if any(found.doses):
        blocks.append(_doses(study, found))
    if found.same:
        blocks += _same(study, found)
    if found.liver is not None:
        blocks += _liver(study, found.liver)
    return Section(key="laboratory", title="Laboratory toxicity", blocks=tuple(blocks))


def told(study: Study) -> list[str]:
    """Sentences for the answer: the told grade of each test that somebody had, by arm, and potential Hy's law."""
    found = study.toxicity
    if found is None:
        return []
    shares = [(f"{test.label}, {_told(test)}", test.worst[test.told]) for test in found.tests]
    if found.liver is not None:
        shares.append(("Potential Hy's law cases", found.liver.hy))
    seen = [
        f"{what}: " + "; ".join(f"{arm.label} {_in_words(by_arm[arm.index])}" for arm in study.arms) + "."
        for what, by_arm in shares
        if any(share.count for share in by_arm)
    ]
    return seen + [_last_cycle(study, found, test) for test in found.tests if found.cycles_alike.get(test.name)]


def _last_cycle(study: Study, found: Toxicity, test: Test) -> str:
    """The told grade in the last cycle, in the same people."""
    last = found.cycles_alike[test.name][-1]
    by_arm = (
        f"{arm.label} {rounding.with_mcse(100 * last[arm.index].value, 100 * last[arm.index].mcse, '%')}"
        for arm in study.arms
        if last[arm.index].n
    )
    number = len(found.cycles_alike[test.name])
    return f"{_told(test).capitalize()} in cycle {number}, the same people under every arm: {'; '.join(by_arm)}."


def _told(test: Test) -> str:
    return f"grade {test.told}" if test.told == test.levels[-1] else f"grade {test.told} or worse"


def _in_words(share: Share) -> str:
    """Expected, and what one trial would report."""
    low, high = share.one
    words = _percent(share)
    unit = "" if " of " in words else " % of subjects"
    return f"{words.replace(' (', f'{unit} (MCSE ') if unit else words}, one trial's interval " + (
        f"{rounding.interval(100 * low, 100 * high, 1)} %"
    )


def by_grade(study: Study) -> Table:
    """The head's table of a trial that is about its laboratory: one row an arm."""
    found = study.toxicity
    assert found is not None
    tests = [test for test in found.tests if any(share.count for share in test.worst[test.told])] or found.tests[:1]
    rows = []
    for arm in study.arms:
        doses = found.doses[arm.index]
        given = _NONE if doses is None else _mean_percent(doses.intensity)
        rows.append((arm.label, *(_share(test.worst[test.told][arm.index]) for test in tests), given))
    return Table(
        caption="Worst laboratory grades, per cent of subjects (MCSE) [one trial's 95 % interval], and doses given.",
        columns=columns("Arm", *(f"{test.label}|{_told(test)}" for test in tests), "Relative dose intensity|%"),
        rows=tuple(rows),
    )  # fmt: skip


def _intro(found: Toxicity) -> Text:
    tests = ". ".join(t.words if t.words.startswith(t.label) else f"{t.label}: {t.words}" for t in found.tests)
    return Text(
        text=f"{tests}. Grades are those a number alone gives, by the limits of normal of the protocol and, where "
        "CTCAE v5 has it so, by the subject's own abnormal baseline. Nothing is seen after a subject has left."
    )


def _figure(study: Study, found: Toxicity) -> Plots:
    every = [s for test in found.tests for shares in test.worst.values() for s in shares]
    top = min(103.0, 106 * max(x for s in every for x in (s.expected.value, s.one[1], 0.02) if x == x))
    panels = tuple(
        drawing.worst(
            test.label, test.levels,
            [
                drawing.Stack(
                    label=arm.label, look=arm.look,
                    at_least=np.array([100 * test.worst[g][arm.index].expected.value for g in test.levels]),
                    lower=100 * test.worst[test.levels[-1]][arm.index].one[0],
                    upper=100 * test.worst[test.levels[-1]][arm.index].one[1],
                )
                for arm in study.arms
            ],
            top=top, name=f"lab{k}",
        )
        for k, test in enumerate(found.tests)
    )  # fmt: skip
    return Plots(
        caption="Worst grade after the baseline, subjects of each arm; the darker, the worse. Whisker: the interval "
        "one trial would report for the worst grade shown.",
        panels=panels, across=2,
    )  # fmt: skip


def _grade(level: int, test: Test) -> str:
    return f"grade {level}" if level == test.levels[-1] else f"grade ≥ {level}"


def _worst(study: Study, test: Test) -> Table:
    rows = tuple(
        (_grade(g, test), *(_share(test.worst[g][arm.index]) for arm in study.arms)) for g in test.levels
    )  # fmt: skip
    return Table(
        caption=f"{test.label}: worst grade after the baseline, per cent of subjects graded.",
        columns=columns("Worst grade", *(arm.label for arm in study.arms)), rows=rows,
        notes=("Expected (MCSE). " + _WILSON, captions.MCSE),
    )  # fmt: skip


def _share(share: Share) -> str:
    low, high = share.one
    return f"{_percent(share)}\n[{rounding.interval(100 * low, 100 * high, 1)}]"


def _percent(share: Share) -> str:
    """Per cent with MCSE; where nobody or everybody has it, of how many."""
    return _per_cent(share.expected, share.subjects)


def _per_cent(x: Estimate, subjects: int) -> str:
    if not x.n or not subjects:
        return _NONE
    if x.value in (0.0, 1.0):
        return f"{rounding.count(x.value * subjects)} of {rounding.count(subjects)}"
    if not x.mcse > 0:
        return rounding.fixed(100 * x.value, 1)
    value, error = rounding.value_and_mcse(100 * x.value, max(100 * x.mcse, 0.005))
    return f"{value} ({error})"


def _mean(x: Estimate) -> str:
    if not x.n:
        return _NONE
    if not x.mcse > 0:
        return rounding.number(x.value, 3)
    value, error = rounding.value_and_mcse(x.value, x.mcse)
    return f"{value} ({error})"


def _shift(study: Study, test: Test) -> Table:
    """Rows: arm and baseline grade that somebody has; columns: worst grade."""
    shown = [0, *test.levels, 5]
    rows, marks = [], []
    for arm in study.arms:
        for k, base in enumerate(b for b in range(6) if test.shifts[arm.index, b].sum() > 0):
            counts = [test.shifts[arm.index, base, w] for w in shown]
            rows.append((arm.label, _base(base), *(rounding.fixed(n, 1) for n in counts)))
            marks.append("group" if k == 0 else "")
    titles = [f"Worst {g}" for g in (0, *test.levels)]
    return Table(
        caption=f"{test.label}: shift from the baseline grade to the worst grade after it, subjects of a mean trial.",
        columns=columns("Arm", "Baseline", *titles, "Not graded", text=2), rows=tuple(rows), marks=tuple(marks),
        notes=("The baseline is graded as the values of a subject with a normal baseline are.",),
    )  # fmt: skip


def _base(grade: int) -> str:
    return "not graded" if grade == 5 else f"grade {grade}"


def _courses(study: Study, found: Toxicity) -> Table:
    rows, marks = [], []
    for test in found.tests:
        for arm in study.arms:
            course = test.courses[arm.index]
            places = rounding.places(course.extreme.mcse)
            rows.append((
                f"{test.label}, {'lowest' if test.low else 'highest'}{' (' + test.unit + ')' if test.unit else ''}",
                arm.label, f"{_mean(course.extreme)}\n[{rounding.interval(*course.extremes, places)}]",
                rounding.interval(*course.people, places),
                f"{_mean(course.day)}\n({rounding.interval(*course.days_of_people, 0)})",
                f"{test.told}", _mean(course.lasting),
                f"{_mean(course.lasting_any)}\n({rounding.interval(*course.lasting_people, 1)})",
            ))  # fmt: skip
            marks.append("group" if arm.index == 0 else "")
    return Table(
        caption="Lowest or highest value, its day, and the time at a grade or worse.",
        columns=columns(
            "Value", "Arm", "Median|[95 % of replicates]", "Subjects|5 to 95 %", "Day|median (5 to 95 %)", "Grade",
            "Days at it|mean of all", "Days at it|of those with any: median (5 to 95 %)", text=2,
        ),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "Medians of subjects, mean over replicates (MCSE). Days: straight lines between samples, as measured; over "
            "the whole trial.",
            captions.MCSE,
        ),
    )  # fmt: skip


def _cycles(study: Study, test: Test) -> Table:
    rows = tuple(
        (str(k + 1), *(f"{_percent(cycle[arm.index])}\n{_number(cycle[arm.index].number)}" for arm in study.arms))
        for k, cycle in enumerate(test.cycles)
    )
    return Table(
        caption=f"{test.label}: {_told(test)} by cycle, per "
        "cent of those with a sample in the cycle (MCSE), and their mean number in a trial.",
        columns=columns("Cycle", *(arm.label for arm in study.arms)), rows=rows,
        notes=(
            "Who stopped or left before a cycle is not in it: those who go on are not those who began. The figure "
            "below compares the arms in the same people.",
            captions.MCSE,
        ),
    )  # fmt: skip


def _number(n: float) -> str:
    return f"n {rounding.fixed(n, 1)}"


def _doses(study: Study, found: Toxicity) -> Table:
    rows = tuple(
        (arm.label, *_dose_cells(doses)) for arm in study.arms if (doses := found.doses[arm.index]) is not None
    )
    return Table(
        caption="Doses given of those planned.",
        columns=columns(
            "Arm", "Relative dose intensity|%, mean (5 to 95 %)", "Share of the planned amount|%", "Reductions|per "
            "subject", "Any reduction|%", "Delays|per subject", "Holds|per subject", "Treatment ended|% by cause",
            words=("Treatment ended",),
        ),
        rows=rows,
        notes=(
            "Relative dose intensity: amount over time on treatment, given over planned; time to the last dose and one "
            "interval more. Doses before leaving the trial only.",
            captions.MCSE,
        ),
    )  # fmt: skip


def _dose_cells(doses: Doses) -> tuple[str, ...]:
    people = rounding.interval(100 * doses.people[0], 100 * doses.people[1], 0)
    ended = "\n".join(f"{words}: {_percent(x)}" for words, x in doses.ended) or "none can"
    return (
        f"{_mean_percent(doses.intensity)}\n({people})", _mean_percent(doses.share), _mean(doses.reductions),
        _percent(doses.reduced), _mean(doses.delays), _mean(doses.holds), ended,
    )  # fmt: skip


def _mean_percent(x: Estimate) -> str:
    return _mean(replace(x, value=100 * x.value, mcse=100 * x.mcse))


def _same(study: Study, found: Toxicity) -> list[Block]:
    scale = {True: 100.0, False: 1.0}
    rows, marks = [], []
    for same in found.same:
        by_arm = [
            (_per_cent(x, n) if same.share else _mean_percent(x) if same.percent else _mean(x))
            for x, n in zip(same.by_arm, same.subjects, strict=True)
        ]  # fmt: skip
        for arm in study.arms:
            difference = same.difference[arm.index]
            if difference is not None:
                by_arm[arm.index] += f"\n{_signed(difference, scale[same.percent])}"
        rows.append((same.label, *by_arm))
        marks.append("")
    table = Table(
        caption=f"The same people under every arm, nobody lost: expected (MCSE), below it the difference from "
        f"{study.control.label}.",
        columns=columns("Measure", *(arm.label for arm in study.arms)), rows=tuple(rows), marks=tuple(marks),
        notes=(
            f"{rounding.count(found.alike)} replicates: every subject of each is followed under each arm with the same "
            "chance, so that a difference is that of treatment. Shares and intensity in per cent, differences of them "
            "in points, with the 95 % Monte Carlo interval.",
            captions.MCSE,
        ),
    )  # fmt: skip
    blocks: list[Block] = [Heading(text="Arms compared in the same people")]
    panels = tuple(
        _lines(study, found, test, k) for k, test in enumerate(found.tests) if found.cycles_alike.get(test.name)
    )
    if panels:
        caption = (
            "Share with the grade by cycle, of those whose cycle began; bars: 95 % Monte Carlo interval. All arms are "
            "of the same people."
        )
        blocks.append(Plots(caption=caption, panels=panels))
    return [*blocks, table]


def _signed(x: Estimate, scale: float) -> str:
    if not x.n:
        return _NONE
    if not x.mcse > 0:
        return f"difference {rounding.number(scale * x.value, 3)}"
    low, high = x.interval()
    places = rounding.places(scale * x.mcse)
    return f"{rounding.fixed(scale * x.value, places)} ({rounding.interval(scale * low, scale * high, places)})"


def _lines(study: Study, found: Toxicity, test: Test, k: int) -> Markup:
    by_cycle = found.cycles_alike[test.name]
    lines = []
    for arm in study.arms:
        values = [cycle[arm.index] for cycle in by_cycle]
        limits = np.array([x.interval() for x in values])
        lines.append(drawing.Line(
            label=arm.label, look=arm.look, value=100 * np.array([x.value for x in values]),
            lower=100 * limits[:, 0], upper=100 * limits[:, 1],
        ))  # fmt: skip
    return drawing.cycles(test.label, lines, y_label=f"{_told(test).capitalize()} (%)", name=f"cycles{k}")


def _liver(study: Study, found: Liver) -> list[Block]:
    arms = [
        drawing.Dots(
            label=arm.label, look=arm.look, enzyme=mine[:, 0], bilirubin=mine[:, 1], hy=mine[:, 3] == 1,
            shares=tuple(f"{rounding.fixed(100 * q[arm.index].expected.value, 1)} %" for q in found.quadrants),  # type: ignore[arg-type]
        )
        for arm in study.arms
        for mine in [found.points[found.points[:, 2] == arm.index]]
    ]  # fmt: skip
    panels = tuple(
        drawing.edish(arms[first : first + 3], name=f"edish{first}") for first in range(0, len(arms), 3)
    )  # fmt: skip
    names = ("Normal", "Temple's corollary: ALT or AST > 3", "Cholestasis or Gilbert: bilirubin > 2",
             "Both: ALT or AST > 3 and bilirubin > 2")  # fmt: skip
    rows = [(name, *(_percent(q[arm.index]) for arm in study.arms))
            for name, q in zip(names, found.quadrants, strict=True)]  # fmt: skip
    rows.append(("Potential Hy's law", *(_percent(found.hy[arm.index]) for arm in study.arms)))
    rows.append(("Hy's law not judged", *(_percent(found.unknown[arm.index]) for arm in study.arms)))
    rows.append(("Trials with a potential case", *(_trials(found.any[arm.index]) for arm in study.arms)))
    missing = "" if found.phosphatase else " There is no alkaline phosphatase: no case can be confirmed or excluded."
    return [
        Heading(text="Liver"),
        Plots(
            caption=f"eDISH: peaks whatever their times, multiples of the upper limit of normal; {found.shown} of "
            f"{rounding.count(found.subjects)} subjects (evenly thinned, the normal quadrant and the others apart). "
            "Open diamonds: potential Hy's law cases. Shares are of all subjects.",
            panels=panels,
        ),
        Table(
            caption="Quadrants of eDISH and Hy's law, per cent of subjects (MCSE).",
            columns=columns("", *(arm.label for arm in study.arms)), rows=tuple(rows),
            notes=(
                "Potential Hy's law: bilirubin > 2 with, or at most 30 days after, an aminotransferase > 3, and "
                "alkaline phosphatase < 2 up to then. That nothing else explains it is a physician's judgement."
                + missing,
                captions.MCSE,
            ),
        ),
    ]  # fmt: skip


def _trials(x: Estimate) -> str:
    return rounding.proportion(x.value, x.mcse, x.n)
