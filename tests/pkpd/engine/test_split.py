"""A linear block by its modes inside the solver: against the whole model in steps, order as measured, bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.engine.build import compiled, of_dynamics
from pkpd.engine.choice import Choice
from pkpd.engine.dynamics import Dynamics
from pkpd.engine.load import solver
from pkpd.engine.solve import Way, solve
from pkpd.engine.split_path import extended
from pkpd.model.equations import equations
from pkpd.model.library import load
from pkpd.model.regimen import EventKind, Events, Schedule

TIMES = np.sort(np.r_[np.arange(0.0, 145.0, 6.0), 0.3, 1.1, 24.5, 49.7])


def _model(method="tsit5"):
    return replace(compiled(load("w2")), choice=Choice(method=method, split=True))


def _people(n):
    typical = np.array([float(p.typical) for p in load("w2").parameters.values()])
    spread = np.where(np.arange(len(typical)) == 3, 0.0, 0.2)  # IMAX stays below 1
    return typical * np.exp(spread * np.random.default_rng(6).normal(size=(n, len(typical))))


def _schedule(*rows):
    """Rows of time, amount, state, duration, interval, steady, kind, further doses."""
    columns = list(zip(*rows, strict=True))
    kinds = (float, float, np.int32, float, float, np.int8, np.int8, np.int32)
    time, amount, target, duration, interval, steady, kind, more = (
        np.asarray(c, k) for c, k in zip(columns, kinds, strict=True)
    )
    return Schedule(time, amount, target, duration, interval, steady, kind=kind, more=more)


PLANS = (
    _schedule((0, 100, 0, 0, 0, 0, 1, 0)),
    _schedule((0, 100, 1, 3, 0, 0, 1, 0), (1, 60, 1, 5, 0, 0, 1, 0), (30, 50, 0, 0, 12, 0, 1, 4)),
    _schedule((0, 40, 0, 0, 24, 1, 1, 5)),
    _schedule((0, 40, 1, 30, 24, 1, 1, 2)),  # infusions longer than their interval
    _schedule((0, 100, 0, 0, 0, 0, 1, 0), (50, 30, 0, 0, 0, 0, EventKind.RESET_DOSE, 0)),
    _schedule((5, 100, 0, 0, 0, 0, 1, 0), (24, 2.5, 1, 0, 0, 0, EventKind.REPLACE, 0)),
    # into a state outside the block: nothing to what the block's closed form gives
    _schedule((0, 100, 0, 0, 0, 0, 1, 0), (10, 20, 2, 0, 0, 0, 1, 0), (24, 15, 2, 6, 0, 0, 1, 0)),
    _schedule(
        (0, 100, 0, 0, 0, 0, 1, 0),
        (10, 30, 2, 0, 0, 0, EventKind.REPLACE, 0),
        (30, 2, 2, 0, 0, 0, EventKind.MULTIPLY, 0),
    ),
    _schedule((0, 100, 0, 0, 0, 0, 1, 0), (24, 12, 2, 3, 24, 1, 1, 3)),
)


@pytest.mark.parametrize("method", [pytest.param("tsit5", marks=pytest.mark.slow), "rodas5p"])
def test_it_agrees_with_the_whole_model_in_steps(method):
    people, events = _people(len(PLANS)), Events.pack(list(PLANS))
    split = solve(_model(method), people, events, TIMES, rtol=1e-10, atol=1e-12)
    whole = solve(_model(), people, events, TIMES, rtol=1e-11, atol=1e-13, path="tsit5")
    assert not split.status.any()
    assert split.ways() == {Way[f"SPLIT_{method.upper()}"]: len(PLANS)}
    peak = np.abs(whole.values).max(axis=2, keepdims=True)
    assert np.max(np.abs(split.values - whole.values) / peak) < 3e-9


def test_default_tolerances_see_the_start_of_the_effect():
    """The dose is not in the first slope of the response: a first step by that slope alone would be far too wide."""
    people, events = _people(5), Events.shared(PLANS[0], 5)
    found = solve(_model(), people, events, TIMES).values
    right = solve(_model(), people, events, TIMES, rtol=1e-11, atol=1e-13).values
    assert np.max(np.abs(found[:, 1] / right[:, 1] - 1.0)) < 3e-6


def test_rates_that_coincide_are_solved_in_steps():
    people, events = _people(4), Events.shared(PLANS[0], 4)
    people[2, 0] = people[2, 1] / people[2, 2]
    found = solve(_model(), people, events, TIMES)
    assert found.way.tolist() == [Way.SPLIT_TSIT5, Way.SPLIT_TSIT5, Way.TSIT5, Way.SPLIT_TSIT5]
    k, t = people[2, 0], TIMES
    np.testing.assert_allclose(found.values[2, 0], 100 / people[2, 2] * k * t * np.exp(-k * t), rtol=3e-7, atol=1e-12)


def test_bits_do_not_depend_on_company_lane_chunk_or_threads():
    n = 4111
    people, events = np.resize(_people(257), (n, 7)), Events.shared(PLANS[1], n)
    whole = solve(_model(), people, events, TIMES)
    threaded = solve(_model(), people, events, TIMES, threads=2)
    assert threaded.values.tobytes() == whole.values.tobytes()
    order = np.random.default_rng(1).permutation(n)
    shuffled = solve(_model(), people[order], events, TIMES)
    assert shuffled.values.tobytes() == whole.values[order].tobytes()
    for k in (0, 100, n - 1):
        alone = solve(_model(), people[[k]], Events.shared(PLANS[1], 1), TIMES)
        assert alone.values.tobytes() == whole.values[[k]].tobytes()


def _driven():
    """A nonlinear oscillator driven by a block of two modes: y1' = y2 (1 + y1^2/8) + g/4, y2' = -y1."""
    lines = equations(
        "d/dt(c) = -c/2\nd/dt(g) = c/2 - g/5\nd/dt(a) = b*(1 + a*a/8) + g/4\nd/dt(b) = -a\nc(0) = K\na(0) = 1\nb(0) = K"
    )
    pick = lambda kind: {e.target: e.expression for e in lines if e.kind == kind}  # noqa: E731
    dynamics = Dynamics(
        states=("c", "g", "a", "b"), parameters=("K",), assigned={}, derivative=pick("derivative"),
        initial=pick("initial"), bioavailability={}, lag={}, outputs=("a", "b"),
    )  # fmt: skip
    return of_dynamics(dynamics)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_measured_order_is_five_and_four_inside_the_step(method, measured_orders):
    def slope(_, u):
        c, g, a, b = u
        return [-c / 2, c / 2 - g / 5, b * (1 + a * a / 8) + g / 4, -a]

    model = _driven()
    assert [model.dynamics.states[s] for s in model.block.states] == ["c", "g"]
    row, _ = extended(model.block, np.array([[0.5]]))
    module = solver(model.text(method, split=True)).__globals__
    end, inside = measured_orders(module, row[0], slope, [0.5, 0.0, 1.0, 0.5])
    assert abs(end - 5.0) < 0.1
    assert abs(inside - 4.0) < 0.1
