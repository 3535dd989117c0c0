"""Text of a Tsit5 step for all lanes."""

from __future__ import annotations

from pkpd.engine import tsit5
from pkpd.engine.modes_source import Modes
from pkpd.engine.plan import Plan, at, combined, dense_rows, error_lines, lane_loop, loads, moment, slopes
from pkpd.engine.tangent_source import norm

__all__ = ["tsit5_step"]


def tsit5_step(plan: Plan) -> str:
    """All stages, the error norm and the dense coefficients of one step, for all lanes."""
    own, modes = plan.own, Modes(plan)
    body = loads(plan, [("Y", "y"), ("K1", "k1_"), ("R", "r")], (*plan.derivative, *modes.nodes)) + modes.begin()
    for stage in range(2, 8):
        body += [f"u{stage}_{j} = fma(h, {combined(tsit5.A[stage - 1], j)}, y{j})" for j in own]
        body += modes.at(repr(tsit5.C[stage - 1]), f"u{stage}_")
        body.append(f"t{stage} = {moment(plan, tsit5.C[stage - 1])}")
        body += slopes(plan, [f"u{stage}_{j}" for j in range(len(plan.states))], f"t{stage}", stage)
    for g, group in enumerate(plan.groups):
        body += error_lines(g, {j: (f"h * ({combined(tsit5.ERROR, j)})", f"u7_{j}") for j in group})
    body += [f"W[2 * LANES + lane] = {norm([len(group) for group in plan.groups])}"]
    for j in own:
        body += [f"{at('YN', j)} = u7_{j}", f"{at('K7', j)} = k7_{j}"]
    for j in dense_rows(plan):
        body += [f"{at(f'D{p}', j)} = h * ({combined([b[p - 1] for b in tsit5.dense()], j)})" for p in (2, 3, 4)]
    return lane_loop("step(W, rtol, atol)", [*body, *modes.end("u7_")], "forced")
