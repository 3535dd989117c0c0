"""Platform trials: arms enter and leave beside a shared control, time goes on, the outcome may drift.

Subjects take turns among the arms that are open (`control` turns of the control for one of each arm, the order rotated
from round to round). Analyses are linear models with normal errors, so that what they do under a drift is known
exactly: the estimate is normal, the residual sum of squares noncentral chi-squared, the two independent.
Bofill Roig et al., BMC Med Res Methodol 2022;22:228.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit
from scipy.stats import ncx2

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.comparison import Exact, Sample
from trials.designs import text_checks
from trials.designs.families import Chance, Family, share
from trials.designs.sizes import gauss_legendre

if TYPE_CHECKING:
    from trials.designs.text import Design
    from trials.designs.text_families import Platform
    from trials.designs.text_scenarios import Truth

__all__ = ["FAMILY", "Course", "Fit", "course", "fit_of", "reject_probability"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OUTCOME = 0  # slot
CELLS = 4_000_000  # subjects at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Subjects in order of entry (N): `arm` (0 control, then the arms of the text), `period`; first, last: subjects of
    each arm (A).
    """

    arm: Ints
    period: Ints
    first: Ints
    last: Ints


@functools.lru_cache(maxsize=64)
def course(enters: tuple[int, ...], sizes: tuple[int, ...], control: int) -> Course:
    """Who is in which arm. enters: subjects in the platform before each arm; sizes: subjects of each arm.

    >>> course((0, 4), (3, 2), 1).arm.tolist()
    [0, 1, 1, 0, 0, 1, 2, 0, 2]
    """
    left, waiting = list(sizes), dict(enumerate(enters, 1))
    arms: list[int] = []
    periods: list[int] = []
    now: tuple[int, ...] = ()
    period, turn = -1, 0
    while any(left):
        open_ = tuple(a for a, at in waiting.items() if left[a - 1] and at <= len(arms))
        if not open_:  # nobody is open: the next arm enters now
            soonest = min(at for a, at in waiting.items() if left[a - 1])
            open_ = tuple(a for a, at in waiting.items() if left[a - 1] and at == soonest)
        if open_ != now:
            now, period, turn = open_, period + 1, 0
        seats = (0,) * control + open_
        for seat in seats[turn % len(seats) :] + seats[: turn % len(seats)]:
            arms.append(seat)
            periods.append(period)
            if seat:
                left[seat - 1] -= 1
        turn += 1
    arm = np.array(arms)
    where = [np.flatnonzero(arm == a) for a in range(1, len(sizes) + 1)]
    return Course(arm=arm, period=np.array(periods), first=np.array([w[0] for w in where]),
                  last=np.array([w[-1] for w in where]))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A linear model of some subjects: `rows` (n,) who they are; estimate = weights @ y[rows] with variance
    `variance` x sd^2; basis (n, p): orthonormal, of the fitted space; df.
    """

    rows: Ints
    weights: Floats
    variance: float
    basis: Floats
    df: float


@functools.lru_cache(maxsize=256)
def fit_of(enters: tuple[int, ...], sizes: tuple[int, ...], control: int, *, arm: int, analysis: str) -> Fit:
    """The analysis of one arm (from 1) against control."""
    made = course(enters, sizes, control)
    until = np.arange(made.arm.size) <= made.last[arm - 1]
    own = np.isin(made.period, np.unique(made.period[made.arm == arm]))
    two = np.isin(made.arm, (0, arm))
    rows = np.flatnonzero(
        until if analysis == "adjusted" else until & two & (own if analysis == "concurrent" else True)
    )
    who, when = made.arm[rows], made.period[rows]
    steps = [when == p for p in np.unique(when)] if analysis == "adjusted" else [np.ones(rows.size, np.bool_)]
    others = [who == a for a in np.unique(who) if a not in (0, arm)]
    x = np.column_stack([who == arm, *others, *steps]).astype(np.float64)
    q, _, rank = _orthonormal(x[:, 1:])
    rest = x[:, 0] - q @ (q.T @ x[:, 0])
    size = float(rest @ rest)
    if size < 1e-9:
        raise InputError("cannot be told from time", field="platform.arms", value=arm, remedy="use another analysis")
    basis = np.column_stack([q, rest / math.sqrt(size)])
    return Fit(rows=rows, weights=rest / size, variance=1 / size, basis=basis, df=float(rows.size - rank - 1))


def _orthonormal(x: Floats) -> tuple[Floats, Floats, int]:
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    rank = int((s > 1e-9 * s[0]).sum())
    return u[:, :rank], s, rank


def reject_probability(fit: Fit, mean: Floats, *, sd: float, level: float, sides: int = 1) -> float:
    """P(t beyond its critical value) when the outcomes of all subjects have means `mean` (N), exactly."""
    mu = mean[fit.rows] / sd
    shift = float(fit.weights @ mu) / math.sqrt(fit.variance)
    outside = mu - fit.basis @ (fit.basis.T @ mu)
    noncentral, critical = float(outside @ outside), -float(stdtrit(fit.df, level))
    low, high = (float(ncx2.ppf(q, fit.df, noncentral)) for q in (1e-13, 1 - 1e-13))
    nodes, weights = gauss_legendre(200)
    s = low + (nodes + 1) * (high - low) / 2
    bound = critical * np.sqrt(s / fit.df)
    beyond = ndtr(shift - bound) + (ndtr(-shift - bound) if sides == 2 else 0.0)
    return float(np.sum(weights * ncx2.pdf(s, fit.df, noncentral) * beyond) * (high - low) / 2)


def _platform(design: Design) -> Platform:
    assert design.endpoint.platform is not None
    return design.endpoint.platform


def _plan(design: Design) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    p = _platform(design)
    arms = p.arms.values()
    return tuple(a.enters for a in arms), tuple(a.subjects or p.each for a in arms), p.control


def _fits(design: Design) -> list[Fit]:
    p = _platform(design)
    return [fit_of(*_plan(design), arm=a + 1, analysis=p.analysis) for a in range(len(p.arms))]


def _effects(design: Design, truth: Truth) -> Floats:
    return np.array([truth.arms.get(name, arm.effect) for name, arm in _platform(design).arms.items()])


def _mean(design: Design, truth: Truth) -> Floats:
    """True mean of every subject (N): effect of the arm and drift at its place in time."""
    made = course(*_plan(design))
    place = np.arange(made.arm.size) / max(made.arm.size - 1, 1)
    shape = {"linear": place, "step": (place >= 0.5).astype(np.float64), "inverted_u": 1 - np.abs(2 * place - 1)}
    strength = np.array([truth.trends.get(name, truth.trend) for name in ("control", *_platform(design).arms)])
    return np.asarray(np.concatenate([[0.0], _effects(design, truth)])[made.arm]
                      + strength[made.arm] * shape[truth.shape])  # fmt: skip


def _solved(design: Design) -> dict[str, Any]:
    p, made = _platform(design), course(*_plan(design))
    rows = [
        {"look": a + 1, "arm": name, "first": int(made.first[a]) + 1, "last": int(made.last[a]) + 1,
         "subjects": int(fit.rows.size), "se": p.sd * math.sqrt(fit.variance), "df": fit.df}
        for a, ((name, _), fit) in enumerate(zip(p.arms.items(), _fits(design)))
    ]  # fmt: skip
    count = made.arm.size
    controls = int((made.arm == 0).sum())
    return {
        "power": None,
        "size": {"subjects": count, "total": float(count), "control": float(controls)},
        "arms": rows,
        "remarks": [f"{int(made.period[-1]) + 1} periods; {p.analysis} analysis of every arm, no adjustment for many"],
    }


def _samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    p, fits, mean = _platform(design), _fits(design), _mean(design, truth)
    sd = p.sd if truth.sd is None else truth.sd
    t, estimate = _statistics(fits, mean, sd, chance)
    tail = np.abs(t) if design.error.sides == "2" else t
    level = text_checks.error_of(design).level
    reject = np.stack([stdtr(fit.df, -tail[:, a]) <= level for a, fit in enumerate(fits)], axis=1)
    false = ~_effective(design, truth)
    out = {"reject": share("P(reject any)", reject.any(axis=1))}
    if false.any():
        out["type_i_error"] = share("Type I error (any)", (reject & false).any(axis=1))
    for a, (name, effect) in enumerate(zip(p.arms, _effects(design, truth))):
        out[f"reject_{name}"] = share(f"P(reject {name})", reject[:, a])
        out[f"bias_{name}"] = Sample(label=f"Bias {name}", values=estimate[:, a] - effect)
    out["subjects"] = Sample(label="Subjects", values=np.full(t.shape[0], float(mean.size)))
    return out


def _statistics(fits: list[Fit], mean: Floats, sd: float, chance: Chance) -> tuple[Floats, Floats]:
    """t and estimate of every arm (R, A); subject by subject, some replicates at a time."""
    (seed, which), step = chance, max(1, CELLS // mean.size)
    t, estimate = np.empty((which.size, len(fits))), np.empty((which.size, len(fits)))
    for first in range(0, which.size, step):
        part = slice(first, first + step)
        z = normals(seed, Purpose.SUMMARY_OUTCOME, subject=np.arange(mean.size), replicate=which[part, None],
                    slot=OUTCOME)  # fmt: skip
        y = mean + sd * z
        for a, fit in enumerate(fits):
            seen = y[:, fit.rows]
            estimate[part, a] = seen @ fit.weights
            residual = (seen**2).sum(axis=1) - ((seen @ fit.basis) ** 2).sum(axis=1)
            t[part, a] = estimate[part, a] / np.sqrt(residual / fit.df * fit.variance)
    return t, estimate


def _exact(design: Design, truth: Truth) -> dict[str, Exact]:
    p, mean, error = _platform(design), _mean(design, truth), text_checks.error_of(design)
    sd, out = p.sd if truth.sd is None else truth.sd, {}
    for name, fit, effect in zip(p.arms, _fits(design), _effects(design, truth)):
        power = reject_probability(fit, mean, sd=sd, level=error.level, sides=error.sides)
        out[f"reject_{name}"] = Exact(value=power, how="doubly noncentral t")
        out[f"bias_{name}"] = Exact(
            value=round(float(fit.weights @ mean[fit.rows]) - float(effect), 12), how="linear model"
        )
    return out


def _effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    effects = _effects(design, truth)
    return np.asarray(np.abs(effects) > 1e-12 if design.error.sides == "2" else effects > 1e-12)


def _check(design: Design, truth: Truth, field: str) -> None:
    known = list(_platform(design).arms)
    for part, names in (("arms", known), ("trends", ["control", *known])):
        for arm in getattr(truth, part):
            if arm not in names:
                remedy = f"the arms are {', '.join(names)}"
                raise InputError("is no arm", field=f"{field}.{part}.{arm}", value=arm, remedy=remedy)


FAMILY = Family(
    solved=_solved, samples=_samples, exact=_exact, effective=_effective,
    truths=("arms", "sd", "trend", "trends", "shape"), check=_check,
)  # fmt: skip
