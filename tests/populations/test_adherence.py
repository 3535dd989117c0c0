"""Adherence against the theory of the two-state Markov chain."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from populations import Adherence, taken

A, B, DOSES = 0.05, 0.4, 168  # P(miss | taken), P(miss | missed)
MARKOV = Adherence(kind="markov", miss_after_taken=A, miss_after_missed=B)


@pytest.fixture(scope="module")
def missed() -> np.ndarray:
    return ~taken(MARKOV, seed=11, replicate=np.arange(10), subject=np.arange(300), doses=DOSES)


def test_every_dose_is_missed_at_the_stationary_rate(missed: np.ndarray) -> None:
    """pi = a/(1 + a - b) = 0.0769, from the first dose on; 4 MCSE over subjects."""
    per_subject = missed.mean(axis=2)
    mcse = per_subject.std() / np.sqrt(per_subject.size)
    assert per_subject.mean() == pytest.approx(A / (1 + A - B), abs=4 * mcse)
    assert MARKOV.missed == A / (1 + A - B)
    for dose in (0, 1, DOSES - 1):
        assert missed[:, :, dose].mean() == pytest.approx(MARKOV.missed, abs=4 * np.sqrt(0.071 / 3000))


def test_transitions(missed: np.ndarray) -> None:
    before, after = missed[:, :, :-1], missed[:, :, 1:]
    for state, expected in ((False, A), (True, B)):
        seen = after[before == state]
        assert seen.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / seen.size))


def test_runs_of_missed_doses_are_geometric(missed: np.ndarray) -> None:
    """Mean length of a run of missed doses 1/(1 - b) = 1.667, P(run = 1) = 1 - b; runs that touch an end left out."""
    lengths = []
    for row in missed.reshape(-1, DOSES):
        edges = np.flatnonzero(np.diff(row.astype(np.int8)))
        starts = [e for e in edges if not row[e]]
        ends = [e for e in edges if row[e]]
        ends = [e for e in ends if starts and e > starts[0]]
        lengths.extend(e - s for s, e in zip(starts, ends, strict=False))
    runs = np.array(lengths)
    assert runs.mean() == pytest.approx(1 / (1 - B), abs=4 * runs.std() / np.sqrt(runs.size) + 0.01)
    assert (runs == 1).mean() == pytest.approx(1 - B, abs=4 * np.sqrt(0.24 / runs.size))


def test_by_address() -> None:
    whole = taken(MARKOV, seed=3, replicate=np.arange(4), subject=np.arange(30), doses=40)
    part = taken(MARKOV, seed=3, replicate=[2, 0], subject=[29, 4], doses=25)
    assert (part == whole[np.ix_([2, 0], [29, 4])][:, :, :25]).all()
    other = taken(MARKOV, seed=4, replicate=np.arange(4), subject=np.arange(30), doses=40)
    assert (other != whole).any()


def test_none_takes_everything() -> None:
    assert taken(Adherence(), seed=1, replicate=[0, 1], subject=[0], doses=5).shape == (2, 1, 5)
    assert taken(Adherence(), seed=1, replicate=[0, 1], subject=[0], doses=5).all()
    never = Adherence(kind="markov", miss_after_taken=0.0, miss_after_missed=0.5)
    assert taken(never, seed=1, replicate=[0], subject=np.arange(50), doses=20).all()


@pytest.mark.parametrize(
    ("kind", "after_taken", "after_missed", "field"),
    [("markov", -0.1, 0.4, "miss_after_taken"), ("markov", 0.1, 1.0, "miss_after_missed"),
     ("markov", float("nan"), 0.4, "miss_after_taken"), ("none", 0.1, 0.0, "miss_after_taken"),
     ("sometimes", 0.1, 0.1, "kind")],
)  # fmt: skip
def test_impossible_adherence(kind: str, after_taken: float, after_missed: float, field: str) -> None:
    with pytest.raises(InputError, match=field):
        Adherence(kind=kind, miss_after_taken=after_taken, miss_after_missed=after_missed)
