"""Test of the likelihood ratio: are a product's reports like as many reports drawn at random from its strata?

Huang, Zalkikar & Tiwari, JASA 2011;106:1230, with their statistic (the largest log likelihood ratio over a product's
events), but drawing whole reports without replacement instead of events from a multinomial law: events of a report
come together, and a report names several. Products: false discovery rate of Benjamini & Hochberg, JRSS B 1995;57:289.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trials.analysis.signals import Counts, counts, disproportionality
from trials.analysis.signals_reports import Reports

__all__ = ["RatioTest", "likelihood_ratio_test"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_AT_A_TIME = 200
_SAME = 1e-9  # values of the two ways to compute them that count as equal


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioTest:
    """p (K,) of every pair, adjusted for the events of its product; p_product, fdr (P,): of the product's largest.

    Monte Carlo p-values are (1 + as large) / (1 + replicates): none is smaller than 1 / (1 + replicates).
    """

    p: Floats
    p_product: Floats
    fdr: Floats
    replicates: int


def likelihood_ratio_test(table: Reports, *, seed: int, replicates: int = 4999) -> RatioTest:
    """Draw and compare; InputError for fewer than 19 replicates.

    >>> from trials.analysis.signals_reports import reports
    >>> made = reports(list("12345678"), list("AABBBBBB"), ["rash"] * 2 + ["fever"] * 6)
    >>> likelihood_ratio_test(made, seed=1, replicates=99).p_product[0] < 0.15  # 1 of 28 draws is as extreme
    np.True_
    """
    from pkpd.ground.errors import InputError

    if replicates < 19:
        raise InputError("must be at least 19", field="replicates", value=replicates, remedy="4999 or more")
    made = counts(table)
    seen = disproportionality(made).log_lr
    sizes, which = np.unique(made.by_stratum[1].T, axis=0, return_inverse=True)
    null = np.sort(_drawn(table, made, sizes, (seed, replicates)), axis=0)
    which = which.ravel()
    p = _tail(null, which[made.product], seen)
    largest = np.zeros(len(table.products))
    np.maximum.at(largest, made.product, seen)
    p_product = _tail(null, which, largest)
    return RatioTest(p=p, p_product=p_product, fdr=_false_discoveries(p_product), replicates=replicates)


def _tail(null: Floats, column: Ints, seen: Floats) -> Floats:
    out = np.empty(seen.size)
    for c in np.unique(column):
        at = np.flatnonzero(column == c)
        below = np.searchsorted(null[:, c], seen[at] * (1 - _SAME) - _SAME)
        out[at] = (1 + null.shape[0] - below) / (1 + null.shape[0])
    return out


def _drawn(table: Reports, made: Counts, sizes: Ints, chance: tuple[int, int]) -> Floats:
    """Largest log likelihood ratio (B, C) of as many random reports as each of the different products has."""
    from pkpd.ground.streams import Purpose, uniforms
    from trials.kernels.signals import largest

    seed, replicates = chance
    of_reports, _, of_events = made.by_stratum
    named = np.unique(table.report * max(len(table.events), 1) + table.event)
    report, event = np.divmod(named, max(len(table.events), 1))
    size = table.stratum.size
    offset = np.concatenate([[0], np.cumsum(np.bincount(report, minlength=size))])
    begin = np.concatenate([[0], np.cumsum(of_reports)])
    out = np.empty((replicates, sizes.shape[0]))
    for first in range(0, replicates, _AT_A_TIME):
        which = np.arange(first, min(first + _AT_A_TIME, replicates))
        u = uniforms(seed, Purpose.REPORT_ORDER, subject=np.arange(size), replicate=which[:, None])
        order = np.argsort(u + table.stratum, axis=1, kind="stable")
        largest(
            order,
            begin,
            np.ascontiguousarray(sizes),
            offset,
            event,
            of_events,
            of_reports,
            out[which[0] : which[-1] + 1],
        )
    return out


def _false_discoveries(p: Floats) -> Floats:
    """Adjusted p-values of Benjamini and Hochberg."""
    order = np.argsort(p, kind="stable")
    ranked = p[order] * p.size / np.arange(1, p.size + 1)
    out = np.empty(p.size)
    out[order] = np.minimum.accumulate(ranked[::-1])[::-1]
    return np.minimum(out, 1.0)
