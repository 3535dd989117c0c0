"""The text of surveillance after approval, `vtrial: surveillance/1`: events, use of the product, reporting, plans.

    vtrial: surveillance/1
    name: after_launch
    seed: 1
    months: 36
    uptake: {starting: [100, 400, 1000], persistence: {mean: 8}}
    events:
      liver: {background: {events: 40, years: 20000}, ratio: {value: 3, interval: [2, 4.5]}}
    plans:
      claims: {test: poisson, coverage: 0.2}

Time is in months, rates are per person-year. Every quantity may carry a 95 % interval: a draw of all of them is one
possible truth. Every error is an `InputError` with file, line, field, value and remedy.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Identifier, Real, problem
from trials.analysis.signals_fit import Theta
from trials.designs.text_parts import STRICT, Count, NotNegative, Positive, Reals, Share

__all__ = [
    "SEQUENTIAL", "Amount", "Background", "Event", "Persistence", "Plan", "Proportion", "Ratio", "Reporting",
    "Stimulus", "Surveillance", "Uptake", "defaults", "json_schema",
]  # fmt: skip

SEQUENTIAL = ("poisson", "binomial", "conditional")
Test = Literal["poisson", "binomial", "conditional", "EB05", "IC025", "PRR", "ROR"]
Inside = Annotated[Real, Field(gt=0, lt=1)]
_LATER = {"coverage": "1", "alpha": "0.05", "minimum": "1", "from_": "after the lag", "reported": "reporting.share"}


def _ordered(value: float | None, interval: tuple[float, float] | None) -> None:
    if interval is None:
        return
    if value is None or not interval[0] <= value <= interval[1] or interval[0] == interval[1]:
        raise problem("the interval must hold the value, lower limit first", "write {value: 2, interval: [1.5, 2.7]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A positive quantity; with a 95 % `interval` it is log-normal with that median."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    value: Positive
    interval: tuple[Positive, Positive] | None = None

    def __post_init__(self) -> None:
        _ordered(self.value, self.interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A share; with a 95 % `interval` its log odds are normal with that median."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    value: Inside
    interval: tuple[Inside, Inside] | None = None

    def __post_init__(self) -> None:
        _ordered(self.value, self.interval)


def _valued(value: Any) -> Any:
    """A bare number is a quantity without uncertainty."""
    return {"value": value} if isinstance(value, (str, int, float)) else value


Quantity = Annotated[Amount, BeforeValidator(_valued, json_schema_input_type=Amount | float)]
Part = Annotated[Proportion, BeforeValidator(_valued, json_schema_input_type=Proportion | float)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Rate of the event in the same people without the product: `per_1000_years` with an interval; `events` in `years`
    (person-years), whose rate is a gamma variable; or the rate of arm `against` of a run.

    run: name of a run; event: of the run, where it has another name there; against: the run's control arm.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    per_1000_years: Positive | None = None
    interval: tuple[Positive, Positive] | None = None
    events: Count | None = None
    years: Positive | None = None
    run: Identifier | None = None
    event: Identifier | None = None
    against: Identifier | None = None

    def __post_init__(self) -> None:
        if (self.per_1000_years is not None) + (self.years is not None) + (self.run is not None) != 1:
            raise problem(
                "needs exactly one of per_1000_years, events with years, run", "write {events: 40, years: 20000}"
            )
        if (self.events is None) != (self.years is None):
            raise problem("needs events and years together", "write {events: 40, years: 20000}")
        if (self.run is None) != (self.against is None) or (self.event is not None and self.run is None):
            raise problem("a run needs the arm whose rate it is", "write {run: trial, against: placebo}")
        _ordered(self.per_1000_years, self.interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as often users have the event: stated, or of arm `arm` of a run; every replicate of the run is one
    possible truth.

    as_: `ratio` to the arm `against`, or `rate` of the arm itself over the background.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    value: Positive | None = None
    interval: tuple[Positive, Positive] | None = None
    run: Identifier | None = None
    event: Identifier | None = None
    arm: Identifier | None = None
    against: Identifier | None = None
    as_: Annotated[Literal["ratio", "rate"], Field(alias="as")] = "ratio"

    def __post_init__(self) -> None:
        if (self.value is None) == (self.run is None):
            raise problem(
                "needs one of value and run", "write {value: 2}, or {run: trial, arm: t400, against: placebo}"
            )
        if self.run is None and (self.event or self.arm or self.against or self.as_ == "rate"):
            raise problem("is stated: event, arm, against and as belong to a run", "write {value: 2}")
        if self.run is not None and (self.arm is None or (self.against is None) == (self.as_ == "ratio")):
            raise problem(
                "a ratio needs arm and against, a rate the arm alone", "write {run: trial, arm: a, against: b}"
            )
        _ordered(self.value, self.interval)


def _stated(value: Any) -> Any:
    return {"value": value} if isinstance(value, (str, int, float)) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """A product among the others that causes the event too: its `share` of the other reports, in which the event is
    `ratio` times as frequent."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    share: Inside
    ratio: Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event that is watched. in_database: share of the reports of other products that name it; reported: share of
    its cases that is reported, where it differs from `reporting.share`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    background: Background
    ratio: Annotated[Ratio, BeforeValidator(_stated, json_schema_input_type=Ratio | float)]
    label: str = ""
    in_database: Inside | None = None
    reported: Part | None = None
    masking: Masking | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """How long a patient stays on the product: a `mean` time in months (exponential), or the share `still` on it after
    0, 1, 2 ... months, nobody after the last."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mean: Positive | None = None
    still: Annotated[tuple[Share, ...], Field(max_length=600)] = ()

    def __post_init__(self) -> None:
        if (self.mean is None) == (not self.still):
            raise problem("needs one of mean and still", "write {mean: 8}")
        if self.still and (self.still[0] != 1 or any(b > a for a, b in zip(self.still, self.still[1:], strict=False))):
            raise problem("must begin with 1 and never rise", "write {still: [1, 0.8, 0.7]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptake:
    """Patients who start in each month (the last number holds for all later months), times `factor`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    starting: Annotated[tuple[NotNegative, ...], Field(min_length=1, max_length=600)]
    persistence: Persistence
    factor: Quantity = field(default_factory=lambda: Amount(value=1.0))

    def __post_init__(self) -> None:
        if not self.starting[0] > 0:
            raise problem("somebody must start in the first month", "begin with the month of the first patient")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stimulus:
    """Months `from` to `until` (both included) in which reports come `factor` times as often: of the watched `events`,
    or of `all` events of the product."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    from_: Annotated[Count, Field(alias="from")]
    until: Count
    factor: Positive
    of: Literal["events", "all"] = "events"

    def __post_init__(self) -> None:
        if self.until < self.from_:
            raise problem("must not end before it begins", "write {from: 6, until: 9, factor: 3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """Spontaneous reports. share: of cases that is reported; others_per_1000_years: all other events of users;
    delay: mean months until a report is in the data base (geometric); other_products: reports of other products a
    month, before: those that are there at launch; theta: hyperparameters of EB05 of the data base.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    share: Part
    others_per_1000_years: Quantity
    other_products: Positive
    before: NotNegative = 0.0
    delay: NotNegative = 0.0
    stimulated: tuple[Stimulus, ...] = ()
    theta: Annotated[Reals, Field(min_length=5, max_length=5)] | None = None

    def hyperparameters(self) -> Theta | None:
        """Theta of EB05. Errors: InputError."""
        if self.theta is None:
            return None
        a1, b1, a2, b2, p = self.theta
        return Theta(alpha1=a1, beta1=b1, alpha2=a2, beta2=b2, p=p)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A way to watch. test: a sequential test on a cohort of users, or a criterion on spontaneous reports.

    Of a cohort: coverage, share of users in it; alpha, of each event; minimum events of a signal; comparators,
    person-years of others to one of users (binomial); critical: `continuous` holds whatever the looks, `grouped` is
    exact for the planned looks (poisson, conditional); extent: length of the watch over the planned one. Of reports:
    unmasked, the masking product's reports are left out. lag: months that the data are late; every: months between
    looks; from_: month of the first, else the first multiple of `every` after the lag.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    test: Test
    label: str = ""
    coverage: Annotated[Real, Field(gt=0, le=1)] | None = None
    alpha: Annotated[Real, Field(gt=0, lt=0.5)] | None = None
    minimum: Count | None = None
    comparators: Positive | None = None
    critical: Literal["continuous", "grouped"] = "continuous"
    extent: Positive = 1.0
    unmasked: bool = False
    from_: Annotated[Count | None, Field(alias="from")] = None
    every: Count = 1
    lag: Annotated[int, Field(ge=0, le=600)] = 0

    @property
    def sequential(self) -> bool:
        return self.test in SEQUENTIAL

    def looks(self, months: int) -> tuple[int, ...]:
        """Months of the looks, each on the data of `lag` months before."""
        first = self.from_ or (self.lag // self.every + 1) * self.every
        return tuple(range(first, months + 1, self.every))

    def __post_init__(self) -> None:
        for name in ("coverage", "alpha", "minimum", "comparators"):
            if not self.sequential and getattr(self, name) is not None:
                raise problem(f"{name} belongs to a test on a cohort, not to {self.test}", "leave it out")
        if self.sequential and self.unmasked:
            raise problem("unmasked belongs to a criterion on reports", "leave it out")
        if (self.comparators is None) == (self.test == "binomial"):
            raise problem("comparators and test: binomial belong together", "write {test: binomial, comparators: 1}")
        if self.critical == "grouped" and self.test not in ("poisson", "conditional"):
            raise problem("grouped looks are for test: poisson or conditional", "leave critical out")
        if self.extent != 1.0 and (self.critical == "grouped" or not self.sequential):
            raise problem(
                "extent belongs to a continuous test on a cohort: others end with their looks", "leave it out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveillance:
    """What is watched, how, and what is true. runs: directories of finished runs by name, relative to the text; draws:
    possible truths, each with `replicates` markets; all plans see the same cases.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    vtrial: Literal["surveillance/1"]
    name: Identifier
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    months: Annotated[int, Field(ge=1, le=600)]
    uptake: Uptake
    events: Annotated[dict[Identifier, Event], Field(min_length=1, max_length=20)]
    plans: Annotated[dict[Identifier, Plan], Field(min_length=1, max_length=20)]
    about: str = ""
    runs: dict[Identifier, str] = field(default_factory=dict)
    reporting: Reporting | None = None
    draws: Annotated[int, Field(ge=1, le=100_000)] = 200
    replicates: Annotated[int, Field(ge=2, le=1_000_000)] = 50

    @classmethod
    def read(cls, path: str | Path) -> Surveillance:
        """From its file."""
        return cls.parse(text.read_text(path), str(path))

    @classmethod
    def parse(cls, source: str, file: str = "<text>") -> Surveillance:
        """From its text, checked; runs are not opened."""
        from trials.designs.text import placed

        node = text.parse(source, file)
        made = text.validated(cls, node, file)
        placed(node, file, lambda: _checked(made))
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain data, by the text's own names."""
        made: dict[str, Any] = TypeAdapter(Surveillance).dump_python(self, mode="json", by_alias=True)
        return made


def defaults(source: str) -> dict[str, str]:
    """What a text leaves out and what it then means: {field: default}."""
    node = text.parse(source)
    return dict(_defaults(Surveillance, node, ""))


def _defaults(kind: Any, node: Any, prefix: str) -> list[tuple[str, str]]:
    """Of a noun and of the nouns it holds by name; what was left out whole is not looked into."""
    inside: dict[str, Any] = {"plans": Plan, "events": Event, "uptake": Uptake, "reporting": Reporting}
    found: list[tuple[str, str]] = []
    for item in fields(kind):
        name = item.name.rstrip("_")
        here: Any = node.get(name) if isinstance(node, text.Mapping) else None
        value = item.default_factory() if item.default_factory is not MISSING else item.default
        if here is None and value is not MISSING and item.name not in _idle(kind, node):
            shown = (
                _LATER.get(item.name, "none") if value in ((), {}, "", None) else str(getattr(value, "value", value))
            )
            found.append((f"{prefix}{name}", shown))
        if here is not None and name in ("plans", "events"):
            for one, what in here.items():
                found += _defaults(inside[name], what, f"{prefix}{name}.{one}.")
        elif here is not None and name in inside:
            found += _defaults(inside[name], here, f"{prefix}{name}.")
    return found


def _idle(kind: Any, node: Any) -> tuple[str, ...]:
    """Fields that have no meaning beside the others, or only for the reader."""
    test = node.get("test") if kind is Plan else None
    if test is None:
        return ("label", "about")
    if test not in SEQUENTIAL:
        return ("label", "coverage", "alpha", "minimum", "comparators", "critical", "extent")
    return ("label", "unmasked", "comparators", *(("critical",) if test == "binomial" else ()))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the text."""
    return TypeAdapter(Surveillance).json_schema()


def _checked(made: Surveillance) -> None:
    for name, event in made.events.items():
        for part in ("background", "ratio"):
            run = getattr(event, part).run
            if run is not None and run not in made.runs:
                raise InputError("is not among the runs", field=f"events.{name}.{part}.run", value=run,
                                 remedy=text.nearest(run, made.runs) or "add runs: {trial: DIR}")  # fmt: skip
    for name, plan in made.plans.items():
        _check_plan(made, name, plan)
    if made.reporting is not None:
        made.reporting.hyperparameters()


def _check_plan(made: Surveillance, name: str, plan: Plan) -> None:
    here = f"plans.{name}"
    looks = plan.looks(made.months)
    if not looks or looks[0] <= plan.lag:
        problem, remedy = "there is nothing to look at", "begin after the lag and within the months"
        raise InputError(problem, field=f"{here}.from", value=plan.from_, remedy=remedy)
    if plan.test == "conditional":
        lacking = [event for event, e in made.events.items() if e.background.years is None]
        if lacking:
            raise InputError("needs the past's events and person-years", field=f"events.{lacking[0]}.background",
                             remedy="write background: {events: 40, years: 20000}")  # fmt: skip
    if plan.sequential:
        return
    if made.reporting is None:
        raise InputError("needs reporting", field=f"{here}.test", value=plan.test, remedy="add reporting: {...}")
    if plan.test == "EB05" and made.reporting.theta is None:
        remedy = "add theta: [alpha1, beta1, alpha2, beta2, p], as vtrial signals fits them"
        raise InputError("needs hyperparameters", field="reporting.theta", remedy=remedy)
    lacking = [event for event, e in made.events.items() if e.in_database is None]
    if lacking:
        raise InputError("is needed by plans on reports", field=f"events.{lacking[0]}.in_database",
                         remedy="write the share of other products' reports that name it")  # fmt: skip
