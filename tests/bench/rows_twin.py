"""The twin: calibration over simulated vancomycin patients, sequential against batch, the cost of a stream."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.ground.streams import Purpose, normals, uniforms
from pkpd.model.library import load
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.variability import individual, point, published, random_effects
from pkpd.physiology import ckd_epi_2021, cockcroft_gault
from pkpd.residual import error_of, observe
from pkpd.twin.fit_checks import Datum, data_checks
from pkpd.twin.forecasting import forecast
from pkpd.twin.likelihood import people
from pkpd.twin.likelihood import solved as particles_solved
from pkpd.twin.sequential import begun, from_prior, updated
from pkpd.twin.twin import Settings, Twins, twins
from populations.covariates import PopulationLaw
from tests.bench.harness import Measured, row

SEEDS = (11, 22, 33, 44, 55)
PATIENTS = 3000
DOSES = 6
SMALL = 100


@dataclass(frozen=True, kw_only=True)
class Ward:
    """Simulated patients: `text` their records (two levels each), the new level at `time`, its value; covariates."""

    text: str
    time: np.ndarray
    new: np.ndarray
    covariates: dict[str, np.ndarray]


@cache
def ward(seed: int, n: int = PATIENTS, levels: int = 2) -> Ward:
    """NHANES adults, creatinine up to fourfold in half of them, 18.5 % on haemodialysis (Goti 2018); 15 mg/kg every 12,
    24 or 48 h by CRCL; levels 1.5 h after the third infusion and 0.5 h before the fourth, the new one at any time
    between the fourth and the last interval's end."""
    law = PopulationLaw.read("nhanes_adults").draw(seed, np.arange(1), np.arange(n))
    x = {name: law[name][0] for name in ("SEX", "AGE", "WT", "SCR")}
    u = uniforms(seed, Purpose.COVARIATES, subject=np.arange(n)[:, None], replicate=1, slot=np.arange(4)[None])
    x["SCR"] = x["SCR"] * np.where(u[:, 0] < 0.5, 1.0 + 3.0 * u[:, 1], 1.0)
    x["EGFR"] = ckd_epi_2021(x["SEX"], x["AGE"], x["SCR"])
    x["CRCL"] = np.clip(cockcroft_gault(x["SEX"], x["AGE"], x["WT"], x["SCR"]), 1.0, 150.0)
    x["DIAL"] = (u[:, 2] < 0.185).astype(float)
    every = np.where(x["CRCL"] > 60, 12.0, np.where(x["CRCL"] > 30, 24.0, 48.0))
    amount = np.minimum(250.0 * np.maximum(np.round(15.0 * x["WT"] / 250.0), 1.0), 3000.0)
    last = amount / 1000.0
    seen = np.column_stack([2 * every + last + 1.5, 3 * every - 0.5])
    if levels > 2:
        seen = np.sort((0.2 + 2.8 * uniforms(seed, Purpose.VISIT_TIME, subject=np.arange(n)[:, None], replicate=1,
                                             index=np.arange(levels)[None])) * every[:, None], axis=1)  # fmt: skip
    new = 3 * every + (DOSES - 3) * every * u[:, 3]
    asked = np.column_stack([seen, new])
    text = _text(x, (amount, every), seen, np.zeros(seen.shape))
    truth = _truth(seed, x, Records.parse(text, model=load("goti_vancomycin")), asked)
    return Ward(text=_text(x, (amount, every), seen, truth[:, :-1]), time=new, new=truth[:, -1], covariates=x)


def _text(x: dict, doses: tuple[np.ndarray, np.ndarray], seen: np.ndarray, values: np.ndarray) -> str:
    amount, every = doses
    lines = ["ID,TIME,AMT,RATE,DV,EVID,CRCL,WT,DIAL"]
    for i in range(len(amount)):
        tail = f"{x['CRCL'][i]!r},{x['WT'][i]!r},{x['DIAL'][i]:g}".replace("np.float64(", "").replace(")", "")
        rows = [(k * every[i], f"{k * every[i]:g},{amount[i]:g},1000,.,1") for k in range(DOSES)]
        rows += [(t, f"{float(t)!r},.,.,{float(y)!r},0") for t, y in zip(seen[i], values[i], strict=True)]
        lines += [f"{i},{cells},{tail}" for _, cells in sorted(rows)]
    return "\n".join(lines)


def _truth(seed: int, x: dict, records: Records, asked: np.ndarray) -> np.ndarray:
    """Measured levels of patients drawn from the model, by address."""
    model, who = load("goti_vancomycin"), np.arange(len(asked))
    one = point(model)
    live = np.linalg.cholesky(one.omega + 1e-300 * np.eye(one.omega.shape[1]))
    z = random_effects(model, seed, subject=who, replicate=np.asarray([0]))[:, :, 0]
    covariates = {name: x[name][None] for name in ("CRCL", "WT", "DIAL")}
    parameters = individual(model, one.typical, live, covariates, z=np.ascontiguousarray(z))[0]
    found = solve(compiled(model), parameters, records.doses, asked)
    assert not found.status.any()
    noise = normals(seed, Purpose.RESIDUAL, subject=who[:, None], replicate=0, index=np.arange(asked.shape[1])[None])
    return observe(error_of(model, one, "CP"), found.values[:, 0], noise)


@cache
def calibrated(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, Twins]:
    """Whether each patient's 90 % interval covers the new level, its width, the same of the MAP, CPU ms a patient."""
    data, model = ward(seed), load("goti_vancomycin")
    start = time.process_time()
    found = twins(model, Records.parse(data.text, model=model), published(model, 200, seed), seed=seed)
    ahead = forecast(found, data.time[:, None], levels=(0.05, 0.5, 0.95))
    spent = 1e3 * (time.process_time() - start) / len(found)
    low, high = ahead.measured[:, 0, 0], ahead.measured[:, 2, 0]
    inside = (data.new >= low) & (data.new <= high)
    return inside, high - low, _plugged(found, data), spent, found


def _plugged(found: Twins, data: Ward) -> np.ndarray:
    """Coverage of f(MAP) +- 1.645 sd: what a twin that plugs in the mode promises as 90 %."""
    case, n = found.case, len(found)
    draw = np.full(n, case.number)
    z = case.coordinates.effects(draw, found.mode.x)[0]
    folk = people(case, np.arange(n), draw, z)
    f = particles_solved(case, folk, data.time[:, None]).values[:, 0, 0]
    half = observe(error_of(case.model, point(case.model), "CP"), f, np.full(n, 1.6448536)) - f
    return np.abs(data.new - f) <= half


@row("twin.coverage", unit="coverage farthest from 0.90 of 5 seeds", bar="0.88 .. 0.92")
def coverage() -> Measured:
    made = [calibrated(seed) for seed in SEEDS]
    shares = [float(m[0].mean()) for m in made]
    worst = max(shares, key=lambda share: abs(share - 0.9))
    widths, plugged = [float(np.median(m[1])) for m in made], [float(m[2].mean()) for m in made]
    methods = sum(np.bincount(m[4].method, minlength=6) for m in made)
    note = (
        f"{PATIENTS} vancomycin patients, 2 levels, seeds {SEEDS}: {', '.join(f'{s:.4f}' for s in shares)}; median "
        f"width {np.mean(widths):.2f} mg/L; MAP plug-in covers {', '.join(f'{s:.4f}' for s in plugged)}; methods "
        f"{methods.tolist()} (importance, refitted, tempering, NUTS, resample-move, failed); worst k "
        f"{max(float(m[4].k.max()) for m in made):.2f}, least ESS {min(float(m[4].ess.min()) for m in made):.0f}"
    )
    return Measured(worst, note)


@row("twin.cpu", unit="CPU ms a patient", bar="<= 60")
def cpu() -> Measured:
    calibrated(SEEDS[0])
    spent = [calibrated(seed)[3] for seed in SEEDS[1:]]
    model = load("goti_vancomycin")
    head, *lines = ward(SEEDS[0]).text.split("\n")
    one = Records.parse("\n".join([head, *(line for line in lines if line.startswith("0,"))]), model=model)
    start = time.process_time()
    for _ in range(5):
        forecast(twins(model, one, published(model, 200, 1)), np.linspace(0.0, 96.0, 200))
    alone = 1e3 * (time.process_time() - start) / 5
    return Measured(
        max(spent), f"reading, posterior, forecast; worst of 4 warm seeds; a patient alone, 200 points: {alone:.0f}"
    )


@row("twin.flags", unit="share of good data flagged at p < 0.01", bar="<= 0.03")
def flags() -> Measured:
    """Good data of the first 400 patients of a ward; then the second level five times too high."""
    model = load("goti_vancomycin")
    head, *lines = ward(SEEDS[0]).text.split("\n")
    lines = [line for line in lines if int(line.split(",", 1)[0]) < 400]
    found = _flagged(model, "\n".join([head, *lines]))
    wrong, seen = [], set()
    for line in reversed(lines):
        cells = line.split(",")
        if cells[5] == "0" and cells[0] not in seen:
            seen.add(cells[0])
            cells[4] = repr(5.0 * float(cells[4]))
        wrong.append(",".join(cells))
    caught = _flagged(model, "\n".join([head, *reversed(wrong)]))
    share, power = (
        np.mean([any(d.unlikely for d in p) for p in caught]),
        np.mean([any(d.contradicts for d in p) for p in caught]),
    )
    data = [d for patient in found for d in patient]
    by_others = np.mean([d.p_others < 0.01 for d in data])
    stopped = np.mean([any(d.contradicts for d in p) for p in found])
    note = (
        f"{len(data)} data; by the others alone {by_others:.4f}; patients refused {stopped:.4f}; second level five times too "
        f"high: flagged {share:.2f}, refused {power:.2f}"
    )
    return Measured(float(np.mean([d.unlikely for d in data])), note)


def _flagged(model: Model, text: str) -> list[tuple[Datum, ...]]:
    found = twins(model, Records.parse(text, model=model), point(model), settings=Settings(nuts=False))
    return [data_checks(found, i) for i in range(len(found))]


@row("twin.coverage_uncertain", unit="coverage of 90 % intervals, population uncertain", bar="0.88 .. 0.92")
def coverage_uncertain() -> Measured:
    """Every patient has a population of its own, drawn from the uncertainty that the twin is given."""
    shares = np.asarray([_uncertain(seed, 1500) for seed in (66, 67, 68, 69)])
    each = ", ".join(f"{share:.4f}" for share in shares[:, 0])
    note = f"4 x 1,500 patients, se {SPREAD}: {each}; with the uncertainty left out {shares[:, 1].mean():.4f}"
    return Measured(float(shares[:, 0].mean()), note)


SPREAD = {"CL": 0.15, "VC": 0.3, "VP": 0.3, "Q": 0.3, "ECRCL": 0.15}


def _uncertain(seed: int, n: int) -> tuple[float, float]:
    """Coverage with the population's uncertainty, and with it left out."""
    model = load("goti_vancomycin")
    vague = replace(model, parameters={k: replace(p, se=SPREAD.get(k, p.se)) for k, p in model.parameters.items()})
    data, truth, who = ward(seed, n), published(vague, n, 987 + seed), np.arange(n)
    records = Records.parse(data.text, model=model)
    covariates = {name: data.covariates[name][:, None] for name in ("CRCL", "WT", "DIAL")}
    z = random_effects(model, seed, subject=who, replicate=np.asarray([3]))[0, :, 0][:, None]
    root = np.linalg.cholesky(truth.omega)
    parameters = individual(vague, truth.typical, root, covariates, z=np.ascontiguousarray(z))[:, 0]
    asked = np.column_stack([records.time.reshape(n, 2), data.time])
    f = solve(compiled(model), parameters, records.doses, asked).values[:, 0]
    noise = normals(seed, Purpose.RESIDUAL, subject=who[:, None], replicate=3, index=np.arange(3)[None])
    y = observe(error_of(model, point(model), "CP"), f, noise)
    told = replace(records, dv=y[:, :2].ravel())
    shares = []
    for draws in (published(vague, 2000, 1), published(model, 1, 1)):
        ahead = forecast(twins(vague, told, draws, seed=1), data.time[:, None], levels=(0.05, 0.95)).measured[:, :, 0]
        shares.append(float(np.mean((y[:, 2] >= ahead[:, 0]) & (y[:, 2] <= ahead[:, 1]))))
    return shares[0], shares[1]


BANDS = {
    "SEX": ("women", "men"), "AGE": ("under 40", "40-64", "65 and over"),
    "EGFR": ("eGFR < 30", "eGFR 30-59", "eGFR 60-89", "eGFR >= 90"),
}  # fmt: skip
CUTS = {"SEX": [0.5], "AGE": [40.0, 65.0], "EGFR": [30.0, 60.0, 90.0]}


@row("twin.subgroups", unit="largest gap of coverage from 0.90", bar="<= 0.07")
def subgroups() -> Measured:
    """Cells of sex x age band x eGFR band of all five wards."""
    cells = _cells(("SEX", "AGE", "EGFR"))
    judged = {name: c for name, c in cells.items() if c[1] >= SMALL}
    worst = max(judged, key=lambda name: abs(judged[name][0] / judged[name][1] - 0.9))
    small = [f"{name} (n {n}: {hits / max(n, 1):.3f})" for name, (hits, n) in cells.items() if n < SMALL]
    hits, n = judged[worst]
    note = f"{len(judged)} cells of {5 * PATIENTS} patients; worst {worst}, n {n}: {hits / n:.3f}; small: {', '.join(small) or 'none'}"
    return Measured(abs(hits / n - 0.9), note)


@row("twin.subgroups_outside", unit="groups outside the 99 % binomial band", bar="<= 0")
def subgroups_outside() -> Measured:
    """Two sexes, three age bands, four eGFR bands, each over all five wards; the crossed cells beside them."""
    from scipy import stats

    def outside(cells: dict[str, tuple[int, int]]) -> list[str]:
        limits = {name: stats.binom.interval(0.99, n, 0.9) for name, (_, n) in cells.items()}
        return [name for name, (hits, n) in cells.items() if n and not limits[name][0] <= hits <= limits[name][1]]

    single = {name: c for key in BANDS for name, c in _cells((key,)).items()}
    crossed = _cells(("SEX", "AGE", "EGFR"))
    told = ", ".join(f"{name} {hits / n:.4f} (n {n})" for name, (hits, n) in single.items())
    more = f"of {len(crossed)} crossed cells outside (1 % each by chance): {', '.join(outside(crossed)) or 'none'}"
    return Measured(float(len(outside(single))), f"{told}; {more}")


def _cells(keys: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """(covered, patients) by cell."""
    inside = np.concatenate([calibrated(seed)[0] for seed in SEEDS])
    code = {key: np.concatenate([np.digitize(ward(seed).covariates[key], CUTS[key]) for seed in SEEDS]) for key in keys}
    found = {}
    for place in np.ndindex(*(len(BANDS[key]) for key in keys)):
        cell = np.all([code[key] == k for key, k in zip(keys, place, strict=True)], axis=0)
        name = ", ".join(BANDS[key][k] for key, k in zip(keys, place, strict=True))
        found[name] = (int(inside[cell].sum()), int(cell.sum()))
    return found


@row("twin.sequential_ks", unit="largest KS distance of 100 patients x 3", bar="<= 0.05")
def sequential_ks() -> Measured:
    """Four levels absorbed one after the other from the prior, against importance sampling of all four at once."""
    model = load("goti_vancomycin")
    data = ward(77, 100, 4)
    draws, settings = published(model, 200, 1), Settings(particles=20_000)
    head, *lines = data.text.split("\n")
    worst, where, least, moves = 0.0, "", np.inf, []
    for i in range(100):
        records = Records.parse("\n".join([head, *(line for line in lines if line.startswith(f"{i},"))]), model=model)
        batch = twins(model, records, draws, seed=1, settings=settings)
        state = from_prior(model, records, draws, seed=2, particles=settings.particles)
        distinct = len(np.unique(state.particles.x, axis=0)) / len(state.particles)
        least = min(least, float(batch.ess[0]), state.ess * distinct)
        moves.append(state.log[-1].moved)
        for k, name in enumerate(batch.case.coordinates.names):
            distance = _distance((batch.x[0, :, k], batch.weight[0]), (state.particles.x[:, k], state.weight))
            if distance > worst:
                worst, where = distance, f"patient {i}, {name}"
    note = f"worst: {where}; least effective draws of either {least:.0f}; 4 levels, moved {np.mean(moves):.1f} times"
    return Measured(worst, note)


def _distance(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """Kolmogorov-Smirnov distance of two weighted samples."""
    grid = np.sort(np.concatenate([a[0], b[0]]))
    steps = []
    for values, weight in (a, b):
        order = np.argsort(values)
        total = np.concatenate([[0.0], np.cumsum(weight[order])])
        steps.append(total[np.searchsorted(values[order], grid, side="right")])
    return float(np.abs(steps[0] - steps[1]).max())


@row("twin.stream_day", unit="CPU s for 288 new points, one update", bar="<= 1")
def stream_day() -> Measured:
    """A sensor reading every five minutes for a day: the whole day as one update, and the dearest of single updates."""
    whole, first = _sensor(288), _sensor(0)
    model = load("goti_vancomycin")
    draws = published(model, 200, 1)
    state = begun(twins(model, first, draws), draws)
    updated(state, whole)
    start = time.process_time()
    end = updated(state, whole)
    day = time.process_time() - start
    singles, now = [], state
    for k in range(1, 289):
        rows = _sensor(k)
        start = time.process_time()
        now = updated(now, rows)
        singles.append(time.process_time() - start)
    same = bool(np.array_equal(now.particles.x, end.particles.x))
    note = (
        f"1,000 particles; moved {end.log[-1].moved} times, least share of moves accepted {end.log[-1].accepted:.2f}, ESS "
        f"{end.ess:.0f}; one by one: all {sum(singles):.2f} s, dearest {1e3 * max(singles):.0f} ms, same bits: {same}"
    )
    return Measured(day, note)


@cache
def _sensor(count: int) -> Records:
    """One patient, dose at 0, a level at 0.5 h and then `count` readings five minutes apart."""
    model = load("goti_vancomycin")
    times = np.concatenate([[0.5], 0.5 + np.arange(1, 289) / 12.0])
    truth = 22.0 * np.exp(-0.9 * times) + 16.0 * np.exp(-0.07 * times)
    noise = normals(5, Purpose.RESIDUAL, subject=0, replicate=0, index=np.arange(len(times)))
    values = observe(error_of(model, point(model), "CP"), truth, noise)
    rows = [f"A,{float(t)!r},.,.,{float(y)!r},0,90,70,0" for t, y in zip(times, values, strict=True)][: count + 1]
    text = "\n".join(["ID,TIME,AMT,RATE,DV,EVID,CRCL,WT,DIAL", "A,0,1500,3000,.,1,90,70,0", *rows])
    return Records.parse(text, model=model)
