"""The chain from comedication to exposure: pairs of the examples against observed ratios, phenoconversion, cirrhosis."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench.harness import Measured, row
from trials.modifiers import lost
from trials.pairs import pair

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
