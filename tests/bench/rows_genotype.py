"""Genotypes: CPIC's diplotypes (../shared/data/pgx), Hardy-Weinberg, warfarin's dose by genotype against Gage 2008."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from pkpd.model.library import load
from populations.genotype import GENES, diplotype, frequencies
from populations.genotype_law import Genotypes
from tests.bench.harness import Measured, row

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "pgx"
CYP2C9 = {"*1/*1": "", "*1/*2": "F12", "*1/*3": "F13", "*2/*2": "F22", "*2/*3": "F23", "*3/*3": "F33"}
VKORC1 = {"GG": "EC50GG", "AG": "EC50AG", "AA": "EC50AA"}
# Gage et al., Clin Pharmacol Ther 2008;84:326, abstract: dose per allele of VKORC1 A -28 %, *3 -33 %, *2 -19 %
GAGE = {"A": 0.72, "*3": 0.67, "*2": 0.81}


@row("genotype.diplotypes", unit="of 78", bar="== 78")
def diplotypes() -> Measured:
    with (FOLDER / "diplotype_phenotype_cases.csv").open() as file:
        cases = list(csv.DictReader(file))
    right = sum(
        diplotype(c["gene"], c["diplotype"]).phenotype == c["phenotype"]
        and (not c["activity_score"] or diplotype(c["gene"], c["diplotype"]).score == float(c["activity_score"]))
        for c in cases
    )
    return Measured(right, f"{len(cases)} CPIC cases, phenotype and activity score")


@row("genotype.hardy_weinberg", unit="standard errors", bar="<= 4.5")
def hardy_weinberg() -> Measured:
    """Largest distance of a sampled phenotype's share from its exact probability, 100,000 people an ancestry."""
    n, worst, seen = 100_000, 0.0, 0
    for gene in GENES:
        for ancestry in frequencies(gene):
            law = Genotypes.of([gene], {ancestry: 1.0})
            name = f"{gene}_PHENOTYPE"
            people = law.draw(20261122, replicate=np.zeros(n, int), subject=np.arange(n), index=np.zeros(n, int),
                              only=[name])[name]  # fmt: skip
            for value, p in law.law(name).items():
                error = math.sqrt(p * (1.0 - p) / n)
                worst, seen = max(worst, abs(float((people == value).mean()) - p) / max(error, 1e-12)), seen + 1
    return Measured(worst, f"{seen} phenotypes of {len(GENES)} genes in all their ancestries")


def maintenance(goal: float = 2.5) -> dict[tuple[str, str], float]:
    """Steady daily dose of racemic warfarin, mg, that gives an INR of `goal` at 71 years: {(CYP2C9, VKORC1): mg}.

    By hand from hamberg_warfarin's text: INR = INR0 + INRMAX (1 - S^2)^LAMBDA, S = 1/(1 + (C/EC50)^GAMMA), C = dose/CL.
    """
    p = {name: float(q.typical) for name, q in load("hamberg_warfarin").parameters.items()}
    s = math.sqrt(1.0 - ((goal - p["INR0"]) / p["INRMAX"]) ** (1.0 / p["LAMBDA"]))
    over = ((1.0 - s) / s) ** (1.0 / p["GAMMA"])
    return {
        (cyp, vk): 2.0 * 24.0 * p["CL"] * (p[factor] if factor else 1.0) * p[ec50] * over
        for cyp, factor in CYP2C9.items() for vk, ec50 in VKORC1.items()
    }  # fmt: skip


def gage(cyp: str, vk: str) -> float:
    """Dose relative to *1/*1 GG by Gage's percentages per allele."""
    return math.prod(GAGE.get(a, 1.0) for a in (*cyp.split("/"), *vk))


@row("genotype.warfarin_dose", unit="fold", bar="<= 1.5")
def warfarin_dose() -> Measured:
    """Largest fold between the model's and Gage's relative doses, over genotypes with at most one *2 or *3."""
    dose = maintenance()
    whole = {key: (value / dose["*1/*1", "GG"]) / gage(*key) for key, value in dose.items()}
    common = {key: fold for key, fold in whole.items() if key[0] in ("*1/*1", "*1/*2", "*1/*3")}
    worst = max(common.values(), key=lambda fold: abs(math.log(fold)))
    rare = max(whole.values(), key=lambda fold: abs(math.log(fold)))
    return Measured(math.exp(abs(math.log(worst))), f"*1/*1 GG {dose['*1/*1', 'GG']:.1f} mg a day; with two variant "
                    f"CYP2C9 alleles up to {math.exp(abs(math.log(rare))):.1f} fold (the model's source had few)")  # fmt: skip
