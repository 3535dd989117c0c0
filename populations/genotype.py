"""Pharmacogenes: alleles with their function, diplotypes, scores, phenotypes, clearance by the share metabolised.

Allele values and rules are CPIC's (https://cpicpgx.org, content under CC0): CYP2D6 activity score (Caudle et al., Clin
Transl Sci 2020;13:116; *9, *10 and *41 count 0.25), CYP2C9 activity score (Theken et al., Clin Pharmacol Ther
2020;108:191), CYP2C19 (Lima et al., ibid. 2021;109:1417), CYP3A5 (Birdwell et al., ibid. 2015;98:19), SLCO1B1
(Cooper-DeHoff et al., ibid. 2022;111:1007). Where they come from and what they are worth: docs/genotype.md.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest

__all__ = [
    "GENES",
    "SOURCES",
    "Allele",
    "Diplotype",
    "allele",
    "alleles",
    "clearance",
    "diplotype",
    "frequencies",
    "listed",
]

FOLDER = Path(__file__).parent / "pharmacogenes"
COPIES = re.compile(r"(\*\d+)x(\d+)")
SOURCES = {
    "cpic_cyp2d6": "CPIC CYP2D6 frequency table (cpicpgx.org, CC0)",
    "cpic_cyp2c9": "CPIC CYP2C9 frequency table, 2022-03-11 (cpicpgx.org, CC0)",
    "jpm2018": "J Pers Med 2018;8:8, Table 3",
    "zhou2017": "1000 Genomes in Zhou et al., Clin Pharmacol Ther 2017;102:688, Table 5",
    "shendre2018": "1000 Genomes in Shendre et al., Pharmacogenomics 2018;19:1357, Table 1",
    "tcp2021": "1000 Genomes in Transl Clin Pharmacol 2021;29:135, Table 2 (rs4149056 C as *15, rs59502379 as *31)",
}
"""Where allele frequencies were copied from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """What is told of a gene besides its alleles.

    reference: the allele of normal function to which all unlisted ones belong; core: alleles of the short list of
    diplotypes (the covariate named like the gene); scored: whether phenotypes follow the activity score;
    activity: of an allele in the pathway by function, where it is not the value itself.
    """

    reference: str
    core: tuple[str, ...]
    phenotypes: tuple[str, ...]
    rule: Callable[[float, tuple[str, str]], str]
    scored: bool = False
    activity: Mapping[str, float] | None = None
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allele:
    """Value (NaN: not known) and function (no, decreased, normal, increased, unknown) of an allele."""

    name: str
    value: float
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diplotype:
    """Two alleles read together: score (sum of values), phenotype, activity of the pathway (1: two reference alleles).

    NaN and "Indeterminate" where the function of an allele is not known."""

    alleles: tuple[str, str]
    score: float
    phenotype: str
    activity: float


METABOLISERS = (
    "Poor Metabolizer", "Likely Poor Metabolizer", "Intermediate Metabolizer", "Likely Intermediate Metabolizer",
    "Normal Metabolizer", "Rapid Metabolizer", "Ultrarapid Metabolizer",
)  # fmt: skip
UNKNOWN = "Indeterminate"


def _cyp2d6(score: float, _: tuple[str, str]) -> str:
    """AS 0 poor, below 1.25 intermediate, to 2.25 normal, above ultrarapid."""
    if score == 0.0:
        return "Poor Metabolizer"
    if score < 1.25:
        return "Intermediate Metabolizer"
    return "Normal Metabolizer" if score <= 2.25 else "Ultrarapid Metabolizer"


def _cyp2c9(score: float, _: tuple[str, str]) -> str:
    """AS 0 and 0.5 poor, 1 and 1.5 intermediate, 2 normal."""
    if score <= 0.5:
        return "Poor Metabolizer"
    return "Intermediate Metabolizer" if score < 2.0 else "Normal Metabolizer"


def _cyp2c19(_: float, functions: tuple[str, str]) -> str:
    pair = frozenset(functions)
    if "no" in pair:
        if pair == {"no"}:
            return "Poor Metabolizer"
        return "Likely Poor Metabolizer" if "decreased" in pair else "Intermediate Metabolizer"
    if "decreased" in pair:
        return "Likely Intermediate Metabolizer"
    if pair == {"increased"}:
        return "Ultrarapid Metabolizer"
    return "Rapid Metabolizer" if "increased" in pair else "Normal Metabolizer"


def _cyp3a5(_: float, functions: tuple[str, str]) -> str:
    return ("Normal Metabolizer", "Intermediate Metabolizer", "Poor Metabolizer")[functions.count("no")]


def _slco1b1(_: float, functions: tuple[str, str]) -> str:
    lost = functions.count("no")
    if lost or "decreased" in functions:
        return "Poor Function" if lost == 2 else "Decreased Function"
    return "Increased Function" if functions == ("increased", "increased") else "Normal Function"


def _vkorc1(_: float, functions: tuple[str, str]) -> str:
    return ("-1639 GG", "-1639 AG", "-1639 AA")[functions.count("decreased")]


GENES: Mapping[str, Gene] = {
    "CYP2D6": Gene(
        reference="*1", core=("*1", "*1x2", "*4", "*10", "*17"), rule=_cyp2d6, scored=True,
        phenotypes=(METABOLISERS[0], METABOLISERS[2], METABOLISERS[4], METABOLISERS[6]),
        about="Pathway activity: AS / 2, linear (assumed); 0 at AS 0.",
    ),
    "CYP2C19": Gene(
        reference="*1", core=("*1", "*2", "*3", "*17"), rule=_cyp2c19, phenotypes=METABOLISERS,
        about="Pathway activity: mean of 0 (no function), 0.5, 1, 1.5 (increased) of the two alleles (assumed).",
    ),
    "CYP2C9": Gene(
        reference="*1", core=("*1", "*2", "*3"), rule=_cyp2c9, scored=True,
        phenotypes=(METABOLISERS[0], METABOLISERS[2], METABOLISERS[4]),
        activity={"decreased": 0.32, "no": 0.16},
        about="Pathway activity: mean of 1, 0.32 (decreased), 0.16 (no function) of the two alleles: least squares "
        "through S-warfarin's clearance by diplotype (Hamberg et al., Clin Pharmacol Ther 2007;81:529).",
    ),
    "CYP3A5": Gene(
        reference="*1", core=("*1", "*3"), rule=_cyp3a5,
        phenotypes=(METABOLISERS[0], METABOLISERS[2], METABOLISERS[4]),
        about="Pathway activity: share of *1 among the two alleles (assumed), 1 for *1/*1.",
    ),
    "SLCO1B1": Gene(
        reference="*1", core=("*1", "*15"), rule=_slco1b1,
        phenotypes=("Poor Function", "Decreased Function", "Normal Function", "Increased Function"),
        activity={"no": 0.31, "increased": 1.0},
        about="Uptake: mean of 1 and 0.31 (no function) of the two alleles: simvastatin acid's AUC in c.521CC is 3.2 "
        "times that in TT (Pasanen et al., Pharmacogenet Genomics 2006;16:873; from memory; Mykkänen et al. 2022, "
        "PubMed 35652242: 3.7, 90 % interval 2.4 to 5.9); increased function counts as normal (assumed).",
    ),
    "VKORC1": Gene(
        reference="G", core=("G", "A"), rule=_vkorc1, phenotypes=("-1639 GG", "-1639 AG", "-1639 AA"),
        about="-1639G>A (rs9923231), the target of warfarin; no pathway activity.",
    ),
}  # fmt: skip
"""The genes, in the order of their covariates. A new gene is a row here, its alleles and its frequencies."""


@cache
def alleles(gene: str) -> Mapping[str, Allele]:
    """The listed alleles of a gene.

    >>> alleles("CYP2D6")["*41"].value
    0.25
    """
    _known(gene)
    return {
        row["allele"]: Allele(
            name=row["allele"], value=float(row["value"]) if row["value"] else math.nan, function=row["function"]
        )
        for row in listed("alleles.csv") if row["gene"] == gene
    }  # fmt: skip


@cache
def frequencies(gene: str) -> Mapping[str, Mapping[str, float]]:
    """{ancestry: {allele: frequency}} of the listed alleles but the reference, which has the rest.

    >>> round(frequencies("CYP2D6")["East Asian"]["*10"], 3)
    0.428
    """
    _known(gene)
    found: dict[str, dict[str, float]] = {}
    for row in listed("frequencies.csv"):
        if row["gene"] == gene:
            found.setdefault(row["population"], {})[row["allele"]] = float(row["frequency"])
    return found


@cache
def listed(name: str) -> tuple[dict[str, str], ...]:
    """The rows of a shipped table."""
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def allele(gene: str, name: str) -> Allele:
    """An allele, also with copies (`*1x2`) and in tandem (`*36+*10`): values add up.

    Of an allele that is not listed nothing is known (function "unknown"). Errors: InputError for an unknown gene.

    >>> allele("CYP2D6", "*17x2").value, allele("CYP2D6", "*36+*10").value
    (1.0, 0.25)
    """
    known = alleles(gene)
    if name in known:
        return known[name]
    parts = name.split("+")
    copies = [COPIES.fullmatch(part) for part in parts]
    if len(parts) == 1 and copies[0] is None:
        return Allele(name=name, value=math.nan, function="unknown")
    value = sum(
        allele(gene, match[1]).value * int(match[2]) if match else allele(gene, part).value
        for part, match in zip(parts, copies, strict=True)
    )
    return Allele(name=name, value=value, function=_function(value))


def _function(value: float) -> str:
    if math.isnan(value):
        return "unknown"
    return "no" if value == 0.0 else "decreased" if value < 1.0 else "normal" if value == 1.0 else "increased"


def diplotype(gene: str, first: str, second: str | None = None, *, activity: Mapping[str, float] | None = None
) -> Diplotype:  # fmt: skip
    """Two alleles, or a text such as `*1/*4`; `activity`: of alleles by function, instead of the gene's own.

    >>> diplotype("CYP2D6", "*1/*41").phenotype, diplotype("CYP2C9", "*1", "*3").activity
    ('Normal Metabolizer', 0.58)
    """
    if second is None:
        first, _, second = first.partition("/")
    pair = allele(gene, first), allele(gene, second)
    functions = pair[0].function, pair[1].function
    score = pair[0].value + pair[1].value
    known = "unknown" not in functions
    return Diplotype(
        alleles=(first, second), score=score, phenotype=GENES[gene].rule(score, functions) if known else UNKNOWN,
        activity=0.5 * sum(_activity(gene, one, activity) for one in pair),
    )  # fmt: skip


def _activity(gene: str, one: Allele, given: Mapping[str, float] | None) -> float:
    """Of one allele in the pathway."""
    own = {**(GENES[gene].activity or {}), **(given or {})}
    return own.get(one.function, one.value)


def clearance(fm: ArrayLike, activity: ArrayLike, *, mean: ArrayLike = 1.0) -> NDArray[np.float64]:
    """CL / CL of the reference = (1 - fm) + fm x activity; fm: share of the reference's clearance by the pathway.

    `mean`: the activity of whom the clearance was measured in (1: normal metabolisers; a population's mean activity
    where the clearance is a population's): then relative to the clearance at that activity. Errors: InputError for a
    share outside [0, 1].

    >>> clearance(0.8, [0.0, 0.5, 1.0]).tolist()
    [0.19999999999999996, 0.6, 1.0]
    """
    share = np.asarray(fm, np.float64)
    if not ((share >= 0.0) & (share <= 1.0)).all():
        raise InputError("must lie between 0 and 1", field="fm", value=fm)
    made: NDArray[np.float64] = (1.0 - share + share * np.asarray(activity)) / (1.0 - share + share * np.asarray(mean))
    return made


def _known(gene: str) -> None:
    if gene not in GENES:
        raise InputError("is not a gene we know", field="gene", value=gene, remedy=nearest(gene, tuple(GENES)))
