"""Sensitivities: their error against solves at rtol 3e-14, the cost of a gradient, the published expected errors."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from functools import cache

import numpy as np

from pkpd.conformance.case import Case, Given, case_of, schedule
from pkpd.engine.build import Compiled, compiled
from pkpd.engine.sensitivity import sensitivities
from pkpd.engine.solve import solve
from pkpd.model.library import data_path, load
from pkpd.model.regimen import Events, Schedule
from pkpd.model.spec import Model
from tests.bench.harness import Measured, row

LAGGED = """
vtrial: model/1
name: lagged
states: {depot: mg, central: mg}
parameters:
  KA: {typical: 1.1 1/h, status: assumed}
  CL: {typical: 2.8 L/h, status: assumed}
  V: {typical: 32 L, status: assumed}
  F1: {typical: 0.7 1, status: assumed}
  LAG: {typical: 0.6 h, status: assumed}
equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C
doses: {depot: {bioavailability: F1, lag: LAG}}
outputs: {CP: {is: C}}
"""
STEPS = np.array([3, 2, 1, -1, -2, -3]) * 1e-3
WEIGHTS = np.array([1, -9, 45, -45, 9, -1]) / 60e-3
SUBJECTS = 6


def _typical(form: Compiled, model: Model) -> np.ndarray:
    values = np.array([[model.parameters[name].value for name in form.parameters]])
    return values * np.exp(0.2 * np.random.default_rng(0).normal(size=(SUBJECTS, values.shape[1])))


def _doses(n: int, times: np.ndarray, amount: float, duration: float = 0.0) -> Events:
    k, zero = len(times), np.zeros(len(times))
    plan = Schedule(times, np.full(k, amount), np.zeros(k, np.int32), zero + duration, zero, zero.astype(np.int8))
    return Events.shared(plan, n)


def _differences(form: Compiled, parameters: np.ndarray, doses: tuple, times: np.ndarray) -> np.ndarray:
    """Sixth-order central differences in log p of a solve at rtol 3e-14, (n, output, parameter, T)."""
    size = parameters.shape[1]
    factor = np.exp(STEPS[None, :, None] * np.eye(size)[:, None, :])
    rows = (parameters[:, None, None, :] * factor).reshape(-1, size)
    tight = {"rtol": 3e-14, "atol": 1e-17, "max_steps": 10**7}
    found = solve(form, rows, _doses(len(rows), *doses), times, path="ode", **tight)
    assert not found.status.any()
    shape = (len(parameters), size, len(STEPS), *found.values.shape[1:])
    return np.moveaxis(np.einsum("s,npsot->npot", WEIGHTS, found.values.reshape(shape)), 1, 2)


def _error(name: str, model: Model, doses: tuple, times: np.ndarray) -> Measured:
    form = compiled(model)
    parameters = _typical(form, model)
    found = sensitivities(form, parameters, _doses(SUBJECTS, *doses), times, path="ode", rtol=1e-8, atol=1e-10)
    reference = _differences(form, parameters, doses, times)
    there = (found.gradient != 0.0).any(axis=-1, keepdims=True)  # what is zero by structure has no scale
    top = np.where(there, np.abs(reference).max(axis=-1, keepdims=True), np.inf)
    each = (np.abs(found.gradient - reference) / top).max(axis=(0, 1, 3))
    note = ", ".join(f"{n} {e:.1e}" for n, e in zip(form.parameters, each, strict=True))
    return Measured(float(each.max()), f"{name}, {SUBJECTS} subjects, all outputs: {note}")


@row("sensitivity.w1", unit="of max abs S", bar="<= 1e-6")
def w1() -> Measured:
    """Two compartments, oral, seven doses."""
    return _error("w1", load("w1"), (24.0 * np.arange(7), 10_000.0), np.arange(1.0, 169.0))


@row("sensitivity.w2", unit="of max abs S", bar="<= 1e-6")
def w2() -> Measured:
    return _error("w2", load("w2"), (np.zeros(1), 100.0), np.arange(1.0, 145.0))


@row("sensitivity.lagged", unit="of max abs S", bar="<= 1e-6")
def lagged() -> Measured:
    """One compartment with lag and bioavailability, four doses."""
    return _error("lagged", Model.parse(LAGGED), (12.0 * np.arange(4), 100.0), np.arange(0.25, 60.0, 0.5))


@row("sensitivity.lagged_closed", unit="of max abs S", bar="<= 1e-6")
def lagged_closed() -> Measured:
    """The same by the ODE path against the closed form: no differences anywhere."""
    model = Model.parse(LAGGED)
    form, times = compiled(model), np.arange(0.25, 60.0, 0.5)
    parameters, doses = _typical(form, model), _doses(SUBJECTS, 12.0 * np.arange(4), 100.0)
    closed = sensitivities(form, parameters, doses, times, path="closed")
    ode = sensitivities(form, parameters, doses, times, path="ode", rtol=1e-8, atol=1e-10)
    worst = np.abs(ode.gradient - closed.gradient) / np.abs(closed.gradient).max(axis=-1, keepdims=True)
    return Measured(float(worst.max()))


@row("sensitivity.tmdd", unit="of max abs S", bar="<= 1e-6")
def tmdd() -> Measured:
    """Full target-mediated disposition (w3), three boluses."""
    return _error("w3", load("w3"), (504.0 * np.arange(3), 5.0), np.linspace(8.0, 1500.0, 150))


@row("sensitivity.friberg", unit="of max abs S", bar="<= 1e-6")
def friberg() -> Measured:
    """Docetaxel and neutrophils (w4), two cycles, nine parameters: 60 states."""
    return _error("w4", load("w4"), (504.0 * np.arange(2), 100.0, 1.0), np.linspace(0.4, 1008.0, 150))


LIBRARY = {
    "djebli_alirocumab": (
        "KINT",
        "R0",
        "F",
        "TLAG",
        "dose(central)",
    ),  # QSS; an initial value, share, lag, unit of doses
    "hamberg_warfarin": ("GAMMA", "MTT2", "dose(depot)"),  # C^0.424 at C = 0
    "zecchin_ovarian": ("SLD0", "ALPHA", "TEND", "TFREEZE"),  # an initial value, times at which the equations jump
}


@row("sensitivity.library", unit="of max abs S", bar="<= 1e-6")
def library() -> Measured:
    """Three models of the library, every state and output, over the regimen of the conformance suite."""
    found = {name: _of_library(name, wrt) for name, wrt in LIBRARY.items()}
    return Measured(max(found.values()), ", ".join(f"{name} {e:.1e}" for name, e in found.items()))


def _of_library(name: str, wrt: tuple[str, ...]) -> float:
    """Largest error over the directions, of the largest of each output along each."""
    case = case_of(load(name))
    names, plan = list(wrt), case.usual()
    events = Events.pack([schedule(plan)])
    found = sensitivities(
        case.compiled, case.parameters[None], events, case.grid, wrt=names, path="ode", rtol=1e-8, atol=10 * case.atol,
        max_steps=10**6, **case.inputs,
    )  # fmt: skip
    assert not found.status.any()
    moved = [_moved(case, plan, n, h) for n in names for h in STEPS]
    tight = {"rtol": 3e-14, "atol": 1e-6 * case.atol, "max_steps": 10**7, "path": "ode"}
    values = case.solve([p for _, p in moved], case.grid, np.array([row for row, _ in moved]), **tight)
    reference = np.einsum("s,psot->opt", WEIGHTS, values.reshape(len(names), len(STEPS), *values.shape[1:]))
    least = 1e-4 * case.peaks[:, None, None]  # what moves less than this is the noise of the differences
    top = np.maximum(np.abs(reference).max(axis=-1, keepdims=True), least)
    return float((np.abs(found.gradient[0] - reference) / top).max())


def _moved(case: Case, plan: list[Given], name: str, h: float) -> tuple[np.ndarray, list[Given]]:
    """Parameters and doses with one direction moved by exp(h)."""
    row = case.parameters.copy()
    if name in case.compiled.parameters:
        row[case.compiled.parameters.index(name)] *= np.exp(h)
        return row, plan
    target = case.target(name[len("dose(") : -1])
    return row, [replace(g, amount=g.amount * np.exp(h)) if g.target == target else g for g in plan]


@row("sensitivity.w2_rate", unit="subjects/CPU s", bar=">= 50000")
def w2_rate() -> Measured:
    """W2 with all seven directions (14 states), 12 samples of two outputs, default tolerances."""
    model = load("w2")
    form, n = compiled(model), 4000
    values = np.array([[model.parameters[name].value for name in form.parameters]])
    parameters = values * np.exp(0.2 * np.random.default_rng(1).normal(size=(n, values.shape[1])))
    doses, times = _doses(n, np.zeros(1), 100.0), np.linspace(1.0, 144.0, 12)
    found = sensitivities(form, parameters, doses, times)
    start = time.process_time()
    found = sensitivities(form, parameters, doses, times)
    used = time.process_time() - start
    plain = time.process_time()
    solve(form, parameters, doses, times, path="tsit5")
    plain = time.process_time() - plain
    return Measured(n / used, f"{int((found.status != 0).sum())} failures; {used / plain:.1f} times a plain solve")


@cache
def _gradients() -> dict[str, float]:
    """Microseconds of one joint log density and gradient of the theophylline model, least of five rounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pymc as pm
        import pytensor

        from pkpd.bayes.design import design
        from pkpd.bayes.likelihood import population_model
        from pkpd.bayes.plan import plan
        from pkpd.model.records import Records

        model, found = load("theophylline"), {}
        records = Records.read(data_path("theophylline.csv"), model)
        for path in ("closed", "ode"):
            built = population_model(plan(model, "CP"), design(model, records, path=path))
            inputs = pm.inputvars(built.value_vars)
            logp = built.logp()
            run = pytensor.function(inputs, [logp, *pytensor.grad(logp, inputs)], mode="NUMBA", trust_input=True)
            start = built.initial_point()
            point = [np.asarray(start[v.name]) for v in inputs]
            run(*point)
            rounds = []
            for _ in range(5):
                begun = time.process_time()
                for _ in range(500):
                    run(*point)
                rounds.append((time.process_time() - begun) / 500 * 1e6)
            found[path] = min(rounds)
    return found


@row("sensitivity.gradient_ode", unit="us", bar="<= 100")
def gradient_ode() -> Measured:
    """Theophylline, 12 subjects, 132 rows, 43 dimensions; bar: about twice the prototype's 43 us."""
    found = _gradients()
    return Measured(found["ode"], f"closed form {found['closed']:.1f} us, same function otherwise")


@row("design.warfarin", unit="per cent", bar="<= 0.05")
def warfarin_design() -> Measured:
    """Largest distance to the 14 relative standard errors PopED's tests expect (printed to 0.1 per cent)."""
    from pkpd.design.information import Arm, information

    text = LAGGED.replace("doses: {depot: {bioavailability: F1, lag: LAG}}\n", "").replace(
        "{is: C}", "{is: C, error: {proportional: 0.1}}"
    )
    start, stop = text.index("  KA:"), text.index("equations:")
    sd = [repr(float(np.sqrt(v))) for v in (0.07, 0.02, 0.6)]
    parameters = "".join(
        f"  {n}: {{typical: {v}, iiv: {s}, status: assumed}}\n"
        for n, v, s in zip(("CL", "V", "KA"), ("0.15 L/h", "8 L", "1 1/h"), sd, strict=True)
    )
    model = Model.parse(text[:start] + parameters + text[stop:])
    zero = np.zeros(1)
    once = Schedule(zero, zero + 70.0, zero.astype(np.int32), zero, zero, zero.astype(np.int8))
    arm = Arm(subjects=32, regimen=once, times={"CP": (0.5, 1, 2, 6, 24, 36, 72, 120)})
    expected = {False: (4.7, 2.8, 13.9, 25.6, 30.3, 25.8, 11.2), True: (3.6, 2.6, 4.8, 26.3, 30.9, 26.5, 12.4)}
    apart = [
        np.abs(information(model, [arm], full=full).rse * np.array([1, 1, 1, 2, 2, 2, 2]) - np.array(e)).max()
        for full, e in expected.items()
    ]
    return Measured(float(max(apart)), f"block-diagonal {apart[0]:.3f}, full {apart[1]:.3f}")
