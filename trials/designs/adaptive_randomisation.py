"""Bayesian response-adaptive randomisation of several arms with a binary outcome.

After each look the posterior probability that an arm is the best sets the next allocation: raised to a softening
power, normalised, and kept inside limits. An arm whose probability falls below `inferiority` is dropped; an arm whose
probability exceeds `superiority` wins and the trial stops; so does the last arm left. Rates have Beta(1, 1) priors by
default and the probabilities are exact (quadrature, no posterior draws).

Source: Thall & Wathen, Eur J Cancer 2007;43:859 (softened allocation); Granholm et al., J Open Source Softw
2022;7:4284 (limits and dropping of arms as in the package adaptr, after its documentation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from pkpd.kernels.elementary import exp_array

__all__ = ["Characteristics", "Design", "Instruction", "Trials", "allocation", "best", "decide", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
NONE = -1
POINTS = 401  # of the quadrature over the rates; error about 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """`arms` of them, looks after `looks` subjects in all (the last is the largest size); thresholds `superiority`,
    `inferiority`; every active arm's share at least `least` and at most `most`; `fixed` share of the first arm (a
    control), if any; `softening` power; `higher_is_better` outcome; prior Beta(`prior`)."""

    arms: int
    looks: tuple[int, ...]
    superiority: float = 0.99
    inferiority: float = 0.01
    least: float = 0.0
    most: float = 1.0
    fixed: float | None = None
    softening: float = 1.0
    higher_is_better: bool = True
    prior: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.arms < 2:
            raise InputError("needs two arms", field="arms", value=self.arms)
        if not self.looks or min(np.diff((0, *self.looks))) <= 0:
            raise InputError("must increase from above 0", field="looks", value=list(self.looks))
        if not 0 <= self.inferiority < self.superiority <= 1:
            value = [self.inferiority, self.superiority]
            raise InputError("needs 0 <= inferiority < superiority <= 1", field="superiority", value=value)
        if self.inferiority * self.arms > 1:
            remedy = f"at most 1/{self.arms}, one over the number of arms"
            raise InputError("may drop every arm at once", field="inferiority", value=self.inferiority, remedy=remedy)
        room = self.arms - (self.fixed is not None)
        share = 1 - (self.fixed or 0.0)
        if not (0 <= self.least * room <= share + 1e-12 and self.most * room >= share - 1e-12):
            remedy = "arms times the least share must fit into 1"
            raise InputError("leaves no allocation", field="least", value=[self.least, self.most], remedy=remedy)
        if not 0 <= self.softening <= 1 or min(self.prior) <= 0:
            raise InputError("must lie in 0 ... 1", field="softening", value=self.softening)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`active` (R, A) arms that go on, `shares` (R, A) of the next subjects, `winner` (R,) or -1 where the trial goes
    on."""

    active: Flags
    shares: Floats
    winner: Ints


def best(n: ArrayLike, events: ArrayLike, active: ArrayLike, design: Design) -> Floats:
    """P(arm has the best rate | data) (R, A) among the active arms, 0 for the others.

    >>> design = Design(arms=2, looks=(100,))
    >>> best([[10, 10]], [[5, 5]], [[True, True]], design).round(6).tolist()
    [[0.5, 0.5]]
    """
    size, x, on = np.atleast_2d(np.asarray(n)), np.atleast_2d(np.asarray(events)), np.atleast_2d(np.asarray(active))
    a, b = x + design.prior[0], size - x + design.prior[1]
    grid, step = _grid(a, b, on)
    density, cdf = _distribution(a, b, grid, step)
    beats = cdf if design.higher_is_better else 1 - cdf
    found = np.zeros(a.shape)
    for arm in range(a.shape[1]):
        chance = density[:, arm].copy()
        for other in range(a.shape[1]):
            if other != arm:
                chance *= np.where(on[:, other, None], beats[:, other], 1.0)
        found[:, arm] = np.where(on[:, arm], chance.sum(axis=1) * step[:, 0], 0.0)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _grid(a: Floats, b: Floats, on: Flags) -> tuple[Floats, Floats]:
    """Logits (R, G) that hold all but 1e-12 of every active arm's posterior, and their step (R, 1)."""
    from scipy.special import digamma, polygamma

    centre, spread = digamma(a) - digamma(b), np.sqrt(polygamma(1, a) + polygamma(1, b))
    low = np.where(on, centre - np.maximum(9 * spread, 30 / a * (a < 20)), np.inf).min(axis=1)
    high = np.where(on, centre + np.maximum(9 * spread, 30 / b * (b < 20)), -np.inf).max(axis=1)
    step = (high - low) / (POINTS - 1)
    return low[:, None] + step[:, None] * np.arange(POINTS), step[:, None]


def _distribution(a: Floats, b: Floats, logit: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Density on the logit scale and distribution function (R, A, G): trapezoid with Euler-Maclaurin's correction."""
    from scipy.special import betaln

    rate = 1 / (1 + exp_array(-logit))[:, None, :]
    log = a[:, :, None] * np.log(rate) + b[:, :, None] * np.log1p(-rate) - betaln(a, b)[:, :, None]
    density = exp_array(log)
    slope = density * (a[:, :, None] * (1 - rate) - b[:, :, None] * rate)
    h = step[:, :, None]
    total = np.cumsum(density, axis=2) * h - density * h / 2 - slope * h**2 / 12
    return density, np.clip(total, 0.0, 1.0)


def allocation(chance: Floats, active: Flags, design: Design) -> Floats:
    """Shares (R, A) from the probabilities to be best: softened, normalised, kept inside the limits.

    What a limit takes or leaves is shared by the other arms in proportion, until every share is inside.

    >>> design = Design(arms=3, looks=(100,), least=0.2, softening=0.5)
    >>> allocation(np.array([[0.98, 0.01, 0.01]]), np.ones((1, 3), bool), design).round(3).tolist()
    [[0.6, 0.2, 0.2]]
    """
    weight = np.where(active, np.maximum(chance, 0.0) ** design.softening, 0.0)
    held = np.where(active, np.nan, 0.0)
    if design.fixed is not None:
        held[:, 0] = np.where(active[:, 0] & (active.sum(axis=1) > 1), design.fixed, held[:, 0])
    for _ in range(2 * active.shape[1]):
        shares = _shared(weight, held)
        free = np.isnan(held)
        low, high = free & (shares < design.least - 1e-12), free & (shares > design.most + 1e-12)
        over = high & ~low.any(axis=1, keepdims=True)  # the lower limits first: they may cure the upper ones
        if not (low.any() or over.any()):
            return shares
        held = np.where(low, design.least, np.where(over, design.most, held))
    return _shared(weight, held)


def _shared(weight: Floats, held: Floats) -> Floats:
    """Shares where some are held: the others take what is left in proportion to their weights."""
    free = np.isnan(held)
    rest = 1 - np.where(free, 0.0, held).sum(axis=1, keepdims=True)
    loose = np.where(free, weight, 0.0)
    total, count = loose.sum(axis=1, keepdims=True), free.sum(axis=1, keepdims=True)
    each = np.where(total > 0, loose / np.where(total > 0, total, 1.0), free / np.maximum(count, 1))
    shares = np.where(free, rest * each, held)
    whole = shares.sum(axis=1, keepdims=True)  # below 1 where every arm is held at a limit
    return np.asarray(shares / np.where(whole > 0, whole, 1.0))


def decide(n: ArrayLike, events: ArrayLike, active: ArrayLike, design: Design) -> Instruction:
    """The rule at a look: from counts (R, A) and active arms to what goes on, with which shares, or who has won.

    >>> design = Design(arms=3, looks=(100, 200), higher_is_better=False)
    >>> decide([[50, 50, 50]], [[5, 20, 25]], [[True, True, True]], design).winner.tolist()
    [0]
    """
    on = np.atleast_2d(np.asarray(active, dtype=np.bool_))
    chance = best(n, events, on, design)
    first = chance.argmax(axis=1)
    superior = np.take_along_axis(chance, first[:, None], axis=1)[:, 0] > design.superiority
    going = on & ~(chance < design.inferiority)
    alone = going.sum(axis=1) == 1
    winner = np.where(superior | alone, first, NONE)
    going = np.where((winner == NONE)[:, None], going, np.arange(on.shape[1]) == winner[:, None])
    return Instruction(active=going, shares=allocation(chance, going, design), winner=winner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Simulated trials: `winner` (R,) or -1, `size` (R,), counts `n`, `events` (R, A), and `selected` (R,): the
    winner, or the arm that is most probably the best at the end."""

    winner: Ints
    selected: Ints
    size: Ints
    n: Ints
    events: Ints
    design: Design

    def estimates(self) -> Floats:
        """Posterior median of each arm's rate (R, A)."""
        from scipy.special import betaincinv

        a, b = self.events + self.design.prior[0], self.n - self.events + self.design.prior[1]
        return np.asarray(betaincinv(a, b, 0.5), dtype=np.float64)

    def characteristics(self, truth: ArrayLike) -> Characteristics:
        """Averages over replicates against the true rates (A,)."""
        p, rows = np.asarray(truth, dtype=np.float64), np.arange(self.size.size)
        error = self.estimates()[rows, self.selected] - p[self.selected]
        parts = {
            "superior": (self.winner != NONE)[:, None], "selected": self.selected[:, None] == np.arange(p.size),
            "size": self.size[:, None], "patients": self.n, "square_error": error[:, None] ** 2,
        }  # fmt: skip
        values = {name: np.asarray(part.mean(axis=0), dtype=np.float64) for name, part in parts.items()}
        spread = {name: np.asarray(part.std(axis=0, ddof=1), dtype=np.float64) for name, part in parts.items()}
        return Characteristics(values=values, sd=spread, trials=rows.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristics:
    """`values` by name: superior (1,), selected (A,), size (1,), patients (A,), square_error (1,) of the selected arm's
    estimate; `sd` among trials, by the same names."""

    values: dict[str, Floats]
    sd: dict[str, Floats]
    trials: int

    @property
    def mcse(self) -> dict[str, Floats]:
        """Monte Carlo standard errors."""
        return {name: spread / np.sqrt(self.trials) for name, spread in self.sd.items()}

    @property
    def rmse(self) -> float:
        """Root mean squared error of the selected arm's estimate."""
        return float(np.sqrt(self.values["square_error"][0]))


def simulate(design: Design, truth: ArrayLike, *, seed: int, replicates: ArrayLike) -> Trials:
    """Trials of a design, one for each of `replicates` (R,), with true rates `truth` (A,).

    Address: subject in order of entry; slot 0 its place in the shares of the arms, slot 1 its outcome (an event under
    an arm of rate p when u < p: the same person under every arm and design).
    """
    p, names = np.asarray(truth, dtype=np.float64), np.asarray(replicates, dtype=np.int64)
    if p.shape != (design.arms,) or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"must be {design.arms} probabilities", field="truth", value=p.tolist())
    shape = (names.size, design.arms)
    n, events, active = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.ones(shape, np.bool_)
    winner, size, running = np.full(names.size, NONE), np.zeros(names.size, np.int64), np.arange(names.size)
    shares = allocation(np.full(shape, 1 / design.arms), active, design)
    for start, end in zip((0, *design.looks), design.looks, strict=False):
        arm, event = _entered((seed, names[running]), (start, end), shares, p)
        each = arm[:, :, None] == np.arange(design.arms)
        n[running] += each.sum(axis=1)
        events[running] += (each & event[:, :, None]).sum(axis=1)
        said = decide(n[running], events[running], active[running], design)
        active[running], winner[running], size[running] = said.active, said.winner, end
        going = said.winner == NONE
        running, shares = running[going], said.shares[going]
        if not running.size:
            break
    final = best(n, events, active, design).argmax(axis=1)
    selected = np.where(winner == NONE, final, winner)
    return Trials(winner=winner, selected=selected, size=size, n=n, events=events, design=design)


def _entered(address: tuple[int, Ints], span: tuple[int, int], shares: Floats, p: Floats) -> tuple[Ints, Flags]:
    """Arms and events (R, subjects) of those who enter between two looks."""
    seed, names = address
    who = {"subject": np.arange(*span), "replicate": names[:, None]}
    place, outcome = (uniforms(seed, Purpose.ADAPTIVE_RANDOMISATION, **who, slot=slot) for slot in (0, 1))
    borders = np.cumsum(shares, axis=1)[:, None, :-1]
    arm = np.asarray((place[:, :, None] >= borders).sum(axis=2), dtype=np.int64)
    return arm, outcome < p[arm]
