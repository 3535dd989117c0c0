"""One step of the Illinois form of regula falsi (Dowell & Jarratt, BIT 1971;11:168), for kernels with a bracket."""

from __future__ import annotations

from pkpd.kernels.intrinsics import inlined

__all__ = ["narrowed"]

Bracket = tuple[float, float, float, float, int]
"""low, high, values there (above and below 0), which end stayed last: 1 high, -1 low, 0 none yet."""


@inlined
def narrowed(bracket: Bracket, middle: float, value: float) -> Bracket:
    """The bracket after a look at `middle`: an end that stays twice counts half."""
    low, high, f_low, f_high, kept = bracket
    if value > 0.0:
        return middle, high, value, 0.5 * f_high if kept == 1 else f_high, 1
    return low, middle, 0.5 * f_low if kept == -1 else f_low, value, -1
