"""The parameters of a library of drugs: names and priors.

Parameters (`Layout.names`), normal on the scale shown:
mech:KIND log factor in vitro -> in vivo of a mechanism; potency:DRUG:ENZYME log factor of one drug on top of it; gut
and gut:DRUG log factor of
concentrations in the gut wall; emax:DRUG:ENZYME log factor of induction; kdeg:ENZYME:SITE log 1/h; half_life:DRUG log
factor of its entities' half-lives; fm:DRUG:ENZYME,
fg:DRUG, extraction:DRUG logit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pkpd.interactions.drug import Drug

__all__ = ["Layout", "Turnover", "layout"]

Floats = NDArray[np.float64]
SPREAD: Final = {"mech": 0.5, "gut": 0.7, "gut:": 0.5, "emax": 0.35, "kdeg": 0.5, "half_life": 0.35}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turnover:
    """Degradation of an enzyme [1/h] in liver and gut."""

    liver: float
    gut: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Names, prior means and prior standard deviations (n,)."""

    names: tuple[str, ...]
    mean: Floats
    sd: Floats

    def at(self, name: str) -> int:
        """Where a parameter stands; the end (a zero that is appended) if there is none of that name."""
        return self._places.get(name, len(self.names))

    @property
    def _places(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def layout(drugs: Mapping[str, Drug], turnover: Mapping[str, Turnover]) -> Layout:
    """All parameters of a library."""
    found: dict[str, tuple[float, float]] = {
        f"mech:{kind}": (0.0, SPREAD["mech"]) for kind in ("reversible", "inactivation", "induction")
    }
    found["gut"] = (0.0, SPREAD["gut"])
    for enzyme, rate in turnover.items():
        for site, value in (("liver", rate.liver), ("gut", rate.gut)):
            found[f"kdeg:{enzyme}:{site}"] = (math.log(value), SPREAD["kdeg"])
    for name, drug in drugs.items():
        found |= _of_perpetrator(name, drug) | _of_victim(name, drug)
    return Layout(
        names=tuple(found), mean=np.array([m for m, _ in found.values()]), sd=np.array([s for _, s in found.values()])
    )


def _of_perpetrator(name: str, drug: Drug) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for act in (a for e in (drug.perpetrator.entities if drug.perpetrator else []) for a in e.acts):
        found[f"gut:{name}"] = (0.0, SPREAD["gut:"])
        found[f"half_life:{name}"] = (0.0, SPREAD["half_life"])
        key = f"potency:{name}:{act.enzyme}"
        found[key] = (0.0, max(act.cv, found.get(key, (0.0, 0.0))[1]))
        if act.emax > 0:
            found[f"emax:{name}:{act.enzyme}"] = (0.0, SPREAD["emax"])
    return found


def _of_victim(name: str, drug: Drug) -> dict[str, tuple[float, float]]:
    if drug.victim is None:
        return {}
    who = drug.victim
    found = {f"fm:{name}:{p.enzyme}": (_logit(p.fm.value), p.fm.cv) for p in who.pathways}
    if who.fg.value < 1:
        found[f"fg:{name}"] = (_logit(who.fg.value), who.fg.cv)
    return found | {f"extraction:{name}": (_logit(who.extraction.value), who.extraction.cv)}
