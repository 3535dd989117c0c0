"""Restricted likelihood of a mixed model for repeated measures, of one replicate after another.

Subject i with visits o_i observed: y_i ~ N(X_i beta, Sigma[o_i, o_i]). The subject's covariates t_i act at visit v by
coefficients of that visit (crossed columns, first) or of all visits (common columns). Subjects enter by the moments of
(t, y) of their pattern of missing visits: the cost of an iteration does not depend on their number.

With P = V^-1 - V^-1 X Phi X' V^-1, Phi = (X' V^-1 X)^-1 and E_k = dSigma/dtheta_k: score -(tr P E_k - y'P E_k P y)/2,
average information y'P E_k P E_l P y/2 (Gilmour, Thompson & Cullis, Biometrics 1995;51:1440), expected information
tr(P E_k P E_l)/2, observed = 2 average - expected. Sigma is linear in theta, so that the second derivatives of Kenward
& Roger (Biometrics 1997;53:983) vanish. Letters as in that paper; q = V(V+1)/2 elements of Sigma, pairs (a, b), a >= b.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkpd.kernels.elementary import log
from pkpd.kernels.linking import internal

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I8 = NDArray[np.int8]
BOOL = NDArray[np.bool_]
Groups = tuple[I64, I64, F64, F64, F64]

_LOG_2PI = 1.8378770664093453
_SINGULAR = 1e-12  # of a variance, given the earlier visits


@internal
def column_of(t: int, v: int, crossed: int, visits: int) -> int:
    """Index in beta of column t of the subject's covariates at visit v."""
    return t * visits + v if t < crossed else crossed * visits + t - crossed


@internal
def used_rows(t: F64, y: F64, arm: I64) -> I64:
    """Subjects with an arm, finite covariates and a value at some visit."""
    rows = np.empty(arm.size, np.int64)
    n = 0
    for i in range(arm.size):
        whole = arm[i] >= 0
        for c in range(t.shape[1]):
            whole = whole and np.isfinite(t[i, c])
        some = False
        for v in range(y.shape[1]):
            some = some or np.isfinite(y[i, v])
        if whole and some:
            rows[n] = i
            n += 1
    return rows[:n]


@internal
def standardised(t: F64, y: F64, rows: I64, t_out: F64, y_out: F64, scales: F64) -> None:
    """Covariates centred and scaled to mean square 1 (by `scales`, out), y less its mean, NaN as it is.

    The intercept takes up what this moves: it must be crossed if anything is. Columns of 0 and 1 (arms, strata, the
    intercept) stay as they are, so that contrasts between arms do not change.
    """
    n, m = rows.size, t.shape[1]
    for c in range(m):
        mean, square, plain = 0.0, 0.0, True
        for i in rows:
            mean += t[i, c] / n
            plain = plain and (t[i, c] == 0.0 or t[i, c] == 1.0)
        for i in rows:
            square += (t[i, c] - mean) ** 2 / n
        shift, scale = (0.0, 1.0) if plain or square == 0.0 else (mean, np.sqrt(square))
        scales[c] = scale
        for k in range(n):
            t_out[k, c] = (t[rows[k], c] - shift) / scale
    total, count = 0.0, 0
    for i in rows:
        for v in range(y.shape[1]):
            if np.isfinite(y[i, v]):
                total += y[i, v]
                count += 1
    for k in range(n):
        for v in range(y.shape[1]):
            y_out[k, v] = y[rows[k], v] - total / count


@internal
def grouped(t: F64, y: F64) -> Groups:
    """Subjects by pattern: masks (G,), sizes (G,), moments tt (G, m, m), ty (G, m, V), yy (G, V, V), missing y as 0."""
    n, m, visits = t.shape[0], t.shape[1], y.shape[1]
    masks, own = np.empty(n, np.int64), np.empty(n, np.int64)
    found = 0
    for i in range(n):
        mask = 0
        for v in range(visits):
            mask |= (1 << v) if np.isfinite(y[i, v]) else 0
        g = 0
        while g < found and masks[g] != mask:
            g += 1
        masks[g] = mask
        found = max(found, g + 1)
        own[i] = g
    sizes = np.zeros(found, np.int64)
    tt, ty, yy = np.zeros((found, m, m)), np.zeros((found, m, visits)), np.zeros((found, visits, visits))
    value = np.empty(visits)
    for i in range(n):
        g = own[i]
        sizes[g] += 1
        for v in range(visits):
            value[v] = y[i, v] if (masks[g] >> v) & 1 else 0.0
        for c in range(m):
            for d in range(m):
                tt[g, c, d] += t[i, c] * t[i, d]
            for v in range(visits):
                ty[g, c, v] += t[i, c] * value[v]
        for u in range(visits):
            for v in range(visits):
                yy[g, u, v] += value[u] * value[v]
    return masks[:found].copy(), sizes, tt, ty, yy


@internal
def upper_root(c: F64, tolerance: float, pinned: BOOL) -> bool:
    """Cholesky factor U of C = U'U in the upper triangle, in place; False where a column has no size of its own.

    With a negative tolerance such a column is pinned instead: its row is 0 with 1 on the diagonal, what stands above it
    says how it depends on the earlier ones. Columns that are pinned already are passed over.
    """
    p, drop = c.shape[0], tolerance < 0.0
    before = np.empty(p)
    for j in range(p):
        before[j] = c[j, j]
    for j in range(p):
        if pinned[j] or not c[j, j] > abs(tolerance) * before[j]:
            if not (drop or pinned[j]):
                return False
            pinned[j] = True
            c[j, j] = 1.0
            for i in range(j):
                c[i, j] = c[i, j] if drop else 0.0
            for i in range(j + 1, p):
                c[j, i] = 0.0
            continue
        root = np.sqrt(c[j, j])
        for i in range(j, p):
            c[j, i] = c[j, i] / root
        for i in range(j + 1, p):
            factor = c[j, i]
            for k in range(i, p):
                c[i, k] -= factor * c[j, k]
    return True


@internal
def inverse_root(upper: F64, pinned: BOOL, out: F64) -> None:
    """Z = U'^-1, lower triangular, rows and columns of pinned columns 0."""
    p = upper.shape[0]
    out[:] = 0.0
    for i in range(p):
        if pinned[i]:
            continue
        out[i, i] = 1.0
        for j in range(i):
            factor = upper[j, i]
            for k in range(j + 1):
                out[i, k] -= factor * out[j, k]
        for k in range(i + 1):
            out[i, k] /= upper[i, i]


@internal
def _pattern_inverse(sigma: F64, mask: int, out: F64) -> float:
    """Inverse of the observed part of Sigma, 0 elsewhere; returns its log determinant, NaN where not positive."""
    visits = sigma.shape[0]
    seen = np.empty(visits, np.int64)
    n = 0
    for v in range(visits):
        if (mask >> v) & 1:
            seen[n] = v
            n += 1
    part, z, free = np.empty((n, n)), np.empty((n, n)), np.zeros(n, np.bool_)
    for a in range(n):
        for b in range(n):
            part[a, b] = sigma[seen[a], seen[b]]
    out[:] = 0.0
    if not upper_root(part, _SINGULAR, free):
        return np.nan
    inverse_root(part, free, z)
    total = 0.0
    for r in range(n):
        total += 2.0 * log(part[r, r])
        for a in range(r + 1):
            for b in range(r + 1):
                out[seen[a], seen[b]] += z[r, a] * z[r, b]
    return total


@internal
def add_normal(m_inv: F64, tt: F64, ty: F64, crossed: int, c: F64, right: F64) -> None:
    """Add X'V^-1X (upper triangle) and X'V^-1y of one pattern."""
    visits, m = m_inv.shape[0], tt.shape[0]
    row = np.zeros(visits)
    total = 0.0
    for u in range(visits):
        for v in range(visits):
            row[u] += m_inv[u, v]
        total += row[u]
    base = crossed * visits
    for s in range(m):
        for t in range(s, m):
            moment = tt[s, t]
            if t < crossed:
                for u in range(visits):
                    for v in range(visits):
                        c[s * visits + u, t * visits + v] += m_inv[u, v] * moment
            elif s < crossed:
                for u in range(visits):
                    c[s * visits + u, base + t - crossed] += row[u] * moment
            else:
                c[base + s - crossed, base + t - crossed] += total * moment
        for v in range(visits):
            if s < crossed:
                for u in range(visits):
                    right[s * visits + u] += m_inv[u, v] * ty[s, v]
            else:
                right[base + s - crossed] += row[v] * ty[s, v]


@internal
def evaluate(sigma: F64, groups: Groups, crossed: int, pinned: BOOL, inverses: F64, z: F64, beta: F64) -> float:
    """Restricted log-likelihood at Sigma, -inf where it is not positive definite.

    Out: the patterns' inverses (G, V, V), the root z of Phi = z'z, beta.
    """
    masks, sizes, tt, ty, yy = groups
    p = beta.size
    c, right = np.zeros((p, p)), np.zeros(p)
    total, square, count = 0.0, 0.0, 0
    for g in range(masks.size):
        size = _pattern_inverse(sigma, masks[g], inverses[g])
        if size != size:
            return -np.inf
        total += sizes[g] * size
        add_normal(inverses[g], tt[g], ty[g], crossed, c, right)
        for u in range(sigma.shape[0]):
            count += sizes[g] * ((masks[g] >> u) & 1)
            for v in range(sigma.shape[0]):
                square += inverses[g, u, v] * yy[g, u, v]
    if not upper_root(c, 1e-14, pinned):
        return -np.inf
    inverse_root(c, pinned, z)
    beta[:] = 0.0
    for i in range(p):
        if not pinned[i]:
            count -= 1
            total += 2.0 * log(c[i, i])
            half = 0.0
            for j in range(i + 1):
                half += z[i, j] * right[j]
            square -= half * half
            for j in range(i + 1):
                beta[j] += half * z[i, j]
    return -0.5 * (total + square + count * _LOG_2PI)


@internal
def _spread(value: F64, crossed: int, visits: int, out: F64) -> None:
    """Coefficients by visit and covariate (V, m) of a vector over the columns of X."""
    for v in range(visits):
        for t in range(out.shape[1]):
            out[v, t] = value[column_of(t, v, crossed, visits)]


@internal
def _product(a: F64, b: F64, out: F64) -> None:
    out[:] = 0.0
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            factor = a[i, k]
            for j in range(b.shape[1]):
                out[i, j] += factor * b[k, j]


@internal
def _sandwich(a: F64, b: F64, work: F64, out: F64) -> None:
    """a b a for symmetric a."""
    _product(a, b, work)
    _product(work, a, out)


@internal
def residuals(groups: Groups, crossed: int, inverses: F64, beta: F64, inner: F64, outer: F64) -> None:
    """e = V^-1 (y - X beta) by pattern: inner (G, V, V) = sum of e e', outer (G, V, m) = sum of e t'.

    With moments of y = 0 and a column Phi l of a contrast as beta: its directions u = V^-1 X Phi l, up
    to a sign that nothing depends on.
    """
    masks, _, tt, ty, yy = groups
    visits, m = yy.shape[1], tt.shape[1]
    b, bt, left, square, work = (np.empty((visits, m)), np.empty((m, visits)), np.empty((visits, m)),
                                 np.empty((visits, visits)), np.empty((visits, visits)))  # fmt: skip
    _spread(beta, crossed, visits, b)
    for v in range(visits):
        for t in range(m):
            bt[t, v] = b[v, t]
    for g in range(masks.size):
        _product(b, tt[g], left)
        for v in range(visits):
            for t in range(m):
                left[v, t] = ty[g, t, v] - left[v, t]
        _product(left, bt, square)
        _product(b, ty[g], work)
        for u in range(visits):
            for v in range(visits):
                square[u, v] = yy[g, u, v] - work[u, v] - square[u, v]
        _sandwich(inverses[g], square, work, inner[g])
        _product(inverses[g], left, outer[g])


@internal
def explained(groups: Groups, crossed: int, inverses: F64, z: F64, out: F64) -> None:
    """V^-1 (sum over subjects of X Phi X') V^-1 by pattern, (G, V, V)."""
    masks, _, tt, _, yy = groups
    visits, m, p = yy.shape[1], tt.shape[1], z.shape[0]
    phi = np.zeros((p, p))
    for r in range(p):
        for i in range(r + 1):
            factor = z[r, i]
            for j in range(r + 1):
                phi[i, j] += factor * z[r, j]
    by_visit = np.empty((visits, visits, m, m))
    for u in range(visits):
        for v in range(visits):
            for s in range(m):
                for t in range(m):
                    by_visit[u, v, s, t] = phi[column_of(s, u, crossed, visits), column_of(t, v, crossed, visits)]
    middle, work = np.empty((visits, visits)), np.empty((visits, visits))
    for g in range(masks.size):
        for u in range(visits):
            for v in range(u + 1):
                total = 0.0
                for s in range(m):
                    for t in range(m):
                        total += by_visit[u, v, s, t] * tt[g, s, t]
                middle[u, v] = total
                middle[v, u] = total
        _sandwich(inverses[g], middle, work, out[g])


@internal
def pairs(visits: int) -> I64:
    """The elements (a, b), a >= b, of Sigma: (q, 2)."""
    out = np.empty((visits * (visits + 1) // 2, 2), np.int64)
    k = 0
    for a in range(visits):
        for b in range(a + 1):
            out[k, 0], out[k, 1] = a, b
            k += 1
    return out


@internal
def element_of(a: int, b: int) -> int:
    return a * (a + 1) // 2 + b if a >= b else b * (b + 1) // 2 + a


@internal
def contracted(inverses: F64, inner: F64, out: F64) -> None:
    """sum over patterns of tr(E_k M E_l S) for symmetric M (inverses) and S (inner): out (q, q)."""
    patterns, visits, _ = inverses.shape
    element = pairs(visits)
    q = element.shape[0]
    joint, right = np.zeros((q, q)), np.empty(q)
    for g in range(patterns):
        for j in range(q):
            right[j] = inner[g, element[j, 0], element[j, 1]]
        for k in range(q):
            factor = inverses[g, element[k, 0], element[k, 1]]
            for j in range(q):
                joint[k, j] += factor * right[j]
    for k in range(q):
        a, b = element[k, 0], element[k, 1]
        for j in range(q):
            c, d = element[j, 0], element[j, 1]
            bc, bd, ac, ad = element_of(b, c), element_of(b, d), element_of(a, c), element_of(a, d)
            value = joint[bc, ad] + joint[bd, ac] + joint[ac, bd] + joint[ad, bc]
            out[k, j] = value * (0.5 if a == b else 1.0) * (0.5 if c == d else 1.0)


@internal
def curvature(crossed: int, inverses: F64, inner: F64, outer: F64, z: F64, out: F64) -> None:
    """e' E_k P E_l e summed over subjects, for e with moments inner and outer: out (q, q).

    Of the residuals it is y'P E_k P E_l P y; of a contrast's directions l'Phi (Q_kl - P_k Phi P_l) Phi l.
    """
    patterns, visits, m = outer.shape
    p, element = z.shape[0], pairs(visits)
    q = element.shape[0]
    contracted(inverses, inner, out)
    moved = np.zeros((visits, visits, visits, m))
    for g in range(patterns):
        for v in range(visits):
            for a in range(visits):
                factor = inverses[g, v, a]
                if factor != 0.0:
                    for b in range(visits):
                        for t in range(m):
                            moved[v, a, b, t] += factor * outer[g, b, t]
    h, turned = np.zeros(p), np.empty((p, q))
    for k in range(q):
        a, b = element[k, 0], element[k, 1]
        share = 0.5 if a == b else 1.0
        h[:] = 0.0
        for t in range(m):
            for v in range(visits):
                h[column_of(t, v, crossed, visits)] += share * (moved[v, a, b, t] + moved[v, b, a, t])
        for i in range(p):
            total = 0.0
            for j in range(i + 1):
                total += z[i, j] * h[j]
            turned[i, k] = total
    for i in range(p):
        for k in range(q):
            factor = turned[i, k]
            for j in range(q):
                out[k, j] -= factor * turned[i, j]


@internal
def traces(groups: Groups, crossed: int, inverses: F64, middle: F64, z: F64, out: F64) -> None:
    """tr(P E_k P E_l), out (q, q); middle: what :func:`explained` gives."""
    masks, sizes, tt, _, yy = groups
    visits, m, p = yy.shape[1], tt.shape[1], z.shape[0]
    weighted = np.empty_like(inverses)
    for g in range(masks.size):
        for u in range(visits):
            for v in range(visits):
                weighted[g, u, v] = sizes[g] * inverses[g, u, v] - 2.0 * middle[g, u, v]
    contracted(inverses, weighted, out)
    element = pairs(visits)
    q, moments = element.shape[0], m * (m + 1) // 2
    table = np.zeros((q, q, moments))
    flat = np.empty(moments)
    for g in range(masks.size):
        for s in range(m):
            for t in range(s + 1):
                flat[element_of(s, t)] = tt[g, s, t]
        for x in range(q):
            for y in range(x + 1):
                factor = inverses[g, element[x, 0], element[x, 1]] * inverses[g, element[y, 0], element[y, 1]]
                if factor != 0.0:
                    for s in range(moments):
                        table[x, y, s] += factor * flat[s]
    turned = np.empty((p * p, q))
    for k in range(q):
        _turned(table, element[k, 0], element[k, 1], crossed, m, visits, z, turned[:, k])
    for r in range(p * p):
        for k in range(q):
            factor = turned[r, k]
            for j in range(q):
                out[k, j] += factor * turned[r, j]


@internal
def _turned(table: F64, a: int, b: int, crossed: int, m: int, visits: int, z: F64, out: F64) -> None:
    """z P_k z' as a vector, P_k = X'V^-1 E_k V^-1 X of element k = (a, b)."""
    p = z.shape[0]
    share = 0.5 if a == b else 1.0
    whole, half, turned = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    for s in range(m):
        for u in range(visits):
            row = column_of(s, u, crossed, visits)
            ua, ub = element_of(u, a), element_of(u, b)
            for t in range(m):
                moment = element_of(s, t)
                for v in range(visits):
                    va, vb = element_of(v, a), element_of(v, b)
                    first = table[max(ua, vb), min(ua, vb), moment]
                    second = table[max(ub, va), min(ub, va), moment]
                    whole[row, column_of(t, v, crossed, visits)] += share * (first + second)
    for i in range(p):
        for j in range(i + 1):
            factor = z[i, j]
            for k in range(p):
                half[i, k] += factor * whole[j, k]
    for i in range(p):
        for j in range(p):
            total = 0.0
            for k in range(j + 1):
                total += half[i, k] * z[j, k]
            turned[i, j] = total
    for i in range(p):
        for j in range(p):
            out[i * p + j] = turned[i, j]
