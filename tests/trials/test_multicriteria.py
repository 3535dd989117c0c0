"""Benefit against risk: Altman's numbers needed, geometry of two weights, normal draws; every number by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from trials.analysis import binary
from trials.analysis.nnt import Needed, needed, needed_of_draws
from trials.multicriteria import Criterion, effects_table, smaa, values, weighed

RESPONSE = Criterion(name="response", worst=0.2, best=0.7, swing=60)
NAUSEA = Criterion(name="nausea", worst=0.4, best=0.0, swing=30, kind="unfavourable")
FALLS = Criterion(name="falls", worst=0.1, best=0.0, swing=10, kind="unfavourable")
UNIT = [Criterion(name=name, worst=0, best=1) for name in ("a", "b")]


def test_altman() -> None:
    """BMJ 1998;317:1309, as told by Newcombe's response there: ARR 10 % (-5 to 25) is NNTB 4 to infinity to NNTH 20."""
    found = needed(-0.10, -0.25, 0.05)
    assert found.text() == "NNTB 10 (NNTB 4 to ∞ to NNTH 20)"
    assert [(name, round(least, 9), most) for name, least, most in found.pieces] == [
        ("NNTB", 4.0, math.inf), ("NNTH", 20.0, math.inf)]  # fmt: skip


def test_numbers_needed_at_every_sign() -> None:
    """Both limits on one side, one of them 0, no difference at all, no data; an event that is good."""
    assert needed(0.10, 0.05, 0.25).text() == "NNTH 10 (NNTH 4 to 20)"
    assert needed(0.10, 0.05, 0.25, harmful=False).text() == "NNTB 10 (NNTB 4 to 20)"
    assert needed(0.10, 0.0, 0.25).text() == "NNTH 10 (NNTH 4 to ∞)"
    assert needed(0.0, -0.1, 0.1).text() == "∞ (NNTB 10 to ∞ to NNTH 10)"
    assert needed(0.4, -0.1, 0.9).text() == "NNTH 2.5 (NNTB 10 to ∞ to NNTH 1.1)"
    assert Needed(benefit=math.nan, lower=-1.0, upper=1.0).text() == "–"
    with pytest.raises(InputError):
        needed(0.3, 0.4, 0.5)


def test_an_interval_of_the_number_covers_as_that_of_the_difference() -> None:
    """Bender 2001: exactly the differences of the interval are in its pieces, whatever their signs."""
    risk = binary.miettinen_nurminen([5, 12, 30], [100] * 3, [12, 12, 5], [100] * 3)
    for d, low, high in zip(risk.estimate, risk.lower, risk.upper, strict=True):
        pieces = needed(float(d), float(low), float(high)).pieces
        for truth in np.linspace(-0.4, 0.4, 41):
            name, size = ("NNTB" if truth < 0 else "NNTH"), math.inf if abs(truth) < 1e-12 else 1 / abs(truth)
            inside = any(size == most if math.isinf(size) else name == piece and least <= size <= most
                         for piece, least, most in pieces)  # fmt: skip
            assert inside == (low <= truth <= high), (d, truth)
    draws = 0.05 + 0.1 * normals(1, Purpose.SWING_WEIGHTS, subject=np.arange(20000), replicate=0)
    assert needed_of_draws(draws).text().startswith("NNTH 20 (NNTB 6.9 to ∞ to NNTH 4")


def test_scores_by_hand() -> None:
    """0.6 x (0.45 - 0.2)/0.5 + 0.3 x (0.4 - 0.1)/0.4 + 0.1 x (0.1 - 0.02)/0.1 = 0.605."""
    draws = [[[0.45, 0.1, 0.02], [0.2, 0.0, 0.0]]]
    made = weighed(draws, [RESPONSE, NAUSEA, FALLS])
    np.testing.assert_allclose(made.mean, [0.605, 0.4], atol=1e-12)
    np.testing.assert_allclose(made.parts[0], [0.3, 0.225, 0.08], atol=1e-12)
    np.testing.assert_allclose(made.weights, [0.6, 0.3, 0.1])
    bent = Criterion(name="a", worst=0, best=1, curve=2.0)
    got, outside = values([[[0.5], [1.5]]], [bent])
    np.testing.assert_allclose(got[0, :, 0], [(1 - math.exp(-1)) / (1 - math.exp(-2)), 1.0])
    assert outside == 0.5


def test_ranks_under_uncertainty() -> None:
    """Two normal effects: P(best) is Phi(difference over its sd); every rank and every alternative sums to one."""
    z = normals(2, Purpose.SWING_WEIGHTS, subject=np.arange(40000)[:, None], replicate=np.arange(2))
    draws = (0.5 + np.array([0.01, 0.0]) + 0.02 * z)[..., None]
    made = weighed(draws, UNIT[:1])
    assert abs(made.rank[0, 0] - stats.norm.cdf(0.01 / (0.02 * math.sqrt(2)))) < 0.008
    np.testing.assert_allclose(made.rank.sum(axis=0), 1.0)
    np.testing.assert_allclose(made.rank.sum(axis=1), 1.0)
    tied = weighed(np.ones((3, 2, 1)), UNIT[:1])
    np.testing.assert_allclose(tied.rank, 0.5)
    by_group = weighed(np.stack([draws, draws[:, ::-1]], axis=1), UNIT[:1])
    np.testing.assert_allclose(by_group.rank[1], by_group.rank[0][::-1])


def test_acceptability_without_weights() -> None:
    """(1, 0), (0, 1), (0.6, 0.6): the third is best for a first weight in (0.4, 0.6), the others for 0.4 each."""
    draws = np.array([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]]])
    made = smaa(draws, UNIT, weights=40000)
    np.testing.assert_allclose(made.rank[:, 0], [0.4, 0.4, 0.2], atol=0.01)
    np.testing.assert_allclose(made.central, [[0.8, 0.2], [0.2, 0.8], [0.5, 0.5]], atol=0.01)
    assert made.confidence.tolist() == [1.0, 1.0, 1.0]
    first = smaa(draws, UNIT, weights=40000, order=["a", "b"])
    np.testing.assert_allclose(first.rank[:, 0], [0.8, 0.0, 0.2], atol=0.01)
    assert np.isnan(first.central[1]).all()
    with pytest.raises(InputError):
        smaa(draws, UNIT, order=["a"])


def test_effects_table() -> None:
    """Means and limits of the draws; for a risk, lower is better; what is not finite is refused."""
    draws = np.stack(
        [np.full((101, 2), [0.3, 0.1]), np.column_stack([np.linspace(0.4, 0.6, 101), np.full(101, 0.2)])], 1
    )
    lines = effects_table(draws, [RESPONSE, NAUSEA], alternative=1)
    assert [line.name for line in lines] == ["response", "nausea"]
    np.testing.assert_allclose([lines[0].difference, lines[0].lower, lines[0].upper], [0.2, 0.105, 0.295])
    assert (lines[0].better, lines[1].better) == (1.0, 0.0)
    with pytest.raises(InputError, match="finite"):
        weighed(np.full((2, 2, 1), np.nan), UNIT[:1])
    with pytest.raises(InputError, match="best"):
        weighed(np.ones((2, 2, 1)), [Criterion(name="a", worst=1, best=1)])
