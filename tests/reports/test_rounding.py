"""Digits follow the Monte Carlo standard error. Witness: the rule itself, by hand, and exact binomial bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports import rounding as r


@pytest.mark.parametrize(
    ("value", "mcse", "text"),
    [
        (0.8342, 0.0119, "0.83 (MCSE 0.01)"),  # the form the design asks for
        (0.8342, 0.0149, "0.834 (MCSE 0.015)"),  # one digit would misstate the error by a third
        (0.8342, 0.026, "0.83 (MCSE 0.03)"),
        (0.0, 0.01, "0.00 (MCSE 0.01)"),
        (-0.004, 0.01, "0.00 (MCSE 0.01)"),  # no negative zero
        (-0.0781, 0.0021, "−0.078 (MCSE 0.002)"),
        (12345.6, 120.0, "12,300 (MCSE 100)"),
        (0.9996, 0.00096, "1.000 (MCSE 0.001)"),  # rounding up gains a digit
        (5e-9, 2e-10, "5.0e-9 (MCSE 0.2e-9)"),
        (0.5, 0.0, "0.50 (MCSE 0)"),
        (0.5, math.nan, "0.50 (MCSE not estimable)"),
        (0.5, math.inf, "0.50 (MCSE not estimable)"),
        (math.nan, 0.1, "not estimable"),
        (math.inf, 0.1, "not estimable"),
        (-math.inf, math.nan, "not estimable"),
    ],
)
def test_value_with_its_error(value: float, mcse: float, text: str) -> None:
    assert r.with_mcse(value, mcse) == text


@given(st.floats(-1e8, 1e8), st.floats(1e-5, 1e6))
def test_the_shown_error_is_within_a_fifth_and_shares_the_decimals(value: float, mcse: float) -> None:
    """Identity of the rule: at most two significant digits, at most a fifth off; value within half of its last digit."""
    shown, error = r.value_and_mcse(value, mcse)
    number = float(error.replace(",", ""))
    assert abs(number - mcse) <= 0.2000001 * mcse
    assert len(error.replace(",", "").replace(".", "").lstrip("0").rstrip("0")) <= 2
    decimals = [len(text.partition(".")[2]) for text in (shown, error)]
    assert decimals[0] == decimals[1]
    places = r.decimals(mcse)
    assert places is not None
    assert abs(float(shown.replace(",", "").replace(r.MINUS, "-")) - value) <= 0.5000001 * 10.0**-places


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_anything_is_shown_without_failing(value: float, mcse: float) -> None:
    for text in (r.with_mcse(value, mcse), r.number(value), r.percent(value, mcse), r.p_value(value), r.plain(value)):
        assert text
        assert "nan" not in text
        assert "inf" not in text


def test_a_proportion_of_all_or_none_shows_its_exact_bound() -> None:
    """Clopper-Pearson; R: binom.test(200, 200)$conf.int gives 0.9817246, qbeta(0.025, 200, 1)."""
    assert stats.beta.ppf(0.025, 200, 1) == pytest.approx(0.9817, abs=1e-4)
    assert r.proportion(1.0, 0.002, 200) == "1.00 (200 of 200; at least 0.98)"
    assert r.proportion(0.0, 0.002, 1000) == "0.000 (0 of 1,000; at most 0.004)"
    assert r.proportion(0.83, 0.0266, 200) == "0.83 (MCSE 0.03)"
    assert r.proportion(0.5, 0.1, 0) == "not estimable"


def test_a_column_keeps_the_decimals_of_its_largest_error() -> None:
    assert r.together([(0.0552, 0.0016), (0.0721, 0.0021)]) == [("0.055", "0.002"), ("0.072", "0.002")]
    assert r.together([(math.nan, 0.1)]) == [("not estimable", "not estimable")]
    assert r.together([(0.0552, 0.0021), (0.05, 0.00001)])[1] == ("0.050", "< 0.001")
    assert r.together([(1.0, math.nan)]) == [("1.0", "not estimable")]


def test_intervals() -> None:
    assert r.interval(-0.012, 0.1, 2) == "−0.01 to 0.10"
    assert r.interval(-math.inf, 0.1, 1) == "−∞ to 0.1"
    assert r.interval(0.1, math.nan, 1) == "not estimable"
    assert r.with_interval(7.7, (1.5, 39.9), 1) == "7.7 (1.5 to 39.9)"
    assert r.with_interval(0.1, (0.04, 0.16), 2, "L") == "0.10 L (0.04 to 0.16)"


def test_percent_and_p() -> None:
    assert [r.percent(x) for x in (0.0, 0.05, 0.5, 0.999, 1.0)] == ["0.0 %", "5.0 %", "50 %", "99.9 %", "100.0 %"]
    assert r.percent(0.1234, 0.004) == "12.3 %"
    assert [r.p_value(p) for p in (0.0, 0.0004, 0.0495, 0.5, 1.0, 1.5)] == [
        "< 0.001", "< 0.001", "0.050", "0.50", "> 0.999", "not estimable"
    ]  # fmt: skip


def test_numbers_without_an_error() -> None:
    assert [r.number(x) for x in (0.0, 2.7653, 31.79, 1234.5, -0.01234)] == ["0", "2.77", "31.8", "1,234", "−0.0123"]
    assert r.number(1e-9) == "1.00e-9"
    assert r.number(123456789012.0) == "1.23e11"
    assert [r.plain(x) for x in (600.0, 0.25, -1.5, math.nan)] == ["600", "0.25", "−1.5", "not estimable"]
