"""Two-by-two factorial trials with normal outcomes: tests at the margins or of cells, with the pooled variance.

Cells in order: neither, the first alone, the second alone, both. At the margins an effect is the mean of all with less
all without: right where the treatments add up, off by half the interaction where they do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, stdtr, stdtrit

from pkpd.ground.errors import InputError
from trials.comparison import Exact, Sample
from trials.designs import text_checks
from trials.designs.families import Chance, Family, share
from trials.designs.simulate import Stages, normal_sums

if TYPE_CHECKING:
    from trials.designs.text import Design
    from trials.designs.text_families import Factorial
    from trials.designs.text_scenarios import Truth

__all__ = ["FAMILY", "each_of"]

Floats = NDArray[np.float64]
CONTRASTS: Final[Mapping[str, NDArray[np.float64]]] = {
    "margins": np.array([[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]]),
    "cells": np.array([[-1.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 1.0, 0.0]]),
}


def _factorial(design: Design) -> Factorial:
    assert design.endpoint.factorial is not None
    return design.endpoint.factorial


def _level(design: Design) -> float:
    """One-sided level of each test, Holm's first step included."""
    share_ = 1.0 if _factorial(design).adjust == "none" else 0.5
    return text_checks.error_of(design).level * share_


def _effects(design: Design, truth: Truth) -> Floats:
    """True effect of each alone (2,)."""
    f = _factorial(design)
    return np.array([truth.arms.get(name, value) for name, value in f.effects.items()])


def _means(design: Design, truth: Truth) -> Floats:
    """True means of the four cells."""
    f, (a, b) = _factorial(design), _effects(design, truth)
    both = f.interaction if truth.interaction is None else truth.interaction
    return np.array([0.0, a, b, a + b + both])


def _power(design: Design, shift: float, n: int) -> float:
    """Power of one test whose true contrast is `shift` sd with n subjects a cell."""
    weights = CONTRASTS[_factorial(design).analysis][0]
    df, level = 4.0 * (n - 1), _level(design)
    critical, drift = -float(stdtrit(df, level)), shift * math.sqrt(n / float(weights @ weights))
    wrong = float(nctdtr(df, drift, -critical)) if design.error.sides == "2" else 0.0
    return float(1 - nctdtr(df, drift, critical)) + wrong


def each_of(design: Design) -> int:
    """Subjects of a cell: as the text says, or as many as the smaller effect needs at its test."""
    f = _factorial(design)
    if f.each is not None:
        return f.each
    from trials.designs.text_scenarios import Truth

    shift = float((CONTRASTS[f.analysis] @ _means(design, Truth())).min()) / f.sd
    if shift <= 0:
        problem = "has a contrast that is not above 0: no size is enough"
        raise InputError(problem, field="factorial.effects", value=dict(f.effects), remedy="give each: subjects a cell")
    n = 2
    while _power(design, shift, n) < design.error.power:
        n = n + 1 if n < 50 else math.ceil(1.01 * n)
        if n > 10**8:
            raise InputError("needs more than 10^8 subjects", field="factorial.effects", remedy="larger effects")
    while n > 2 and _power(design, shift, n - 1) >= design.error.power:
        n -= 1
    return n


def _solved(design: Design) -> dict[str, Any]:
    f, n = _factorial(design), each_of(design)
    words = {"margins": "at the margins: unbiased if the treatments add up", "cells": "each alone against neither"}
    power = f"{design.error.power:g} for the smaller effect" if f.each is None else "by simulation"
    return {
        "power": None,
        "size": {"subjects": 4 * n, "total": float(4 * n), "treated": 3.0 * n, "control": float(n)},
        "remarks": [f"four cells of {n}, t tests {words[f.analysis]}", f"multiplicity: {f.adjust}; power {power}"],
    }


def _samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    f, (seed, which), n = _factorial(design), chance, each_of(design)
    sd, weights = f.sd if truth.sd is None else truth.sd, CONTRASTS[f.analysis]
    total, square = normal_sums(Stages.of([[n] * 4]), _means(design, truth), sd, seed=seed, replicates=which)
    means = total[:, 0] / n
    df = 4.0 * (n - 1)
    variance = (square[:, 0] - n * means**2).sum(axis=1) / df
    estimate = (means[:, None, :] * weights).sum(axis=2)
    t = estimate / np.sqrt(variance * float(weights[0] @ weights[0]) / n)[:, None]
    p = stdtr(df, -np.abs(t) if design.error.sides == "2" else -t)
    reject = _rejected(design, p)
    out = {"reject": share("P(reject any)", reject.any(axis=1)), "all": share("P(reject both)", reject.all(axis=1))}
    false = ~_effective(design, truth)
    if false.any():
        out["type_i_error"] = share("Type I error (family-wise)", (reject & false).any(axis=1))
    for g, (name, effect) in enumerate(zip(f.effects, _effects(design, truth))):
        out[f"reject_{name}"] = share(f"P(reject {name})", reject[:, g])
        out[f"bias_{name}"] = Sample(label=f"Bias {name} alone", values=estimate[:, g] - effect)
    out["subjects"] = Sample(label="Subjects", values=np.full(which.size, 4.0 * n))
    return out


def _rejected(design: Design, p: Floats) -> NDArray[np.bool_]:
    """Which of the two hypotheses fall, one-sided p (R, 2)."""
    level = text_checks.error_of(design).level
    adjust = _factorial(design).adjust
    if adjust == "none":
        return np.asarray(p <= level)
    first = p <= level / 2
    return np.asarray(first | ((p <= level) & first.any(axis=1, keepdims=True)) if adjust == "holm" else first)


def _exact(design: Design, truth: Truth) -> dict[str, Exact]:
    """Each test's power (not of Holm's, which looks at the other), and the bias of the margins."""
    f, n = _factorial(design), each_of(design)
    sd = f.sd if truth.sd is None else truth.sd
    contrasts = CONTRASTS[f.analysis] @ _means(design, truth)
    out = {
        f"bias_{name}": Exact(value=round(float(c - effect), 12), how="closed form")
        for name, c, effect in zip(f.effects, contrasts, _effects(design, truth))
    }
    if f.adjust != "holm":
        for name, c in zip(f.effects, contrasts):
            out[f"reject_{name}"] = Exact(value=_power(design, float(c) / sd, n), how="noncentral t")
    return out


def _effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    """Whether each treatment alone does something (for the better, one-sided)."""
    effects = _effects(design, truth)
    return np.asarray(np.abs(effects) > 1e-12 if design.error.sides == "2" else effects > 1e-12)


def _check(design: Design, truth: Truth, field: str) -> None:
    for arm in truth.arms:
        if arm not in _factorial(design).effects:
            remedy = f"the treatments are {', '.join(_factorial(design).effects)}"
            raise InputError("is no treatment", field=f"{field}.arms.{arm}", value=arm, remedy=remedy)


FAMILY = Family(
    solved=_solved, samples=_samples, exact=_exact, effective=_effective, truths=("arms", "sd", "interaction"),
    check=_check,
)  # fmt: skip
