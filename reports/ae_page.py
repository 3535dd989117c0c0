"""The page of a trial's adverse events: who had what by arm, how far arms differ, what stands out, how fast it came."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports import ae_again
from reports.ae_again import Kind
from reports.figures import adverse_events as drawing
from reports.figures import survival
from reports.figures.palette import Look, looks
from reports.page import Page
from reports.tables import Block, Plots, Section, Table, Text, columns
from trials.analysis.ae_hierarchy import Posterior
from trials.analysis.ae_records import AdverseEvents
from trials.analysis.ae_recurrent import AeRecurrent
from trials.analysis.ae_tables import AeTable, ae_table, first_curves
from trials.analysis.nnt import needed

__all__ = ["CAUTION", "Found", "found_in", "incidence", "page", "ranked", "sentences"]

CAUTION = (
    "A difference that stands out among many terms is a question for medical judgement, not a finding: intervals are "
    "not corrected for the number of terms, and an event that is rare can differ without standing out."
)
POINTS, TICKS, NAMED, DOTS = 121, 6, 8, 25
PER = 100.0  # person-years


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Everything the page shows. again: rates of all events (any, by system, by term); models: one posterior per
    treated arm, or none; only, least_grade: which events.
    """

    data: AdverseEvents
    whole: AeTable
    socs: AeTable
    terms: AeTable
    lines: tuple[tuple[str, AeTable], ...]
    again: tuple[AeRecurrent, AeRecurrent, AeRecurrent]
    models: tuple[Posterior, ...]
    only: Kind
    least_grade: int


def found_in(data: AdverseEvents, *, only: Kind, least_grade: int, models: tuple[Posterior, ...] = ()) -> Found:
    """All tables of one choice of events."""
    kinds = (("Any", "all", 1), ("Serious", "serious", 1), ("Related", "related", 1), ("Grade 3 or more", "all", 3))
    tables = [ae_table(data, rows, only=only, least_grade=least_grade) for rows in ("any", "soc", "term")]
    lines = tuple((name, ae_table(data, "any", only=kind, least_grade=least)) for name, kind, least in kinds)  # type: ignore[arg-type]
    return Found(data=data, whole=tables[0], socs=tables[1], terms=tables[2], lines=lines, models=models, only=only,
                 least_grade=least_grade,
                 again=ae_again.recurrent_of(data, only=only, least_grade=least_grade))  # fmt: skip


def ranked(found: Found) -> NDArray[np.int64]:
    """Terms by their smallest p over the treated arms, then by subjects."""
    p = np.nanmin(np.where(np.isnan(found.terms.compared.difference.p), 1.0, found.terms.compared.difference.p), axis=1)
    order: NDArray[np.int64] = np.lexsort((-found.terms.x.sum(axis=1), p))
    return order


def page(found: Found, name: str, *, top: int) -> Page:
    """The page. name: of the file of events; top: terms in the tables."""
    style = looks([k == 0 for k in range(len(found.data.arms))], [False] * len(found.data.arms))
    sections = [_overview(found), _pictures(found, style), _terms(found, top), _systems(found)]
    sections += [ae_again.grades(found.data, only=found.only, top=top), _times(found, style)]
    chosen = {"only": found.only, "least_grade": found.least_grade}
    sections.append(ae_again.again(found.data, found.again, style, **chosen))  # type: ignore[arg-type]
    if found.models:
        sections.insert(3, _shrunk(found, top))
    return Page(
        brand="Adverse events", kicker=f"Adverse events by arm · {_which(found)}", title=f"Adverse events in {name}",
        byline=f"{found.data.arm.size} subjects · {found.data.term.size} events · {len(found.data.terms)} terms",
        breaches=_breaches(found), answer=sentences(found), trust=_trust(found), sections=tuple(sections),
    )  # fmt: skip


def _which(found: Found) -> str:
    grade = f", grade {found.least_grade} or more" if found.least_grade > 1 else ""
    return {"all": "all events", "serious": "serious events", "related": "related events"}[found.only] + grade


def _breaches(found: Found) -> tuple[str, ...]:
    return tuple(
        f"The hierarchical model of {arm} has not converged (R-hat {model.terms.rhat.max():.3f})."
        for arm, model in zip(found.data.arms[1:], found.models, strict=False)
        if not model.sound
    )


def sentences(found: Found) -> tuple[str, ...]:
    """What was found, in words: one sentence per treated arm."""
    table, arms = found.whole, found.data.arms
    control = f"{table.x[0, 0]} of {table.n[0]} subjects ({_percent(table.x[0, 0] / table.n[0])}) on {arms[0]}"
    out = [f"{control} had at least one of these events."]
    for k, arm in enumerate(arms[1:]):
        difference, compared = table.compared.difference, found.terms.compared
        fewer = int((found.terms.compared.difference.p[:, k] < 0.05).sum())
        words = (
            f"{arm}: {table.x[0, k + 1]} of {table.n[k + 1]} ({_percent(table.x[0, k + 1] / table.n[k + 1])}), "
            f"difference {_points(difference.estimate[0, k])} points (95 % interval "
            f"{_points(difference.lower[0, k])} to {_points(difference.upper[0, k])}), {_needed(table, 0, k)}. "
            f"{fewer} of {len(found.terms.label)} terms differ at p < 0.05, "
            f"{int((compared.fdr[:, k] < 0.05).sum())} at a false discovery rate of 5 %"
        )
        if found.models:
            more = int((found.models[k].terms.positive > 0.95).sum())
            words += f"; {more} have a posterior probability above 95 % of a higher risk ({_model(found)})"
        out.append(words + ".")
    return tuple(out)


def _model(found: Found) -> str:
    return "hierarchical, with point mass" if found.models[0].model == "BB" else "hierarchical, without point mass"


def _trust(found: Found) -> tuple[str, ...]:
    left = [f"{count} lines left out: {why}." for why, count in found.data.left_out.items()]
    undated = int(found.terms.undated.sum())
    unknown = int((found.data.grade == 0).sum())
    if undated:
        left.append(
            f"{undated} first events have no day, or one outside exposure: their person-time is all the exposure."
        )
    if unknown:
        left.append(f"{unknown} events have no grade.")
    return (
        CAUTION,
        "Subjects count once per line. Risk differences: score intervals (Miettinen-Nurminen); rates per 100 "
        "person-years until the first event: exact intervals. Arms are compared as if nobody had left; the rates "
        "account for unequal exposure if events come evenly in time.",
        *left,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return (
        "–"
        if math.isnan(difference)
        else f"{100 * difference + 0.0:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0").replace("-", "−")
    )


def _needed(table: AeTable, row: int, k: int) -> str:
    d = table.compared.difference
    return needed(float(d.estimate[row, k]), float(d.lower[row, k]), float(d.upper[row, k])).text()


def incidence(table: AeTable, row: int, arm: int) -> str:
    """Subjects with per cent and events of one cell."""
    x, n = int(table.x[row, arm]), int(table.n[arm])
    return f"{x} ({100 * x / n:.1f}) {int(table.events[row, arm])}"


def _rate(table: AeTable, row: int, arm: int) -> str:
    i = table.incidence
    value, low, high = (PER * float(v[row, arm]) for v in (i.estimate, i.lower, i.upper))
    return f"{value:.1f} ({low:.1f} .. {high:.1f})"


def _difference(table: AeTable, row: int, k: int) -> str:
    d = table.compared.difference
    return f"{_points(d.estimate[row, k])} ({_points(d.lower[row, k])} .. {_points(d.upper[row, k])})"


def _ratio(value: float, low: float, high: float) -> str:
    return f"{_shown(value)} ({_shown(low)} .. {_shown(high)})"


def _shown(x: float) -> str:
    return "–" if math.isnan(x) else "∞" if math.isinf(x) else f"{x:.2f}" if x < 99.5 else f"{x:.0f}"


def _overview(found: Found) -> Section:
    arms, lines = found.data.arms, found.lines
    pairs = [(name, table, k, arm) for name, table in lines for k, arm in enumerate(arms[1:])]
    note = (
        "NNTH: subjects to treat for one more with the event, NNTB: for one fewer; where the difference may be 0 the "
        "interval runs through infinity (Altman 1998)."
    )
    return Section(key="overview", title="Overview", blocks=(
        Table(caption="Subjects with at least one event (per cent) and number of events.",
              rows=tuple((name, *(incidence(t, 0, a) for a in range(len(arms)))) for name, t in lines),
              columns=columns("Events", *(f"{arm}|of {n}" for arm, n in zip(arms, found.whole.n, strict=True)))),
        Table(caption="Subjects with an event per 100 person-years until the first one (exact 95 % interval).",
              rows=tuple((name, *(_rate(t, 0, a) for a in range(len(arms)))) for name, t in lines),
              columns=columns("Events", *(f"{arm}|{years:.1f} years in all" for arm, years in
                                          zip(arms, found.whole.exposure, strict=True)))),
        Table(caption=f"Risks against {arms[0]}.", notes=(note,),
              rows=tuple((name, arm, _difference(t, 0, k), _needed(t, 0, k)) for name, t, k, arm in pairs),
              columns=columns("Events", "Arm", "Risk difference|points (95 %)", "Number needed|95 %", text=2)),
        Table(caption=f"Ratios and rates against {arms[0]}, 95 % intervals.",
              rows=tuple((name, arm, *_ratios(t, 0, k)) for name, t, k, arm in pairs),
              columns=columns("Events", "Arm", "Risk ratio|score", "Odds ratio|score",
                              "Rate difference|per 100 person-years, score", "Rate ratio|exact", text=2)),
    ))  # fmt: skip


def _ratios(table: AeTable, row: int, k: int) -> tuple[str, ...]:
    c = table.compared
    d = c.rate_difference
    low, value, high = (f"{PER * float(v[row, k]):+.1f}".replace("-", "−") for v in (d.lower, d.estimate, d.upper))
    ratios = [
        _ratio(*(float(v[row, k]) for v in (i.estimate, i.lower, i.upper))) for i in (c.ratio, c.odds, c.rate_ratio)
    ]
    return ratios[0], ratios[1], f"{value} ({low} .. {high})", ratios[2]


def _pictures(found: Found, style: tuple[Look, ...]) -> Section:
    arms, t, blocks = found.data.arms, found.terms, list[Block]()
    first = ranked(found)[:DOTS]
    for k, arm in enumerate(arms[1:]):
        d = t.compared.difference
        own = first[np.argsort(-d.estimate[first, k], kind="stable")]
        rows = [
            drawing.Dot(label=t.label[j].capitalize(), risks=100 * t.risk.estimate[j],
                        difference=100 * float(d.estimate[j, k]), lower=100 * float(d.lower[j, k]),
                        upper=100 * float(d.upper[j, k]))
            for j in own.tolist()
        ]  # fmt: skip
        points = [
            drawing.Point(label=t.label[j].capitalize(), difference=100 * float(d.estimate[j, k]), p=float(d.p[j, k]),
                          subjects=int(t.x[j, 0] + t.x[j, k + 1]), out=bool(t.compared.fdr[j, k] < 0.05))
            for j in range(len(t.label)) if not math.isnan(d.p[j, k]) and t.x[j, 0] + t.x[j, k + 1] > 0
        ]  # fmt: skip
        both = tuple(zip(arms, style, strict=True))
        dots = drawing.dots(rows, both, compared=k + 1, name=f"dots{k}")
        cloud = drawing.volcano(points, look=style[k + 1], named=NAMED, name=f"volcano{k}",
                                x_label=f"Risk difference of {arm} from {arms[0]} (percentage points)")  # fmt: skip
        blocks += [
            Plots(caption=f"{arm}: the {len(rows)} terms with the smallest p of any arm. Left: per cent of subjects; "
                  "right: risk difference with its 95 % score interval, not corrected for the number of terms.",
                  panels=(dots,)),
            Plots(caption=f"{arm}: every term that occurred. Area: subjects with the event; filled: false discovery "
                  "rate below 5 %.", panels=(cloud,)),
        ]  # fmt: skip
    return Section(key="pictures", title="What stands out", blocks=tuple(blocks))


def _terms(found: Found, top: int) -> Section:
    arms, t = found.data.arms, found.terms
    order = ranked(found)[:top].tolist()
    rows = tuple(
        (t.label[j], *(incidence(t, j, a) for a in range(len(arms))), *_differences(t, j)) for j in order
    )  # fmt: skip
    table = Table(
        caption=f"The first {len(rows)} of {len(t.label)} terms, by the smallest p of any arm: subjects (per cent) and "
        f"events; risk difference from {arms[0]} in points (95 % score interval).",
        rows=rows, marks=tuple("flagged" if (t.compared.fdr[j] < 0.05).any() else "" for j in order),
        columns=columns("Term", *arms, *(f"{arm}|difference" for arm in arms[1:])),
        notes=("Marked: false discovery rate below 5 % in any arm. The file ae.csv has all terms and intervals.",),
    )  # fmt: skip
    return Section(key="terms", title="By term", blocks=(table,))


def _differences(table: AeTable, row: int) -> list[str]:
    return [_difference(table, row, k) for k in range(len(table.arms) - 1)]


def _systems(found: Found) -> Section:
    arms, s, t = found.data.arms, found.socs, found.terms
    rows, marks = list[tuple[str, ...]](), list[str]()
    for k in np.argsort(-s.x.sum(axis=1), kind="stable").tolist():
        own = [j for j in range(len(t.label)) if t.soc[j] == s.label[k]]
        lines = [
            (s, k, s.label[k]),
            *((t, j, f"· {t.label[j]}") for j in sorted(own, key=lambda j: -int(t.x[j].sum()))[:5]),
        ]
        rows += [(name, *(incidence(u, j, a) for a in range(len(arms))), *_differences(u, j)) for u, j, name in lines]
        marks += ["group"] + [""] * (len(lines) - 1)
    table = Table(
        caption="Body systems by subjects, with up to five of their most frequent terms.", rows=tuple(rows),
        marks=tuple(marks), columns=columns("Body system, term", *(f"{a}|subjects (%) events" for a in arms),
                                            *(f"{a}|difference, points (95 %)" for a in arms[1:])),
    )  # fmt: skip
    return Section(key="systems", title="By body system", blocks=(table,))


def _times(found: Found, style: tuple[Look, ...]) -> Section:
    last = float(np.max(found.data.days))
    at, ticks = np.linspace(0.0, last, POINTS), np.linspace(0.0, last, TICKS)
    curve, risk = (first_curves(found.data, 0, t, "any") for t in (at, ticks))
    series = []
    for a, arm in enumerate(found.data.arms):
        known = np.isfinite(curve.lower[0, a]) & np.isfinite(curve.upper[0, a])
        value, low, high = (1.0 - x[0, a][known] for x in (curve.survival, curve.upper, curve.lower))
        series.append(survival.Steps(label=arm, look=style[a], day=at[known], value=value, lower=low, upper=high,
                                     at_risk=np.nan_to_num(risk.at_risk[0, a])))  # fmt: skip
    blocks: list[Block] = [Text(text="Share of subjects with at least one adverse event of any kind by day; the end "
                                "of exposure censors (Kaplan-Meier, 95 % log-log bands).")]  # fmt: skip
    if all(arm.day.size > 1 for arm in series):
        drawn = survival.steps(series, ticks, y_label="With an event (%)", name="first")
        blocks.append(Plots(caption="Time to the first adverse event, by arm.", panels=(drawn,)))
    rows = tuple((arm, str(int(curve.n[0, a])), str(int(curve.x[0, a])), *(_day(v) for v in curve.median[0, a]))
                 for a, arm in enumerate(found.data.arms))  # fmt: skip
    blocks.append(Table(caption="Median day of the first adverse event.", rows=rows, columns=columns(
        "Arm", "Subjects", "With an event", "Median|day", "Lower|95 %", "Upper|95 %")))  # fmt: skip
    return Section(key="times", title="Time to the first event", blocks=tuple(blocks))


def _day(value: float) -> str:
    return "not reached" if not math.isfinite(value) else f"{value:.0f}"


def _shrunk(found: Found, top: int) -> Section:
    blocks: list[Block] = [Text(text=(
        "Terms of a body system inform each other, so that a lone extreme is drawn towards its system and a system "
        "that moves as a whole is believed sooner (Berry & Berry 2004). OR: posterior median; crude: by counts."
    ))]  # fmt: skip
    control = found.data.arms[0]
    for k, (arm, model) in enumerate(zip(found.data.arms[1:], found.models, strict=True)):
        s, t, rows = model.terms, found.terms, list[tuple[str, ...]]()
        order = np.lexsort((-s.mean, -s.positive))
        difference, zero = model.of_difference(), (model.theta == 0).mean(axis=(0, 1))
        for j in order[(t.x[order, 0] + t.x[order, k + 1]) > 0][: min(top, 25)].tolist():
            d = [_points(v[j]) for v in (difference.mean, difference.lower, difference.upper)]
            rows.append((
                t.label[j], f"{t.x[j, k + 1]} of {t.n[k + 1]}", f"{t.x[j, 0]} of {t.n[0]}",
                _ratio(*np.exp([s.median[j], s.lower[j], s.upper[j]]).tolist()), _shown(t.compared.odds.estimate[j, k]),
                f"{d[0]} ({d[1]} .. {d[2]})", f"{s.positive[j]:.3f}", f"{zero[j]:.3f}",
            ))  # fmt: skip
        blocks.append(Table(
            caption=f"{arm}: the {len(rows)} terms most probably of a higher risk (R-hat at most {s.rhat.max():.3f}, "
            f"effective draws from {s.ess.min():.0f}).", rows=tuple(rows),
            columns=columns("Term", arm, control, "OR|posterior (95 %)", "OR|crude", "Risk difference|points (95 %)",
                            "P(OR > 1)", "P(OR = 1)")))  # fmt: skip
    return Section(key="shrunk", title=f"Bayesian model ({_model(found)})", blocks=tuple(blocks))
