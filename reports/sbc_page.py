"""The page of a calibration study."""

import math
from collections.abc import Sequence

import numpy as np

from pkpd.bayes.sbc import Calibration, Outcome, Quantity
from reports import rounding
from reports.figures.calibration import Ranks, Shrunk, coverage, histogram, sensitivity
from reports.page import Page
from reports.tables import Facts, Plots, Section, Table, columns

__all__ = ["page"]


def page(found: Calibration, outcomes: Sequence[Outcome], facts: Sequence[tuple[str, str]]) -> Page:
    """The page of a summary and its fits; facts: provenance."""
    good = [o for o in outcomes if not o.failed]
    return Page(
        brand="Calibration", kicker="Simulation-based calibration · a check of the fit, not of the model",
        title=f"Calibration of {found.model}", byline=f"design {found.design} · {found.fits} fits",
        breaches=() if found.ok else (found.verdict,), answer=(found.verdict,), trust=_trust(found),
        sections=(_ranks(found), _intervals(found), _told(found, good), _provenance(found, facts)),
    )  # fmt: skip


def _trust(found: Calibration) -> tuple[str, ...]:
    failed = [f"{count} fits: {reason}" for reason, count in found.failures.items()]
    lost = (
        "No fit failed." if not failed else f"{100 * found.failed:.1f} % failed and do not count ({'; '.join(failed)})."
    )
    return (
        f"{found.counted} of {found.fits} fits count. {lost}",
        f"Ranks among {found.kept} draws of each fit; one with fewer effective draws of a quantity is sampled again.",
        "The data are simulated by the engine, the fits are by the compiled density: an error of one of them shows.",
        f"Seen is what moves a bin of {found.counted / 20:.0f} fits; a small bias needs more fits.",
    )


def _ranks(found: Calibration) -> Section:
    panels = tuple(
        histogram(q.name, Ranks(counts=q.counts, band=found.band, p=q.p, needed=found.needed), name=f"rank{k}")
        for k, q in enumerate(found.quantities)
    )
    caption = (
        f"Rank of the true value among {found.kept} posterior draws, {found.counted} fits in 20 bins. Grey: where 99 % "
        "of the bins lie when the fit is right. A hump says intervals too wide, a valley too narrow, a slope bias."
    )
    return Section(key="ranks", title="Ranks", blocks=(Plots(caption=caption, panels=panels, across=3), _table(found)))


def _table(found: Calibration) -> Table:
    titles = columns(
        "Quantity", "p|chi-squared, 19 df", "Mean z", "SD of z", "Contraction|mean", "50 %|coverage", "80 %|coverage",
        "90 %|coverage", "95 %|coverage", "Least ESS",
    )  # fmt: skip
    return Table(
        caption="Every ranked quantity, on the scale it is sampled on.", columns=titles,
        rows=tuple(_row(q) for q in found.quantities),
        marks=tuple("" if q.p > found.needed else "breach" for q in found.quantities),
        notes=(
            f"p must exceed 0.001 / {len(found.quantities)} = {found.needed:.2g}. z: (posterior mean - truth)/sd. "
            f"Chance moves a coverage of 90 % by {100 * 1.96 * math.sqrt(0.09 / max(found.counted, 1)):.1f} points "
            "(95 %), a mean z by "
            f"{1.96 / math.sqrt(max(found.counted, 1)):.2f}. The joint log density of data, effects and parameters "
            "sees what no single parameter does.",
        ),
    )  # fmt: skip


def _row(q: Quantity) -> tuple[str, ...]:
    shares = [f"{100 * value:.1f} %" for value in q.coverage.values()]
    contraction = "" if q.contraction is None else rounding.fixed(q.contraction, 2)
    ess = "" if q.ess is None else rounding.count(q.ess)
    return (q.name, f"{q.p:.3g}", rounding.fixed(q.z_mean, 2), rounding.fixed(q.z_sd, 2), contraction, *shares, ess)


def _intervals(found: Calibration) -> Section:
    shares = {q.name: {float(level): share for level, share in q.coverage.items()} for q in found.quantities}
    caption = (
        f"Share of {found.counted} central posterior intervals that hold the true value, minus what they promise. A "
        "dot is a quantity; bar: where 95 % of the dots lie when the fit is right."
    )
    drawn = coverage(shares, found.counted, name="coverage")
    return Section(key="coverage", title="Coverage", blocks=(Plots(caption=caption, panels=(drawn,)),))


def _told(found: Calibration, good: Sequence[Outcome]) -> Section:
    priors = {q.name: found.prior_sd[q.name] for q in found.quantities if q.name in found.prior_sd}
    panels = tuple(
        sensitivity(name, _shrunk(good, name, sd), name=f"z{k}") for k, (name, sd) in enumerate(priors.items())
    )
    caption = (
        "Each fit: how far the posterior mean lies from the truth, in posterior sd, against how much the data told "
        "(contraction 1: all is from the data, 0: the posterior is the prior). Grey: |z| < 1.96."
    )
    blocks = (Plots(caption=caption, panels=panels, across=3),) if good else ()
    return Section(key="told", title="What the data tell", blocks=blocks)


def _shrunk(good: Sequence[Outcome], name: str, prior: float) -> Shrunk:
    mean, truth, sd = (np.asarray([getattr(o, what)[name] for o in good]) for what in ("mean", "truth", "sd"))
    return Shrunk(z=(mean - truth) / sd, contraction=1.0 - (sd / prior) ** 2)


def _provenance(found: Calibration, facts: Sequence[tuple[str, str]]) -> Section:
    cpu = f"{found.seconds:.0f} CPU s, {found.seconds / max(found.fits, 1):.2f} a fit"
    block = Facts(facts=(*facts, ("Study", found.key), ("Time", cpu)))
    return Section(key="provenance", title="Provenance", blocks=(block,))
