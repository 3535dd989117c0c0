"""Rules that change the doses of a subject by what has been measured in it: `Rule` as written on an arm.

rules:
  - {at: every 7 d, measure: PCA, below: 25 percent, do: {scale_dose: 0.8, at_least: 0.4}}
  - {at: dose, measure: ANC, below: 1.5 1, do: {delay: 7 d}}          # looked at before each dose
  - {at: [14 d], true: C, above: 25 mg/L, grade: grade 3, do: {scale_dose: 0.5}}
  - {at: dose, laboratory: anc, grade: grade 2, seen: last, do: {delay: 7 d, longest: 21 d}}
  - {at: dose, laboratory: anc, grade: grade 4, lasting: 7 d, do: {levels: [0.75, 0.55]}}
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from pkpd.ground import units
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Measured, Real, problem
from pkpd.ground.units import Quantity
from pkpd.model.parts import STRICT

__all__ = ["DOSE", "Action", "Decisions", "Rule", "When"]

DOSE: Final = "dose"
"""`at: dose`: before every dose, wherever a delay has put it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Decision times: `every` h (from one period on), before every dose, at `times` [h], or at the visits `visits`."""

    every: float | None = None
    dose: bool = False
    times: tuple[float, ...] = ()
    visits: tuple[str, ...] = ()

    def until(self, horizon: float) -> tuple[float, ...]:
        """Fixed decision times up to the horizon [h], ascending.

        >>> When(every=7.0).until(21.0)
        (7.0, 14.0, 21.0)
        """
        if self.every is None:
            return tuple(t for t in self.times if t <= horizon)
        return tuple(self.every * k for k in range(1, int(horizon / self.every + 1e-9) + 1))


def _when(value: Any) -> When:
    if isinstance(value, When):
        return value
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(items) == 1 and isinstance(items[0], str):
        text = items[0].strip()
        if text == DOSE:
            return When(dose=True)
        if text.startswith("every "):
            every = _hours(text.removeprefix("every "))
            if not every > 0:
                raise problem("must be > 0", "write every 7 d")
            return When(every=every)
    named = [str(i) for i in items if isinstance(i, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", i)]
    if named and len(named) < len(items):
        raise problem("mixes visits and times", "write two rules")
    if not items:
        raise problem("names no time", "write every 7 d, dose, a list of times, or a visit")
    return When(visits=tuple(named)) if named else When(times=tuple(sorted(_hours(i) for i in items)))


def _hours(value: Any) -> float:
    try:
        found = units.number(value, "h") if isinstance(value, str) else float(value)
    except InputError as error:
        raise problem(error.problem, error.remedy) from None
    if not 0 <= found < float("inf"):
        raise problem("must be >= 0 h")
    return found


def _when_text(when: When) -> Any:
    if when.every is not None:
        return f"every {when.every!r} h"
    return DOSE if when.dose else list(when.visits or (f"{t!r} h" for t in when.times))


def _grade(value: Any) -> Any:
    words = value.split() if isinstance(value, str) else []
    if isinstance(value, str) and (len(words) != 2 or words[0] != "grade" or words[1] not in "12345"):
        raise problem("must be a grade from 1 to 5", "write grade 3")
    return int(words[1]) if words else value


def _resume(value: Any) -> Any:
    return 0 if value == "grade 0" else _grade(value)


_WHEN = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "examples": ["every 7 d", "dose"],
}
Decisions = Annotated[When, PlainValidator(_when), PlainSerializer(_when_text), WithJsonSchema(_WHEN)]


def _in(level: Quantity | None, unit: str) -> Quantity | None:
    return None if level is None else Quantity(level.to(unit), unit)


Level = Annotated[Real, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is done from the decision on, the dose at its very time included.

    scale_dose: the amounts times this, kept between at_least and at_most times the planned ones; hold: no dose until
    the rule's next decision; delay [h]: all later doses come later; stop: no dose any more.
    levels: the next of these dose levels (shares of the plan, descending) below the dose as it is; below the `lowest`
    treatment stops, or stays there. Leading 1s: as many times the dose stays. With hold or delay the level changes when
    doses go on: at the first decision at which the rule does not act again. resume: a hold or delay by a laboratory
    grade lasts until the last sample is of this grade or better; longest: a hold or a run of delays [h] that is to
    go on after that ends treatment instead.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    scale_dose: Annotated[Real, Field(gt=0)] | None = None
    at_least: Annotated[Real, Field(ge=0)] = 0.0
    at_most: Annotated[Real, Field(gt=0)] | None = None
    hold: bool = False
    delay: Annotated[Hours, Field(gt=0)] | None = None
    stop: bool = False
    levels: tuple[Level, ...] = ()
    lowest: Literal["stop", "stay"] = "stop"
    resume: Annotated[int, BeforeValidator(_resume, json_schema_input_type=str), Field(ge=0, le=3)] | None = None
    longest: Annotated[Hours, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        asked = [self.scale_dose is not None, self.hold, self.delay is not None, self.stop]
        bounded = self.at_least > 0 or self.at_most is not None
        rules = [
            (
                sum(asked) > 1 or not (any(asked) or self.levels),
                "must say one thing to do",
                "write scale_dose: 0.8, hold: true, delay: 7 d, levels: [0.75, 0.5] or stop: true",
            ),
            (bounded and self.scale_dose is None, "at_least and at_most go with scale_dose", "leave them out"),
            (self.at_most is not None and self.at_most < self.at_least, "at_most is below at_least", "swap them"),
        ]
        if wrong := next((words for bad, *words in (*rules, *self._stepwise()) if bad), None):
            raise problem(*wrong)

    @property
    def waits(self) -> bool:
        """Whether doses wait: a hold, a delay."""
        return self.hold or self.delay is not None

    @property
    def spare(self) -> int:
        """How many times the dose stays before the levels count."""
        return sum(level >= 1 for level in self.levels)

    def _stepwise(self) -> list[tuple[bool, str, str]]:
        """What is wrong with levels and waiting."""
        down = self.levels[self.spare :]
        return [
            (
                bool(self.levels) and (self.scale_dose is not None or self.stop),
                "levels go alone, or with hold or delay",
                "write {levels: [0.75, 0.5]}",
            ),
            (
                any(b >= a for a, b in pairwise(down)) or (bool(self.levels) and not down),
                "levels must descend below 1",
                "write levels: [0.75, 0.5]",
            ),
            (self.lowest != "stop" and not self.levels, "lowest goes with levels", "leave it out"),
            (self.resume is not None and not self.waits, "resume goes with hold or delay", "leave it out"),
            (self.longest is not None and not self.waits, "longest goes with hold or delay", "leave it out"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """At its decision times, if any of its conditions holds, `do`.

    at: when; measure: an output, observed with its residual error, or true_ (text: `true`): an output, equation or
    state as it is; below, above: the level that is too low, too high (with its unit); grade: an adverse event of this
    grade or worse since the rule's last decision; without conditions the rule always acts; times: how often it may act;
    from_ (text: `from`) and until [h]: when it is in force.
    laboratory: a test of the protocol: `grade` is then that of its samples since the rule's last decision, the worst
    or the last one (`seen`), with `lasting` the time at that grade or worse (straight lines between samples) is longer
    than that.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    at: Decisions
    measure: Identifier | None = None
    true_: Annotated[Identifier | None, Field(alias="true")] = None
    below: Measured | None = None
    above: Measured | None = None
    laboratory: Identifier | None = None
    grade: Annotated[int, BeforeValidator(_grade, json_schema_input_type=str), Field(ge=1, le=5)] | None = None
    seen: Literal["worst", "last"] = "worst"
    lasting: Annotated[Hours, Field(gt=0)] | None = None
    do: Action
    times: Annotated[int, Field(ge=1)] | None = None
    from_: Annotated[Hours, Field(ge=0, alias="from")] = 0.0
    until: Annotated[Hours, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        level = self.measure is not None or self.true_ is not None
        limits = self.below is not None or self.above is not None
        rules = [
            (self.measure is not None and self.true_ is not None, "measure and true say the same twice", "keep one"),
            (level and not limits, "needs below or above", "add above: 25 mg/L"),
            (limits and not level, "below and above need measure or true", "add measure: OUTPUT"),
            (self.until is not None and self.until < self.from_, "ends before it starts", "correct from and until"),
            *self._tested(level=level),
        ]
        if wrong := next((words for bad, *words in rules if bad), None):
            raise problem(*wrong)

    def _tested(self, *, level: bool) -> list[tuple[bool, str, str]]:
        """What is wrong with a condition on a laboratory test, and with runs of waiting."""
        test = self.laboratory is not None
        runs = self.do.resume is not None or self.do.longest is not None or (self.do.waits and bool(self.do.levels))
        return [
            (test and level, "a level and a laboratory test are two rules", "write two rules"),
            (test and self.grade not in (1, 2, 3, 4), "a laboratory test needs a grade from 1 to 4", "grade: grade 3"),
            (not test and self.seen != "worst", "seen goes with laboratory", "leave it out"),
            (not test and self.lasting is not None, "lasting goes with laboratory", "leave it out"),
            (self.lasting is not None and self.seen == "last", "lasting needs all samples", "leave seen out"),
            (not test and self.do.resume is not None, "resume is a laboratory grade", "add laboratory: TEST"),
            (
                self.do.resume is not None and self.do.resume >= (self.grade or 5),
                "resume must be a better grade than grade",
                "resume: grade 1",
            ),
            (runs and self.times is not None, "times does not go with runs of waiting", "leave times out"),
        ]

    def in_unit(self, unit: str) -> Rule:
        """The rule with its levels in another unit; InputError on another dimension."""
        return replace(self, below=_in(self.below, unit), above=_in(self.above, unit))

    @property
    def name(self) -> str | None:
        """What the rule looks at, or None."""
        return self.measure if self.measure is not None else self.true_
