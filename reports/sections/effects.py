"""Sections on exposure, efficacy, adverse events and what one trial would find."""

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from reports import captions, results, rounding
from reports.figures import effects as drawing
from reports.figures import exposure as curves
from reports.figures.palette import Look
from reports.results import Effect, Risk
from reports.sections.people import marks
from reports.study import ResponseCurve, Study
from reports.tables import Block, Heading, Plots, Section, Table, Text, columns
from trials.analysis.nnt import needed
from trials.operating import Estimate

Array = NDArray[np.float64]
_POINTS = 500


def concentrations(study: Study) -> Section:
    """Concentration-time bands by arm and the exposures at the final visit."""
    blocks: list[Block] = []
    series = _series(study)
    if series:
        top = max(float(np.nanmax(band.upper)) for band in series) * 1.05
        y = f"Concentration ({study.exposure_unit})"
        panels = tuple(curves.arm_band(band, y_label=y, top=top, name=f"pk{k}") for k, band in enumerate(series))
        blocks.append(
            Plots(
                caption="Concentration over the stretches of the trial that were kept: median of subjects (line) and "
                "their middle 90 % (band), missed doses, titration and stopped treatment included; one scale for all. "
                f"Subjects whose curves were kept: {_kept(study)}.",
                panels=panels,
                across=2,
            )
        )
    else:
        blocks.append(Text(text="The protocol kept no concentration curves.", tone="note"))
    blocks.append(_exposures(study))
    return Section(key="exposure", title="Exposure", blocks=tuple(blocks))


def _kept(study: Study) -> str:
    """How many subjects the bands of each arm are of: the fewest and most over time, where these differ."""
    said: list[str] = []
    if study.curves is None:
        return ""
    for arm in study.treated:
        counts = study.curves.loc[study.curves["arm"] == arm.index, "people"]
        if len(counts):
            low, high = (rounding.count(int(f(counts))) for f in (min, max))
            said.append(f"{arm.label}: {low}" if low == high else f"{arm.label}: {low} to {high}")
    return "; ".join(said)


def _series(study: Study) -> list[curves.Band]:
    if study.curves is None or study.curves.empty:
        return []
    found = []
    for arm in study.treated:
        rows = study.curves[study.curves["arm"] == arm.index].sort_values("time")
        if len(rows):
            low, mid, high = (rows[c].to_numpy(dtype=np.float64) for c in ("p5", "p50", "p95"))
            days = rows["time"].to_numpy(dtype=np.float64) / 24.0
            found.append(curves.Band(label=arm.label, look=arm.look, time=days, lower=low, median=mid, upper=high))
    return found


def _exposures(study: Study) -> Table:
    grid = results.cells(study.outcomes, len(study.arms))
    parts = [_exposure(study, grid, summary) for summary in (study.average, study.peak)]
    rows = tuple((arm.label, *parts[0][k], *parts[1][k]) for k, arm in enumerate(study.treated))
    return Table(
        caption=f"Exposure in the week before the final visit ({study.exposure_unit}), {_exposed(study)}.",
        columns=columns(
            "Arm", "Average level|mean", "MCSE", "Subjects|5th to 95th percentile",
            "Peak level|mean", "MCSE", "Subjects|5th to 95th percentile",
        ),
        rows=rows,
        marks=marks(study.treated),
        notes=(captions.MCSE, "Subjects who stopped treatment count with the levels they have, zero among them."),
    )  # fmt: skip


def _exposed(study: Study) -> str:
    """Whom the table of exposures is of."""
    values = study.outcomes[f"{study.average}@{study.final}"]
    gone = int(values.isna().sum())
    return f"randomised subjects but {rounding.count(gone)} who have none then" if gone else "all randomised subjects"


def _exposure(study: Study, grid: results.Cells, summary: str) -> list[tuple[str, str, str]]:
    """Mean, MCSE and range over subjects of one summary, by treated arm."""
    values = study.outcomes[f"{summary}@{study.final}"].to_numpy(dtype=np.float64)
    means, arms = grid.mean(values), study.outcomes["arm"].to_numpy()
    shown = rounding.together([_pair(results.mean(means[:, arm.index])) for arm in study.treated])
    ranges = [results.middle(values[arms == arm.index], 0.9) for arm in study.treated]
    places = min(len(error.partition(".")[2]) for _, error in shown) if shown else 1
    return [
        (value, error, rounding.interval(*limits, places)) for (value, error), limits in zip(shown, ranges, strict=True)
    ]


def efficacy(study: Study) -> Section:
    """Expected arm values apart from what one trial would report."""
    found = results.effects(study)
    unit, output = study.main.unit, study.main.output
    rows = [
        drawing.Row(
            label=e.arm.label, look=e.arm.look, value=e.expected.value, outer=e.spread,
            inner=results.monte_carlo(e.expected),
        )
        for e in found
    ]  # fmt: skip
    single = [drawing.Row(label=e.arm.label, look=e.arm.look, value=e.one[0], outer=e.one[1:]) for e in found]
    of = f"change of {output}" if study.main.change else output
    label = rounding.bracketed(f"Difference from {study.control.label} in {of} at {study.main.visit}", unit)
    blocks: tuple[Block, ...] = (
        Text(
            text=f"Estimand: {study.main.output} change from {study.main.baseline} to {study.main.visit}, all "
            "randomised "
            "subjects whether or not treatment went on (treatment policy)."
        ),
        Heading(text="(a) Expected values"),
        Plots(caption=_course_caption(study), panels=(_courses(study),)),
        _expected(study, found),
        Plots(
            caption=f"Expected difference from {study.control.label}. "
            + captions.interval_key("middle 95 % of replicates' true differences"),
            panels=(drawing.forest(rows, x_label=label, name="expected"),),
        ),
        Heading(text="(b) What one trial would report"),
        _single(study, found),
        Plots(
            caption="The estimate and interval a single trial of this size would typically report: mean estimate, "
            "median limits of the multiplicity-adjusted intervals.",
            panels=(drawing.forest(single, x_label=label, name="single"),),
        ),
        _budget(study, found),
    )
    return Section(key="efficacy", title="Efficacy", blocks=blocks)


def _course_caption(study: Study) -> str:
    return (
        f"Mean true change of {study.main.output} from {study.main.baseline}, over {captions.replicates(study)}; "
        "bars: middle 95 % of replicates." + captions.dose_key(study)
    )


def _courses(study: Study) -> Markup:
    visits = [v for v in study.visits if f"{study.main.output}.true@{v}" in study.outcomes.columns]
    means = {visit: results.true_means(study, study.outcomes, visit) for visit in visits}
    days = np.array([study.visits[v] for v in visits], dtype=np.float64)
    series = []
    for arm in study.arms:
        limits = np.array([results.middle(means[v][:, arm.index]) for v in visits])
        centre = np.array([np.nanmean(means[v][:, arm.index]) for v in visits])
        series.append(
            drawing.Course(
                label=arm.label, look=arm.look, day=days, mean=centre, lower=limits[:, 0], upper=limits[:, 1]
            )
        )
    y = _endpoint_label(study)
    return drawing.courses(series, y_label=y, name="courses")


def _expected(study: Study, found: tuple[Effect, ...]) -> Table:
    means = results.true_means(study, study.outcomes, study.main.visit)
    changes = rounding.together([_pair(results.mean(means[:, arm.index])) for arm in study.arms])
    differences = rounding.together([_pair(e.expected) for e in found])
    places = min((rounding.places(e.expected.mcse) for e in found), default=2)
    rest = {
        e.arm.index: (*shown, rounding.interval(*e.spread, places)) for e, shown in zip(found, differences, strict=True)
    }
    rows = tuple((arm.label, *changes[k], *rest.get(arm.index, ("–", "–", "–"))) for k, arm in enumerate(study.arms))
    return Table(
        caption=rounding.bracketed(
            f"Expected {'change of ' if study.main.change else ''}{study.main.output} at {study.main.visit} and its "
            f"difference from {study.control.label}",
            study.main.unit,
        )
        + ".",
        columns=columns(
            "Arm",
            "Change|expected" if study.main.change else "Value|expected",
            "MCSE",
            "Difference|expected",
            "MCSE",
            "95 % of replicates",
        ),
        rows=rows,
        marks=marks(study.arms),
        notes=(captions.MCSE, captions.SPREAD),
    )


def _single(study: Study, found: tuple[Effect, ...]) -> Table:
    rows = tuple(
        (
            e.arm.label,
            rounding.fixed(e.one[0], rounding.places(e.limit_mcse)),
            rounding.interval(e.one[1], e.one[2], rounding.places(e.limit_mcse)),
            rounding.interval(*e.trials, rounding.places(e.limit_mcse)),
            rounding.with_mcse(e.bias.value, e.bias.mcse),
            "–" if e.coverage is None else rounding.proportion(e.coverage.value, e.coverage.mcse, e.coverage.n),
        )
        for e in found
    )
    simultaneous = study.simultaneous and len(found) > 1
    level = f"{rounding.plain(100 * (1 - study.alpha))} % {'simultaneous ' if simultaneous else ''}interval"
    return Table(
        caption=rounding.bracketed(
            f"One trial's report of the difference from {study.control.label} in {study.main.output}", study.main.unit
        )
        + ".",
        columns=columns(
            "Arm",
            "Estimate|mean",
            f"{level}|median limits",
            "Estimates|95 % of trials",
            "Bias|estimate - true (MCSE)",
            "Coverage|of the true value",
        ),
        rows=rows,
        marks=marks(e.arm for e in found),
        notes=(captions.ONE_TRIAL, _truth_note(study)),
    )


def _truth_note(study: Study) -> str:
    if study.truth is None:
        return "Bias is taken against the true difference of the subjects enrolled."
    n = rounding.count(len(study.truth))
    note = (
        f"Bias and coverage are taken against the true difference with every subject followed under both arms "
        f"({n} replicates). "
    )
    if not study.simultaneous:
        return note.rstrip()
    return (
        note + "Intervals are simultaneous over the arms, so each alone should cover more often than its nominal level."
    )


def _budget(study: Study, found: tuple[Effect, ...]) -> Table:
    rows = []
    for effect in found:
        b = results.budget(study, effect)
        parts = (b.parameters, b.subjects, b.residual, b.total)
        rows.append((effect.arm.label, *(rounding.number(x, 2) for x in parts), rounding.number(b.monte_carlo, 1)))
    return Table(
        caption=rounding.bracketed("Where the uncertainty of one trial's estimate comes from: standard deviations",
                                   study.main.unit) + ".",
        columns=columns(
            "Arm", "Population|parameters", "Subjects|enrolled", "Measurement,|missing data, analysis",
            "Estimate|all together",
            "Monte Carlo|of the mean shown",
        ),
        rows=tuple(rows),
        marks=marks(e.arm for e in found),
        notes=("Structural uncertainty (the form of the model) is not in these numbers; see the sensitivity runs.",),
    )  # fmt: skip


def _pair(estimate: Estimate) -> tuple[float, float]:
    return estimate.value, estimate.mcse


def adverse_events(study: Study) -> Section:
    """Incidence by term, arm and grade, and risk differences with their intervals."""
    events = results.term_keys(study)
    found = {name: [results.risks(study, keys, g) for g in range(1, grades + 1)] for name, keys, grades in events}
    top = 108 * max((max(r.incidence.value, _finite(r.spread[1])) for by in found.values() for r in by[0]), default=1.0)
    panels = tuple(
        drawing.incidences(name, _bars(by), top=max(top, 1.0), name=f"ae{k}")
        for k, (name, by) in enumerate(found.items())
    )
    period = sorted({rounding.plain(term.per) for term in study.terms})
    blocks: tuple[Block, ...] = (
        Text(
            text="Incidence is the share of randomised subjects with at least one event while in the trial (risks "
            f"in the model text refer to {' or '.join(period)} days at constant exposure), by the grade of its first "
            "occurrence, or its worst where it may become worse (CTCAE v5), "
            "whether or not treatment went on."
        ),
        Plots(
            caption="Incidence by arm: light = any grade, darker = grade 2 or more, full = grade 3. Bars: middle 95 % "
            "of replicates.",
            panels=panels,
            across=2,
        ),
        _incidence_table(study, found),
        *(_difference_blocks(study, found)),
    )
    return Section(key="safety", title="Adverse events", blocks=blocks)


def _finite(value: float) -> float:
    return value if np.isfinite(value) else 0.0


def _bars(by_grade: list[tuple[Risk, ...]]) -> list[drawing.Incidence]:
    return [
        drawing.Incidence(
            label=risk.arm.label, look=risk.arm.look,
            at_least=np.array([100 * by_grade[g][k].incidence.value for g in range(len(by_grade))]),
            lower=100 * risk.spread[0], upper=100 * risk.spread[1],
        )
        for k, risk in enumerate(by_grade[0])
    ]  # fmt: skip


def _grade(grade: int) -> str:
    return "any grade" if grade == 1 else f"grade ≥ {grade}"


def _incidence_table(study: Study, found: dict[str, list[tuple[Risk, ...]]]) -> Table:
    rows = tuple(
        (name, _grade(g + 1), *(_share(risk) for risk in risks))
        for name, by_grade in found.items()
        for g, risks in enumerate(by_grade)
    )
    return Table(
        caption="Expected incidence by term and grade, per cent (MCSE).",
        columns=columns("Term", "Grade", *(arm.label for arm in study.arms), text=2),
        rows=rows,
        marks=tuple("group" if row[1] == "any grade" else "" for row in rows),
        notes=(captions.MCSE, "Grades are cumulative: a grade 3 event counts as any grade and as grade ≥ 2 too."),
    )


def _share(risk: Risk) -> str:
    if risk.incidence.value == 0:
        return f"0 of {rounding.count(risk.subjects)}"
    value, error = _points(risk.incidence)
    return f"{value} ({error})"


def _difference_blocks(study: Study, found: dict[str, list[tuple[Risk, ...]]]) -> list[Block]:
    rows = tuple(
        (name, _grade(g + 1), *(_difference(risk) for risk in risks if not risk.arm.control))
        for name, by_grade in found.items()
        for g, risks in enumerate(by_grade)
    )
    panels = tuple(
        drawing.forest(
            [_risk_row(r) for r in by_grade[0] if not r.arm.control],
            x_label="Risk difference (percentage points)", title=name, name=f"rd{k}", wide=False,
        )
        for k, (name, by_grade) in enumerate(found.items())
    )  # fmt: skip
    table = Table(
        caption=f"Risk difference from {study.control.label}, percentage points: expected (MCSE); below it the 95 % "
        "Miettinen-Nurminen interval one trial would report.",
        columns=columns("Term", "Grade", *(arm.label for arm in study.treated), text=2),
        rows=rows,
        marks=tuple("group" if row[1] == "any grade" else "" for row in rows),
        notes=(captions.ONE_TRIAL, "Not adjusted for the number of terms and grades."),
    )
    caption = (
        f"Risk difference from {study.control.label}, any grade. Marker: expected. Thick line: 95 % Monte Carlo "
        f"interval. "
        "Thin line: the Miettinen-Nurminen interval one trial would typically report."
    )
    return [Plots(caption=caption, panels=panels, across=2), table, _needed_table(study, found)]


def _needed_table(study: Study, found: dict[str, list[tuple[Risk, ...]]]) -> Table:
    rows = tuple(
        (name, _grade(g + 1), *(_needed(risk) for risk in risks if not risk.arm.control))
        for name, by_grade in found.items()
        for g, risks in enumerate(by_grade)
        if g in (0, 2)
    )
    return Table(
        caption=f"Subjects to treat instead of {study.control.label} for one more (NNTH) or one fewer (NNTB) with the "
        "event: expected; in brackets the interval one trial would report.",
        columns=columns("Term", "Grade", *(arm.label for arm in study.treated), text=2),
        rows=rows,
        notes=("Reciprocals of the risk differences; where these may be 0 the interval runs through infinity "
               "(Altman, BMJ 1998;317:1309). Not estimable: the difference is within two Monte Carlo errors of 0.",),
    )  # fmt: skip


def _needed(risk: Risk) -> str:
    """Number needed of the expected difference, with the interval one trial would report."""
    expected, (_, low, high) = risk.difference, risk.one
    if expected is None or expected.mcse == 0 or np.isnan([expected.value, low, high]).any():
        return "–"
    text = needed(expected.value, min(low, expected.value), max(high, expected.value)).text()
    limits = text.partition(" (")[2].replace(" to ∞ to ", " to ∞\nto ")
    return f"{_number_needed(expected)}\n({limits}"


def _number_needed(difference: Estimate) -> str:
    """One over the difference with the digits its Monte Carlo error allows; none within two errors of no difference."""
    if abs(difference.value) <= 2 * difference.mcse:
        return rounding.NOT_ESTIMABLE
    places = rounding.decimals(difference.mcse / difference.value**2)
    kind = "NNTH" if difference.value > 0 else "NNTB"
    return f"{kind} {rounding.fixed(1 / abs(difference.value), min(0 if places is None else places, 1))}"


def _difference(risk: Risk) -> str:
    """Expected difference with its MCSE, and one trial's interval on a second line."""
    expected = risk.difference
    limits = rounding.interval(100 * risk.one[1], 100 * risk.one[2], 0)
    if expected is None or expected.mcse == 0:
        return f"no events\n{limits}"
    value, error = _points(expected)
    return f"{value} ({error})\n{limits}"


def _points(estimate: Estimate) -> tuple[str, str]:
    """Percentage points and their MCSE, never finer than hundredths."""
    coarse = max(100 * estimate.mcse, 0.005) if np.isfinite(estimate.mcse) else np.nan
    return rounding.value_and_mcse(100 * estimate.value, coarse)


def _risk_row(risk: Risk) -> drawing.Row:
    expected = risk.difference
    value = np.nan if expected is None else 100 * expected.value
    inner = (np.nan, np.nan) if expected is None else tuple(100 * x for x in results.monte_carlo(expected))
    return drawing.Row(
        label=risk.arm.label, look=risk.arm.look, value=value, outer=(100 * risk.one[1], 100 * risk.one[2]),
        inner=(inner[0], inner[1]),
    )  # fmt: skip


def exposure_response(study: Study) -> Section:
    """Benefit against average level, risk against peak level."""
    markers = {s: _markers(study, s) for s in (study.average, study.peak)}
    panels = [_benefit_panel(study, markers[study.average])]
    for k, (name, keys, _) in enumerate(results.term_keys(study)):
        panels.append(_risk_panel(study, (name, keys), markers[study.peak], k))
    caption = (
        "Response against exposure. Dots: simulated subjects of all arms in tenths of exposure (the highest "
        "tenth in three "
        "parts), with 95 % Monte Carlo intervals. Line and band: expected response of the model with its 95 % "
        "range over the "
        f"draws of the population parameters. Triangles: median exposure of each arm. Efficacy: grey points are "
        f"{_POINTS} "
        "single subjects, dotted lines the middle 80 % of subjects. Adverse events: dots are set against the "
        "highest weekly "
        "peak a subject had, the line is the risk of keeping that peak over the whole period."
    )
    legend = tuple((arm.label, arm.look.colour, arm.look.open_marker) for arm in study.treated)
    return Section(
        key="response", title="Exposure and response",
        blocks=(Plots(caption=caption, panels=tuple(panels), legend=legend, across=3),),
    )  # fmt: skip


def _markers(study: Study, summary: str) -> tuple[tuple[float, str, Look], ...]:
    values = study.outcomes[f"{summary}@{study.final}"].to_numpy(dtype=np.float64)
    arms = study.outcomes["arm"].to_numpy()
    return tuple((float(np.nanmedian(values[arms == a.index])), a.label, a.look) for a in study.treated)


def _benefit_panel(study: Study, markers: tuple[tuple[float, str, Look], ...]) -> Markup:
    x = study.outcomes[f"{study.average}@{study.final}"].to_numpy(dtype=np.float64)
    y = results.change(study.outcomes, study.main, study.main.visit, true=True)
    found = results.binned(x, y, study.outcomes["replicate"].to_numpy().astype(np.int64))
    rows = results.thinned(x.size, _POINTS)
    people = (np.stack([x[rows], y[rows]], axis=1), np.stack([found.low, found.high]))
    data = _response(found, study.responses.get(study.main.output), markers, people)
    labels = (f"Average level {study.average} ({study.exposure_unit})", _endpoint_label(study))
    return curves.response(data, title="Efficacy", labels=labels, percent=False, name="er0")


def _endpoint_label(study: Study) -> str:
    return rounding.bracketed(f"{'Change of ' if study.main.change else ''}{study.main.output}", study.main.unit)


def _risk_panel(
    study: Study, event: tuple[str, tuple[str, ...]], markers: tuple[tuple[float, str, Look], ...], k: int
) -> Markup:
    name, keys = event
    y = (results.grades(study.outcomes, keys) >= 1).astype(np.float64)
    found = results.binned(_highest_peak(study), y, study.outcomes["replicate"].to_numpy().astype(np.int64))
    curve = study.responses.get(keys[0] if len(keys) == 1 else "any")
    data = _response(found, curve, markers, (np.zeros((0, 2)), np.zeros((2, 0))))
    labels = (f"Peak level {study.peak} ({study.exposure_unit})", "Subjects with event (%)")
    return curves.response(data, title=name, labels=labels, percent=True, name=f"er{k + 1}")


def _highest_peak(study: Study) -> Array:
    """Highest weekly peak seen at any visit: what the subject was exposed to before treatment may have stopped."""
    names = [f"{study.peak}@{visit}" for visit in study.visits if f"{study.peak}@{visit}" in study.outcomes.columns]
    frame: pd.DataFrame = study.outcomes[names]
    return frame.max(axis=1).to_numpy(dtype=np.float64)


def _response(
    found: results.Binned,
    curve: ResponseCurve | None,
    markers: tuple[tuple[float, str, Look], ...],
    people: tuple[Array, Array],
) -> curves.Response:
    none = np.zeros(0)
    return curves.Response(
        exposure=found.exposure, mean=found.mean,
        error=np.stack([found.mean - 1.96 * found.mcse, found.mean + 1.96 * found.mcse]),
        grid=none if curve is None else curve.exposure, curve=none if curve is None else curve.mean,
        spread=np.zeros((2, 0)) if curve is None else np.stack([curve.low, curve.high]), points=people[0],
        people=people[1], top=1.08 * float(found.exposure.max()), markers=markers,
    )  # fmt: skip
