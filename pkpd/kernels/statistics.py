"""Statistics of a curve over a window, gathered from its monotone stretches; the same for every way to solve.

What is seen of a window lies in `seen[at:at + COUNT]`: slices would count references in the middle of the steps.

A window is walked from node to node: its ends, the extremes inside, the ends of steps. Between two nodes the curve is
monotone, so that extremes are at nodes and a level is crossed once or not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import forced

F64 = NDArray[np.float64]

# the order of engine.request.STATISTICS
AVERAGE, MAXIMUM, MINIMUM, TIME_OF_MAXIMUM, TIME_OF_MINIMUM, TIME_ABOVE, TIME_BELOW = range(7)
COUNT = 7
# a bracket of a root: left and right end, the function there, which end moved last (-1 left, 1 right)
LEFT, AT_LEFT, RIGHT, AT_RIGHT, MOVED = range(5)


@forced
def opened(seen: F64, at: int) -> None:
    """Nothing seen yet; the average begins as an integral."""
    for k in range(COUNT):
        seen[at + k] = 0.0
    seen[at + 1], seen[at + 2], seen[at + 3], seen[at + 4] = -np.inf, np.inf, np.nan, np.nan


@forced
def alone(seen: F64, at: int, t: float, value: float) -> None:
    """A window of zero width: the value there."""
    for k in range(COUNT):
        seen[at + k] = value if k < 3 else (t if k < 5 else 0.0)


@forced
def nothing(seen: F64, at: int) -> None:
    """No window: not a number."""
    for k in range(COUNT):
        seen[at + k] = np.nan


@forced
def node(seen: F64, at: int, t: float, value: float) -> None:
    """The curve at t: of equal extremes the first counts. Selects: branches of lanes in turn are unforeseeable."""
    higher, lower = value > seen[at + 1], value < seen[at + 2]
    seen[at + 1], seen[at + 3] = value if higher else seen[at + 1], t if higher else seen[at + 3]
    seen[at + 2], seen[at + 4] = value if lower else seen[at + 2], t if lower else seen[at + 4]


@forced
def crosses(a: float, b: float, level: float) -> bool:
    """Whether the curve passes the level between two nodes; to touch it is not to pass."""
    return ((a > level) & (b < level)) | ((a < level) & (b > level))


@forced
def stretch(seen: F64, at: int, length: float, a: float, b: float, level: float) -> None:
    """Time between nodes that the level does not part; on the level all along is neither above nor below."""
    above = (a > level) | (b > level)
    below = ((a < level) | (b < level)) & (not above)
    seen[at + 5] += length if above else 0.0
    seen[at + 6] += length if below else 0.0


@forced
def parted(seen: F64, at: int, length: float, before: float, rising: bool) -> None:
    """Time between nodes, of which the curve passes the level `before` hours in."""
    seen[at + 5] += length - before if rising else before
    seen[at + 6] += before if rising else length - before


@forced
def bracket(B: F64, left: float, at_left: float, right: float, at_right: float) -> None:
    """Begin the search of a root between ends where the function has opposite signs."""
    B[0], B[1], B[2], B[3], B[4] = left, at_left, right, at_right, 0.0


@forced
def probe(B: F64, k: int, fine: float) -> Any:
    """Where to look next: on the chord, or halfway each third time; never nearer than `fine` to an end."""
    left, right = B[0], B[2]
    at = left - B[1] * ((right - left) / (B[3] - B[1]))
    if k % 3 == 2 or not (left < at < right):
        at = 0.5 * (left + right)
    at = left + fine if at < left + fine else at
    return right - fine if at > right - fine else at


@forced
def narrowed(B: F64, at: float, value: float, fine: float) -> Any:
    """Take the function's value there; True when the root is known to 2 `fine`. Anderson & Bjoerck's weights.

    BIT 1973;13:253-264: an end that stays twice counts less, which keeps the chord from leaning on it.
    """
    if value == 0.0:
        B[0], B[2] = at, at
        return True
    right = (value > 0.0) == (B[3] > 0.0)
    old = B[3] if right else B[1]
    other = B[1] if right else B[3]
    side = 1.0 if right else -1.0
    weight = 1.0 - value / old
    weight = weight if weight > 0.0 else 0.5
    other = other * weight if B[4] == side else other
    if right:
        B[0], B[1], B[2], B[3], B[4] = B[0], other, at, value, side
    else:
        B[0], B[1], B[2], B[3], B[4] = at, value, B[2], other, side
    return B[2] - B[0] <= 2.0 * fine


@forced
def boole(a: float, b: float, c: float, d: float, e: float) -> float:
    """Mean over a stretch from five points; exact for a polynomial of degree 5 (Boole's rule)."""
    return (7.0 * (a + e) + 32.0 * (b + d) + 12.0 * c) * (1.0 / 90.0)


@forced
def turns(a: float, b: float, c: float, d: float, e: float) -> bool:
    """Whether the quartic through five points rises and falls at some of them."""
    s0 = -25.0 * a + 48.0 * b - 36.0 * c + 16.0 * d - 3.0 * e
    s1 = -3.0 * a - 10.0 * b + 18.0 * c - 6.0 * d + e
    s2 = a - 8.0 * b + 8.0 * d - e
    s3 = -a + 6.0 * b - 18.0 * c + 10.0 * d + 3.0 * e
    s4 = 3.0 * a - 16.0 * b + 36.0 * c - 48.0 * d + 25.0 * e
    rises = (s0 > 0.0) | (s1 > 0.0) | (s2 > 0.0) | (s3 > 0.0) | (s4 > 0.0)
    return rises & ((s0 < 0.0) | (s1 < 0.0) | (s2 < 0.0) | (s3 < 0.0) | (s4 < 0.0))


@forced
def fitted(S: F64) -> None:
    """Coefficients S[5:9] of u, u^2, u^3, u^4 of the quartic through S[:5] at u = 0 .. 4."""
    b, c, d, e = S[1] - S[0], S[2] - S[0], S[3] - S[0], S[4] - S[0]
    S[5] = (96.0 * b - 72.0 * c + 32.0 * d - 6.0 * e) / 24.0
    S[6] = (-104.0 * b + 114.0 * c - 56.0 * d + 11.0 * e) / 24.0
    S[7] = (36.0 * b - 48.0 * c + 28.0 * d - 6.0 * e) / 24.0
    S[8] = (-4.0 * b + 6.0 * c - 4.0 * d + e) / 24.0


@forced
def quartic(S: F64, u: float) -> Any:
    """The quartic at u."""
    return S[0] + u * (S[5] + u * (S[6] + u * (S[7] + u * S[8])))


@forced
def quartic_slope(S: F64, u: float) -> Any:
    """Its derivative."""
    return S[5] + u * (2.0 * S[6] + u * (3.0 * S[7] + u * 4.0 * S[8]))


@forced
def quartic_bend(S: F64, u: float) -> Any:
    """Its second derivative."""
    return 2.0 * S[6] + u * (6.0 * S[7] + u * 12.0 * S[8])


@forced
def matters(S: F64, k: int, level: float, seen: F64, at: int) -> Any:
    """Whether there is an extremum between points k and k + 1 that may beat those seen, or pass the level and back."""
    rise, fall = quartic_slope(S, float(k)), quartic_slope(S, k + 1.0)
    bump = abs(rise) + abs(fall)
    top, low = max(S[k], S[k + 1]), min(S[k], S[k + 1])
    if rise > 0.0 and fall < 0.0:
        return top + bump > seen[at + 1] or (top <= level and top + bump > level)
    if rise < 0.0 and fall > 0.0:
        return low - bump < seen[at + 2] or (low >= level and low - bump < level)
    return False


@forced
def summit(S: F64, k: int) -> Any:
    """The extremum of the quartic between points k and k + 1, by Newton's steps; halves where one leaves."""
    left, right = float(k), k + 1.0
    start, end = quartic_slope(S, left), quartic_slope(S, right)
    u = left - start / (end - start)
    for _ in range(60):
        slope = quartic_slope(S, u)
        if (slope > 0.0) == (start > 0.0):
            left = u
        else:
            right = u
        bend = quartic_bend(S, u)
        at = u - slope / bend if bend != 0.0 else left
        at = at if left < at < right else 0.5 * (left + right)
        change = abs(at - u)
        u = at
        if not change > 1e-12:
            break
    return u
