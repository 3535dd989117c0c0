"""Figures of the conformance suite: checks that fail over the library, what it cannot examine, seconds a model."""

from __future__ import annotations

import time
from functools import lru_cache

from pkpd.conformance.evidence import Conformance, Verdict
from pkpd.conformance.invariance import UNSOLVED
from pkpd.conformance.suite import examine
from pkpd.model.library import load, models
from tests.bench.harness import Measured, row


@lru_cache(maxsize=1)
def _all() -> tuple[Conformance, ...]:
    return tuple(examine(load(name)) for name in models())


@row("conformance.library", unit="failed checks", bar="== 0")
def library() -> Measured:
    """Every check on every model of the library."""
    found = _all()
    failed = [f"{c.model}.{e.name}" for c in found for e in c.of(Verdict.FAIL)]
    passed, left = (sum(len(c.of(v)) for c in found) for v in (Verdict.PASS, Verdict.NOT_APPLICABLE))
    note = f"{len(found)} models, {passed} checks passed, {left} not applicable"
    return Measured(len(failed), ": ".join([note, ", ".join(failed)]) if failed else note)


@row("conformance.unexamined", unit="models", bar="== 0")
def unexamined() -> Measured:
    """Library models that no check was made on, because the engine does not run them."""
    names = [c.model for c in _all() if not c.of(Verdict.PASS) and not c.of(Verdict.FAIL)]
    return Measured(len(names), ", ".join(names))


@row("conformance.unsolved", unit="ways", bar="== 0")
def unsolved() -> Measured:
    """Integrators and sensitivities that end with a failure status on a library model's subjects."""
    names = [f"{c.model}.{e.name}" for c in _all() for e in c.evidence if UNSOLVED in e.reason]
    return Measured(len(names), ", ".join(names))


@row("conformance.seconds", unit="CPU s", bar="<= 5")
def seconds() -> Measured:
    """Longest examination of a library model whose solvers are compiled."""
    _all()
    taken = {}
    for name in models():
        start = time.process_time()
        examine(load(name))
        taken[name] = time.process_time() - start
    worst = max(taken, key=lambda name: taken[name])
    return Measured(taken[worst], f"{worst}; {sum(taken.values()):.1f} s for {len(taken)} models")
