"""Dose-response shapes fitted to dose means by generalised least squares, one replicate after another.

Mean at dose d: e0 + sum of e_c phi_c(d; theta), linear in e, at most two theta within bounds. For given theta the e are
solved (variable projection); theta starts at the local minima of a grid and is refined by Levenberg-Marquardt steps
(Golub & Pereyra, SIAM J Numer Anal 1973;10:413, with Kaufman's derivative) clipped to the bounds. Shapes and the order
of their coefficients are those of R's DoseFinding (Bornkamp et al., J Stat Softw 2009;29(7)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import exp, log
from pkpd.kernels.intrinsics import inlined, kernel
from trials.kernels.positive import factored, forward, inverse

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]

LINEAR, LINLOG, QUADRATIC, EMAX, EXPONENTIAL, LOGISTIC, SIGEMAX, BETAMOD = range(8)
OK, AT_BOUND, NOT_ESTIMABLE, NOT_CONVERGED = range(4)
_START = 24  # grid points on each side of two dimensions; of one dimension, their square root more
_BEST = 3


@inlined
def _raised(base: float, power: float) -> float:
    """base ** power for base >= 0, power > 0."""
    return exp(power * log(base)) if base > 0.0 else 0.0


@inlined
def _times_log(base: float, value: float) -> float:
    """value log(base), 0 where base is."""
    return value * log(base) if base > 0.0 else 0.0


@kernel
def shape(kind: int, d: float, theta: F64, extra: float, out: F64) -> None:
    """phi(d) and its derivatives: out (4,) = phi, d phi/d theta_0, d phi/d theta_1, d phi/dd.

    `extra` is the offset of linlog and the scale of betaMod; QUADRATIC gives its first column d.
    """
    out[1], out[2] = 0.0, 0.0
    if kind == LINLOG:
        out[0], out[3] = log(d + extra), 1.0 / (d + extra)
    elif kind == EMAX:
        below = theta[0] + d
        out[0], out[1], out[3] = d / below, -d / (below * below), theta[0] / (below * below)
    elif kind == EXPONENTIAL:
        grown = exp(d / theta[0])
        out[0], out[1], out[3] = grown - 1.0, -grown * d / (theta[0] * theta[0]), grown / theta[0]
    elif kind == LOGISTIC:
        share = 1.0 / (1.0 + exp((theta[0] - d) / theta[1]))
        steep = share * (1.0 - share) / theta[1]
        out[0], out[1], out[2], out[3] = share, -steep, -steep * (d - theta[0]) / theta[1], steep
    elif kind == SIGEMAX:
        ratio = _raised(d / theta[0], theta[1])
        share = ratio / (1.0 + ratio)
        steep = share * (1.0 - share)
        out[0], out[1], out[2] = share, -steep * theta[1] / theta[0], _times_log(d / theta[0], steep)
        out[3] = steep * theta[1] / d if d > 0.0 else (1.0 / theta[0] if theta[1] == 1.0 else 0.0)
    elif kind == BETAMOD:
        one, two, x = theta[0], theta[1], d / extra
        top = exp(_times_log(one + two, one + two) - _times_log(one, one) - _times_log(two, two))
        out[0] = top * _raised(x, one) * _raised(1.0 - x, two)
        whole = log(one + two)
        out[1] = out[0] * (whole - log(one)) + _times_log(x, out[0])
        out[2] = out[0] * (whole - log(two)) + _times_log(1.0 - x, out[0])
        out[3] = out[0] * (one / x - two / (1.0 - x)) / extra if x > 0.0 else (np.inf if one < 1.0 else 0.0)
    else:
        out[0], out[3] = d, 1.0


@inlined
def _linear(kind: int) -> int:
    """Linear coefficients of a shape, the intercept among them."""
    return 3 if kind == QUADRATIC else 2


@inlined
def _bent(kind: int) -> int:
    """Parameters that enter non-linearly."""
    return 0 if kind <= QUADRATIC else (1 if kind <= EXPONENTIAL else 2)


@kernel
def whitened(kind: int, doses: F64, theta: F64, extra: float, lower: F64, columns: F64, steep: F64) -> None:
    """L^-1 of the linear columns (3, K) and of d phi/d theta (2, K), L L' the covariance of the means."""
    found = np.empty(4)
    for k in range(doses.size):
        shape(kind, doses[k], theta, extra, found)
        columns[0, k], columns[1, k], columns[2, k] = 1.0, found[0], doses[k] * doses[k]
        steep[0, k], steep[1, k] = found[1], found[2]
    for c in range(_linear(kind)):
        forward(lower, columns[c], columns[c])
    for c in range(_bent(kind)):
        forward(lower, steep[c], steep[c])


@kernel
def _without(basis: F64, rank: int, column: F64) -> None:
    """Remove the orthonormal basis from a column, twice."""
    for _ in range(2):
        for q in range(rank):
            along = 0.0
            for k in range(column.size):
                along += basis[q, k] * column[k]
            for k in range(column.size):
                column[k] -= along * basis[q, k]


@kernel
def solved(columns: F64, linear: int, z: F64, basis: F64, residual: F64, e: F64) -> float:
    """Linear coefficients e and the residual sum of squares; infinite where the columns are dependent."""
    K = z.size
    upper = np.zeros((3, 3))
    for c in range(linear):
        norm = 0.0
        for k in range(K):
            basis[c, k] = columns[c, k]
            norm += columns[c, k] * columns[c, k]
        _without(basis, c, basis[c])
        for q in range(c):
            for k in range(K):
                upper[q, c] += basis[q, k] * columns[c, k]
        left = 0.0
        for k in range(K):
            left += basis[c, k] * basis[c, k]
        if not left > 1e-24 * norm:
            return np.inf
        upper[c, c] = np.sqrt(left)
        for k in range(K):
            basis[c, k] /= upper[c, c]
    for c in range(linear):
        e[c] = 0.0
        for k in range(K):
            e[c] += basis[c, k] * z[k]
    residual[:] = z
    _without(basis, linear, residual)
    total = 0.0
    for k in range(K):
        total += residual[k] * residual[k]
    for c in range(linear - 1, -1, -1):
        for q in range(c + 1, linear):
            e[c] -= upper[c, q] * e[q]
        e[c] /= upper[c, c]
    return total


@kernel
def refined(kind: int, doses: F64, extra: float, bounds: F64, lower: F64, z: F64, theta: F64, e: F64) -> float:
    """Levenberg-Marquardt from `theta`, in place; e the linear coefficients; returns the deviance, negative (minus it
    less one) where 200 steps did not settle.
    """
    K, bent, linear = doses.size, _bent(kind), _linear(kind)
    columns, steep, basis = np.empty((3, K)), np.empty((2, K)), np.empty((3, K))
    residual, trial, e_new = np.empty(K), theta.copy(), np.empty(3)
    whitened(kind, doses, theta, extra, lower, columns, steep)
    best, damping = solved(columns, linear, z, basis, residual, e), 1e-3
    for _ in range(200):
        for c in range(bent):
            _without(basis, linear, steep[c])
        # minimise |residual - e1 P steep h|^2 over the free parameters
        a00, a01, a11, g0, g1 = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(K):
            s0, s1 = e[1] * steep[0, k], e[1] * steep[1, k] if bent == 2 else 0.0
            a00, a01, a11 = a00 + s0 * s0, a01 + s0 * s1, a11 + s1 * s1
            g0, g1 = g0 + s0 * residual[k], g1 + s1 * residual[k]
        free0 = not ((theta[0] <= bounds[0, 0] and g0 < 0.0) or (theta[0] >= bounds[0, 1] and g0 > 0.0))
        free1 = bent == 2 and not ((theta[1] <= bounds[1, 0] and g1 < 0.0) or (theta[1] >= bounds[1, 1] and g1 > 0.0))
        better = False
        while damping < 1e12:
            b00, b11, b01 = a00 * (1.0 + damping), a11 * (1.0 + damping), a01 if free0 and free1 else 0.0
            determinant = b00 * b11 - b01 * b01
            h0, h1 = 0.0, 0.0
            if free0 and free1 and determinant > 0.0:
                h0, h1 = (b11 * g0 - b01 * g1) / determinant, (b00 * g1 - b01 * g0) / determinant
            elif free0 and b00 > 0.0:
                h0 = g0 / b00
            elif free1 and b11 > 0.0:
                h1 = g1 / b11
            trial[0] = min(bounds[0, 1], max(bounds[0, 0], theta[0] + h0))
            if bent == 2:
                trial[1] = min(bounds[1, 1], max(bounds[1, 0], theta[1] + h1))
            moved = abs(trial[0] - theta[0]) / (bounds[0, 1] - bounds[0, 0])
            if bent == 2:
                moved = max(moved, abs(trial[1] - theta[1]) / (bounds[1, 1] - bounds[1, 0]))
            if moved < 1e-11:
                return best
            whitened(kind, doses, trial, extra, lower, columns, steep)
            value = solved(columns, linear, z, basis, residual, e_new)
            if value <= best:
                better = value < best
                best, damping = value, max(1e-12, 0.2 * damping)
                theta[:], e[:] = trial, e_new
                break
            damping = max(1e-6, 5.0 * damping)
        if not better:
            return best
    return -best - 1.0


@inlined
def _node(bounds: F64, c: int, i: int, n: int, logarithmic: bool) -> float:
    """Grid node i of n inside the bounds of theta_c, ends included."""
    share = i / (n - 1.0)
    if logarithmic and bounds[c, 0] > 0.0:
        return float(exp(log(bounds[c, 0]) + share * (log(bounds[c, 1]) - log(bounds[c, 0]))))
    return float(bounds[c, 0] + share * (bounds[c, 1] - bounds[c, 0]))


@kernel
def gridded(kind: int, doses: F64, extra: float, bounds: F64, lower: F64, z: F64, value: F64) -> None:
    """Deviance at the grid (n0, n1) of theta."""
    K = doses.size
    columns, steep, basis = np.empty((3, K)), np.empty((2, K)), np.empty((3, K))
    residual, e, theta = np.empty(K), np.empty(3), np.empty(2)
    n0, n1 = value.shape
    for i in range(n0):
        theta[0] = _node(bounds, 0, i, n0, True)
        for j in range(n1):
            theta[1] = _node(bounds, 1, j, n1, True) if n1 > 1 else 0.0
            whitened(kind, doses, theta, extra, lower, columns, steep)
            value[i, j] = solved(columns, _linear(kind), z, basis, residual, e)


@inlined
def _local(value: F64, i: int, j: int) -> bool:
    """Whether no neighbour on the grid is lower."""
    for a in range(max(0, i - 1), min(value.shape[0], i + 2)):
        for b in range(max(0, j - 1), min(value.shape[1], j + 2)):
            if value[a, b] < value[i, j]:
                return False
    return bool(value[i, j] < np.inf)


@kernel
def fitted(kind: int, doses: F64, extra: float, bounds: F64, lower: F64, z: F64, theta: F64, e: F64) -> float:
    """The best of the refinements from up to `_BEST` local minima of the grid; the deviance as `refined` codes it."""
    K = doses.size
    if _bent(kind) == 0:
        columns, steep, basis, residual = np.empty((3, K)), np.empty((2, K)), np.empty((3, K)), np.empty(K)
        whitened(kind, doses, theta, extra, lower, columns, steep)
        return solved(columns, _linear(kind), z, basis, residual, e)
    n1 = _START if _bent(kind) == 2 else 1
    n0 = _START if n1 > 1 else 2 * _START
    value = np.empty((n0, n1))
    gridded(kind, doses, extra, bounds, lower, z, value)
    best, result, mine, own = np.inf, np.inf, np.empty(2), np.empty(3)
    for _ in range(_BEST):
        chosen = -1
        for at in range(value.size):
            i, j = at // n1, at % n1
            if _local(value, i, j) and (chosen < 0 or value[i, j] < value[chosen // n1, chosen % n1]):
                chosen = at
        if chosen < 0:
            break
        i, j = chosen // n1, chosen % n1
        value[i, j] = np.inf
        mine[0] = _node(bounds, 0, i, n0, True)
        mine[1] = _node(bounds, 1, j, n1, True) if n1 > 1 else 0.0
        found = refined(kind, doses, extra, bounds, lower, z, mine, own)
        plain = found if found >= 0.0 else -found - 1.0
        if plain < best:
            best, result = plain, found
            theta[:], e[:] = mine, own
    return result


@kernel
def curve_gradient(kind: int, d: float, e: F64, theta: F64, extra: float, out: F64) -> float:
    """The mean at d; out (4,) its derivatives by the coefficients in their order: e, then theta."""
    found = np.empty(4)
    shape(kind, d, theta, extra, found)
    linear = _linear(kind)
    out[:] = 0.0
    out[0], out[1] = 1.0, found[0]
    value = e[0] + e[1] * found[0]
    if kind == QUADRATIC:
        out[2] = d * d
        value += e[2] * d * d
    for c in range(_bent(kind)):
        out[linear + c] = e[1] * found[1 + c]
    return float(value)


@kernel
def covariance_of(kind: int, doses: F64, e: F64, theta: F64, extra: float, free: NDArray[np.bool_], lower: F64,
                  out: F64) -> bool:  # fmt: skip
    """(J' S^-1 J)^-1 of the free coefficients, NaN rows and columns for those on a bound; False where singular."""
    K, p = doses.size, _linear(kind) + _bent(kind)
    jacobian, gradient, used = np.empty((p, K)), np.empty(4), np.empty(p, dtype=np.int64)
    for k in range(K):
        curve_gradient(kind, doses[k], e, theta, extra, gradient)
        jacobian[:, k] = gradient[:p]
    n = 0
    for c in range(p):
        forward(lower, jacobian[c], jacobian[c])
        if free[c]:
            used[n] = c
            n += 1
    gram, root, found = np.zeros((n, n)), np.zeros((n, n)), np.empty((n, n))
    norm = np.empty(n)
    for a in range(n):
        for b in range(n):
            for k in range(K):
                gram[a, b] += jacobian[used[a], k] * jacobian[used[b], k]
    for a in range(n):
        norm[a] = np.sqrt(gram[a, a])
    for a in range(n):
        for b in range(n):
            gram[a, b] /= norm[a] * norm[b]
    out[:] = np.nan
    if not factored(gram, root):
        return False
    inverse(root, found)
    for a in range(n):
        for b in range(n):
            out[used[a], used[b]] = found[a, b] / (norm[a] * norm[b])
    return True


@kernel
def fit_shapes(mean: F64, covariance: F64, doses: F64, kinds: I64, extra: F64, bounds: F64, good: NDArray[np.bool_],
               coefficients: F64, spread: F64, deviance: F64, status: I8) -> None:  # fmt: skip
    """All replicates and shapes: mean (R, K), covariance (R, K, K), kinds, extra (m,), bounds (m, 2, 2), good (R,).

    Out: coefficients (R, m, 4), spread (R, m, 4, 4) their covariance, deviance, status (R, m).
    """
    R, K = mean.shape
    lower, z, theta, e = np.empty((K, K)), np.empty(K), np.empty(2), np.empty(3)
    free = np.ones(4, dtype=np.bool_)
    for r in range(R):
        usable = good[r] and factored(covariance[r], lower)
        if usable:
            forward(lower, mean[r], z)
        for m in range(kinds.size):
            kind, linear, bent = kinds[m], _linear(kinds[m]), _bent(kinds[m])
            if not usable or linear + bent > K:
                status[r, m] = NOT_ESTIMABLE
                continue
            theta[:] = 1.0
            found = fitted(kind, doses, extra[m], bounds[m], lower, z, theta, e)
            if not found < np.inf:
                status[r, m] = NOT_ESTIMABLE
                continue
            status[r, m] = OK if found >= 0.0 else NOT_CONVERGED
            deviance[r, m] = found if found >= 0.0 else -found - 1.0
            coefficients[r, m, :linear] = e[:linear]
            free[:] = True
            for c in range(bent):
                coefficients[r, m, linear + c] = theta[c]
                if theta[c] <= bounds[m, c, 0] or theta[c] >= bounds[m, c, 1]:
                    free[linear + c] = False
                    status[r, m] = AT_BOUND if status[r, m] == OK else status[r, m]
            covariance_of(kind, doses, e, theta, extra[m], free, lower, spread[r, m])


@inlined
def _split(kind: int, coefficients: F64, e: F64, theta: F64) -> None:
    linear = _linear(kind)
    e[:] = 0.0
    e[:linear] = coefficients[:linear]
    for c in range(_bent(kind)):
        theta[c] = coefficients[linear + c]


@kernel
def curves(coefficients: F64, spread: F64, kinds: I64, extra: F64, doses: F64, less_placebo: bool, value: F64,
           variance: F64) -> None:  # fmt: skip
    """Fitted means at `doses` (D,), or their difference from dose 0, and delta-method variances: out (R, m, D).

    Coefficients on a bound count as known.
    """
    e, theta, gradient, zero = np.empty(3), np.ones(2), np.empty(4), np.zeros(4)
    for r in range(coefficients.shape[0]):
        for m in range(kinds.size):
            _split(kinds[m], coefficients[r, m], e, theta)
            base = curve_gradient(kinds[m], 0.0, e, theta, extra[m], zero) if less_placebo else 0.0
            for i in range(doses.size):
                value[r, m, i] = curve_gradient(kinds[m], doses[i], e, theta, extra[m], gradient) - base
                for a in range(4):
                    gradient[a] -= zero[a] if less_placebo else 0.0
                variance[r, m, i] = _quadratic_form(gradient, spread[r, m])


@inlined
def _quadratic_form(g: F64, matrix: F64) -> float:
    """g' M g over the rows of M that are known; NaN where none is."""
    total, known = 0.0, False
    for a in range(g.size):
        if matrix[a, a] == matrix[a, a]:
            known = True
            for b in range(g.size):
                if matrix[b, b] == matrix[b, b]:
                    total += g[a] * g[b] * matrix[a, b]
    return total if known else np.nan


@kernel
def targets(coefficients: F64, spread: F64, kinds: I64, extra: F64, most: float, effect: float, dose: F64,
            variance: F64) -> None:  # fmt: skip
    """Smallest dose up to `most` with `effect` (signed) over dose 0, NaN where there is none; delta-method variance.

    Every shape is monotone up to its stationary point and beyond it, so the first crossing lies before that point or,
    where the curve there is not beyond the effect, before `most`.
    """
    e, theta, gradient, zero, slope = np.empty(3), np.ones(2), np.empty(4), np.empty(4), np.empty(4)
    sign = 1.0 if effect > 0.0 else -1.0
    for r in range(coefficients.shape[0]):
        for m in range(kinds.size):
            kind = kinds[m]
            _split(kind, coefficients[r, m], e, theta)
            goal = abs(effect)
            base = curve_gradient(kind, 0.0, e, theta, extra[m], zero)
            turn = most
            if kind == QUADRATIC and e[2] != 0.0:
                turn = -0.5 * e[1] / e[2]
            elif kind == BETAMOD:
                turn = extra[m] * theta[0] / (theta[0] + theta[1])
            high = turn if 0.0 < turn < most else most
            if not sign * (curve_gradient(kind, high, e, theta, extra[m], gradient) - base) >= goal:
                high = most
            if not sign * (curve_gradient(kind, high, e, theta, extra[m], gradient) - base) >= goal:
                continue
            low = 0.0
            for _ in range(200):
                middle = 0.5 * (low + high)
                if middle in (low, high):
                    break
                if sign * (curve_gradient(kind, middle, e, theta, extra[m], gradient) - base) >= goal:
                    high = middle
                else:
                    low = middle
            dose[r, m] = high
            curve_gradient(kind, high, e, theta, extra[m], gradient)
            shape(kind, high, theta, extra[m], slope)
            rise = e[1] * slope[3] + (2.0 * e[2] * high if kind == QUADRATIC else 0.0)
            for a in range(4):
                gradient[a] -= zero[a]
            variance[r, m] = _quadratic_form(gradient, spread[r, m]) / (rise * rise)


@kernel
def optimal_contrasts(covariance: F64, shapes: F64, contrasts: F64, correlation: F64, good: NDArray[np.bool_]) -> None:
    """Contrasts S^-1 (mu - mean) of unit length (R, m, K), where `mean` is weighted by S^-1, and their correlation."""
    R, K = covariance.shape[0], covariance.shape[1]
    M = shapes.shape[0]
    lower, precision, spread = np.empty((K, K)), np.empty((K, K)), np.empty(M)
    for r in range(R):
        good[r] = factored(covariance[r], lower)
        if not good[r]:
            continue
        inverse(lower, precision)
        for m in range(M):
            top, bottom = 0.0, 0.0
            for a in range(K):
                for b in range(K):
                    top += precision[a, b] * shapes[m, b]
                    bottom += precision[a, b]
            length = 0.0
            for a in range(K):
                value = 0.0
                for b in range(K):
                    value += precision[a, b] * (shapes[m, b] - top / bottom)
                contrasts[r, m, a] = value
                length += value * value
            for a in range(K):
                contrasts[r, m, a] /= np.sqrt(length)
        contrast_correlation(contrasts[r], covariance[r], correlation[r], spread)


@kernel
def contrast_correlation(contrasts: F64, covariance: F64, correlation: F64, spread: F64) -> None:
    """Covariance of the contrasts (m, m) turned into their correlation; spread (m,) their standard deviations."""
    M, K = contrasts.shape
    for a in range(M):
        for b in range(M):
            value = 0.0
            for i in range(K):
                for j in range(K):
                    value += contrasts[a, i] * contrasts[b, j] * covariance[i, j]
            correlation[a, b] = value
    for a in range(M):
        spread[a] = np.sqrt(correlation[a, a])
    for a in range(M):
        for b in range(M):
            correlation[a, b] = 1.0 if a == b else correlation[a, b] / (spread[a] * spread[b])
