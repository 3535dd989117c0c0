"""From a run record to the laboratory toxicity of its report: grades, shifts, extremes, durations, doses, eDISH.

What a trial sees comes from the outcome table (left trial, missed visits: not seen), what differs between arms in the
same people from the table `laboratory`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reports import results
from reports.results import Cells, Range
from reports.toxicity import Course, Doses, Liver, Same, Share, Test, Toxicity
from trials import operating
from trials.analysis import binary, labs
from trials.operating import Estimate

if TYPE_CHECKING:
    import pandas as pd

    from trials.laboratory import Opened
    from trials.record import RunRecord

Array = NDArray[np.float64]
SHOWN = 3000  # subjects drawn in eDISH


def toxicity(record: "RunRecord") -> Toxicity | None:
    """What the laboratory saw in a run, None where its protocol has no test."""
    from trials.laboratory import opened

    if not record.protocol.laboratory:
        return None
    table, arms = record.outcomes, len(record.protocol.arms)
    inside, tests = results.cells(table, arms), opened(record.protocol, record.model)
    return Toxicity(
        tests=tuple(_test(record, test, inside) for test in tests.values()),
        doses=tuple(_doses(record, code, inside) for code in range(arms)),
        same=_same(record, tests), cycles_alike={name: _alike(record, test) for name, test in tests.items()},
        alike=int(record.laboratory["replicate"].nunique()) if len(record.laboratory) else 0,
        liver=_liver(table, inside, tests=tests) if "liver.quadrant" in table else None,
        regraded=any(len(arm.rules) for arm in record.protocol.arms.values()),
    )  # fmt: skip


def _among(inside: Cells, flags: NDArray[np.bool_], of: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Counts (R, A) of `flags` among `of`, and of `of`."""
    return inside.total(flags & of), inside.total(of)


def _shares(inside: Cells, flags: NDArray[np.bool_], of: NDArray[np.bool_]) -> tuple[Share, ...]:
    count, number = _among(inside, flags, of)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = count / number
    limits = binary.wilson(count, number)
    return tuple(
        Share(
            expected=operating.mean(share[:, a]), one=(_median(limits.lower[:, a]), _median(limits.upper[:, a])),
            count=int(count[:, a].sum()), subjects=int(number[:, a].sum()), number=float(number[:, a].mean()),
        )
        for a in range(inside.arms)
    )  # fmt: skip


def _median(x: Array) -> float:
    good = x[np.isfinite(x)]
    return float(np.median(good)) if good.size else np.nan


def _test(record: "RunRecord", test: "Opened", inside: Cells) -> Test:
    from trials.laboratory import described

    table, at = record.outcomes, f"lab.{test.name}."
    worst = table[at + "worst"].to_numpy(np.int64)
    shifted = labs.shifts(
        table[at + "baseline_grade"], worst, table["arm"].to_numpy(np.int64), arms=inside.arms
    ).count / inside.replicates  # fmt: skip
    return Test(
        name=test.name, label=test.text.label or test.term, low=test.low,
        words=described(test.text, record.protocol.population.people().labels),
        unit=test.text.unit or "", told=test.text.lasting, levels=test.levels,
        worst={g: _shares(inside, worst >= g, worst >= 0) for g in test.levels}, shifts=shifted,
        courses=tuple(_course(table, inside, at, arm) for arm in range(inside.arms)),
        cycles=_cycles(table, inside, at, told=test.text.lasting),
    )  # fmt: skip


def _by_replicate(inside: Cells, arm: int, values: Array) -> list[Array]:
    """Finite values of the subjects of an arm, replicate by replicate."""
    mine = (inside.cell % inside.arms == arm) & np.isfinite(values)
    replicate, x = (inside.cell // inside.arms)[mine], values[mine]
    order = np.argsort(replicate, kind="stable")
    cuts = np.searchsorted(replicate[order], np.arange(1, inside.replicates))
    return np.split(x[order], cuts)


def _medians(parts: Sequence[Array]) -> Array:
    return np.array([np.median(x) if x.size else np.nan for x in parts])


def _of_people(parts: Sequence[Array]) -> Range:
    """5 and 95 % of subjects of all replicates together."""
    x = np.concatenate(parts)
    return (float(np.quantile(x, 0.05)), float(np.quantile(x, 0.95))) if x.size else results.NONE


def _course(table: "pd.DataFrame", inside: Cells, at: str, arm: int) -> Course:
    extreme, day, days = (
        _by_replicate(inside, arm, table[at + name].to_numpy(np.float64)) for name in ("extreme", "day", "days")
    )
    any_ = [x[x > 0] for x in days]
    medians = _medians(extreme)
    return Course(
        extreme=operating.mean(medians), extremes=results.middle(medians), people=_of_people(extreme),
        day=operating.mean(_medians(day)), days_of_people=_of_people(day),
        lasting=operating.mean([x.mean() if x.size else np.nan for x in days]),
        lasting_any=operating.mean(_medians(any_)), lasting_people=_of_people(any_),
    )  # fmt: skip


def _cycles(table: "pd.DataFrame", inside: Cells, at: str, *, told: int) -> tuple[tuple[Share, ...], ...]:
    grades = [table[c].to_numpy(np.int64) for c in table.columns if c.startswith(at + "cycle")]
    return tuple(_shares(inside, grade >= told, grade >= 0) for grade in grades)


def _doses(record: "RunRecord", code: int, inside: Cells) -> Doses | None:
    table, arm = record.outcomes, list(record.protocol.arms.values())[code]
    if not arm.regimen:
        return None
    parts = {
        name: _by_replicate(inside, code, table[f"dose.{name}"].to_numpy(np.float64))
        for name in ("intensity", "share", "reductions", "delays", "holds")
    }
    everybody = np.ones(inside.cell.size, np.bool_)
    mean = {name: operating.mean([x.mean() if x.size else np.nan for x in x_by]) for name, x_by in parts.items()}
    return Doses(
        intensity=mean["intensity"], people=_of_people(parts["intensity"]), share=mean["share"],
        reductions=mean["reductions"], delays=mean["delays"], holds=mean["holds"],
        reduced=_shares(inside, table["dose.reductions"].to_numpy() > 0, everybody)[code],
        ended=tuple(
            (words, _shares(inside, table["dose.cause"].to_numpy() == cause, everybody)[code])
            for cause, words in _causes(record, code)
        ),
    )  # fmt: skip


def _causes(record: "RunRecord", code: int) -> list[tuple[int, str]]:
    """Why treatment can end in an arm, in words: codes of `dose.cause`."""
    from trials.dose_course import BY_EVENT, FIRST_RULE

    arm = list(record.protocol.arms.values())[code]
    found = [(BY_EVENT, "adverse event")] if record.protocol.stop_grade is not None else []
    for number, rule in enumerate(arm.rules):
        below = bool(rule.do.levels) and rule.do.lowest == "stop"
        if not (rule.do.stop or below or rule.do.longest is not None):
            continue
        what = f"{rule.laboratory or rule.name or 'rule'}"
        how = ["stopped"] * rule.do.stop + ["no lower level"] * below + ["waited too long"] * bool(rule.do.longest)
        found.append((FIRST_RULE + number, f"{what}: {' or '.join(how)}"))
    return found


def _same(record: "RunRecord", tests: Mapping[str, "Opened"]) -> tuple[Same, ...]:
    """Measures in the same people: worst grades, days, doses."""
    table = record.laboratory
    if not len(table):
        return ()
    asked = [
        (name, f"worst {g}", f"{test.text.label or test.term}: grade ≥ {g}" if g < 4 else
         f"{test.text.label or test.term}: grade 4", True)
        for name, test in tests.items() for g in test.levels if g >= 3 or g == test.levels[-1]
    ]  # fmt: skip
    asked += [
        (n, "days", f"{t.text.label or t.term}: days at grade {t.text.lasting} or worse", False)
        for n, t in tests.items()
    ]
    asked += [
        ("liver", "quadrant 3", "ALT or AST > 3 and bilirubin > 2", True),
        ("liver", "hy", "Potential Hy's law", True),
    ]
    asked += [("", "intensity", "Relative dose intensity", True), ("", "reductions", "Reductions per subject", False)]
    control = _control(record)
    return tuple(
        Same(label=label, percent=percent, share=bool(test) and percent,
             by_arm=tuple(operating.mean(x) for x in values.T),
             subjects=tuple(int(n) for n in _wide(table, test, measure, column="n").sum(axis=0)),
             difference=tuple(None if a == control else operating.difference(values[:, a], values[:, control])
                              for a in range(values.shape[1])))
        for test, measure, label, percent in asked
        if (values := _wide(table, test, measure)).size
    )  # fmt: skip


def _control(record: "RunRecord") -> int:
    first = next(iter(record.protocol.estimands.values()), None)
    return list(record.protocol.arms).index(first.against) if first else 0


def _wide(table: "pd.DataFrame", test: str, measure: str, *, column: str = "value") -> Array:
    """Values of a measure (replicate, arm), empty where nobody has it."""
    rows = table[(table["test"] == test) & (table["measure"] == measure)]
    if not len(rows):
        return np.empty((0, 0))
    return np.asarray(rows.pivot(index="replicate", columns="arm", values=column).to_numpy(np.float64))


def _alike(record: "RunRecord", test: "Opened") -> tuple[tuple[Estimate, ...], ...]:
    """Share with the told grade or worse by cycle and arm, in the same people."""
    table = record.laboratory
    found: list[tuple[Estimate, ...]] = []
    if not len(table):
        return ()
    while (values := _wide(table, test.name, f"cycle{len(found) + 1} {test.text.lasting}")).size:
        found.append(tuple(operating.mean(x) for x in values.T))
    return tuple(found)


def _liver(table: "pd.DataFrame", inside: Cells, *, tests: Mapping[str, "Opened"]) -> Liver:
    from trials.laboratory import of_liver

    quadrant, hy = (table[f"liver.{name}"].to_numpy(np.int64) for name in ("quadrant", "hy"))
    known = quadrant >= 0
    quadrants = tuple(_shares(inside, quadrant == q, known) for q in range(4))
    columns = [table[f"liver.{name}"].to_numpy(np.float64) for name in ("aminotransferase", "bilirubin")]
    points = np.column_stack([*columns, table["arm"].to_numpy(np.float64), hy.astype(np.float64)])
    rows = np.concatenate([_thinned(np.flatnonzero(known & (quadrant > 0))), _thinned(np.flatnonzero(quadrant == 0))])
    everybody = np.ones(hy.size, np.bool_)
    cases = inside.total(hy == 1)
    return Liver(
        points=points[rows], quadrants=quadrants,
        hy=_shares(inside, hy == 1, everybody), unknown=_shares(inside, hy == -1, everybody),
        any=tuple(operating.proportion(cases[:, a] > 0) for a in range(inside.arms)),
        phosphatase="alp" in of_liver(tests), shown=rows.size, subjects=int(known.sum()),
    )  # fmt: skip


def _thinned(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    return rows[results.thinned(rows.size, SHOWN // 2)]
