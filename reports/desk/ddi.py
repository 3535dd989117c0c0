"""`vtrial ddi`: a list of drugs in; the matrix of all pairs as table, JSON and page out."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pkpd.interactions.calibration import Calibration
    from pkpd.interactions.observed import Study
    from pkpd.interactions.screening import Cell, Matrix

__all__ = ["Order", "ddi"]

TABLE, DATA, PAGE, CHECK = "ddi.csv", "ddi.json", "ddi.html", "ddi_check.csv"
SHOWN = 10  # lines on the screen
COLUMNS = (
    "rank", "perpetrator", "regimen", "victim", "genotype", "auc_ratio", "auc_lower", "auc_upper", "cmax_ratio",
    "cmax_lower", "cmax_upper", "p_below_1.25", "p_1.25_to_2", "p_2_to_5", "p_above_5", "p_below_0.5",
    "auc_genotype_alone",
    "driver", "status", "rows", "assumed_values",
)  # fmt: skip
CHECKED = (
    "row", "study", "perpetrator", "victim", "observed", "predicted", "lower", "upper", "fold_error", "inside",
    "rows_in_calibration", "assumed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked: the file (None: the whole library), where answers go, lines on the page."""

    file: Path | None
    out: Path
    top: int
    machine: bool
    against: Path | None = None


def ddi(order: Order) -> int:
    """Read, predict, write. Errors: InputError with file, line and field."""
    from pkpd.ground.store import write_atomic
    from pkpd.interactions.screening import Question, read_question, screen
    from reports.interactions_page import page
    from reports.page import render

    if order.against is not None:
        return _against(order, order.against)
    question = Question() if order.file is None else read_question(order.file)
    found = screen(question, folder=Path() if order.file is None else order.file.parent)
    order.out.mkdir(parents=True, exist_ok=True)
    write_atomic(order.out / TABLE, _table(found).encode())
    write_atomic(order.out / DATA, _data(found).encode())
    write_atomic(order.out / PAGE, render(page(found, top=order.top)).encode())
    if order.machine:
        say.machine({"event": "done", "out": str(order.out), "pairs": len(found.cells), "draws": found.draws})
    else:
        say.result(*_lines(found))
        say.remark(f"all pairs: {order.out / TABLE} and {order.out / DATA}", f"page: {order.out / PAGE}")
    return guard.OK


def _against(order: Order, table: Path) -> int:
    """Observed ratios beside what the shipped calibration says of them; rows without inputs are named."""
    from pkpd.ground.store import write_atomic
    from pkpd.interactions.library import drugs
    from pkpd.interactions.observed import read_studies
    from pkpd.interactions.shipped import shipped

    studies, without = read_studies(table, drugs())
    order.out.mkdir(parents=True, exist_ok=True)
    text, told = _compared(studies, without, shipped())
    write_atomic(order.out / CHECK, text.encode())
    if order.machine:
        say.machine({"event": "done", "out": str(order.out), **told})
    else:
        say.result(*(f"{name}: {value:.4g}" for name, value in told.items()))
        say.result(*(f"no inputs: row {key}, {why}" for key, why in without))
        say.remark(f"all rows: {order.out / CHECK}")
    return guard.OK


def _compared(
    studies: Sequence[Study], without: Sequence[tuple[str, str]], known: Calibration
) -> tuple[str, dict[str, float]]:
    import math

    import numpy as np

    from pkpd.interactions.library import drugs
    from pkpd.interactions.predictive import foretold, scores
    from reports.tables import inert

    median, lower, upper = foretold(studies, drugs(), known) if studies else (np.empty(0),) * 3
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CHECKED)
    for s, m, low, high in zip(studies, median, lower, upper, strict=True):
        inside = int(low <= math.log(s.ratio) <= high)
        numbers = (s.ratio, *np.exp((m, low, high)), math.exp(abs(m - math.log(s.ratio))))
        names = map(inert, (s.key, s.name, *s.pair))
        seen = known.pairs.get(s.pair, 0)
        writer.writerow([*names, *(f"{x:.6g}" for x in numbers), inside, seen, "; ".join(s.assumed)])
    writer.writerows([[inert(key), "", "", "", "", "", "", "", "", "", "", why] for key, why in without])
    if not studies:
        return text.getvalue(), {"rows": 0.0, "without": float(len(without))}
    error = median - np.log([s.ratio for s in studies])
    found = {"rows": float(len(studies)), "without": float(len(without)), **scores(studies, error, (lower, upper))}
    new = np.array([s.pair not in known.pairs for s in studies])
    if new.any():
        kept = scores(studies, error, (lower, upper), new)
        found |= {"rows of new pairs": float(new.sum()), **{f"new pairs: {k}": v for k, v in kept.items()}}
    return text.getvalue(), found


def _row(cell: Cell) -> list[str]:
    from reports.tables import inert

    names = (cell.perpetrator, cell.regimen, cell.victim, cell.genotype)
    numbers = (*cell.auc, *cell.cmax, *cell.classes, cell.halved, cell.alone)
    return [
        *map(inert, names),
        *(f"{x:.6g}" for x in numbers),
        cell.driver,
        cell.status,
        str(cell.rows),
        str(cell.assumed),
    ]


def _table(found: Matrix) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, cell in enumerate(found.cells, 1):
        writer.writerow([rank, *_row(cell)])
    return text.getvalue()


def _data(found: Matrix) -> str:
    """The same for machines, with what it rests on."""
    told: dict[str, Any] = {
        "format": "vtrial/ddi/1", "question": asdict(found.question),
        "calibration": {
            "studies": sum(found.known.pairs.values()), "pairs": len(found.known.pairs), "scores":
            dict(found.known.scores),
        },
        "classes": ["< 1.25", "1.25 to 2", "2 to 5", "> 5"], "pairs": [asdict(cell) for cell in found.cells],
    }  # fmt: skip
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _lines(found: Matrix) -> list[str]:
    from reports.interactions_page import CAUTION, ranked, sentences

    heads = ("perpetrator", "victim", "AUC ratio (90 %)", "< 1.25", "1.25-2", "2-5", "> 5", "< 0.5", "driver")
    return [*sentences(found), "", *say.table([heads, *ranked(found, SHOWN)], indent=2), "", CAUTION]
