"""The first box of the report: what is wrong first, then the answer with its interval, then how far it can be "
"trusted."""

from dataclasses import dataclass

from reports import captions, credibility, results, rounding
from reports.results import Effect, Risk
from reports.sections.people import marks
from reports.sections.toxicity import by_grade, told
from reports.study import Study
from reports.tables import Table, columns, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """`breaches` (limits that do not hold), `answer` and `trust` (sentences), `table` (one row per arm)."""

    breaches: tuple[str, ...]
    answer: tuple[str, ...]
    trust: tuple[str, ...]
    table: Table


def headline(study: Study) -> Headline:
    """The headline of a study."""
    found = results.effects(study)
    keys = study.composite or tuple(term.key for term in study.terms)
    harms = tuple(r for r in results.risks(study, keys, 1) if not r.arm.control) if keys else ()
    return Headline(
        breaches=credibility.breaches(study),
        answer=_answer(study, found, harms),
        trust=_trust(study),
        table=_table(study, found, harms),
    )


def _answer(study: Study, found: tuple[Effect, ...], harms: tuple[Risk, ...]) -> tuple[str, ...]:
    if not found:
        return (*_further(study), *_harm_only(study, harms), *told(study), *_rules(study))
    best = max(found, key=lambda e: e.expected.value)
    sentences = [f"Largest expected effect: {_benefit(study, best)}{_harm(harms, best)}."]
    allowed = [e for e in found if _expected_risk(harms, e) <= (study.most_risk or 1.0) and not e.arm.flag]
    usual = max(allowed, key=lambda e: e.expected.value, default=None)
    if usual is not None and usual is not best:
        why = "within usual dosing" if best.arm.flag else "within the risk the protocol accepts"
        sentences.append(f"Largest {why}: {_benefit(study, usual)}{_harm(harms, usual)}.")
    weak = [e.arm.label for e in found if e.one[1] <= 0 <= e.one[2]]
    if weak:
        sentences.append(
            f"A single trial of {rounding.count(study.subjects)} subjects would typically report an interval "
            f"that includes no effect "
            f"for {sentence(weak)}."
        )
    return (*sentences, *told(study), *_rules(study))


def _rules(study: Study) -> list[str]:
    """The protocol's decisions in words."""
    shares = [(d, rounding.proportion(d.made.value, d.made.mcse, d.made.n)) for d in study.decisions]
    return [f"The protocol's rule “{d.name}” ({d.rule}) says yes with probability {share}." for d, share in shares]


def _further(study: Study) -> list[str]:
    """The first analysis of a protocol that compares no means, arm by arm."""
    if study.timed is None:
        return []
    labels = {arm.key: arm.label for arm in study.arms}
    first = [c for c in study.timed.compared if c.analysis == study.timed.compared[0].analysis]
    return [
        f"{labels[c.arm]} against {labels[c.against]}: {c.summary} of {c.endpoint.replace('_', ' ')} "
        f"{rounding.with_mcse(c.estimate.value, c.estimate.mcse)} on average; one trial would report an interval of "
        f"about {rounding.interval(*c.limits, rounding.places(c.estimate.mcse))} and reject with probability "
        f"{rounding.proportion(c.rejected.value, c.rejected.mcse, c.rejected.n)}."
        for c in first
    ]


def _harm_only(study: Study, harms: tuple[Risk, ...]) -> tuple[str, ...]:
    """The answer of a protocol that compares no output."""
    worst = max(harms, key=lambda r: r.difference.value if r.difference else 0.0, default=None)
    if worst is None or worst.difference is None:
        if study.timed is not None or study.toxicity is not None:
            return ()
        return ("The protocol compares neither an output nor an adverse event.",)
    value = rounding.with_mcse(100 * worst.difference.value, 100 * worst.difference.mcse)
    limits = rounding.interval(100 * worst.one[1], 100 * worst.one[2], 0)
    return (
        f"Largest excess risk: {worst.arm.label}, {value} percentage points more subjects with any adverse event than "
        f"{study.control.label}; one trial's interval about {limits}.",
    )


def _benefit(study: Study, effect: Effect) -> str:
    value = rounding.with_mcse(effect.expected.value, effect.expected.mcse, study.main.unit)
    flag = f" ({effect.arm.flag})" if effect.arm.flag else ""
    one = rounding.interval(effect.one[1], effect.one[2], rounding.places(effect.limit_mcse))
    return (
        f"{effect.arm.label}{flag}, {study.main.output} differs from {study.control.label} by {value} at "
        f"{study.main.visit}; "
        f"one trial would report an interval of about {one}{'' if study.main.unit == '1' else f' {study.main.unit}'}"
    )


def _harm(harms: tuple[Risk, ...], effect: Effect) -> str:
    harm = next((r for r in harms if r.arm.index == effect.arm.index), None)
    if harm is None or harm.difference is None:
        return ""
    value = rounding.with_mcse(100 * harm.difference.value, 100 * harm.difference.mcse)
    limits = rounding.interval(100 * harm.one[1], 100 * harm.one[2], 0)
    side = "above" if harm.difference.value >= 0 else "from"
    points = f"{value} percentage points {side} control"
    return f"; subjects with any adverse event {points}, one trial's interval about {limits}"


def _expected_risk(harms: tuple[Risk, ...], effect: Effect) -> float:
    harm = next((r for r in harms if r.arm.index == effect.arm.index), None)
    return harm.difference.value if harm is not None and harm.difference is not None else 0.0


def _trust(study: Study) -> tuple[str, ...]:
    assumed = [p for p in study.parameters if p.status not in ("verified", "copied")]
    items = credibility.evidence(study)
    found = (
        [f"{len(assumed)} of {len(study.parameters)} values of the model are assumed, first of all {assumed[0].name}."]
        if assumed
        else []
    )
    for kind in ("validation", "calibration"):
        chosen = [e for e in items if e.kind == kind]
        agreed = sum(e.verdict == "agrees" for e in chosen)
        if chosen:
            found.append(f"{kind.capitalize()}: {agreed} of {len(chosen)} published results are met.")
    if not any(e.kind == "validation" for e in items):
        found.append("Nothing here was validated against results that did not enter the model.")
    found.append(f"All numbers stand on {captions.replicates(study)}.")
    return tuple(found)


def _table(study: Study, found: tuple[Effect, ...], harms: tuple[Risk, ...]) -> Table:
    if study.toxicity is not None and not (study.primary or harms):
        return by_grade(study)
    gains = rounding.together([(e.expected.value, e.expected.mcse) for e in found])
    shown = {e.arm.index: _gain(e, gain) for e, gain in zip(found, gains, strict=True)}
    by_arm = {r.arm.index: r for r in harms}
    rows = []
    for arm in study.treated:
        gain = shown.get(arm.index, ("–", "–", "–")) if study.primary else ()
        rows.append((arm.label, *gain[:2], *_excess(by_arm.get(arm.index)), *gain[2:]))
    return Table(
        caption=f"Differences from {study.control.label}.", columns=columns(*_heads(study)), rows=tuple(rows),
        marks=marks(study.treated),
    )  # fmt: skip


def _heads(study: Study) -> tuple[str, ...]:
    """Of the table: a mean has its own, where the trial is about one."""
    harm = ("Any adverse event|percentage points, expected", "One trial reports|95 % interval")
    if not study.primary:
        return "Arm", *harm
    unit = study.main.unit
    mean = (rounding.under(study.main.output, unit, "expected"),
            rounding.under("One trial reports", unit, "adjusted interval"))  # fmt: skip
    return "Arm", *mean, *harm, "Assurance|probability of significance"


def _gain(effect: Effect, shown: tuple[str, str]) -> tuple[str, str, str]:
    """Expected difference, one trial's interval, assurance."""
    won = effect.assurance
    value = f"{shown[0]} (MCSE {shown[1]})"
    limits = rounding.interval(effect.one[1], effect.one[2], rounding.places(effect.limit_mcse))
    return value, limits, rounding.proportion(won.value, won.mcse, won.n)


def _excess(harm: Risk | None) -> tuple[str, str]:
    if harm is None or harm.difference is None:
        return "–", "–"
    value = rounding.with_mcse(100 * harm.difference.value, 100 * harm.difference.mcse)
    return value, rounding.interval(100 * harm.one[1], 100 * harm.one[2], 0)
