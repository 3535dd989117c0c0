"""Some patients of a case, in a given order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkpd.model.records import Records
from pkpd.model.timeline import Series, Timeline
from pkpd.twin.case import Case, Levels

__all__ = ["patients", "subset"]

Rows = NDArray[np.intp]


def subset(case: Case, rows: Rows) -> Case:
    """The case of some patients; their particles keep their random numbers."""
    line, take = case.timeline, _ragged(case.timeline.offsets, rows)
    counts = np.diff(line.offsets)[rows]
    part = Timeline(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), time=line.time[take], late=line.late[take],
        values={k: v[take] for k, v in line.values.items()}, slopes={k: v[take] for k, v in line.slopes.items()},
        occasion=line.occasion[take],
    )  # fmt: skip
    names: dict[str, Any] = {name: getattr(case.levels, name)[rows] for name in Levels.__slots__}
    return replace(
        case, records=patients(case.records, rows), levels=Levels(**names), timeline=part, place=case.place[take],
        address=case.address[rows],
    )  # fmt: skip


def patients(records: Records, rows: Rows) -> Records:
    """The records of some subjects, in that order; the digest stays that of the file."""
    keep = np.concatenate([np.flatnonzero(records.subject == i) for i in rows]) if len(rows) else np.zeros(0, np.int64)
    counts = [int((records.subject == i).sum()) for i in rows]
    return replace(
        records, ids=tuple(records.ids[int(i)] for i in rows), doses=records.doses.subjects(rows),
        subject=np.repeat(np.arange(len(rows)), counts), time=records.time[keep], dv=records.dv[keep],
        output=records.output[keep], after=records.after[keep], below=records.below[keep], line=records.line[keep],
        over=records.over[keep], floor=records.floor[keep],
        covariates={name: values[rows] for name, values in records.covariates.items()},
        series={name: _series(s, rows) for name, s in records.series.items()},
        occasion=None if records.occasion is None else _series(records.occasion, rows),
    )  # fmt: skip


def _series(series: Series, rows: Rows) -> Series:
    take = _ragged(series.offsets, rows)
    offsets = np.concatenate([[0], np.cumsum(np.diff(series.offsets)[rows])]).astype(np.int64)
    return Series(offsets, series.time[take], series.value[take])


def _ragged(offsets: NDArray[np.int64], rows: Rows) -> NDArray[np.int64]:
    parts = [np.arange(offsets[i], offsets[i + 1]) for i in rows]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
