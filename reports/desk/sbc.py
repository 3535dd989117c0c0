"""`vtrial sbc`: simulation-based calibration of the fit of a model under a design, as a page and as JSON."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.desk import guard, progress, say

if TYPE_CHECKING:
    from pkpd.bayes.sbc import Calibration, Outcome, Study

__all__ = ["Order", "sbc"]

FITS, RESULT, PAGE = "fits.jsonl", "sbc.json", "sbc.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked; fits: instead of the design's number; resume: go on with what `out` holds; force: replace it."""

    model: str
    design: Path
    out: Path
    fits: int | None = None
    cores: int = 2
    resume: bool = False
    force: bool = False
    machine: bool = False


def sbc(order: Order) -> int:
    """Simulate, fit and rank; 3 where the fit is not calibrated. Every fit is on disk as soon as it is done."""
    study, digests = _study(order)
    done = _done(order, study)
    order.out.mkdir(parents=True, exist_ok=True)
    _begin(order, study, done)
    with progress.listening(machine=order.machine, unit="fits") as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done += _fitted(order, study, done, heard)
    return _said(order, study, done, digests)


def _study(order: Order) -> tuple[Study, list[tuple[str, str]]]:
    """The study and digests of its texts, read before anything heavy is loaded."""
    from trials.run import fit_model

    model = fit_model(order.model, Path())
    from pkpd.bayes.sbc_design import StudyDesign

    design = StudyDesign.read(order.design)
    design = design if order.fits is None else replace(design, fits=order.fits)
    from pkpd.bayes.sbc import prepared

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = prepared(model, design, file=str(order.design))
    return study, [("Model", model.digest), ("Design", design.digest), ("Seed", str(design.seed))]


def _done(order: Order, study: Study) -> list[Outcome]:
    """The fits that `out` holds already, where they may be used. Errors: InputError."""
    from pkpd.bayes.sbc import Outcome
    from pkpd.ground.errors import InputError

    file = order.out / FITS
    if not file.exists() or order.force:
        return []
    if not order.resume:
        remedy = "--resume to go on with it, --force to replace it, or another --out"
        raise InputError("holds a study already", file=order.out, field="out", remedy=remedy)
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or _read(lines[0]).get("key") != study.key:
        remedy = "begin again with --force, or give another --out"
        raise InputError("holds another study (model, design or program changed)", file=file, remedy=remedy)
    rows = [_read(line) for line in lines[1:]]
    found = {int(row["fit"]): Outcome(**row) for row in rows if row}
    return [outcome for number, outcome in found.items() if number < study.design.fits]


def _read(line: str) -> dict[str, Any]:
    """A line of the file; one that was cut short by a crash counts as none."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return found


def _begin(order: Order, study: Study, done: list[Outcome]) -> None:
    """The file with what is done: a whole header and whole lines."""
    from pkpd.ground.store import write_atomic

    rows = [{"key": study.key}, *(o.to_dict() for o in done)]
    write_atomic(order.out / FITS, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _fitted(order: Order, study: Study, done: list[Outcome], heard: progress.Listener) -> list[Outcome]:
    from pkpd.bayes.sbc import calibrated

    made: list[Outcome] = []
    heard("calibrate", len(done), study.design.fits)
    with (order.out / FITS).open("a", encoding="utf-8") as file:
        for outcome in calibrated(study, done=[o.fit for o in done], cores=order.cores):
            file.write(json.dumps(outcome.to_dict()) + "\n")
            file.flush()
            made.append(outcome)
            heard("calibrate", len(done) + len(made), study.design.fits)
    return made


def _said(order: Order, study: Study, done: list[Outcome], digests: list[tuple[str, str]]) -> int:
    from pkpd.bayes.sbc import summary
    from pkpd.ground.store import write_atomic
    from reports.page import render
    from reports.sbc_page import page

    found = summary(study, done)
    write_atomic(order.out / RESULT, (json.dumps(found.to_dict(), indent=1) + "\n").encode())
    write_atomic(order.out / PAGE, render(page(found, done, digests)).encode())
    if order.machine:
        say.machine({"event": "done", "out": str(order.out), **found.to_dict()})
    else:
        say.result(*_table(found), found.verdict, *(f"{n} fits: {reason}" for reason, n in found.failures.items()))
        say.remark(f"page: {order.out / PAGE}", f"{found.seconds / max(found.fits, 1):.2f} CPU s a fit")
    return guard.OK if found.ok else guard.FAILED


def _table(found: Calibration) -> list[str]:
    head = ("quantity", "p", "mean z", "sd of z", "coverage 50 %", "90 %", "95 %", "contraction")
    rows = [
        (
            q.name, f"{q.p:.3g}", f"{q.z_mean:+.2f}", f"{q.z_sd:.2f}",
            *(f"{100 * q.coverage[level]:.1f} %" for level in ("0.5", "0.9", "0.95")),
            "" if q.contraction is None else f"{q.contraction:.2f}",
        )
        for q in found.quantities
    ]  # fmt: skip
    return say.table([head, *rows])
