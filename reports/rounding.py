"""Digits are earned: a simulated value is shown with the digits its Monte Carlo standard error (MCSE) allows.

The rule: the MCSE is shown to one significant digit, or to two where one digit would misstate it by more than a fifth;
value and MCSE then have the same decimals. What cannot be estimated is said in words, never shown as a number.
"""

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

NOT_ESTIMABLE = "not estimable"
MINUS = "\N{MINUS SIGN}"
_MISSTATEMENT = Decimal("0.2")
_SCIENTIFIC_BELOW = -5
_SCIENTIFIC_ABOVE = 9


def decimals(mcse: float) -> int | None:
    """Decimals that an MCSE earns (negative: tens, hundreds); None when it says nothing (zero, negative, not finite).

    >>> decimals(0.0119), decimals(0.014), decimals(120.0), decimals(0.0)
    (2, 3, -2, None)
    """
    if not math.isfinite(mcse) or mcse <= 0:
        return None
    exact = Decimal(repr(float(mcse)))
    one = -exact.adjusted()
    shown = _quantized(exact, one)
    if abs(shown - exact) > _MISSTATEMENT * exact:
        return one + 1
    return -shown.adjusted()


def fixed(value: float, places: int) -> str:
    """`value` with `places` decimals, half to even, a true minus sign, no negative zero, thousands separated.

    >>> fixed(-0.004, 2), fixed(12345.6, -2)
    ('0.00', '12,300')
    """
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    rounded = _quantized(Decimal(repr(float(value))), places)
    text = f"{abs(rounded):,.{max(places, 0)}f}"
    return f"{MINUS}{text}" if rounded < 0 else text


def number(value: float, significant: int = 3) -> str:
    """A value without an MCSE (a typical value, a dose) to so many significant digits, trailing zeros kept below one.

    >>> number(2.7653), number(31.79, 4), number(1e-9), number(math.nan)
    ('2.77', '31.79', '1.00e-9', 'not estimable')
    """
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    if value == 0:
        return "0"
    exact = Decimal(repr(float(value)))
    rounded = _quantized(exact, significant - 1 - exact.adjusted())
    exponent = rounded.adjusted()
    if exponent < _SCIENTIFIC_BELOW or exponent > _SCIENTIFIC_ABOVE:
        return _scientific(value, exponent, significant - 1)
    return fixed(value, max(significant - 1 - exponent, 0))


def plain(value: float) -> str:
    """A given number (a dose, a day, a limit) as a person would write it: up to six digits, no trailing zeros.

    >>> plain(600.0), plain(0.25), plain(-1.5)
    ('600', '0.25', '−1.5')
    """
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    text = f"{abs(value):.6g}"
    return f"{MINUS}{text}" if value < 0 else text


def with_mcse(value: float, mcse: float, unit: str = "") -> str:
    """`value unit (MCSE ...)`: the digits of the value follow the error.

    >>> with_mcse(0.8342, 0.0119), with_mcse(0.0781, 0.0021, "L"), with_mcse(math.nan, 0.1)
    ('0.83 (MCSE 0.01)', '0.078 L (MCSE 0.002)', 'not estimable')
    """
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    shown, error = value_and_mcse(value, mcse)
    return f"{shown}{_unit(unit)} (MCSE {error})"


def value_and_mcse(value: float, mcse: float) -> tuple[str, str]:
    """The two texts of `with_mcse`, for tables with a column each.

    >>> value_and_mcse(12.345, 0.21), value_and_mcse(1.5, math.nan)
    (('12.3', '0.2'), ('1.5', 'not estimable'))
    """
    places = decimals(mcse)
    if not math.isfinite(value):
        return NOT_ESTIMABLE, NOT_ESTIMABLE
    if places is None:
        return number(value, 2), "0" if mcse == 0 else NOT_ESTIMABLE
    if places > -_SCIENTIFIC_BELOW:
        return _scientific_pair(value, mcse, places)
    return fixed(value, places), fixed(mcse, places)


def together(pairs: Sequence[tuple[float, float]]) -> list[tuple[str, str]]:
    """A column of values with their MCSEs, all to the decimals that the largest MCSE earns.

    >>> together([(0.0552, 0.0016), (0.0721, 0.0021)])
    [('0.055', '0.002'), ('0.072', '0.002')]
    """
    places = [found for _, mcse in pairs if (found := decimals(mcse)) is not None]
    if not places or min(places) > -_SCIENTIFIC_BELOW:
        return [value_and_mcse(value, mcse) for value, mcse in pairs]
    return [_at(value, mcse, min(places)) for value, mcse in pairs]


def _at(value: float, mcse: float, places: int) -> tuple[str, str]:
    if not math.isfinite(value):
        return NOT_ESTIMABLE, NOT_ESTIMABLE
    if not math.isfinite(mcse):
        return number(value, 2), NOT_ESTIMABLE
    error = fixed(mcse, places)
    least = f"< {fixed(10.0**-places, places)}"
    return fixed(value, places), least if mcse > 0 and float(error.replace(",", "")) == 0 else error


def proportion(value: float, mcse: float, n: int) -> str:
    """A proportion of `n` replicates with its MCSE.

    At 0 or 1 the plug-in MCSE is 0 and says nothing: the exact (Clopper-Pearson) 97.5 % bound is shown instead.

    >>> proportion(0.83, 0.0266, 200), proportion(1.0, 0.0, 200), proportion(0.0, 0.0, 200)
    ('0.83 (MCSE 0.03)', '1.00 (200 of 200; at least 0.98)', '0.00 (0 of 200; at most 0.02)')
    """
    if not math.isfinite(value) or n <= 0:
        return NOT_ESTIMABLE
    if value in (0.0, 1.0):
        return _certain(value, n)
    return with_mcse(value, mcse)


def places(mcse: float, otherwise: int = 2) -> int:
    """Decimals of an interval whose limits have this MCSE, never tens or hundreds; `otherwise` where it says nothing.

    >>> places(0.003), places(120.0), places(0.0)
    (3, 0, 2)
    """
    found = decimals(mcse)
    return otherwise if found is None else max(found, 0)


def interval(lower: float, upper: float, places: int) -> str:
    """`lower to upper` (never a dash: limits can be negative).

    >>> interval(-0.012, 0.1, 2), interval(math.nan, 1, 2)
    ('−0.01 to 0.10', 'not estimable')
    """
    if math.isnan(lower) or math.isnan(upper):
        return NOT_ESTIMABLE
    return f"{_limit(lower, places)} to {_limit(upper, places)}"


def with_interval(value: float, limits: tuple[float, float], places: int, unit: str = "") -> str:
    """`value unit (lower to upper)`, all to the same decimals.

    >>> with_interval(0.1, (0.04, 0.16), 2, "L")
    '0.10 L (0.04 to 0.16)'
    """
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    return f"{fixed(value, places)}{_unit(unit)} ({interval(*limits, places)})"


def percent(value: float, mcse: float = math.nan) -> str:
    """A fraction as percent; digits follow the MCSE (also a fraction) when there is one, else whole percent or "
    "one decimal below 10.

    >>> percent(0.1234, 0.004), percent(0.05), percent(0.5)
    ('12.3 %', '5.0 %', '50 %')
    """
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    places = decimals(100 * mcse)
    if places is None:
        places = 1 if abs(value) < 0.0995 or abs(value) > 0.9005 else 0
    return f"{fixed(100 * value, min(max(places, 0), 4))} %"


def p_value(p: float) -> str:
    """A p-value: three decimals, two above 0.1, `< 0.001` below.

    >>> p_value(0.0004), p_value(0.0312), p_value(0.5), p_value(math.nan)
    ('< 0.001', '0.031', '0.50', 'not estimable')
    """
    if not math.isfinite(p) or not 0 <= p <= 1:
        return NOT_ESTIMABLE
    if p < 0.001:
        return "< 0.001"
    if p > 0.999:
        return "> 0.999"
    return fixed(p, 3 if p < 0.1 else 2)


def count(n: float) -> str:
    """A count with thousands separated.

    >>> count(60000)
    '60,000'
    """
    return fixed(n, 0)


def _certain(value: float, n: int) -> str:
    bound: float = 0.025 ** (1 / n)
    places = max(2, len(str(n)) - 1)
    exact: Callable[[float], str] = lambda v: fixed(v, places)  # noqa: E731 - one use, one line
    if value == 1.0:
        return f"{exact(1.0)} ({count(n)} of {count(n)}; at least {exact(bound)})"
    return f"{exact(0.0)} (0 of {count(n)}; at most {exact(1 - bound)})"


def _limit(value: float, places: int) -> str:
    if math.isinf(value):
        return f"{MINUS}∞" if value < 0 else "∞"
    return fixed(value, places)


def _quantized(exact: Decimal, places: int) -> Decimal:
    """Round to `places` decimals; Decimal.quantize alone refuses more than 28 digits."""
    if exact.adjusted() + places > 25:
        return exact
    return exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)


def _scientific(value: float, exponent: int, places: int) -> str:
    scaled = Decimal(repr(float(value))).scaleb(-exponent)
    text = f"{abs(_quantized(scaled, places)):.{max(places, 0)}f}e{exponent}"
    return f"{MINUS}{text}" if value < 0 else text


def _scientific_pair(value: float, mcse: float, places: int) -> tuple[str, str]:
    exponent = max(Decimal(repr(float(v))).adjusted() for v in (value, mcse) if v != 0)
    shown = max(places + exponent, 0)
    return _scientific(value, exponent, shown), _scientific(mcse, exponent, shown)


def bracketed(text: str, unit: str) -> str:
    """A name with its unit, which a pure number has not.

    >>> bracketed("FEV1", "L"), bracketed("log ratio", "1")
    ('FEV1 (L)', 'log ratio')
    """
    return f"{text} ({unit})" if _unit(unit) else text


def under(title: str, unit: str, said: str = "") -> str:
    """Title of a column with unit and a word below it.

    >>> under("FEV1", "L", "expected"), under("log ratio", "1")
    ('FEV1|L, expected', 'log ratio|')
    """
    return f"{title}|{', '.join(x for x in (_unit(unit).strip(), said) if x)}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit and unit != "1" else ""
