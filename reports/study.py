"""What a report needs to know of a finished run, gathered once from the run record.

This is the one seam between the other rooms' nouns and the words and figures of the report: sections read a `Study`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict

from reports.chained import Chain
from reports.conducted import Changed, Conduct
from reports.decided import Decided
from reports.event_course import Course
from reports.event_times import Timed
from reports.figures.palette import Look
from reports.toxicity import Toxicity
from trials.assessed import Assessment
from trials.operating import Estimate
from trials.robustness import Robustness

if TYPE_CHECKING:
    from pkpd.bayes.checks import Checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Dosing:
    """A stretch of a regimen: days from, to; amount with its unit; hours between doses."""

    start: float
    end: float
    amount: float
    unit: str
    every: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm as the report names and draws it. `index` is its code in the outcome table."""

    index: int
    key: str
    label: str
    flag: str
    control: bool
    ratio: float
    look: Look
    dosing: tuple[Dosing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One adverse event: key of its columns, term and system organ class, highest grade, days its risk refers to."""

    key: str
    term: str
    soc: str
    grades: int
    per: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The primary endpoint: change of `output` (unit) from the baseline visit to `visit`, or its value there.

    key: name of the estimand and its analysis; endpoint: name of the endpoint.
    """

    key: str
    endpoint: str
    output: str
    unit: str
    baseline: str
    visit: str
    change: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One value of the model text with its uncertainty, source and status."""

    name: str
    typical: float
    unit: str
    status: str
    source: str
    note: str
    se: float
    iiv: float
    scale: str
    effects: str = ""
    fitted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """Candidates lost to one criterion: in the order of the criteria, on its own, and because a value was missing."""

    name: str
    rule: str
    lost: int
    alone: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FitEvidence:
    """Stored evidence of the Bayesian fit: no sampler is needed to read it."""

    name: str
    data: str
    diagnostics: Mapping[str, float]  # max_rhat, min_ess_bulk, min_ess_tail, divergences, draws, chains, ...
    table: pd.DataFrame  # one row per parameter: prior and posterior summaries
    draws: Mapping[str, NDArray[np.float64]]
    check: Mapping[str, pd.DataFrame]
    verdict: str = ""
    remarks: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    checks: "Checks | None" = None
    units: Mapping[str, str] = field(default_factory=dict)  # of the outputs
    shrinkage: Mapping[str, float] = field(default_factory=dict)  # of random effects
    identifiability: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another run of the same protocol: at the posterior median, or a sensitivity."""

    key: str
    label: str
    outcomes: pd.DataFrame
    analyses: pd.DataFrame
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision rule of the protocol and the share of replicates in which it says yes."""

    name: str
    rule: str
    made: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCurve:
    """Expected response by the model, each (g,): exposure, mean over parameter draws, central 95 % of the draws."""

    exposure: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A simulated mean concentration: median and 95 % range over parameter draws (and the people of the study)."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published result the model should reproduce; `kind` says whether the model was set to meet it.

    what: mean_difference (value, interval, unit), risk_ratio (event, value, interval) or levels (times [h], values).
    at_level: average concentration of the study, by which the arm to compare is chosen.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    key: str
    what: Literal["mean_difference", "risk_ratio", "levels"]
    kind: Literal["validation", "calibration"]
    claim: str
    witness: str
    unit: str = ""
    event: str = ""
    value: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    at_level: float = math.nan
    times: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    people: int = 0
    amount: float = math.nan
    every: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedList:
    """A file of published results, `vtrial: published/1`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    vtrial: Literal["published/1"]
    results: tuple[Published, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Study:
    """A finished run in the words of the report; two studies are the same when they are one object."""

    name: str
    question: str
    context: str
    seed: int
    planned: int
    subjects: int
    arms: tuple[Arm, ...]
    visits: Mapping[str, float]
    terms: tuple[Term, ...]
    composite: tuple[str, ...]  # events of "any adverse event"
    primary: Endpoint | None
    average: str
    peak: str
    exposure_unit: str
    alpha: float
    least_benefit: float | None
    most_risk: float | None
    design: tuple[tuple[str, str], ...]
    estimands: tuple[tuple[str, str], ...]
    labels: Mapping[str, Mapping[int, str]]
    units: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    screened: int
    screening: tuple[Screening, ...]
    outcomes: pd.DataFrame
    analyses: pd.DataFrame
    curves: pd.DataFrame | None
    provenance: tuple[tuple[str, str], ...]
    command: str
    fit: FitEvidence | None = None
    median: Variant | None = None
    sensitivities: tuple[Variant, ...] = ()
    failed_blocks: int = 0
    simultaneous: bool = True  # the primary analysis is adjusted for its number of contrasts
    side: str = "two"
    status_advice: Mapping[int, str] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    truth: pd.DataFrame | None = None  # potential outcomes: replicate x arm key, mean of the primary endpoint
    timed: Timed | None = None
    courses: tuple[Course, ...] = ()  # events that come again or become worse, over time
    conduct: Conduct | None = None
    changed: tuple[Changed, ...] = ()
    robustness: Robustness | None = None
    chain: Chain | None = None  # comedication and impairment
    benefit: Assessment | None = None
    decided: Decided | None = None  # what the protocol's rules then ask
    toxicity: Toxicity | None = None  # of the laboratory
    published: tuple[Published, ...] = ()
    levels: Mapping[tuple[str, float], Level] = field(default_factory=dict)
    responses: Mapping[str, ResponseCurve] = field(default_factory=dict)  # by event key, and by output

    @property
    def control(self) -> Arm:
        return next(arm for arm in self.arms if arm.control)

    @property
    def main(self) -> Endpoint:
        """The primary endpoint, for sections that are only written when there is one."""
        if self.primary is None:
            raise LookupError("the protocol has no estimand on an output")
        return self.primary

    @property
    def final(self) -> str:
        """The visit at which exposure is reported: that of the primary endpoint, else the last."""
        return self.primary.visit if self.primary is not None else list(self.visits)[-1]

    @property
    def treated(self) -> tuple[Arm, ...]:
        return tuple(arm for arm in self.arms if not arm.control)
