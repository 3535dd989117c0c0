"""Who carries what: ancestry, then two alleles of each gene, drawn by address; the exact law beside it.

Within an ancestry the two alleles are independent (Hardy & Weinberg 1908), across ancestries they are not: a mixture of
ancestries has more homozygotes than its mean frequencies say. Genes are drawn independently of each other (linkage of
CYP2C9 and CYP2C19 is not modelled) and of all other covariates.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground import digest
from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, slots, uniforms
from pkpd.ground.text import nearest
from populations.genotype import GENES, SOURCES, alleles, diplotype, frequencies, listed

__all__ = ["ANCESTRY", "GeneLaw", "Genotypes", "cited"]

F64 = NDArray[np.float64]
ANCESTRY = "ANCESTRY"
Frequencies = Mapping[str, Mapping[str, Mapping[str, float]]]  # gene -> ancestry -> allele -> frequency


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneLaw:
    """One gene: alleles (A,), their frequencies (G, A) by ancestry, and of every ordered pair (A, A): code of the short
    diplotype, score, code of the phenotype, activity of the pathway."""

    name: str
    alleles: tuple[str, ...]
    frequency: F64
    cumulative: F64
    columns: Mapping[str, F64]
    labels: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Genotypes:
    """Shares of ancestries (G,) and laws of genes. Covariates: `names`; see docs/genotype.md for what they mean."""

    ancestries: tuple[str, ...]
    shares: F64
    genes: tuple[GeneLaw, ...]
    digest: str

    @classmethod
    def of(
        cls, genes: Sequence[str], ancestry: Mapping[str, float], *, given: Frequencies | None = None,
        activity: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Genotypes:  # fmt: skip
        """The law of some genes in a mixture of ancestries.

        given: {gene: {ancestry: {allele: frequency}}} instead of the shipped table; activity: {gene: {function: x}} of
        an allele instead of the gene's own. Errors: InputError for an unknown gene, ancestry, allele or function, for
        shares or frequencies that do not sum to 1 (frequencies: to at most 1, the reference allele has the rest).

        >>> law = Genotypes.of(["CYP2D6"], {"European": 0.7, "East Asian": 0.3})
        >>> round(law.phenotypes("CYP2D6")["Poor Metabolizer"], 3)
        0.048
        """
        shares = _shares(ancestry)
        laws = tuple(_law(name, tuple(ancestry), (given or {}).get(name), (activity or {}).get(name)) for name in genes)
        if len(set(genes)) != len(laws):
            raise InputError("names a gene twice", field="population.genotype.genes", value=", ".join(genes))
        for name in {*(given or {}), *(activity or {})} - set(genes):
            raise InputError("is not among the genes", field="population.genotype", value=name,
                             remedy=f"add it to genes: {', '.join(genes)}")  # fmt: skip
        plain = {law.name: [list(law.alleles), law.frequency.tolist(), {k: v.tolist() for k, v in law.columns.items()}]
                 for law in laws}  # fmt: skip
        return cls(
            ancestries=tuple(ancestry), shares=shares, genes=laws,
            digest=digest.of_json([list(ancestry), shares.tolist(), repr(plain)]),
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covariates: ANCESTRY, then of every gene GENE (short diplotype), GENE_PHENOTYPE, and where they
        mean something GENE_AS and GENE_ACTIVITY."""
        return (ANCESTRY, *(name for law in self.genes for name in law.columns))

    @property
    def labels(self) -> dict[str, dict[int, str]]:
        """Labels of the codes of categories."""
        made = {ANCESTRY: dict(enumerate(self.ancestries))}
        return made | {name: dict(codes) for law in self.genes for name, codes in law.labels.items()}

    def draw(
        self, seed: int, *, replicate: NDArray[Any], subject: NDArray[Any], index: NDArray[Any],
        only: Collection[str] | None = None,
    ) -> dict[str, F64]:  # fmt: skip
        """Covariates of one person per address (flat arrays of one shape); `only`: the names wanted."""
        wanted = set(self.names if only is None else only)

        def chance(name: str) -> F64:
            slot = int(slots([name])[0])
            return uniforms(seed, Purpose.GENOTYPE, subject=subject, replicate=replicate, index=index, slot=slot)

        group = _place(np.cumsum(self.shares), chance(ANCESTRY))
        made = {ANCESTRY: group.astype(np.float64)} if ANCESTRY in wanted else {}
        for law in self.genes:
            if wanted & set(law.columns):
                pair = [_chosen(law, group, chance(f"{law.name}.{k}")) for k in (1, 2)]
                made |= {name: of[pair[0], pair[1]] for name, of in law.columns.items() if name in wanted}
        return made

    def law(self, name: str) -> dict[float, float]:
        """{value: probability} of a covariate, exactly: Hardy-Weinberg within each ancestry, mixed by their shares."""
        if name == ANCESTRY:
            return dict(enumerate(self.shares.tolist()))
        gene = next((law for law in self.genes if name in law.columns), None)
        if gene is None:
            raise InputError("is not a covariate of the genotype", value=name, remedy=nearest(name, self.names))
        pairs = np.einsum("g,ga,gb->ab", self.shares, gene.frequency, gene.frequency)
        values = gene.columns[name]
        return {float(v): float(pairs[values == v].sum()) for v in np.unique(values)}

    def phenotypes(self, gene: str) -> dict[str, float]:
        """{phenotype: probability} of a gene, exactly."""
        name = f"{gene}_PHENOTYPE"
        return {self.labels[name][int(code)]: p for code, p in self.law(name).items()}

    def mean_activity(self, gene: str) -> float:
        """Mean activity of the pathway in the population, for :func:`populations.genotype.clearance`."""
        return math.fsum(value * p for value, p in self.law(f"{gene}_ACTIVITY").items())


def _shares(ancestry: Mapping[str, float]) -> F64:
    field = "population.genotype.ancestry"
    shares = np.array(list(ancestry.values()), np.float64)
    if shares.size == 0 or (shares < 0.0).any() or abs(math.fsum(shares) - 1.0) > 1e-9:
        raise InputError("shares must be at least 0 and sum to 1", field=field, value=math.fsum(shares))
    return shares


def _law(
    name: str, ancestries: tuple[str, ...], given: Mapping[str, Mapping[str, float]] | None,
    activity: Mapping[str, float] | None,
) -> GeneLaw:  # fmt: skip
    shipped, kind = frequencies(name), GENES[name]
    for function in activity or {}:
        if function not in ("no", "decreased", "normal", "increased"):
            raise InputError("is not a function of an allele", field=f"population.genotype.activity.{name}",
                             value=function, remedy="no, decreased, normal or increased")  # fmt: skip
    table = [_of_ancestry(name, ancestry, {**shipped, **(given or {})}) for ancestry in ancestries]
    seen = tuple(a for a in _in_order(name, table) if any(row.get(a, 0.0) > 0.0 for row in table))
    frequency = np.array([[row.get(a, 0.0) for a in seen] for row in table])
    read = [[diplotype(name, a, b, activity=activity) for b in seen] for a in seen]
    codes, short = _short(name, seen)
    columns = {name: codes, f"{name}_PHENOTYPE": _each(read, lambda d: kind.phenotypes.index(d.phenotype))}
    if not math.isnan(read[0][0].activity):
        columns |= {f"{name}_AS": _each(read, lambda d: d.score), f"{name}_ACTIVITY": _each(read, lambda d: d.activity)}
    return GeneLaw(
        name=name, alleles=seen, frequency=frequency, cumulative=np.cumsum(frequency, axis=1), columns=columns,
        labels={name: short, f"{name}_PHENOTYPE": dict(enumerate(kind.phenotypes))},
    )  # fmt: skip


def _each(read: list[list[Any]], value: Any) -> F64:
    return np.array([[float(value(d)) for d in row] for row in read])


def _of_ancestry(name: str, ancestry: str, table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Frequencies of the alleles in an ancestry, the reference's among them."""
    field = "population.genotype.ancestry"
    if ancestry not in table:
        problem = f"has no frequencies of {name} (it has: {', '.join(sorted(table))})"
        raise InputError(problem, field=field, value=ancestry,
                         remedy=f"{nearest(ancestry, tuple(table))}, or give frequencies: {{{name}: ...}}")  # fmt: skip
    row, reference = dict(table[ancestry]), GENES[name].reference
    field = f"population.genotype.frequencies.{name}.{ancestry}"
    for allele, frequency in row.items():
        if allele not in alleles(name) and not diplotype(name, allele, reference).score >= 0.0:
            raise InputError("is an allele whose function is not known", field=field, value=allele,
                             remedy=nearest(allele, tuple(alleles(name))))  # fmt: skip
        if not 0.0 <= frequency <= 1.0:
            raise InputError("must lie between 0 and 1", field=f"{field}.{allele}", value=frequency)
    others = math.fsum(f for a, f in row.items() if a != reference)
    if others > 1.0 + 1e-9 or abs(row.get(reference, 1.0 - others) + others - 1.0) > 1e-6:
        raise InputError("frequencies must sum to 1", field=field, value=others + row.get(reference, 0.0),
                         remedy=f"leave out {reference}: it has the rest")  # fmt: skip
    row[reference] = max(0.0, 1.0 - others)
    return row


def _in_order(name: str, table: list[dict[str, float]]) -> list[str]:
    """The reference first, then the others as listed."""
    reference = GENES[name].reference
    seen = {a for row in table for a in row}
    return [reference, *sorted(seen - {reference}, key=lambda a: (len(a), a))]


def _short(name: str, seen: tuple[str, ...]) -> tuple[F64, dict[int, str]]:
    """Codes (A, A) of diplotypes of the core alleles in lexical order of pairs; every other allele counts as the core
    allele of its name before the copies, else as the one whose value is nearest."""
    core = GENES[name].core
    pairs = [(i, j) for i in range(len(core)) for j in range(i, len(core))]
    code = {pair: k for k, pair in enumerate(pairs)}
    place = [_nearest_core(name, a) for a in seen]
    codes = np.array([[float(code[min(i, j), max(i, j)]) for j in place] for i in place])
    return codes, {k: _written(core[i], core[j]) for (i, j), k in code.items()}


def _written(first: str, second: str) -> str:
    """`*1/*2`; letters as geneticists sort them: AG."""
    return "".join(sorted((first, second))) if first.isalpha() else f"{first}/{second}"


def _nearest_core(name: str, one: str) -> int:
    core = GENES[name].core
    if one in core:
        return core.index(one)
    value = diplotype(name, one, core[0]).score
    return min(range(len(core)), key=lambda k: abs(diplotype(name, core[k], core[0]).score - value))


def _place(cumulative: F64, u: F64) -> NDArray[np.intp]:
    return np.minimum(np.searchsorted(cumulative, u, side="right"), cumulative.size - 1)


def _chosen(law: GeneLaw, group: NDArray[np.intp], u: F64) -> NDArray[np.intp]:
    """The allele of each person's ancestry at its uniform."""
    made = np.zeros(u.shape, np.intp)
    for g in range(law.cumulative.shape[0]):
        here = group == g
        made[here] = _place(law.cumulative[g], u[here])
    return made


def cited(genes: Sequence[str], ancestries: Sequence[str]) -> tuple[str, ...]:
    """Sources of the shipped frequencies of some genes in some ancestries."""
    found = {row["source"] for row in listed("frequencies.csv")
             if row["gene"] in genes and row["population"] in ancestries}  # fmt: skip
    return tuple(SOURCES[key] for key in SOURCES if key in found)
