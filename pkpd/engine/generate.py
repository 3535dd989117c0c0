"""Dynamics -> Python source of its solver in lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pkpd.engine.block import LinearBlock
from pkpd.engine.dynamics import Dynamics
from pkpd.engine.modes_source import Modes
from pkpd.engine.plan import (
    BLOCKS,
    NOTHING_MORE,
    POINTS,
    Needs,
    Plan,
    at,
    dense_rows,
    fed,
    fixed_given,
    function,
    lane_loop,
    load_fixed,
    loads,
    moment,
    plan_of,
    seen,
    slopes,
)  # fmt: skip
from pkpd.engine.printer import statements
from pkpd.engine.rodas5p_source import rodas5p_step
from pkpd.engine.steady_source import NO_STEADY, STEADY
from pkpd.engine.tangent_source import MARK, placed, tangent_functions
from pkpd.engine.template import DRIVER, HAZARDS, HEADER, NO_HAZARDS, NO_WINDOWS, WINDOWS
from pkpd.engine.tsit5_source import tsit5_step

__all__ = ["Method", "source"]

Method = Literal["tsit5", "rodas5p"]


def source(
    dynamics: Dynamics, *, method: Method = "tsit5", block: LinearBlock | None = None, needs: Needs = NOTHING_MORE
) -> str:
    """The module's text; only generated names and numbers occur in it, never the user's words.

    block: the linear block, if it is to be carried by its modes; needs: what records and request ask for.
    """
    plan = plan_of(dynamics, needs, block)
    rows = plan.rows
    header = HEADER.format(
        digest=dynamics.digest(),
        ns=len(plan.states),
        np=len(plan.states) - len(dynamics.hazards),
        no=len(plan.outputs),
        rows=rows["end"],
        control=_CONTROL[method if plan.split is None else "split/" + method],
        layout=", ".join(str(rows[k]) for k in (*BLOCKS, "FIVE")),
        place=placed(dynamics.states, dynamics.tangent, len(dynamics.hazards)),
        gathers=plan.gathers,
    )
    parts = [header, _prepare(plan), _initial(plan), _switch(plan), _outputs(plan, method), _restart(plan)]
    parts.append(rodas5p_step(plan) if method == "rodas5p" else tsit5_step(plan))
    parts += [_commit(plan, method), _tangent(plan), *_asked(plan, method), DRIVER.replace("{signature}", _SIGNATURE)]
    text = "\n".join(parts)
    return text if plan.tangent is None else text.replace(MARK, "")


def _asked(plan: Plan, method: Method) -> list[str]:
    """What the driver calls for windows, hazards and steady states: nothing where there are none."""
    return [
        _points(plan, method) + WINDOWS if plan.watched else NO_WINDOWS,
        HAZARDS if plan.hazards else NO_HAZARDS,
        STEADY if plan.needs.steady else NO_STEADY,
    ]


# exponents of the PI control: less damping where stability does not bind
# and, where the error is smooth from step to step, a safety factor nearer 1
_CONTROL = {
    "tsit5": "0.14, 0.08, 0.9", "rodas5p": "0.17, 0.04, 0.9",
    "split/tsit5": "0.2, 0.0, 0.95", "split/rodas5p": "0.17, 0.04, 0.9",
}  # fmt: skip
_SIGNATURE = (
    "(float64[:, ::1], int64[::1], float64[::1], int8[::1], int32[::1], float64[::1], float64[:, ::1], int32[::1], "
    "float64[:, ::1], float64[::1], float64[:, ::1], boolean, int64[::1], float64[:, :, ::1], float64[:, :, ::1], "
    "float64[::1], float64, float64, int64, float64[:, :, ::1], float64[:, :, ::1], "
    "float64[:, :, ::1], float64[:, :, :, ::1], int8[::1], "
    "float64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64[:, :, ::1], int64[:, ::1], "
    "float64[:, ::1], boolean[:, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[::1])"
)


def _prepare(plan: Plan) -> str:
    """Constants of a subject and its initial state, from its row of parameters."""
    given = {node: f"p[{k}]" for k, node in enumerate(plan.parameters)}
    block = statements(plan.graph, (*plan.fixed, *plan.initial), given, "x")
    n = len(plan.fixed)
    stores = [f"{at('C', k)} = {text}" for k, text in enumerate(block.roots[:n])]
    stores += [f"{at('C', n + k)} = {text}" for k, text in enumerate(block.roots[n:])]
    return function("prepare(p, W, lane)", [*block.lines, *stores])


def _initial(plan: Plan) -> str:
    n = len(plan.fixed)
    return function("initial(W, lane)", [f"{at('Y', k)} = {at('C', n + k)}" for k in range(len(plan.states))])


def _switch(plan: Plan) -> str:
    """Turn a compartment on (1) or off (0)."""
    return function("switch(W, lane, state, on)", ["W[(M + state) * LANES + lane] = on"] if plan.needs.switches else [])


def _output_lines(plan: Plan, which: Sequence[int], time: str, store: str) -> list[str]:
    """Statements that store outputs from locals y0, y1, ... and the constants c0, c1, ..."""
    given = fixed_given(plan) | {s: f"y{k}" for k, s in enumerate(plan.states)} | {plan.time: time}
    block = statements(plan.graph, [plan.outputs[k] for k in which], given, "x")
    return [*block.lines, *(f"{store.format(k)} = {text}" for k, text in zip(which, block.roots, strict=True))]


def _outputs(plan: Plan, method: Method) -> str:
    """Outputs at the current state, at a fraction of the step, and at every sample inside the step.

    What the closed form of a linear block computes is left out inside a step.
    """
    every, some = range(len(plan.outputs)), plan.stepped
    fixed, known = load_fixed(plan, plan.outputs), seen(plan, every)
    now = ["t = W[lane]", *fixed, *(f"y{k} = {at('Y', k)}" for k in known), *_output_lines(plan, every, "t", "out[{}]")]
    modes = Modes(plan)
    before, moved = modes.dense(seen(plan, some))
    roots = [plan.outputs[k] for k in some] + list(modes.nodes if before else ())
    head = ["t = W[lane]", "h = W[LANES + lane]", *load_fixed(plan, roots), *before]
    coefficients = [line for k in dense_rows(plan) for line in _coefficients(k, method)]
    dense = [f"y{k} = {_polynomial(k)}" for k in dense_rows(plan)] + moved
    inside = [*head, *coefficients, *dense, *_output_lines(plan, some, "fma(theta, h, t)", "out[{}]")]
    loop = [
        "theta = (times[i, j] - t) * per_h",
        *dense,
        *_output_lines(plan, some, "times[i, j]", "values[i, {}, j]"),
        "j += 1",
    ]
    pending = "times[i, j] < limit or (inclusive and times[i, j] == limit)"
    samples = [
        *head,
        "per_h = 1.0 / h",
        *coefficients,
        "i, j = I[lane], I[2 * LANES + lane]",
        f"while j < times.shape[1] and ({pending}):",
    ]
    samples += [*(f"    {line}" for line in loop), "I[2 * LANES + lane] = j"]
    samples.append("W[14 * LANES + lane] = times[i, j] if j < times.shape[1] else np.inf")
    return (
        function("outputs_now(W, lane, out)", now)
        + function("dense_outputs(W, lane, theta, out)", inside)
        + function("samples_in_step(W, I, lane, times, limit, inclusive, values)", samples, "forced")
    )


def _points(plan: Plan, method: Method) -> str:
    """Five points of the outputs with windows over the step of every lane."""
    known = seen(plan, plan.watched)
    before, moved = Modes(plan).dense(known)
    stepped = [k for k in dense_rows(plan) if k in known]
    roots = [plan.outputs[k] for k in plan.watched] + list(Modes(plan).nodes if before else ())
    body = ["t = W[lane]", "h = W[LANES + lane]", *load_fixed(plan, roots), *before]
    body += [line for k in stepped for line in _coefficients(k, method)]
    for point in range(5):
        body += [f"theta = {point / 4}", *(f"y{k} = {_polynomial(k)}" for k in stepped), *moved]
        body += _output_lines(plan, plan.watched, "fma(theta, h, t)", f"p{{}}_{point}")
    for k in plan.watched:
        five, row = ", ".join(f"p{k}_{point}" for point in range(5)), POINTS * k
        body += [f"{at('FIVE', row + point)} = p{k}_{point}" for point in range(5)]
        body += [f"{at('FIVE', row + 5)} = boole({five})", f"{at('FIVE', row + 6)} = 1.0 if turns({five}) else 0.0"]
    return lane_loop("points(W)", body, "forced")


def _coefficients(k: int, method: Method) -> list[str]:
    slope = f"a{k}_1 = h * {at('K1', k)}" if method == "tsit5" else f"a{k}_1 = {at('K7', k)}"
    return [f"a{k}_0 = {at('Y', k)}", slope, *(f"a{k}_{p} = {at(f'D{p}', k)}" for p in (2, 3, 4))]


def _polynomial(k: int) -> str:
    text = f"a{k}_4"
    for p in (3, 2, 1, 0):
        text = f"fma(theta, {text}, a{k}_{p})"
    return text


def _restart(plan: Plan) -> str:
    """First slope and first step of one lane: lanes come to their stops one by one."""
    n, modes = range(len(plan.states)), Modes(plan)
    roots = (*plan.derivative, *modes.nodes)
    body = [*loads(plan, [("Y", "y"), ("R", "r")], roots), f"t1 = {moment(plan, 0.0)}"]
    body += slopes(plan, [f"y{j}" for j in n], "t1", 1)
    body += ["d0 = 0.0", "d1 = 0.0"]
    for j in plan.own:
        body += [f"s{j} = 1.0 / (atol + rtol * abs(y{j}))", f"d0 += abs(y{j}) * s{j}", f"d1 += abs(k1_{j}) * s{j}"]
    body += ["first = 0.01 * (d0 + 1e-6) / d1", *_second_slope(plan, modes), "W[LANES + lane] = first"]
    body += [f"{at('K1', j)} = k1_{j}" for j in n]
    return function("restart(W, lane, rtol, atol)", body)


def _second_slope(plan: Plan, modes: Modes) -> list[str]:
    """The first step from a second slope, a short step on: the block's doses are not in the first slope of the others.

    Hairer, Norsett & Wanner I, section II.4: h = (0.01 / max(d1, d2))^(1/5), d2 the scaled second derivative.
    """
    if plan.split is None:
        return []
    lines = [*modes.first(), "before, h = h, first", *modes.begin(), *modes.at("1.0", "u2_")]
    lines += [f"u2_{j} = fma(h, k1_{j}, y{j})" for j in plan.own]
    lines += slopes(plan, [f"u2_{j}" for j in range(len(plan.states))], "t + h", 2)
    lines += ["d2 = 0.0", *(f"d2 += abs(k2_{j} - k1_{j}) * s{j}" for j in plan.own)]
    size = float(len(plan.own))
    lines += [f"d2 = greatest(d1, d2 / h) * {1.0 / size!r}", "second = rough_power(0.01 / greatest(d2, 1e-300), 0.2)"]
    return [*lines, "first = least(100.0 * first, second)", "h = before"]


def _tangent(plan: Plan) -> str:
    """Jumps of sensitivities, which need the slopes of the model's own states."""
    own = [k for k, name in enumerate(plan.names) if k in plan.groups[0]]
    roots = [plan.derivative[k] for k in own]
    given = fixed_given(plan) | {node: f"y{k}" for k, node in enumerate(plan.states)} | {plan.time: "t"}
    block = statements(plan.graph, roots, given, "x")
    rows = [("Y", "y"), ("R", "r"), *([("M", "m")] if plan.needs.switches else [])]
    lines = [f"{local}{k} = {at(row, k)}" for row, local in rows for k in own]
    lines += [
        *load_fixed(plan, roots),
        *block.lines,
        *(f"s{k} = {fed(plan, k, text)}" for k, text in zip(own, block.roots, strict=True)),
    ]
    return tangent_functions(plan, lines, [f"s{k}" for k in range(len(plan.names))])


def _commit(plan: Plan, method: Method) -> str:
    """Accepted lanes move on; every lane gets its next step, cut at its next stop; the last two before it are equal."""
    body = ["accepted = W[4 * LANES + lane] == 1.0"]
    for j in range(len(plan.states)):
        slope = method == "tsit5" and j in plan.own
        for old, new in (("Y", "YN"), ("K1", "K7")) if slope else (("Y", "YN"),):
            body.append(f"{at(old, j)} = {at(new, j)} if accepted else {at(old, j)}")
    body += [
        "there = W[7 * LANES + lane] if accepted else 0.0",
        "moved = W[6 * LANES + lane] if there == 1.0 else W[lane] + W[LANES + lane]",
        "t = moved if accepted else W[lane]",
        "rest = W[6 * LANES + lane] - t",
        "h = W[8 * LANES + lane]",
        "W[lane] = t",
        "W[13 * LANES + lane] = there",
        "W[7 * LANES + lane] = 0.0 if h < rest else 1.0",
        "h = 0.5 * rest if (h > 0.5 * rest and h < rest) else h",
        "W[LANES + lane] = h if h < rest else rest",
    ]
    return lane_loop("commit(W)", body, "forced")
