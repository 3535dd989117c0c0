"""Omega of two products and an event. Witnesses: counting by plain loops with the formula of Norén et al. 2008, additive
risks that give 0, the quantiles of scipy's gamma.
"""

import numpy as np
import pytest
from scipy import stats

from trials.analysis.signals_reports import reports
from trials.analysis.signals_together import together


@pytest.fixture(scope="module")
def table():
    """600 reports, each of one to four of six products and one to three of five events; A with B gives e0."""
    rng, rows = np.random.default_rng(2), []
    for k in range(600):
        products = rng.choice(list("ABCDEF"), rng.integers(1, 5), replace=False)
        events = set(rng.choice(5, rng.integers(1, 4), replace=False))
        if {"A", "B"} <= set(products) and rng.uniform() < 0.6:
            events.add(0)
        rows += [(str(k), p, f"e{e}") for p in products for e in events]
    return rows


def by_hand(rows, first, second, event):
    named, happened = {}, {}
    for report, product, what in rows:
        named.setdefault(report, set()).add(product)
        happened.setdefault(report, set()).add(what)
    cell = {(x, y): [0, 0] for x in (0, 1) for y in (0, 1)}
    for report, products in named.items():
        place = cell[int(first in products), int(second in products)]
        place[0] += event in happened[report]
        place[1] += 1
    odds = {key: n / (of - n) for key, (n, of) in cell.items() if key != (1, 1)}
    low = odds[0, 0]
    n, both = cell[1, 1]
    return n, both, both * (1 - 1 / (max(low, odds[1, 0]) + max(low, odds[0, 1]) - low + 1))


def test_every_triple_is_that_of_loops(table):
    made = together(reports(*map(list, zip(*table, strict=True))), least=1)
    products, events = "ABCDEF", [f"e{k}" for k in range(5)]
    assert len(made.n) == 15 * 5
    for k in range(len(made.n)):
        n, both, expected = by_hand(table, products[made.first[k]], products[made.second[k]], events[made.event[k]])
        assert (made.n[k], made.both[k]) == (n, both)
        assert made.expected[k] == pytest.approx(expected, rel=1e-12)
        assert made.omega[k] == pytest.approx(np.log2((n + 0.5) / (expected + 0.5)), rel=1e-12, abs=1e-12)
        assert made.lower[k] == pytest.approx(np.log2(stats.gamma.ppf(0.025, n + 0.5) / (expected + 0.5)), rel=1e-9)
    top = made.order[0]
    assert (products[made.first[top]], products[made.second[top]], events[made.event[top]]) == ("A", "B", "e0")
    assert made.lower[top] > 0


def test_order_and_repetition_of_lines_change_nothing_and_rare_triples_are_left_out(table):
    base = together(reports(*map(list, zip(*table, strict=True))), least=35)
    again = together(reports(*map(list, zip(*(table[::-1] + table[:50]), strict=True))), least=35)
    np.testing.assert_array_equal(base.lower, again.lower)
    assert (base.n >= 35).all()
    assert 0 < len(base.n) < 75


def test_excesses_that_add_up_are_expected():
    """Odds 1/9 with neither, 3/9 and 4/9 with one: odds 6/9 with both are no interaction."""
    rows = []
    for products, of, n in ((["X"], 100, 10), (["A"], 120, 30), (["B"], 130, 40), (["A", "B"], 150, 60)):
        for k in range(of):
            name = "".join(products) + str(k)
            rows += [(name, p, "hit" if k < n else "miss") for p in products]
    made = together(reports(*map(list, zip(*rows, strict=True))))
    hit = np.flatnonzero(made.event == 0)
    assert made.expected[hit][0] == pytest.approx(60.0, rel=1e-12)
    assert made.omega[hit][0] == pytest.approx(0.0, abs=1e-12)
    empty = together(reports(["1", "2"], ["A", "B"], ["x", "x"]))
    assert len(empty.n) == 0
