"""Fit the adult population law to NHANES 2017-2018 and write `populations/data/nhanes_adults.json`.

    python tools/fit_population.py [--data nhanes.csv.gz] [--out nhanes_adults.json]

The artefact holds weighted quantiles and dependence by sex, no row of any person. Method, in docs/population.md:
normal scores of each variable within sex; their centre and spread as piecewise-linear functions of age; the quantiles
of what is left; Gaussian dependence of what is left (normal-score, polyserial and tetrachoric correlations by weighted
maximum likelihood). Categories are chains of yes/no steps with thresholds that move with age (probit).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_ndtr, ndtr, ndtri

F64 = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "populations" / "nhanes.csv.gz"
OUT = ROOT / "populations" / "data" / "nhanes_adults.json"

ADULT, TOP = 18, 80  # NHANES writes 80 for everybody of 80 or more
KNOTS = np.array([18.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0, 80.0])  # years
PROBABILITIES = np.concatenate([[0.005], np.arange(1, 100) / 100.0, [0.995]])
TAILS = np.array([3.0, 3.5, 4.0])  # normal scores where the extrapolated tails are written down; beyond 4 the law stops
SMOOTHING = 1.0  # penalty on second differences of the probit thresholds over age
LEAST_EIGENVALUE = 1e-3

CONTINUOUS = {
    "HT": ("height_cm", "cm", "standing height"),
    "WT": ("weight_kg", "kg", "body weight"),
    "WAIST": ("waist_cm", "cm", "waist circumference"),
    "SCR": ("creatinine_mg_dl", "mg/dL", "serum creatinine (IDMS-traceable)"),
    "ALB": ("albumin_g_dl", "g/dL", "serum albumin"),
    "ALT": ("alt_u_l", "U/L", "alanine aminotransferase"),
    "AST": ("ast_u_l", "U/L", "aspartate aminotransferase"),
    "BILI": ("bilirubin_mg_dl", "mg/dL", "total bilirubin"),
    "SBP": ("sbp_mmhg", "mmHg", "systolic blood pressure, mean of up to 4 readings"),
    "HBA1C": ("hba1c_pct", "%", "glycated haemoglobin"),
}
YES_NO = {"0": "no", "1": "yes"}
CATEGORIES: dict[str, tuple[str, dict[Any, int], dict[str, str], str]] = {
    "SMOKING": (
        "smoking", {"never": 0, "former": 1, "some_days": 2, "daily": 2},
        {"0": "never", "1": "former", "2": "current"},
        "never: fewer than 100 cigarettes in life; current: daily or some days",
    ),
    "DIABETES": ("diabetes", {"no": 0, "borderline": 0, "yes": 1}, YES_NO, "told by a doctor; borderline counts as no"),
    "HYPERTENSION": ("hypertension_told", {0.0: 0, 1.0: 1}, YES_NO, "told by a doctor"),
    "HEART_FAILURE": ("heart_failure", {0.0: 0, 1.0: 1}, YES_NO, "told by a doctor; asked from 20 y, smoothed below"),
    "CORONARY": ("coronary_disease", {0.0: 0, 1.0: 1}, YES_NO, "told by a doctor; asked from 20 y, smoothed below"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """What the dependence of one latent is fitted from: normal scores (missing NaN), or a yes/no step and its cut."""

    name: str
    score: F64 | None = None
    step: F64 | None = None  # 1, 0, NaN
    cut: F64 | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.write_text(text_of(fit(adults(options.data), digest_of(options.data))), encoding="utf-8")


def text_of(law: Mapping[str, Any]) -> str:
    """The artefact's text: one line per short list, so that a change can be read in a diff."""
    return _laid_out(law, 0) + "\n"


def digest_of(data: Path) -> str:
    """SHA-256 of the data file's plain text (the compressed file's bytes may differ)."""
    with gzip.open(data) as file:
        return hashlib.sha256(file.read()).hexdigest()


def adults(data: Path) -> pd.DataFrame:
    """Examined adults of NHANES with coded columns by the law's names, AGE, SEX and the examination weight W."""
    raw = pd.read_csv(data)
    raw = raw[raw["age_years"] >= ADULT]
    columns: dict[str, Any] = {
        "AGE": raw["age_years"].astype(float),
        "SEX": (raw["sex"] == "male").astype(float),
        "W": raw["wt_mec"] / raw["wt_mec"].mean(),
    }
    columns |= {name: raw[column].astype(float) for name, (column, _, _) in CONTINUOUS.items()}
    columns |= {name: raw[column].map(codes).astype(float) for name, (column, codes, _, _) in CATEGORIES.items()}
    return pd.DataFrame(columns).reset_index(drop=True)


def fit(people: pd.DataFrame, digest: str) -> dict[str, Any]:
    """The whole law as plain JSON values."""
    weight = people["W"].to_numpy()
    male = people["SEX"].to_numpy() == 1.0
    parts = {sex: _fit_sex(people[mask]) for sex, mask in (("male", male), ("female", ~male))}
    variables: dict[str, Any] = {}
    for name in (*CONTINUOUS, *CATEGORIES):
        missing = people[name].isna().to_numpy()
        head = {"n": int((~missing).sum()), "missing": round(float(weight[missing].sum() / weight.sum()), 4)}
        variables[name] = _described(name) | head | {sex: part["variables"][name] for sex, part in parts.items()}
    return {
        "vtrial": "population/1",
        "name": "nhanes_adults",
        "about": "US adults, survey-weighted (wt_mec); ages are top-coded at 80, so the law holds to 79",
        "cite": "CDC/NCHS, National Health and Nutrition Examination Survey 2017-2018 (public domain)",
        "source": {"people": len(people), "sha256": digest},
        "valid": {"AGE": [ADULT, TOP - 1]},
        "male_share": round(float(weight[male].sum() / weight.sum()), 5),
        "age": {"lowest": ADULT} | {sex: part["age"] for sex, part in parts.items()},
        "knots": KNOTS.tolist(),
        "scores": _rounded(_grid(), 7),
        "variables": variables,
        "latents": parts["male"]["latents"],
        "dependence": {sex: part["dependence"] for sex, part in parts.items()},
        "repair": {sex: part["repair"] for sex, part in parts.items()},
    }


def _described(name: str) -> dict[str, Any]:
    if name in CONTINUOUS:
        _, unit, about = CONTINUOUS[name]
        return {"kind": "continuous", "unit": unit, "about": about}
    _, _, labels, about = CATEGORIES[name]
    return {"kind": "category", "labels": labels, "about": about}


def _fit_sex(people: pd.DataFrame) -> dict[str, Any]:
    age, weight = people["AGE"].to_numpy(), people["W"].to_numpy()
    basis = hats(age)
    variables: dict[str, Any] = {}
    latents: list[Latent] = []
    for name in CONTINUOUS:
        variables[name], score = _fit_continuous(people[name].to_numpy(), weight, basis)
        latents.append(Latent(name=name, score=score))
    for name in CATEGORIES:
        variables[name], steps = _fit_category(name, people[name].to_numpy(), weight, basis)
        latents.extend(steps)
    matrix = _dependence(latents, weight)
    repaired = nearest_correlation(matrix)
    return {
        "age": _rounded(_ages(age, weight), 6),
        "variables": variables,
        "latents": [latent.name for latent in latents],
        "dependence": [_rounded(row[: i + 1], 4) for i, row in enumerate(repaired)],
        "repair": round(float(np.abs(repaired - matrix).max()), 6),
    }


def hats(age: F64) -> F64:
    """Piecewise-linear basis over KNOTS, (n, knots): a coefficient is the value at its knot."""
    return np.column_stack([np.interp(age, KNOTS, row) for row in np.eye(len(KNOTS))])


def _ages(age: F64, weight: F64) -> F64:
    """Cumulative probability of each year of age, 18 to 80: five-year weighted shares, spread evenly."""
    years = np.arange(ADULT, TOP + 1)
    band = np.minimum(years // 5, TOP // 5)
    shares = np.array([weight[np.minimum(age // 5, TOP // 5) == b].sum() / (band == b).sum() for b in band])
    cumulative: F64 = np.cumsum(shares) / shares.sum()
    return cumulative


def _fit_continuous(value: F64, weight: F64, basis: F64) -> tuple[dict[str, Any], F64]:
    seen = ~np.isnan(value)
    x, w, b = value[seen], weight[seen], basis[seen]
    scores = normal_scores(x, w)
    centre = _regression(b, scores, w)
    left = scores - b @ centre
    spread = np.sqrt(np.maximum(_regression(b, left * left, w), 0.05))
    left = left / (b @ spread)
    normal = np.full(value.shape, np.nan)
    normal[seen] = normal_scores(left, w)
    margin = {
        "quantiles": _significant(_with_tails(quantiles(x, w), np.log, np.exp), 5),
        "centre": _rounded(centre, 4),
        "spread": _rounded(spread, 4),
        "residual": _rounded(_with_tails(quantiles(left, w), _same, _same), 4),
    }
    return margin, normal


def _regression(basis: F64, y: F64, weight: F64) -> F64:
    solution: F64 = np.linalg.solve((basis.T * weight) @ basis, (basis.T * weight) @ y)
    return solution


def _middle(x: F64, weight: F64) -> tuple[F64, F64]:
    """Distinct values and the weighted probability below plus half of that at each (mid-distribution function)."""
    values, place = np.unique(x, return_inverse=True)
    mass = np.bincount(place, weights=weight)
    return values, (np.cumsum(mass) - 0.5 * mass) / mass.sum()


def normal_scores(x: F64, weight: F64) -> F64:
    """Normal quantile of the weighted mid-distribution function at each value."""
    values, middle = _middle(x, weight)
    scores: F64 = ndtri(np.interp(x, values, middle))
    return scores


def quantiles(x: F64, weight: F64) -> F64:
    """Weighted quantiles at PROBABILITIES: the mid-distribution function, inverted linearly (rounding is smoothed)."""
    values, middle = _middle(x, weight)
    inverted: F64 = np.interp(PROBABILITIES, middle, values)
    return inverted


def _same(x: Any) -> Any:
    return x


def _grid() -> F64:
    return np.concatenate([-TAILS[::-1], ndtri(PROBABILITIES), TAILS])


def _with_tails(inner: F64, to: Callable[[Any], Any], back: Callable[[Any], Any]) -> F64:
    """Quantiles with both tails extended along the line through the 2.5 and 0.5 % (97.5 and 99.5 %) points.

    `to` and `back` give the scale on which the line is straight in the normal score. No value of a person at the end of
    the sample is written down.
    """
    score, scale = ndtri(PROBABILITIES), to(inner)
    low, high = np.interp([ndtri(0.025), ndtri(0.975)], score, scale)
    below = (low - scale[0]) / (ndtri(0.025) - score[0])
    above = (scale[-1] - high) / (score[-1] - ndtri(0.975))
    lower = back(scale[0] - below * (TAILS[::-1] + score[0]))
    return np.concatenate([lower, inner, back(scale[-1] + above * (TAILS - score[-1]))])


def _fit_category(name: str, value: F64, weight: F64, basis: F64) -> tuple[dict[str, Any], list[Latent]]:
    """Steps `Y >= k given Y >= k - 1`: a latent normal above a cut that moves with age."""
    cuts, latents = [], []
    top = max(CATEGORIES[name][1].values())
    for k in range(1, top + 1):
        step = np.where(value >= k - 1, (value >= k).astype(float), np.nan)
        step[np.isnan(value)] = np.nan
        seen = ~np.isnan(step)
        cut = -probit(step[seen], weight[seen], basis[seen])
        cuts.append(_rounded(cut, 4))
        latents.append(Latent(name=name if top == 1 else f"{name}.{k}", step=step, cut=basis @ cut))
    return {"cuts": cuts}, latents


def probit(y: F64, weight: F64, basis: F64) -> F64:
    """Weighted probit coefficients by Fisher scoring, second differences penalised (a first decade without cases)."""
    w = weight / weight.mean()
    second = np.diff(np.eye(basis.shape[1]), n=2, axis=0)
    penalty = SMOOTHING * second.T @ second
    beta = np.full(basis.shape[1], ndtri(np.average(y, weights=w)))
    for _ in range(200):
        eta = basis @ beta
        density = np.exp(-0.5 * eta * eta) / np.sqrt(2.0 * np.pi)
        p = np.clip(ndtr(eta), 1e-12, 1.0 - 1e-12)
        gain = w * density / (p * (1.0 - p))
        gradient = basis.T @ (gain * (y - p)) - penalty @ beta
        step = np.linalg.solve((basis.T * (gain * density)) @ basis + penalty, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-11:
            return beta
    raise RuntimeError("the probit did not converge")


def _dependence(latents: list[Latent], weight: F64) -> F64:
    matrix = np.eye(len(latents))
    for i, a in enumerate(latents):
        for j, b in enumerate(latents[:i]):
            matrix[i, j] = matrix[j, i] = round(correlation(a, b, weight), 4)
    return matrix


def correlation(a: Latent, b: Latent, weight: F64) -> float:
    """Weighted latent correlation from the people who have both; 0 between two steps of one chain (not identified)."""
    if a.name.split(".")[0] == b.name.split(".")[0]:
        return 0.0
    first, second = (x.score if x.score is not None else x.step for x in (a, b))
    assert first is not None
    assert second is not None
    both = ~np.isnan(first) & ~np.isnan(second)
    x, y, w = first[both], second[both], weight[both]
    if a.score is not None and b.score is not None:
        return float((w * x * y).sum() / np.sqrt((w * x * x).sum() * (w * y * y).sum()))
    if a.cut is not None and b.cut is not None:
        pair = (x, a.cut[both]), (y, b.cut[both])
        return _best(lambda r: tetrachoric(r, *pair), w)
    step, cut, score = (x, a.cut, y) if a.cut is not None else (y, b.cut, x)
    assert cut is not None
    sign = 2.0 * step - 1.0
    return _best(lambda r: log_ndtr(sign * (r * score - cut[both]) / np.sqrt(1.0 - r * r)), w)


def _best(logs: Callable[[float], F64], weight: F64) -> float:
    found = minimize_scalar(
        lambda r: -float((weight * logs(r)).sum()), bounds=(-0.97, 0.97), method="bounded", options={"xatol": 1e-8}
    )
    return float(found.x)


def tetrachoric(rho: float, first: tuple[F64, F64], second: tuple[F64, F64]) -> F64:
    """log P(both steps as seen), each given as (step, cut): Plackett's integral of the density over the correlation."""
    (x, cut_x), (y, cut_y) = first, second
    nodes, weights = np.polynomial.legendre.leggauss(16)
    r = 0.5 * rho * (nodes + 1.0)[:, None]
    square = cut_x**2 + cut_y**2 - 2.0 * r * cut_x * cut_y
    density = np.exp(-0.5 * square / (1.0 - r * r)) / (2.0 * np.pi * np.sqrt(1.0 - r * r))
    extra = (0.5 * rho * weights[:, None] * density).sum(axis=0)
    sign = (2.0 * x - 1.0) * (2.0 * y - 1.0)
    alone = np.where(x == 1.0, ndtr(-cut_x), ndtr(cut_x)) * np.where(y == 1.0, ndtr(-cut_y), ndtr(cut_y))
    return np.log(np.maximum(alone + sign * extra, 1e-300))


def nearest_correlation(matrix: F64) -> F64:
    """The matrix itself where its least eigenvalue allows, else with raised eigenvalues and 1 on the diagonal."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] >= LEAST_EIGENVALUE:
        return matrix
    raised = (vectors * np.maximum(values, LEAST_EIGENVALUE)) @ vectors.T
    scale = 1.0 / np.sqrt(np.diag(raised))
    return np.round(raised * scale * scale[:, None], 4)


def _rounded(values: F64, digits: int) -> list[float]:
    return [float(v) + 0.0 for v in np.round(values, digits)]


def _significant(values: F64, digits: int) -> list[float]:
    return [float(f"{v:.{digits}g}") for v in values]


def _laid_out(value: Any, depth: int) -> str:
    plain = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    if not isinstance(value, (dict, list)) or len(plain) <= 110 - depth:
        return plain
    if isinstance(value, list) and not isinstance(value[0], (dict, list)):
        return plain
    pad, (left, right) = " " * (depth + 1), "{}" if isinstance(value, dict) else "[]"
    names = [f"{json.dumps(k)}: " for k in value] if isinstance(value, dict) else [""] * len(value)
    items = value.values() if isinstance(value, dict) else value
    lines = (f"{pad}{name}{_laid_out(item, depth + 1)}" for name, item in zip(names, items, strict=True))
    return f"{left}\n" + ",\n".join(lines) + f"\n{' ' * depth}{right}"


if __name__ == "__main__":
    main()
