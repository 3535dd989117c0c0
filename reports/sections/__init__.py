"""The sections of a report, one function each: a study in, a `Section` of plain texts, tables and figures out."""

from collections.abc import Callable

from reports.sections import effects, model, people, trust
from reports.study import Study
from reports.tables import Section

ALL: tuple[Callable[[Study], Section], ...] = (
    people.question,
    people.design,
    model.model,
    model.predictive_check,
    people.population,
    effects.concentrations,
    effects.efficacy,
    effects.adverse_events,
    effects.exposure_response,
    trust.benefit_risk_plane,
    trust.operating,
    trust.sensitivity,
    trust.validation,
    trust.assumptions,
    trust.computation,
    trust.limitations,
    trust.provenance,
)


def sections(study: Study) -> tuple[Section, ...]:
    """Every section in the order of the report."""
    return tuple(make(study) for make in ALL)
