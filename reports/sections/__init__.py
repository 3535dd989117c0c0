"""The sections of a report, one function each: a study in, a `Section` of plain texts, tables and figures out."""

from collections.abc import Callable

from reports.sections import (
    chain,
    conduct,
    effects,
    event_course,
    model,
    people,
    robust,
    time_to_event,
    toxicity,
    trust,
    weighed,
)
from reports.study import Study
from reports.tables import Section

ALL: tuple[tuple[Callable[[Study], Section], tuple[str, ...]], ...] = (
    (people.question, ()),
    (people.design, ()),
    (model.model, ()),
    (model.predictive_check, ()),
    (people.population, ()),
    (conduct.conduct, ("conduct",)),
    (conduct.changes, ("changed",)),
    (effects.concentrations, ("average", "peak")),
    (effects.efficacy, ("primary",)),
    (time_to_event.time_to_event, ("timed",)),
    (effects.adverse_events, ("terms",)),
    (event_course.event_course, ("terms", "courses")),
    (toxicity.toxicity, ("toxicity",)),
    (effects.exposure_response, ("primary", "terms", "average", "peak")),
    (chain.chain, ("chain",)),
    (trust.benefit_risk_plane, ("primary", "terms")),
    (weighed.weighed, ("benefit",)),
    (trust.operating, ("primary",)),
    (trust.sensitivity, ("primary", "average", "terms")),
    (robust.decision, ("robustness",)),
    (trust.validation, ()),
    (trust.assumptions, ()),
    (trust.computation, ()),
    (trust.limitations, ()),
    (trust.provenance, ()),
)
"""Each section with what it needs the study to have."""


def sections(study: Study) -> tuple[Section, ...]:
    """Every section the study has what it needs for, in the order of the report."""
    return tuple(make(study) for make, needs in ALL if all(getattr(study, need) for need in needs))
