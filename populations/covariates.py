"""The joint law of people's covariates: quantile margins and Gaussian dependence by sex, drawn by address.

A person is (subject, replicate, attempt). Slot 0 of the address gives SEX, slot 1 AGE, slot 2 + j the j-th latent.
A continuous covariate is Q(centre(age) + spread(age) R(e)): Q the quantiles of its normal score within sex, R those of
what age leaves, e the latent. A category is a chain of steps "at least k, given at least k - 1": a latent above a cut
that moves with age. How the law is fitted, and what it cannot do, is in docs/population.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd import physiology
from pkpd.ground import digest
from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.ground.text import nearest

if TYPE_CHECKING:
    from populations.genotype_law import Genotypes

__all__ = ["DERIVED", "PopulationLaw", "laws"]

F64 = NDArray[np.float64]
Sexes = tuple[F64, F64]  # female, male: indexed by the code of SEX
FOLDER = Path(__file__).parent / "data"
SEX_SLOT, AGE_SLOT, FIRST_LATENT = 0, 1, 2

DERIVED: dict[str, tuple[tuple[str, ...], Callable[..., F64], str]] = {
    "BMI": (("WT", "HT"), physiology.bmi, "kg/m2"),
    "BSA": (("WT", "HT"), physiology.bsa_mosteller, "m2"),
    "CRCL": (("SEX", "AGE", "WT", "SCR"), physiology.cockcroft_gault, "mL/min"),
    "EGFR": (("SEX", "AGE", "SCR"), physiology.ckd_epi_2021, "mL/min/1.73m2"),
    "FFM": (("SEX", "WT", "HT"), physiology.ffm_janmahasatian, "kg"),
}
"""Name -> (what it is computed from, formula of `pkpd.physiology`, unit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuous:
    """One continuous covariate; every pair is (female, male). `centre` and `spread` are by year of age."""

    name: str
    unit: str
    about: str
    quantiles: Sexes
    centre: Sexes
    spread: Sexes
    residual: Sexes


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One category; `cuts[k]` = (female, male) cut of the step to code k + 1, by year of age."""

    name: str
    about: str
    labels: Mapping[int, str]
    cuts: tuple[Sexes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PopulationLaw:
    """A population to draw people from; `read` one by name.

    `names`: what `draw` gives (SEX, AGE, measured, categories, derived); `labels`: {category: {code: label}};
    `valid`: {name: (low, high)} outside which the law knows nothing (`enrol` takes nobody from there).
    `digest`: SHA-256 of what the law was read from, overrides and genotypes included. `genotype`: covariates drawn
    beside it, independent of all others.
    """

    name: str
    about: str
    cite: str
    digest: str
    valid: Mapping[str, tuple[float, float]]
    male_share: float
    youngest: int
    ages: Sexes  # cumulative probability by year of age
    scores: F64  # the grid of normal scores all quantiles stand on
    continuous: tuple[Continuous, ...]
    categories: tuple[Category, ...]
    roots: Sexes  # lower Cholesky factors of the latent correlations
    genotype: Genotypes | None = None

    @classmethod
    def read(cls, name: str = "nhanes_adults") -> PopulationLaw:
        """The shipped law of that name; InputError with the nearest name for another.

        >>> PopulationLaw.read("nhanes_adults").labels["SMOKING"][2]
        'current'
        """
        if name not in laws():
            raise InputError(
                "no population law has this name", field="population.law", value=name, remedy=nearest(name, laws())
            )
        return cls.from_dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> PopulationLaw:
        """A law from the JSON of `tools/fit_population.py`."""
        knots, lowest = np.array(raw["knots"]), int(raw["age"]["lowest"])
        years = np.arange(lowest, lowest + len(raw["age"]["male"]), dtype=np.float64)
        variables = raw["variables"].items()
        return cls(
            name=raw["name"], about=raw["about"], cite=raw["cite"], digest=digest.of_json(raw),
            valid={name: (float(low), float(high)) for name, (low, high) in raw["valid"].items()},
            male_share=float(raw["male_share"]), youngest=lowest,
            ages=_sexes(raw["age"]), scores=np.array(raw["scores"]),
            continuous=tuple(_continuous(n, v, knots, years) for n, v in variables if v["kind"] == "continuous"),
            categories=tuple(_category(n, v, knots, years) for n, v in variables if v["kind"] == "category"),
            roots=(cholesky(raw["dependence"]["female"]), cholesky(raw["dependence"]["male"])),
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all covariates, derived ones last."""
        measured = (*(x.name for x in self.continuous), *(x.name for x in self.categories))
        return ("SEX", "AGE", *measured, *DERIVED, *(self.genotype.names if self.genotype else ()))

    @property
    def labels(self) -> dict[str, dict[int, str]]:
        """Labels of the codes of each category, SEX among them."""
        own = {"SEX": {0: "female", 1: "male"}} | {x.name: dict(x.labels) for x in self.categories}
        return own | (self.genotype.labels if self.genotype else {})

    @property
    def units(self) -> dict[str, str]:
        """Unit of each covariate that has one."""
        derived = {name: unit for name, (_, _, unit) in DERIVED.items()}
        return {"AGE": "years"} | {x.name: x.unit for x in self.continuous} | derived

    def draw(
        self, seed: int, replicate: ArrayLike, subject: ArrayLike, index: ArrayLike = 0
    ) -> dict[str, NDArray[np.float64]]:
        """Everybody of `replicate` (R,) x `subject` (N,) at one attempt: {name: (R, N)}; whole years of age, codes.

        >>> people = PopulationLaw.read().draw(1, [0, 1], [0, 1, 2])
        >>> people["WT"].shape
        (2, 3)
        """
        rows, columns = np.asarray(replicate)[:, None], np.asarray(subject)[None, :]
        return self.people(seed, replicate=rows, subject=columns, index=index)

    def people(
        self,
        seed: int,
        *,
        replicate: ArrayLike,
        subject: ArrayLike,
        index: ArrayLike,
        only: Collection[str] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """One person per broadcast address: {name: array}; `only` names the covariates to compute (default all).

        A value depends on its own address and nothing else. Errors: InputError for a name the law does not have.
        """
        wanted = self.needed(self.names if only is None else only)
        parts = np.broadcast_arrays(*(np.asarray(x) for x in (replicate, subject, index)))
        flat = _Addresses(seed, *(np.ascontiguousarray(x).reshape(-1) for x in parts))
        values = self._measured(flat, wanted)
        for name in DERIVED:
            if name in wanted:
                inputs, formula, _ = DERIVED[name]
                values[name] = formula(*(values[x] for x in inputs))
        if self.genotype and wanted & set(self.genotype.names):
            address = {"replicate": flat.replicate, "subject": flat.subject, "index": flat.index}
            values |= self.genotype.draw(seed, **address, only=wanted)
        return {name: values[name].reshape(parts[0].shape) for name in self.names if name in wanted}

    def needed(self, names: Collection[str]) -> frozenset[str]:
        """The names and what they are derived from, with SEX and AGE; InputError for an unknown one."""
        for name in names:
            if name not in self.names:
                raise InputError(
                    f"population law {self.name} has no covariate of this name", value=name,
                    remedy=nearest(name, self.names),
                )  # fmt: skip
        inputs = (x for name in names if name in DERIVED for x in DERIVED[name][0])
        return frozenset({"SEX", "AGE", *names, *inputs})

    def overridden(self, shares: Mapping[str, Mapping[int, float]]) -> PopulationLaw:
        """The law with a category's prevalence set: {SMOKING: {0: 0.15, 1: 0.45, 2: 0.40}}.

        The same latent is cut elsewhere: at every age and in both sexes the shares are those given; the dependence on
        other covariates at a given age and sex is kept, the category's own age trend is given up. SEX may be set too.
        Errors: InputError for an unknown or continuous name, an unknown code, a share outside [0, 1], a sum not 1.

        >>> law = PopulationLaw.read().overridden({"DIABETES": {0: 0, 1: 1}})
        >>> float(law.draw(1, [0], range(100))["DIABETES"].min())
        1.0
        """
        if not shares:
            return self
        for name, given in shares.items():
            if self.genotype and name in self.genotype.names:
                raise InputError("is drawn with the genotype", field=f"population.set.{name}",
                                 remedy="set ancestry or frequencies under population.genotype")  # fmt: skip
            _check_shares(self.labels, name, given)
        plain = {name: {str(code): float(p) for code, p in given.items()} for name, given in shares.items()}
        return replace(
            self,
            male_share=float(shares["SEX"].get(1, 0.0)) if "SEX" in shares else self.male_share,
            categories=tuple(_recut(x, shares[x.name]) if x.name in shares else x for x in self.categories),
            digest=digest.of_json([self.digest, plain]),
        )

    def with_genotype(self, genotype: Genotypes | None) -> PopulationLaw:
        """The law whose people also carry genotypes; every other covariate keeps its bits."""
        if genotype is None:
            return self
        return replace(self, genotype=genotype, digest=digest.of_json([self.digest, genotype.digest]))

    def _measured(self, flat: _Addresses, wanted: frozenset[str]) -> dict[str, F64]:
        drawn = ("SEX", "AGE", *(x.name for x in self.continuous), *(x.name for x in self.categories))
        values = {name: np.empty(flat.size) for name in drawn if name in wanted}
        is_male = flat.uniforms(SEX_SLOT) < self.male_share
        for sex in (0, 1):
            here = np.flatnonzero(is_male == bool(sex))
            for name, column in self._of_sex(sex, flat.take(here), wanted).items():
                values[name][here] = column
        return values

    def _of_sex(self, sex: int, flat: _Addresses, wanted: frozenset[str]) -> dict[str, F64]:
        year = np.searchsorted(self.ages[sex], flat.uniforms(AGE_SLOT), side="right")
        year = np.minimum(year, self.ages[sex].size - 1)
        latent = _Latents(flat, self.roots[sex])
        values = {"SEX": np.full(flat.size, float(sex)), "AGE": self.youngest + year.astype(np.float64)}
        for j, x in enumerate(self.continuous):
            if x.name in wanted:
                left = np.interp(latent(j), self.scores, x.residual[sex])
                score = x.centre[sex][year] + x.spread[sex][year] * left
                values[x.name] = np.interp(score, self.scores, x.quantiles[sex])
        j = len(self.continuous)
        for c in self.categories:
            if c.name in wanted:
                values[c.name] = _code(c, sex, year, [latent(j + k) for k in range(len(c.cuts))])
            j += len(c.cuts)
        return values


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Flat addresses of candidates, one element each."""

    seed: int
    replicate: NDArray[Any]
    subject: NDArray[Any]
    index: NDArray[Any]

    @property
    def size(self) -> int:
        return self.subject.size

    def take(self, here: NDArray[np.intp]) -> _Addresses:
        return _Addresses(self.seed, self.replicate[here], self.subject[here], self.index[here])

    def uniforms(self, slot: int) -> F64:
        return uniforms(
            self.seed, Purpose.COVARIATES, subject=self.subject, replicate=self.replicate, index=self.index, slot=slot
        )

    def normals(self, slot: int) -> F64:
        return normals(
            self.seed, Purpose.COVARIATES, subject=self.subject, replicate=self.replicate, index=self.index, slot=slot
        )


class _Latents:
    """Correlated normals on demand: e_j = sum over i <= j, in that order, of root[j, i] z_i."""

    __slots__ = ("_flat", "_independent", "_root")

    def __init__(self, flat: _Addresses, root: F64) -> None:
        self._flat, self._root = flat, root
        self._independent: dict[int, F64] = {}

    def __call__(self, j: int) -> F64:
        total: F64 = self._root[j, 0] * self._z(0)
        for i in range(1, j + 1):
            total += self._root[j, i] * self._z(i)
        return total

    def _z(self, i: int) -> F64:
        if i not in self._independent:
            self._independent[i] = self._flat.normals(FIRST_LATENT + i)
        return self._independent[i]


def laws() -> tuple[str, ...]:
    """Names of the shipped population laws.

    >>> "nhanes_adults" in laws()
    True
    """
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def cholesky(rows: list[list[float]]) -> F64:
    """Lower Cholesky factor of a correlation matrix given as its lower rows; sums in a fixed order, no LAPACK.

    >>> cholesky([[1.0], [0.6, 1.0]]).tolist()
    [[1.0, 0.0], [0.6, 0.8]]
    """
    n = len(rows)
    root = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            left = rows[i][j]
            for k in range(j):
                left -= float(root[i, k]) * float(root[j, k])
            root[i, j] = math.sqrt(left) if i == j else left / float(root[j, j])
    return root


def _code(c: Category, sex: int, year: NDArray[np.intp], latents: list[F64]) -> F64:
    code = np.zeros(year.size)
    going = np.ones(year.size, dtype=np.bool_)
    for cut, latent in zip(c.cuts, latents, strict=True):
        going = going & (latent > cut[sex][year])
        code += going
    return code


def _check_shares(labels: Mapping[str, Mapping[int, str]], name: str, given: Mapping[int, float]) -> None:
    field = f"population.set.{name}"
    if name not in labels:
        raise InputError("not a category of this population law", field=field, remedy=nearest(name, tuple(labels)))
    for code, share in given.items():
        if code not in labels[name]:
            codes = ", ".join(f"{k} {label}" for k, label in labels[name].items())
            raise InputError("unknown code", field=field, value=code, remedy=f"one of {codes}")
        if not 0.0 <= share <= 1.0:
            raise InputError("a share must lie between 0 and 1", field=f"{field}.{code}", value=share)
    total = math.fsum(given.values())
    if abs(total - 1.0) > 1e-9:
        raise InputError("shares must sum to 1", field=field, value=total, remedy="give every code its share")


def _recut(category: Category, given: Mapping[int, float]) -> Category:
    """The category with cuts that give these shares, the same at every age and in both sexes."""
    at_least = [math.fsum(given.get(j, 0.0) for j in category.labels if j >= k) for k in sorted(category.labels)]
    years = category.cuts[0][0].size
    cuts = (np.full(years, _cut(at_least[k + 1], at_least[k])) for k in range(len(category.cuts)))
    return replace(category, cuts=tuple((cut, cut) for cut in cuts))


def _cut(part: float, whole: float) -> float:
    """The normal quantile of 1 - part / whole; infinite where nobody or everybody takes the step."""
    from pkpd.kernels.philox import quantile_array

    share = part / whole if whole > 0.0 else 0.0
    if share <= 0.0 or share >= 1.0:
        return math.inf if share <= 0.0 else -math.inf
    return -float(quantile_array(np.array(share)))


def _sexes(raw: Mapping[str, Any]) -> Sexes:
    return np.array(raw["female"], dtype=np.float64), np.array(raw["male"], dtype=np.float64)


def _by_year(values: list[float], knots: F64, years: F64) -> F64:
    by_year: F64 = np.interp(years, knots, np.array(values))
    return by_year


def _continuous(name: str, raw: Mapping[str, Any], knots: F64, years: F64) -> Continuous:
    female, male = raw["female"], raw["male"]
    return Continuous(
        name=name, unit=raw["unit"], about=raw["about"],
        quantiles=(np.array(female["quantiles"]), np.array(male["quantiles"])),
        centre=(_by_year(female["centre"], knots, years), _by_year(male["centre"], knots, years)),
        spread=(_by_year(female["spread"], knots, years), _by_year(male["spread"], knots, years)),
        residual=(np.array(female["residual"]), np.array(male["residual"])),
    )  # fmt: skip


def _category(name: str, raw: Mapping[str, Any], knots: F64, years: F64) -> Category:
    pairs = zip(raw["female"]["cuts"], raw["male"]["cuts"], strict=True)
    return Category(
        name=name,
        about=raw["about"],
        labels={int(code): label for code, label in raw["labels"].items()},
        cuts=tuple((_by_year(female, knots, years), _by_year(male, knots, years)) for female, male in pairs),
    )
