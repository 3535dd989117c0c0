"""The text of a design, `vtrial: design/1`: endpoint, errors, looks, adaptation, what to simulate.

    vtrial: design/1
    name: two_looks
    endpoint: {means: {effect: 0.5, sd: 1}}
    error: {alpha: 0.025, power: 0.9}
    looks: [0.5, 1]
    efficacy: {spending: lan_demets_obrien_fleming}

Every error is an `InputError` with file, line, field, value and remedy. Times have any one unit, the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Identifier, Real, problem
from pkpd.ground.text import Listing, Mapping, Node
from trials.designs.text_early import AdaptiveShares, Baskets, Escalation, TwoStages
from trials.designs.text_families import Factorial, Platform
from trials.designs.text_parts import STRICT, Count, Entry, NotNegative, Positive, Rates, Reals, Share
from trials.designs.text_scenarios import Costs, Enrolment, Profile, Simulate

__all__ = ["Design", "json_schema", "placed"]


def _looks(value: Any) -> Any:
    """`3` is three equally spaced looks."""
    if isinstance(value, (list, tuple)):
        return value
    if not (str(value).isdigit() and 1 <= int(value) <= 50):
        raise problem("must be a number of looks (1 to 50) or their information fractions", "write 3 or [0.5, 0.75, 1]")
    return [(k + 1) / int(value) for k in range(int(value))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """A difference of means (groups: 1 for paired or crossover differences). margin: under the null hypothesis."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    effect: Real
    sd: Positive
    margin: Real = 0.0
    groups: Literal["1", "2"] = "2"
    test: Literal["t", "z"] = "t"


def _crossover(value: Any) -> Any:
    """yes is the 2x2 crossover, no two groups."""
    said = {"yes": "2x2", "true": "2x2", "no": None, "false": None}
    return said.get(str(value).lower(), value)


Crossover = Literal["2x2", "2x2x3", "2x2x4", "2x4x4", "2x3x3", "3x3", "3x6x3", "4x4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """Two one-sided t tests at alpha each; with `log: yes` limits and effect are ratios and `cv` gives the sd.

    crossover: no (two groups), yes (2x2), or treatments x sequences x periods: replicate and Williams designs.
    subjects: instead of those the power needs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    effect: Real
    lower: Real
    upper: Real
    sd: Positive | None = None
    cv: Positive | None = None
    log: bool = False
    crossover: Annotated[Crossover | None, BeforeValidator(_crossover)] = None
    subjects: Count | None = None

    def __post_init__(self) -> None:
        if (self.sd is None) == (self.cv is None) or (self.cv is not None and not self.log):
            raise problem("needs sd, or with log the cv", "write {log: yes, cv: 0.3}")
        if self.log and min(self.effect, self.lower, self.upper) <= 0:
            raise problem("ratios must be > 0", "write {effect: 0.95, lower: 0.8, upper: 1.25}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportions:
    """Two proportions. null: their difference or ratio under the null hypothesis (a margin: non-inferiority)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    treated: Share
    control: Share
    null: Real | None = None
    measure: Literal["difference", "ratio"] = "difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneProportion:
    """One proportion against a fixed one."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rate: Share
    null: Share
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Time to event, log-rank. One of follow_up (after the last entry) and subjects. null: hazard ratio there."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    hazard_ratio: Positive
    control: Rates
    accrual: Entry
    null: Positive = 1.0
    method: Literal["schoenfeld", "freedman", "hsieh_freedman"] = "schoenfeld"
    follow_up: NotNegative | None = None
    subjects: Positive | None = None
    dropout: Rates | None = None
    dropout_treated: Rates | None = None

    def __post_init__(self) -> None:
        if (self.follow_up is None) == (self.subjects is None):
            raise problem("needs one of follow_up and subjects", "write follow_up: 12")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Negative binomial rates; control: events per unit of time. One of exposure and accrual with follow_up."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    control: Positive
    rate_ratio: Positive
    overdispersion: NotNegative
    null: Positive = 1.0
    exposure: Positive | None = None
    accrual: Entry | None = None
    follow_up: NotNegative = 0.0
    dropout: Rates | None = None


def _one_of(noun: Any) -> str:
    """Name of the one field that is given."""
    given = [f.name for f in fields(noun) if getattr(noun, f.name) is not None]
    if len(given) != 1:
        names = ", ".join(f.name for f in fields(noun))
        raise problem(f"needs exactly one of {names}", "keep one")
    return given[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is compared: exactly one."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    means: Means | None = None
    equivalence: Equivalence | None = None
    proportions: Proportions | None = None
    one_proportion: OneProportion | None = None
    survival: Survival | None = None
    counts: Counts | None = None
    factorial: Factorial | None = None
    platform: Platform | None = None
    escalation: Escalation | None = None
    two_stages: TwoStages | None = None
    adaptive_shares: AdaptiveShares | None = None
    baskets: Baskets | None = None

    def __post_init__(self) -> None:
        _one_of(self)

    @property
    def kind(self) -> str:
        return _one_of(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """alpha of all sides together, power under the stated effect."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    alpha: Real = 0.025
    sides: Literal["1", "2"] = "1"
    power: Real = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Subjects treated : control."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    treated: Real = 1.0
    control: Real = 1.0

    def __post_init__(self) -> None:
        if self.treated + self.control <= 0:
            raise problem("allocation sums to 0", "write {treated: 2, control: 1}")
        if min(self.treated, self.control) <= 0:
            raise problem("each group needs a share > 0", "write {treated: 2, control: 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficacy:
    """See `trials.designs.sequential.Efficacy`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    family: str | None = None
    spending: str | None = None
    shape: Real = 0.0
    early: Real = 3.0
    cumulative: Reals = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Futility:
    """See `trials.designs.sequential.Futility`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    z: Reals = ()
    spending: str | None = None
    shape: Real = 0.0
    cumulative: Reals = ()
    binding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fisher:
    """See `trials.designs.combination.FisherPlan`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: Literal["equal", "constant", "given"] = "equal"
    futility: Reals = ()
    critical: Reals = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reestimate:
    """Stages of a size that conditional power decides. subjects: planned, cumulative; least, most: of each stage.

    effect: the effect the conditional power is for, the observed one where it is left out. fisher: the combination
    test is Fisher's product instead of the inverse normal at the bounds of `efficacy`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    subjects: Annotated[Reals, Field(min_length=2)]
    conditional_power: Annotated[Real, Field(gt=0, lt=1)]
    least: Reals
    most: Reals
    effect: Positive | None = None
    fisher: Fisher | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Select:
    """Several arms against one control, some dropped at interim looks. each: subjects of an arm in a stage."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    arms: Annotated[dict[Identifier, Real], Field(min_length=2, max_length=8)]
    each: Count
    control: Count | None = None
    choice: Literal["best", "best_of", "within", "all"] = "best"
    number: Count = 1
    epsilon: NotNegative = 0.0
    threshold: Real | None = None
    intersection: Literal["dunnett", "bonferroni", "sidak", "simes", "hierarchical"] = "dunnett"
    success: Literal["all", "any"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrich:
    """A subgroup that may become the whole population. effects: in the subgroup and in the rest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    prevalence: Annotated[Real, Field(gt=0, lt=1)]
    subjects: Annotated[tuple[Positive, ...], Field(min_length=2)]
    effects: Annotated[Reals, Field(min_length=2, max_length=2)]
    choice: Literal["best", "within", "all"] = "best"
    epsilon: NotNegative = 0.0
    threshold: Real | None = None
    intersection: Literal["dunnett", "bonferroni", "sidak", "simes", "hierarchical"] = "dunnett"
    success: Literal["all", "any"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A design as its text says it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    vtrial: Literal["design/1"]
    name: Identifier
    endpoint: Endpoint
    about: str = ""
    error: Errors = field(default_factory=Errors)
    allocation: Allocation = field(default_factory=Allocation)
    looks: Annotated[Reals, BeforeValidator(_looks)] = (1.0,)
    efficacy: Efficacy | None = None
    futility: Futility | None = None
    reestimate: Reestimate | None = None
    select: Select | None = None
    enrich: Enrich | None = None
    simulate: Simulate | None = None
    enrolment: Enrolment | None = None
    profile: Profile | None = None
    costs: Costs | None = None

    @classmethod
    def read(cls, path: str | Path) -> Design:
        """A design from its file."""
        return cls.parse(text.read_text(path), str(path))

    @classmethod
    def parse(cls, source: str, file: str = "<text>") -> Design:
        """A design from its text, checked and solved once, so that whatever cannot be solved is said with its place."""
        from trials.designs.designed import solved
        from trials.designs.text_checks import inside

        node = text.parse(source, file)
        made = text.validated(cls, node, file)
        placed(node, file, lambda: solved(inside(made)))
        return made

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        made: dict[str, Any] = TypeAdapter(Design).dump_python(self, mode="json")
        return made


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a design."""
    return TypeAdapter(Design).json_schema()


RENAMED = {"ratio": "allocation", "information": "looks"}


def placed[T](node: Node, file: str, work: Callable[[], T]) -> T:
    """What `work()` returns; its InputError with the place of its field in the text."""
    try:
        return work()
    except InputError as error:
        if error.line is not None:
            raise
        wanted = [RENAMED.get(part, part) for part in (error.field or "").split(".") if part]
        path = _path(node, wanted)
        shown = ".".join(map(str, path)) if path else error.field
        raise InputError(
            error.problem, file=file, field=shown or None, value=error.value, remedy=error.remedy,
            where=text.locate(node, path),
        ) from None  # fmt: skip


def _path(node: Node, wanted: list[str]) -> tuple[str | int, ...]:
    """The first path of the text that ends with the wanted keys, else with fewer of them."""
    for parts in (wanted[:n] for n in range(len(wanted), 0, -1)):
        for path in _paths(node):
            if list(path[-len(parts) :]) == parts:
                return (*path, *wanted[len(parts) :])
    return tuple(wanted)


def _paths(node: Node, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """All paths, the shallow ones of a branch first."""
    if isinstance(node, Mapping):
        for name in node:
            yield (*above, str(name))
        for name, child in node.items():
            yield from _paths(child, (*above, str(name)))
    if isinstance(node, Listing):
        for place, child in enumerate(node):
            yield from _paths(child, (*above, place))
