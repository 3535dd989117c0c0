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
    from pkpd.interactions.course import Course
    from pkpd.interactions.drug import Drug, Regimen

__all__ = ["Pair", "pair", "regimen_of"]

Floats = NDArray[np.float64]
MOST = 0.995


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


def regimen_of(drug: Drug, name: str | None) -> Regimen:
    """The regimen of that name, or the first. Errors: InputError."""
    names = [regimen.name for regimen in drug.regimens]
    if not names or (name is not None and name not in names):
        raise InputError(f"{drug.name} has no such regimen in the library", value=name,
                         remedy=f"one of: {'; '.join(names) or 'none'}")  # fmt: skip
    return drug.regimens[names.index(name) if name is not None else 0]


@lru_cache(maxsize=32)
def pair(names: tuple[str, str], regimen: str | None, *, draws: int, seed: int) -> Pair:
    """Draws of the pair names = (perpetrator, victim). Errors: InputError for what the library does not have.

    Each enzyme's share of the change is what it does alone; the changes of several add (low extraction, or oral).
    """
    from pkpd.interactions.assembly import assemble, quantities
    from pkpd.interactions.dynamic import solve
    from pkpd.interactions.library import TURNOVER, drugs
    from pkpd.interactions.model import layout
    from pkpd.interactions.predictive import joined, parameter_draws, ratios
    from pkpd.interactions.shipped import shipped

    library = drugs()
    for name, part in zip(names, ("perpetrator", "victim"), strict=True):
        if name not in library or getattr(library[name], part) is None:
            those = tuple(other for other, drug in library.items() if getattr(drug, part) is not None)
            raise InputError(
                f"is not in the library of interactions as {part}", value=name, remedy=nearest(name, those)
            )
    of = layout(library, TURNOVER)
    known = joined(of, shipped())
    assembly = assemble([_course(library, names, regimen)], library, of)
    theta = parameter_draws(known, draws=draws, seed=seed)
    whole = ratios(assembly, known, theta, pairs=[names], seed=seed).auc[0]
    q = quantities(assembly, theta[None])
    share = _share(whole, np.log(solve(assembly.batch, q).auc[0]))
    who = library[names[1]].victim
    assert who is not None
    places = assembly.link[1]
    lost = []
    for number in range(places.size):
        here = (np.arange(places.size) == number)[:, None]
        alone = np.log(solve(assembly.batch, replace(q, fm=q.fm * here, wall=q.wall * here)).auc[0])
        lost.append(-np.expm1(-alone * share))
    return _made(tuple(who.pathways[k].enzyme for k in places), q.fm.T, np.array(lost).reshape(len(places), -1).T)


def _course(library: dict[str, Drug], names: tuple[str, str], regimen: str | None) -> Course:
    """The victim's single dose among doses of the perpetrator that go on for ten of its half-lives."""
    from pkpd.interactions.course import Course, Given

    given, who = regimen_of(library[names[0]], regimen), library[names[1]].victim
    assert who is not None
    at = given.interval * (given.doses - 1) + min(1.0, 0.5 * given.interval)
    many = given.doses + math.ceil(10.0 * who.half_life.value / given.interval)
    times = tuple(given.interval * k for k in range(many))
    return Course(
        perpetrators=(Given(drug=names[0], times=times, amounts=(given.dose,) * many),), victim=names[1], doses=(at,),
        window=(at, math.inf),
    )  # fmt: skip


def _share(whole: Floats, model: Floats) -> Floats:
    """What pair and population add to the log ratio, as a factor; 1 where there is no change."""
    return np.where(np.abs(model) > 0.0, whole / np.where(np.abs(model) > 0.0, model, 1.0), 1.0)


def _made(enzymes: tuple[str, ...], fm: Floats, lost: Floats) -> Pair:
    """fm at least what is lost, both within the whole clearance."""
    held = np.maximum(fm, lost)
    over = np.maximum(held.sum(axis=1, keepdims=True) / MOST, 1.0) if enzymes else 1.0
    held, lost = held / over, lost / over
    left = 1.0 - np.where(held > 0.0, lost / np.where(held > 0.0, held, 1.0), 0.0)
    return Pair(enzymes=enzymes, fm=held, left=left)
