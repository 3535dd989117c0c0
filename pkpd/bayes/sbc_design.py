"""The text of a calibration study, `vtrial: sbc/1`: who is simulated, dosed and measured when, and how it is fitted.

    vtrial: sbc/1
    name: oral
    seed: 20261122
    groups:
      - subjects: 12
        doses: [{amount: 320 mg, into: depot, at: 0 h}]
        samples: {CP: [0.5 h, 1 h, 2 h, 4 h, 9 h, 24 h]}
        covariates: {WT: 70}

The priors are those of the model's text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter

from pkpd.ground import digest, text
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Hours, Identifier, Real, problem
from pkpd.ground.text import nearest
from pkpd.model.records import Records
from pkpd.model.regimen import Dose, Events, Regimen, Schedule
from pkpd.model.spec import Model
from pkpd.model.timeline import Series

__all__ = ["BINS", "Group", "StudyDesign", "json_schema", "records_of"]

BINS = 20
MOST_SUBJECTS = 10_000
Times = Annotated[tuple[Annotated[Hours, Field(ge=0)], ...], Field(min_length=1)]


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Values = Annotated[tuple[Real, ...], BeforeValidator(_one_or_many), Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Subjects of one regimen and sampling scheme. covariates: one value for all, or one for each subject in turn;
    occasions: when the first, the second ... begins, of a model with variability between occasions.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    subjects: Annotated[int, Field(ge=1, le=MOST_SUBJECTS)]
    doses: tuple[Dose, ...] = ()
    samples: Annotated[dict[Identifier, Times], Field(min_length=1)]
    covariates: dict[Identifier, Values] = field(default_factory=dict)
    occasions: Times | None = None

    def __post_init__(self) -> None:
        starts = self.occasions or (0.0,)
        if starts[0] != 0.0 or any(b <= a for a, b in pairwise(starts)):
            raise problem("occasions must begin at 0 h and ascend", "occasions: [0 h, 168 h]")
        for name, values in self.covariates.items():
            if len(values) not in (1, self.subjects):
                raise problem(f"{name} has {len(values)} values for {self.subjects} subjects", "give one, or one each")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDesign:
    """A calibration study: `fits` data sets, each fitted by `chains` x (`tune` + `draws`).

    kept: draws of each fit its ranks are counted among; kept + 1 is a multiple of the 20 bins, so that every bin is as
    likely. A fit with fewer effective draws than `kept` is sampled again with twice the draws, and again.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    vtrial: Literal["sbc/1"]
    name: Identifier
    about: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    fits: Annotated[int, Field(ge=1, le=100_000)] = 300
    chains: Annotated[int, Field(ge=1, le=16)] = 2
    tune: Annotated[int, Field(ge=50, le=100_000)] = 400
    draws: Annotated[int, Field(ge=50, le=100_000)] = 400
    kept: Annotated[int, Field(ge=BINS - 1, le=9_999)] = 99
    target_accept: Annotated[Real, Field(gt=0.5, lt=1.0)] = 0.98

    def __post_init__(self) -> None:
        if (self.kept + 1) % BINS:
            raise problem(f"kept + 1 must be a multiple of {BINS}, the bins of a rank", "write 99 or 199")
        if self.kept > self.chains * self.draws:
            raise problem("kept is more than there are draws", "raise draws")

    @classmethod
    def read(cls, path: str | Path) -> StudyDesign:
        """A design from its file; errors name file, line, field, value and remedy."""
        return cls.parse(text.read_text(path), str(path))

    @classmethod
    def parse(cls, source: str, file: str = "<text>") -> StudyDesign:
        """A design from its text."""
        return text.validated(cls, text.parse(source, file), file)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        made: dict[str, Any] = TypeAdapter(StudyDesign).dump_python(self, mode="json", by_alias=True)
        return made

    @property
    def digest(self) -> str:
        return digest.of_json({k: v for k, v in self.to_dict().items() if k not in ("about", "fits")})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a design."""
    return TypeAdapter(StudyDesign).json_schema()


def records_of(design: StudyDesign, model: Model, *, file: str | None = None) -> Records:
    """The data set of a study, its values all 1. Errors: InputError, naming the design's file, for names the model does
    not have.
    """
    try:
        _check(design, model)
        return _records(design, model)
    except InputError as error:
        raise InputError(
            error.problem, file=error.file or file, field=error.field, value=error.value, remedy=error.remedy
        ) from None


def _records(design: StudyDesign, model: Model) -> Records:
    names, order = list(model.outputs), list(model.states)
    schedules: list[Schedule] = []
    subject: list[int] = []
    time: list[float] = []
    output: list[int] = []
    for group in design.groups:
        schedule = Regimen(group.doses).schedule({n: model.dose_units[n] for n in order})
        rows = sorted((t, names.index(o)) for o, times in group.samples.items() for t in times)
        for _ in range(group.subjects):
            subject += [len(schedules)] * len(rows)
            schedules.append(schedule)
            time += [t for t, _ in rows]
            output += [o for _, o in rows]
    count = len(schedules)
    return Records(
        ids=tuple(str(i + 1) for i in range(count)), doses=Events.pack(schedules),
        subject=np.asarray(subject, np.int64), time=np.asarray(time, np.float64), dv=np.ones(len(time)),
        output=np.asarray(output, np.int64), after=np.zeros(len(time), np.bool_), covariates=_covariates(design),
        varying=(), digest=design.digest, occasion=_occasions(design) if model.occasion_etas else None,
    )  # fmt: skip


def _occasions(design: StudyDesign) -> Series:
    """Numbers 1, 2 ... from the times at which a group's occasions begin."""
    starts = [group.occasions or (0.0,) for group in design.groups for _ in range(group.subjects)]
    return Series(
        offsets=np.concatenate([[0], np.cumsum([len(own) for own in starts])]).astype(np.int64),
        time=np.asarray([t for own in starts for t in own], np.float64),
        value=np.asarray([1.0 + k for own in starts for k in range(len(own))], np.float64),
    )


def _covariates(design: StudyDesign) -> dict[str, Any]:
    names = dict.fromkeys(name for group in design.groups for name in group.covariates)

    def values(group: Group, name: str) -> tuple[float, ...]:
        given = group.covariates[name]
        return given * group.subjects if len(given) == 1 else given

    return {name: np.asarray([x for g in design.groups for x in values(g, name)], np.float64) for name in names}


def _check(design: StudyDesign, model: Model) -> None:
    wanted = [set(group.covariates) for group in design.groups]
    for k, group in enumerate(design.groups):
        place = f"groups[{k}]"
        if group.occasions is not None and not model.occasion_etas:
            raise InputError(
                "the model has no variability between occasions", field=f"{place}.occasions", remedy="leave it out"
            )
        for output in group.samples:
            if output not in model.outputs:
                remedy = nearest(output, model.outputs)
                raise InputError("the model has no such output", field=f"{place}.samples", value=output, remedy=remedy)
        for name in group.covariates:
            if name not in model.inputs:
                remedy = nearest(name, model.inputs) or "the model has no covariates: leave it out"
                raise InputError(
                    "the model has no such covariate", field=f"{place}.covariates", value=name, remedy=remedy
                )
        _missing(place, wanted[k], set().union(*wanted))


def _missing(place: str, given: set[str], wanted: set[str]) -> None:
    for name in sorted(wanted - given):
        raise InputError("another group has this covariate", field=f"{place}.covariates", value=name, remedy="add it")
