"""A pair of the library of interactions as shares of clearance and what is left of them, one row per draw.

The victim meets the perpetrator at steady state of its customary regimen, that goes on. The draws are those of `vtrial
ddi` (calibration of `pkpd.interactions`): what the parameters say, times what a pair and a population add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest

if TYPE_CHECKING:
    from pkpd.interactions.assembly import Assembly
    from pkpd.interactions.calibration import Calibration
    from pkpd.interactions.course import Course
    from pkpd.interactions.drug import Drug, Regimen
    from pkpd.interactions.dynamic import Quantities

__all__ = ["Drawn", "Pair", "alone", "drawn", "held", "pair", "regimen_of"]

Floats = NDArray[np.float64]
MOST = 0.995
APART = 1.0  # h the victim is taken after the perpetrator, unless said otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """enzymes (E), fm (D, E): shares of clearance in the reference person, left (D, E): activity under the perpetrator
    (1: untouched, above 1: induced). The exposure ratio of the reference person is 1/(1 - sum fm (1 - left)).
    """

    enzymes: tuple[str, ...]
    fm: Floats
    left: Floats

    @property
    def ratio(self) -> Floats:
        """Exposure ratio of the reference person (D,)."""
        return np.asarray(1.0 / (1.0 - (self.fm * (1.0 - self.left)).sum(axis=1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A pair under one calibration: parameters theta (D, n), the drugs and where the parameters stand."""

    names: tuple[str, str]
    regimen: Regimen
    library: dict[str, Drug]
    known: Calibration
    theta: Floats
    seed: int

    def assembled(self, course: Course) -> tuple[Assembly, Quantities]:
        """The arrays of a course of this pair under all draws."""
        from pkpd.interactions.assembly import assemble, quantities

        made = assemble([course], self.library, self.known.layout)
        return made, quantities(made, self.theta[None])


def regimen_of(drug: Drug, name: str | None) -> Regimen:
    """The regimen of that name, or the first. Errors: InputError."""
    names = [regimen.name for regimen in drug.regimens]
    if not names or (name is not None and name not in names):
        raise InputError(f"{drug.name} has no such regimen in the library", value=name,
                         remedy=f"one of: {'; '.join(names) or 'none'}")  # fmt: skip
    return drug.regimens[names.index(name) if name is not None else 0]


@lru_cache(maxsize=32)
def pair(names: tuple[str, str], regimen: str | None, *, draws: int, seed: int, apart: float | None = None) -> Pair:
    """Draws of the pair names = (perpetrator, victim). Errors: InputError for what the library does not have.

    Each enzyme's share of the change is what it does alone; the changes of several add (low extraction, or oral).
    apart: h the victim is taken after the perpetrator (default 1, or half the perpetrator's interval if that is less).
    """
    of = drawn(names, regimen, draws=draws, seed=seed)
    assembly, q = of.assembled(_course(of, apart))
    each, share = alone(of, (assembly, q))
    return held(of, (assembly, q), -np.expm1(-each * share))


@lru_cache(maxsize=32)
def drawn(names: tuple[str, str], regimen: str | None, *, draws: int, seed: int) -> Drawn:
    """The pair's drugs, regimen and draws of the calibration. Errors: InputError."""
    from pkpd.interactions.library import TURNOVER, drugs
    from pkpd.interactions.model import layout
    from pkpd.interactions.predictive import joined, parameter_draws
    from pkpd.interactions.shipped import shipped

    library = drugs()
    for name, part in zip(names, ("perpetrator", "victim"), strict=True):
        if name not in library or getattr(library[name], part) is None:
            those = tuple(other for other, drug in library.items() if getattr(drug, part) is not None)
            raise InputError(
                f"is not in the library of interactions as {part}", value=name, remedy=nearest(name, those)
            )
    known = joined(layout(library, TURNOVER), shipped())
    return Drawn(
        names=names, regimen=regimen_of(library[names[0]], regimen), library=library, known=known,
        theta=parameter_draws(known, draws=draws, seed=seed), seed=seed,
    )  # fmt: skip


def alone(of: Drawn, made: tuple[Assembly, Quantities]) -> tuple[Floats, Floats]:
    """log AUC ratio that each enzyme makes by itself in a course (E, D), and the factor (D,) of log ratios by which
    pair and population differ from what the model says."""
    from pkpd.interactions.dynamic import solve
    from pkpd.interactions.predictive import ratios

    assembly, q = made
    whole = ratios(assembly, of.known, of.theta, pairs=[of.names], seed=of.seed).auc[0]
    share = _share(whole, np.log(solve(assembly.batch, q).auc[0]))
    many = assembly.link[1].size
    each = []
    for number in range(many):
        here = (np.arange(many) == number)[:, None]
        each.append(np.log(solve(assembly.batch, replace(q, fm=q.fm * here, wall=q.wall * here)).auc[0]))
    return np.array(each).reshape(many, -1), share


def _course(of: Drawn, apart: float | None) -> Course:
    """The victim's single dose among doses of the perpetrator that go on for ten of its half-lives."""
    return single(of, of.regimen.doses, apart)


def single(of: Drawn, before: int, apart: float | None) -> Course:
    """The victim's single dose after so many doses of the perpetrator, that go on for ten half-lives of the victim."""
    from pkpd.interactions.course import Course, Given

    given, who = of.regimen, of.library[of.names[1]].victim
    assert who is not None
    after = min(APART, 0.5 * given.interval) if apart is None else apart
    at = given.interval * (before - 1) + after
    many = before + math.ceil(10.0 * who.half_life.value / given.interval)
    times = tuple(given.interval * k for k in range(many))
    return Course(
        perpetrators=(Given(drug=of.names[0], times=times, amounts=(given.dose,) * many),), victim=of.names[1],
        doses=(at,), window=(at, math.inf),
    )  # fmt: skip


def _share(whole: Floats, model: Floats) -> Floats:
    """What pair and population add to the log ratio, as a factor; 1 where there is no change."""
    return np.where(np.abs(model) > 0.0, whole / np.where(np.abs(model) > 0.0, model, 1.0), 1.0)


def held(of: Drawn, made: tuple[Assembly, Quantities], lost: Floats) -> Pair:
    """The pair whose enzymes take the shares lost (E, D): fm at least what is lost, both within the whole clearance."""
    who = of.library[of.names[1]].victim
    assert who is not None
    places, lost = made[0].link[1], lost.T
    enzymes = tuple(who.pathways[k].enzyme for k in places)
    fm = np.maximum(made[1].fm.T, lost)
    over = np.maximum(fm.sum(axis=1, keepdims=True) / MOST, 1.0) if enzymes else 1.0
    fm, lost = fm / over, lost / over
    left = 1.0 - np.where(fm > 0.0, lost / np.where(fm > 0.0, fm, 1.0), 0.0)
    return Pair(enzymes=enzymes, fm=fm, left=left)
