"""`vtrial ae`: events and subjects of one trial in; a table of every term and a page out."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reports.desk import guard, say

if TYPE_CHECKING:
    from reports.ae_page import Found
    from trials.analysis.ae_hierarchy import Posterior
    from trials.analysis.ae_records import AdverseEvents
    from trials.analysis.ae_tables import AeTable

__all__ = ["Order", "ae", "named"]

TABLE, PAGE = "ae.csv", "ae.html"
SHOWN = 10  # lines on the screen
INTERVALS = ("difference", "newcombe", "ratio", "odds", "rate_difference", "rate_difference_exact", "rate_ratio")
AGAIN = ("lwyy", "negative_binomial")
COLUMNS = (
    "level", "soc", "term", "arm", "n", "subjects", "events", "risk", "risk_lower", "risk_upper", "person_years",
    "incidence_100py", "incidence_lower", "incidence_upper", "rate_100py", "rate_lower", "rate_upper", "undated",
    *(f"{name}{end}" for name in INTERVALS for end in ("", "_lower", "_upper")), "p", "fdr", "posterior_or",
    "posterior_or_lower", "posterior_or_upper", "p_or_above_1", "p_or_is_1", "with_several", "mean_undated",
    *(f"{name}{end}" for name in AGAIN for end in ("", "_lower", "_upper", "_p")),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked: the files, the control, which events, the model, names of columns, lines on the page."""

    events: Path
    subjects: Path
    out: Path
    control: str | None
    only: Literal["all", "serious", "related"]
    least_grade: int
    model: Literal["BB", "1a", "none"]
    top: int
    seed: int
    machine: bool
    names: dict[str, Any]


def ae(order: Order) -> int:
    """Read, count, compare, write. Errors: InputError with file, line and column."""
    from dataclasses import replace

    from pkpd.ground.errors import InputError
    from pkpd.ground.store import write_atomic
    from reports.ae_page import found_in, page
    from reports.page import render
    from trials.analysis.ae_records import Columns, read

    columns = replace(Columns(), **order.names)
    data = read(order.events, order.subjects, columns=columns, control=order.control)
    if len(data.arms) < 2:
        raise InputError("has one arm alone", file=order.subjects, field=columns.arm, value=data.arms[0],
                         remedy="a control and another arm, or another column: --column arm=TRT01P")  # fmt: skip
    found = found_in(data, only=order.only, least_grade=order.least_grade, models=_models(data, order))
    order.out.mkdir(parents=True, exist_ok=True)
    write_atomic(order.out / TABLE, _table(found).encode())
    write_atomic(order.out / PAGE, render(page(found, order.events.name, top=order.top)).encode())
    if order.machine:
        say.machine({"event": "done", "out": str(order.out), **_told(found)})
    else:
        say.result(*_lines(found))
        say.remark(f"all terms: {order.out / TABLE}", f"page: {order.out / PAGE}")
    return guard.OK


def named(pairs: Sequence[str]) -> dict[str, Any]:
    """Names of columns from `WHAT=NAME`; WHAT is a field of `ae_records.Columns`.

    >>> named(["arm=TRT01P", "grade=AESEV"])
    {'arm': 'TRT01P', 'grade': ('AESEV',)}
    """
    from dataclasses import fields

    from pkpd.ground.errors import InputError
    from trials.analysis.ae_records import Columns

    known, out = [f.name for f in fields(Columns)], {}
    for pair in pairs:
        what, equals, name = pair.partition("=")
        if what not in known or not (equals and name):
            raise InputError("must be WHAT=NAME", field="--column", value=pair, remedy="WHAT is " + ", ".join(known))
        out[what] = (name,) if what in ("grade", "related") else name
    return out


def _models(data: AdverseEvents, order: Order) -> tuple[Posterior, ...]:
    if order.model == "none" or data.term.size == 0:
        return ()
    from trials.analysis.ae_hierarchy import hierarchy
    from trials.analysis.ae_tables import ae_table

    table = ae_table(data, "term", only=order.only, least_grade=order.least_grade)
    return tuple(
        hierarchy(table.x[:, k], table.n[k], table.x[:, 0], table.n[0], system=data.soc_of, model=order.model,
                  seed=order.seed)
        for k in range(1, len(data.arms))
    )  # fmt: skip


def _table(found: Found) -> str:
    """All lines of all levels as CSV; names that a spreadsheet would run as formulas get an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for level, table in (("any", found.whole), ("soc", found.socs), ("term", found.terms)):
        for row in range(len(table.label)):
            for arm in range(len(table.arms)):
                writer.writerow(_cells(found, table, (row, arm), level))
    return text.getvalue()


def _cells(found: Found, table: AeTable, at: tuple[int, int], level: str) -> list[object]:
    from reports.tables import inert

    row, arm = at
    term = table.label[row] if level == "term" else ""
    rates = [100.0 * float(v[at]) for i in (table.incidence, table.rate) for v in (i.estimate, i.lower, i.upper)]
    return [
        level, inert(table.soc[row]), inert(term), inert(table.arms[arm]), int(table.n[arm]), int(table.x[at]),
        int(table.events[at]), *(_plain(v[at]) for v in (table.risk.estimate, table.risk.lower, table.risk.upper)),
        _plain(table.years[at]), *map(_plain, rates), int(table.undated[row]), *_against(table, row, arm - 1),
        *_posterior(found, row, arm - 1, level), *_again(found, row, arm, level),
    ]  # fmt: skip


def _again(found: Found, row: int, arm: int, level: str) -> list[str]:
    """Rates of all events; ratios empty for the control."""
    table = found.again[("any", "soc", "term").index(level)]
    out = [str(int(table.again[row, arm])), str(int(table.undated[row, arm]))]
    for name in AGAIN:
        i = getattr(table, name)
        out += [_plain(v[row, arm - 1]) if arm else "" for v in (i.estimate, i.lower, i.upper, i.p)]
    return out


def _against(table: AeTable, row: int, k: int) -> list[str]:
    """Comparisons with control, empty for the control; rates per 100 person-years."""
    if k < 0:
        return [""] * (3 * len(INTERVALS) + 2)
    out = []
    for name in INTERVALS:
        i, scale = getattr(table.compared, name), 100.0 if name.startswith("rate_difference") else 1.0
        out += [_plain(scale * float(v[row, k])) for v in (i.estimate, i.lower, i.upper)]
    return [*out, _plain(table.compared.difference.p[row, k]), _plain(table.compared.fdr[row, k])]


def _posterior(found: Found, row: int, k: int, level: str) -> list[str]:
    if k < 0 or level != "term" or not found.models:
        return [""] * 5
    import numpy as np

    draws = found.models[k].theta[..., row]
    odds = np.exp(np.quantile(draws, [0.5, 0.025, 0.975]))
    return [*map(_plain, odds), _plain((draws > 0).mean()), _plain((draws == 0).mean())]


def _plain(value: Any) -> str:
    number = float(value)
    return "" if math.isnan(number) else f"{number:.10g}"


def _told(found: Found) -> dict[str, Any]:
    whole, terms = found.whole, found.terms
    return {
        "subjects": int(found.data.arm.size), "events": int(found.data.term.size), "terms": len(terms.label),
        "left_out": dict(found.data.left_out),
        "arms": [
            {"arm": arm, "n": int(whole.n[a]), "with_event": int(whole.x[0, a])} for a, arm in enumerate(whole.arms)
        ],
        "standing_out": [int((terms.compared.fdr[:, k] < 0.05).sum()) for k in range(len(whole.arms) - 1)],
        "sound": [model.sound for model in found.models],
    }  # fmt: skip


def _lines(found: Found) -> list[str]:
    from reports.ae_page import CAUTION, incidence, ranked, sentences

    t = found.terms
    rows = [("term", *(f"{arm}: subjects (%) events" for arm in t.arms))]
    rows += [(t.label[j], *(incidence(t, j, a) for a in range(len(t.arms)))) for j in ranked(found)[:SHOWN].tolist()]
    clean = [["".join(c if c.isprintable() else "?" for c in cell)[:40] for cell in row] for row in rows]
    return [*sentences(found), "", *say.table(clean, indent=2), "", CAUTION]
