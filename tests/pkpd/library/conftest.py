"""A second reader of model texts: SciPy's LSODA on closures made from the expression tree, event by event.

It shares with the engine only the parser. Slow and plain, so that it can be believed: the golden numbers are asked of
it first, and of the engine second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, minimize_scalar

from pkpd.model import equations as eq
from pkpd.model.dosing import expression_of
from pkpd.model.golden import Golden, GoldenValue
from pkpd.model.parts import inside
from pkpd.model.regimen import Regimen
from pkpd.model.spec import Model

Values = dict[str, float]
RTOL = 1e-10


def _expit(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


PLAIN: dict[str, Any] = {
    "abs": abs, "exp": math.exp, "log": math.log, "log10": math.log10, "sqrt": math.sqrt, "tanh": math.tanh, "pow": pow,
    "min": min, "max": max, "expit": _expit, "logit": lambda p: math.log(p / (1 - p)), "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip
BINARY: dict[str, Any] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "^": pow,
}  # fmt: skip
COMPARE: dict[str, Any] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


def closure(expr: eq.Expr) -> Callable[[Values], Any]:
    """The expression as a function of its names."""
    match expr:
        case eq.Number(value):
            return lambda v: value
        case eq.Name(name):
            return lambda v: v[name]
        case eq.Unary(_, operand):
            inner = closure(operand)
            return lambda v: -inner(v)
        case eq.Binary(op, left, right):
            f, a, b = BINARY[op], closure(left), closure(right)
            return lambda v: f(a(v), b(v))
        case eq.Compare((op,), (left, right)):
            f, a, b = COMPARE[op], closure(left), closure(right)
            return lambda v: f(a(v), b(v))
        case eq.Call("if", (condition, yes, no)):
            c, a, b = closure(condition), closure(yes), closure(no)
            return lambda v: a(v) if c(v) else b(v)
        case eq.Call(function, args):
            g, parts = PLAIN[function], [closure(a) for a in args]
            return lambda v: g(*(p(v) for p in parts))
    raise TypeError(eq.show(expr))


class Interpreted:
    """The typical subject of a golden case, on demand at any time."""

    def __init__(self, model: Model, golden: Golden, horizon: float) -> None:
        self.model, self.golden = model, golden
        self.states = list(model.states)
        self.constants = self._constants()
        self.lines = [(e.target, closure(e.expression)) for e in eq.in_order(model.equations)]
        self.rates = [closure(expr) for expr in model.derivatives.values()]
        self.pieces: list[tuple[float, float, Any]] = []
        if self.states:
            self._integrate(horizon)

    def _constants(self) -> Values:
        """Covariates, and parameters with their effects on the scale of the text; no random effect."""
        model = self.model
        given = dict(self.golden.covariates)
        cov = {n: given.get(n, c.reference) for n, c in model.inputs.items()}
        base = {n: p.value for n, p in model.parameters.items()}
        base |= {n: float(q.to(model.parameters[n].unit)) for n, q in self.golden.parameters.items()}
        out: Values = {n: x for n, x in cov.items() if x is not None}
        for name, p in model.parameters.items():
            value, shift = base[name], 0.0
            for c, effect in p.effects.items():
                k = effect.coefficient
                number = base[k] if isinstance(k, str) else k
                if effect.kind == "power":
                    value *= (cov[c] / model.inputs[c].reference) ** number
                elif effect.kind == "linear":
                    shift += number * (cov[c] - model.inputs[c].reference)
                elif (code := int(cov[c])) in effect.categories:
                    f = effect.categories[code]
                    value *= base[f] if isinstance(f, str) else f
            out[name] = value + shift if p.link == "identity" else value * math.exp(shift)
        return out | dict.fromkeys(model.previous, 0.0)

    def known(self, t: float, y: Any) -> Values:
        v = {**self.constants, **dict(zip(self.states, y, strict=True)), "TIME": t, "WEEKS": t / 168.0}
        for target, f in self.lines:
            try:
                v[target] = f(v)
            except KeyError:  # the equation of something else, whose covariate this case leaves out
                continue
        return v

    def _rhs(self, t: float, y: Any, inflow: Any) -> Any:
        v = self.known(t, y)
        return [f(v) + r for f, r in zip(self.rates, inflow, strict=True)]

    def _option(self, state: str, key: str, default: float) -> float:
        target = self.model.doses.get(state)
        if target is None:
            return default
        v = self.known(0.0, np.zeros(len(self.states)))
        return float(closure(expression_of(getattr(target, key)))(v))

    def _records(self) -> list[tuple[float, int, float, float]]:
        """(time, state, amount that arrives, duration), steady states as 80 earlier doses."""
        plan = Regimen(self.golden.doses).schedule(self.model.dose_units)
        found = []
        for t, amount, k, dur, tau, steady in zip(
            plan.time, plan.amount, plan.target, plan.duration, plan.interval, plan.steady, strict=True
        ):
            state = self.states[k]
            share = self._option(state, "bioavailability", 1.0) * self._option(state, "scale", 1.0)
            lag = self._option(state, "lag", 0.0)
            times = [t - i * tau for i in range(80, 0, -1)] if steady else []
            found += [(x + lag, int(k), amount * share, dur) for x in (*times, t)]
        return found

    def _breaks(self) -> set[float]:
        """Times a condition compares the clock with."""
        found = set()
        for line in self.model.equations:
            for node in eq.walk(line.expression):
                if isinstance(node, eq.Compare) and eq.Name("TIME") in node.operands:
                    found |= {self.constants[o.id] for o in node.operands if isinstance(o, eq.Name) and o.id != "TIME"}
        return found

    def _integrate(self, horizon: float) -> None:
        records = self._records()
        start = min((r[0] for r in records), default=0.0)
        edges = {min(0.0, start), horizon, *(r[0] for r in records), *(r[0] + r[3] for r in records), *self._breaks()}
        ordered = sorted(t for t in edges if t <= horizon)
        y = self._initial()
        for a, b in itertools.pairwise(ordered):
            for t, k, amount, dur in records:
                if t == a and dur == 0:
                    y[k] += amount
            inflow = np.zeros(len(y))
            for t, k, amount, dur in records:
                if dur > 0 and t <= a and b <= t + dur + 1e-9:
                    inflow[k] += amount / dur
            sol = solve_ivp(
                self._rhs, (a, b), y, method="LSODA", rtol=RTOL, atol=1e-13, dense_output=True, args=(inflow,)
            )
            assert sol.success, sol.message
            self.pieces.append((a, b, sol.sol))
            y = sol.y[:, -1].copy()

    def _initial(self) -> Any:
        y = np.zeros(len(self.states))
        v = self.known(0.0, y) if not self.model.initials else self._known_without_states()
        for k, state in enumerate(self.states):
            if state in self.model.initials:
                y[k] = closure(self.model.initials[state])(v)
        return y

    def _known_without_states(self) -> Values:
        v = {**self.constants, "TIME": 0.0}
        for target, f in self.lines:
            try:
                v[target] = f(v)
            except KeyError:
                continue
        return v

    def state(self, t: float, *, after: bool = False) -> Any:
        """Every state at time t [h]; at a dose before it, unless `after`."""
        fits = [p for p in self.pieces if p[0] <= t <= p[1]]
        return fits[-1 if after else 0][2](t)

    def at(self, name: str, t: float, *, after: bool = False) -> float:
        """A name at time t [h]; at a dose before it, unless `after`."""
        return float(self.known(t, self.state(t, after=after) if self.states else np.zeros(0))[name])


def _edges(run: Interpreted, low: float, high: float) -> list[float]:
    inner = [b for p in run.pieces for b in p[:2] if low < b < high]
    return sorted({low, high, *inner})


def number(run: Interpreted, value: GoldenValue, until: float) -> float:
    """A golden number in inside units; `until` where the text leaves the end open."""
    low, high = value.from_, value.until or until
    if value.as_ == "value":
        return run.at(value.of, value.at or 0.0)
    edges = _edges(run, low, high)
    f = lambda t, after=True: run.at(value.of, t, after=after)  # noqa: E731
    if value.as_ == "area":
        nodes, weights = np.polynomial.legendre.leggauss(40)
        total = 0.0
        for a, b in itertools.pairwise(edges):
            cuts = np.concatenate([[a], a + (b - a) * np.geomspace(1e-4, 1, 12)])
            for c, d in itertools.pairwise(cuts):
                total += (
                    0.5
                    * (d - c)
                    * sum(w * f(0.5 * (c + d) + 0.5 * (d - c) * x) for x, w in zip(nodes, weights, strict=True))
                )
        return total
    if value.as_.startswith("time_") and "of" not in value.as_:
        return _spent(f, edges, inside(value.limit), 1.0 if value.as_ == "time_above" else -1.0)
    sign = -1.0 if value.as_.endswith("maximum") else 1.0
    best, where = math.inf, low
    for a, b in itertools.pairwise(edges):
        grid = np.linspace(a, b, 121)
        inner = [sign * f(t, True) for t in grid[:-1]] + [sign * f(b, False)]
        k = int(np.argmin(inner))
        x, y = grid[k], inner[k]
        if 0 < k < 120:
            fit = minimize_scalar(
                lambda t: sign * f(t), bounds=(grid[k - 1], grid[k + 1]), method="bounded", options={"xatol": 1e-9}
            )
            x, y = (fit.x, fit.fun) if fit.fun <= y else (x, y)
        if y < best:
            best, where = y, x
    return float(where) if value.as_.startswith("time_of") else float(sign * best)


def _spent(f: Any, edges: list[float], limit: float, sign: float) -> float:
    total = 0.0
    for a, b in itertools.pairwise(edges):
        grid = np.linspace(a, b, 121)
        g = [sign * (f(t, t < b) - limit) for t in grid]
        for t0, t1, g0, g1 in zip(grid, grid[1:], g, g[1:], strict=False):
            if g0 > 0 and g1 > 0:
                total += t1 - t0
            elif (g0 > 0) != (g1 > 0):
                cross = brentq(lambda t, end=b: f(t, t < end) - limit, t0, t1, xtol=1e-10)
                total += cross - t0 if g0 > 0 else t1 - cross
    return total


@pytest.fixture(scope="session")
def profiles() -> Callable[..., Interpreted]:
    """(model, case name) -> its typical subject as SciPy solves it; each is solved once."""
    made: dict[tuple[str, str], Interpreted] = {}

    def ask(model: Model, case: str) -> Interpreted:
        key = (model.name, case)
        if key not in made:
            made[key] = Interpreted(model, model.golden[case], horizon_of(model, case))
        return made[key]

    return ask


@pytest.fixture(scope="session")
def interpreted(profiles: Callable[..., Interpreted]) -> Callable[..., float]:
    """(model, case name, value) -> the golden number by SciPy, in inside units."""

    def ask(model: Model, case: str, value: GoldenValue) -> float:
        return number(profiles(model, case), value, horizon_of(model, case))

    return ask


def horizon_of(model: Model, case: str) -> float:
    """End of a case [h]; 400 or 21,600 h for the two single doses whose area runs to infinity."""
    values = model.golden[case].values
    if any(v.as_ != "value" and v.until is None for v in values):
        return {"rovei_theophylline": 400.0, "davda_igg": 24.0 * 900}[model.name]
    return max(1.0, *(v.until or v.at or 0.0 for v in values))
