"""The library of drugs that comes with the package (`pkpd/interactions/library`) and the turnover of enzymes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from pkpd.interactions.drug import Drug, read
from pkpd.interactions.model import Turnover

__all__ = ["TURNOVER", "drugs"]

ROOT: Final = Path(__file__).resolve().parent / "library"
# 1/h, liver and gut: R package ddir (MIT), cyp_turnover; where it has no rate of the gut wall, 0.03 as of the others
TURNOVER: Final[dict[str, Turnover]] = {
    "CYP1A2": Turnover(liver=0.0183, gut=0.03), "CYP2B6": Turnover(liver=0.0217, gut=0.03),
    "CYP2C8": Turnover(liver=0.0301, gut=0.03), "CYP2C9": Turnover(liver=0.0067, gut=0.03),
    "CYP2C19": Turnover(liver=0.0267, gut=0.03), "CYP2D6": Turnover(liver=0.0099, gut=0.03),
    "CYP3A4": Turnover(liver=0.0193, gut=0.03),
}  # fmt: skip


@lru_cache(maxsize=1)
def drugs() -> dict[str, Drug]:
    """The drugs by name.

    >>> drugs()["midazolam"].victim.pathways[0].enzyme
    'CYP3A4'
    """
    found = (read(path) for path in sorted(ROOT.glob("*.yaml")))
    return {drug.name: drug for drug in found}
