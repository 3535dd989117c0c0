"""Plans of surveillance on simulated markets: when does each first signal, under the stated ratios and under none.

In a month the users' cases are Poisson. A cohort sees a share of them, spontaneous reports another; the two streams are
drawn apart, which is exact as long as few cases are in both. All plans meet the same counts (the same uniform at the
same address, whatever a plan's coverage), both truths too. Rows are draws times replicates; a block is whole draws, so
that nothing depends on where blocks end or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, slots, uniforms
from trials.analysis.spontaneous import Cells, meets, poisson_quantile
from trials.analysis.surveillance import Watch, watch
from trials.analysis.surveillance_market import Truths, Use, truths, use
from trials.analysis.surveillance_tests import (
    Compared,
    Conditional,
    binomial,
    conditional,
    conditional_grouped,
    grouped,
)

if TYPE_CHECKING:
    from trials.analysis.surveillance_text import Event, Plan, Reporting, Surveillance
    from trials.dispatch import Mode

__all__ = ["TRUTHS", "Prepared", "block", "prepared", "simulated"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Test = Watch | Compared | Conditional
TRUTHS: Final = ("stated", "null")
_ROWS, _MOST = 4000, 1000.0  # rows of a block; expected events of a watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that a block needs: the text, use of the product, draws of truths, sequential tests by event and plan."""

    plan: Surveillance
    use: Use
    truths: Truths
    tests: Mapping[tuple[str, str], Test]
    replicates: int

    @property
    def rows(self) -> int:
        return self.truths.draws * self.replicates


def prepared(plan: Surveillance, folder: Path, runs: Mapping[str, Path] | None = None) -> Prepared:
    """Draw the truths, find the critical values. Without uncertainty there is one draw with all the replicates."""
    drawn, used = truths(plan, folder, runs), use(plan.uptake, plan.months)
    tests = {
        (event, name): _test(plan, name, event, used.years * drawn.planned[event], both=_both(way, drawn, event))
        for name, way in plan.plans.items() if way.sequential for event in plan.events
    }  # fmt: skip
    replicates = plan.replicates if drawn.draws > 1 else plan.replicates * plan.draws
    return Prepared(plan=plan, use=used, truths=drawn, tests=tests, replicates=replicates)


def _both(way: Plan, drawn: Truths, event: str) -> float:
    """Events of users and comparators that may come, for each of the users' that is planned with: in all but 2.5 % of
    the truths, with the effect. A watch of fewer would be over by the first look that has them, without a signal.
    """
    apart = 1.0 if way.comparators is None else way.comparators
    users = np.maximum(drawn.ratio[event], 1.0) + apart
    come = np.quantile(drawn.factor * drawn.background[event] / drawn.planned[event] * users, 0.975)
    return float(max(1.0 + apart, come))


def _test(plan: Surveillance, name: str, event: str, monthly: Floats, *, both: float) -> Test:
    """The sequential test of a plan for an event, `monthly` cases expected among all users under the null."""
    way = plan.plans[name]
    expected = np.cumsum(monthly)[np.array(way.looks(plan.months)) - 1 - way.lag] * _coverage(way)
    alpha, minimum, most = way.alpha or 0.05, way.minimum or 1, float(expected[-1]) * way.extent
    if most > _MOST:
        problem = f"expects {most:.0f} events of {event}: a sequential test of so many is not computed"
        raise InputError(problem, field=f"plans.{name}.coverage", remedy="a smaller coverage or extent")
    try:
        if way.test == "binomial" and way.comparators is not None:
            last = min(most * both, max(most * (1.0 + way.comparators), _MOST))
            return binomial(way.comparators, int(np.ceil(last + 2.0 * np.sqrt(last))), alpha=alpha, minimum=minimum)
        if way.test == "conditional":
            past = plan.events[event].background.events or 1
            if way.critical == "grouped":
                return conditional_grouped(past, expected / past, alpha=alpha, minimum=minimum)
            return conditional(past, most / past, alpha=alpha, minimum=minimum)
        if way.critical == "grouped":
            return grouped(expected, alpha=alpha, minimum=minimum)
        return watch(most, alpha=alpha, minimum=minimum)
    except InputError as error:
        where = f"plans.{name}.{error.field}"
        raise InputError(f"{event}: {error.problem}", field=where, value=error.value, remedy=error.remedy) from None


def _coverage(way: Plan) -> float:
    return 1.0 if way.coverage is None else way.coverage


def simulated(made: Prepared, *, mode: Mode) -> NDArray[np.int16]:
    """Month of the first signal, 0 for none: (truths, events, plans, draws, replicates)."""
    from pkpd.ground.errors import RunFailed
    from trials.dispatch import run_blocks

    step = max(1, _ROWS // made.replicates)
    blocks = [(k, min(k + step, made.truths.draws)) for k in range(0, made.truths.draws, step)]
    shape = len(TRUTHS), len(made.plan.events), len(made.plan.plans), made.truths.draws, made.replicates
    out = np.zeros(shape, np.int16)

    def done(which: tuple[int, int], found: NDArray[np.int16]) -> None:
        out[:, :, :, which[0] : which[1]] = found

    def failed(which: tuple[int, int], reason: str) -> None:
        raise RunFailed(f"draws {which[0]} to {which[1] - 1}: {reason}")

    from trials.record import versions

    run_blocks(block, _Payload.of(made), blocks, mode=mode, on_done=done, on_failed=failed, versions=versions)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payload:
    """What travels: `Prepared` without the laws, whose functions stay here."""

    made: Prepared

    @classmethod
    def of(cls, made: Prepared) -> _Payload:
        from dataclasses import replace

        return cls(made=replace(made, truths=replace(made.truths, laws={})))


def block(payload: _Payload, which: tuple[int, int]) -> NDArray[np.int16]:
    """First signals of draws which[0] to which[1] - 1: (truths, events, plans, draws, replicates)."""
    made = payload.made
    market = _Market.of(made, which)
    found = np.zeros((len(TRUTHS), len(made.plan.events), len(made.plan.plans), market.rows), np.int16)
    for e, event in enumerate(made.plan.events):
        for t, truth in enumerate(TRUTHS):
            for p, name in enumerate(made.plan.plans):
                found[t, e, p] = _first(made, name, _signals(made, market, (event, truth), name))
        product = {key: value for key, value in market.kept.items() if key[0] == "product"}
        market.kept.clear()
        market.kept.update(product)
    return found.reshape(*found.shape[:3], which[1] - which[0], made.replicates)


def _first(made: Prepared, name: str, signal: Bools) -> NDArray[np.int16]:
    looks = np.array(made.plan.plans[name].looks(made.plan.months))
    return np.where(signal.any(axis=1), looks[signal.argmax(axis=1)], 0).astype(np.int16)


@dataclass(frozen=True, slots=True)
class _Market:
    """Rows of a block: global numbers (N, 1) of rows, months (1, T), draw of each row (N,), person-years (N, T)."""

    seed: int
    row: NDArray[np.int64]
    month: NDArray[np.int64]
    draw: NDArray[np.int64]
    years: Floats
    kept: dict[tuple[object, ...], Floats]

    @classmethod
    def of(cls, made: Prepared, which: tuple[int, int]) -> _Market:
        draw = np.repeat(np.arange(*which), made.replicates)
        row = np.arange(which[0] * made.replicates, which[1] * made.replicates)
        years = made.truths.factor[draw][:, None] * made.use.years[None, :]
        return cls(made.plan.seed, row[:, None], np.arange(made.plan.months)[None, :], draw, years, {})

    @property
    def rows(self) -> int:
        return len(self.draw)

    def spread(self, values: Floats) -> Floats:
        """Values of draws (D,) by row (N, 1)."""
        return values[self.draw][:, None]

    def chance(self, name: str) -> Floats:
        """A uniform of each row (N,)."""
        row = self.row[:, 0]
        return uniforms(self.seed, Purpose.SURVEILLANCE, subject=0, replicate=row, index=2, slot=slots([name]))

    def counts(self, mean: Floats, name: str, variant: object = None) -> Floats:
        """Cumulated counts by month (N, T) of means (N or 1, T); `variant` tells means of one name apart."""
        key = name, variant
        if key not in self.kept:
            purpose = Purpose.SURVEILLANCE if name.endswith((".cohort", ".comparators")) else Purpose.SPONTANEOUS
            u = uniforms(self.seed, purpose, subject=self.month, replicate=self.row, index=1, slot=slots([name]))
            self.kept[key] = np.cumsum(poisson_quantile(u, np.broadcast_to(mean, u.shape)), axis=1)
        return self.kept[key]


def _ratio(made: Prepared, market: _Market, what: tuple[str, str]) -> Floats:
    """Rate ratios of an event under a truth, by row (N, 1)."""
    return market.spread(made.truths.ratio[what[0]]) if what[1] == "stated" else np.ones((market.rows, 1))


def _signals(made: Prepared, market: _Market, what: tuple[str, str], name: str) -> Bools:
    """Is there a signal at each look: (N, looks). what: event and truth; name: of the plan."""
    event, truth = what
    ratio = _ratio(made, market, what)
    way = made.plan.plans[name]
    seen = np.array(way.looks(made.plan.months)) - 1 - way.lag
    if not way.sequential:
        cells = _cells(made, market, (event, truth), unmasked=way.unmasked)
        assert made.plan.reporting is not None
        some = Cells(**{k: getattr(cells, k)[:, seen] for k in ("both", "product", "event", "neither")})
        return meets(way.test, some, made.plan.reporting.hyperparameters())
    test, covered = made.tests[event, name], market.years * _coverage(way)
    rate = market.spread(made.truths.background[event])
    users = market.counts(covered * rate * ratio, f"{event}.cohort", (truth, way.coverage))[:, seen]
    if isinstance(test, Compared):
        rest = market.counts(covered * rate * test.odds, f"{event}.comparators", (test.odds, way.coverage))
        return test.signals(users, rest[:, seen])
    past = isinstance(test, Conditional)
    scale = 1.0 / (made.plan.events[event].background.years or np.nan) if past else made.truths.planned[event]
    time = np.cumsum(covered, axis=1)[:, seen] * scale
    return test.signals(*_ended(users, time, test.horizon, market.chance(f"{event}.cohort")))


def _ended(users: Floats, time: Floats, horizon: float, u: Floats) -> tuple[Floats, Floats]:
    """Counts and times (N, looks) where the first look beyond the end of the watch (more use than planned) sees what
    had come by the end: of the events since the look before, each with the share of the time. u: uniforms (N,).
    """
    from scipy.stats import binom

    over = time > horizon * (1.0 + 1e-9)
    rows, look = np.flatnonzero(over.any(axis=1)), over.argmax(axis=1)
    look = look[rows]
    before = np.maximum(look - 1, 0)
    n0, t0 = (np.where(look > 0, x[rows, before], 0.0) for x in (users, time))
    came = binom.ppf(u[rows], users[rows, look] - n0, (horizon - t0) / (time[rows, look] - t0))
    users, time = users.copy(), time.copy()
    users[rows, look], time[rows, look] = n0 + came, horizon
    return users, time


def _cells(made: Prepared, market: _Market, what: tuple[str, str], *, unmasked: bool) -> Cells:
    """Reports so far by month, (N, T) each."""
    event, truth_name = what
    reporting, truth, ratio = made.plan.reporting, made.truths, _ratio(made, market, what)
    assert reporting is not None
    months = made.plan.months
    arrives = _arrivals(reporting.delay, months)
    cases = market.years * market.spread(truth.background[event] * truth.reported[event]) * ratio
    other = market.years * market.spread(truth.share * truth.others)
    both = (cases @ arrives) * _stimulus(reporting, months, "events")
    product = (other @ arrives) * _stimulus(reporting, months, "all")
    named, rest = _database(made.plan.events[event], reporting, unmasked=unmasked)
    event_monthly, rest_monthly = (_with_past(x, reporting, months)[None, :] for x in (named, rest))
    return Cells(
        both=market.counts(both, f"{event}.product", truth_name), product=market.counts(product, "product"),
        event=market.counts(event_monthly, f"{event}.database", unmasked),
        neither=market.counts(rest_monthly, "rest", (event, unmasked)),
    )  # fmt: skip


def _arrivals(delay: float, months: int) -> Floats:
    """Share of the reports of a month's cases (row) that arrive in each month (column): geometric with mean `delay`."""
    lag = np.arange(months)
    share = (delay / (1.0 + delay)) ** lag / (1.0 + delay)
    apart = lag[None, :] - lag[:, None]
    return np.where(apart >= 0, share[np.maximum(apart, 0)], 0.0)


def _stimulus(reporting: Reporting, months: int, of: str) -> Floats:
    """Factor of the reports of a month: of the watched events (`events` and `all`), or of all others (`all`)."""
    month, factor = np.arange(1, months + 1), np.ones(months)
    for one in reporting.stimulated:
        if of == "events" or one.of == "all":
            factor *= np.where((month >= one.from_) & (month <= one.until), one.factor, 1.0)
    return factor


def _database(event: Event, reporting: Reporting, *, unmasked: bool) -> tuple[float, float]:
    """Reports a month of other products that name the event, and that do not."""
    total, share, mask = reporting.other_products, event.in_database or 0.0, event.masking
    if mask is None:
        return total * share, total * (1.0 - share)
    plain = total * (1.0 - mask.share)
    masker = 0.0 if unmasked else total * mask.share
    often = min(1.0, share * mask.ratio)
    return plain * share + masker * often, plain * (1.0 - share) + masker * (1.0 - often)


def _with_past(monthly: float, reporting: Reporting, months: int) -> Floats:
    """Means by month; the first one also has what was there before."""
    out = np.full(months, monthly)
    out[0] += monthly * reporting.before / reporting.other_products
    return out
