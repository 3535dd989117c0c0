"""Which residual errors are correlated, how much, and which rows of the data share them: those measured together.

Rows of different outputs belong together where subject and time are the same and they stand on the same side of a dose
given at that time. Of rows of one output at one time the first (in the order of the file) belongs to the first of the
other output, the second to the second; what is left over stands alone. (NONMEM's L2 item, without the column.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws

__all__ = ["blocks", "correlated", "earlier", "groups", "label", "matrices", "numbered", "require_normal", "roots"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DEFAULT = 2.0
"""LKJ shape of a block that the text names by correlations only: that of `omega`."""
MOST_BEYOND = 2
"""Values of one group beyond a limit of quantification whose probability is known."""


def label(a: str, b: str) -> str:
    """`CP~PCA`: the correlation of two outputs' errors among the residual errors of `PopulationDraws`."""
    return f"{a}~{b}"


def blocks(model: Model) -> tuple[tuple[tuple[str, ...], float], ...]:
    """(outputs in the order of the model, LKJ shape) of each block: by `sigma`, else what the correlations link."""
    order = list(model.outputs)
    if model.sigma:
        return tuple((tuple(n for n in order if n in b.block), b.lkj) for b in model.sigma)
    found: list[set[str]] = []
    for a, b, _ in model.residual_correlations:
        linked = [s for s in found if a in s or b in s]
        found = [s for s in found if s not in linked] + [set().union({a, b}, *linked)]
    ranked = sorted(found, key=lambda s: min(map(order.index, s)))
    return tuple((tuple(n for n in order if n in s), DEFAULT) for s in ranked)


def require_normal(model: Model, who: str) -> None:
    """InputError where an output with correlated errors has a Student t: their joint law is not that of a normal."""
    for members, _ in blocks(model):
        for name in members:
            if model.outputs[name].error.t is not None:
                remedy = "take a normal error, or leave the output out of sigma and residual_correlations"
                problem = f"correlated Student t errors cannot be {who} yet"
                raise InputError(problem, field=f"outputs.{name}.error.t", value=model.name, remedy=remedy)


def numbered(subject: Ints, time: Floats, output: Ints, after: NDArray[np.bool_]) -> Ints:
    """How many rows of the same output at the same time of the same subject stand before each row, (rows,)."""
    table = np.stack([subject, output, time, after]).astype(np.float64)
    _, same = np.unique(table, axis=1, return_inverse=True)
    same = same.reshape(-1)
    order = np.argsort(same, kind="stable")
    first = np.concatenate([[True], np.diff(same[order]) != 0])
    begins = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0)) if len(order) else order
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order)) - begins
    return found


def groups(model: Model, records: Records) -> Ints:
    """Rows measured together, (G, K), in the order of the outputs, -1 beyond a group's own; (0, 0): none.

    Errors: InputError where more than two values of a group lie beyond a limit.
    """
    block = np.full(len(model.outputs), -1)
    for k, (members, _) in enumerate(blocks(model)):
        block[[list(model.outputs).index(n) for n in members]] = k
    rows = np.flatnonzero(block[records.output] >= 0)
    if not len(rows):
        return np.empty((0, 0), np.int64)
    own = (records.subject[rows], records.time[rows], records.output[rows], records.after[rows])
    table = np.stack([own[0], own[1], own[3], block[own[2]], numbered(*own)]).astype(np.float64)
    _, where, count = np.unique(table, axis=1, return_inverse=True, return_counts=True)
    where = where.reshape(-1)
    order = rows[np.lexsort((own[2], where))]
    column = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    made = np.full((len(count), int(count.max())), -1, np.int64)
    made[np.repeat(np.arange(len(count)), count), column] = order
    made = np.ascontiguousarray(made[count > 1])
    return _checked(made, records) if len(made) else np.empty((0, 0), np.int64)


def _checked(made: Ints, records: Records) -> Ints:
    odd = (made >= 0) & (records.below | records.over)[made]
    if (odd.sum(axis=1) > MOST_BEYOND).any():
        row = int(made[np.argmax(odd.sum(axis=1) > MOST_BEYOND), 0])
        problem = "three or more correlated values beyond a limit at one time have no probability here yet"
        raise InputError(problem, field="CENS", value=f"subject {records.ids[records.subject[row]]}, "
                         f"{records.time[row]:g} h", remedy="leave an output out of sigma")  # fmt: skip
    return made


def earlier(model: Model, records: Records) -> Ints:
    """For each row the rows of its group that stand before it in the data, (rows, K - 1), -1: none."""
    made = groups(model, records)
    found = np.full((len(records.time), max(made.shape[1] - 1, 0)), -1, np.int64)
    for group in made:
        own = np.sort(group[group >= 0])
        for k in range(1, len(own)):
            found[own[k], :k] = own[:k]
    return found


def matrices(model: Model, draws: PopulationDraws) -> Floats:
    """Correlations of the residual errors in every draw, (D, outputs, outputs): of the draws where they have them, else
    of the text.
    """
    order = list(model.outputs)
    made = np.tile(np.eye(len(order)), (len(draws), 1, 1))
    told = {label(a, b): np.full(len(draws), r) for a, b, r in model.residual_correlations}
    told |= {n: draws.error[:, k] for k, n in enumerate(draws.error_names) if "~" in n}
    for name, value in told.items():
        i, j = (order.index(n) for n in name.split("~"))
        made[:, i, j] = made[:, j, i] = value
    return made


def roots(matrix: Floats) -> Floats:
    """Lower Cholesky factors. Errors: InputError where a fit's correlations and the text's do not go together."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        remedy = "fit all outputs of the block, or weaken the text's correlations"
        raise InputError("are not possible together", field="residual_correlations", remedy=remedy) from None


def correlated(z: Floats, rows: Ints, output: Ints, matrix: Floats) -> Floats:
    """Standard normals (R, rows) with the correlations of rows measured together; matrix (R, outputs, outputs)."""
    made = np.array(z)
    for count in range(2, rows.shape[1] + 1):
        group = rows[(rows >= 0).sum(axis=1) == count, :count]
        for which in np.unique(output[group], axis=0) if len(group) else []:
            own = group[(output[group] == which).all(axis=1)]
            root = roots(matrix[:, which[:, None], which[None, :]])
            for i in range(count):
                total = root[:, i, 0, None] * z[:, own[:, 0]]
                for j in range(1, i + 1):
                    total = total + root[:, i, j, None] * z[:, own[:, j]]
                made[:, own[:, i]] = total
    return made
