"""What a dose is to reach, as text: `AUC24 400..600`, `trough(CP) 10..15`, `time above 4 >= 0.5`, `nadir(ANC) >= 1`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest

if TYPE_CHECKING:
    from pkpd.model.spec import Model

__all__ = ["METRICS", "Target"]

METRICS: Final = {
    "auc": "area under the curve over the last 24 h of the horizon (AUC48: over 48 h)",
    "average": "mean over the last 24 h",
    "trough": "value at the end of the last interval, before the next dose",
    "peak": "largest value of the last 24 h",
    "minimum": "smallest value from the start to the end of the horizon (a nadir)",
    "maximum": "largest value from the start to the end of the horizon",
    "time above": "share of the last 24 h above a limit (time above 4: 4 in the unit of the output)",
    "time below": "share of the last 24 h below a limit",
}
_SAME: Final = {"cmax": "peak", "cmin": "trough", "nadir": "minimum", "mean": "average"}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TEXT: Final = re.compile(
    rf"(?:(?P<timed>time +above|time +below) +(?P<limit>{_NUMBER})|(?P<metric>[A-Za-z]+)(?P<window>[0-9]+)?)"
    rf"(?: *\( *(?P<output>[A-Za-z][A-Za-z0-9_]*) *\))? *"
    rf"(?:(?P<low>{_NUMBER}) *\.\. *(?P<high>{_NUMBER})|(?P<sign>>=|<=|>|<) *(?P<bound>{_NUMBER}))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`metric` (a key of `METRICS`) of `output` must lie in [low, high]. window [h]; limit: of a time above."""

    metric: str
    output: str
    low: float = -np.inf
    high: float = np.inf
    window: float = 24.0
    limit: float = np.nan

    @classmethod
    def parse(cls, text: str, model: Model, *, field: str = "target", default: str | None = None) -> Target:
        """The target of a text. default: the output where the text names none (else the model's first).

        Errors: InputError with what may be written.

        >>> from pkpd.model.library import load
        >>> Target.parse("AUC24 400..600", load("goti_vancomycin")).low
        400.0
        >>> Target.parse("time above 10 >= 0.5", load("goti_vancomycin")).limit
        10.0
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            remedy = "write for example: AUC24 400..600, trough >= 10, time above 4 >= 0.5"
            raise InputError("is not a target", field=field, value=text, remedy=remedy)
        written = " ".join((found["metric"] or found["timed"]).lower().split())
        metric = _SAME.get(written, written)
        if metric not in METRICS:
            remedy = nearest(metric, METRICS) or f"one of: {', '.join(METRICS)}"
            raise InputError("no such metric", field=field, value=written, remedy=remedy)
        low, high = _range(found)
        if not low <= high:
            raise InputError("the range is empty", field=field, value=text, remedy="write the smaller number first")
        return cls(
            metric=metric, output=_output(found["output"] or default, model, field), low=low, high=high,
            window=float(found["window"] or 24.0), limit=float(found["limit"] or np.nan),
        )  # fmt: skip

    def met(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each value lies in the range; a value that is not a number does not."""
        return np.asarray((values >= self.low) & (values <= self.high))

    @property
    def name(self) -> str:
        """The metric in words: `AUC over 24 h of CP`."""
        words = {"auc": "AUC", "average": "mean", "minimum": "smallest", "maximum": "largest"}
        size = f" over {self.window:g} h" if self.metric not in ("minimum", "maximum", "trough") else ""
        limit = f" {self.limit:g}" if self.metric.startswith("time") else ""
        return f"{words.get(self.metric, self.metric)}{limit}{size} of {self.output}"

    def unit(self, output: str) -> str:
        """Unit of the metric, from that of the output."""
        if self.metric == "auc":
            return f"{output} x h" if output else "h"
        return "share of the time" if self.metric.startswith("time") else output

    def __str__(self) -> str:
        if np.isinf(self.low):
            return f"{self.name} at most {self.high:g}"
        return f"{self.name} at least {self.low:g}" if np.isinf(self.high) else (
            f"{self.name} from {self.low:g} to {self.high:g}")  # fmt: skip


def _range(found: re.Match[str]) -> tuple[float, float]:
    if found["low"] is not None:
        return float(found["low"]), float(found["high"])
    bound = float(found["bound"])
    return (bound, np.inf) if found["sign"].startswith(">") else (-np.inf, bound)


def _output(name: str | None, model: Model, field: str) -> str:
    known = [n for n, o in model.outputs.items() if o.continuous]
    if name is None and known:
        return known[0]
    if name not in known:
        raise InputError(
            "no such output", field=field, value=name, remedy=nearest(str(name), known) or ", ".join(known)
        )
    return str(name)
