"""Trials in calendar time on outcomes of stated laws: error, stop probabilities, estimates and speed of interim looks."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from pkpd.ground.streams import Purpose, normals, uniforms
from tests.bench.harness import Measured, row
from trials import design
from trials.designs.characteristics import passage
from trials.designs.sequential import Boundaries, boundaries
from trials.designs.simulate import followed
from trials.enrolment import entries
from trials.looks import conducted
from trials.observed import Observed
from trials.protocol import Protocol
from trials.stopping import plan_of

Looks = dict[str, NDArray[Any]]

SEED, COUNT, BATCH = 20261122, 40_000, 5_000
TEXT = """
vtrial: protocol/1
name: looks
model: {file: model.yaml}
seed: 20261122
population: {law: nhanes_adults}
subjects: 240
arms: {none: {regimen: []}, drug: {regimen: []}, more: {regimen: []}}
allocation: {method: permuted_block, size: 6}
visits: {start: {day: 0}, last: {day: 400}}
endpoints:
  y: {output: Y, at: last, as: value}
  os: {event: death, as: time_to_event}
estimands:
  means: {endpoint: y, compare: drug, against: none, summary: mean_difference}
  arms: {endpoint: y, compare: [drug, more], against: none, summary: mean_difference}
  times: {endpoint: os, compare: drug, against: none, summary: hazard_ratio}
analyses:
  means: {method: ancova, alpha: 0.025, side: greater, multiplicity: none}
  arms: {method: ancova, alpha: 0.025, side: greater, multiplicity: none}
  times: {method: logrank, alpha: 0.025, side: less}
enrolment: {sites: 20, rate: 0.05 1/d, cv: 0.6, ramp_up: 30 d, site_cap: 40}
"""
MEANS = """interims: {analysis: means, looks: [0.4, 0.7, 1], efficacy: {spending: lan_demets_obrien_fleming},
  futility: {z: [0, 0.5], binding: yes}}
"""
TIMES = """interims: {analysis: times, of: events, looks: [60, 90, 120], efficacy: {spending: lan_demets_obrien_fleming}}
"""
ARMS = """interims: {analysis: arms, looks: [0.5, 1], efficacy: {family: pocock}, select: {choice: best, threshold: 0}}
"""


def trial(protocol: Protocol, which: NDArray[np.uint32], effect: float, *, arms: int = 2) -> Observed:
    """Y normal with `effect` in the treated arm; deaths with hazard 1/300 d times exp(-effect); nobody is lost."""
    shape = (which.size, protocol.subjects)
    at: dict[str, Any] = {"subject": np.arange(shape[1]), "replicate": which[:, None]}
    assert protocol.enrolment is not None
    found = entries(protocol.enrolment, shape[1], seed=SEED, replicate=which)
    zeros, never = np.zeros(shape, np.int64), np.full(shape, np.inf)
    arm = design.permuted_blocks(zeros, [1] * arms + [0] * (3 - arms), size=6, seed=SEED, replicate=which)
    y = np.stack([normals(SEED, Purpose.SUMMARY_TRIAL, **at, slot=slot) for slot in (0, 1)], axis=2)
    y[:, :, 1] += effect * (arm == 1)
    death = -np.log(uniforms(SEED, Purpose.SUMMARY_TRIAL, **at, slot=2)) * 300 * 24 * np.exp(effect * (arm == 1))
    ended = np.where(death <= 400 * 24, death, np.inf)
    return Observed(
        replicate=which, arm=arm.astype(np.int64), stratum=zeros, outputs={"Y": y}, onset={"death": ended},
        times=np.broadcast_to(np.array([0.0, 400 * 24]), (*shape, 2)), stop=never, leave=never, ended=ended,
        grade={"death": np.isfinite(ended).astype(np.int8)}, failed=np.zeros(shape, np.bool_), number={},
        entry=found.time, site=found.site, region=found.region,
    )  # fmt: skip


@cache
def ends(text: str, effect: float, count: int = COUNT) -> tuple[Protocol, Looks, float]:
    """The rows of the looks that ended the trials, and CPU seconds of the looks."""
    from dataclasses import replace

    protocol, parts, spent = Protocol.parse(TEXT + text, complete=False), [], 0.0
    for first in range(0, count, BATCH):
        which = np.arange(first, min(first + BATCH, count), dtype=np.uint32)
        seen = trial(protocol, which, effect, arms=3 if text == ARMS else 2)
        begun = time.process_time()
        looks = conducted(protocol, seen, lambda arm, seen=seen: replace(seen, arm=arm)).looks
        spent += time.process_time() - begun
        parts.append({name: value[looks["ended"]] for name, value in looks.items()})
    return protocol, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, spent


def _share(flags: NDArray[np.bool_]) -> Measured:
    error = float(np.sqrt(flags.mean() * (1 - flags.mean()) / flags.size))
    return Measured(float(flags.mean()), f"MCSE {error:.5f}, {flags.size} trials of 240")


@row("conduct.type_one_error", unit="share", bar="0.02266 .. 0.02734")
def type_one_error() -> Measured:
    """ANCOVA at three looks, Lan-DeMets O'Brien-Fleming, binding futility: rejections without an effect."""
    return _share(ends(MEANS, 0.0)[1]["decision"] == 1)


@row("conduct.type_one_error_events", unit="share", bar="0.02266 .. 0.02734")
def type_one_error_events() -> Measured:
    """Log-rank at 60, 90, 120 deaths."""
    return _share(ends(TIMES, 0.0)[1]["decision"] == 1)


@row("conduct.family_wise_error", unit="share", bar="<= 0.02734")
def family_wise_error() -> Measured:
    """The better of two arms goes on at half the subjects, closed Dunnett combination test: any rejection."""
    _, looks, _ = ends(ARMS, 0.0)
    return _share(looks["reject"].reshape(-1, 2).any(axis=1))


def _worst(effect: float, exact: NDArray[np.float64]) -> float:
    """Largest deviation of six probabilities (reject, not reject; by look) in standard errors."""
    _, looks, _ = ends(MEANS, effect)
    worst = 0.0
    for k in range(3):
        here = looks["look"] == k + 1
        for p, flags in ((exact[0, k], looks["decision"] == 1), (exact[1, k], looks["decision"] > 1)):
            worst = max(worst, abs(float((here & flags).mean()) - p) / float(np.sqrt(p * (1 - p) / COUNT)))
    return worst


@row("conduct.stop_probabilities_null", unit="standard errors", bar="<= 3.5")
def stop_probabilities_null() -> Measured:
    """No effect: largest deviation of six probabilities from the exact recursion at known information."""
    found = passage(_bounds(), 0.0)
    return Measured(_worst(0.0, np.stack([found.reject, found.futile])), f"{COUNT} trials")


@row("conduct.stop_probabilities_effect", unit="standard errors", bar="<= 3.5")
def stop_probabilities_effect() -> Measured:
    """Effect of 0.35 sd: the same against 1,000,000 sequential t statistics drawn from their law by stages."""
    known = passage(_bounds(), 0.35 * np.sqrt(240 / 4)).reject
    drawn = sequential_t(0.35, np.array([48, 84, 120]), 1_000_000)
    note = f"rejections by look {np.round(drawn[0], 4).tolist()}; of z tests {np.round(known, 4).tolist()}"
    return Measured(_worst(0.35, drawn), note)


def _bounds() -> Boundaries:
    protocol = Protocol.parse(TEXT + MEANS, complete=False)
    assert protocol.interims is not None
    return boundaries(plan_of(protocol.interims, protocol.analyses["means"]))


def sequential_t(effect: float, n: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Shares (2, K) that end at each look with and without a rejection; n by arm: means and sums of squares by stage."""
    rng, mean, square, total = np.random.default_rng(SEED), np.zeros((count, 2)), np.zeros(count), 0
    z = np.empty((count, n.size))
    for k, m in enumerate(np.diff(n, prepend=0).tolist()):
        own = rng.normal(size=(count, 2)) / np.sqrt(m) + np.array([0.0, effect])
        square += rng.chisquare(m - 1, (count, 2)).sum(axis=1)
        square += ((own - mean) ** 2).sum(axis=1) * (total * m / (total + m))
        mean, total = (mean * total + own * m) / (total + m), total + m
        t = (mean[:, 1] - mean[:, 0]) / np.sqrt(square / (2 * total - 2) * 2 / total)
        z[:, k] = -ndtri(stdtr(2 * total - 2, -t))
    look, reject, _ = followed(_bounds(), z)
    return np.array([[np.mean((look == k) & (reject == said)) for k in range(n.size)] for said in (True, False)])


@row("conduct.median_unbiased", unit="share", bar="0.4913 .. 0.5087")
def median_unbiased() -> Measured:
    """Median-unbiased estimates above the true effect of 0.35 sd."""
    found = _share(ends(MEANS, 0.35)[1]["unbiased"] > 0.35)
    naive = ends(MEANS, 0.35)[1]["estimate"]
    note = f"{found.note}; plain estimates {(naive > 0.35).mean():.4f}, their bias {naive.mean() - 0.35:.4f}"
    return Measured(found.value, note)


@row("conduct.coverage_exact", unit="share", bar="0.9462 .. 0.9538")
def coverage_exact() -> Measured:
    """Exact 95 % intervals that hold 0.35 sd."""
    looks = ends(MEANS, 0.35)[1]
    return _share((looks["lower"] <= 0.35) & (looks["upper"] >= 0.35))


@row("conduct.coverage_repeated", unit="share", bar=">= 0.9462")
def coverage_repeated() -> Measured:
    """Repeated confidence intervals that hold 0.35 sd: conservative."""
    looks = ends(MEANS, 0.35)[1]
    return _share((looks["repeated_lower"] <= 0.35) & (looks["repeated_upper"] >= 0.35))


@row("conduct.looks_per_second", unit="trials/s", bar=">= 500")
def speed() -> Measured:
    """240 subjects, log-rank at three numbers of deaths with exact inference, CPU time of one core."""
    ends(TIMES, 0.1, 200)
    _, looks, seconds = ends(TIMES, 0.1, 10_000)
    return Measured(looks["look"].size / seconds, "looks, decisions, exact inference, final analyses of 3 estimands")
