"""What a worker holds while it simulates: the payload opened once, every expression parsed, the kernel compiled.

A `Payload` travels (texts and arrays, no compiled object); `opened` turns it into a `Setting` once per process.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pkpd.model import equations as eq
from pkpd.model.spec import Model

if TYPE_CHECKING:
    from pkpd.model.guidance import Guidance
    from pkpd.model.regimen import Schedule
    from pkpd.model.rules import Rule
    from pkpd.model.variability import PopulationDraws
    from pkpd.twin.guided import Guide
    from populations.covariates import PopulationLaw
    from populations.eligibility import Criteria
    from trials.laboratory import Opened
    from trials.modifiers import Effects
    from trials.prognosis import Score
    from trials.protocol import Protocol
    from trials.switching import Added

__all__ = ["Payload", "Setting", "opened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """All that decides the numbers of a run, named by its run key.

    others: models besides its own: `tdm.ARM` by which levels guide doses, `prognosis` that foretells. effects: draws of
    what comedication and impairment do (`trials.modifiers`).
    """

    key: str
    protocol: Protocol
    model: dict[str, Any]
    draws: PopulationDraws
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    effects: Effects = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A payload opened.

    schedules, rules, guides: doses, dosing rules, guidance by levels, by arm code; responses: the assignments evaluated
    with NumPy, in order; timely: those of them that need no former outcome; added: changes of treatment by name;
    starts: probabilities of grade 1, 2, ... or worse at time 0, of the events whose grade moves; tests: of the
    laboratory.
    """

    key: str
    protocol: Protocol
    model: Model
    draws: PopulationDraws
    law: PopulationLaw
    criteria: Criteria
    compiled: Any
    schedules: tuple[Schedule, ...]
    rules: tuple[tuple[Rule | Guidance, ...], ...]
    guides: tuple[Guide | None, ...]
    score: Score | None
    responses: Mapping[str, eq.Expr]
    timely: Mapping[str, eq.Expr]
    added: Mapping[str, Added] = field(default_factory=dict)
    effects: Effects = field(default_factory=dict)
    starts: Mapping[str, tuple[eq.Expr, ...]] = field(default_factory=dict)
    tests: Mapping[str, Opened] = field(default_factory=dict)

    @property
    def graded(self) -> tuple[str, ...]:
        """Names of the events whose grade moves up and down."""
        return tuple(name for name, event in self.model.events.items() if event.moves)

    @property
    def lived_through(self) -> bool:
        """Whether some outputs are counts or categories, drawn visit by visit."""
        return any(not output.continuous for output in self.model.outputs.values())

    @property
    def looks_back(self) -> bool:
        """Whether the response layer knows of the last dose."""
        return any({"TAD", "DOSE"} & eq.names(expression) for expression in self.responses.values())

    @property
    def seed(self) -> int:
        """The protocol's seed."""
        return self.protocol.seed

    @property
    def stop_grade(self) -> int | None:
        """Lowest grade that ends treatment, or None."""
        return self.protocol.stop_grade


_OPENED: dict[str, Setting] = {}
_OPENING = threading.Lock()


def opened(payload: Payload) -> Setting:
    """The setting of a payload; one per process and run key, however many threads ask."""
    with _OPENING:
        if payload.key not in _OPENED:
            while len(_OPENED) >= 16:
                _OPENED.pop(next(iter(_OPENED)))
            _OPENED[payload.key] = _open(payload)
        return _OPENED[payload.key]


def _open(payload: Payload) -> Setting:
    from pkpd.engine.build import compiled
    from populations.eligibility import Criteria
    from trials import guidance, laboratory, prognosis, rules, switching

    protocol, model = payload.protocol, Model.from_dict(payload.model)
    law = protocol.population.people()
    engine = compiled(model)
    responses = _responses(model, engine.outputs)
    reached = eq.reach(model.equations)
    return Setting(
        key=payload.key, protocol=protocol, model=model, draws=payload.draws, law=law,
        criteria=Criteria.parse(protocol.population.eligible), compiled=engine,
        schedules=tuple(protocol.regimen(name).schedule(model.dose_units) for name in protocol.arms),
        rules=tuple(rules.of_arm(arm, model) for arm in protocol.arms.values()),
        guides=guidance.guides(payload, model),
        score=prognosis.opened(payload, model),
        responses=responses,
        timely={name: e for name, e in responses.items() if not reached[name] & set(model.previous)},
        added=switching.opened(protocol, model),
        effects=payload.effects, starts=_starts(model), tests=laboratory.opened(protocol, model),
    )  # fmt: skip


def _starts(model: Model) -> dict[str, tuple[eq.Expr, ...]]:
    """Expressions of parameters and covariates alone."""
    from pkpd.engine.structure import inlined

    assigned = {line.target: line.expression for line in model.equations if line.kind == "assign"}
    return {
        name: tuple(inlined(eq.Name(word), assigned) for word in event.at_start.values())
        for name, event in model.events.items() if event.at_start
    }  # fmt: skip


def _responses(model: Model, solved: tuple[str, ...]) -> dict[str, eq.Expr]:
    """The response layer, preceded by the assignments it may need that no state enters."""
    reached = eq.reach(model.equations)
    still = {
        name: expression for name, expression in model.dynamics.items()
        if name not in solved and not reached[name] & set(model.states)
    }  # fmt: skip
    return {**still, **model.response}
