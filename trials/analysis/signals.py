"""Disproportionality of spontaneous reports: counts of unique reports and what is more than independence expects.

a reports name product and event, b the product without the event, c the event without the product, d neither.
Sources: Evans et al., Pharmacoepidemiol Drug Saf 2001;10:483 (PRR); van Puijenbroek et al., ibid. 2002;11:3 (ROR,
Yates' chi-squared); Norén et al., Stat Methods Med Res 2013;22:57 (IC with shrinkage 1/2); Huang et al., JASA
2011;106:1230 (likelihood ratio); DuMouchel, Am Stat 1999;53:177 (expected counts over strata).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trials.analysis.signals_reports import Reports

__all__ = [
    "Counts", "Scores", "counts", "disproportionality", "information", "odds_ratio_limit", "unique_codes", "with_zeros",
    "yates",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST_CELLS = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Pairs (K,) that at least one report names, in order of product and event.

    product, event: codes; n: unique reports of the pair; expected: over strata; n_product, n_event: unique reports
    of product and of event; reports: of all; by_stratum: reports (S,), of products (S, P), of events (S, E).
    """

    product: Ints
    event: Ints
    n: Ints
    expected: Floats
    n_product: Ints
    n_event: Ints
    reports: int
    by_stratum: tuple[Ints, Ints, Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Measures (K,) with two-sided limits; `ic` and `log_lr` use the expected counts, the others crude margins.

    zero_cell: b or c is 0. There PRR or ROR may be infinite; its lower limit is that of the score interval.
    """

    prr: Floats
    prr_lower: Floats
    prr_upper: Floats
    ror: Floats
    ror_lower: Floats
    ror_upper: Floats
    chi2: Floats
    ic: Floats
    ic_lower: Floats
    ic_upper: Floats
    log_lr: Floats
    zero_cell: NDArray[np.bool_]


def counts(table: Reports) -> Counts:
    """Count unique reports; expected = sum over strata of n_product n_event / reports.

    >>> from trials.analysis.signals_reports import reports
    >>> made = counts(reports(["1", "1", "2", "3"], ["A", "A", "A", "B"], ["rash", "rash", "rash", "fever"]))
    >>> made.n.tolist(), made.expected.round(4).tolist()
    ([2, 1], [1.3333, 0.3333])
    """
    sizes = len(table.stratum), len(table.products), len(table.events)
    pair = table.product * sizes[2] + table.event
    keys, n = np.unique(unique_codes(table.report, pair, sizes[1] * sizes[2])[1], return_counts=True)
    product, event = np.divmod(keys, max(sizes[2], 1))
    strata = max(len(table.strata), 1)
    of_reports = np.bincount(table.stratum, minlength=strata)
    of_products = _margins(table, table.product, (strata, sizes[1]))
    of_events = _margins(table, table.event, (strata, sizes[2]))
    expected = np.zeros(keys.size)
    for k in range(strata):
        expected += of_products[k, product] * of_events[k, event] / of_reports[k]
    return Counts(
        product=product, event=event, n=n.astype(np.int64), expected=expected, reports=sizes[0],
        n_product=of_products.sum(axis=0)[product], n_event=of_events.sum(axis=0)[event],
        by_stratum=(of_reports, of_products, of_events),
    )  # fmt: skip


def unique_codes(report: Ints, code: Ints, size: int) -> tuple[Ints, Ints]:
    """Report and code (below `size`) of the lines that differ, in order of report and code."""
    first, second = np.divmod(np.unique(report * max(size, 1) + code), max(size, 1))
    return first, second


def _margins(table: Reports, code: Ints, shape: tuple[int, int]) -> Ints:
    """Unique reports of each code by stratum."""
    report, kind = unique_codes(table.report, code, shape[1])
    flat = np.bincount(table.stratum[report] * shape[1] + kind, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.int64)


def with_zeros(made: Counts) -> tuple[Floats, Floats, Floats]:
    """Every cell of products by events, those that no report names too: n, expected and how many cells have both.

    InputError where there are more than 20 million cells.
    """
    from pkpd.ground.errors import InputError

    of_reports, of_products, of_events = made.by_stratum
    shape = of_products.shape[1], of_events.shape[1]
    if shape[0] * shape[1] > _MOST_CELLS:
        remedy = "fit the pairs that were reported (truncated at 1)"
        raise InputError("too many cells", field="zeros", value=shape[0] * shape[1], remedy=remedy)
    expected = np.zeros(shape)
    for k, size in enumerate(of_reports):
        expected += np.outer(of_products[k], of_events[k]) / size
    expected[made.product, made.event] = -1.0
    empty, many = np.unique(expected[expected >= 0], return_counts=True)
    keep = empty > 0  # a product and an event of different strata have no report that could name both
    n = np.concatenate([np.zeros(int(keep.sum())), made.n])
    return n, np.concatenate([empty[keep], made.expected]), np.concatenate([many[keep], np.ones(made.n.size)])


def disproportionality(made: Counts, *, level: float = 0.95) -> Scores:
    """PRR, ROR (log-normal limits), Yates' chi-squared, IC (gamma limits), log likelihood ratio of every pair.

    IC = log2((n + 1/2) / (expected + 1/2)), its limits log2 of quantiles of Gamma(n + 1/2, expected + 1/2). The log
    likelihood ratio is 0 where n <= expected.
    """
    a = made.n.astype(np.float64)
    b, c = made.n_product - a, made.n_event - a
    d = made.reports - a - b - c
    z = _normal(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        prr = (a / (a + b)) / (c / (c + d))
        ror = a * d / (b * c)
        prr_low, prr_high = _limits(prr, 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d), z)
        ror_low, ror_high = _limits(ror, 1 / a + 1 / b + 1 / c + 1 / d, z)
    _rescued(prr_low, prr_high, (a, b, c, d), level=level, odds=False)
    _rescued(ror_low, ror_high, (a, b, c, d), level=level, odds=True)
    ic, low, high = information(a, made.expected, 0.5 * (1 - level))
    return Scores(
        prr=prr, prr_lower=prr_low, prr_upper=prr_high, ror=ror, ror_lower=ror_low, ror_upper=ror_high,
        chi2=yates(a, b, c, d), ic=ic, ic_lower=low, ic_upper=high,
        log_lr=_likelihood_ratio(a, made.expected, made.n_product), zero_cell=(b == 0) | (c == 0),
    )  # fmt: skip


def _normal(level: float) -> float:
    from scipy.special import ndtri

    from pkpd.ground.errors import InputError

    if not 0.0 < level < 1.0:
        raise InputError("must be between 0 and 1", field="level", value=level)
    return float(ndtri(0.5 + 0.5 * level))


def _limits(ratio: Floats, variance: Floats, z: float) -> tuple[Floats, Floats]:
    """Log-normal limits; NaN where a cell is empty."""
    known = np.isfinite(ratio) & (ratio > 0) & np.isfinite(variance)
    half = z * np.sqrt(np.where(known, variance, 0.0))
    return np.where(known, ratio * np.exp(-half), np.nan), np.where(known, ratio * np.exp(half), np.nan)


def _rescued(low: Floats, high: Floats, cells: tuple[Floats, ...], *, level: float, odds: bool) -> None:
    """Score limits where an empty cell leaves the log-normal ones undefined; in place."""
    from trials.analysis.binary import miettinen_nurminen_ratio
    from trials.analysis.stratified import odds_ratio

    lost = np.flatnonzero(np.isnan(low))
    if lost.size == 0:
        return
    found, back = np.unique(np.stack([cell[lost] for cell in cells]), axis=1, return_inverse=True)
    a, b, c, d = found
    interval = (odds_ratio if odds else miettinen_nurminen_ratio)(a, a + b, c, c + d, level=level)
    low[lost], high[lost] = interval.lower[back], interval.upper[back]


def yates(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    """Pearson's chi-squared with continuity correction, which never turns the sign of the difference."""
    total = a + b + c + d
    top = np.maximum(np.abs(a * d - b * c) - 0.5 * total, 0.0)
    below = (a + b) * (c + d) * (a + c) * (b + d)
    out: Floats = np.divide(total * top * top, below, out=np.full(a.shape, np.nan), where=below > 0)
    return out


def odds_ratio_limit(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    """Lower log-normal 95 % limit of the reporting odds ratio; infinite where b or c is 0, with a > 0.

    >>> odds_ratio_limit(*(np.array([x]) for x in (9.0, 91.0, 100.0, 9900.0))).round(4).tolist()
    [4.8011]
    """
    z = _normal(0.95)
    return np.asarray(np.exp(np.log(a * d / (b * c)) - z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)))


def information(n: Floats, expected: Floats, tail: float) -> tuple[Floats, Floats, Floats]:
    """log2((n + 1/2)/(expected + 1/2)) and its limits, of the `tail` quantiles of Gamma(n + 1/2, expected + 1/2)."""
    from scipy.special import gammaincinv

    cells, back = np.unique(np.stack([n, expected]), axis=1, return_inverse=True)
    shape, rate = cells[0] + 0.5, cells[1] + 0.5
    low, high = (np.log2(gammaincinv(shape, q) / rate) for q in (tail, 1.0 - tail))
    return np.log2(shape / rate)[back], low[back], high[back]


def _likelihood_ratio(n: Floats, expected: Floats, of_product: Ints) -> Floats:
    """Huang's log likelihood ratio of the event among the reports of its product, 0 unless n > expected."""
    from scipy.special import xlogy

    rest, left = of_product - n, np.maximum(of_product - expected, 1e-300)
    return np.where(n > expected, xlogy(n, n / expected) + xlogy(rest, rest / left), 0.0)
