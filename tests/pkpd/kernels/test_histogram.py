"""Counting into bins against NumPy's histogram; statistics of samples against their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from pkpd.kernels import histogram as h


def _tally(values: np.ndarray, used: np.ndarray, logarithmic: bool, low: float, high: float, bins: int):
    outputs, times = values.shape[1:]
    shape = (outputs, times)
    ends = np.log([low, high]) if logarithmic else np.array([low, high])
    counts, least, most = np.zeros((*shape, bins + 3), np.int64), np.full(shape, np.inf), np.full(shape, -np.inf)
    scale = np.full(shape, logarithmic)
    start, per = np.full(shape, ends[0]), np.full(shape, bins / (ends[1] - ends[0]))
    h.tally(values, used, scale, start, per, counts, least, most)
    return counts, least, most


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("times", [1, 8, 13])
def test_counts_are_those_of_numpy(logarithmic: bool, times: int) -> None:
    rng = np.random.default_rng(1)
    values = np.exp(rng.normal(size=(500, 2, times)))
    used = rng.random(500) < 0.9
    edges = np.geomspace(0.3, 3.0, 18) if logarithmic else np.linspace(0.3, 3.0, 18)
    counts, least, most = _tally(values, used, logarithmic, 0.3, 3.0, 17)
    for o in range(2):
        for t in range(times):
            column = values[used, o, t]
            assert counts[o, t, 1:18].tolist() == np.histogram(column, edges)[0].tolist()
            outside = [(column < 0.3).sum(), (column >= 3.0).sum(), 0]
            assert [counts[o, t, 0], counts[o, t, 18], counts[o, t, 19]] == outside
            assert (least[o, t], most[o, t]) == (column.min(), column.max())


def test_zero_negative_infinite_and_missing_have_cells_of_their_own() -> None:
    values = np.array([0.0, -1.0, -np.inf, 1e-320, np.inf, 1e300, np.nan, 1.0, 0.999999, 0.1, 0.0999])[:, None, None]
    counts, least, most = _tally(values, np.ones(len(values), bool), True, 0.1, 1.0, 10)
    assert counts[0, 0].tolist() == [5, 1, *[0] * 8, 1, 3, 1]
    assert (least[0, 0], most[0, 0]) == (-np.inf, np.inf)
    linear, _, _ = _tally(values, np.ones(len(values), bool), False, 0.1, 1.0, 10)
    assert linear[0, 0].tolist() == [5, 1, *[0] * 8, 1, 3, 1]


def test_statistics_of_samples() -> None:
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.random(40))
    values = rng.normal(size=(30, 2, 40))
    part, t = values[:, 1, 5:31], times[5:31]
    above = np.zeros(30)
    for i, row in enumerate(part):  # straight lines, on a grid fine enough that crossings matter little
        fine = np.linspace(t[0], t[-1], 200_001)
        above[i] = (np.interp(fine, t, row) > 0.3).mean() * (t[-1] - t[0])
    expected = {
        h.MAXIMUM: part.max(axis=1), h.MINIMUM: part.min(axis=1), h.AREA: np.trapezoid(part, t, axis=1),
        h.AVERAGE: np.trapezoid(part, t, axis=1) / (t[-1] - t[0]), h.TIME_OF_MAXIMUM: t[part.argmax(axis=1)],
        h.TIME_OF_MINIMUM: t[part.argmin(axis=1)], h.TIME_ABOVE: above, h.TIME_BELOW: t[-1] - t[0] - above,
        h.VALUE: part[:, -1],
    }  # fmt: skip
    for kind, right in expected.items():
        out = np.empty(30)
        h.sampled(values, 1, times, 5, 31, kind, 0.3, out)
        tolerance = 2e-3 if kind in (h.TIME_ABOVE, h.TIME_BELOW) else 1e-12
        np.testing.assert_allclose(out, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", range(9))
def test_a_missing_sample_makes_the_statistic_missing(kind: int) -> None:
    values, out = np.ones((2, 1, 5)), np.empty(2)
    values[1, 0, 2] = np.nan
    h.sampled(values, 0, np.arange(5.0), 0, 5, kind, 0.5, out)
    assert np.isfinite(out[0])
    assert np.isnan(out[1])
