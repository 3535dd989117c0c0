"""The model language against hostile texts: no code runs, no crash, no hang."""

from __future__ import annotations

import time

from tests.bench.harness import Measured, row
from tests.pkpd.model import test_hostile as hostile

COMMAND = "python -m tests.bench language.hostile language.fuzzed"


@row("language.hostile", unit="texts that ran code, crashed or hung", bar="== 0", command=COMMAND)
def hostile_texts() -> Measured:
    """Every text of the corpus under an audit hook and a clock."""
    hostile.warm()
    bad, worst = 0, 0.0
    for source in hostile.HOSTILE:
        start = time.perf_counter()
        try:
            with hostile.nothing_runs():
                hostile.read(source)
        except Exception:
            bad += 1
        worst = max(worst, time.perf_counter() - start)
    return Measured(float(bad), f"{len(set(hostile.HOSTILE))} texts, the longest took {worst:.2f} s")


@row("language.fuzzed", unit="s, longest of 100,000", bar="<= 2", command=COMMAND)
def fuzzed_texts() -> Measured:
    """Random expressions, equations and damaged models; anything but a model or an InputError is an error here."""
    return Measured(hostile.fuzz(100_000, 3), "all ended in a model or an InputError, none ran code")
