"""A fit by sequential Monte Carlo: the modes of its posterior, the share of each, the evidence.

From prior to posterior by `smc`, every effect non-centred. Where rates can change places (`exchange`) the space is cut
where they meet, and each side has its own runs: Z_k = integral of prior x likelihood over side k, share Z_k / sum Z,
so that a share of 1e-6 has a relative error like one of a half. Elsewhere the particles are split along the deepest
valley of a population quantity, where there is one, and shares are what the runs say, weighted by their evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.batched import batched
from pkpd.bayes.exchange import Exchange
from pkpd.bayes.plan import base_value, natural
from pkpd.bayes.prior_law import prior_law
from pkpd.bayes.smc import Path, Run, Tuning, run
from pkpd.ground.streams import Purpose, normals
from pkpd.model.equations import evaluate

if TYPE_CHECKING:
    from pkpd.bayes.density import Density
    from pkpd.bayes.layout import Layout

__all__ = ["HELD", "Mode", "Modes", "pooled", "tempered", "typical_values", "valley"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HELD = 0.01
"""Share above which a second mode counts: the posterior is of two minds."""
DISAGREE = 0.5
"""Standard error of a log evidence above which shares are not known."""
LOOKED, LEAST_SHARE, RUNS_A_SIDE = 4000, 1e-3, 1000
DEEP, FEWEST, GRID = 0.25, 20, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """label; share of the posterior and its standard error; log of prior x likelihood integrated over it and its error;
    means and sds of the population quantities within it, by name.
    """

    label: str
    share: float
    share_error: float
    log_evidence: float
    log_evidence_error: float
    means: dict[str, float]
    sds: dict[str, float]

    @property
    def counts(self) -> bool:
        """Whether it may hold more than `HELD`, as far as the runs tell."""
        return bool(self.share + 2.0 * np.nan_to_num(self.share_error) > HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """What the runs found. unseen: sides of which the prior has next to nothing; accepted, families: least of all
    runs.
    """

    modes: tuple[Mode, ...]
    log_evidence: float
    log_evidence_error: float
    runs: int
    particles: int
    levels: int
    accepted: float
    families: int
    evaluations: int
    exchanges: tuple[str, ...]
    remedies: tuple[str, ...]
    unseen: tuple[str, ...] = ()

    @property
    def of_two_minds(self) -> bool:
        """Whether more than one mode may hold more than `HELD`."""
        return sum(m.counts for m in self.modes) > 1

    @property
    def problems(self) -> tuple[str, ...]:
        """What forbids to use the fit."""
        said = []
        unsure = [m for m in self.modes if m.counts and not m.log_evidence_error <= DISAGREE]
        if unsure:
            told = ", ".join(f"{m.label}: {m.log_evidence:.1f} +- {m.log_evidence_error:.2f}" for m in unsure)
            said.append(f"Runs disagree about the evidence ({told}): neither shares nor draws are to be trusted; take "
                        "more particles (draws) and runs (chains).")  # fmt: skip
        if self.of_two_minds:
            remedy = "; ".join(self.remedies) or "give an informative prior, or data that tell them apart"
            said.append(f"The posterior has {len(self.modes)} modes ({self.shares}); {remedy}.")
        return tuple(said)

    @property
    def remarks(self) -> tuple[str, ...]:
        first = f"Log evidence {self.log_evidence:.2f} (se {self.log_evidence_error:.2f}) of {self.runs} runs"
        said = [first + (f"; {self.shares}" if len(self.modes) > 1 else "; one mode was found") + "."]
        said += [f"The prior has next to nothing where {label}: it was not looked at." for label in self.unseen]
        return tuple(said)

    @property
    def shares(self) -> str:
        return ", ".join(f"{m.label}: {_share(m.share)} +- {m.share_error:.1g}" for m in self.modes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"of_two_minds": self.of_two_minds}


def tempered(
    law: Density, found: Sequence[Exchange], *, seed: int, particles: int, runs: int
) -> tuple[Floats, Modes]:  # fmt: skip
    """Draws (runs, particles, size) of a density without a frame, in proportion to the shares, and what was found.

    found: `exchanges` of the model. Errors: RunFailed where no run can begin.
    """
    prior, sides = prior_law(law.layout), _sides(law.layout, found, seed)
    target, done = batched(law), []
    for k, side in enumerate(sides):
        path = Path(size=prior.size, base=prior, target=target, draw=prior.draw, inside=side.holds if found else None)
        how = Tuning(particles=particles)
        done.append([run(path, seed=seed, replicate=RUNS_A_SIDE * k + r, tuning=how) for r in range(runs)])
    if found:
        parts = [[(e.log_evidence, e.x) for e in each] for each in done]
        labels = [side.label for side in sides]
    else:
        parts, labels = _split(law.layout, done[0])
    modes = _weighed(law.layout, labels, parts, apart=bool(found))
    share = {m.label: m.share for m in modes}  # of the modes, whose order is not that of the sides
    x = pooled([[e.x for e in each] for each in done], [share[side.label] for side in sides] if found else [1.0])
    every = [e for each in done for e in each]
    total = _total(parts)
    return x, Modes(
        modes=modes, log_evidence=total[0], log_evidence_error=total[1], runs=runs, particles=particles,
        levels=max(len(e.powers) for e in every), accepted=min(e.accepted for e in every),
        families=min(e.families for e in every), evaluations=sum(e.evaluations for e in every),
        exchanges=tuple(e.sentence for e in found), remedies=tuple(e.remedy for e in found),
        unseen=tuple(label for label in _labels(found) if label not in labels) if len(found) == 1 else (),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """Where each exchange's contrast has a sign."""

    layout: Layout
    found: tuple[Exchange, ...]
    signs: tuple[int, ...]

    @property
    def label(self) -> str:
        return ", ".join(e.side(sign) for e, sign in zip(self.found, self.signs, strict=True)) or "one mode"

    def holds(self, x: Floats) -> NDArray[np.bool_]:
        return np.asarray((_signs(self.layout, self.found, x) == self.signs).all(axis=1))


def _share(share: float) -> str:
    """Digits enough to tell a share from 1 and from 0.

    >>> _share(0.99932), _share(0.62), _share(0.00067)
    ('0.99932', '0.62', '0.00067')
    """
    rest = 1.0 - share
    return f"{share:.{min(2 - int(np.floor(np.log10(rest))) - 1, 9)}f}" if 0.0 < rest < 0.1 else f"{share:.2g}"


def _signs(layout: Layout, found: Sequence[Exchange], x: Floats) -> Ints:
    """(n, exchanges): on which side each point is."""
    values = typical_values(layout, x)
    with np.errstate(all="ignore"):
        rows = [np.where(e.contrast(values) > 0.0, 1, -1) * np.ones(len(x), np.int64) for e in found]
    return np.stack(rows, axis=1).astype(np.int64) if rows else np.empty((len(x), 0), np.int64)


def _labels(found: Sequence[Exchange]) -> list[str]:
    return [e.side(sign) for e in found for sign in (1, -1)]


def _sides(layout: Layout, found: Sequence[Exchange], seed: int) -> list[_Side]:
    """The sides the prior reaches, those of the most prior mass first."""
    size = np.arange(layout.size)[None]
    z = normals(seed, Purpose.SMC_START, subject=np.arange(LOOKED)[:, None], replicate=RUNS_A_SIDE - 1, slot=size)
    signs = _signs(layout, found, prior_law(layout).draw(z))
    rows, counts = np.unique(signs, axis=0, return_counts=True)
    order = [k for k in np.argsort(-counts, kind="stable") if counts[k] >= LEAST_SHARE * LOOKED]
    return [_Side(layout=layout, found=tuple(found), signs=tuple(int(v) for v in rows[k])) for k in order]


def typical_values(layout: Layout, x: Floats) -> dict[str, Floats]:
    """Natural typical values (n,) of every parameter at points x (n, size or population)."""
    plan, made = layout.plan, {}
    for name, p in plan.model.parameters.items():
        free = name in plan.typical and name not in plan.shrunk  # a coefficient is no rate
        value = x[:, list(plan.typical).index(name)] if free else np.full(len(x), base_value(plan.model, name))
        with np.errstate(over="ignore"):
            made[name] = natural(p, value)
    for name, p in plan.model.parameters.items():
        if p.above is not None:
            made[name] = made[name] + np.asarray(evaluate(p.above, made))
    return made


Part = tuple[float, Floats]
"""Log evidence that a run gives a mode, and its draws there."""


def _weighed(
    layout: Layout, labels: Sequence[str], parts: Sequence[Sequence[Part]], *, apart: bool
) -> tuple[Mode, ...]:
    """The modes, that of the greatest share first. apart: each has runs of its own; else they share their runs."""
    logs = np.array([[log for log, _ in each] for each in parts])
    top = logs.max()
    z = np.exp(logs - top)
    mean, runs = z.mean(axis=1), z.shape[1]
    share = mean / mean.sum()
    second = np.atleast_2d(np.cov(z)) if runs > 1 else np.full((len(z),) * 2, np.nan)
    second = np.diag(np.diag(second)) if apart else second
    slope = (np.eye(len(z)) - share[:, None]) / mean.sum()
    error = np.sqrt(np.einsum("kj,ji,ki->k", slope, second, slope) / runs)
    with np.errstate(all="ignore"):
        own = np.sqrt(np.diag(second) / runs) / mean
        evidence = top + np.log(mean)
    made = []
    for k in np.argsort(-share, kind="stable"):
        named = layout.population_named(np.concatenate([x for _, x in parts[k]])[:, : layout.population])
        known = {name: named[name] for name in layout.plan.priors if name in named}
        made.append(Mode(
            label=labels[k], share=float(share[k]), share_error=float(error[k]), log_evidence=float(evidence[k]),
            log_evidence_error=float(own[k]), means={n: float(v.mean()) for n, v in known.items()},
            sds={n: float(v.std()) for n, v in known.items()},
        ))  # fmt: skip
    return tuple(made)


def _total(parts: Sequence[Sequence[Part]]) -> tuple[float, float]:
    """Log evidence of all modes and its standard error."""
    logs = np.logaddexp.reduce(np.array([[log for log, _ in each] for each in parts]), axis=0)
    z = np.exp(logs - logs.max())
    error = float(z.std(ddof=1) / np.sqrt(len(z)) / z.mean()) if len(z) > 1 else float("nan")
    return float(logs.max() + np.log(z.mean())), error


def pooled(x: Sequence[Sequence[Floats]], share: Sequence[float]) -> Floats:
    """Draws (runs, particles, size) of modes' own (modes; runs; (particles, size)) in proportion to their shares: every
    run's relatives stay near each other, so that the effective size of a sequence sees them.
    """
    size = len(x[0][0])
    parts = np.asarray(share) / np.sum(share) * size
    counts = np.floor(parts).astype(int)
    counts[np.argsort(-(parts - counts), kind="stable")[: size - counts.sum()]] += 1
    places = np.concatenate([(np.arange(c) + 0.5) / c for c in counts if c])
    order = np.argsort(places, kind="stable")
    taken = [np.floor((np.arange(c) + 0.5) / c * size).astype(int) for c in counts if c]
    made = []
    for r in range(len(x[0])):
        own = [mode[r] for mode, c in zip(x, counts, strict=True) if c]
        made.append(np.concatenate([one[t] for one, t in zip(own, taken, strict=True)])[order])
    return np.stack(made)


def _split(layout: Layout, runs: Sequence[Run]) -> tuple[list[list[Part]], list[str]]:
    """Each run's share on either side of the deepest valley of a population quantity; one mode where there is none."""
    whole = layout.population_named(np.concatenate([e.x for e in runs])[:, : layout.population])
    found = {name: valley(whole[name]) for name in layout.plan.priors if name in whole}
    deep = {name: v for name, v in found.items() if v is not None}
    if not deep:
        return [[(e.log_evidence, e.x) for e in runs]], ["one mode"]
    name, (_, cut) = min(deep.items(), key=lambda item: item[1][0])
    parts: list[list[Part]] = [[], []]
    for e in runs:
        above = layout.population_named(e.x[:, : layout.population])[name] > cut
        for part, side in zip(parts, (above, ~above), strict=True):
            with np.errstate(divide="ignore"):
                part.append((e.log_evidence + float(np.log(side.mean())), e.x[side]))
    return parts, [f"{name} above {cut:.3g}", f"{name} below {cut:.3g}"]


def valley(x: Floats) -> tuple[float, float] | None:
    """(depth, place) of the deepest valley of values x (n,): density there over that of the lower of the two peaks;
    None where none is below a quarter, or where a side holds fewer than twenty values.

    >>> a = np.linspace(-1.0, 1.0, 500)
    >>> valley(a), valley(np.concatenate([a, a + 6.0]))[1].__round__()
    (None, 3)
    """
    from scipy.ndimage import gaussian_filter1d

    low, high = float(x.min()), float(x.max())
    if not high > low:
        return None
    counts, edges = np.histogram(x, bins=GRID, range=(low, high))
    width = 0.9 * float(x.std()) * len(x) ** -0.2 / (edges[1] - edges[0]) / 2.0
    smooth = gaussian_filter1d(counts.astype(np.float64), max(width, 1.0), mode="constant")
    left, right = np.maximum.accumulate(smooth), np.maximum.accumulate(smooth[::-1])[::-1]
    lower = np.minimum(left, right)
    below = np.cumsum(counts)
    enough = np.minimum(below, len(x) - below) >= FEWEST
    enough &= lower * max(width, 1.0) * np.sqrt(2.0 * np.pi) >= FEWEST / 2
    depth = np.where(enough, smooth / np.maximum(lower, 1e-300), 1.0)
    k = int(np.median(np.flatnonzero(depth <= depth.min())))
    return (float(depth[k]), float(edges[k + 1])) if depth[k] < DEEP else None
