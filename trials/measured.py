"""What is measured of the truth at visits: residual error by address, the same wherever it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.streams import Purpose, normals, slots
from trials.quantification import reported

if TYPE_CHECKING:
    from trials.setting import Setting
    from trials.subject import Course, People

__all__ = ["at_visit", "errors"]

Floats = NDArray[np.float64]


def errors(
    setting: Setting,
    *,
    subject: ArrayLike,
    replicate: ArrayLike,
    visit: ArrayLike,
    draw: NDArray[np.int64],
    purpose: Purpose = Purpose.RESIDUAL,
) -> dict[str, Floats]:
    """Standard normals of the residual errors of each output at broadcast addresses, correlated as the population draw
    has them (`draw`, of the shape of the addresses: of a fit what it estimated, else what the text says); of another
    `purpose`, visit is its index.
    """
    from pkpd import residual
    from pkpd.model import together

    z = [
        normals(setting.seed, purpose, subject=subject, replicate=replicate, index=visit, slot=slots([name]))
        for name in setting.model.outputs
    ]
    if together.blocks(setting.model):
        root = together.roots(together.matrices(setting.model, setting.draws))[draw]
        z = list(residual.correlated(np.moveaxis(root, (-2, -1), (0, 1)), np.stack(z)))
    return dict(zip(setting.model.outputs, z, strict=True))


def at_visit(setting: Setting, people: People, course: Course, output: str, *, visit: int) -> Floats:
    """The measured value of an output at a visit (n,), as the data base would hold it."""
    from pkpd import residual

    true = course.true(setting, output)[:, visit]
    if not setting.model.outputs[output].continuous:
        return true
    z = errors(setting, subject=people.subject, replicate=people.replicate, visit=np.uint32(visit),
               draw=people.draw)[output]  # fmt: skip
    error = residual.error_of(setting.model, setting.draws, output)
    return reported(setting, output, np.asarray(residual.observe(residual.taken(error, people.draw, ()), true, z)))
