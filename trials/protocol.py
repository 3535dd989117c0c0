"""The protocol: what will be done to whom, as frozen nouns read from one YAML text.

`Protocol.read(path)` types every value, refuses unknown keys and runs the cross-checks of `trials.checks`; whatever is
wrong is an `InputError` with file, line, field, value and remedy. Times are hours inside; visits are given in days.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pkpd.ground import text, units
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Real, problem
from pkpd.model.guidance import Guidance
from pkpd.model.regimen import Dose, Regimen
from pkpd.model.rules import Decisions, Rule
from trials.comedication import Comedication, Condition, trimmed
from trials.consequences import Consequence, SafetyStop
from trials.estimand import Analysis, Endpoint, Estimand, Names
from trials.laboratory import Laboratory
from trials.planned import DataCut, Enrolment, Interims, LackOfEffect, Rescue, Switch
from trials.quantification import Quantification
from trials.weighing import BenefitRisk

if TYPE_CHECKING:
    from populations.covariates import PopulationLaw
    from populations.genotype_law import Genotypes

__all__ = [
    "Adherence", "Allocation", "Arm", "Dropout", "Fitted", "GenotypeChoice", "Intercurrent", "Keep", "ModelChoice",
    "ModelFile", "Occasions", "PopulationChoice", "Prognosis", "Protocol", "Sensitivity", "Truth", "Visit", "defaults",
    "json_schema",
]  # fmt: skip

HOURS_PER_DAY = 24.0
STRICT = ConfigDict(extra="forbid")

Share = Annotated[Real, Field(ge=0, le=1)]
Days = Annotated[Real, Field(ge=0, le=36525)]


def _per_hour(value: object) -> object:
    try:
        return units.number(value, "1/h") if isinstance(value, str) else value
    except InputError as error:
        raise problem(error.problem, error.remedy) from None


def _published(value: object) -> object:
    if isinstance(value, str) and value != "published":
        raise problem("must be 'published' or {fit: ..., data: ..., take: [...]}", "write published")
    return None if isinstance(value, str) else value


def _grade(value: object) -> object:
    """`grade 3` as 3."""
    words = value.split() if isinstance(value, str) else []
    if isinstance(value, str) and (len(words) != 2 or words[0] != "grade" or words[1] not in "12345"):
        raise problem("must be a grade from 1 to 5", "write grade 3")
    return int(words[1]) if words else value


Hazard = Annotated[
    float,
    BeforeValidator(_per_hour, json_schema_input_type=str),
    Field(ge=0, allow_inf_nan=False, examples=["0.0015 1/d"]),
]
Grade = Annotated[int, BeforeValidator(_grade, json_schema_input_type=str), Field(ge=1, le=5, examples=["grade 3"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Parameters taken from a posterior: model `fit` fitted to `data` (library names, or files beside the protocol).

    take: names of the parameters the posterior gives (typical value and between-subject variability).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    fit: str
    data: str
    take: Names


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The model `file` beside the protocol, and where its parameters come from: None (`published`) or a fit.

    draws: how many draws of the population parameters the run keeps; weight: of this model among those that
    `sensitivity` names with weights (given, or by stacking); they sum to 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    file: str
    parameters: Annotated[Fitted | None, BeforeValidator(_published, json_schema_input_type=Fitted | str)] = None
    draws: Annotated[int, Field(ge=1, le=100_000)] = 1000
    weight: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenotypeChoice:
    """Pharmacogenes drawn beside the covariates: shares of ancestries, which genes; frequencies {gene: {ancestry:
    {allele: share}}} instead of the shipped ones, activity {gene: {function: x}} of an allele instead of its gene's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    ancestry: dict[str, Share]
    genes: Names
    frequencies: dict[str, dict[str, dict[str, Share]]] = field(default_factory=dict)
    activity: dict[str, dict[str, Annotated[Real, Field(ge=0)]]] = field(default_factory=dict)

    def law(self) -> Genotypes:
        """The law. Errors: InputError for what does not exist or does not sum to 1."""
        from populations.genotype_law import Genotypes

        return Genotypes.of(self.genes, self.ancestry, given=self.frequencies, activity=self.activity)


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationChoice:
    """The population law, who is eligible (name: condition on covariates), covariates whose distribution is set."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    law: str
    eligible: dict[Identifier, str] = field(default_factory=dict)
    set_: Annotated[dict[str, dict[int, Share]], Field(alias="set")] = field(default_factory=dict)
    genotype: GenotypeChoice | None = None

    def people(self) -> PopulationLaw:
        """The law of covariates with the genotypes, without `set`. Errors: InputError."""
        from populations.covariates import PopulationLaw

        law = PopulationLaw.read(self.law)
        return law if self.genotype is None else law.with_genotype(self.genotype.law())


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm: `ratio` of allocation, `regimen` (doses; none for placebo), `label` and `flag` for the report.

    rules: what changes a subject's doses in the course of the trial, in order (see `pkpd.model.rules`);
    tdm: doses guided by measured levels (see `pkpd.model.guidance`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    ratio: Annotated[int, Field(gt=0, le=100)] = 1
    regimen: tuple[Dose, ...]
    rules: tuple[Rule, ...] = ()
    tdm: Guidance | None = None
    label: str | None = None
    flag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """`permuted_block` (blocks of `size` within the `strata`), `complete` randomisation, or `minimisation` over the
    strata, each a factor: the arm that leaves the least imbalance (`measure`) is given with `probability`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: Literal["permuted_block", "complete", "minimisation"] = "complete"
    size: Annotated[int, Field(ge=1, le=1000)] | None = None
    strata: Names = ()
    probability: Annotated[Real, Field(gt=0, le=1)] = 0.8
    measure: Literal["range", "variance"] = "range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A planned visit: `day` from the first dose, `window` +- days (uniform), probability that it is `missed`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    day: Days
    window: Days = 0.0
    missed: Share = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adherence:
    """Which doses are taken: all (`none`) or a two-state Markov chain of missed doses."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["none", "markov"] = "none"
    miss_after_taken: Share = 0.0
    miss_after_missed: Share = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasions:
    """When an occasion of a model with `occasion: {column: ...}` begins, after the first, which begins with the trial.

    at: `every 21 d`, times, or names of visits (their actual times).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    at: Decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class Intercurrent:
    """An intercurrent event, one of: treatment ends at the first adverse event of grade `after` or worse (from_, text
    `from` [h]: earlier ones do not end it, a dosing rule may answer them; of: of these events alone; probability: in
    this share of subjects); `switch` to another arm; `rescue`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    after: Grade | None = None
    from_: Annotated[Hours, Field(ge=0, alias="from")] = 0.0
    of: Names = ()
    probability: Annotated[Real, Field(gt=0, le=1)] = 1.0
    switch: Switch | None = None
    rescue: Rescue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Leaving the trial: constant `hazard` [1/h inside], multiplied by `factor_after_stop` once treatment ended.

    after: {adverse event: probability of leaving at its first occurrence}; while_ (text: `while`): {event whose grade
    moves: {grade: hazard of leaving while it is of that grade, or worse up to the next grade named}}; lack_of_effect:
    by what is measured.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    hazard: Hazard = 0.0
    factor_after_stop: Annotated[Real, Field(ge=0, le=1000)] = 1.0
    after: Mapping[str, Share] = field(default_factory=dict)
    while_: Annotated[Mapping[str, Mapping[Annotated[int, Field(ge=1, le=4)], Hazard]], Field(alias="while")] = field(
        default_factory=dict
    )
    lack_of_effect: LackOfEffect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prognosis:
    """A prognostic score of every subject: the outcome of `endpoint` foretold `under` an arm, before randomisation.

    sees: outputs of the baseline visit it is told besides the covariates; model: text beside the protocol that
    foretells (default: the trial's own); draws: of each subject's posterior. An ANCOVA takes it by `adjust: [baseline,
    prognosis]`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    endpoint: str
    under: str
    sees: Names = ()
    model: str | None = None
    draws: Annotated[int, Field(ge=50, le=5000)] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Concentration curves kept per arm: `curves` shown one by one, `bands` for percentile bands (over replicates)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    curves: Annotated[int, Field(ge=0, le=10_000)] = 0
    bands: Annotated[int, Field(ge=0, le=10_000)] = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The true value of each estimand, from potential outcomes (every subject under every arm) of `replicates`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    replicates: Annotated[int, Field(ge=0, le=100_000)] = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """Another model text for a sensitivity run; parameters come from where the main model's do. weight: see
    `ModelChoice`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    file: str
    weight: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What a sensitivity run changes; whatever is left out stays as in the main run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    model: ModelFile | None = None
    replicates: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    adherence: Adherence | None = None
    dropout: Dropout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A whole protocol; arms and visits keep the order of the text (arms) and of time (visits).

    Errors: `read` and `parse` raise InputError. Example: `Protocol.read("protocol.yaml").arms["placebo"].ratio`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    vtrial: Literal["protocol/1"]
    name: Identifier
    question: str = ""
    context_of_use: str = ""
    model: ModelChoice
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    replicates: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    population: PopulationChoice
    subjects: Annotated[int, Field(ge=2, le=1_000_000)]
    arms: dict[Identifier, Arm]
    allocation: Allocation = field(default_factory=Allocation)
    visits: dict[Identifier, Visit]
    adherence: Adherence = field(default_factory=Adherence)
    occasions: Occasions | None = None
    intercurrent: dict[Identifier, Intercurrent] = field(default_factory=dict)
    dropout: Dropout = field(default_factory=Dropout)
    endpoints: dict[Identifier, Endpoint]
    estimands: dict[Identifier, Estimand]
    analyses: dict[Identifier, Analysis]
    enrolment: Enrolment | None = None
    data_cut: DataCut | None = None
    interims: Interims | None = None
    prognosis: Prognosis | None = None
    comedication: dict[Identifier, Comedication] = field(default_factory=dict)
    impairment: dict[Identifier, Condition] = field(default_factory=dict)
    food: Condition | None = None
    consequences: dict[Identifier, Consequence] = field(default_factory=dict)
    safety_stop: dict[Identifier, SafetyStop] = field(default_factory=dict)
    laboratory: dict[Identifier, Laboratory] = field(default_factory=dict)
    quantification: dict[Identifier, Quantification] = field(default_factory=dict)
    benefit_risk: BenefitRisk | None = None
    decide: dict[Identifier, str] = field(default_factory=dict)
    keep: Keep = field(default_factory=Keep)
    truth: Truth = field(default_factory=Truth)
    sensitivity: dict[Identifier, Sensitivity] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Protocol:
        """The protocol of a file with every cross-check done, the model's included."""
        return cls.parse(text.read_text(path), file=str(path))

    @classmethod
    def parse(cls, source: str, *, file: str = "<text>", complete: bool = True) -> Protocol:
        """The protocol of a text; `complete=False` leaves out the checks that open other files (model, data, law)."""
        from trials import checks

        node = text.parse(source, file)
        made = text.validated(cls, node, file)
        checks.inside(made, node)
        if complete:
            checks.against_files(made, node, Path(file).parent)
        return made

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Names of the arms in the order of their codes."""
        return tuple(self.arms)

    @property
    def visit_names(self) -> tuple[str, ...]:
        """Names of the visits in order of time; the first is the baseline."""
        return tuple(sorted(self.visits, key=lambda name: self.visits[name].day))

    @property
    def stop_grade(self) -> int | None:
        """Lowest grade of an adverse event that ends treatment, or None."""
        return min((event.after for event in self.intercurrent.values() if event.after is not None), default=None)

    @property
    def changes(self) -> tuple[str, ...]:
        """Names of the intercurrent events that change treatment: switching and rescue."""
        return tuple(name for name, event in self.intercurrent.items() if event.after is None)

    @property
    def horizon(self) -> float:
        """Time of the last planned visit, h."""
        return max(visit.day for visit in self.visits.values()) * HOURS_PER_DAY

    @property
    def conditions(self) -> dict[str, Condition]:
        """Impairment and food by name."""
        return dict(self.impairment) | ({"food": self.food} if self.food is not None else {})

    @property
    def other_models(self) -> dict[str, str]:
        """Files of models besides the trial's own: `tdm.ARM` that guides an arm, `prognosis` that foretells."""
        named = {f"tdm.{name}": arm.tdm.model for name, arm in self.arms.items() if arm.tdm is not None}
        named["prognosis"] = None if self.prognosis is None else self.prognosis.model
        return {name: file for name, file in named.items() if file is not None}

    def regimen(self, arm: str) -> Regimen:
        """The regimen of an arm."""
        return Regimen(self.arms[arm].regimen)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by the text's names (quantities in inside units): hashed, stored, compared."""
        from pkpd.ground.validation import adapter

        found: dict[str, Any] = adapter(Protocol).dump_python(self, mode="json", by_alias=True)
        late = ("comedication", "impairment", "food", "consequences", "safety_stop", "laboratory", "benefit_risk")
        for name in late:  # the key of a protocol without them is as it was
            if not found[name]:
                del found[name]
        _leave_out(found)
        for name, plain in found.get("comedication", {}).items():
            found["comedication"][name] = trimmed(plain)
        return found

    def varied(self, change: Sensitivity) -> Protocol:
        """This protocol with a sensitivity run's changes, without sensitivity runs of its own."""
        changed = {f.name: getattr(change, f.name) for f in dataclasses.fields(change)}
        given = {name: value for name, value in changed.items() if value is not None}
        if change.model is not None:
            given["model"] = dataclasses.replace(self.model, file=change.model.file)
        return dataclasses.replace(self, sensitivity={}, **given)


def _leave_out(found: dict[str, Any]) -> None:
    """Younger keys that say nothing, so that the key of a protocol without them is as it was."""
    for event in found["intercurrent"].values():
        for key, nothing in (("of", []), ("probability", 1.0)):
            if event[key] == nothing:
                del event[key]
    for plan in (found["dropout"], *(change["dropout"] for change in found["sensitivity"].values())):
        if plan is not None and not plan["while"]:
            del plan["while"]


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the protocol text."""
    from pkpd.ground.validation import adapter

    schema: dict[str, Any] = adapter(Protocol).json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def defaults(source: str | None = None) -> dict[str, str]:
    """What a protocol leaves out and what it then means: {field: default}; of a text, only what it leaves out.

    >>> defaults()["dropout.factor_after_stop"]
    '1.0'
    """
    node: Any = text.parse(source) if source is not None else {}
    return dict(_defaults(Protocol, node, ""))


def _defaults(kind: Any, node: Any, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name = item.name.rstrip("_")
        here = node.get(name) if isinstance(node, Mapping) else None
        if dataclasses.is_dataclass(hints[item.name]):
            found += _defaults(hints[item.name], here, f"{prefix}{name}.")
            continue
        value = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        if value is not dataclasses.MISSING and here is None:
            found.append((f"{prefix}{name}", str(value) if value not in ((), {}, "", None) else "none"))
    return found
