"""Values beyond a limit of quantification: which rows they are, and what a fit makes of them.

`m3` takes the probability of what was seen (Beal 2001, J Pharmacokinet Pharmacodyn 28:481, method M3; Monolix's way),
`m4` the same given that values are positive, `discard` leaves the rows out, which is biased (docs/inference.md). A row
is below the limit by CENS 1 (the limit is its DV), or by a DV under the output's `lloq`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.text import nearest
from pkpd.kernels.observations import ABOVE, BELOW, BETWEEN, MEASURED, POSITIVE
from pkpd.model.observed import terms_of
from pkpd.model.parts import inside
from pkpd.model.together import blocks, numbered

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["METHODS", "kinds", "limited"]

METHODS: Final = ("m3", "m4", "discard")


def limited(model: Model, records: Records, blq: str) -> Records:
    """The records as they are fitted: a DV under the output's `lloq` becomes the limit and is marked as below it; with
    `discard` rows beyond a limit are left out. Errors: InputError for another method, nothing left, or censored values
    of an error law that has no probability of them yet.
    """
    if blq not in METHODS:
        raise InputError("is not a way to treat values below the limit", field="blq", value=blq,
                         remedy=nearest(blq, METHODS))  # fmt: skip
    known = [-np.inf if o.lloq is None else inside(o.lloq) for o in model.outputs.values()]
    limit = np.asarray(known)[records.output]
    low = ~records.below & ~records.over & (records.dv < limit)
    marked = replace(records, dv=np.where(low, limit, records.dv), below=records.below | low)
    if blq == "discard":
        _check_kept(model, marked)
        return _kept(marked, ~(marked.below | marked.over))
    _check(model, marked)
    return marked


def kinds(model: Model, records: Records, blq: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What each row of `limited` records says, as `kernels.observations` numbers it, and lower ends of intervals."""
    plain = np.select([records.over, records.floor > -np.inf, records.below], [ABOVE, BETWEEN, BELOW], MEASURED)
    floor = np.where(plain == BETWEEN, records.floor, 0.0)
    if blq != "m4":
        return plain.astype(np.int64), floor
    outputs = list(model.outputs.values())
    bare = np.array([o.error.log is None for o in outputs])[records.output]  # log-normal values are positive anyway
    censored = [o.lloq is not None or (plain[records.output == k] != MEASURED).any() for k, o in enumerate(outputs)]
    touched = np.array(censored)[records.output]
    given = bare & touched
    plain = np.where(given & (plain == BELOW), BETWEEN, plain)
    return (plain + np.where(given, POSITIVE, 0)).astype(np.int64), np.maximum(floor, np.where(given, 0.0, floor))


def _check_kept(model: Model, records: Records) -> None:
    """Of repeated values the first belongs to the first of a correlated output: with some left out none would know."""
    if not blocks(model):
        return
    again = numbered(records.subject, records.time, records.output, records.after) > 0
    member = np.isin(list(model.outputs), [name for block, _ in blocks(model) for name in block])[records.output]
    if (again & member).any() and (member & (records.below | records.over)).any():
        problem = "repeated values of correlated outputs cannot be discarded beyond a limit"
        raise InputError(problem, field="blq", value="discard", remedy="take m3")


def _kept(records: Records, keep: NDArray[np.bool_]) -> Records:
    if not keep.any():
        raise InputError("no value lies within the limits", field="DV", remedy="fit with blq m3")
    names = ("subject", "time", "dv", "output", "after", "below", "line", "over", "floor")
    return replace(records, **{name: getattr(records, name)[keep] for name in names})


def _check(model: Model, records: Records) -> None:
    """A Student t has no probability of a censored value here, and a log error none of a limit that is not > 0."""
    odd = records.below | records.over
    for k, (name, output) in enumerate(model.outputs.items()):
        rows = odd & (records.output == k)
        if not rows.any():
            continue
        if output.error.t is not None:
            remedy = "take a normal error, or fit with blq discard"
            raise InputError("a Student t error cannot be censored yet", field=f"outputs.{name}.error.t", remedy=remedy)
        if "log" in terms_of(output.error) and (records.dv[rows] <= 0.0).any():
            remedy = "write the limit of quantification in DV"
            raise InputError("the limit of a log error must be > 0", field="DV", value=0.0, remedy=remedy)
        if "log" in terms_of(output.error) and ((records.floor[rows] > -np.inf) & (records.floor[rows] <= 0.0)).any():
            raise InputError("must be > 0 with a log error", field="LIMIT", value=0.0, remedy="leave it empty")
