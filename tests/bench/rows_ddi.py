"""Drug interactions on ../shared/data/ddi: five folds by pair, the peer beside, time courses, static anchors, the matrix."""

from __future__ import annotations

import csv
import math
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from pkpd.interactions.assembly import assemble, predict
from pkpd.interactions.calibration import fit, prepare
from pkpd.interactions.drug import Regimen
from pkpd.interactions.importance import log_ratios, moved, reweighted
from pkpd.interactions.library import TURNOVER, drugs
from pkpd.interactions.model import layout
from pkpd.interactions.observed import Study, read_studies
from pkpd.interactions.predictive import Checked, crossvalidate, parameter_draws, scores
from pkpd.interactions.screening import Asked, Genotype, Question, screen
from pkpd.interactions.shipped import shipped
from pkpd.interactions.static import Action, Exposure, basic, reversible
from tests.bench.harness import Measured, row

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "ddi"
ITRACONAZOLE, RIFAMPICIN = ("1078", "1079", "1080", "1081"), ("57", "393", "394", "2010")


@lru_cache(maxsize=1)
def studies() -> tuple[Study, ...]:
    found, without = read_studies(FOLDER / "observed_auc_ratios.csv", drugs())
    assert not without
    return tuple(found)


@lru_cache(maxsize=1)
def checked() -> tuple[Checked, float]:
    begin = time.process_time()
    made = crossvalidate(studies(), drugs(), layout(drugs(), TURNOVER))
    return made, time.process_time() - begin


def known_peer() -> np.ndarray:
    return np.isfinite([s.peer for s in studies()])


@row("ddi.gmfe_rows", unit="fold", bar="<= 1.5")
def gmfe_rows() -> Measured:
    made, seconds = checked()
    return Measured(made.score()["rows.gmfe"], f"179 rows out of fold; five fits and predictions {seconds:.0f} CPU s")


@row("ddi.gmfe_pairs", unit="fold", bar="<= 1.5")
def gmfe_pairs() -> Measured:
    return Measured(checked()[0].score()["pairs.gmfe"], "59 pairs with equal weight")


@row("ddi.within2_rows", unit="", bar=">= 0.8")
def within_rows() -> float:
    return checked()[0].score()["rows.within2"]


@row("ddi.within2_pairs", unit="", bar=">= 0.8")
def within_pairs() -> float:
    return checked()[0].score()["pairs.within2"]


@row("ddi.cover_pairs", unit="", bar="0.8 .. 0.98")
def cover_pairs() -> Measured:
    score = checked()[0].score()
    return Measured(
        score["pairs.cover90"], f"by row {score['rows.cover90']:.3f}; median upper/lower limit {score['width']:.2f}"
    )


@row("ddi.beside_peer", unit="fold", bar="<= 1.41")
def beside_peer() -> Measured:
    """GMFE on the rows that have a published PBPK prediction (which is in sample for some of them)."""
    made, keep = checked()[0], known_peer()
    ours = made.score(keep)
    errors = np.log([s.peer if k else 1.0 for s, k in zip(studies(), keep)]) - np.log([s.ratio for s in studies()])
    theirs = scores(studies(), errors, None, keep)
    note = f"{keep.sum()} rows; within two-fold {ours['rows.within2']:.3f}; PBPK {theirs['rows.gmfe']:.3f}, "
    return Measured(ours["rows.gmfe"], note + f"{theirs['rows.within2']:.3f}; by pair {ours['pairs.gmfe']:.3f} and "
                    f"{theirs['pairs.gmfe']:.3f}")  # fmt: skip


def course(keys: tuple[str, ...]) -> tuple[float, float]:
    """Largest fold error under the shipped calibration, and out of fold."""
    mine = [s for s in studies() if s.key in keys]
    made = assemble([s.course for s in mine], drugs(), shipped().layout, share=False)
    value = np.log(predict(made, shipped().theta[None, None]).auc[:, 0]) - np.log([s.ratio for s in mine])
    out = checked()[0].error[[k for k, s in enumerate(studies()) if s.key in keys]]
    return float(np.exp(np.abs(value).max())), float(np.exp(np.abs(out).max()))


@row("ddi.time_itraconazole", unit="fold", bar="<= 2")
def time_itraconazole() -> Measured:
    seen, out = course(ITRACONAZOLE)
    return Measured(seen, f"triazolam 0, 3, 12, 24 h after; worst of 4, calibrated; pair left out: {out:.2f}")


@row("ddi.time_rifampicin", unit="fold", bar="<= 2")
def time_rifampicin() -> Measured:
    seen, out = course(RIFAMPICIN)
    return Measured(seen, f"4, 7, 14, 15 days after the last dose; worst of 4, calibrated; pair left out: {out:.2f}")


@row("ddi.static_anchor", unit="", bar="<= 1e-3")
def static_anchor() -> float:
    """Largest relative error of R1 and R1,gut of the sample drug."""
    sample = Exposure(dose=450, molar_mass=492.6, cmax=3530 / 492.6, fu=0.023, ka=0.00267 * 60, fa=0.81)
    found = basic(sample, Action(ki=12.5), 0.0193)
    values = found["R1"].value, found["R1,gut"].value, reversible(sample.unbound, 11.0)
    return float(max(abs(v / w - 1) for v, w in zip(values, (1.013, 293.3, 1.015))))


@row("ddi.matrix", unit="s", bar="<= 60")
def matrix() -> Measured:
    screen(Question(perpetrators=["ketoconazole"], victims=["midazolam"], draws=100))
    begin, used = time.perf_counter(), time.process_time()
    made = screen(Question())
    wall = time.perf_counter() - begin
    return Measured(wall, f"{len(made.cells)} pairs, {made.draws} draws, warm; {time.process_time() - used:.1f} CPU s")


@row("ddi.laplace_k", unit="", bar="<= 0.7")
def laplace() -> Measured:
    """Pareto k of importance weights of the Laplace draws in all dimensions."""
    rows = prepare(studies(), drugs(), layout(drugs(), TURNOVER))
    found = reweighted(rows, fit(rows), draws=1000, seed=1)
    shift = np.abs(found.weight @ found.log_ratio - found.log_ratio.mean(axis=0))
    note = f"effective {found.effective:.0f} of 1000; means of the log ratios shift by {np.median(shift):.3f} (median)"
    return Measured(found.k, note)


@row("ddi.laplace_shift", unit="SD", bar="<= 1")
def laplace_shift() -> Measured:
    """Largest shift of the mean of a study's log ratio from Laplace to the model itself, in posterior SDs."""
    rows = prepare(studies(), drugs(), layout(drugs(), TURNOVER))
    known = fit(rows)
    laplace = log_ratios(rows, parameter_draws(known, draws=500, seed=9))
    begin = time.process_time()
    found = moved(rows, known, chains=60, steps=240, seed=1, size=0.35)
    moves = laplace.std(axis=0) > 1e-9
    shift = np.abs(found.mean - laplace.mean(axis=0))[moves] / laplace.std(axis=0)[moves]
    ratio = found.sd[moves] / laplace.std(axis=0)[moves]
    note = f"median {np.median(shift):.2f}; SDs {np.quantile(ratio, 0.05):.2f} to {np.quantile(ratio, 0.95):.2f} of Laplace; "
    note += f"{found.accepted:.2f} accepted, split R-hat {found.rhat:.2f}, {time.process_time() - begin:.0f} CPU s"
    return Measured(float(shift.max()), note)


@row("ddi.nuts", unit="SD", bar="<= 0.5")
def nuts() -> Measured:
    """Fifteen studies of CYP2D6 by the PyMC model, scales and SDs sampled: largest shift of a mean from Laplace."""
    from pkpd.bayes.ddi import sample_calibration

    of = ("metoprolol", "s-metoprolol", "desipramine", "atomoxetine", "dextromethorphan")
    some = [s for s in studies() if s.pair[0] in ("paroxetine", "quinidine") and s.pair[1] in of]
    some = [s for s in some if len(s.course.doses) == 1]
    library = {name: drugs()[name] for s in some for name in s.pair}
    rows = prepare(some, library, layout(library, {name: TURNOVER[name] for name in ("CYP2D6", "CYP3A4")}))
    known = fit(rows)
    begin = time.process_time()
    drawn = sample_calibration(rows, known, draws=150, tune=150, seed=1)
    seconds = time.process_time() - begin
    said = drawn["posterior"]["log_ratio"].values.reshape(-1, len(some))
    laplace = log_ratios(rows, parameter_draws(known, draws=1000, seed=3))
    moves = laplace.std(axis=0) > 1e-9
    shift = np.abs(said.mean(axis=0) - laplace.mean(axis=0))[moves] / laplace.std(axis=0)[moves]
    ratio = said.std(axis=0)[moves] / laplace.std(axis=0)[moves]
    note = f"{len(some)} studies, SDs {ratio.min():.2f} to {ratio.max():.2f} of Laplace; "
    note += f"{int(drawn['sample_stats']['diverging'].sum())} divergences, 300 draws, {seconds:.0f} CPU s"
    return Measured(float(shift.max()), note)


@row("ddi.genotype", unit="fold", bar="<= 2")
def genotype() -> Measured:
    """GMFE of gene x drug x drug (seven rows that no fit has seen); PBPK beside."""
    with (FOLDER / "gene_drug_drug_cyp2d6.csv").open() as file:
        rows = list(csv.DictReader(file))
    score = {"PM": 0.0, "EM": 1.0, "AS0": 0.0, "AS1": 1 / 1.6, "AS2": 2 / 1.6}
    twice = Regimen(name="60 mg twice daily", dose=60.0, interval=12.0, doses=10)
    errors, peer = [], []
    for r in rows:
        name = r["perpetrator"].lower()
        asked = Asked(drug=name, regimens=[twice] if name == "duloxetine" else [])
        kind = Genotype(name="g", activity={"CYP2D6": score[r["genotype"]]})
        made = screen(Question(victims=[r["victim"].lower()], perpetrators=[asked], genotypes=[kind], draws=200))
        ours = next(c for c in made.cells if c.genotype).auc[0]
        errors.append(abs(math.log(ours / float(r["aucr_obs"]))))
        peer.append(abs(math.log(float(r["aucr_pbpk_pred"]) / float(r["aucr_obs"]))))
    return Measured(math.exp(np.mean(errors)), f"{len(rows)} rows; published PBPK {math.exp(np.mean(peer)):.2f}")
