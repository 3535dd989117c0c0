"""`tdm:` of an arm: doses guided by measured levels, through a model, towards a target.

tdm:
  measure: CP                          # the output whose levels are taken
  levels: [23 h, 47 h]                 # when; or every 24 h
  decide: [24 h, 48 h]                 # when the dose is chosen anew, from the levels so far
  target: AUC24 400..600               # as `vtrial twin --target` has it
  doses: {from: 500 mg, to: 2000 mg, step: 250 mg}
  change: 2                            # at most doubled or halved at a time
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Measured, Real, problem
from pkpd.ground.units import same_dimension
from pkpd.model.parts import STRICT
from pkpd.model.rules import Decisions, When

__all__ = ["MOST_DOSES", "Grid", "Guidance"]

MOST_DOSES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Allowed amounts: `from_` (text: `from`), a `step` more each, up to `to`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    from_: Annotated[Measured, Field(alias="from")]
    to: Measured
    step: Measured

    def __post_init__(self) -> None:
        unit = self.step.unit
        if not all(same_dimension(q.unit, unit) for q in (self.from_, self.to)):
            raise problem(
                "from, to and step must be amounts of one kind", "write {from: 500 mg, to: 2 g, step: 250 mg}"
            )
        if not (self.from_ > 0 and self.step > 0 and self.from_.to(unit) <= self.to.to(unit)):
            raise problem("needs 0 < from <= to and step > 0", "write {from: 500 mg, to: 2000 mg, step: 250 mg}")
        if (self.to.to(unit) - self.from_.to(unit)) / self.step > MOST_DOSES:
            raise problem(f"allows more than {MOST_DOSES} doses", "take a larger step")

    def amounts(self, unit: str) -> tuple[float, ...]:
        """The amounts in a unit, ascending."""
        first, last, step = (q.to(unit) for q in (self.from_, self.to, self.step))
        return tuple(first + k * step for k in range(int((last - first) / step + 1e-9) + 1))


def _grid(value: object) -> object:
    """A list of amounts stays one."""
    if isinstance(value, (list, tuple)) and not 1 <= len(value) <= MOST_DOSES:
        raise problem(f"must be 1 to {MOST_DOSES} amounts", "write [500 mg, 750 mg, 1000 mg]")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """At its decision times the dose of a subject is chosen by a model from the subject's own measured levels.

    measure: output; levels: when it is measured, with the model's residual error; lloq: a lower one is reported as
    below it; decide: when the dose is chosen, for the doses from then on; target, toxic, penalty: as `vtrial twin` has
    them, over `horizon` h from the next dose; doses: allowed amounts; change: largest factor between one dose and the
    next; model: text beside the protocol that guides (default: the trial's own), at its typical values; by: `draws` of
    the subject's posterior (P(target) - penalty P(toxic)), or its `mode` alone.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    measure: Identifier
    levels: Decisions
    decide: Decisions
    target: str
    toxic: str | None = None
    penalty: Annotated[Real, Field(ge=0)] = 1.0
    horizon: Annotated[Hours, Field(gt=0)] = 72.0
    doses: Annotated[Grid | tuple[Measured, ...], BeforeValidator(_grid)]
    change: Annotated[Real, Field(gt=1)] | None = None
    lloq: Measured | None = None
    model: str | None = None
    by: Literal["draws", "mode"] = "draws"
    draws: Annotated[int, Field(ge=50, le=5000)] = 100
    name: ClassVar[None] = None  # what a rule has and guidance has not
    grade: ClassVar[None] = None
    laboratory: ClassVar[None] = None
    times: ClassVar[None] = None
    until: ClassVar[None] = None
    from_: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        for name, when in (("levels", self.levels), ("decide", self.decide)):
            if when.dose or when.visits:
                raise problem(f"{name} must be times or a period", f"write {name}: [23 h, 47 h] or every 24 h")

    @property
    def at(self) -> When:
        """The decision times, as of a rule."""
        return self.decide

    def amounts(self, unit: str) -> tuple[float, ...]:
        """The allowed amounts in a unit, ascending. InputError for one that is no such amount."""
        if isinstance(self.doses, Grid):
            return self.doses.amounts(unit)
        found = tuple(sorted(q.to(unit) for q in self.doses))
        if not found[0] > 0:
            raise InputError("must be > 0", field="doses", value=str(self.doses[0]), remedy="leave it out")
        return found
