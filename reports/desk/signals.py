"""`vtrial signals`: spontaneous reports in; a table of all pairs and a page of the ranked ones out."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reports.desk import guard, say

if TYPE_CHECKING:
    from trials.analysis.signals_bayes import FullBayes
    from trials.analysis.signals_fit import Theta
    from trials.analysis.signals_list import Signals
    from trials.analysis.signals_ratio import RatioTest
    from trials.analysis.signals_together import Together

__all__ = ["Order", "signals"]

TABLE, TRIPLES, PAGE = "signals.csv", "together.csv", "signals.html"
SHOWN = 10  # lines on the screen
COLUMNS = (
    "rank", "product", "event", "n", "expected", "n_product", "n_event", "ebgm", "eb05", "eb95", "weight", "ic",
    "ic025", "ic975", "prr", "prr_lower", "prr_upper", "ror", "ror_lower", "ror_upper", "chi2_yates", "log_lr",
    "zero_cell", "p_log_lr", "fdr_product", "ebgm_full", "eb05_full", "eb95_full", "meets",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked: the file, names of its columns, where answers go, how the prior is had, lines on the page."""

    file: Path
    out: Path
    report: str
    product: str
    event: str
    strata: tuple[str, ...]
    theta: str | None
    truncation: Literal["component", "joint", "none"]
    top: int
    machine: bool
    test: int | None = None  # replicates of the test of the likelihood ratio
    seed: int = 20261121
    together: bool = False  # two products and an event
    full_bayes: bool = False


def signals(order: Order) -> int:
    """Read, score, write. Errors: InputError with file, line and column."""
    from pkpd.ground.store import write_atomic
    from reports.page import render
    from reports.signals_page import page
    from trials.analysis import signals_bayes, signals_list
    from trials.analysis.signals_ratio import likelihood_ratio_test
    from trials.analysis.signals_reports import Columns, read
    from trials.analysis.signals_together import together

    columns = Columns(report=order.report, product=order.product, event=order.event, strata=order.strata)
    theta = None if order.theta is None else _theta(order.theta)
    found = signals_list.signals(read(order.file, columns), theta=theta, truncation=order.truncation)
    tested = (
        None if order.test is None else likelihood_ratio_test(found.reports, seed=order.seed, replicates=order.test)
    )
    both = together(found.reports) if order.together else None
    full = signals_bayes.full_bayes(found, seed=order.seed, truncation=order.truncation) if order.full_bayes else None
    order.out.mkdir(parents=True, exist_ok=True)
    write_atomic(order.out / TABLE, _table(found, tested, full).encode())
    if both is not None:
        write_atomic(order.out / TRIPLES, _triples(found, both).encode())
    shown = page(found, order.file.name, top=order.top, tested=tested, both=both, full=full)
    write_atomic(order.out / PAGE, render(shown).encode())
    if order.machine:
        triples = None if both is None else {"triples": int(both.n.size), "omega025": int((both.lower > 0).sum())}
        say.machine({"event": "done", "out": str(order.out), **_told(found, tested), "together": triples,
                     "full_bayes": None if full is None else _of_full(full)})  # fmt: skip
    else:
        say.result(*_lines(found, (tested, both, full)))
        say.remark(f"all pairs: {order.out / TABLE}", f"page: {order.out / PAGE}")
    return guard.OK


def _theta(text: str) -> Theta:
    from pkpd.ground.errors import InputError
    from trials.analysis.signals_fit import Theta

    remedy = "write alpha1,beta1,alpha2,beta2,p, for example 0.2,0.1,2,4,0.33"
    try:
        a1, b1, a2, b2, p = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError("are not five numbers", field="--theta", value=text, remedy=remedy) from None
    return Theta(alpha1=a1, beta1=b1, alpha2=a2, beta2=b2, p=p)


def _table(found: Signals, tested: RatioTest | None, full: FullBayes | None) -> str:
    """All pairs as CSV; names that a spreadsheet would run as formulas get an apostrophe, numbers do not."""
    from reports.tables import inert

    made, scores, small = found.counts, found.scores, found.shrunk
    numbers = (
        made.n, made.expected, made.n_product, made.n_event, small.ebgm, small.eb05, small.eb95, small.weight,
        scores.ic, scores.ic_lower, scores.ic_upper, scores.prr, scores.prr_lower, scores.prr_upper, scores.ror,
        scores.ror_lower, scores.ror_upper, scores.chi2, scores.log_lr,
    )  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, k in enumerate(found.order.tolist(), 1):
        names = found.reports.products[made.product[k]], found.reports.events[made.event[k]]
        meets = " ".join(name for name, answers in found.meets.items() if answers[k])
        cells = [_plain(column[k]) for column in numbers]
        chance = ("", "") if tested is None else (_plain(tested.p[k]), _plain(tested.fdr[made.product[k]]))
        over = [""] * 3 if full is None else [_plain(v[k]) for v in _parts(full)]
        writer.writerow([rank, *map(inert, names), *cells, int(scores.zero_cell[k]), *chance, *over, meets])
    return text.getvalue()


def _parts(full: FullBayes) -> tuple[Any, ...]:
    return full.shrunk.ebgm, full.shrunk.eb05, full.shrunk.eb95


def _of_full(full: FullBayes) -> dict[str, Any]:
    post = full.posterior
    rows = ("mean", "sd", "low", "median", "high")
    return {
        "pareto_k": post.k if math.isfinite(post.k) else None, "effective": post.effective, "sound": post.sound,
        "eb05": full.meets, "changed": full.changed,
        "theta": {row: [float(x) for x in getattr(post, row)] for row in rows},
    }  # fmt: skip


def _triples(found: Signals, both: Together) -> str:
    """Two products and an event, all of them, by the lower limit of omega."""
    from reports.tables import inert

    text, reports = io.StringIO(), found.reports
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "product", "with", "event", "n", "both", "expected", "omega", "omega025", "omega975"))
    for rank, k in enumerate(both.order.tolist(), 1):
        names = reports.products[both.first[k]], reports.products[both.second[k]], reports.events[both.event[k]]
        numbers = both.n, both.both, both.expected, both.omega, both.lower, both.upper
        writer.writerow([rank, *map(inert, names), *(_plain(column[k]) for column in numbers)])
    return text.getvalue()


def _plain(value: Any) -> str:
    number = float(value)
    return "" if math.isnan(number) else f"{number:.10g}"


def _told(found: Signals, tested: RatioTest | None) -> dict[str, Any]:
    fit = found.fit
    return {
        "reports": found.counts.reports, "pairs": int(found.counts.n.size), "strata": len(found.reports.strata),
        "theta": None if found.theta is None else found.theta.text(),
        "status": "given" if fit is None else fit.status.name,
        "negative_log_likelihood": None if fit is None or math.isnan(fit.negative_log_likelihood)
        else fit.negative_log_likelihood,
        "other_optima": [] if fit is None else [{"worse": v - fit.negative_log_likelihood, "theta": t.text()}
                                                for v, t in fit.others],
        "meets": {name: int(answers.sum()) for name, answers in found.meets.items()}, "settled": list(found.settled),
        "tested": None if tested is None
        else {"replicates": tested.replicates, "products": int((tested.fdr < 0.05).sum())},
    }  # fmt: skip


def _lines(found: Signals, more: tuple[RatioTest | None, Together | None, FullBayes | None]) -> list[str]:
    from reports.signals_page import CAUTION, of_test, of_triples, ranked, sentences

    rows = [("product", "event", "n", "expected", "EBGM", "EB05 .. EB95", "IC025 .. IC975"), *ranked(found, SHOWN)]
    clean = [[_printable(cell) for cell in row] for row in rows]
    tested, both, full = more
    words = (*of_test(tested), *of_triples(both), *(() if full is None else (full.words,)))
    return [*sentences(found), *words, "", *say.table(clean, indent=2), "", CAUTION]


def _printable(text: str) -> str:
    """A name on one line of the screen: no control characters, not longer than 40."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= 40 else shown[:39] + "…"
