"""Two products and an event: is the event reported with both more often than the two alone would add up to?

Omega = log2((n + 1/2) / (E + 1/2)) with n reports of the event among the m that name both products, and E what the odds
of the event with neither and with either product lead to if their excesses add: with f the shares of the event and
o = f/(1 - f), E = m (1 - 1/(max(o00, o10) + max(o00, o01) - o00 + 1)). Its limits are those of a gamma posterior, as of
the IC. Norén, Sundberg, Bate & Edwards, Stat Med 2008;27:3057.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.analysis.signals import information, unique_codes
from trials.analysis.signals_reports import Reports

__all__ = ["Together", "together"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Triples (K,) with at least `least` reports: codes of the products (first < second) and the event; n: reports of
    all three; both: of both products; expected; omega with its limits; order: ranks by the lower limit.
    """

    first: Ints
    second: Ints
    event: Ints
    n: Ints
    both: Ints
    expected: Floats
    omega: Floats
    lower: Floats
    upper: Floats
    order: Ints


def together(table: Reports, *, least: int = 3, level: float = 0.95) -> Together:
    """Omega of every triple that at least `least` reports name.

    Errors: InputError where reports name so many products that there are more than 50 million triples.

    >>> from trials.analysis.signals_reports import reports
    >>> ids = [str(k) for k in range(8) for _ in range(2)]
    >>> made = together(reports(ids, ["A", "B"] * 4 + ["A", "C"] * 4, ["rash"] * 8 + ["fever"] * 8), least=1)
    >>> made.n.tolist(), made.both.tolist()
    ([4, 4], [4, 4])
    """
    sizes = len(table.products), len(table.events)
    owner, product = unique_codes(table.report, table.product, sizes[0])
    i, j = _pairs(owner)
    pairs = product[i] * sizes[0] + product[j]
    keys, both = np.unique(pairs, return_counts=True)
    triples = _triples(owner[i], np.searchsorted(keys, pairs), unique_codes(table.report, table.event, sizes[1]))
    names, n = np.unique(triples[0] * sizes[1] + triples[1], return_counts=True)
    names, n = names[n >= least], n[n >= least].astype(np.int64)
    pair, event = np.divmod(names, max(sizes[1], 1))
    first, second = np.divmod(keys[pair], max(sizes[0], 1))
    expected = _expected(table, (first, second, event), (n, both[pair]))
    omega, lower, upper = information(n.astype(np.float64), expected, 0.5 * (1.0 - level))
    return Together(
        first=first, second=second, event=event, n=n, both=both[pair].astype(np.int64), expected=expected, omega=omega,
        lower=lower, upper=upper, order=np.argsort(-lower, kind="stable"),
    )  # fmt: skip


def _pairs(owner: Ints) -> tuple[Ints, Ints]:
    """Places i < j of one owner; owner is sorted."""
    last = np.searchsorted(owner, owner, side="right")
    later = last - np.arange(len(owner)) - 1
    _bounded(int(later.sum()))
    i = np.repeat(np.arange(len(owner)), later)
    return i, i + 1 + _within(later)


def _triples(owner: Ints, pair: Ints, events: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Every pair of a report with every event of it."""
    low, high = (np.searchsorted(events[0], owner, side=side) for side in ("left", "right"))
    many = high - low
    _bounded(int(many.sum()))
    return np.repeat(pair, many), events[1][np.repeat(low, many) + _within(many)]


def _within(sizes: Ints) -> Ints:
    """0, 1 ... of each run."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _bounded(size: int) -> None:
    if size > _MOST:
        raise InputError("too many combinations of products in one report", field="reports", value=size,
                         remedy="keep suspected and interacting products only")  # fmt: skip


def _expected(table: Reports, which: tuple[Ints, Ints, Ints], seen: tuple[Ints, Ints]) -> Floats:
    """E of triples (first, second, event) seen (n, both) times."""
    (first, second, event), (n, both) = which, seen
    sizes, reports = (len(table.products), len(table.events)), len(table.stratum)
    products = np.bincount(unique_codes(table.report, table.product, sizes[0])[1], minlength=sizes[0])
    events = np.bincount(unique_codes(table.report, table.event, sizes[1])[1], minlength=sizes[1])
    keys, many = np.unique(
        unique_codes(table.report, table.product * sizes[1] + table.event, sizes[0] * sizes[1])[1], return_counts=True
    )

    def with_event(product: Ints) -> Ints:
        place = np.searchsorted(keys, product * sizes[1] + event)
        return np.asarray(many[place])

    one, other = with_event(first) - n, with_event(second) - n
    neither = reports - products[first] - products[second] + both
    o00 = np.nan_to_num(_odds(events[event] - one - other - n, neither), nan=0.0, posinf=np.inf)
    o10, o01 = _odds(one, products[first] - both), _odds(other, products[second] - both)
    with np.errstate(invalid="ignore"):
        added = np.fmax(o00, o10) + np.fmax(o00, o01) - o00
    return np.asarray(both * (1.0 - 1.0 / (np.where(np.isinf(o00), np.inf, added) + 1.0)))


def _odds(events: Ints, of: Ints) -> Floats:
    """Odds of the event; NaN where there is no such report, which says nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(of > 0, events / (of - events).astype(np.float64), np.nan)
