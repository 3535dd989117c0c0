"""Designs with rules of their own: each kind of endpoint here knows its solution, its trials and its exact numbers.

`FAMILIES[kind]` is what `designed.solved`, `grid.samples`, `exact.exact` and the checks of the text ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from trials.comparison import Exact, Sample

if TYPE_CHECKING:
    from trials.designs.text import Design
    from trials.designs.text_scenarios import Truth

__all__ = ["Chance", "Family", "family_of", "share"]

Floats = NDArray[np.float64]
Chance = tuple[int, NDArray[np.int64]]
"""Seed, replicates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """solved: what needs no simulation; samples: one value a replicate; exact: the same numbers without simulation.

    effective: of every hypothesis, whether the truth is beyond the null (None: nothing is tested); truths: the fields
    of a truth that mean something here; check: InputError for a truth that does not go with the design.
    """

    solved: Callable[[Design], dict[str, Any]]
    samples: Callable[[Design, Truth, Chance], dict[str, Sample]]
    exact: Callable[[Design, Truth], dict[str, Exact]]
    effective: Callable[[Design, Truth], NDArray[np.bool_]] | None
    truths: tuple[str, ...]
    check: Callable[[Design, Truth, str], None] | None = None


def family_of(design: Design) -> Family | None:
    """The family of a design, None for designs of the common kind."""
    made = _FAMILIES.get(design.endpoint.kind)
    return None if made is None else made()


def share(label: str, flags: Any) -> Sample:
    """Flags as a sample."""
    return Sample(label=label, values=np.asarray(flags, dtype=np.float64), kind="share")


def _equivalence() -> Family:
    from trials.designs.family_equivalence import FAMILY

    return FAMILY


def _factorial() -> Family:
    from trials.designs.family_factorial import FAMILY

    return FAMILY


def _platform() -> Family:
    from trials.designs.family_platform import FAMILY

    return FAMILY


def _escalation() -> Family:
    from trials.designs.family_escalation import FAMILY

    return FAMILY


def _two_stages() -> Family:
    from trials.designs.family_responses import TWO_STAGES

    return TWO_STAGES


def _adaptive_shares() -> Family:
    from trials.designs.family_responses import ADAPTIVE

    return ADAPTIVE


def _baskets() -> Family:
    from trials.designs.family_responses import BASKETS

    return BASKETS


_FAMILIES: Final[Mapping[str, Callable[[], Family]]] = {
    "equivalence": _equivalence, "factorial": _factorial, "platform": _platform, "escalation": _escalation,
    "two_stages": _two_stages, "adaptive_shares": _adaptive_shares, "baskets": _baskets,
}  # fmt: skip
