"""Grades that move: against R's msm, a two-state chain in closed form, and the law of rescaled time.

R> library(msm)   # 1.7
R> Q <- rbind(c(0, .010, 0, 0), c(.030, 0, .005, 0), c(0, .020, 0, .004), c(0, 0, .015, 0)); diag(Q) <- -rowSums(Q)
R> Q2 <- rbind(c(0, .030, 0, 0), c(.030, 0, .015, 0), c(0, .020, 0, .012), c(0, 0, .015, 0)); diag(Q2) <- ...
R> m <- msm(state ~ time, subject, simmulti.msm(...), qmatrix = Q, fixedpars = TRUE)
R> pmatrix.msm(m, t = 100); MatrixExp(Q * 100) %*% MatrixExp(Q2 * 60); totlos.msm(m, start = 1, tot = 240)
R> Qa <- Q; Qa[4, ] <- 0; MatrixExp(Qa * 240)[1, 4]; Qb <- Qa; Qb[3, ] <- 0; sum(MatrixExp(Qb * 240)[1, 3:4])
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import slots
from pkpd.model.grades import Path, first_reached, grade_at, rises, spent, walked
from pkpd.model.outcomes import thresholds_at
from pkpd.model.spec import Model

MOVES = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
LOW = [0.010, 0.030, 0.005, 0.020, 0.004, 0.015]
HIGH = [0.030, 0.030, 0.015, 0.020, 0.012, 0.015]
N, TURN = 6_000, 100.0
AT_100 = [0.72781378618778, 0.22626721706581, 0.04044703580724, 0.00547196093916]
AT_160 = [0.4167291246316, 0.3608768216080, 0.1632221161962, 0.0591719375641]
AT_240 = [0.7009421058684, 0.2314715667328, 0.0547762570666, 0.0128100703322]
STAYS_240 = [179.48556888020, 49.85992648901, 9.08566525231, 1.56883937847]


@lru_cache
def path(turned: bool) -> Path:
    """N paths by address, for some 600 h; intensities LOW until hour 100, from then on HIGH if they turn."""
    later = HIGH if turned else LOW
    points = []
    for (origin, target), before, after in zip(MOVES, LOW, later, strict=True):
        slot = int(slots([f"hfs.{origin}>{target}"])[0])
        wanted = thresholds_at(3, subject=np.arange(N), replicate=np.zeros(N, np.int64), event=slot, occurrences=36)
        early = wanted / before
        points.append(np.where(early <= TURN, early, TURN + (wanted - before * TURN) / after))
    return walked(np.zeros(N, np.int8), MOVES, points)


def shares(found: Path, hour: float) -> np.ndarray:
    return np.bincount(grade_at(found, np.full((N, 1), hour))[:, 0], minlength=4) / N


def z(found: np.ndarray, expected: list[float]) -> np.ndarray:
    p = np.array(expected)
    return (found - p) / np.sqrt(p * (1 - p) / N)


def test_shares_at_each_grade_are_those_of_the_matrix_exponential() -> None:
    """pmatrix.msm, constant and constant in pieces: all within 4 standard errors of 6,000 paths."""
    constant, turned = path(False), path(True)
    assert np.abs(z(shares(constant, 100.0), AT_100)).max() < 4
    assert np.abs(z(shares(constant, 240.0), AT_240)).max() < 4
    assert np.abs(z(shares(turned, 160.0), AT_160)).max() < 4
    assert np.array_equal(shares(constant, 99.0), shares(turned, 99.0))  # what is to come changes nothing before


def test_maximum_grade_and_time_at_grades() -> None:
    """P(maximum >= g) by making g absorbing; totlos.msm."""
    found = path(False)
    reached = first_reached(*(rises(found), found.grade)) <= 240.0
    expected = [1 - np.exp(-0.010 * 240), 0.219064989482, 0.0333842480461]
    assert np.abs(z(reached[:, :3].mean(axis=0), expected)).max() < 4
    assert not reached[:, 3:].any()
    hours = spent(found, np.full(N, 240.0))[:, :3]
    staying = np.cumsum(STAYS_240[:0:-1])[::-1]
    assert np.abs((hours.mean(axis=0) - staying) / (hours.std(axis=0) / np.sqrt(N))).max() < 4


def test_time_rescaled_by_the_cumulative_intensity_is_exponential() -> None:
    """Ogata, J Am Stat Assoc 1988;83:9: the intensity of leaving summed over each stay is a standard exponential."""
    found = path(True)
    known = np.concatenate([found.start[:, None], found.grade], axis=1)
    leaving = [[sum(q for (origin, _), q in zip(MOVES, rates, strict=True) if origin == g) for g in range(4)]
               for rates in (LOW, HIGH)]  # fmt: skip
    for number in (0, 1, 3):  # first, second and fourth stay of every path
        begin = np.zeros(N) if number == 0 else found.time[:, number - 1]
        end, at = found.time[:, number], known[:, number]
        early = np.clip(np.minimum(end, TURN) - np.minimum(begin, TURN), 0, None)
        late = np.clip(np.maximum(end, TURN) - np.maximum(begin, TURN), 0, None)
        total = early * np.array(leaving[0])[at] + late * np.array(leaving[1])[at]
        assert np.isfinite(total).all()
        assert stats.kstest(total, "expon").pvalue > 0.01
    q = np.array([0.030, 0.015]) / 0.045  # where a jump from grade 1 after hour 100 goes
    one = (known[:, :-1] == 1) & (found.time > TURN) & (found.time < 500.0)
    down = (found.grade == 0)[one].mean()
    assert abs(down - q[0]) < 4 * np.sqrt(q[0] * q[1] / one.sum())


def test_a_path_written_out() -> None:
    """By hand: points at the wrong grade are passed over; a jump counts from its own time on."""
    inf = np.inf
    found = walked(
        np.array([0, 2], np.int8), [(0, 1), (1, 2), (2, 0)],
        [np.array([[3.0, 4.0], [1.0, 9.0]]), np.array([[2.0, 8.0], [inf, inf]]), np.array([[9.0, inf], [5.0, 6.0]])],
    )  # fmt: skip
    assert found.time.tolist() == [[3.0, 8.0, 9.0], [5.0, 9.0, inf]]
    assert found.grade.tolist() == [[1, 2, 0], [0, 1, 0]]
    assert grade_at(found, np.array([[2.9, 3.0, 8.5, 9.0], [4.9, 5.0, 8.9, 99.0]])).tolist() == [
        [0, 1, 2, 0],
        [2, 0, 0, 1],
    ]
    assert rises(found).tolist() == [[3.0, 8.0, inf], [inf, 9.0, inf]]
    assert spent(found, np.array([10.0, 4.0]))[:, :2].tolist() == [[6.0, 1.0], [4.0, 4.0]]


TEXT = """
vtrial: model/1
name: graded
states: {A: mg}
parameters:
  K: {typical: 0.02 1/h, status: assumed}
  P: {typical: 0.3 1, scale: logit, status: assumed}
equations: |
  d/dt(A) = -K*A
  UP = K
  DOWN = 2*K
  BAD = A
  P1 = P
  P2 = P*expit(A/A)
outputs: {A: {is: A, error: {additive: 1 mg}}}
events:
  rash: {term: Rash, moves: {0 to 1: UP, 1 to 0: DOWN}, at_start: {1: P1}}
"""


@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("0 to 1: UP", "0 to 7: UP", "events.rash.moves", "pattern"),
        ("0 to 1: UP", "1 to 1: UP", "events.rash", "another grade"),
        ("0 to 1: UP", "0 to 1: UPP", "events.rash.moves.0 to 1", "no such equation"),
        ("0 to 1: UP", "0 to 1: BAD", "events.rash.moves.0 to 1", "1/h"),
        ("at_start: {1: P1}", "at_start: {1: P2}", "events.rash.at_start.1", "cannot use A"),
        ("at_start: {1: P1}", "at_start: {2: P1}", "events.rash.at_start", "ascend from 1"),
        ("at_start: {1: P1}", "start: 1, at_start: {1: P1}", "events.rash", "start and an at_start"),
        ("at_start: {1: P1}", "at_least: {2: P1}", "events.rash", "no at_least"),
        ("at_start: {1: P1}", "kind: recurrent", "events.rash", "only a hazard"),
        ("at_start: {1: P1}", "hazard: UP", "events.rash", "one of them"),
    ],
)
def test_what_is_wrong_with_moves_is_said(old: str, new: str, field: str, said: str) -> None:
    """Every error names its field (docs/model_language.md)."""
    assert Model.parse(TEXT).hazards == {"rash.0>1": ("UP", "recurrent"), "rash.1>0": ("DOWN", "recurrent")}
    with pytest.raises(InputError) as caught:
        Model.parse(TEXT.replace(old, new))
    assert str(caught.value.field).startswith(field)
    assert said in str(caught.value)
