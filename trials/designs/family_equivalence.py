"""Equivalence by two one-sided t tests: two groups, 2x2, replicate and Williams crossovers.

A trial is drawn as its sufficient statistics: the estimate (normal) and the variance within (chi-squared), by (arm 0,
replicate), so that designs of any kind and size are compared on the same chance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, stdtrit

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.comparison import Exact, Sample
from trials.designs import text_checks
from trials.designs.crossover import contrast, crossover_size, shared
from trials.designs.families import Chance, Family, share
from trials.designs.sizes import Size, _spread, equivalence_power, equivalence_size

if TYPE_CHECKING:
    from trials.designs.text import Design, Equivalence
    from trials.designs.text_scenarios import Truth

__all__ = ["FAMILY", "size_of"]

Floats = NDArray[np.float64]
STATISTIC, SPREAD = 0, 1  # slots


def _scaled(e: Equivalence, x: float) -> float:
    return math.log(x) if e.log else x


def _sd(e: Equivalence, truth: Truth) -> float:
    """sd of the analysis under a truth."""
    if truth.sd is not None:
        return truth.sd
    cv = e.cv if truth.cv is None else truth.cv
    if cv is None or (e.sd is not None and truth.cv is None):
        assert e.sd is not None
        return e.sd
    return math.sqrt(math.log1p(cv**2))


def _equivalence(design: Design) -> Equivalence:
    assert design.endpoint.equivalence is not None
    return design.endpoint.equivalence


def size_of(design: Design) -> Size:
    """Subjects: as the text says, or as many as the power needs. Errors: InputError (two sides)."""
    from trials.designs.text_scenarios import Truth

    e, error, ratio = _equivalence(design), text_checks.error_of(design), text_checks.ratio_of(design)
    if design.error.sides != "1":
        raise InputError("must be 1: each of the two tests has alpha", field="error.sides", value=2, remedy="write 1")
    asked: dict[str, Any] = {"effect": _scaled(e, e.effect), "sd": _sd(e, Truth()), "lower": _scaled(e, e.lower),
             "upper": _scaled(e, e.upper)}  # fmt: skip
    if e.crossover is not None:
        return Size(total=float(e.subjects or crossover_size(e.crossover, error, **asked)))
    if e.subjects is not None:
        return Size(total=float(e.subjects), treated=e.subjects * ratio / (1 + ratio), control=e.subjects / (1 + ratio))
    return equivalence_size(error, ratio=ratio, **asked)


def _precision(design: Design) -> tuple[float, float, int]:
    """Variance of the estimate / sd^2, df, whole subjects."""
    e, whole = _equivalence(design), size_of(design).whole
    if e.crossover is not None:
        return (*contrast(e.crossover, shared(e.crossover, whole)), whole)
    return _spread(text_checks.ratio_of(design), 2) / whole, whole - 2.0, whole


def _solved(design: Design) -> dict[str, Any]:
    e, size = _equivalence(design), size_of(design)
    remarks = ["two one-sided t tests, each at alpha; exact power"]
    out: dict[str, Any] = {"subjects": size.whole, "total": size.total}
    if e.crossover is None:
        out |= {"treated": size.treated, "control": size.control}
        remarks.append("two groups")
    else:
        each = shared(e.crossover, size.whole)
        remarks.append(f"{e.crossover} crossover, subjects by sequence {', '.join(map(str, each))}")
    return {"size": out, "remarks": remarks}


def _samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    e, (seed, which) = _equivalence(design), chance
    variance, df, whole = _precision(design)
    where: dict[str, Any] = {"subject": 0, "replicate": which, "index": 0}
    true, sd = _scaled(e, e.effect if truth.effect is None else truth.effect), _sd(e, truth)
    z = normals(seed, Purpose.SUMMARY_STAGE, slot=STATISTIC, **where)
    u = uniforms(seed, Purpose.SUMMARY_STAGE, slot=SPREAD, **where)
    estimate = true + sd * math.sqrt(variance) * z
    half = -float(stdtrit(df, design.error.alpha)) * np.sqrt(variance * chdtri(df, u) / df) * sd
    low, high = estimate - half, estimate + half
    proved = (low > _scaled(e, e.lower)) & (high < _scaled(e, e.upper))
    out = {"reject": share("P(equivalence shown)", proved)}
    if not _effective(design, truth).all():
        out["type_i_error"] = share("Type I error", proved)
    out["subjects"] = Sample(label="Subjects", values=np.full(which.size, float(whole)))
    out["bias"] = Sample(label="Bias (of the logarithm)" if e.log else "Bias", values=estimate - true)
    out["coverage"] = share(f"Coverage of the {100 * (1 - 2 * design.error.alpha):g} % interval",
                            (low <= true) & (true <= high))  # fmt: skip
    return out


def _exact(design: Design, truth: Truth) -> dict[str, Exact]:
    e = _equivalence(design)
    variance, df, _ = _precision(design)
    true = _scaled(e, e.effect if truth.effect is None else truth.effect)
    power = equivalence_power(variance, df, effect=true, sd=_sd(e, truth), lower=_scaled(e, e.lower),
                              upper=_scaled(e, e.upper), level=design.error.alpha)  # fmt: skip
    return {"reject": Exact(value=power, how="integral over the variance")}


def _effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    e = _equivalence(design)
    true = e.effect if truth.effect is None else truth.effect
    return np.array([e.lower * (1 + 1e-12) < true < e.upper * (1 - 1e-12) if e.log else e.lower < true < e.upper])


def _check(design: Design, truth: Truth, field: str) -> None:
    e = _equivalence(design)
    if e.log and truth.effect is not None and truth.effect <= 0:
        raise InputError("must be a ratio > 0", field=f"{field}.effect", value=truth.effect, remedy="write 0.95")
    if truth.cv is not None and not e.log:
        raise InputError("needs log", field=f"{field}.cv", value=truth.cv, remedy="write sd")


FAMILY = Family(
    solved=_solved, samples=_samples, exact=_exact, effective=_effective, truths=("effect", "sd", "cv"), check=_check
)
