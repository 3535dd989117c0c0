"""Laboratory toxicity as the report tells it: nouns; `reports.graded` fills them from a run record."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trials.operating import Estimate

Array = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of subjects: expected, and the median limits (Wilson, 95 %) one trial would report; `count` of
    `subjects` in all replicates together, `number` in a mean trial.
    """

    expected: Estimate
    one: Range
    count: int
    subjects: int
    number: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Of one arm: median of the extreme and of its day over subjects (mean over replicates) with the middle 95 % of
    replicates and 5 to 95 % of subjects; days at the told grade or worse: mean of all, median of those with any.
    """

    extreme: Estimate
    extremes: Range
    people: Range
    day: Estimate
    days_of_people: Range
    lasting: Estimate
    lasting_any: Estimate
    lasting_people: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One test. worst {grade: by arm}: worst grade after the baseline at least that; shifts (arms, 6, 6): subjects of
    a mean trial by baseline grade and worst grade, not gradable last; cycles [cycle][arm] of `told` or worse, among
    those with a sample in the cycle.
    """

    __test__ = False
    name: str
    label: str
    words: str
    low: bool
    unit: str
    told: int
    levels: tuple[int, ...]
    worst: Mapping[int, tuple[Share, ...]]
    shifts: Array
    courses: tuple[Course, ...]
    cycles: tuple[tuple[Share, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doses:
    """Of one arm: relative dose intensity (mean, 5 to 95 % of subjects), share of the planned amount, reductions,
    delays, holds per subject, share with a reduction, shares whose treatment ended, by cause in words.
    """

    intensity: Estimate
    people: Range
    share: Estimate
    reductions: Estimate
    reduced: Share
    delays: Estimate
    holds: Estimate
    ended: tuple[tuple[str, Share], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """One measure in the same people under every arm: by arm, and against control (None: the control itself).

    percent: it is shown in per cent; share: it is a share of so many `subjects`, not a mean.
    """

    label: str
    percent: bool
    share: bool
    by_arm: tuple[Estimate, ...]
    subjects: tuple[int, ...]
    difference: tuple[Estimate | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Liver:
    """eDISH. points (n, 4): aminotransferase, bilirubin (multiples of the upper limit), arm, Hy's law (1, 0, -1), a
    thinned sample that keeps every subject outside the normal quadrant up to a limit; shares (arms, 4) of quadrants;
    hy, unknown: potential cases and cases that cannot be judged, per 1,000 subjects; any: trials with a case.
    """

    points: Array
    quadrants: tuple[tuple[Share, ...], ...]
    hy: tuple[Share, ...]
    unknown: tuple[Share, ...]
    any: tuple[Estimate, ...]
    phosphatase: bool
    shown: int
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxicity:
    """All of it. cycles_alike {test: [cycle][arm]}: as `Test.cycles`, in the same people."""

    tests: tuple[Test, ...]
    doses: tuple[Doses | None, ...]
    same: tuple[Same, ...]
    cycles_alike: Mapping[str, tuple[tuple[Estimate, ...], ...]]
    alike: int
    liver: Liver | None
    regraded: bool
