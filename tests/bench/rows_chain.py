"""The chain from comedication to exposure: pairs of the examples against observed ratios, phenoconversion, cirrhosis."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.interactions.assembly import assemble, quantities
from pkpd.interactions.course import Course, Given
from pkpd.interactions.dynamic import solve
from tests.bench.harness import Measured, row
from trials.modifiers import lost
from trials.pair_course import Over, Times, course_of
from trials.pairs import Drawn, drawn, pair

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "ddi"
DRAWS = 400
SCORES = {"AS0": 0.0, "PM": 0.0, "AS1": 0.5, "AS2": 1.0, "EM": 1.0}  # activity of the pathway: score / 2

OBSERVED = (
    # Tuberc Respir Dis 1991 (6 volunteers, aminophylline i.v.): clearance 42.9 to 32.8 mL/min
    ("ciprofloxacin", "theophylline", "500 mg twice daily", 42.9 / 32.8),
    # Orlando et al. 2006 (10 healthy), as reference works quote it: clearance -62 %
    ("fluvoxamine", "theophylline", "100 mg once daily", 1.0 / 0.38),
    # Hemeryck et al., Clin Pharmacol Ther 2000;67:283 (8): R 169 to 1340, S 279 to 1418 ng h/mL
    ("paroxetine", "metoprolol", "20 mg once daily", (1340 + 1418) / (169 + 279)),
    # Parker et al. 2011 in Bahar et al., Br J Clin Pharmacol 2018;84:2704, Table 2 (15): S +209 %, R +288 %
    ("paroxetine", "metoprolol", "20 mg once daily", 0.5 * (3.09 + 3.88)),
    # Neuvonen et al., Clin Pharmacol Ther 1998;63:332 (10): total simvastatin acid 19-fold, simvastatin at least 10-fold
    ("itraconazole", "simvastatin", "200 mg once daily", 19.0),
)


def ratio(names: tuple[str, str], regimen: str | None, activity: float = 1.0) -> NDArray[np.float64]:
    """Draws of the exposure ratio of a person whose first pathway has that activity."""
    found = pair(names, regimen, draws=DRAWS, seed=1)
    g = np.ones(found.fm.shape)
    g[:, 0] = activity
    return np.asarray(1.0 / (1.0 - lost(found.fm, found.left, g)))


@row("chain.observed_pairs", unit="fold", bar="<= 2")
def observed_pairs() -> Measured:
    folds, words, inside = [], [], 0
    for perpetrator, victim, regimen, seen in OBSERVED:
        low, middle, high = np.quantile(ratio((perpetrator, victim), regimen), (0.05, 0.5, 0.95))
        folds.append(float(np.exp(abs(np.log(middle / seen)))))
        inside += bool(low <= seen <= high)
        words.append(f"{perpetrator}-{victim} {middle:.2f} ({low:.2f} to {high:.2f}), observed {seen:.2f}")
    return Measured(max(folds), f"{'; '.join(words)}; {inside} of {len(folds)} inside the 90 % interval")


@row("chain.gene_drug_drug", unit="fold", bar="<= 2")
def gene_drug_drug() -> Measured:
    """Geometric mean fold error over published pairs by CYP2D6 score (CPT Pharmacometrics Syst Pharmacol 2019;8:567, Table 4)."""
    errors, words = [], []
    with (SHARED / "gene_drug_drug_cyp2d6.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            names = line["perpetrator"].lower(), line["victim"].lower()
            seen = float(line["aucr_obs"])
            draws = ratio(names, None, SCORES[line["genotype"]])
            errors.append(abs(np.log(np.median(draws) / seen)))
            words.append(f"{names[1]} {line['genotype']} {np.median(draws):.2f} ({seen:.2f})")
    return Measured(float(np.exp(np.mean(errors))), "; ".join(words) + " (observed)")


@row("chain.fluvoxamine_cirrhosis", unit="points", bar="<= 20")
def fluvoxamine_cirrhosis() -> Measured:
    """Fall of theophylline's clearance by fluvoxamine in healthy, Child-Pugh A and C: -62, -52, -12 % (Orlando 2006)."""
    seen = {1.0: 62.0, 0.57: 52.0, 0.20: 12.0}
    found = {g: 100.0 * (1.0 - 1.0 / np.median(ratio(("fluvoxamine", "theophylline"), None, g))) for g in seen}
    words = ", ".join(f"activity {g:g}: {found[g]:.0f} % (observed {x:.0f})" for g, x in seen.items())
    return Measured(max(abs(found[g] - seen[g]) for g in seen), words)


@row("chain.smoking_stops", unit="fold", bar="<= 1.1")
def smoking_stops() -> Measured:
    """Clearance of caffeine after stopping x 0.639 (Faber & Fuhr 2004, what the example states) against theophylline's
    own after a week x 0.624 (Lee et al. 1987) and smokers over never-smokers 1/1.58 (Powell 1977, the model's)."""
    stated, others = 0.639, (1.0 - 0.376, 1.0 / 1.58)
    return Measured(max(float(np.exp(abs(np.log(stated / x)))) for x in others), "0.639 against 0.624 and 0.633")


COURSES = (("rifampicin", "midazolam", 14), ("rifampicin", "s-warfarin", 14), ("fluvoxamine", "theophylline", 10),
           ("ciprofloxacin", "theophylline", 10), ("itraconazole", "simvastatin", 7), ("paroxetine", "metoprolol", 14),
           ("itraconazole", "triazolam", 7))  # fmt: skip


@row("chain.kinetics", unit="%", bar="<= 2")
def kinetics() -> Measured:
    """Steps of a perpetrator's kinetics in a one-compartment model against the dynamic model, AUC by day while it comes
    and goes (0 to 13 days after its end); median over the pairs of the worst day."""
    worst, words = [], []
    for perpetrator, victim, stop in COURSES:
        of = at_mode((perpetrator, victim))
        days = [0, 1, 2, 4, stop - 1, stop, stop + 1, stop + 3, stop + 7, stop + 13]
        over = course_of(of, Times(lasts=24.0 * stop, until=24.0 * (stop + 15), every=24.0, apart=1.0))
        error = 100.0 * np.abs(by_steps(of, over, days) / by_day(of, 24.0 * stop, days) - 1.0)
        worst.append(float(error.max()))
        words.append(f"{perpetrator}-{victim} {error.max():.1f} % on day {days[int(np.argmax(error))]} "
                     f"(median {np.median(error):.1f} %), {over.time.size} steps")  # fmt: skip
    return Measured(float(np.median(worst)), "; ".join(words))


def at_mode(names: tuple[str, str]) -> Drawn:
    """A pair at the mode of its calibration, without pair effect and spread."""
    of = drawn(names, None, draws=2, seed=1)
    known = dataclasses.replace(of.known, hyper={**of.known.hyper, "pair": 0.0, "spread": 0.0})
    return dataclasses.replace(of, known=known, theta=known.theta[None])


def by_day(of: Drawn, stop: float, days: list[int]) -> NDArray[np.float64]:
    """AUC ratios of the dynamic model by day, the victim taken daily an hour after the perpetrator until `stop` [h]."""
    taken = tuple(np.arange(0.0, stop - 1e-9, of.regimen.interval).tolist())
    given = Given(drug=of.names[0], times=taken, amounts=(of.regimen.dose,) * len(taken))
    doses = tuple(24.0 * k + 1.0 for k in range(max(days) + 1))
    courses = [
        Course(perpetrators=(given,), victim=of.names[1], doses=doses, window=(24.0 * d + 1.0, 24.0 * d + 25.0))
        for d in days
    ]
    made = assemble(courses, of.library, of.known.layout)
    return np.asarray(solve(made.batch, quantities(made, of.theta[None])).auc[:, 0])


def by_steps(of: Drawn, over: Over, days: list[int]) -> NDArray[np.float64]:
    """The same by the steps: first pass on what enters, the rest on clearance."""
    who = of.library[of.names[1]].victim
    assert who is not None
    h = 0.05
    time = np.arange(0.0, 24.0 * (max(days) + 1), h)
    place = np.searchsorted(over.time, time + 1e-9, side="right") - 1
    ratio, first = over.ratio()[0][place], over.first[0][place]

    def areas(enters: NDArray[np.float64], slowed: NDArray[np.float64]) -> NDArray[np.float64]:
        depot, body, found = 0.0, 0.0, np.zeros(time.size)
        for k, t in enumerate(time.tolist()):
            depot += 1.0 if abs(t / 24.0 - round(t / 24.0)) < 1e-9 else 0.0
            entered = depot * -np.expm1(-who.ka.value * h) * enters[k]
            depot *= np.exp(-who.ka.value * h)
            rate = np.log(2) / who.half_life.value / slowed[k]
            after = body * np.exp(-rate * h) + entered * -np.expm1(-rate * h) / (rate * h)
            found[k], body = (body - after + entered) / rate, after
        return np.array([found[(time >= 24 * d - 1e-9) & (time < 24 * d + 24 - 1e-9)].sum() for d in days])

    one = np.ones(time.size)
    return np.asarray(areas(ratio**first, ratio ** (1.0 - first)) / areas(one, one))
