"""Records as NONMEM-style CSV: what `Records.parse` reads back as the same records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pkpd.model.regimen import EventKind

if TYPE_CHECKING:
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

__all__ = ["csv_text"]

Cells = dict[str, Any]
_COLUMNS = ("ID", "TIME", "AMT", "DV", "EVID", "CMT", "DVID", "RATE", "DUR", "II", "SS")


def csv_text(records: Records, model: Model | None) -> str:
    """The whole file, one line per record, in order of subject and time."""
    occasion = {str(model.occasion.column): records.occasion} if model and model.occasion and records.occasion else {}
    series = {**records.series, **occasion}
    censored = ["CENS"] if (records.below | records.over).any() else []
    censored += ["LIMIT"] if (records.floor > -math.inf).any() else []
    header = [*_COLUMNS, *censored, *records.covariates, *series]
    lines = [",".join(header)]
    for i, name in enumerate(records.ids):
        fixed = {k: _number(v[i]) for k, v in records.covariates.items()}
        moving = {k: dict(zip(*(x.tolist() for x in s.of_subject(i)), strict=True)) for k, s in series.items()}
        for cells in _rows(records, i, model, moving):
            told = {k: _number(v[cells["TIME"]]) for k, v in moving.items() if cells["TIME"] in v}
            full = {**dict.fromkeys(header, "."), **fixed, **cells, **told, "ID": name, "TIME": _number(cells["TIME"])}
            lines.append(",".join(str(full[column]) for column in header))
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    value = float(value)
    if math.isnan(value):
        return "."
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _rows(records: Records, i: int, model: Model | None, moving: Mapping[str, Mapping[float, float]]) -> list[Cells]:
    """Cells of one subject's lines; observations before or after the doses at their time, as they were."""
    doses = records.doses
    made = [(float(doses.time[k]), 1, _event(doses, k, model)) for k in range(doses.offsets[i], doses.offsets[i + 1])]
    for k in (records.subject == i).nonzero()[0]:
        output = list(model.outputs)[int(records.output[k])] if model else int(records.output[k]) + 1
        cells = {"EVID": 0, "DV": _number(records.dv[k]), "DVID": output}
        cells |= {"CENS": 1} if records.below[k] else {"CENS": -1} if records.over[k] else {}
        cells |= {"LIMIT": _number(records.floor[k])} if records.floor[k] > -math.inf else {}
        made.append((float(records.time[k]), 2 if records.after[k] else 0, cells))
    there = {time for time, _, _ in made}
    made += [(t, 0, {"EVID": 2}) for t in sorted({t for v in moving.values() for t in v} - there)]
    made.sort(key=lambda row: row[:2])
    return [{"TIME": time, **cells} for time, _, cells in made]


def _event(doses: Any, k: int, model: Model | None) -> Cells:
    kind, target, rate = EventKind(int(doses.kind[k])), int(doses.target[k]), float(doses.rate[k])
    place = list(model.states)[target] if model else target + 1
    if kind in (EventKind.OFF, EventKind.ON):
        return {"EVID": 2, "CMT": f"-{place}" if kind is EventKind.OFF else place}
    if kind is EventKind.RESET:
        return {"EVID": 3}
    cells: Cells = {"EVID": int(kind), "CMT": place, "AMT": _number(doses.amount[k])}
    if rate:
        cells["RATE"] = _number(rate)
    elif doses.duration[k] > 0:
        cells["DUR"] = _number(doses.duration[k])
    if doses.steady[k]:
        cells |= {"SS": int(doses.steady[k]), "II": _number(doses.interval[k])}
    return cells
