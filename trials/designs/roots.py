"""One root finder for all designs: bracketing, no derivative, quadratic where the function allows it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["root"]

STEPS = 200


def root(
    function: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-11, grow: float | None = None
) -> float:
    """x in [low, high] with function(x) = 0, by Chandrupatla's method (Adv Eng Softw 1997;28:145).

    tolerance: on x, absolute and relative. grow: where the signs agree, `high` moves away by this factor until they
    differ. Errors: ValueError where no sign change is found.

    >>> round(root(lambda x: x * x - 2, 0, 2), 9)
    1.414213562
    """
    a, b, fa, fb = _bracket(function, low, high, grow)
    c, fc, share = a, fa, 0.5
    for _ in range(STEPS):
        x = a + share * (b - a)
        fx = function(x)
        if (fx > 0) == (fa > 0):
            c, fc = a, fa
        else:
            c, b, fc, fb = b, a, fb, fa
        a, fa = x, fx
        best, worst = (a, fa) if abs(fa) < abs(fb) else (b, fb)
        width = abs(b - a)
        near = 2 * tolerance * (abs(best) + 0.5)
        if worst == 0 or width <= near:
            return best
        share = min(max(_share((a, fa), (b, fb), (c, fc)), near / width / 2), 1 - near / width / 2)
    raise ValueError(f"no root to {tolerance:g} in {STEPS} steps")


def _bracket(
    function: Callable[[float], float], low: float, high: float, grow: float | None
) -> tuple[float, float, float, float]:
    fl, fh = function(low), function(high)
    for _ in range(STEPS):
        if fl == 0 or fh == 0 or (fl > 0) != (fh > 0):
            return high, low, fh, fl
        if grow is None:
            break
        low, fl = high, fh
        high *= grow
        fh = function(high)
    raise ValueError(f"no change of sign between {low:g} ({fl:g}) and {high:g} ({fh:g})")


def _share(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Where in [a, b] to look next: inverse quadratic interpolation if it is trustworthy, else the middle."""
    (xa, fa), (xb, fb), (xc, fc) = a, b, c
    if fb in (fa, fc) or fa == fc or xb in (xa, xc):
        return 0.5
    xi, phi = (xa - xb) / (xc - xb), (fa - fb) / (fc - fb)
    if not (phi**2 < xi and (1 - phi) ** 2 < 1 - xi):
        return 0.5
    return fa / (fb - fa) * fc / (fb - fc) + (xc - xa) / (xb - xa) * fa / (fc - fa) * fb / (fc - fb)
