"""Numbers needed to treat or harm with intervals that survive a change of sign.

Altman, BMJ 1998;317:1309: NNTB = subjects to treat for one more to benefit, NNTH = for one more to be harmed. The
reciprocal of a risk difference has no value at 0, so an interval of the difference that holds 0 is, on this scale, two
pieces that meet at infinity: "NNTB 4 to inf to NNTH 20". The limits are those of the risk difference, so take a good
interval of that (Bender, Control Clin Trials 2001;22:102): `binary.miettinen_nurminen` or draws of a posterior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pkpd.ground.errors import InputError

__all__ = ["Needed", "needed", "needed_of_draws"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """One comparison: the risk difference that benefits when above 0, with its limits."""

    benefit: float
    lower: float
    upper: float

    @property
    def value(self) -> float:
        """Signed: above 0 to benefit, below 0 to harm; infinite where the risks are equal."""
        return _reciprocal(self.benefit)

    @property
    def pieces(self) -> tuple[tuple[str, float, float], ...]:
        """(NNTB or NNTH, least, most) of each piece of the interval; most is infinite where they meet."""
        if any(map(math.isnan, (self.lower, self.upper))):
            return ()
        if self.lower > 0 or self.upper < 0:
            least, most = sorted((abs(_reciprocal(self.lower)), abs(_reciprocal(self.upper))))
            return (("NNTB" if self.lower > 0 else "NNTH", least, most),)
        ends = (("NNTB", self.upper), ("NNTH", -self.lower))
        return tuple((name, _reciprocal(limit), math.inf) for name, limit in ends if limit > 0)

    def text(self) -> str:
        """In Altman's notation.

        >>> Needed(benefit=0.10, lower=-0.05, upper=0.25).text()
        'NNTB 10 (NNTB 4 to ∞ to NNTH 20)'
        >>> Needed(benefit=-0.10, lower=-0.25, upper=-0.05).text()
        'NNTH 10 (NNTH 4 to 20)'
        """
        if math.isnan(self.benefit):
            return "–"
        value = "∞" if self.benefit == 0 else f"{'NNTB' if self.benefit > 0 else 'NNTH'} {_shown(abs(self.value))}"
        return f"{value} ({self._interval()})"

    def _interval(self) -> str:
        pieces = self.pieces
        if not pieces:
            return "–" if math.isnan(self.lower) else "∞"
        first, *rest = pieces
        if rest:
            return f"{first[0]} {_shown(first[1])} to ∞ to {rest[0][0]} {_shown(rest[0][1])}"
        return f"{first[0]} {_shown(first[1])} to {_shown(first[2])}"


def _reciprocal(x: float) -> float:
    return math.inf if x == 0 else 1.0 / x


def _shown(x: float) -> str:
    if x >= 1000 and math.isfinite(x):  # a risk difference of a thousandth or less is not known to four digits
        return f"{float(f'{x:.2g}'):,.0f}"
    return "∞" if math.isinf(x) else f"{x:.1f}" if x < 9.95 and abs(x - round(x)) > 0.05 else f"{x:.0f}"


def needed(difference: float, lower: float, upper: float, *, harmful: bool = True) -> Needed:
    """From a risk difference treated - control; harmful: the event is bad, so that a lower risk is the benefit.

    >>> needed(0.2, 0.0528, 0.3382).text()
    'NNTH 5 (NNTH 3 to 19)'
    """
    known = not any(map(math.isnan, (difference, lower, upper)))
    if known and not -1.0 <= lower <= difference <= upper <= 1.0:
        raise InputError("must be a risk difference inside its interval", field="difference",
                         value=f"{difference:g} ({lower:g}, {upper:g})")  # fmt: skip
    if harmful:
        return Needed(benefit=-difference, lower=-upper, upper=-lower)
    return Needed(benefit=difference, lower=lower, upper=upper)


def needed_of_draws(draws: ArrayLike, *, harmful: bool = True, level: float = 0.95) -> Needed:
    """From draws of a risk difference: the mean difference and equal tails of the difference, then reciprocals.

    The mean of the draws' own reciprocals does not exist where the difference may be 0.
    """
    x = np.asarray(draws, np.float64).reshape(-1)
    if x.size < 2 or not np.isfinite(x).all():
        raise InputError("must be two or more finite risk differences", field="draws", value=x.size)
    low, high = np.quantile(x, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    mean = float(x.mean())
    return needed(mean, min(float(low), mean), max(float(high), mean), harmful=harmful)
