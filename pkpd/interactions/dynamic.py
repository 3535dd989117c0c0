"""The dynamic model: enzyme turnover under perpetrators, and a victim through gut wall and well-stirred liver.

Per enzyme and site (liver, gut), E' = kdeg (1 + sum Emax I/(EC50 + I)) - (kdeg + sum kinact I/(KI + I)) E, activity
A = E/(1 + sum I/Ki) (Rowland Yeo et al., Eur J Pharm Sci 2011;43:160; concentrations as in ICH M12). It is linear in
E: each
step of the grid is solved exactly for the concentrations at its middle. The victim: intrinsic clearance of the liver
R = 1 + sum fm (A - 1), well-stirred liver F_h = 1/(1 + x R), CL_h = Q x R/(1 + x R) with x = E_h/(1 - E_h), gut wall
F_g = 1/(1 + y A) with y = (1 - F_g)/F_g, one compartment, first-order absorption, again exact in each step.

One batch, many rows: a schedule is a grid of times, a track an enzyme under the perpetrators of a schedule, a row a
victim under a
schedule, a link what a track means to a row. The last axis is the draw: gradients by differences, draws and pairs are
all
rows and draws of the same arrays. Without interaction every ratio is exactly 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "Outcome", "Quantities", "Tracks", "activities", "solve"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Index = NDArray[np.int64]
SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """schedule (T,); inlet, gut (3, K, M, T): concentration [uM] in the middle of steps, log c = a + b z + c z^2 with
    z the
    log factor of half-lives; constants (M, T), entity M.
    """

    schedule: Index
    inlet: Floats
    gut: Floats
    ki: Floats
    kinact: Floats
    ki_inactivation: Floats
    emax: Floats
    ec50: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """step (K, S) [h]; rows (R,): schedule, oral, ka, half_life, renal; dose (K, R) at the step's start; windows (K,
    R) of treatment
    and control, endless (2, R); begin: first step of any victim; links: (rows, tracks, links), each row at most once
    in each."""

    step: Floats
    tracks: Tracks
    schedule: Index
    dose: Floats
    windows: tuple[Flags, Flags]
    endless: Flags
    oral: Flags
    ka: Floats
    half_life: Floats
    renal: Floats
    begin: int
    links: tuple[tuple[Index, Index, Index], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """What the parameters say under each draw D. longer (M, T, D): log factor of half-lives. potency_liver,
    potency_gut, emax (M, T, D): of concentrations and
    Emax;
    kdeg_liver, kdeg_gut (T, D) [1/h]; fm, wall (L, D): share of a link's track in the row's liver and gut wall; fg,
    extraction, speed (R, D): speed of the liver's elimination relative to that of the half-life (genotype)."""

    potency_liver: Floats
    potency_gut: Floats
    emax: Floats
    longer: Floats
    kdeg_liver: Floats
    kdeg_gut: Floats
    fm: Floats
    wall: Floats
    fg: Floats
    extraction: Floats
    speed: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Ratios (R, D) of AUC and Cmax; shares of the log AUC ratio are not split here."""

    auc: Floats
    cmax: Floats


def solve(batch: Batch, q: Quantities) -> Outcome:
    """AUC and Cmax ratios of every row under every draw."""
    treated, alone = _victim(batch, q, activities(batch, q)), _victim(batch, q, None)
    return Outcome(auc=treated[0] / alone[0], cmax=treated[1] / alone[1])


def activities(batch: Batch, q: Quantities) -> tuple[Floats, Floats]:
    """Activity of every track in liver and gut wall in the middle of the steps from `begin` on, (K - begin, T, D)
    each; 1 without perpetrators."""
    tracks = batch.tracks
    liver = _activity(batch, (tracks.inlet, q.potency_liver, q.kdeg_liver), q)
    return liver, _activity(batch, (tracks.gut, q.potency_gut, q.kdeg_gut), q)


def _activity(batch: Batch, site: tuple[Floats, Floats, Floats], q: Quantities) -> Floats:
    """Activity in the middle of the victims' steps (K - begin, T, D); exactly 1 without perpetrators."""
    (seen, scale, kdeg), tracks = site, batch.tracks
    reversible, turned, induced = _acting(tracks.ki, np.inf), _acting(tracks.kinact, 0.0), _acting(tracks.emax, 0.0)
    enzyme, kept = np.ones_like(kdeg), np.empty((batch.step.shape[0] - batch.begin, *kdeg.shape))
    steps = batch.step[:, tracks.schedule, None]
    for k in range(0 if turned or induced else batch.begin, batch.step.shape[0]):  # else the enzyme stays at 1
        level, first, second = seen[:, k, :, :, None]
        free = np.exp(level + q.longer * (first + q.longer * second)) * scale
        loss, make = kdeg, kdeg
        for m in turned:
            loss = loss + tracks.kinact[m][:, None] * free[m] / (tracks.ki_inactivation[m][:, None] + free[m])
        for m in induced:
            make = make + kdeg * q.emax[m] * (tracks.emax[m][:, None] * free[m] / (tracks.ec50[m][:, None] + free[m]))
        rest = make / loss
        ahead = rest + (enzyme - rest) * np.exp(-loss * steps[k])
        if k >= batch.begin:
            held = np.ones_like(kdeg)
            for m in reversible:
                held += free[m] / tracks.ki[m][:, None]
            kept[k - batch.begin] = 0.5 * (enzyme + ahead) / held
        enzyme = ahead
    return kept


def _acting(constant: Floats, absent: float) -> list[int]:
    return [m for m in range(constant.shape[0]) if bool((constant[m] != absent).any())]


def _victim(batch: Batch, q: Quantities, activity: tuple[Floats, Floats] | None) -> tuple[Floats, Floats]:
    """AUC over the window and Cmax (R, D); activity None: without perpetrators, over the control's window."""
    x, y = q.extraction / (1.0 - q.extraction), (1.0 - q.fg) / q.fg
    total = math.log(2) / batch.half_life[:, None] * q.speed
    full, oral, ka, liver = x / (1.0 + x), batch.oral[:, None], batch.ka[:, None], 1.0 - batch.renal[:, None]
    renal = batch.renal[:, None] / np.where(np.abs(q.speed - 1.0) < SAME, 1.0, q.speed)  # the kidney has no genotype
    depot, body, area, peak = (np.zeros_like(q.fg) for _ in range(4))
    window, endless = batch.windows[activity is None], batch.endless[int(activity is None)]
    rate, steps = total, batch.step[:, batch.schedule, None]
    for k in range(batch.begin, batch.step.shape[0]):
        r, wall = np.ones_like(q.fg), np.ones_like(q.fg)
        for rows, tracks, links in batch.links if activity is not None else ():
            assert activity is not None
            r[rows] += q.fm[links] * (activity[0][k - batch.begin, tracks] - 1.0)
            wall[rows] += q.wall[links] * (activity[1][k - batch.begin, tracks] - 1.0)
        h, flow = steps[k], 1.0 + x * r
        rate = total * (renal + liver * (x * r / flow / full))
        dose = batch.dose[k][:, None]
        depot, body = depot + dose * oral, body + dose * ~oral
        left = depot * np.exp(-ka * h)
        enter = (depot - left) / ((1.0 + y * wall) * flow)
        spent = rate * h
        lost = -np.expm1(-spent)
        after = body * (1.0 - lost) + enter * np.where(spent > 0, lost / np.where(spent > 0, spent, 1.0), 1.0)
        inside = window[k][:, None]
        area += inside * ((body - after + enter) / rate)
        peak = np.where(inside, np.maximum(np.maximum(peak, body), after), peak)
        depot, body = left, after
    return area + endless[:, None] * ((body + depot / ((1.0 + y) * (1.0 + x))) / rate), peak
