"""`vtrial design`: from the text of a design to boundaries, sample size and, where asked, simulated characteristics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.desk import guard, say

__all__ = ["design"]

TITLES = {
    "information": "information", "subjects": "subjects", "at_most": "subjects <=", "events": "events", "time": "time",
    "entered": "entered", "critical_z": "z >=", "critical_product": "product <=", "stage_level": "p (one-sided)",
    "alpha_spent": "alpha spent", "futility_z": "futile z <=", "futility_p": "futile p >=", "beta_spent": "beta spent",
    "effect_at_critical": "effect there", "reject_effect": "P(reject)", "stop_effect": "P(stop)",
    "reject_no_effect": "P(reject|H0)", "stop_no_effect": "P(stop|H0)",
}  # fmt: skip
SIZES = {
    "subjects": "subjects (whole)", "total": "subjects", "treated": "treated", "control": "control",
    "at_most": "subjects at most",
    "events": "events", "whole_events": "events (whole)", "duration": "duration", "follow_up": "follow-up",
}  # fmt: skip
EXPECTED = {
    "inflation": "inflation of the fixed size", "subjects_effect": "expected subjects, effect",
    "subjects_half_effect": "expected subjects, half the effect", "subjects_no_effect": "expected subjects, no effect",
    "events_effect": "expected events, effect", "events_half_effect": "expected events, half the effect",
    "events_no_effect": "expected events, no effect", "duration_effect": "expected duration, effect",
}  # fmt: skip
SHOWN = {"reject": "power", "subjects": "subjects", "events": "events", "duration": "duration"}  # also exact


def design(file: Path, *, simulate: bool, replicates: int | None, machine: bool) -> int:
    """Solve the design of a file; with `simulate` also draw trials under each truth its text states."""
    from trials.designs.designed import solved
    from trials.designs.text import Design

    made = Design.read(file)
    answer = solved(made)
    if simulate or replicates is not None:
        answer["simulated"] = _simulated(made, replicates, file)
    if machine:
        say.machine({"ok": True, "file": str(file), **answer})
    else:
        say.result(*_lines(answer))
    return guard.OK


def _simulated(made: Any, replicates: int | None, file: Path) -> list[dict[str, Any]]:
    from pkpd.ground.errors import InputError
    from trials.designs.exact import exact
    from trials.designs.grid import null_of
    from trials.designs.simulated import simulated

    if made.simulate is None:
        remedy = "add simulate: {seed: 1, truths: {planned: {}}}"
        raise InputError("says nothing to simulate", file=file, field="simulate", remedy=remedy)
    rows = simulated(made, replicates)
    for row in rows:
        truth = made.simulate.scenarios[row["truth"]]
        row["null"] = null_of(made, truth) or None
        row["exact"] = {
            name: {"value": e.value, "how": e.how, "approximate": e.approximate}
            for name, e in exact(made, truth).items() if name in SHOWN or "_" in name
        }  # fmt: skip
    return rows


def _lines(answer: dict[str, Any]) -> list[str]:
    power = f", power {answer['power']:g}" if "power" in answer else ""
    sides = "one-sided" if answer.get("sides") == 1 else "two-sided"
    error = f", {sides} alpha {answer['alpha']:g}{power}" if "alpha" in answer else ""
    out = [f"{answer['design']}: {answer['endpoint']}{error}"]
    out += [f"  {answer['about']}"] if answer["about"] else []
    size, expected = answer["size"], answer.get("expected", {})
    out += ["", *say.table([(SIZES[name], _number(value)) for name, value in size.items()], indent=2)]
    if answer.get("fixed"):
        out += [f"  a fixed design needs {_number(answer['fixed']['total'])} ({answer['fixed']['subjects']} whole)"]
    for rows in ("bounds", "arms", "rule"):
        out += ["", *_columns(answer[rows])] if answer.get(rows) else []
    shown = [(EXPECTED[name], _number(value)) for name, value in expected.items() if name in EXPECTED]
    out += ["", *say.table(shown, indent=2)] if shown else []
    out += ["", *(f"  {remark}" for remark in answer["remarks"])]
    for row in answer.get("simulated", []):
        out += ["", *_truth(row)]
    return out + _largest(answer.get("simulated", []))


def _largest(rows: list[dict[str, Any]]) -> list[str]:
    """The most rejections where none would be right."""
    null = [row for row in rows if row["null"] == "global"]
    if not null:
        return []
    from reports.rounding import with_mcse

    worst = max(null, key=lambda row: float(row["power"]["value"]))
    shown = with_mcse(worst["power"]["value"], worst["power"]["mcse"])
    return ["", f"  largest type I error over {len(null)} null scenarios: {shown} ({worst['truth']})"]


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """A table with only the columns that say something."""
    names = [name for name in rows[0] if name == "look" or any(row[name] is not None for row in rows)]
    head = [TITLES.get(name, name) for name in names]
    body = [[_number(row[name]) for name in names] for row in rows]
    return say.table([head, *body], indent=2)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, (int, str)):
        return str(value)
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _truth(row: dict[str, Any]) -> list[str]:
    from reports.rounding import with_mcse

    def shown(name: str, value: Any) -> list[tuple[str, str]]:
        if isinstance(value, list):
            return [
                (f"{name.replace('_', ' ')} {k + 1}", with_mcse(e["value"], e["mcse"])) for k, e in enumerate(value)
            ]
        if "value" in value:
            return [(row.get("labels", {}).get(name, name.replace("_", " ")), with_mcse(value["value"], value["mcse"]))]
        return [(f"{name.replace('_', ' ')}: {who}", with_mcse(e["value"], e["mcse"])) for who, e in value.items()]

    said = ("truth", "null", "exact", "labels")
    lines = [pair for name, value in row.items() if name not in said for pair in shown(name, value)]
    for name, e in row["exact"].items():
        plain = SHOWN.get(name, name.replace("_", " "))
        label, sign = (
            row.get("labels", {}).get("power" if name == "reject" else name, plain),
            "~ " if e["approximate"] else "",
        )
        lines.append((f"{label}, {e['how']}", f"{sign}{e['value']:.5f}"))
    head = f"  truth {row['truth']} ({row['power']['n']} trials, MCSE in brackets)"
    return [head, *say.table(lines, indent=4)]
