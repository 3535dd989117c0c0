"""The matrix of all pairs: every perpetrator and dose against every victim and genotype, one batch, with draws.

The text of a question (`vtrial: ddi/1`) names what is asked; what it leaves out is the whole library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pkpd.ground import text
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.interactions.assembly import Assembly, assemble, quantities
from pkpd.interactions.calibration import Calibration
from pkpd.interactions.course import Course, Given
from pkpd.interactions.drug import STRICT, Drug, Regimen, read, statuses
from pkpd.interactions.dynamic import Batch, Quantities, solve
from pkpd.interactions.library import TURNOVER, drugs
from pkpd.interactions.model import layout
from pkpd.interactions.predictive import joined, parameter_draws, ratios
from pkpd.interactions.shipped import shipped

__all__ = ["CLASSES", "Cell", "Genotype", "Matrix", "Question", "read_question", "screen"]

Floats = NDArray[np.float64]
CLASSES: Final = ("< 1.25", "1.25 to 2", "2 to 5", "> 5")
EDGES: Final = (1.25, 2.0, 5.0)
POLYMORPHIC: Final = ("CYP2D6", "CYP2C19", "CYP2C9")


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) else value


def _real(value: object) -> object:
    return float(value) if isinstance(value, str) else value


def _reals(value: object) -> object:
    return {k: float(v) for k, v in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Genotype:
    """Multipliers of enzymes' activity relative to what a drug's fm holds for (1: normal, 0: none)."""

    __pydantic_config__ = STRICT

    name: str
    activity: Annotated[dict[str, Annotated[float, Field(ge=0, le=100)]], BeforeValidator(_reals)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A perpetrator with regimens of its own; none: those of the library."""

    __pydantic_config__ = STRICT

    drug: str
    regimens: list[Regimen] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. drugs: files of drugs besides the library; victim_after: h after the last dose (also days after
    stopping);
    empty lists: all of the library."""

    __pydantic_config__ = STRICT

    vtrial: Literal["ddi/1"] = "ddi/1"
    name: str = "all pairs of the library"
    drugs: list[str] = field(default_factory=list)
    victims: list[str] = field(default_factory=list)
    perpetrators: list[str | Asked] = field(default_factory=list)
    genotypes: list[Genotype] = field(default_factory=list)
    victim_after: Annotated[float, BeforeValidator(_real), Field(ge=0)] = 1.0
    route: Literal["oral", "intravenous"] = "oral"
    draws: Annotated[int, BeforeValidator(_whole), Field(ge=100, le=5000)] = 400
    seed: Annotated[int, BeforeValidator(_whole), Field(ge=0)] = 20261122


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One pair. auc, cmax: median, lower, upper (90 %) of the true mean ratio; classes: probabilities of `CLASSES`;
    halved:
    P(ratio < 0.5); alone: AUC of the genotype without perpetrator relative to normal; status: how well it is known."""

    perpetrator: str
    regimen: str
    victim: str
    genotype: str
    auc: tuple[float, float, float]
    cmax: tuple[float, float, float]
    classes: tuple[float, float, float, float]
    halved: float
    alone: float
    driver: str
    status: str
    rows: int
    assumed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All pairs, ranked: by the probability of a change of two-fold or more either way, then by the median's size."""

    question: Question
    cells: tuple[Cell, ...]
    known: Calibration
    draws: int

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(perpetrator and regimen, victim and genotype) in alphabetical order."""
        rows = sorted({f"{c.perpetrator}, {c.regimen}" for c in self.cells})
        return tuple(rows), tuple(sorted({_label(c) for c in self.cells}))


def _label(cell: Cell) -> str:
    return f"{cell.victim}, {cell.genotype}" if cell.genotype else cell.victim


def read_question(path: Path) -> Question:
    """A question's text. Errors: InputError with file, line and field."""
    return text.validated(Question, text.read(path), str(path))


def screen(question: Question, *, folder: Path = Path(), known: Calibration | None = None) -> Matrix:
    """The matrix. folder: where the question's drug files are; known: the calibration (default: the shipped one)."""
    library = dict(drugs())
    for file in question.drugs:
        drug = read(folder / file)
        library[drug.name] = drug
    asked = _asked(question, library)
    courses = [c for _, _, c in asked]
    base = shipped() if known is None else known
    of = layout(library, TURNOVER)
    here = joined(of, base)
    assembly = assemble(courses, library, of)
    theta = parameter_draws(here, draws=question.draws, seed=question.seed)
    pairs = [(c.perpetrators[0].drug, c.victim) for c in courses]
    drawn = ratios(assembly, here, theta, pairs=pairs, seed=question.seed)
    drivers = _drivers(assembly, here.theta)
    alone = _alone(assembly, here.theta)
    cells = [
        _cell(asked[r], (drawn.auc[r], drawn.cmax[r]), (drivers[r], float(alone[r])), (base, library))
        for r in range(len(asked))
    ]
    ordered = sorted(cells, key=lambda c: (-round(_large(c), 3), -abs(math.log(c.auc[0])), c.perpetrator, c.victim))
    return Matrix(question=question, cells=tuple(ordered), known=base, draws=question.draws)


def _large(cell: Cell) -> float:
    return cell.classes[2] + cell.classes[3] + cell.halved


def _asked(question: Question, library: Mapping[str, Drug]) -> list[tuple[str, str, Course]]:
    """(regimen, genotype, course) of every cell; a drug is not asked against itself."""
    victims = question.victims or [name for name, drug in library.items() if drug.victim]
    perpetrators = question.perpetrators or [name for name, drug in library.items() if drug.perpetrator]
    for name in victims:
        _check(name, "victim", library)
    _enzymes(question, library)
    found = []
    for one in perpetrators:
        asked = one if isinstance(one, Asked) else Asked(drug=one)
        _check(asked.drug, "perpetrator", library)
        for regimen in asked.regimens or library[asked.drug].regimens:
            for victim in victims:
                if victim != asked.drug:
                    found += _courses(question, (asked.drug, regimen), victim, library)
    return found


def _check(name: str, part: str, library: Mapping[str, Drug]) -> None:
    if name not in library or getattr(library[name], part) is None:
        remedy = nearest(name, [other for other, drug in library.items() if getattr(drug, part) is not None])
        raise InputError(f"is not in the library as {part}", field=f"{part}s", value=name, remedy=remedy)


def _enzymes(question: Question, library: Mapping[str, Drug]) -> None:
    """InputError for a genotype of an enzyme that no drug of the library has: it would be left out without a word."""
    known = {p.enzyme for drug in library.values() if drug.victim for p in drug.victim.pathways}
    for number, genotype in enumerate(question.genotypes):
        for enzyme in genotype.activity:
            if enzyme not in known:
                remedy = nearest(enzyme, sorted(known)) or f"one of {', '.join(sorted(known))}"
                raise InputError("is no enzyme of a victim of the library", value=enzyme, remedy=remedy,
                                 field=f"genotypes[{number}].activity")  # fmt: skip


def _courses(
    question: Question, given: tuple[str, Regimen], victim: str, library: Mapping[str, Drug]
) -> list[tuple[str, str, Course]]:
    name, regimen = given
    times = tuple(regimen.interval * k for k in range(regimen.doses))
    at = times[-1] + question.victim_after
    course = Course(
        perpetrators=(Given(drug=name, times=times, amounts=(regimen.dose,) * len(times)),), victim=victim,
        doses=(at,), window=(at, math.inf), oral=question.route == "oral",
    )  # fmt: skip
    who = library[victim].victim
    assert who is not None
    mine = {p.enzyme for p in who.pathways if p.fm.value >= 0.25}
    kinds = question.genotypes or [Genotype(name=f"{e} none", activity={e: 0.0}) for e in POLYMORPHIC]
    fitting = [g for g in kinds if set(g.activity) & mine]
    return [
        (regimen.name, "", course),
        *((regimen.name, g.name, replace(course, activity=g.activity)) for g in fitting),
    ]


def _cell(
    asked: tuple[str, str, Course], drawn: tuple[Floats, Floats], said: tuple[str, float],
    known: tuple[Calibration, Mapping[str, Drug]],
) -> Cell:  # fmt: skip
    regimen, genotype, course = asked
    auc, cmax = (_interval(d) for d in drawn)
    ratio = np.exp(drawn[0])
    counts = np.bincount(np.searchsorted(EDGES, ratio, side="right"), minlength=4) / ratio.size
    pair = course.perpetrators[0].drug, course.victim
    status, rows = _status(pair, known[0])
    return Cell(
        perpetrator=pair[0], regimen=regimen, victim=pair[1], genotype=genotype, auc=auc, cmax=cmax,
        classes=(float(counts[0]), float(counts[1]), float(counts[2]), float(counts[3])),
        halved=float((ratio < 0.5).mean()), alone=said[1], driver=said[0], status=status, rows=rows,
        assumed=sum(_assumed(known[1][name]) for name in pair),
    )  # fmt: skip


def _interval(log_ratio: Floats) -> tuple[float, float, float]:
    low, middle, high = np.exp(np.quantile(log_ratio, (0.05, 0.5, 0.95)))
    return float(middle), float(low), float(high)


def _status(pair: tuple[str, str], known: Calibration) -> tuple[str, int]:
    rows = known.pairs.get(pair, 0)
    if rows:
        return "studied", rows
    sides = any(p == pair[0] for p, _ in known.pairs) + any(v == pair[1] for _, v in known.pairs)
    return ("library values only", "one drug studied with others", "both drugs studied with others")[sides], 0


def _assumed(drug: Drug) -> int:
    """How many of a drug's values are assumed."""
    return sum(status == "assumed" for status in statuses(drug))


def _alone(assembly: Assembly, theta: Floats) -> Floats:
    """AUC without perpetrators of each row's genotype, relative to normal: what escapes the liver over what the liver
    and the kidney clear."""
    q = quantities(assembly, theta[None, None])
    normal = quantities(replace(assembly, multiplier=np.ones_like(assembly.multiplier)), theta[None, None])
    own, usual, renal = q.extraction[:, 0], normal.extraction[:, 0], assembly.batch.renal
    cleared = renal + (1.0 - renal) * own / usual
    return np.where(assembly.batch.oral, (1.0 - own) / (1.0 - usual), 1.0) / cleared


def _drivers(assembly: Assembly, theta: Floats) -> list[str]:
    """What drives each row at the mode: the mechanism, enzyme and site without which the log ratio is smallest."""
    q, batch = quantities(assembly, theta[None, None]), assembly.batch
    whole = np.log(solve(batch, q).auc[:, 0])
    without = {name: np.log(solve(*changed).auc[:, 0]) for name, changed in _without(batch, q).items()}
    share = {name: np.abs(whole - value) for name, value in without.items()}
    kinds = ("reversible inhibition", "inactivation", "induction")
    made = []
    for r in range(whole.size):
        if abs(whole[r]) < 0.05:
            made.append("none")
            continue
        kind = max(kinds, key=lambda name: float(share[name][r]))
        gut, liver = share["gut"][r], share["liver"][r]
        site = "gut and liver" if min(gut, liver) > 0.25 * max(gut, liver) else "gut" if gut > liver else "liver"
        made.append(f"{kind}, {site}")
    return made


def _without(batch: Batch, q: Quantities) -> dict[str, tuple[Batch, Quantities]]:
    tracks = batch.tracks
    nothing = np.full_like(tracks.ki, np.inf), np.zeros_like(tracks.kinact)
    return {
        "reversible inhibition": (replace(batch, tracks=replace(tracks, ki=nothing[0])), q),
        "inactivation": (replace(batch, tracks=replace(tracks, kinact=nothing[1])), q),
        "induction": (replace(batch, tracks=replace(tracks, emax=nothing[1])), q),
        "gut": (batch, replace(q, wall=np.zeros_like(q.wall))),
        "liver": (batch, replace(q, fm=np.zeros_like(q.fm))),
    }
