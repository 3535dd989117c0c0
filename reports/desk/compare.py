"""`vtrial compare`: fits of the same data by how well they predict a subject left out, with stacking weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reports.desk import guard, say

if TYPE_CHECKING:
    from pkpd.bayes.loo import Loo

__all__ = ["compare"]

COLUMNS = ("fit", "elpd", "se", "p_loo", "behind the best", "se", "weight", "k > 0.7")


def compare(files: Sequence[Path], *, machine: bool) -> int:
    """Print the fits, the best first; 3 where a value is not to be trusted."""
    from pkpd.bayes.loo import compare as compared
    from pkpd.ground.errors import InputError

    if len(files) < 2:
        raise InputError("needs two fits or more", field="FIT", value=len(files), remedy="vtrial fit ... --out FILE")
    names = _names(files)
    found = {name: _left_out(file) for name, file in zip(names, files, strict=True)}
    table = compared(found)
    doubtful = int(table["doubtful"].sum())
    if machine:
        say.machine({"event": "done", "fits": table.to_dict("records"), "trusted": doubtful == 0})
        return guard.FAILED if doubtful else guard.OK
    rows = [
        (
            str(r["model"]), f"{r['elpd']:.1f}", f"{r['se']:.1f}", f"{r['p_loo']:.1f}", f"{r['difference']:.1f}",
            f"{r['se_difference']:.1f}", f"{r['weight']:.2f}", str(r["doubtful"]),
        )
        for r in table.to_dict("records")
    ]  # fmt: skip
    say.result(*say.table([COLUMNS, *rows]), _verdict(table.to_dict("records")))
    return guard.FAILED if doubtful else guard.OK


def _verdict(rows: Sequence[dict[object, object]]) -> str:
    """One sentence: which fit predicts better, or that the data cannot tell."""
    best, second = rows[0], rows[1]
    behind, se = -float(str(second["difference"])), float(str(second["se_difference"]))
    shaky = [str(r["model"]) for r in rows if r["doubtful"]]
    if shaky:
        return f"Not to be trusted: subjects of {', '.join(shaky)} have a Pareto k above 0.7; fit with checks again."
    if behind < 2.0 * se or behind < 4.0:
        return (
            f"The data do not tell {best['model']} from {second['model']} (difference {behind:.1f}, se {se:.1f}): use "
            "both with their weights."
        )
    return f"{best['model']} predicts a new subject better than {second['model']} by {behind:.1f} (se {se:.1f})."


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names, with their folders where two are alike."""
    short = [file.stem for file in files]
    return short if len(set(short)) == len(short) else [str(file) for file in files]


def _left_out(file: Path) -> Loo:
    """What a posterior file says of its leave-one-out. Errors: InputError where it says nothing."""
    from pkpd import posterior
    from pkpd.bayes.loo import Loo
    from pkpd.ground.errors import InputError

    told = posterior.read(file).diagnostics.get("checks", {}).get("loo")
    if told is None:
        remedy = "write it by vtrial fit --out, with the checks"
        raise InputError("holds no leave-one-out values", file=file, field="checks.loo", remedy=remedy)
    return Loo.from_dict(told)
