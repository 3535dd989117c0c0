"""What a stream keeps of each subject: one number an endpoint, from inside the solver or from the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pkpd.engine.dynamics import Statistic
from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest

__all__ = ["Endpoint", "from_samples", "statistics", "windows"]

F64 = NDArray[np.float64]
Kind = Literal[
    "maximum", "minimum", "average", "area", "time_of_maximum", "time_of_minimum", "time_above", "time_below", "value"
]
_CODES: Final[tuple[str, ...]] = (
    "maximum", "minimum", "average", "area", "time_of_maximum", "time_of_minimum", "time_above", "time_below", "value",
)  # fmt: skip
_ENGINE: Final = {kind: kind for kind in _CODES} | {"area": "average", "value": "average"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`name` = a statistic of output `of` over [start, end] hours: Cmax is a maximum, a nadir a minimum, AUC an area.

    value: the level at `end` (a trough, before a dose then). time_above, time_below need a `threshold`. sampled: from
    the samples of the stream, on straight lines between them; else from inside the solver, exact to its tolerance.
    `how` says which it is. Of equal extremes the first counts; time on the threshold itself is neither above nor below.
    """

    name: str
    of: str
    kind: Kind
    start: float = 0.0
    end: float
    threshold: float = np.nan
    sampled: bool = False

    def __post_init__(self) -> None:
        timed = self.kind in ("time_above", "time_below")
        if self.kind not in _CODES:
            raise InputError("no such endpoint", field=self.name, value=self.kind, remedy=nearest(self.kind, _CODES))
        if not (np.isfinite(self.start) and np.isfinite(self.end) and self.start <= self.end):
            raise InputError("needs start <= end", field=self.name, value=(self.start, self.end))
        if timed != bool(np.isfinite(self.threshold)):
            raise InputError("needs a threshold" if timed else "takes no threshold", field=self.name)

    @property
    def how(self) -> Literal["solver", "samples"]:
        """Where the number comes from."""
        return "samples" if self.sampled else "solver"


def statistics(endpoints: Sequence[Endpoint], outputs: Mapping[str, str]) -> tuple[Statistic, ...]:
    """The summaries that the solver is asked for; outputs: label -> equation or state."""
    found = [e for e in endpoints if e.how == "solver"]
    return tuple(
        Statistic(
            name=e.name, of=outputs[e.of], kind=_ENGINE[e.kind], window=e.end - e.start,
            threshold=None if np.isnan(e.threshold) else e.threshold,
        )
        for e in found
    )  # fmt: skip


def windows(endpoints: Sequence[Endpoint]) -> dict[str, tuple[list[float], list[float]]]:
    """Their windows, as `solve` takes them."""
    found = (e for e in endpoints if e.how == "solver")
    return {e.name: ([e.end if e.kind == "value" else e.start], [e.end]) for e in found}


def values(endpoint: Endpoint, summaries: Mapping[str, F64], curves: F64, o: int, *, times: F64) -> F64:
    """An endpoint of every subject of a chunk (n,); curves (n, output, T) at `times` (T,), its output the `o`-th."""
    if endpoint.how == "samples":
        return from_samples(endpoint, curves, o, times)
    length = endpoint.end - endpoint.start if endpoint.kind == "area" else 1.0
    return np.asarray(summaries[endpoint.name][:, 0] * length)


def from_samples(endpoint: Endpoint, curves: F64, o: int, times: F64) -> F64:
    """An endpoint from the samples within its window. Errors: InputError where none lies there."""
    from pkpd.kernels.histogram import sampled

    there = np.flatnonzero((times >= endpoint.start) & (times <= endpoint.end))
    if not there.size:
        raise InputError("no sample lies in its window", field=endpoint.name, value=(endpoint.start, endpoint.end))
    fill, out = cast(Callable[..., None], sampled), np.empty(len(curves))
    code = _CODES.index(endpoint.kind)
    fill(curves, o, times, int(there[0]), int(there[-1]) + 1, code, endpoint.threshold, out)
    return out
