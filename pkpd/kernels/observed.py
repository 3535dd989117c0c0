"""What a likelihood needs from the closed form: one prediction a row of data, its gradient, and the way back.

Observations are rows (subject, column of that subject's times); nothing is padded beyond this file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.intrinsics import kernel
from pkpd.kernels.linear import concentration_gradient

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]
B1 = NDArray[np.bool_]


@kernel
def observed_concentration(
    ka: F64, cl: F64, v: F64, offsets: I64, time: F64, kind: I8, target: I32, amount: F64, steady: F64,
    times: F64, subject: I64, column: I64, after: B1,
) -> tuple[F64, F64]:  # fmt: skip
    """Concentration (rows,) and its derivatives (rows, 3) with respect to the subject's ka, cl, v (natural scale).

    Actions and `times` (n, T) as in :func:`concentration_gradient`; `after` (rows,): the row follows the dose at its
    time.
    """
    value, gradient = concentration_gradient(ka, cl, v, offsets, time, kind, target, amount, steady, times, False)
    late, late_gradient = value, gradient
    if after.any():
        late, late_gradient = concentration_gradient(
            ka, cl, v, offsets, time, kind, target, amount, steady, times, True
        )
    rows = subject.size
    prediction = np.empty(rows)
    slope = np.empty((rows, 3))
    for r in range(rows):
        i, j = subject[r], column[r]
        prediction[r] = late[i, j] if after[r] else value[i, j]
        for k in range(3):
            slope[r, k] = late_gradient[i, k, j] if after[r] else gradient[i, k, j]
    return prediction, slope


@kernel
def pulled_back(slope: F64, cotangent: F64, subject: I64, like: F64) -> tuple[F64, F64, F64]:
    """Cotangents of ka, cl, v (subjects,) from those of the rows: sum over a subject's rows, in order of rows.

    `like`: any array (subjects,).
    """
    subjects = like.size
    ka, cl, v = np.zeros(subjects), np.zeros(subjects), np.zeros(subjects)
    for r in range(subject.size):
        i = subject[r]
        ka[i] += slope[r, 0] * cotangent[r]
        cl[i] += slope[r, 1] * cotangent[r]
        v[i] += slope[r, 2] * cotangent[r]
    return ka, cl, v


@kernel
def pulled_back_rows(slope: F64, cotangent: F64, subject: I64, like: F64) -> F64:
    """Cotangents of K parameters (subjects, K) from those of the rows: sum over a subject's rows, in order of rows.

    slope (rows, K); `like`: any array (subjects, K).
    """
    found = np.zeros(like.shape)
    for r in range(subject.size):
        for k in range(found.shape[1]):
            found[subject[r], k] += slope[r, k] * cotangent[r]
    return found
