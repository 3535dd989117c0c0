"""Accuracy of the workloads W1 to W4 from file to file (`vtrial simulate`), against the reference profiles."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from reports.cli import main
from tests.bench.harness import Measured, row

SIMULATION = Path(__file__).parents[2] / ".." / "shared" / "reference" / "simulation"
DOSES = {
    "w1": "depot,10000,24,6,1,0", "w2": "depot,100,0,0,0,0", "w3": "L,5,504,3,0,0", "w4": "central,100,504,5,0,100"
}  # fmt: skip
BARS = {
    "w1": {"CP": 2e-8}, "w2": {"CP": 1.3e-7, "RESP": 1.3e-7}, "w3": dict.fromkeys(("L", "LT", "R", "P"), 2.7e-6),
    "w4": {"CP": 1e-8, "CIRC": 3.7e-6},
}  # fmt: skip


def errors(name: str, *options: str) -> dict[str, float]:
    """Largest error of each output: relative above 1e-6 of the peak; W4 CP absolute [mg/L]."""
    reference = pd.read_csv(SIMULATION / f"profiles_{name.upper()}.csv")
    lines = ["ID,TIME,EVID,CMT,AMT,II,ADDL,SS,RATE"]
    for subject, rows in reference.groupby("ID"):
        lines.append(f"{subject},0,1,{DOSES[name]}")
        lines += [f"{subject},{time!r},0,.,.,.,.,.,." for time in rows["TIME"].tolist()]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        events, out = Path(folder, "e.csv"), Path(folder, "out.csv")
        events.write_text("\n".join(lines) + "\n")
        people = str(SIMULATION / f"params_{name.upper()}.csv")
        code = main(["simulate", name, "--parameters", people, "--events", str(events), "--out", str(out), *options])
        if code:
            raise RuntimeError(f"vtrial simulate {name} ended with {code}")
        return {output: _error(name, output, pd.read_csv(out), reference) for output in BARS[name]}


def _error(name: str, output: str, found: pd.DataFrame, reference: pd.DataFrame) -> float:
    right = reference[f"{output}_REF"]
    if (name, output) == ("w4", "CP"):
        return float(np.abs(found[output] - right).max())
    there = right.abs() > 1e-6 * right.abs().groupby(reference["ID"]).transform("max")
    return float(np.abs(found[output][there] / right[there] - 1.0).max())


def _worst(name: str) -> Measured:
    """Largest ratio of an error to its bar, default settings (bars: mrgsolve's own errors) and tight ones (1e-8)."""
    default, tight = errors(name), errors(name, "--rtol", "1e-10", "--atol", "1e-12")
    ratios = [default[output] / bar for output, bar in BARS[name].items()] + [e / 1e-8 for e in tight.values()]
    said = (f"{output} {default[output]:.1e} (tight {tight[output]:.1e})" for output in BARS[name])
    return Measured(max(ratios), ", ".join(said))


@row("simulate.w1", unit="of the bar", bar="<= 1")
def w1() -> Measured:
    """CP 2e-8."""
    return _worst("w1")


@row("simulate.w2", unit="of the bar", bar="<= 1")
def w2() -> Measured:
    """CP and RESP 1.3e-7."""
    return _worst("w2")


@row("simulate.w3", unit="of the bar", bar="<= 1")
def w3() -> Measured:
    """L, LT, R and P 2.7e-6."""
    return _worst("w3")


@row("simulate.w4", unit="of the bar", bar="<= 1")
def w4() -> Measured:
    """CIRC 3.7e-6; CP 1e-8 mg/L absolute."""
    return _worst("w4")
