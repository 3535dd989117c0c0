"""Tsitouras 5(4), first-same-as-last, with the free fourth-order interpolant: coefficients as data, checked in tests.

Source: Ch. Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption,
Comput. Math. Appl. 2011;62:770-775, table 1 and the interpolant of section 4.
"""

from __future__ import annotations

from fractions import Fraction

__all__ = ["ERROR", "A", "C", "dense"]

C = (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0)
"""Nodes of the seven stages."""

# fmt: off
A: tuple[tuple[float, ...], ...] = (
    (),
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
"""Rows of the Butcher matrix; the last row is the fifth-order solution."""

ERROR = (
    -0.00178001105222577714, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
    0.5823571654525552, -0.45808210592918697, 0.015151515151515152,
)
"""Weights of the difference to the embedded fourth-order solution."""

# b_i(x) = factor x^2 (x - r1)(x - r2), factorised as in the paper; the second and third rows give the quadratic instead
_ROOTS: dict[int, tuple[str, str, str]] = {
    3: ("-16.54810288924490272", "1.21712927295533244", "0.61620406037800089"),
    4: ("47.37952196281928122", "1.203071208372362603", "0.658047292653547382"),
    5: ("-34.87065786149660974", "1.2", "0.666666666666666667"),
    6: ("2.5", "1", "0.6"),
}
_QUADRATIC: dict[int, tuple[str, str, str]] = {
    1: ("0.1017", "-2.1966568338249754", "1.2949852507374631"),
    2: ("2.490627285651252793", "-2.38535645472061657", "1.57803468208092486"),
}
_FIRST = ("-1.0530884977290216", "1.3299890189751412", "-1.4364028541716351", "0.7139816917074209")
# fmt: on

Row = tuple[float, float, float, float]


def _first_row() -> Row:
    """factor x (x - root)(x^2 + p x + q)."""
    f, root, p, q = (Fraction(text) for text in _FIRST)
    return float(-f * root * q), float(f * (q - root * p)), float(f * (p - root)), float(f)


def _row(index: int) -> Row:
    if index == 0:
        return _first_row()
    f, p, q = (Fraction(text) for text in (_QUADRATIC.get(index) or _ROOTS[index]))
    if index in _ROOTS:
        p, q = -(p + q), p * q
    return 0.0, float(f * q), float(f * p), float(f)


def dense() -> tuple[Row, ...]:
    """Coefficients of x, x^2, x^3, x^4 of the seven weights b_i(x); y(t + x h) = y + h sum b_i(x) k_i."""
    return tuple(_row(i) for i in range(7))
