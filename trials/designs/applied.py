"""Scenarios of one file for several designs: each design is read again as if it said them itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pkpd.ground import text
from pkpd.ground.errors import InputError
from trials.designs.text import placed
from trials.designs.text_checks import inside
from trials.designs.text_scenarios import Scenarios

if TYPE_CHECKING:
    from trials.designs.text import Design

__all__ = ["applied"]


def applied(designs: Mapping[str, Design], path: str | Path) -> dict[str, Design]:
    """The designs under the scenarios of a file. Errors: InputError with the file's line, naming the design."""
    node = text.read(path)
    found = text.validated(Scenarios, node, str(path))

    def under(name: str, design: Design) -> Design:
        try:
            return inside(replace(
                design, simulate=found.simulate or design.simulate, enrolment=found.enrolment or design.enrolment,
                profile=found.profile or design.profile, costs=found.costs or design.costs,
            ))  # fmt: skip
        except InputError as error:
            problem = f"{error.problem} (design {name})"
            raise InputError(problem, field=error.field, value=error.value, remedy=error.remedy) from None

    return {name: placed(node, str(path), partial(under, name, d)) for name, d in designs.items()}
