"""A simulated trial replayed subject by subject by an independent path.

Witness: plain NumPy written here from the texts of `examples/theophylline_copd` (superposition of single doses, mass
balance for areas, a fine grid for peaks, hazards crossed by hand), fed with the recorded covariates, draws and the
random numbers of the addresses documented in `pkpd.ground.streams`. None of the solver, the model parser or `trials` is
used for the expected values; one test compares them with the risk the model's text itself states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2, multivariate_t
from scipy.stats import t as student

from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.model.equations import evaluate
from pkpd.model.spec import Model
from trials.dispatch import Mode
from trials.record import RunRecord
from trials.run import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "theophylline_copd"
SEED, REPLICATES, SUBJECTS = 20261121, 12, 300
STOP_GRADE = 2  # here; in the demo 3, which few subjects reach
FACTOR = 20  # of the hazard of leaving once stopped; in the demo 2
TYPICAL = {
    "EC50": 11, "EMAX": 0.20, "KA": 0.25, "CL": 2.765, "V": 31.79, "FSMOKE": 1.58, "FEX": 1.28, "BASE": 1.25,
    "PLAC": 0, "T12": 2016, "NP0": 0.03, "NC50": 25, "NW": 4, "VP0": 0.02, "VC50": 28, "VW": 4, "TP0": 0.02,
    "TC50": 28, "TW": 4, "G2": -0.8, "G3": -3.5, "GS": 0.10, "CREF": 15,
}  # fmt: skip
SE = {
    "EC50": 0.20, "EMAX": 0.06, "KA": 0.10, "CL": 0.090, "V": 0.053, "FSMOKE": 0.12, "FEX": 0.10, "PLAC": 0.02,
    "NP0": 0.4, "NC50": 0.10, "NW": 0.15, "VP0": 0.4, "VC50": 0.10, "VW": 0.15, "TP0": 0.4, "TC50": 0.12, "TW": 0.15,
    "G2": 0.3, "G3": 0.3, "GS": 0.03,
}  # fmt: skip
IIV = {
    "EC50": 0.3, "EMAX": 0.05, "KA": 0.2, "CL": 0.291, "V": 0.147, "BASE": 0.38, "PLAC": 0.10, "NC50": 0.2,
    "VC50": 0.2, "TC50": 0.2,
}  # fmt: skip
ON_OWN_SCALE, ON_LOGIT = {"EMAX", "PLAC", "G2", "G3", "GS"}, {"NP0", "VP0", "TP0"}
EVENTS = {"nausea": "N", "vomiting": "V", "tachycardia": "T"}
DAYS, JITTER, MISSED = np.array([0.0, 14, 28, 56, 84]), np.array([0.0, 2, 0, 3, 0]), np.array([0.0, 0, 0, 0, 0.1])
VISITS = ("baseline", "week2", "week4", "week8", "week12")
KNOTS = 12.0 * np.arange(169)
NEVER = np.inf


def _amounts() -> np.ndarray:
    """Planned dose at 0, 12, ... 2004 h by arm, mg: the titration of the demo."""
    day = KNOTS[:-1] / 24
    plan = [np.zeros(168)]
    plan += [np.where(day < 3, 200.0, np.where(day < 6, min(300.0, top), top)) for top in (200.0, 300.0, 400.0, 600.0)]
    return np.array(plan)


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def _expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _moved(name: str, value: np.ndarray, shift: np.ndarray) -> np.ndarray:
    if name in ON_OWN_SCALE:
        return value + shift
    return _expit(_logit(value) + shift) if name in ON_LOGIT else value * np.exp(shift)


def _slot(name: str) -> int:
    """The slot of a name: BLAKE2b of four bytes, little-endian."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")


def _typical(draw: np.ndarray) -> dict[str, np.ndarray]:
    """Population parameters of each row's draw, from the published values and their standard errors."""
    found = {}
    for name, value in TYPICAL.items():
        z = normals(SEED, Purpose.PARAMETER_UNCERTAINTY, subject=draw, replicate=0, slot=_slot(name))
        found[name] = _moved(name, np.float64(value), SE[name] * z) if name in SE else np.full(z.shape, float(value))
    return found


def _individual(table: pd.DataFrame, typical: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every subject's own parameters."""
    own = dict(typical)
    for name, sd in IIV.items():
        z = normals(SEED, Purpose.IIV, subject=_u4(table.subject), replicate=_u4(table.replicate), slot=_slot(name))
        own[name] = _moved(name, typical[name], sd * z)
    smoking = table.SMOKING.to_numpy()
    factor = np.select([smoking == 1, smoking == 2], [typical["FEX"], typical["FSMOKE"]], 1.0)
    own["CL"] = own["CL"] * (table.WT.to_numpy() / 70) ** 0.75 * factor
    own["V"] = own["V"] * table.WT.to_numpy() / 70
    return own


def _u4(values: object) -> np.ndarray:
    return np.asarray(values, np.uint32)


def _taken(table: pd.DataFrame) -> np.ndarray:
    """Two-state Markov chain of missed doses, (n, 168)."""
    chance, found = np.full(len(table), 0.05 / (1 + 0.05 - 0.4)), np.empty((len(table), 168), bool)
    for dose in range(168):
        u = uniforms(SEED, Purpose.ADHERENCE, subject=_u4(table.subject), replicate=_u4(table.replicate), index=dose)
        found[:, dose] = u >= chance
        chance = np.where(found[:, dose], 0.05, 0.4)
    return found


def _visit_times(table: pd.DataFrame) -> np.ndarray:
    u = uniforms(
        SEED, Purpose.VISIT_TIME, subject=_u4(table.subject)[:, None], replicate=_u4(table.replicate)[:, None],
        index=np.arange(5),
    )  # fmt: skip
    return 24 * (DAYS + JITTER * (2 * u - 1))


def _after(own: Mapping[str, np.ndarray], time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amounts in depot and central `time` h after a unit dose into the depot."""
    ka, ke = own["KA"][:, None], (own["CL"] / own["V"])[:, None]
    depot = np.exp(-ka * time)
    return depot, ka / (ka - ke) * (np.exp(-ke * time) - depot)


def _superposed(own: Mapping[str, np.ndarray], given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Amounts just after each dose time, (n, 169) each: the sum over all earlier doses."""
    unit_depot, unit_central = _after(own, KNOTS)
    depot, central = np.zeros_like(unit_depot), np.zeros_like(unit_central)
    for dose in range(168):
        depot[:, dose:] += given[:, dose, None] * unit_depot[:, : 169 - dose]
        central[:, dose:] += given[:, dose, None] * unit_central[:, : 169 - dose]
    return depot, central


def _exposure(own: Mapping[str, np.ndarray], given: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """CAV, CMAX over the 7 days before each visit, CP at it (before the dose of that time)."""
    depot, central = _superposed(own, given)
    rows, ke = np.arange(len(given)), own["CL"] / own["V"]

    def at(knot: np.ndarray, later: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unit_depot, unit_central = _after(own, later)
        a, c = depot[rows, knot][:, None], central[rows, knot][:, None]
        return a * unit_depot, a * unit_central + c * np.exp(-ke[:, None] * later)

    found = {name: np.zeros(times.shape) for name in ("CAV", "CMAX", "CP")}
    for visit in range(1, times.shape[1]):
        hi, lo = times[:, visit], np.maximum(times[:, visit] - 168, 0)
        last = np.ceil(hi / 12).astype(int) - 1  # the last dose strictly before the visit
        found["CP"][:, visit] = (at(last, (hi - KNOTS[last])[:, None])[1])[:, 0] / own["V"]
        first = np.floor(lo / 12).astype(int)
        body = [sum(at(k, (x - KNOTS[k])[:, None])) for k, x in ((first, lo), (last, hi))]
        inside = (KNOTS[:-1] > lo[:, None]) & (KNOTS[:-1] < hi[:, None])
        eliminated = (given * inside).sum(axis=1) + body[0][:, 0] - body[1][:, 0]
        found["CAV"][:, visit] = eliminated / own["CL"] / (hi - lo)
        peak = np.zeros(len(given))
        for step in range(15):
            knot = np.minimum(first + step, last)
            left, right = np.maximum(KNOTS[knot], lo), np.minimum(KNOTS[knot] + 12, hi)
            grid = (left - KNOTS[knot])[:, None] + (right - left)[:, None] * np.linspace(0, 1, 181)
            peak = np.maximum(peak, _highest(at(knot, grid)[1]) / own["V"])
        found["CMAX"][:, visit] = peak
    return found


def _highest(curve: np.ndarray) -> np.ndarray:
    """Greatest value of each row (n, T): on the grid, or of the parabola through the three points around it."""
    top = curve.argmax(axis=1)
    rows, middle = np.arange(len(curve)), np.clip(top, 1, curve.shape[1] - 2)
    left, here, right = (curve[rows, middle + step] for step in (-1, 0, 1))
    bend = 2 * here - left - right
    vertex = here + (right - left) ** 2 / np.where(bend > 0, 8 * bend, np.inf)
    return np.where((top == middle) & (bend > 0), vertex, curve[rows, top])


def _picked(own: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: value[rows] for name, value in own.items()}


def _crossed(start: np.ndarray, unit: np.ndarray, rates: tuple[object, object], change: np.ndarray) -> np.ndarray:
    """When a hazard, `before` until `change` and `after` from then on, has used up the exponential `unit`."""
    before, after = rates
    early = start + unit / before
    soon = np.where(np.isfinite(change), change, start)  # where nothing changes, `late` is not used
    late = soon + (unit - before * (soon - start)) / after
    return np.where((early <= change) | ~np.isfinite(change), early, late)


def _replayed(table: pd.DataFrame) -> SimpleNamespace:
    """Everything that happens to every row of the outcome table, and the cumulative hazards it happened under."""
    n, who = len(table), {"subject": _u4(table.subject), "replicate": _u4(table.replicate)}
    own, times, taken = _individual(table, _typical(table.draw.to_numpy())), _visit_times(table), _taken(table)
    planned = _amounts()[table.arm.to_numpy()] * taken
    level, stop = _exposure(own, planned, times), np.full(n, NEVER)
    onset = {name: np.full(n, NEVER) for name in EVENTS}
    grade = {name: np.zeros(n, int) for name in EVENTS}
    spells: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []

    def hazards(visit: int) -> dict[str, np.ndarray]:
        found = {}
        for name, k in EVENTS.items():
            p0, c50, w = own[f"{k}P0"], own[f"{k}C50"], own[f"{k}W"]
            found[name] = -np.log1p(-(p0 + (1 - p0) * _expit((level["CMAX"][:, visit] - c50) / w))) / 2016
        return found

    def graded(visit: int, name: str) -> np.ndarray:
        u = uniforms(SEED, Purpose.EVENT_GRADE, **who, index=visit, slot=_slot(name))
        shift = own["GS"] * (level["CMAX"][:, visit] - own["CREF"])
        two = _expit(own["G2"] + shift)
        return 1 + (u < two) + (u < two * _expit(own["G3"] - own["G2"] + shift))

    for visit in range(1, 5):
        start, end, before = times[:, visit - 1], times[:, visit], hazards(visit)
        units = {name: -np.log(uniforms(SEED, Purpose.EVENT, **who, index=visit, slot=_slot(name))) for name in EVENTS}
        on, bad = ~np.isfinite(stop), np.full(n, NEVER)
        for name in EVENTS:
            when = start + units[name] / before[name]
            counts = (when <= end) & ~np.isfinite(onset[name]) & (graded(visit, name) >= STOP_GRADE) & on
            bad = np.where(counts, np.minimum(bad, when), bad)
        early = {name: graded(visit, name) for name in EVENTS}
        new = np.flatnonzero(np.isfinite(bad))
        stop[new] = bad[new]
        if new.size:
            given = planned[new] * (KNOTS[:-1] < stop[new, None])
            again = _exposure(_picked(own, new), given, times[new])
            for name, value in again.items():
                level[name][new] = value
        after, late = hazards(visit), {name: graded(visit, name) for name in EVENTS}
        for name in EVENTS:
            waiting = ~np.isfinite(onset[name])
            when = _crossed(start, units[name], (before[name], after[name]), bad)
            hit = waiting & (when <= end)
            onset[name] = np.where(hit, when, onset[name])
            grade[name] = np.where(hit, np.where(when > bad, late[name], early[name]), grade[name])
            spells.append(
                (name, start, np.where(waiting, np.minimum(end, when), start), (before[name], bad, after[name]))
            )
    unit = -np.log(uniforms(SEED, Purpose.DROPOUT, **who))
    leave = _crossed(np.zeros(n), unit, (np.full(n, 0.0008 / 24), FACTOR * 0.0008 / 24), stop)
    missed = uniforms(SEED, Purpose.MISSED_VISIT, subject=who["subject"][:, None], replicate=who["replicate"][:, None],
                      index=np.arange(5)) < MISSED  # fmt: skip
    response = own["EMAX"][:, None] * level["CAV"] / (own["EC50"][:, None] + level["CAV"])
    fev1 = own["BASE"][:, None] + own["PLAC"][:, None] * times / 2016 + response
    return SimpleNamespace(
        own=own, times=times, taken=taken, planned=planned, level=level, stop=stop, onset=onset, grade=grade, leave=leave,
        unseen=(times > leave[:, None]) | missed, fev1=fev1, spells=spells,
    )  # fmt: skip


def _texts(folder: Path, *changes: tuple[str, str]) -> Path:
    """The demo's texts, published parameters, no dosing rules, with visit windows and a visit that may be missed.

    The witness of rules is tests/trials/test_rules.py.
    """
    folder.mkdir(exist_ok=True)
    lines = (EXAMPLE / "protocol.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("    rules: "))
    changes = (
        ("  parameters: {fit: theophylline, data: theophylline.csv, take: [CL, V]}", "  #"),
        ("stopped: {after: grade 3, from: 14 d}", "stopped: {after: grade 2}"),
        ("factor_after_stop: 2}", "factor_after_stop: 20}"),
        ("week2: {day: 14}", "week2: {day: 14, window: 2}"),
        ("week12: {day: 84}", "week12: {day: 84, missed: 0.1}"),
        ("week8: {day: 56}", "week8: {day: 56, window: 3}"),
        ("sensitivity:\n  michaelis_menten: {model: {file: model_mm.yaml}, replicates: 20}", ""),
        *changes,
    )
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "protocol.yaml").write_text(text, encoding="utf-8")
    (folder / "model.yaml").write_bytes((EXAMPLE / "model.yaml").read_bytes())
    return folder / "protocol.yaml"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("replay")
    path = _texts(folder / "texts", ("keep: {curves: 50}", "truth: {replicates: 1}"))
    return run(path, folder / "run", mode=Mode.choose(serial=True), replicates=REPLICATES)


@pytest.fixture(scope="module")
def table(record: RunRecord) -> pd.DataFrame:
    return record.outcomes


@pytest.fixture(scope="module")
def replay(table: pd.DataFrame) -> SimpleNamespace:
    return _replayed(table)


def _close(found: object, expected: np.ndarray, rtol: float, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=rtol, atol=atol)


def test_population_draws_are_the_published_values_with_their_standard_errors(record, table):
    """One draw per replicate; the recorded draws are those of the text, recomputed by hand."""
    assert (table.groupby("replicate").draw.nunique() == 1).all()
    assert table.draw.nunique() > 1
    expected = _typical(np.arange(1000))
    for column, name in enumerate(record.draws.names):
        _close(record.draws.typical[:, column], expected[name], 1e-12, 1e-15)
    assert record.draws.names == tuple(TYPICAL)
    assert record.draws.eta_names == tuple(IIV)


def test_median_run_is_at_the_median_of_every_draw(record):
    """Power at the posterior median: one draw, the median of each parameter."""
    median = record.median
    assert median is not None
    assert (median.outcomes.draw == 0).all()
    _close(median.draws.typical[0], np.median(record.draws.typical, axis=0), 0)
    table, own = median.outcomes, None
    typical = {name: np.full(len(table), median.draws.typical[0, k]) for k, name in enumerate(TYPICAL)}
    own = _individual(table, typical)
    _close(table["FEV1.true@baseline"], own["BASE"], 1e-12)


def test_levels_and_responses_at_every_visit(table, replay):
    """Superposition: average by mass balance 1e-6, peak by grid 1e-5, FEV1 1e-6; stopped subjects included."""
    assert np.isfinite(replay.stop).sum() > 100
    for number, visit in enumerate(VISITS):
        _close(table[f"CAV@{visit}"], replay.level["CAV"][:, number], 1e-6, 1e-7)  # balance cancels
        _close(table[f"CP.true@{visit}"], replay.level["CP"][:, number], 1e-6, 1e-9)
        _close(table[f"CMAX@{visit}"], replay.level["CMAX"][:, number], 1e-5, 1e-9)
        _close(table[f"FEV1.true@{visit}"], replay.fev1[:, number], 1e-6)
        if number:
            assert (table[f"CAV@{visit}"][table.arm > 0] > 0).mean() > 0.9
    assert (table["CAV@baseline"] == 0).all()


def test_measured_values_are_the_truth_plus_error_where_the_subject_was_seen(table, replay):
    """FEV1 +- 0.10 L, CP with 0.318 mg/L and 12.8 %; nothing after leaving or at a missed visit."""
    who = {"subject": _u4(table.subject), "replicate": _u4(table.replicate)}
    for number, visit in enumerate(VISITS):
        unseen = replay.unseen[:, number]
        cp, fev1 = replay.level["CP"][:, number], replay.fev1[:, number]
        for name, true, sd in (("CP", cp, np.hypot(0.318, 0.128 * cp)), ("FEV1", fev1, 0.10)):
            z = normals(SEED, Purpose.RESIDUAL, **who, index=number, slot=_slot(name))
            _close(table[f"{name}@{visit}"], np.where(unseen, np.nan, true + sd * z), 1e-6, 1e-8)
    assert 0 < replay.unseen[:, 1].sum() < replay.unseen[:, 4].sum()


def test_events_stopping_and_leaving(table, replay):
    """Day and grade of every first event, day treatment ended, day of leaving."""

    def days(hours: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(hours), hours / 24, np.nan)

    for name in EVENTS:
        seen = replay.onset[name] <= replay.leave
        _close(table[f"{name}.day"], days(np.where(seen, replay.onset[name], NEVER)), 1e-5)
        assert np.array_equal(table[f"{name}.grade"], np.where(seen, replay.grade[name], 0))
    _close(table["stopped.day"], days(np.where(replay.stop <= replay.leave, replay.stop, NEVER)), 1e-5)
    _close(table["dropout.day"], days(np.where(replay.leave < replay.times[:, -1], replay.leave, NEVER)), 1e-5)
    worst = np.max([table[f"{name}.grade"] for name in EVENTS], axis=0)
    assert np.array_equal(worst >= STOP_GRADE, table["stopped.day"].notna())


def _cumulative(spell: tuple, until: np.ndarray) -> np.ndarray:
    _, start, end, (before, change, after) = spell
    end = np.maximum(np.minimum(end, until), start)
    first = np.minimum(end, np.maximum(change, start))
    return before * (first - start) + after * (end - first)


def test_event_counts_agree_with_their_risks(table, replay):
    """Counts less cumulative hazards are martingales: within 4 standard errors, overall and in every arm."""
    for name in EVENTS:
        total = sum(_cumulative(spell, replay.leave) for spell in replay.spells if spell[0] == name)
        for arm in range(-1, 5):
            rows = np.ones(len(table), bool) if arm < 0 else (table.arm == arm).to_numpy()
            count, expected = table[f"{name}.day"].notna()[rows].sum(), total[rows].sum()
            assert abs(count - expected) < 4 * np.sqrt(expected), (name, arm, count, expected)


def test_an_undisturbed_subject_has_the_risk_the_model_states(table, replay):
    """Interval risk 1 - (1 - p)^(d / 84 d), p with the peak at the interval's end: the placebo risk over 84 days is NP0."""
    placebo = (table.arm == 0).to_numpy()
    total = sum(_cumulative(s, np.full(len(table), NEVER)) for s in replay.spells if s[0] == "nausea")
    free = placebo & ~np.isfinite(replay.onset["nausea"])
    p0 = replay.own["NP0"] + (1 - replay.own["NP0"]) * _expit(-replay.own["NC50"] / replay.own["NW"])
    assert free.sum() > 300
    _close(1 - np.exp(-total[free]), p0[free], 1e-12)
    told = Model.read(EXAMPLE / "model.yaml").response["P_NAUSEA"]
    known = {name: replay.own[name][free] for name in ("NP0", "NC50", "NW")} | {"CMAX": np.zeros(free.sum())}
    _close(evaluate(told, known), p0[free], 1e-12)
    at_rest = table["nausea.day"][placebo].notna().to_numpy()
    spent = sum(_cumulative(s, replay.leave) for s in replay.spells if s[0] == "nausea")[placebo]
    assert abs(at_rest.sum() - spent.sum()) < 4 * np.sqrt(spent.sum())
    assert 0 < at_rest.mean() < p0[placebo].mean() + 4 * np.sqrt(p0[placebo].mean() / placebo.sum())


def test_leaving_doses_and_allocation_follow_the_protocol(table, replay):
    """Dropout hazard 0.0008 a day, 20 times that after stopping; doses missed; arms balanced in every stratum."""
    horizon, stop = replay.times[:, -1], np.minimum(replay.stop, replay.times[:, -1])
    seen = np.minimum(replay.leave, horizon)
    expected = 0.0008 / 24 * (seen + (FACTOR - 1) * np.maximum(seen - stop, 0)).sum()
    assert abs(table["dropout.day"].notna().sum() - expected) < 4 * np.sqrt(expected)
    before, now = replay.taken[:, :-1].reshape(-1), replay.taken[:, 1:].reshape(-1)
    for state, chance in ((True, 0.05), (False, 0.40)):
        sd = np.sqrt(chance * (1 - chance) / (before == state).sum())
        assert abs((~now[before == state]).mean() - chance) < 4 * sd
    assert abs((~replay.taken).mean() - 0.05 / 0.65) < 0.002
    counts = table.groupby(["replicate", "SMOKING", "arm"]).size().unstack("arm", fill_value=0)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 2  # the last block of 10 may be incomplete
    assert counts.to_numpy().sum() == REPLICATES * SUBJECTS


def test_treatment_that_ended_gives_no_later_dose_and_the_subject_stays(table, replay):
    """Stopped by day 40: nothing left in week 12, yet its FEV1 is observed and analysed (treatment policy)."""
    dosed = (table.arm > 0).to_numpy()
    early = (table["stopped.day"] < 40).to_numpy() & (replay.leave > replay.times[:, -1]) & dosed
    assert early.sum() > 20
    assert (table["CAV@week2"][early & (table["stopped.day"] > 20).to_numpy()] > 1).all()
    assert (table["CAV@week12"][early] < 1e-3).all()
    assert np.array_equal(table["FEV1@week12"][early].isna(), replay.unseen[early, -1])
    assert table["FEV1@week12"][early].notna().mean() > 0.8


def _score(found: tuple[int, int, int, int], d: float) -> float:
    """Miettinen-Nurminen score chi-square of a risk difference, restricted maximum likelihood found numerically."""
    x1, n1, x0, n0 = found
    low, high = max(0.0, -d) + 1e-12, min(1.0, 1 - d) - 1e-12

    def slope(p: float) -> float:
        q = p + d
        return x1 / q - (n1 - x1) / (1 - q) + x0 / p - (n0 - x0) / (1 - p)

    p = low if slope(low) <= 0 else high if slope(high) >= 0 else brentq(slope, low, high, xtol=1e-15)
    q, n = p + d, n1 + n0
    variance = (q * (1 - q) / n1 + p * (1 - p) / n0) * n / (n - 1)
    return float((x1 / n1 - x0 / n0 - d) ** 2 / variance)


def test_incidences_and_their_intervals(record, table):
    """Counts by hand from the outcome table; limits where the score chi-square is its 95 % point."""
    safety = record.analyses[record.analyses.analysis == "safety"]
    arms = ("placebo", "t200", "t300", "t400", "t600")
    grades = {name: table[f"{name}.grade"] > 0 for name in EVENTS}
    grades["any_ae"] = np.any([*grades.values()], axis=0)
    assert len(safety) == REPLICATES * 4 * 4
    for row in safety.itertuples():
        event = np.asarray(grades[row.endpoint])
        treated = ((table.replicate == row.replicate) & (table.arm == arms.index(row.contrast))).to_numpy()
        control = ((table.replicate == row.replicate) & (table.arm == 0)).to_numpy()
        found = (event[treated].sum(), treated.sum(), event[control].sum(), control.sum())
        assert found == (row.x_treated, row.n_treated, row.x_control, row.n_control)
        assert row.estimate == pytest.approx(found[0] / found[1] - found[2] / found[3], abs=1e-15)
        assert row.lower < row.estimate < row.upper
        if row.replicate < 2:
            for limit in (row.lower, row.upper):
                assert _score(found, limit) == pytest.approx(chi2.ppf(0.95, 1), rel=1e-6)


def _ols(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    """Arm effects of FEV1 at week 12 given baseline and smoking, their covariance, residual df."""
    smoking, arm = rows.SMOKING.to_numpy(), rows.arm.to_numpy()
    design = np.column_stack(
        [np.ones(len(rows)), rows["FEV1@baseline"], smoking == 1, smoking == 2, *(arm == k for k in range(1, 5))]
    ).astype(float)
    y = (rows["FEV1@week12"] - rows["FEV1@baseline"]).to_numpy()
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ y
    df = len(rows) - design.shape[1]
    return beta[4:], inverse[4:, 4:] * ((y - design @ beta) ** 2).sum() / df, df


def test_ancova_without_missing_values_is_least_squares(tmp_path: Path):
    """Normal equations of the change from baseline; adjusted p by SciPy's multivariate t with the full correlation."""
    path = _texts(
        tmp_path / "texts", ("dropout: {hazard: 0.0008 1/d, factor_after_stop: 20}", "dropout: {hazard: 0 1/d}"),
        ("replicates: 200", "replicates: 2"), (", missed: 0.1", ""), ("keep: {curves: 50}", "truth: {replicates: 0}"),
    )  # fmt: skip
    found = run(path, tmp_path / "run", mode=Mode.choose(serial=True))
    for replicate, rows in found.outcomes.groupby("replicate"):
        beta, covariance, df = _ols(rows)
        se = np.sqrt(np.diag(covariance))
        primary = found.analyses[(found.analyses.analysis == "primary") & (found.analyses.replicate == replicate)]
        _close(primary.estimate, beta, 1e-9, 1e-12)
        _close(primary.se, se, 1e-9)
        assert (primary.df == df).all()
        joint = multivariate_t(np.zeros(4), covariance / np.outer(se, se), df=df, seed=1)
        for effect, error, row in zip(beta, se, primary.itertuples(), strict=True):
            bound = abs(effect / error)
            inside = joint.cdf(np.full(4, bound), lower_limit=np.full(4, -bound), maxpts=200_000)
            assert row.p == pytest.approx(1 - inside, abs=2e-3)
            assert row.p > 2 * student.sf(bound, df)
            assert row.reject == (row.p < 0.05) == (row.lower > 0 or row.upper < 0)


def _filled(rows: pd.DataFrame, *, off: np.ndarray) -> np.ndarray:
    """Arm effects by ANCOVA of week 12 filled with each visit's regression on baseline, smoking, arm, `off` (n, 4 or 0)
    and earlier visits."""
    smoking, arm = rows.SMOKING.to_numpy(), rows.arm.to_numpy()
    base = np.column_stack([np.ones(len(rows)), rows["FEV1@baseline"], smoking == 1, smoking == 2])
    base = np.column_stack([base, *(arm == k for k in range(1, 5))]).astype(float)
    y = rows[[f"FEV1@{visit}" for visit in VISITS[1:]]].to_numpy().copy()
    assert not (np.isnan(y[:, :-2]) & ~np.isnan(y[:, 1:-1])).any()  # only the last visit is missed: monotone
    for visit in range(4):
        design, gone = np.column_stack([base, off[:, visit : visit + 1], y[:, :visit]]), np.isnan(y[:, visit])
        beta = np.linalg.lstsq(design[~gone], y[~gone, visit], rcond=None)[0]
        y[gone, visit] = design[gone] @ beta
    return np.asarray(np.linalg.lstsq(base, y[:, -1], rcond=None)[0][4:])


def test_multiple_imputation_centres_on_sequential_regressions(record, table):
    """With many imputations the estimate is that of data filled with the regressions' means; with 20 it is near, and
    nearer to the one whose regressions know who has stopped treatment.
    """
    primary, away, blind = record.analyses[record.analyses.analysis == "primary"], [], []
    for replicate, rows in table.groupby("replicate"):
        found = primary.estimate[primary.replicate == replicate].to_numpy()
        off = rows["stopped.day"].to_numpy()[:, None] * 24 <= _visit_times(rows)[:, 1:]
        expected = _filled(rows, off=off)
        away.append(found - expected)
        blind.append(_filled(rows, off=off[:, :0]) - expected)
    away, blind = np.ravel(away), np.ravel(blind)
    assert table["FEV1@week12"].isna().mean() > 0.12
    assert 1e-5 < np.abs(away).max() < 0.015
    assert abs(away.mean()) < 0.002
    assert np.sum(away * blind) / np.sum(blind**2) == pytest.approx(0, abs=0.4)  # 1 without treatment status


def test_potential_outcomes_are_the_same_people_under_every_arm(record, table):
    """Truth of replicate 0: everyone in one arm, nobody lost, means over all 300."""
    people = table[table.replicate == 0]
    for code, arm in enumerate(("placebo", "t200", "t300", "t400", "t600")):
        everyone = _replayed(people.assign(arm=code))
        truth = record.truth[record.truth.arm == arm].set_index("endpoint")["mean"]
        assert truth["fev1"] == pytest.approx((everyone.fev1[:, -1] - everyone.fev1[:, 0]).mean(), rel=1e-6, abs=1e-9)
        for name in EVENTS:
            assert truth[name] == pytest.approx(np.isfinite(everyone.onset[name]).mean(), abs=1e-12)
        assert truth["any_ae"] == pytest.approx(
            np.any([np.isfinite(everyone.onset[name]) for name in EVENTS], axis=0).mean(), abs=1e-12
        )
