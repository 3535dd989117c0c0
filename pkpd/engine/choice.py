"""Which solver a nonlinear model gets, by counted work on one fixed subject: never by time, never by the batch.

The pilot is the typical subject of the model's text with the doses of its first golden case (else one dose into each
dosed state), at the default tolerances. Attempted steps are counted, each weighed by the operations in the text of a
step, so that every machine, chunk and worker comes to the same choice.

    Tsit5 takes few steps                      -> Tsit5, whole model
    there is a linear block with real rates    -> the block by its modes, if that takes less work
    still many steps                           -> Rodas5P, if that takes less work

The choice is kept beside the compiled kernels, under a hash of all it depends on. A subject for which Tsit5 then needs
more than `PATIENCE` attempts is solved by Rodas5P: that depends on the subject's own steps alone.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pkpd.engine.build import Compiled
    from pkpd.engine.generate import Method
    from pkpd.model.regimen import Schedule
    from pkpd.model.spec import Model

__all__ = ["FEW", "PATIENCE", "Choice", "Pilot", "operations"]

F64 = NDArray[np.float64]
FEW = 600
"""Attempted steps of the pilot below which no other solver is tried: there is little to gain."""
PATIENCE = 20_000
"""Attempted steps of a subject after which Tsit5 gives way to Rodas5P."""
_MOST = 200_000
_WEIGHTS = {"exp": 24, "log": 30, "power": 70, "tanh": 40, "expit": 40}
_DIVISION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """method: of the steps; split: whether a linear block is carried by its modes; work: what the pilot counted, by
    candidate (`tsit5`, `split/tsit5`, ...), in operations.
    """

    method: Method = "tsit5"
    split: bool = False
    work: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """The pilot's subject: parameters (1, P), covariates, doses, and how long it is followed [h]."""

    parameters: F64
    covariates: dict[str, float]
    doses: Schedule
    horizon: float

    def digest(self) -> bytes:
        """Of everything in it."""
        doses = b"".join(np.ascontiguousarray(getattr(self.doses, c)).tobytes() for c in ("time", "amount", "target",
                         "duration", "interval", "steady", "more"))  # fmt: skip
        others = json.dumps([self.covariates, self.horizon]).encode()
        return hashlib.sha256(self.parameters.tobytes() + doses + others).digest()


_ONE_AT_A_TIME = RLock()  # of the process, not of a pilot: a compiled model is plain data


class Pilot:
    """The choice for one model, made when it is first needed."""

    def __init__(self, model: Model, compiled: Compiled) -> None:
        self._model, self._compiled = model, compiled
        self._found: Choice | None = None

    def choice(self) -> Choice:
        """Made once per process, and read back from the cache of kernels."""
        with _ONE_AT_A_TIME:
            if self._found is None:
                self._found = self._kept()
            return self._found

    def _kept(self) -> Choice:
        from pkpd.engine.load import key
        from pkpd.ground.store import cache_dir, locked, write_atomic

        trial = _trial(self._model, self._compiled)
        if trial is None:
            return Choice()
        name = key(self._compiled.text("tsit5") + f"\n{trial.digest().hex()} {FEW} {_WEIGHTS}")
        path = cache_dir("kernels") / f"choice_{name}.json"
        with suppress(OSError, ValueError, TypeError):
            return Choice(**json.loads(path.read_text(encoding="utf-8")))
        with locked(path):
            found = _chosen(self._compiled, trial)
            write_atomic(path, json.dumps(asdict(found)).encode())
        return found


def _chosen(compiled: Compiled, trial: _Trial) -> Choice:
    first = _attempts(compiled, trial, Choice(), FEW)
    if first <= FEW:
        return Choice(work={"tsit5": first * operations(compiled.text("tsit5"))})
    found = _counted(compiled, trial, Choice(), {})
    if compiled.block is not None and compiled.block.modal:
        found = _counted(compiled, trial, Choice(split=True), found)
    best = _best(found)
    if found[_name(best)] > FEW * operations(compiled.text("tsit5", split=best.split)):
        found = _counted(compiled, trial, replace(best, method="rodas5p"), found)
    return replace(_best(found), work=found)


def _counted(compiled: Compiled, trial: _Trial, choice: Choice, known: Mapping[str, float]) -> dict[str, float]:
    steps = _attempts(compiled, trial, choice, _MOST)
    return {**known, _name(choice): steps * operations(compiled.text(choice.method, split=choice.split))}


def _best(work: Mapping[str, float]) -> Choice:
    """Least work; the first tried where none comes to an end."""
    name = min(work, key=lambda k: work[k])
    return Choice(method="rodas5p" if name.endswith("rodas5p") else "tsit5", split=name.startswith("split/"))


def _name(choice: Choice) -> str:
    return ("split/" if choice.split else "") + choice.method


def _attempts(compiled: Compiled, trial: _Trial, choice: Choice, most: int) -> float:
    """How many steps the pilot takes, the repeated ones included: the least `max_steps` that suffices; inf above."""
    from pkpd.engine.solve import SolveStatus, solve
    from pkpd.model.regimen import Events

    forced = replace(compiled, choice=choice, pilot=None)
    events, times = Events.shared(trial.doses, 1), np.array([trial.horizon])
    given = {name: trial.covariates[name] for name in compiled.inputs}

    def status(limit: int) -> int:
        solved = solve(forced, trial.parameters, events, times, covariates=given, windows={}, max_steps=limit)
        return int(solved.status[0])

    if status(most) != SolveStatus.OK:
        return float("inf")
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if status(middle) == SolveStatus.STEP_LIMIT else (low, middle)
    return float(high)


def operations(text: str) -> float:
    """Arithmetic operations of one step for one subject, read from the text of a generated solver."""
    step = next(n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == "step")
    total = 0.0
    for node in ast.walk(step):
        if isinstance(node, ast.BinOp):
            total += _DIVISION if isinstance(node.op, ast.Div) else 1
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            total += _WEIGHTS.get(node.func.id, 1)
    return total


def _trial(model: Model, compiled: Compiled) -> _Trial | None:
    """The pilot's subject and regimen; None where the text does not give one."""
    from pkpd.conformance.case import typical
    from pkpd.model.regimen import Regimen

    golden = next((g for g in model.golden.values() if g.doses), None)
    values = typical(model, golden.covariates if golden else None)
    if golden is not None:
        values |= {n: q.to(model.parameters[n].unit) for n, q in golden.parameters.items()}
        doses = Regimen(golden.doses).schedule(model.dose_units)
        lasting = float(np.max(doses.time + np.maximum(doses.interval, doses.duration)))
        step = float(np.diff(np.unique(doses.time)).max(initial=0.0))
        seen = max((v.at or v.until or 0.0 for v in golden.values), default=0.0)
        horizon = max(lasting, float(doses.time.max()) + step, float(seen))
    else:
        doses, horizon = _usual(model, values)
    if not 0.0 < horizon < np.inf or not set(compiled.inputs) <= set(values):
        return None
    row = np.asarray([[values[name] for name in compiled.parameters]])
    covariates = {name: float(values[name]) for name in compiled.inputs}
    return _Trial(parameters=row, covariates=covariates, doses=doses, horizon=horizon)


def _usual(model: Model, values: Mapping[str, float]) -> tuple[Schedule, float]:
    """One dose into every dosed state, followed for seven of the longest time constants."""
    from pkpd.conformance.case import Given, schedule
    from pkpd.conformance.reading import Reading
    from pkpd.conformance.scales import dosed_states, times_of, trial_amount

    reading = Reading(model=model, constants=values)
    given = [Given(time=0.0, amount=trial_amount(reading, s), target=reading.states.index(s))
             for s in dosed_states(reading)]  # fmt: skip
    return schedule(given), times_of(reading, reading.start).horizon
