"""Crossover designs for average bioequivalence: sequences, precision of the treatment contrast, power and size.

Model of the logarithms: subject + period + treatment, all fixed (sequence is part of subject); sd within subjects is
that of a test as of the reference. The variance of test - reference and its degrees of freedom come from the design
itself by least squares, so that sequences of unequal size are no special case. Names: treatments x sequences x periods.
Williams: Aust J Sci Res A 1949;2:149. Checked against PowerTOST 1.5 (its vignette on average bioequivalence).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.designs.sizes import Error, equivalence_power

__all__ = ["SEQUENCES", "contrast", "crossover_power", "crossover_size", "shared", "williams"]

Floats = NDArray[np.float64]
SEQUENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "2x2": ("TR", "RT"),
    "2x2x3": ("TRT", "RTR"),
    "2x2x4": ("TRTR", "RTRT"),
    "2x4x4": ("TRTR", "RTRT", "TRRT", "RTTR"),
    "2x3x3": ("TRR", "RTR", "RRT"),
    "3x3": ("RTU", "TUR", "URT"),
    "3x6x3": ("RTU", "URT", "TUR", "UTR", "TRU", "RUT"),
    "4x4": ("RTVU", "TURV", "UVTR", "VRUT"),
}
"""T is the test that is compared with the reference R; U and V are further treatments."""


def williams(treatments: str) -> tuple[str, ...]:
    """A square (even number of treatments) or two (odd) in which each treatment follows each other equally often.

    >>> williams("ABC")
    ('ACB', 'BAC', 'CBA', 'BCA', 'CAB', 'ABC')
    """
    k = len(treatments)
    steps = [0] + [(j + 1) // 2 if j % 2 == 0 else k - (j + 1) // 2 for j in range(1, k)]
    rows = [[(s + shift) % k for s in steps] for shift in range(k)]
    rows += [row[::-1] for row in rows] if k % 2 else []
    return tuple("".join(treatments[i] for i in row) for row in rows)


def shared(design: str, subjects: int) -> tuple[int, ...]:
    """Subjects of each sequence, as equal as can be.

    >>> shared("2x3x3", 29)
    (10, 10, 9)
    """
    count = len(_sequences(design))
    return tuple(subjects // count + (i < subjects % count) for i in range(count))


def _sequences(design: str) -> tuple[str, ...]:
    if design not in SEQUENCES:
        raise InputError(
            "is no crossover design", field="crossover", value=design, remedy=f"use {', '.join(SEQUENCES)}"
        )
    return SEQUENCES[design]


@cache
def contrast(design: str, subjects: tuple[int, ...]) -> tuple[float, float]:
    """Variance of test - reference in units of the variance within subjects, residual df. subjects: by sequence.

    >>> tuple(round(x, 10) for x in contrast("2x2", (10, 10)))
    (0.1, 18.0)
    """
    sequences = _sequences(design)
    periods, names = len(sequences[0]), sorted({name for row in sequences for name in row} - {"R"}, key="TUV".index)
    width = periods - 1 + len(names)
    information = np.zeros((width, width))
    for row, n in zip(sequences, subjects, strict=True):
        x = np.column_stack([np.eye(periods)[:, 1:], [[float(name == t) for t in names] for name in row]])
        x = x - x.mean(axis=0)  # within subjects (Frisch and Waugh)
        information += n * x.T @ x
    total = sum(subjects)
    df = total * (periods - 1) - width
    if df < 1 or np.linalg.matrix_rank(information) < width:
        raise InputError("is too few for this design", field="subjects", value=total, remedy="add subjects")
    return float(np.linalg.inv(information)[periods - 1, periods - 1]), float(df)


def crossover_power(design: str, subjects: tuple[int, ...], *, effect: float, sd: float, lower: float, upper: float,
                    level: float = 0.05) -> float:  # fmt: skip
    """P(both one-sided t tests reject), exact; effect and limits on the scale of the analysis (logarithms).

    >>> sd, limit = np.log(1 + 0.3**2) ** 0.5, np.log(1.25)
    >>> round(crossover_power("2x2x4", (10, 10), effect=np.log(0.95), sd=sd, lower=-limit, upper=limit), 5)
    0.82024
    """
    variance, df = contrast(design, subjects)
    return equivalence_power(variance, df, effect=effect, sd=sd, lower=lower, upper=upper, level=level)


def crossover_size(design: str, error: Error, *, effect: float, sd: float, lower: float, upper: float) -> int:
    """Fewest subjects, a multiple of the number of sequences, that have the power.

    >>> sd, limit = np.log(1 + 0.3**2) ** 0.5, np.log(1.25)
    >>> error = Error(alpha=0.05, power=0.8)
    >>> crossover_size("2x2", error, effect=np.log(0.95), sd=sd, lower=-limit, upper=limit)
    40
    """
    if not lower < effect < upper:
        problem = f"must lie between the limits {lower:g} and {upper:g}"
        raise InputError(problem, field="effect", value=effect, remedy="no size shows equivalence of what is not")
    step = len(_sequences(design))

    def enough(each: int) -> bool:
        found = crossover_power(design, (each,) * step, effect=effect, sd=sd, lower=lower, upper=upper,
                                level=error.level)  # fmt: skip
        return found >= error.power

    low, high = 0 if step > 2 else 1, max(2, -(-4 // step))  # at least 4 subjects
    while not enough(high):
        low, high = high, 2 * high
        if high * step > 1_000_000_000:
            raise InputError("needs more than 10^9 subjects", field="effect", remedy="a larger effect, a wider limit")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high * step
