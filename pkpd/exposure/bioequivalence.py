r"""Average bioequivalence on the log scale: crossover ANOVA, paired and parallel comparisons.

Crossover: ln y = sequence + subject(sequence) + period + treatment, all fixed. Each subject has one sequence, so the
treatment contrast is that of subject + period + treatment, solved after subtracting subject means (Frisch and Waugh),
with N - subjects - (periods - 1) - 1 residual degrees of freedom. Intra-subject CV = sqrt(exp(MSE) - 1).
Sources: EMA, Guideline on the investigation of bioequivalence, CPMP/EWP/QWP/1401/98 Rev. 1, 2010; Chow SC, Liu JP.
Design and analysis of bioavailability and bioequivalence studies, 3rd ed. 2009.

Replicate designs are analysed the same way (EMA's "Method A"), without scaling to the reference's variability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.exposure.rules import demand
from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AnovaRow", "Bioequivalence", "bioequivalence", "crossover", "paired", "parallel"]

F64 = NDArray[np.float64]
Labels = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnovaRow:
    """One line of the table: term, degrees of freedom, partial (type III) sum of squares, F, p; NaN without a test."""

    term: str
    df: float
    ss: float
    f: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bioequivalence:
    """Ratio of geometric means, test over reference, with its interval; all on the ratio scale (1 = equal).

    level: of the interval; df, se, mse: of ln ratio; cv_intra with its interval (NaN in a parallel design, where
    `cv_total` is what can be had); p: of the two one-sided tests against `limits`; accepted: the interval, rounded to
    0.01 %, lies within the limits; subjects used; dropped: observations left out because they were missing.
    """

    design: str
    ratio: float
    lower: float
    upper: float
    level: float
    limits: tuple[float, float]
    accepted: bool
    p: float
    df: float
    se: float
    mse: float
    cv_intra: float
    cv_intra_lower: float
    cv_intra_upper: float
    cv_total: float
    subjects: int
    dropped: int
    anova: tuple[AnovaRow, ...]


def bioequivalence(
    data: pd.DataFrame,
    value: str,
    *,
    design: str = "crossover",
    columns: Mapping[str, str] | None = None,
    test: Any = "T",
    reference: Any = "R",
    level: float = 0.90,
    limits: tuple[float, float] = (0.80, 1.25),
) -> Bioequivalence:
    """Average bioequivalence of one column of a table with one row per subject and period (as from `nca`).

    design: crossover (2x2, or replicate without scaling), paired, parallel (Welch). columns: names of `subject`,
    `sequence`, `period`, `treatment` where they are not SUBJECT, SEQUENCE, PERIOD, TREATMENT; a crossover without a
    column of sequences takes them from the order of treatments. Rows of other treatments are refused.

    >>> import pandas as pd
    >>> pk = pd.DataFrame({"SUBJECT": [1, 1, 2, 2, 3, 3, 4, 4], "PERIOD": [1, 2] * 4, "TREATMENT": list("TRRTTRRT"),
    ...                    "AUC": [100, 95, 80, 90, 120, 110, 105, 100]})
    >>> found = bioequivalence(pk, "AUC")
    >>> round(found.ratio, 4), round(found.lower, 4), round(found.upper, 4), found.accepted
    (1.0532, 0.93, 1.1927, True)
    """
    known = ("crossover", "paired", "parallel")
    demand(design in known, "is not a design", "design", design, remedy=f"one of {', '.join(known)}")
    names = {k: (columns or {}).get(k, k.upper()) for k in ("subject", "sequence", "period", "treatment")}
    needed = {"crossover": ("subject", "period", "treatment"), "paired": ("subject", "treatment")}
    for part in (*needed.get(design, ("treatment",)), *(("sequence",) if "sequence" in (columns or {}) else ())):
        demand(names[part] in data.columns, "is not a column of the table", part, names[part],
                      remedy=f"name it in columns={{{part!r}: ...}}")  # fmt: skip
    demand(value in data.columns, "is not a column of the table", "value", value, remedy="name the endpoint")
    y = data[value].to_numpy(dtype=np.float64, na_value=np.nan)
    arms = data[names["treatment"]].tolist()
    common: dict[str, Any] = {"level": level, "limits": limits}
    if design == "parallel":
        which = [np.asarray([a == arm for a in arms], np.bool_) for arm in (test, reference)]
        _refuse_others(arms, test, reference)
        return parallel(y[which[0]], y[which[1]], **common)
    ids = data[names["subject"]].tolist()
    if design == "paired":
        return paired(*_side_by_side(y, ids, arms, (test, reference)), **common)
    order = data[names["sequence"]].tolist() if names["sequence"] in data.columns else None
    return crossover(y, subject=ids, period=data[names["period"]].tolist(), treatment=arms, sequence=order,
                     test=test, reference=reference, **common)  # fmt: skip


def crossover(
    value: ArrayLike,
    *,
    subject: Labels,
    period: Labels,
    treatment: Labels,
    sequence: Labels | None = None,
    test: Any = "T",
    reference: Any = "R",
    level: float = 0.90,
    limits: tuple[float, float] = (0.80, 1.25),
) -> Bioequivalence:
    """Crossover ANOVA on the log scale; arrays of one entry per observation, NaN = missing (left out and counted).

    sequence: label per observation, constant within a subject (None: the treatments in order of period). A subject
    with one observation left adds nothing to the treatment contrast. Errors: InputError.

    >>> found = crossover([100, 95, 80, 90, 120, 110, 105, 100], subject=[1, 1, 2, 2, 3, 3, 4, 4],
    ...                   period=[1, 2] * 4, treatment=list("TRRTTRRT"))
    >>> round(found.cv_intra, 4), found.df
    (0.0603, 2.0)
    """
    y, used = _logged(value)
    everything = {"subject": subject, "period": period, "treatment": treatment}
    for name, labels in everything.items():
        demand(
            len(labels) == len(used), "must have one label per value", name, len(labels), remedy=f"{len(used)} labels"
        )
    _refuse_others(treatment, test, reference)
    groups = _sequences(subject, period, treatment) if sequence is None else list(sequence)
    demand(len(groups) == len(used), "must have one label per value", "sequence", len(groups), remedy=f"{len(used)}")
    ids, times, arms, orders = ([x for x, u in zip(labels, used, strict=True) if u]
                                for labels in (subject, period, treatment, groups))  # fmt: skip
    _refuse_repeats(ids, times)
    who = _codes(ids)
    columns = np.column_stack([_dummies(times), np.asarray([a == test for a in arms], np.float64)])
    fit = _within(y, who, columns)
    demand(fit.estimable, "the treatment contrast cannot be estimated: treatment and period are confounded",
                  "treatment", None, remedy="give both treatments to a subject, in changing order")  # fmt: skip
    anova = _anova(y, who, columns, orders=orders, fit=fit)
    return _concluded("crossover", fit, level, limits, subjects=int(who.max()) + 1, dropped=int(np.sum(~used)),
                      anova=anova, within=True)  # fmt: skip


def paired(
    test: ArrayLike, reference: ArrayLike, *, level: float = 0.90, limits: tuple[float, float] = (0.80, 1.25)
) -> Bioequivalence:
    """Paired comparison on the log scale (no period effect); test and reference (n,) of the same subjects.

    A pair with a missing member is left out and counted. MSE is half the variance of the differences.

    >>> round(paired([100, 90, 120, 100], [95, 80, 110, 105]).ratio, 4)
    1.0532
    """
    y1, u1 = _logged(test)
    y0, u0 = _logged(reference)
    demand(len(u1) == len(u0), "must have as many values as the other", "reference", len(u0), remedy=f"{len(u1)}")
    full1, full0 = np.full(len(u1), np.nan), np.full(len(u0), np.nan)
    full1[u1], full0[u0] = y1, y0
    gap = (full1 - full0)[u1 & u0]
    n = len(gap)
    demand(n >= 2, "needs two complete pairs", "test", n, remedy="give more subjects")
    variance = float(np.sum((gap - gap.mean()) ** 2)) / (n - 1)
    fit = _Fit(float(gap.mean()), math.sqrt(variance / n), float(n - 1), variance / 2.0, True)
    dropped = 2 * len(u1) - 2 * n
    return _concluded("paired", fit, level, limits, subjects=n, dropped=dropped, anova=(), within=True)


def parallel(
    test: ArrayLike,
    reference: ArrayLike,
    *,
    welch: bool = True,
    level: float = 0.90,
    limits: tuple[float, float] = (0.80, 1.25),
) -> Bioequivalence:
    """Two groups on the log scale; Welch's degrees of freedom unless `welch` is False (equal variances).

    Source: Fuglsang A, Schütz H, Labes D. AAPS J 2015;17:400. `mse` is the pooled variance.

    >>> found = parallel([2.52, 8.87, 0.79, 1.68], [4.98, 7.14, 1.81, 7.34])
    >>> found.df < 6, found.accepted
    (True, False)
    """
    (y1, u1), (y0, u0) = _logged(test), _logged(reference)
    n1, n0 = len(y1), len(y0)
    demand(min(n1, n0) >= 2, "needs two values in each group", "test", (n1, n0), remedy="give more subjects")
    v1, v0 = (float(np.sum((y - y.mean()) ** 2)) / (len(y) - 1) for y in (y1, y0))
    pooled = ((n1 - 1) * v1 + (n0 - 1) * v0) / (n1 + n0 - 2)
    a, b = (v1 / n1, v0 / n0) if welch else (pooled / n1, pooled / n0)
    df = (a + b) ** 2 / (a * a / (n1 - 1) + b * b / (n0 - 1)) if welch and a + b > 0 else float(n1 + n0 - 2)
    fit = _Fit(float(y1.mean() - y0.mean()), math.sqrt(a + b), df, pooled, True)
    dropped = int(np.sum(~u1) + np.sum(~u0))
    name = "parallel, Welch" if welch else "parallel, equal variances"
    return _concluded(name, fit, level, limits, subjects=n1 + n0, dropped=dropped, anova=(), within=False)


# the model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fit:
    """ln ratio, its standard error, residual degrees of freedom and mean square."""

    estimate: float
    se: float
    df: float
    mse: float
    estimable: bool


def _within(y: F64, who: NDArray[np.int64], columns: F64) -> _Fit:
    """Contrast of the last column in the model subject + columns, on data centred within subjects."""
    gaps, design = _centred(y, who), np.column_stack([_centred(c, who) for c in columns.T])
    nuisance, target = design[:, :-1], design[:, -1]
    rank = int(np.linalg.matrix_rank(nuisance))
    own = target - nuisance @ np.linalg.lstsq(nuisance, target, rcond=None)[0]
    weight = float(own @ own)
    estimable = weight > 1e-9 * max(float(target @ target), 1.0)
    if not estimable:
        return _Fit(math.nan, math.nan, math.nan, math.nan, False)
    estimate = float(own @ gaps) / weight
    df = len(y) - (int(who.max()) + 1) - rank - 1
    demand(df >= 1, "leaves no degrees of freedom", "subject", int(who.max()) + 1, remedy="give more subjects")
    mse = _rest(gaps, design) / df
    return _Fit(estimate, math.sqrt(mse / weight), float(df), mse, True)


def _rest(gaps: F64, design: F64) -> float:
    """Residual sum of squares."""
    if design.shape[1] == 0:
        return float(gaps @ gaps)
    left = gaps - design @ np.linalg.lstsq(design, gaps, rcond=None)[0]
    return float(left @ left)


def _anova(y: F64, who: NDArray[np.int64], columns: F64, *, orders: Labels, fit: _Fit) -> tuple[AnovaRow, ...]:
    """Period and treatment against the residual; sequence against subject(sequence) where nothing is missing."""
    gaps, design = _centred(y, who), np.column_stack([_centred(c, who) for c in columns.T])
    full = fit.mse * fit.df
    periods = int(np.linalg.matrix_rank(design[:, :-1]))
    rows = [
        _tested("period", periods, _rest(gaps, design[:, -1:]) - full, (fit.mse, fit.df)),
        _tested("treatment", 1, _rest(gaps, design[:, :-1]) - full, (fit.mse, fit.df)),
        AnovaRow(term="residual", df=fit.df, ss=full, f=math.nan, p=math.nan),
    ]
    return (*_between_subjects(y, who, orders, fit), *rows)


def _between_subjects(y: F64, who: NDArray[np.int64], orders: Labels, fit: _Fit) -> tuple[AnovaRow, ...]:
    counts = np.bincount(who)
    sequence = np.full(len(counts), -1)
    sequence[who] = _codes(orders)
    demand(bool(np.all(sequence[who] == _codes(orders))), "must be constant within a subject", "sequence", None,
                  remedy="give each subject one sequence")  # fmt: skip
    groups, n = int(sequence.max()) + 1, len(counts)
    if np.any(counts != counts[0]) or n <= groups:
        empty = {"df": math.nan, "ss": math.nan, "f": math.nan, "p": math.nan}
        return AnovaRow(term="sequence", **empty), AnovaRow(term="subject(sequence)", **empty)
    means = np.bincount(who, weights=y) / counts
    own = np.bincount(sequence, weights=means) / np.bincount(sequence)
    ss = float(counts[0] * np.sum((own[sequence] - means.mean()) ** 2))
    inner = float(counts[0] * np.sum((means - own[sequence]) ** 2))
    subjects = _tested("subject(sequence)", n - groups, inner, (fit.mse, fit.df))
    return _tested("sequence", groups - 1, ss, (inner / (n - groups), float(n - groups))), subjects


def _tested(term: str, df: int, ss: float, against: tuple[float, float]) -> AnovaRow:
    """A line tested against an error mean square and its degrees of freedom."""
    from scipy.special import fdtrc

    error, error_df = against
    if df < 1 or error <= 0:
        return AnovaRow(term=term, df=float(df), ss=ss, f=math.nan, p=math.nan)
    f = max(ss, 0.0) / df / error
    return AnovaRow(term=term, df=float(df), ss=ss, f=f, p=float(fdtrc(df, error_df, f)))


def _concluded(
    design: str, fit: _Fit, level: float, limits: tuple[float, float], *, subjects: int, dropped: int,
    anova: tuple[AnovaRow, ...], within: bool,
) -> Bioequivalence:  # fmt: skip
    """Interval, two one-sided tests, coefficient of variation with its interval, verdict."""
    from scipy.special import chdtri, stdtr, stdtrit

    demand(0 < level < 1, "must lie between 0 and 1", "level", level, remedy="0.90")
    demand(0 < limits[0] < 1 < limits[1], "must be (below 1, above 1)", "limits", limits, remedy="(0.80, 1.25)")
    half = float(stdtrit(fit.df, 0.5 + level / 2)) * fit.se
    lower, upper = math.exp(fit.estimate - half), math.exp(fit.estimate + half)
    outside = max(fit.estimate - math.log(limits[1]), math.log(limits[0]) - fit.estimate)
    p = float(stdtr(fit.df, outside / fit.se)) if fit.se > 0 else (0.0 if outside < 0 else 1.0)
    share = (1 - level) / 2
    cv = [
        _cv(fit.mse * x)
        for x in (1.0, fit.df / float(chdtri(fit.df, share)), fit.df / float(chdtri(fit.df, 1 - share)))
    ]
    return Bioequivalence(
        design=design, ratio=math.exp(fit.estimate), lower=lower, upper=upper, level=level, limits=limits,
        accepted=_inside(lower, upper, limits),
        p=p, df=fit.df, se=fit.se, mse=fit.mse, cv_intra=cv[0] if within else math.nan,
        cv_intra_lower=cv[1] if within else math.nan, cv_intra_upper=cv[2] if within else math.nan,
        cv_total=math.nan if within else cv[0], subjects=subjects, dropped=dropped, anova=anova,
    )  # fmt: skip


def _inside(lower: float, upper: float, limits: tuple[float, float]) -> bool:
    """Both ends within the limits, as percentages of two decimals (the rounding of the guideline)."""
    low, high, least, most = (round(100.0 * x, 2) for x in (lower, upper, *limits))
    return least <= low and high <= most


def _cv(variance: float) -> float:
    return math.sqrt(math.expm1(variance)) if variance < 700 else math.inf


# labels -----------------------------------------------------------------------------------------------------------


def _logged(value: ArrayLike) -> tuple[F64, NDArray[np.bool_]]:
    """ln of the values that are there, and which are."""
    y = np.atleast_1d(np.array(value, np.float64))
    used = ~np.isnan(y)
    bad = used & ~((y > 0) & np.isfinite(y))
    if np.any(bad):
        k = int(np.argmax(bad))
        remedy = "the log scale needs positive values; NaN where missing"
        raise InputError("must be finite and > 0", field=f"value[{k}]", value=float(y[k]), remedy=remedy)
    demand(np.any(used), "holds no number", "value", None, remedy="give the endpoint")
    return np.log(y[used]), used


def _refuse_others(treatment: Labels, test: Any, reference: Any) -> None:
    demand(test != reference, "must differ from the reference", "test", test, remedy="name two treatments")
    for arm in (test, reference):
        demand(
            arm in treatment, "does not occur", "treatment", arm, remedy=f"there are {sorted(map(str, set(treatment)))}"
        )
    other = next((t for t in treatment if t not in (test, reference)), None)
    demand(other is None, "is neither test nor reference", "treatment", other, remedy="leave its rows out")


def _refuse_repeats(ids: Labels, times: Labels) -> None:
    seen: set[tuple[Any, Any]] = set()
    for pair in zip(ids, times, strict=True):
        if pair in seen:
            raise InputError(
                f"has two values in period {pair[1]}", field=f"subject {pair[0]}", remedy="keep one of them"
            )
        seen.add(pair)


def _sequences(subject: Labels, period: Labels, treatment: Labels) -> list[str]:
    """Each subject's treatments in order of period: `TR`, `RT`."""
    visits: dict[Any, list[tuple[Any, str]]] = {}
    for who, when, what in zip(subject, period, treatment, strict=True):
        visits.setdefault(who, []).append((when, str(what)))
    label = {who: "".join(what for _, what in sorted(seen)) for who, seen in visits.items()}
    return [label[who] for who in subject]


def _side_by_side(y: F64, ids: Labels, arms: Labels, pair: tuple[Any, Any]) -> tuple[F64, F64]:
    """Values of test and of reference by subject, NaN where missing."""
    _refuse_others(arms, *pair)
    _refuse_repeats(ids, arms)
    rows = {who: k for k, who in enumerate(dict.fromkeys(ids))}
    wide = np.full((2, len(rows)), np.nan)
    for who, arm, number in zip(ids, arms, y, strict=True):
        wide[pair.index(arm), rows[who]] = number
    return wide[0], wide[1]


def _codes(labels: Labels) -> NDArray[np.int64]:
    known = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return np.asarray([known[label] for label in labels], np.int64)


def _dummies(labels: Labels) -> F64:
    codes = _codes(labels)
    return np.array(codes[:, None] == np.arange(1, int(codes.max()) + 1)[None, :], np.float64)


def _centred(x: F64, who: NDArray[np.int64]) -> F64:
    means = np.bincount(who, weights=x) / np.bincount(who)
    return np.array(x - means[who], np.float64)
