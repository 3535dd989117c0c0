"""Mean cumulative number of recurrent events: R's survfit (robust) without death, mets::recurrentMarginal with it.

R> f <- survfit(Surv(start, stop, status) ~ 1, rows, id = id, cluster = id, robust = TRUE)   # survival 3.5-3
R> summary(f, times = c(5, 15, 28, 38), extend = TRUE)[c("cumhaz", "std.chaz")]
R> recurrentMarginal(phreg(Surv(start, stop, status) ~ cluster(id), rows),                   # mets 1.3.2
R>                   phreg(Surv(start, stop, death) ~ cluster(id), rows))[c("mu", "se.mu")]
"""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.analysis.mean_number import mean_number

END = np.array([[10, 14, 20, 25, 25, 30, 31, 36, 40, 40, 44, 50.0]])
DIED = np.array([[1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0]], np.bool_)
EVENTS = [[2, 7], [], [3, 9, 15, 18], [5], [23], [8, 16, 24], [], [12, 34], [1, 2.5, 3.5, 30.5], [11, 27, 38.5], [],
          [22, 41, 45]]  # fmt: skip
AT = [5.0, 15.0, 28.0, 38.0]
ALL = np.zeros((1, 12), np.int64)


def times() -> np.ndarray:
    found = np.full((1, 12, 4), np.inf)
    for subject, own in enumerate(EVENTS):
        found[0, subject, : len(own)] = own
    return found


def test_without_death_it_is_survfit() -> None:
    """Cumulative hazard and its robust standard error, 11 digits."""
    found = mean_number(times(), END, ALL, arms=1, at=AT)
    np.testing.assert_allclose(found.value[0, 0], [0.5, 1.03181818182, 1.70800865801, 2.07467532468], rtol=1e-11)
    se = [0.25, 0.326097634666, 0.425105051180, 0.499263385154]
    np.testing.assert_allclose(found.se[0, 0], se, rtol=1e-11)
    assert found.at_risk[0, 0].tolist() == [12, 10, 7, 4]


def test_with_death_it_is_ghosh_and_lin() -> None:
    """mets::recurrentMarginal, 11 digits; and the average over two arms of one copy each is the arm alone."""
    found = mean_number(times(), END, ALL, arms=1, at=AT, died=DIED)
    np.testing.assert_allclose(found.value[0, 0], [0.5, 1.00833333333, 1.57142857143, 1.81587301587], rtol=1e-11)
    se = [0.25, 0.314744721583, 0.364188940837, 0.416773364550]
    np.testing.assert_allclose(found.se[0, 0], se, rtol=1e-11)
    two = mean_number(
        np.concatenate([times(), times()], axis=1), np.tile(END, 2), np.repeat([[0, 1]], 12, axis=1), arms=2, at=AT,
        died=np.tile(DIED, 2),
    )  # fmt: skip
    assert np.array_equal(two.value[0, 0], found.value[0, 0])
    assert np.array_equal(two.se[0, 1], found.se[0, 0])


def test_limits() -> None:
    """Nobody followed: nothing; no event: 0; who is not in the analysis plays no part; malformed input is refused."""
    found = mean_number(times(), END, ALL, arms=2, at=[51.0, 5.0])
    assert np.isnan(found.value[0, 0, 0])
    assert np.isnan(found.value[0, 1]).all()
    assert (mean_number(np.full((1, 12, 1), np.inf), END, ALL, arms=1, at=AT).se == 0).all()
    out = np.where(np.arange(12) == 8, 0.0, END)
    left = mean_number(np.delete(times(), 8, axis=1), np.delete(END, 8, axis=1), ALL[:, 1:], arms=1, at=AT)
    assert np.array_equal(mean_number(times(), out, ALL, arms=1, at=AT).value, left.value)
    with pytest.raises(InputError, match="end of follow-up"):
        mean_number(times(), END * np.inf, ALL, arms=1, at=AT)
