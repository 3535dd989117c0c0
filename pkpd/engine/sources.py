"""Where the subjects of a stream come from: parameters that are given, or drawn by address when a chunk needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws

__all__ = ["Drawn", "Given", "Source", "subsample"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Covariates = Callable[[I64], Mapping[str, F64]]


class Source(Protocol):
    """Subjects in some order: their addresses, and the parameters of any range of them."""

    def __len__(self) -> int: ...

    def addresses(self, lo: int, hi: int) -> I64:
        """Addresses of subjects lo:hi, (hi - lo,): who they are, whatever the chunk."""

    def parameters(self, lo: int, hi: int) -> F64:
        """Their parameters, (hi - lo, P), a function of the addresses alone."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """Parameters (n, P) that exist already; subjects (n,): their addresses, 0 .. n-1 by default.

    >>> Given(values=np.ones((3, 2))).addresses(1, 3).tolist()
    [1, 2]
    """

    values: F64
    subjects: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or (self.subjects is not None and np.shape(self.subjects) != (len(self.values),)):
            raise InputError("must be (subjects, parameters), with one address a subject", field="values")

    def __len__(self) -> int:
        return len(self.values)

    def addresses(self, lo: int, hi: int) -> I64:
        """See `Source`."""
        return np.arange(lo, hi) if self.subjects is None else np.asarray(self.subjects, np.int64)[lo:hi]

    def parameters(self, lo: int, hi: int) -> F64:
        """See `Source`."""
        return np.ascontiguousarray(self.values[lo:hi], np.float64)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Subjects of a model's population, drawn by address (purpose IIV) each time they are asked for: no array of them.

    subjects: addresses; draws: population parameters, the text's typical values by default, of which row `draw` holds;
    covariates: addresses (k,) -> {name: (k,)}, for a model that has any. Subject s of `replicate` is the same person in
    every stream with the seed, whatever the events. Errors: InputError for a model with occasions or classes.
    """

    model: Model
    subjects: range | I64
    seed: int
    replicate: int = 0
    draws: PopulationDraws | None = None
    draw: int = 0
    covariates: Covariates = field(default=lambda addresses: {})

    def __post_init__(self) -> None:
        for what, there in (("occasions (iov)", self.model.occasion_etas), ("classes (mixture)", self.model.mixture)):
            if there:
                problem = f"people with {what} cannot be drawn here yet (model {self.model.name})"
                raise InputError(problem, field="model", remedy="give their parameters")

    def __len__(self) -> int:
        return len(self.subjects)

    def addresses(self, lo: int, hi: int) -> I64:
        """See `Source`."""
        part = self.subjects[lo:hi]
        return np.arange(part.start, part.stop, part.step) if isinstance(part, range) else np.asarray(part, np.int64)

    def parameters(self, lo: int, hi: int) -> F64:
        """See `Source`. Errors: InputError for a covariate that is absent or out of the model's range."""
        from pkpd.model.variability import individual, random_effects

        typical, root = self._population
        who = self.addresses(lo, hi)
        z = random_effects(self.model, self.seed, subject=who, replicate=np.asarray([self.replicate]))[:, :, 0]
        given = {name: np.asarray(values, np.float64)[None] for name, values in self.covariates(who).items()}
        found: F64 = individual(self.model, typical, root, given, z=np.ascontiguousarray(z))[0]
        return found

    @cached_property
    def _population(self) -> tuple[F64, F64]:
        """Typical values (1, P) and the lower Cholesky factor of omega (1, q, q)."""
        from pkpd.model.variability import point

        draws = point(self.model) if self.draws is None else self.draws
        return draws.typical[self.draw][None], np.linalg.cholesky(draws.omega[self.draw])[None]


def subsample(seed: int, source: Source, count: int, *, replicate: int = 0, chunk: int = 65_536) -> I64:
    """`count` addresses of `source`, ascending: those with the smallest uniforms at purpose KEPT_CURVES.

    Chosen by address: not by order, chunk or arm. Memory is constant in the number of subjects.
    """
    if not 0 <= count <= len(source):
        raise InputError(f"must be from 0 to {len(source)}", field="count", value=count)
    best, who = np.empty(0), np.empty(0, np.int64)
    for lo in range(0, len(source), chunk):
        found = source.addresses(lo, min(lo + chunk, len(source)))
        score = uniforms(seed, Purpose.KEPT_CURVES, subject=found, replicate=replicate)
        who, best = np.concatenate([who, found]), np.concatenate([best, score])
        take = np.lexsort((who, best))[:count]
        who, best = who[take], best[take]
    return np.sort(who)
