"""Do the data fit the patient's own posterior, and the patient the model?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.twin.forecasting import folk
from pkpd.twin.likelihood import errors, fitted, log_below, pointwise
from pkpd.twin.psis import smoothed
from pkpd.twin.together import given_before, given_others
from pkpd.twin.twin import Twins

__all__ = ["UNLIKELY", "Datum", "data_checks", "outside", "relaxed", "unusual"]

Floats = NDArray[np.float64]
UNLIKELY = 0.01
CONTRADICTS = 1e-4
FAR = 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One observation. fitted: median of its true value; p: two-sided posterior predictive p; p_others: given all other
    data of the patient (that observation's own pull taken out by importance weights, their Pareto k beside it), those
    whose errors are correlated with its own among them.
    """

    time: float
    output: str
    value: float
    below: bool
    fitted: float
    p: float
    p_others: float
    k: float

    @property
    def unlikely(self) -> bool:
        """p < 0.01 by either."""
        return bool(min(self.p, self.p_others) < UNLIKELY)

    @property
    def contradicts(self) -> bool:
        """p < 0.0001 by either: one good datum in some thousand."""
        return bool(min(self.p, self.p_others) < CONTRADICTS)


def data_checks(twins: Twins, patient: int = 0) -> tuple[Datum, ...]:
    """Every observation of a patient, in the order of time."""
    case, weight = twins.case, twins.weight[patient]
    rows = folk(twins, np.asarray([patient], np.int64))
    f = fitted(case, rows, case.levels)
    density = pointwise(case, rows, case.levels, f)
    law, names = errors(case, rows.draw), list(case.model.outputs)
    alone = density
    if case.levels.before.any():
        with np.errstate(invalid="ignore"):
            alone = density - given_before(case, rows, case.levels, (f, law))
    found = []
    for t in np.flatnonzero(case.levels.there[patient]).tolist():
        name = names[int(case.levels.output[patient, t])]
        value, below = float(case.levels.value[patient, t]), bool(case.levels.below[patient, t])
        share = np.exp(log_below(law[name], f[:, [t]], np.asarray(value)))[:, 0]
        pull, given = density[:, t], share
        if (tied := given_others(case, rows, t, (f, law))) is not None:
            pull, given = alone[:, t] + tied[0], tied[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            other, k = smoothed((np.log(weight) - pull)[None])
        found.append(Datum(
            time=float(case.levels.time[patient, t]), output=name, value=value, below=below,
            fitted=float(np.interp(0.5, np.cumsum(weight[np.argsort(f[:, t])]), np.sort(f[:, t]))),
            p=_two_sided(share, weight, below), p_others=_two_sided(given, other[0], below), k=float(k[0]),
        ))  # fmt: skip
    return tuple(found)


def _two_sided(share: Floats, weight: Floats, below: bool) -> float:
    """2 min(F, 1 - F) of the mixture's distribution function; of a value below the limit its probability."""
    known = np.isfinite(share) & np.isfinite(weight)
    total = float(np.sum(weight[known]))
    if total <= 0.0:
        return float("nan")
    lower = float(np.sum(weight[known] * share[known])) / total
    return lower if below else min(1.0, 2.0 * min(lower, 1.0 - lower))


def outside(model: Model, records: Records, patient: int = 0) -> tuple[str, ...]:
    """Sentences on covariates outside the range in which the model holds; none: inside."""
    said = []
    for name, spec in model.covariates.items():
        low, high = spec.range or (-np.inf, np.inf)
        values = _values(records, name, patient)
        wrong = values[(values < low) | (values > high)]
        if len(wrong):
            told = f" ({model.domain[name]})" if name in model.domain else ""
            said.append(f"{name} {wrong[0]:g} is outside {low:g} to {high:g}, where the model holds{told}")
    return tuple(said)


def _values(records: Records, name: str, patient: int) -> Floats:
    if name in records.covariates:
        return np.asarray(records.covariates[name][[patient]], np.float64)
    return records.series[name].of_subject(patient)[1] if name in records.series else np.zeros(0)


def relaxed(model: Model) -> Model:
    """The model without the ranges of its covariates: to look at a patient outside of them, flagged."""
    covariates = {name: replace(c, range=None) for name, c in model.covariates.items()}
    return replace(model, covariates=covariates)


def unusual(twins: Twins, patient: int = 0) -> tuple[str, ...]:
    """Sentences on random effects whose posterior mean lies far from the population."""
    mean = np.einsum("s,sk->k", twins.weight[patient], twins.z[patient])
    names = twins.case.coordinates.names
    return tuple(
        f"{name} of this patient lies {value:+.1f} standard deviations from the population's"
        for name, value in zip(names, mean.tolist(), strict=True)
        if abs(value) > FAR
    )
