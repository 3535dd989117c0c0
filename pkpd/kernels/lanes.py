"""What every generated solver shares: rows of the lane workspace, Tsit5, step control, dense-output statistics.

The workspace is one flat array, `W[row * LANES + lane]`: sixteen subjects in lock step, each with its own time, step,
events and samples; whole numbers of a lane, likewise, in `I`. Sources: Tsitouras, Comput. Math. Appl. 2011;62:770-775
(pair and free interpolant); Hairer, Norsett & Wanner, Solving ODEs I, section II.4 (starting step, PI control).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import rough_power
from pkpd.kernels.intrinsics import inlined, wide

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LANES = 16  # two vectors of eight: while one waits for its errors, the other is computed
# rows of the workspace that every model has; the model's own rows follow
T, H, ERR, ERR_OLD, ACCEPTED, NEW, STOP, LAST, NEXT_H, T_END, BASE, DELTA, WINDOW_FROM, THERE, NEXT_SAMPLE = range(15)
FIRST_FREE_ROW = 16
# rows of the integer workspace
SUBJECT, ACTION, SAMPLE, STEPS, MODE, STEADY_ROW, CYCLES, FAILED, LIMIT = range(9)
# modes of a lane
NORMAL, CYCLE_FIRST, CYCLE_REST, FINAL_FIRST, FINAL_REST = range(5)
# kinds of action (the same numbers as in kernels.linear)
ADD, RATE, STEADY, RESET, REPLACE, MULTIPLY, SET, SUPERPOSE, OFF, ON = range(10)
# status of a subject (the same numbers as engine.status)
OK, STEP_LIMIT, STEP_TOO_SMALL, NOT_FINITE, NOT_STEADY = range(5)
# statistics of a window
AVERAGE, MAXIMUM, MINIMUM = range(3)
MAX_CYCLES = 20_000


@inlined
def choose(condition: bool, yes: float, no: float, unknown: float) -> float:
    """`yes` or `no`; NaN where `unknown` is NaN."""
    return (yes if condition else no) + unknown


@inlined
def missing(x: float) -> float:
    """NaN for NaN, else 0 (infinities are known)."""
    return 0.0 if x == x else x


@inlined
def least(a: float, b: float) -> float:
    """Minimum; NaN if either is."""
    return a if (a < b or a != a) else b


@inlined
def greatest(a: float, b: float) -> float:
    """Maximum; NaN if either is."""
    return a if (a > b or a != a) else b


@inlined
def control(W: F64, grow: float, damp: float, safety: float) -> None:
    """PI step control for all lanes: h clip(safety err^-grow err_old^damp, 0.2, 5), no growth after a rejection."""
    wide()
    for lane in range(LANES):
        err = W[ERR * LANES + lane]
        accepted = err <= 1.0
        bounded = err if err > 1e-10 else (1e-10 if err == err else 1e10)
        damped = rough_power(W[ERR_OLD * LANES + lane], damp) if damp != 0.0 else 1.0
        factor = safety * damped * rough_power(bounded, -grow)
        factor = 5.0 if factor > 5.0 else factor
        factor = factor if factor > 0.2 else 0.2
        rejected = 0.9 if factor > 0.9 else factor
        W[ACCEPTED * LANES + lane] = 1.0 if accepted else 0.0
        W[NEXT_H * LANES + lane] = W[H * LANES + lane] * (factor if accepted else rejected)
        kept = bounded if bounded > 1e-4 else 1e-4
        W[ERR_OLD * LANES + lane] = kept if accepted else W[ERR_OLD * LANES + lane]


@inlined
def due(W: F64, numbers: I64) -> tuple[int, int]:
    """Lanes whose accepted step reaches a sample, and a window: bit number lane of two masks."""
    wide()
    samples, windows = 0, 0
    for lane in range(LANES):
        t1 = W[STOP * LANES + lane] if W[LAST * LANES + lane] == 1.0 else W[T * LANES + lane] + W[H * LANES + lane]
        bit = (1 << lane) if (W[ACCEPTED * LANES + lane] == 1.0) & (numbers[MODE * LANES + lane] == NORMAL) else 0
        samples |= bit if W[NEXT_SAMPLE * LANES + lane] <= t1 else 0
        windows |= bit if W[WINDOW_FROM * LANES + lane] <= t1 else 0
    return samples, windows


@inlined
def calling(W: F64, numbers: I64) -> int:
    """Count a step of every lane; bits of those that stand at a stop, are stuck, have ended or are out of steps."""
    wide()
    mask = 0
    for lane in range(LANES):
        t, steps = W[T * LANES + lane], numbers[STEPS * LANES + lane] + 1
        numbers[STEPS * LANES + lane] = steps
        able = W[NEXT_H * LANES + lane] > 1e-15 * greatest(abs(t), 1e-3)
        stuck = (W[ACCEPTED * LANES + lane] == 0.0) & (not able)
        over = (t >= W[T_END * LANES + lane]) & (numbers[MODE * LANES + lane] == NORMAL)
        called = stuck | over | (W[THERE * LANES + lane] == 1.0) | (steps >= numbers[LIMIT * LANES + lane])
        mask |= (1 << lane) if called & (numbers[SUBJECT * LANES + lane] >= 0) else 0
    return mask


@inlined
def set_step(W: F64, lane: int, h: float) -> None:
    """Take `h`, cut at the lane's next stop; the last two steps before a stop are made equal."""
    rest = W[STOP * LANES + lane] - W[T * LANES + lane]
    last = not (h < rest)
    W[LAST * LANES + lane] = 1.0 if last else 0.0
    W[H * LANES + lane] = rest if last else (0.5 * rest if h > 0.5 * rest else h)


@inlined
def latest(times: F64) -> float:
    """Largest of a row that is not NaN, or -inf."""
    top = -np.inf
    for j in range(times.size):
        if times[j] > top:
            top = times[j]
    return top
