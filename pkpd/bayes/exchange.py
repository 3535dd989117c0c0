"""Rates that can change places: other values of the parameters under which a model predicts exactly the same.

Absorption and elimination of an oral drug (flip-flop kinetics: KA, CL/V, V and CL/V, KA, V CL/(KA V)), two absorption
stages, absorption and the fast rate of two compartments. A sampler's chains may settle on either side and stay there.
Sought numerically, on the model's structure alone: what is predicted after a dose is a vector F of the parameters that
are estimated; from points where a rate has taken the place of another F is brought back to what it was (Levenberg &
Marquardt); where that succeeds away from the start, the two points fit any data alike. A rate that is above another
by construction cannot get there. Only linear compartments, with what follows them (`modal`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.modal import Modal, modal_of
from pkpd.engine.dynamics import dynamics_of
from pkpd.model.equations import Binary, Expr, Name, Unary, evaluate, expression, names, show

if TYPE_CHECKING:
    from pkpd.bayes.plan import Plan
    from pkpd.model.spec import Model

__all__ = ["Exchange", "exchanges"]

Floats = NDArray[np.float64]
DOSES, TIMES = (1.0, 100.0), 10
SAME, AWAY, STEP, ROUNDS, LONGEST = 1e-6, 0.02, 1e-6, 25, 2.0
HOPEFUL, LOST = 8, 0.05
"""Rounds after which a search is given up where predictions are still this far (relative) from what they were."""
UNIDENTIFIED, ALIKE = 1e-6, 1e-3
LONG = 24
STRAY = 0.02
"""Share of a chain's draws that may lie on the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """first and second [1/h] can change places; here, there: two settings of the estimated parameters (natural units)
    that predict the same; parameter: the one that is the greater rate at typical values, None where no parameter is;
    floor: the smaller rate as text.
    """

    first: Expr
    second: Expr
    here: Mapping[str, float]
    there: Mapping[str, float]
    parameter: str | None
    floor: str

    @property
    def names(self) -> tuple[str, str]:
        """Both rates as text."""
        return show(self.first), show(self.second)

    def side(self, sign: int) -> str:
        """Which rate is above which."""
        a, b = (name if len(name) <= LONG else "the fast rate of the compartments" for name in self.names)
        return f"{a} above {b}" if sign > 0 else f"{b} above {a}"

    @property
    def remedy(self) -> str:
        """What to write, in the words of the model language."""
        if self.parameter is not None:
            return f"order them: write above: {self.floor} under parameters.{self.parameter}"
        return f"order them: make the greater rate a parameter of its own and write above: {self.floor} under it"

    @property
    def sentence(self) -> str:
        """What can change places, with an example, and the remedy."""
        a, b = self.names
        return (
            f"{a} and {b} can change places: {_listed(self.here)} predict exactly what {_listed(self.there)} predict, "
            f"so that a fit may settle on either; {self.remedy}."
        )

    def told(self, above: Floats) -> str | None:
        """What shares of draws (chains,) with `first` above `second` say; None where all chains lie on one side."""
        sides = {1: np.flatnonzero(above > 1.0 - STRAY), -1: np.flatnonzero(above < STRAY)}
        if any(len(where) == len(above) for where in sides.values()):
            return None
        both = [k for k in range(len(above)) if k not in sides[1] and k not in sides[-1]]
        parts = [f"{self.side(sign)} in {_chains(where)}" for sign, where in sides.items() if len(where)]
        parts += [f"both ways in {_chains(both)}"] if both else []
        return (
            f"rates changed places ({'; '.join(parts)}): the shares of the modes are not those of the chains. Fit with "
            f"--method smc to learn them, or {self.remedy}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rates": list(self.names), "here": dict(self.here), "there": dict(self.there),
            "parameter": self.parameter, "above": self.floor, "sentence": self.sentence,
        }  # fmt: skip

    def contrast(self, values: Mapping[str, Floats]) -> Floats:
        """log(first/second) at natural values of the parameters: above 0 on one side, below 0 on the other."""
        first, second = np.asarray(evaluate(self.first, values)), np.asarray(evaluate(self.second, values))
        return np.asarray(np.log(first) - np.log(second))


def _chains(places: Sequence[int] | NDArray[np.int64]) -> str:
    return f"chain{'s' if len(places) > 1 else ''} {', '.join(str(int(k) + 1) for k in places)}"


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def exchanges(model: Model, how: Plan | None = None, into: Sequence[str] = ()) -> tuple[Exchange, ...]:
    """Pairs of rates that can change places in a model; () where there are none, or no linear compartments.

    how: what is estimated and measured (all that has a prior or an effect, and every output, where None); into: the
    states that are dosed (those of the text, or all, where empty).
    """
    form = _form(model, how)
    if form is None or not form.states:
        return ()
    found = _Search.of(model, form, how, into)
    return () if found is None else found.exchanges()


def _form(model: Model, how: Plan | None) -> Modal | None:
    wanted = model.outputs.values() if how is None else [model.outputs[o] for o in how.outputs]
    measured = tuple(dict.fromkeys(str(out.is_) for out in wanted))
    if not measured or model.inputs:
        return None
    return modal_of(dynamics_of(model), measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """free: estimated parameters, their coordinates c: log for positive ones, of the part above its floor."""

    model: Model
    form: Modal
    free: tuple[str, ...]
    into: tuple[int, ...]
    times: Floats
    base: Mapping[str, float]

    @classmethod
    def of(cls, model: Model, form: Modal, how: Plan | None, into: Sequence[str]) -> _Search | None:
        parts = model.parameters
        moving = {n for n, p in parts.items() if p.prior is not None or p.se > 0.0 or p.random or p.above is not None}
        if how is not None:
            moving = {*how.typical, *how.spread}
        floors = [above for n in form.parameters if (above := parts[n].above) is not None]
        read = set(form.parameters).union(*(names(floor) for floor in floors))
        free = tuple(n for n in parts if n in moving & read)
        states = [s for s in (into or model.doses or form.states) if s in form.states]
        base = {n: float(p.value) for n, p in parts.items()}
        if not free or not states:
            return None
        made = cls(model=model, form=form, free=free, into=tuple(map(form.states.index, states)), times=np.empty(0),
                   base=base)  # fmt: skip
        rates = made.rates(base)
        if not np.isfinite(rates).all() or not (rates > 0.0).any():
            return None
        slow, fast = rates[rates > 0.0].min(), rates.max()
        return cls(model=model, form=form, free=free, into=made.into, base=base,
                   times=np.geomspace(0.05 / fast, 4.0 / slow, TIMES))  # fmt: skip

    def exchanges(self) -> tuple[Exchange, ...]:
        """All pairs, each once."""
        here = self.coordinates()
        want = self.predicted(here)
        if not np.isfinite(want).all() or self.ridge(here, want):
            return ()
        found: dict[frozenset[str], Exchange] = {}
        rates = dict(self.single())
        whole = self.rates(self.base)
        for place, one in rates.items():
            own = float(evaluate(one, self.base))
            for other in whole[np.abs(whole / own - 1.0) > AWAY]:
                for start in self.starts(here, (place, one), (own, float(other))):
                    there = self.solved(start, want)
                    made = None if there is None else self.told(place, one, there)
                    if made is not None:
                        found.setdefault(frozenset(made.names), made)
                        break
        return tuple(found.values())

    def starts(self, here: Floats, which: tuple[int, Expr], values: tuple[float, float]) -> list[Floats]:
        """Where to look: a rate in the place of another one, which then stands in its place, or not."""
        place, one = which
        moved, other = self.put(here, one, values), self.written(values[1], place)
        return [moved] if other is None else [self.put(moved, other, values[::-1], last=True), moved]

    def single(self) -> list[tuple[int, Expr]]:
        """(place, rate of leaving) of the groups of one state; none that two of them share: both would have to move."""
        alone = [lo for lo, hi in pairwise(self.form.starts) if hi - lo == 1]
        rate = {j: _negative(self.form.rates[j, j]) for j in alone if (j, j) in self.form.rates}
        value = {j: float(evaluate(e, self.base)) for j, e in rate.items()}
        alike = {j for j in value for k in value if j != k and abs(value[j] / value[k] - 1.0) < ALIKE}
        return [(j, e) for j, e in rate.items() if names(e) & set(self.free) and j not in alike]

    def coordinates(self) -> Floats:
        return np.array([self.inner(n, self.base) for n in self.free])

    def inner(self, name: str, values: Mapping[str, float]) -> float:
        p, value = self.model.parameters[name], values[name]
        if p.above is not None:
            return float(np.log(value - float(evaluate(p.above, values))))
        return float(np.log(value)) if p.link == "log" else float(value)

    def values(self, c: Floats) -> dict[str, float]:
        """Natural values of all parameters at coordinates c."""
        found, parts = dict(self.base), self.model.parameters
        for name, value in zip(self.free, c, strict=True):
            p = parts[name]
            found[name] = float(np.exp(value)) if p.link == "log" or p.above is not None else float(value)
        for name in self.free:
            if (above := parts[name].above) is not None:
                found[name] += float(evaluate(above, found))
        return found

    def matrix(self, values: Mapping[str, float]) -> Floats:
        A = np.zeros((len(self.form.states),) * 2)
        for (i, j), e in self.form.rates.items():
            A[i, j] = float(evaluate(e, values))
        return A

    def rates(self, values: Mapping[str, float]) -> Floats:
        """Minus the eigenvalues."""
        return np.asarray(-np.linalg.eigvals(self.matrix(values)).real)

    def predicted(self, c: Floats) -> Floats:
        """F: outputs, and what moves states behind, at every time after two doses into every state that is dosed."""
        values = self.values(c)
        with np.errstate(all="ignore"):
            course = self.course(self.matrix(values))
            read = [*self.form.outputs, *(e for b in self.form.behind.values() for e in b)]
            made = []
            for d in self.into:
                share = float(evaluate(self.form.share[self.form.states[d]], values))
                for dose in DOSES:
                    given: dict[str, Any] = {**values, **dict.fromkeys(self.form.behind, 1.0)}
                    given |= {s: dose * share * course[:, k, d] for k, s in enumerate(self.form.states)}
                    made += [np.broadcast_to(np.asarray(evaluate(e, given), np.float64), TIMES) for e in read]
        return np.concatenate(made)

    def course(self, A: Floats) -> Floats:
        """exp(A t) at every time, (times, m, m), by eigenvalues: of two that meet it is no number, and no answer."""
        if not np.isfinite(A).all():
            return np.full((TIMES, *A.shape), np.nan)
        values, vectors = np.linalg.eig(A)
        try:
            inverse = np.linalg.inv(vectors)
        except np.linalg.LinAlgError:
            return np.full((TIMES, *A.shape), np.nan)
        return np.asarray(((vectors * np.exp(self.times[:, None, None] * values)) @ inverse).real)

    def residual(self, c: Floats, want: Floats) -> Floats:
        scale = np.abs(want) + 1e-3 * np.abs(want).reshape(-1, TIMES).max(axis=1).repeat(TIMES) + 1e-300
        return (self.predicted(c) - want) / scale

    def slopes(self, c: Floats, want: Floats) -> Floats:
        here = self.residual(c, want)
        return np.stack([(self.residual(c + d, want) - here) / STEP for d in STEP * np.eye(len(c))], axis=1)

    def ridge(self, c: Floats, want: Floats) -> bool:
        """Whether the parameters are not even locally identified: then every fit has a ridge, not another place."""
        s = np.linalg.svd(self.slopes(c, want), compute_uv=False)
        return bool(not np.isfinite(s).all() or s[-1] < UNIDENTIFIED * s[0])

    def put(self, c: Floats, rate: Expr, values: tuple[float, float], *, last: bool = False) -> Floats:
        """c with a rate brought from one value to another by the first parameter that moves it, or by the last."""
        order = list(enumerate(self.free))
        for k, name in reversed(order) if last else order:
            if name in names(rate):
                near = c.copy()
                near[k] += STEP
                slope = np.log(float(evaluate(rate, self.values(near))) / float(evaluate(rate, self.values(c)))) / STEP
                if abs(slope) > 1e-3:
                    moved = c.copy()
                    moved[k] += np.log(values[1] / values[0]) / slope
                    return moved
        return c

    def solved(self, c: Floats, want: Floats) -> Floats | None:
        """Where F is what it was, near c; None where it is nowhere there."""
        damping = 1e-3
        r = self.residual(c, want)
        for n in range(ROUNDS):
            far = float(np.abs(r).max())
            if not np.isfinite(far) or (n >= HOPEFUL and far > LOST):
                return None
            if far < SAME * 1e-3:
                break
            J = self.slopes(c, want)
            normal, pull = np.einsum("ni,nj->ij", J, J), np.einsum("ni,n->i", J, r)  # no threads for so little
            for _ in range(8):
                step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -pull)
                new = c + np.clip(step, -LONGEST, LONGEST)
                there = self.residual(new, want)
                if np.isfinite(there).all() and there @ there < r @ r:
                    c, r, damping = new, there, 0.1 * damping
                    break
                damping *= 10.0
            else:
                break
        return c if np.abs(r).max() < SAME else None

    def told(self, place: int, one: Expr, there: Floats) -> Exchange | None:
        """The exchange that leads there, where the rate now stands for another one."""
        new = self.values(there)
        reached, whole = float(evaluate(one, new)), self.rates(self.base)
        own = float(evaluate(one, self.base))
        if abs(reached / own - 1.0) < AWAY or np.abs(whole / reached - 1.0).min() > 1e-3:
            return None
        other = self.written(reached, place)
        if other is None:
            return None
        great, small = (one, other) if own > reached else (other, one)
        return Exchange(
            first=one, second=other, here={n: self.base[n] for n in self.free}, there={n: new[n] for n in self.free},
            parameter=great.id if isinstance(great, Name) and self.model.parameters[great.id].above is None
            else None,
            floor=show(small),
        )  # fmt: skip

    def written(self, rate: float, place: int) -> Expr | None:
        """The expression of the eigenvalue with this value at the text's typical values."""
        for lo, hi in pairwise(self.form.starts):
            part = {(i - lo, j - lo): e for (i, j), e in self.form.rates.items() if lo <= i < hi and lo <= j < hi}
            candidates = [_negative(part[0, 0])] if hi - lo == 1 and (0, 0) in part and lo != place else []
            if hi - lo == 2 and len(part) == 4:
                candidates = [_root(part, sign) for sign in "+-"]
            for e in candidates:
                if abs(float(evaluate(e, self.base)) / rate - 1.0) < 1e-3:
                    return e
        return None


def _negative(e: Expr) -> Expr:
    match e:
        case Unary("-", operand):
            return operand
        case Binary("-", Unary("-", left), right):
            return Binary("+", left, right)
        case Binary("-", Binary("-", _, _) as left, right):
            return Binary("+", _negative(left), right)
    return Unary("-", e)


def _root(part: Mapping[tuple[int, int], Expr], sign: str) -> Expr:
    """Minus an eigenvalue of a group of two states; `+`: the greater rate."""
    a, d = (f"({show(_negative(part[k, k]))})" for k in (0, 1))
    b, c = (f"({show(part[k])})" for k in ((0, 1), (1, 0)))
    return expression(f"({a} + {d} {sign} sqrt(({a} - {d})^2 + 4*{b}*{c}))/2")
