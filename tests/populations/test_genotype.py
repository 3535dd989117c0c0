"""Genotypes: witnesses CPIC's diplotypes and frequencies (../shared/data/pgx), Hardy & Weinberg, identities."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from populations import Criteria, PopulationLaw, enrol
from populations.genotype import GENES, alleles, clearance, diplotype, frequencies
from populations.genotype_law import Genotypes, cited

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "pgx"
witness = pytest.mark.witness
needs = pytest.mark.skipif(not FOLDER.exists(), reason="../shared/data/pgx is not here")
EUROPE = {"European": 1.0}


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@witness
@needs
def test_all_of_cpics_diplotypes() -> None:
    cases = rows("diplotype_phenotype_cases.csv")
    assert len(cases) == 78
    for case in cases:
        read = diplotype(case["gene"], case["diplotype"])
        assert read.phenotype == case["phenotype"], case
        assert not case["activity_score"] or read.score == float(case["activity_score"]), case


@witness
@needs
def test_activity_scores_of_cyp2c9_are_as_frequent_as_cpic_says() -> None:
    """Nine groups; CPIC leaves alleles of unknown function out, we count them as *1: within 0.005."""
    seen = [r for r in rows("frequencies.csv") if r["gene"] == "CYP2C9" and r["level"] == "activity_score"]
    scored = [r for r in seen if r["key"] != "nan"]
    assert len(scored) == 45
    for row in scored:
        law = Genotypes.of(["CYP2C9"], {row["population"]: 1.0}).law("CYP2C9_AS")
        assert law.get(float(row["key"]), 0.0) == pytest.approx(float(row["frequency"]), abs=0.005), row


@witness
@needs
def test_the_shipped_alleles_have_cpics_values() -> None:
    theirs = {(r["gene"], r["allele"]): r["activity_value"] for r in rows("allele_function.csv")}
    for gene in ("CYP2D6", "CYP2C9"):
        for name, ours in alleles(gene).items():
            assert ours.value == float(theirs[gene, name]), (gene, name)


def test_structural_alleles_of_cyp2d6_add_up() -> None:
    """Copies multiply, tandems add, a deletion or a hybrid adds nothing (CPIC: *36+*10 is read as *10)."""
    assert diplotype("CYP2D6", "*1/*2x3").score == 4.0
    assert diplotype("CYP2D6", "*4x2/*5").phenotype == "Poor Metabolizer"
    assert diplotype("CYP2D6", "*36+*10/*36+*10").score == 0.5
    assert diplotype("CYP2D6", "*68+*4/*1").phenotype == "Intermediate Metabolizer"
    assert diplotype("CYP2D6", "*1/*22").phenotype == "Indeterminate"
    assert math.isnan(diplotype("CYP2D6", "*1/*22").score)


def test_the_exact_law_is_hardy_and_weinbergs_within_ancestries_and_mixed_across() -> None:
    """VKORC1 by hand: p^2, 2pq, q^2 in each ancestry; the mixture has more homozygotes than its mean frequency (Wahlund)."""
    share, p, q = 0.4, frequencies("VKORC1")["European"]["A"], frequencies("VKORC1")["East Asian"]["A"]
    law = Genotypes.of(["VKORC1"], {"European": share, "East Asian": 1 - share}).phenotypes("VKORC1")
    assert law["-1639 AA"] == pytest.approx(share * p * p + (1 - share) * q * q)
    assert law["-1639 AG"] == pytest.approx(share * 2 * p * (1 - p) + (1 - share) * 2 * q * (1 - q))
    mean = share * p + (1 - share) * q
    assert law["-1639 AA"] == pytest.approx(mean**2 + share * (1 - share) * (p - q) ** 2)


def test_cyp2c19_in_europeans_is_what_was_counted() -> None:
    """Per Med 2022;19:327, Table 3: phenotypes of 1,689,246 Europeans. A *2 of 18.3 % makes 3.3 % poor metabolisers."""
    counted = {"Poor Metabolizer": 0.021, "Intermediate Metabolizer": 0.248, "Normal Metabolizer": 0.406,
               "Rapid Metabolizer": 0.276, "Ultrarapid Metabolizer": 0.047}  # fmt: skip
    law = Genotypes.of(["CYP2C19"], EUROPE).phenotypes("CYP2C19")
    assert law == pytest.approx(counted, abs=0.01)
    assert law["Poor Metabolizer"] == pytest.approx(0.021, abs=0.001)


def test_people_are_as_frequent_as_the_exact_law_says() -> None:
    """20,000 people: every covariate's values within 4.5 standard errors of their exact probability."""
    law = Genotypes.of(tuple(GENES), {"European": 0.6, "East Asian": 0.25, "Sub-Saharan African": 0.15})
    n = 20_000
    people = law.draw(3, replicate=np.zeros(n, int), subject=np.arange(n), index=np.zeros(n, int))
    assert tuple(people) == law.names
    for name in law.names:
        exact = law.law(name)
        assert math.fsum(exact.values()) == pytest.approx(1.0)
        assert set(np.unique(people[name])) <= set(exact)
        for value, p in exact.items():
            error = math.sqrt(p * (1 - p) / n)
            assert abs((people[name] == value).mean() - p) <= 4.5 * error + 1e-12, (name, value)


def test_the_two_alleles_are_independent_within_an_ancestry() -> None:
    """Chi-squared of VKORC1's three genotypes against Hardy-Weinberg of the sample's own frequency: 1 df, below 10.8."""
    law, n = Genotypes.of(["VKORC1"], EUROPE), 20_000
    people = law.draw(5, replicate=np.zeros(n, int), subject=np.arange(n), index=np.zeros(n, int))["VKORC1"]
    seen = np.bincount(people.astype(int), minlength=3)
    p = (2 * seen[0] + seen[1]) / (2 * n)
    expected = n * np.array([p * p, 2 * p * (1 - p), (1 - p) ** 2])
    assert float(((seen - expected) ** 2 / expected).sum()) < 10.8


def test_a_person_has_the_same_genes_in_any_batch_and_beside_any_other_gene() -> None:
    alone, both = Genotypes.of(["CYP2C9"], EUROPE), Genotypes.of(["CYP2D6", "CYP2C9"], EUROPE)
    address = {"replicate": np.zeros(50, int), "subject": np.arange(50), "index": np.zeros(50, int)}
    one, other = alone.draw(1, **address), both.draw(1, **{k: v[::-1] for k, v in address.items()})
    assert one["CYP2C9_AS"].tolist() == other["CYP2C9_AS"][::-1].tolist()


def test_clearance_follows_the_share_metabolised() -> None:
    """A poor metaboliser keeps 1 - fm; a population's clearance is met on average when it is the reference."""
    assert float(clearance(0.8, diplotype("CYP2D6", "*4/*4").activity)) == pytest.approx(0.2)
    assert float(clearance(0.8, diplotype("CYP2D6", "*1/*1").activity)) == 1.0
    assert float(clearance(0.0, 0.0)) == 1.0
    law = Genotypes.of(["CYP2D6"], EUROPE)
    exact = law.law("CYP2D6_ACTIVITY")
    mean = math.fsum(p * float(clearance(0.8, a, mean=law.mean_activity("CYP2D6"))) for a, p in exact.items())
    assert mean == pytest.approx(1.0)
    with pytest.raises(InputError, match="fm"):
        clearance(1.2, 1.0)


def test_activity_of_cyp2c9_is_near_the_clearances_it_was_made_from() -> None:
    """S-warfarin by diplotype relative to *1/*1 (Hamberg 2007, Table 2: the library's hamberg_warfarin): within 0.1."""
    measured = {"*1/*2": 0.685, "*1/*3": 0.547, "*2/*2": 0.278, "*2/*3": 0.310, "*3/*3": 0.148}
    for name, relative in measured.items():
        assert diplotype("CYP2C9", name).activity == pytest.approx(relative, abs=0.1), name


def test_a_law_with_genotypes_keeps_everybody_else_as_they_were() -> None:
    plain = PopulationLaw.read()
    law = plain.with_genotype(Genotypes.of(["CYP2C9", "VKORC1"], EUROPE))
    rules = Criteria.parse({"age": "40 <= AGE <= 60", "poor": "CYP2C9_AS <= 1"})
    cohort = enrol(law, rules, seed=1, replicates=[0, 1], subjects=5)
    assert cohort.covariates["CYP2C9_AS"].max() <= 1.0
    same = plain.people(1, replicate=cohort.replicate[:, None], subject=cohort.subject[None], index=cohort.attempts)
    assert all(same[name].tolist() == cohort.covariates[name].tolist() for name in plain.names)
    assert law.digest != plain.digest
    assert law.labels["VKORC1"] == {0: "GG", 1: "AG", 2: "AA"}


@pytest.mark.parametrize(("call", "said"), [
    (lambda: Genotypes.of(["CYP2D7"], EUROPE), "not a gene we know"),
    (lambda: Genotypes.of(["CYP2D6"], {"Europe": 1.0}), "has no frequencies of CYP2D6"),
    (lambda: Genotypes.of(["CYP2D6"], {"European": 0.9}), "sum to 1"),
    (lambda: Genotypes.of(["VKORC1"], {"Central/South Asian": 1.0}), "has no frequencies of VKORC1"),
    (lambda: Genotypes.of(["CYP2D6"], EUROPE, given={"CYP2D6": {"European": {"*4": 1.4}}}), "between 0 and 1"),
    (lambda: Genotypes.of(["CYP2D6"], EUROPE, given={"CYP2D6": {"European": {"*22": 0.1}}}), "function is not known"),
    (lambda: Genotypes.of(["CYP2D6"], EUROPE, given={"CYP2C9": {}}), "not among the genes"),
    (lambda: Genotypes.of(["CYP2D6"], EUROPE, activity={"CYP2D6": {"lost": 0.0}}), "not a function"),
    (lambda: PopulationLaw.read().with_genotype(Genotypes.of(["VKORC1"], EUROPE)).overridden({"VKORC1": {0: 1.0}}),
     "drawn with the genotype"),
])  # fmt: skip
def test_what_is_wrong_is_said(call: object, said: str) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=said):
        call()


def test_given_frequencies_and_activities_are_taken() -> None:
    law = Genotypes.of(["CYP2D6"], {"Here": 1.0}, given={"CYP2D6": {"Here": {"*4": 0.5}}},
                       activity={"CYP2D6": {"no": 0.1}})  # fmt: skip
    assert law.law("CYP2D6_AS") == pytest.approx({0.0: 0.25, 1.0: 0.5, 2.0: 0.25})
    assert law.law("CYP2D6_ACTIVITY") == pytest.approx({0.1: 0.25, 0.55: 0.5, 1.0: 0.25})
    assert cited(["VKORC1"], ["European"]) == (
        "1000 Genomes in Shendre et al., Pharmacogenomics 2018;19:1357, Table 1",
    )
