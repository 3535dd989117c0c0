"""What a trial's data base holds: all that an analysis may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Integers", "Observed"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the trial's data base holds, arrays (R, N) unless said.

    outputs: {output: (R, N, V)}, NaN where not observed; onset [h, infinite: none] and grade (0: none) by event;
    stop [h]: end of treatment before plan, infinite: none; ended [h]: end of follow-up by a terminal event, infinite:
    none; number: how many occurrences of each recurrent event; occurrences {event: (R, N, L)} h of each of them before
    leaving, infinite: none; times (R, N, V) of the visits, h; replicate (R,);
    failed: the simulation of the subject failed, so that nothing of it was observed; prognosis: point and standard
    deviation of the prognostic score, where the protocol asks for one; changes {intercurrent event: (R, N)}
    h of switching and rescue, infinite: none; entry [h]: calendar time of entry, site, region:
    where, None without enrolment; cut [h]: on the subject's own clock, until when the data base goes, None: to the end;
    reached {event: (R, N, 5)} h at which an event that may worsen first was of grade 1, 2, ... or worse before leaving:
    its `grade` is then the worst; below {output: (R, N, V)}: values reported as below the limit of quantification.
    """

    replicate: NDArray[np.uint32]
    arm: Integers
    stratum: Integers
    times: Floats
    outputs: Mapping[str, Floats]
    onset: Mapping[str, Floats]
    grade: Mapping[str, NDArray[np.int8]]
    stop: Floats
    leave: Floats
    failed: NDArray[np.bool_]
    ended: Floats
    number: Mapping[str, Integers]
    occurrences: Mapping[str, Floats] = field(default_factory=dict)
    prognosis: tuple[Floats, Floats] | None = None
    changes: Mapping[str, Floats] = field(default_factory=dict)
    entry: Floats | None = None
    site: Integers | None = None
    region: Integers | None = None
    cut: Floats | None = None
    reached: Mapping[str, Floats] = field(default_factory=dict)
    below: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
