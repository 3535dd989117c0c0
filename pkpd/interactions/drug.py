"""What is known of a drug in interactions: as perpetrator (its entities and what they do to enzymes) and as victim.

Times in h, volumes in L, amounts in mg, concentrations in uM; interaction constants are unbound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from pkpd.ground import text
from pkpd.ground.errors import InputError

__all__ = [
    "Act",
    "Drug",
    "Entity",
    "Pathway",
    "Perpetrator",
    "Regimen",
    "Victim",
    "average",
    "concentrations",
    "read",
    "statuses",
]

Floats = NDArray[np.float64]
STRICT = ConfigDict(extra="forbid")
Status = Literal["verified", "copied", "assumed"]
FLOW_LIVER = 97.0  # L/h (ICH M12)
FLOW_ENTEROCYTE = 18.0  # L/h (ICH M12)


def _number(value: object) -> object:
    return float(value) if isinstance(value, str) else value


Real = Annotated[float, BeforeValidator(_number)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A value with where it comes from. cv: its uncertainty (of the logarithm; of the logit for shares); note: how it
    follows from the source, or what was looked for in vain."""

    __pydantic_config__ = STRICT

    value: Real
    cite: str
    status: Status
    cv: Real = 0.0
    note: str = ""


def _bare(value: object) -> object:
    return {"value": value, "cite": "", "status": "assumed"} if isinstance(value, int | float | str) else value


def _share(known: Known) -> Known:
    if not 0.0 <= known.value <= 1.0:
        raise ValueError("must lie between 0 and 1")
    return known


def _above(known: Known) -> Known:
    if not known.value > 0.0:
        raise ValueError("must be more than 0")
    return known


Cited = Annotated[Known, BeforeValidator(_bare), AfterValidator(_above)]
"""A value above 0 with its source; a bare number is assumed."""
CitedShare = Annotated[Known, BeforeValidator(_bare), AfterValidator(_share)]
ONE = Known(value=1.0, cite="", status="assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an entity does to one enzyme: Ki, KI, EC50 [uM], kinact [1/h], Emax (fold - 1). Absent: it does not.

    ir, ic: inhibition ratio or increase in clearance at the reference dose a day (Ohno et al., Clin Pharmacokinet
    2007;46:681;
    2008;47:669) in place of constants: Ki, or Emax and EC50, are then those that give it at the average concentration.
    """

    __pydantic_config__ = STRICT

    enzyme: str
    cite: str
    status: Status
    ki: Positive = math.inf
    kinact: NotNegative = 0.0
    ki_inactivation: Positive = math.inf
    emax: NotNegative = 0.0
    ec50: Positive = math.inf
    ir: Annotated[Share, Field(gt=0, lt=1)] | None = None
    ic: Positive | None = None
    cv: Positive = 0.8
    note: str = ""

    @property
    def mechanism(self) -> str:
        """clinical (`ir`, `ic`: no in vitro factor), else the first of induction, inactivation, reversible."""
        if self.ir is not None or self.ic is not None:
            return "clinical"
        return "induction" if self.emax > 0 else "inactivation" if self.kinact > 0 else "reversible"

    def at(self, average: float) -> Act:
        """The act with constants in place of `ir` and `ic`. average: unbound concentration [uM] at the reference
        regimen."""
        if self.ir is not None:
            return replace(self, ki=average * (1.0 - self.ir) / self.ir, ir=None)
        return self if self.ic is None else replace(self, emax=2.0 * self.ic, ec50=average, ic=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A molecule in plasma after a dose of its parent. auc_ratio: molar, to the parent (1 for the parent itself).

    Time course: Bateman's function with ka and the half-life [h] (of appearance and disappearance for a metabolite).
    """

    __pydantic_config__ = STRICT

    name: str
    molar_mass: Positive
    fu: Known
    half_life: Known
    ka: Known
    auc_ratio: Known | None = None
    acts: list[Act] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Perpetrator:
    """Apparent oral clearance CL/F [L/h] at the reference dose [mg]; exponent: AUC ~ dose**exponent; F:
    bioavailability."""

    __pydantic_config__ = STRICT

    clearance: Known
    reference_dose: Positive
    entities: list[Entity]
    exponent: Cited = ONE
    fa: CitedShare = ONE
    bioavailability: CitedShare = ONE
    blood_plasma: Cited = ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Pathway:
    """Share of the hepatic intrinsic clearance that an enzyme makes; cv: sd of its logit."""

    __pydantic_config__ = STRICT

    enzyme: str
    fm: Known


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """fg: escaping the gut wall; extraction: hepatic; renal: share of the systemic clearance outside the liver."""

    __pydantic_config__ = STRICT

    pathways: list[Pathway]
    fg: Known
    extraction: Known
    half_life: Known
    ka: Known
    renal: Known | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimen:
    """A customary regimen: dose [mg], interval [h], how many doses before the victim."""

    __pydantic_config__ = STRICT

    name: str
    dose: Positive
    interval: Positive
    doses: Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, str) else v), Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drug:
    """A drug of the library; `sources`: what the keys of `cite` mean."""

    __pydantic_config__ = STRICT

    vtrial: Literal["drug/1"]
    name: str
    sources: dict[str, str]
    perpetrator: Perpetrator | None = None
    victim: Victim | None = None
    regimens: list[Regimen] = field(default_factory=list)


def average(who: Perpetrator, entity: Entity) -> float:
    """Unbound concentration [uM] of an entity, averaged over a day of the reference dose."""
    ratio = entity.auc_ratio.value if entity.auc_ratio else 1.0
    return (
        entity.fu.value * ratio * 1000.0 * who.reference_dose / (who.clearance.value * who.entities[0].molar_mass) / 24
    )


def read(path: Path) -> Drug:
    """A drug file. Errors: InputError with file, line and field; a `cite` that `sources` does not explain; a value that
    cannot be: shares outside 0 to 1, times and clearances that are not above 0.
    """
    drug = text.validated(Drug, text.read(path), str(path))
    unknown = sorted({cite for cite in _cites(drug) if cite and cite not in drug.sources})
    if unknown:
        raise InputError("is not among the sources", file=str(path), field="cite", value=unknown[0])
    for name, known, (low, high) in _limits(drug):
        if known is not None and not (low < known.value < high and known.cv >= 0):
            problem = f"must lie between {low:.3g} and {high:.3g}, its cv not below 0"
            raise InputError(problem, file=str(path), field=name, value=known.value, remedy="change the value")
    return drug


def _limits(drug: Drug) -> list[tuple[str, Known | None, tuple[float, float]]]:
    """(field, value, what it lies between) of every value."""
    some, share, whole = (0.0, math.inf), (0.0, 1.0), (0.0, 1.0 + 1e-12)
    found: list[tuple[str, Known | None, tuple[float, float]]] = []
    if (who := drug.victim) is not None:
        found += [(f"victim.pathways[{k}].fm", p.fm, share) for k, p in enumerate(who.pathways)]
        found += [("victim.fg", who.fg, whole), ("victim.extraction", who.extraction, share)]
        found += [(f"victim.{name}", getattr(who, name), some) for name in ("half_life", "ka")]
        found.append(("victim.renal", who.renal, (-1e-12, 1.0)))
    if (by := drug.perpetrator) is not None:
        found.append(("perpetrator.clearance", by.clearance, some))
        for k, entity in enumerate(by.entities):
            at = f"perpetrator.entities[{k}]"
            found.append((f"{at}.fu", entity.fu, whole))
            found += [(f"{at}.{name}", getattr(entity, name), some) for name in ("half_life", "ka", "auc_ratio")]
    return found


def _cites(drug: Drug) -> list[str]:
    return [cite for cite, _ in _cited(drug)]


def statuses(drug: Drug) -> list[str]:
    """The status of every value of a drug."""
    return [status for _, status in _cited(drug)]


def _cited(drug: Drug) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def walk(item: object) -> None:
        if isinstance(item, Known | Act):
            found.append((item.cite, item.status))
        if isinstance(item, list):
            for part in item:
                walk(part)
        elif hasattr(item, "__dataclass_fields__"):
            for name in item.__dataclass_fields__:
                walk(getattr(item, name))

    walk(drug)
    return found


def concentrations(
    drug: Drug, times: Floats, doses: tuple[Floats, Floats], *, intravenous: bool = False, longer: float = 1.0
) -> tuple[Floats, Floats]:
    """Unbound concentrations [uM] of each entity at the liver's inlet and in the gut wall: two arrays (entity, time).

    doses: (time [h], amount [mg]); longer: factor of all half-lives, AUC as it is. Linear superposition of Bateman's
    functions of unit area times the AUC of the
    dose. The
    inlet has the parent's absorbed drug in the portal flow on top of the systemic concentration, the gut wall what is
    absorbed into Qen, or the systemic concentration where that is more (metabolites: the systemic one).
    """
    who = drug.perpetrator
    assert who is not None
    after = times[None, :] - doses[0][:, None]
    since, given = np.maximum(after, 0.0), after >= 0
    inlet, gut = [], []
    for entity in who.entities:
        ka, ke = entity.ka.value, math.log(2) / (entity.half_life.value * longer)
        ka = ka if abs(ka - ke) > 1e-3 * ke else 1.001 * ke
        scaled = who.reference_dose * (doses[1] / who.reference_dose) ** who.exponent.value
        area = 1000.0 * scaled / (who.clearance.value * who.entities[0].molar_mass)
        parent = entity is who.entities[0]
        area *= (1.0 / who.bioavailability.value if intravenous else 1.0) * (
            entity.auc_ratio.value if entity.auc_ratio else 1
        )
        bolus = intravenous and parent
        shape = ke * np.exp(-ke * since) if bolus else (
            ka * ke / (ka - ke) * (np.exp(-ke * since) - np.exp(-ka * since)))  # fmt: skip
        free = entity.fu.value * (np.where(given, shape, 0.0) * area[:, None]).sum(axis=0)
        molar = 1000.0 * doses[1] / entity.molar_mass * who.fa.value * (parent and not intravenous)
        flux = (np.where(given, ka * np.exp(-ka * since), 0.0) * molar[:, None]).sum(axis=0)
        inlet.append(free + entity.fu.value * flux / (FLOW_LIVER * who.blood_plasma.value))
        gut.append(np.maximum(flux / FLOW_ENTEROCYTE, free))
    return np.array(inlet), np.array(gut)
