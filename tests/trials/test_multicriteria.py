"""Benefit against risk: Altman's numbers needed, geometry of two weights, normal draws; every number by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals, uniforms
from trials.analysis import binary
from trials.analysis.nnt import Needed, needed, needed_of_draws
from trials.multicriteria import (
    Criterion,
    best_by_weight,
    central_weights,
    effects_table,
    outside,
    smaa,
    thresholds,
    values,
    weighed,
)

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


HEPARIN = (("proximal", 0.25, 0.0), ("distal", 0.4, 0.15), ("bleeding", 0.1, 0.0))
COUNTS = (((20, 136), (40, 136), (1, 136)), ((8, 129), (32, 129), (5, 129)))


def thrombo(draws: int) -> tuple[np.ndarray, list[Criterion]]:
    """Heparin, enoxaparin: beta(events, n - events) on linear ranges, by quantiles of our uniform numbers."""
    u = uniforms(3, Purpose.SWING_WEIGHTS, subject=np.arange(draws)[:, None, None], replicate=np.arange(2)[:, None],
                 slot=np.arange(3))  # fmt: skip
    events, n = (np.array([[c[k] for c in arm] for arm in COUNTS]) for k in (0, 1))
    effects = stats.beta.ppf(u, events, n - events)
    return effects, [Criterion(name=name, worst=worst, best=best) for name, worst, best in HEPARIN]


def test_published_heparin_and_enoxaparin() -> None:
    """R package smaa 0.2, tests/Examples/smaa-Ex.Rout.save (10,000 draws: standard error 0.005; the measurements are
    those of Lynd & O'Brien's trial of thrombosis after trauma, as examples/thrombolytics.json of the MCDA elicitation
    program has them): acceptabilities, central weights, confidence factors, and the scores at weights 0.5, 0.2, 0.3.
    """
    effects, criteria = thrombo(20_000)
    made = smaa(effects, criteria, seed=5)
    np.testing.assert_allclose(made.rank[:, 0], [0.3504, 0.6496], atol=0.018)
    np.testing.assert_allclose(
        made.central, [[0.1865, 0.2772, 0.5363], [0.4073, 0.3641, 0.2285]], atol=0.012)  # fmt: skip
    np.testing.assert_allclose(made.confidence, [0.6682, 0.8956], atol=0.02)
    np.testing.assert_allclose(made.score.mean(axis=0), [0.5895, 0.6584], atol=0.006)
    np.testing.assert_allclose(np.quantile(made.score, 0.5, axis=0), [0.5885, 0.6690], atol=0.007)
    fixed = weighed(effects, criteria, weights=[0.5, 0.2, 0.3])
    np.testing.assert_allclose(fixed.rank[:, 0], [0.1279, 0.8721], atol=0.016)


def test_values_linear_by_pieces() -> None:
    """R package smaa, tests/pvf.R: cutoffs -0.15, 0, 0.25, 0.35 worth 0, 0.1, 0.9, 1; a falling one clipped."""
    up = Criterion(name="a", worst=-0.15, best=0.35, points=((0.0, 0.1), (0.25, 0.9)))
    down = Criterion(name="b", worst=100, best=50, points=((75, 0.8), (90, 0.5)))
    got, _ = values(
        np.array([[[0.35, 50.0]], [[-0.15, 60.0]], [[0.0, 75.0]], [[0.1, 90.0]], [[0.25, 120.0]]]), [up, down]
    )
    np.testing.assert_allclose(got[:, 0, 0], [1, 0, 0.1, 2 / 5 * 0.8 + 0.1, 0.9])
    np.testing.assert_allclose(got[:, 0, 1], [1, 1 - 2 / 5 * 0.2, 0.8, 0.5, 0])
    share = outside([[[0.1, 40.0]], [[0.5, 60.0]]], [up, down])
    np.testing.assert_allclose(share, [[0.5, 0.5]])
    for points in (((0.5, 0.1),), ((0.0, 0.5), (0.2, 0.4)), ((0.0, 1.2),)):
        with pytest.raises(InputError, match="points"):
            values(np.zeros((1, 1, 1)), [Criterion(name="a", worst=0, best=0.35, points=points)])


def test_an_ordinal_order_has_the_centroid_and_the_area_of_its_part_of_the_simplex() -> None:
    """Barron & Barrett 1996: rank order centroid 11/18, 5/18, 2/18. Three alternatives, each the best of one criterion:
    each first rank is a third of the simplex; in the order c > a > b only c's is left. A place shared by two: their
    centroid is the mean of the two, and each of them leads in half of the weights."""
    names = ["a", "b", "c"]
    np.testing.assert_allclose(central_weights(names, ["c", "a", "b"]), [5 / 18, 2 / 18, 11 / 18])
    np.testing.assert_allclose(central_weights(names, [["a", "c"], "b"]), [8 / 18, 2 / 18, 8 / 18])
    each = [Criterion(name=name, worst=0, best=1) for name in names]
    free = smaa(np.eye(3)[None], each, weights=30_000)
    np.testing.assert_allclose(free.rank[:, 0], 1 / 3, atol=0.01)
    # best of the first where w_a is the largest: mean of the largest of three even weights 11/18, of the others 7/36
    np.testing.assert_allclose(free.central[0], [11 / 18, 7 / 36, 7 / 36], atol=0.006)
    assert smaa(np.eye(3)[None], each, order=["c", "a", "b"]).rank[:, 0].tolist() == [0, 0, 1]
    shared = smaa(np.eye(3)[None], each, order=[["a", "c"], "b"], weights=30_000)
    np.testing.assert_allclose(shared.rank[:, 0], [0.5, 0.0, 0.5], atol=0.01)
    np.testing.assert_allclose(shared.central[0], [11 / 18, 2 / 18, 5 / 18], atol=0.006)
    with pytest.raises(InputError, match="every criterion once"):
        central_weights(names, [["a", "a"], "b"])


def test_acceptability_of_three_criteria_is_an_area() -> None:
    """(1, 0, 0) against (0, 1/2, 1/2): the first is best where w1 > (1 - w1)/2, w1 > 1/3, area (2/3)^2 = 4/9."""
    made = smaa(np.array([[[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]]), [*UNIT, Criterion(name="c", worst=0, best=1)])
    np.testing.assert_allclose(made.rank[:, 0], [4 / 9, 5 / 9], atol=0.01)
    np.testing.assert_allclose(made.central[0, 0], 1 / 3 + 2 / 9, atol=0.006)  # centroid of the small triangle


def test_threshold_weights_by_hand() -> None:
    """(1, 0), (0, 1), (0.6, 0.6): the third between weights 0.4 and 0.6; P(best) by weight jumps there. Three criteria:
    score of a is w1, of b (1 - w1)(0.3 x 0.5 + 0.2 x 1)/0.5 = 0.7 (1 - w1): equal at 7/17."""
    partial = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
    first, second = thresholds(partial, ["a", "b"], [0.5, 0.5])
    np.testing.assert_allclose(first.pieces, [(0, 0.4, 1), (0.4, 0.6, 2), (0.6, 1, 0)])
    np.testing.assert_allclose([first.below, first.above, second.below, second.above], [0.4, 0.6, 0.4, 0.6])
    assert (first.next_below, first.next_above, second.next_above) == (1, 0, 1)
    chance = best_by_weight(partial[None], [0.5, 0.5], [0.0, 0.39, 0.5, 0.6, 1.0])
    np.testing.assert_allclose(chance[0], [[0, 1, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0.5], [1, 0, 0]])
    three = thresholds([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]], ["a", "b", "c"], [0.5, 0.3, 0.2])
    np.testing.assert_allclose(three[0].above, np.nan)
    np.testing.assert_allclose(three[0].below, 7 / 17)
    # all the weight on one criterion: the others share what it gives up equally
    np.testing.assert_allclose(
        thresholds([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]], ["a", "b", "c"], [1, 0, 0])[0].below, 3 / 7
    )


def test_what_cannot_be_weighed_is_refused_and_what_is_odd_is_right() -> None:
    """Ties, one alternative, one draw, a steep curve; ranges without length or end, weights that do not sum to 1."""
    one = weighed(np.full((4, 1, 2), 0.5), UNIT)
    assert (one.rank.tolist(), one.mean.tolist()) == ([[1.0]], [0.5])
    assert smaa(np.full((4, 1, 2), 0.5), UNIT).confidence.tolist() == [1.0]
    tied = smaa(np.full((4, 2, 2), 0.5), UNIT)
    assert (tied.confidence.tolist(), tied.rank[:, 0].tolist()) == ([0.5, 0.5], [0.5, 0.5])
    single = weighed(np.full((1, 2, 2), 0.5), UNIT)
    assert np.isnan([single.lower, single.upper]).all()
    assert single.mean.tolist() == [0.5, 0.5]
    steep, _ = values([[[0.0, 0.0], [0.999, 0.001], [1.0, 1.0]]],
                      [Criterion(name="a", worst=0, best=1, curve=-1e4), Criterion(name="b", worst=0, best=1, curve=1e4)])  # fmt: skip
    np.testing.assert_allclose(steep[0], [[0, 0], [math.exp(-10), 1 - math.exp(-10)], [1, 1]], atol=1e-12)
    even = effects_table(np.zeros((5, 2, 1)), [NAUSEA], alternative=1)[0]
    assert (even.better, even.difference) == (0.5, 0.0)
    bits = np.array([[[0.1], [0.3 - 0.2]], [[0.3], [0.1 + 0.2]], [[0.6], [0.6]]])  # equal but for the last bit
    assert effects_table(bits, [NAUSEA], alternative=1)[0].better == 0.5
    bad = {
        "finite ends": Criterion(name="a", worst=0, best=math.inf), "swing": Criterion(name="a", worst=0, best=1, swing=math.inf),
        "swing weight": Criterion(name="a", worst=0, best=1, swing=math.nan), "not its worst": Criterion(name="a", worst=1, best=1),
        "curve": Criterion(name="a", worst=0, best=1, curve=math.nan),
    }  # fmt: skip
    for words, criterion in bad.items():
        with pytest.raises(InputError, match=words):
            weighed(np.zeros((2, 2, 1)), [criterion])
    for shape in ((0, 2, 2), (2, 0, 2), (2, 2)):
        with pytest.raises(InputError, match="none of them empty"):
            weighed(np.zeros(shape), UNIT)
    with pytest.raises(InputError, match="twice"):
        smaa(np.zeros((2, 2, 2)), [UNIT[0], UNIT[0]])
    with pytest.raises(InputError, match="sum to 1"):
        weighed(np.zeros((2, 2, 2)), UNIT, weights=[0.5, 0.6])
    for alternative in (0, -1, 2):
        with pytest.raises(InputError):
            effects_table(np.zeros((2, 2, 2)), UNIT, alternative=alternative)
