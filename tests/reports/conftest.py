"""A synthetic study of the demo's shape: outcomes drawn by a simple rule of our own, so that what the report says about
them can be computed by hand. The real chain is tested in tests/story."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from reports.figures.palette import looks
from reports.study import (
    Arm,
    Decision,
    Dosing,
    Endpoint,
    FitEvidence,
    Level,
    Parameter,
    Published,
    Screening,
    Study,
    Term,
    Variant,
)
from trials.operating import Estimate

DOSES = (0.0, 200.0, 300.0, 400.0, 600.0)
VISITS = {"baseline": 0.0, "week2": 14.0, "week4": 28.0, "week8": 56.0, "week12": 84.0}
EVENTS = {"nausea": ("Nausea", 25.0), "vomiting": ("Vomiting", 28.0), "tachycardia": ("Sinus tachycardia", 28.0)}


def make_outcomes(replicates: int, subjects: int, seed: int, scale: float = 1.0) -> pd.DataFrame:
    """Outcome table with the contract's columns."""
    rng = np.random.default_rng(seed)
    n = replicates * subjects
    replicate = np.repeat(np.arange(replicates), subjects)
    arm = np.tile(np.arange(subjects) % len(DOSES), replicates)
    draw = rng.normal(size=replicates)[replicate]
    smoking = rng.choice([0, 1, 2], n, p=[0.15, 0.45, 0.40])
    weight = np.clip(rng.normal(85, 18, n), 42, 158)
    clearance = 2.77 * np.exp(0.29 * rng.normal(size=n)) * np.array([1, 1.28, 1.58])[smoking] * (weight / 70) ** 0.75
    average = np.array(DOSES)[arm] / 12 / clearance * scale
    peak = average * 1.15
    frame: dict[str, object] = {
        "replicate": replicate.astype("u4"), "subject": np.tile(np.arange(subjects), replicates).astype("u4"),
        "arm": arm.astype("i2"), "stratum": smoking.astype("i2"), "AGE": rng.uniform(40, 60, n), "SEX": rng.integers(0, 2, n) * 1.0,
        "WT": weight, "SMOKING": smoking * 1.0, "EGFR": rng.normal(92, 15, n), "draw": replicate.astype("u4"),
    }  # fmt: skip
    base = 1.25 * np.exp(0.38 * rng.normal(size=n))
    emax, drift = 0.2 + 0.05 * draw + 0.05 * rng.normal(size=n), 0.1 * rng.normal(size=n)
    dropout = rng.exponential(84 / 0.065, n)
    dropout[dropout > 84] = np.nan
    for visit, day in VISITS.items():
        level = average if day else np.zeros(n)
        true = base + drift * day / 84 + emax * level / (11 + level)
        seen = true + 0.1 * rng.normal(size=n)
        frame[f"FEV1@{visit}"] = np.where(dropout < day, np.nan, seen)
        frame[f"FEV1.true@{visit}"] = true
        if day:
            frame[f"CAV@{visit}"], frame[f"CMAX@{visit}"] = level, peak
    worst = np.zeros(n, dtype=int)
    for key, (_, centre) in EVENTS.items():
        risk = 0.02 + 0.98 / (1 + np.exp(-(peak - centre + draw) / 4))
        hit = rng.random(n) < risk
        grade = np.where(hit, 1 + (rng.random(n) < 0.35) + (rng.random(n) < 0.05), 0)
        worst = np.maximum(worst, grade)
        frame[f"{key}.grade"], frame[f"{key}.day"] = grade.astype("i1"), np.where(hit, 84 * rng.random(n), np.nan)
    frame["stopped.day"] = np.where(worst == 3, 30.0, np.nan)
    frame["dropout.day"], frame["status"] = dropout, np.zeros(n, dtype="i1")
    return pd.DataFrame(frame)


def make_analyses(outcomes: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Differences of observed mean change with a plain standard error: enough for a report."""
    change = outcomes["FEV1@week12"] - outcomes["FEV1@baseline"]
    table = change.groupby([outcomes["replicate"], outcomes["arm"]]).agg(["mean", "var", "count"]).unstack()
    rows = []
    for k, key in enumerate(keys[1:], start=1):
        estimate = table["mean"][k] - table["mean"][0]
        se = np.sqrt(table["var"][k] / table["count"][k] + table["var"][0] / table["count"][0])
        rows.append(
            pd.DataFrame({
                "replicate": estimate.index, "analysis": "primary", "endpoint": "fev1", "contrast": key,
                "estimate": estimate, "se": se, "lower": estimate - 2.45 * se, "upper": estimate + 2.45 * se,
                "reject": np.abs(estimate / se) > 2.45, "status": 0,
            })
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def make_curves() -> pd.DataFrame:
    time = np.unique(np.concatenate([np.arange(0, 84 * 24, 12.0), np.arange(6, 84 * 24, 12.0)]))
    rows = []
    for k, dose in enumerate(DOSES):
        if dose:
            days = time / 24
            given = np.where(days < 3, 200, np.where(days < 6, min(dose, 300), dose))
            level = given / 48 * (1 - np.exp(-time / 12)) * (1 + 0.12 * np.cos(2 * np.pi * time / 12))
            rows.append(
                pd.DataFrame(
                    {"arm": k, "time": time, "p5": 0.45 * level, "p50": level, "p95": 1.8 * level, "people": 50}
                )
            )
    return pd.concat(rows, ignore_index=True)


def make_fit() -> FitEvidence:
    rng = np.random.default_rng(1)
    typical = {"KA": (1.53, 0.24, "1/h"), "CL": (2.77, 0.09, "L/h"), "V": (31.8, 0.053, "L"), "omega KA": (0.78, 0.2, "1"),
               "omega CL": (0.29, 0.2, "1"), "omega V": (0.15, 0.3, "1"), "additive sd": (0.32, 0.25, "mg/L"),
               "proportional sd": (0.128, 0.15, "1")}  # fmt: skip
    draws = {name: m * np.exp(s * rng.normal(size=2000)) for name, (m, s, _) in typical.items()}
    table = pd.DataFrame([
        {"parameter": name, "unit": unit, "prior_median": m, "prior_low": m / 7, "prior_high": m * 7,
         "median": np.median(draws[name]), "low": np.quantile(draws[name], 0.025), "high": np.quantile(draws[name], 0.975),
         "rhat": 1.002, "ess": 1432.0}
        for name, (m, _, unit) in typical.items()
    ])  # fmt: skip
    time = np.array([0.3, 0.6, 1.1, 2.0, 3.5, 5.0, 7.0, 9.0, 12.0, 24.0])
    centre = 10.5 * (np.exp(-0.087 * time) - np.exp(-1.5 * time))
    bands = pd.concat([
        pd.DataFrame({"percentile": q, "time": time, "observed": centre * f * 1.03, "lower": centre * f * 0.85,
                      "median": centre * f, "upper": centre * f * 1.15})
        for q, f in ((5, 0.6), (50, 1.0), (95, 1.45))
    ])  # fmt: skip
    points = pd.DataFrame(
        {"time": np.tile(time, 12), "value": np.tile(centre, 12) * np.exp(0.25 * rng.normal(size=120))}
    )
    return FitEvidence(
        name="theophylline", data="theophylline.csv (12 subjects, 132 rows)",
        diagnostics={"max_rhat": 1.004, "min_ess_bulk": 932.0, "min_ess_tail": 1011.0, "divergences": 0.0,
                     "apart": 0.12, "ebfmi": 0.93},
        table=table, draws=draws, check={"bands": bands, "points": points},
    )  # fmt: skip


def make_arms() -> tuple[Arm, ...]:
    found = looks([d == 0 for d in DOSES], [d == 600 for d in DOSES])

    def step(start: float, end: float, amount: float) -> Dosing:
        return Dosing(start=start, end=end, amount=amount, unit="mg", every=12)

    dosing = {
        0.0: (), 200.0: (step(0, 84, 200),), 300.0: (step(0, 3, 200), step(3, 84, 300)),
        400.0: (step(0, 3, 200), step(3, 6, 300), step(6, 84, 400)),
        600.0: (step(0, 3, 200), step(3, 6, 300), step(6, 84, 600)),
    }  # fmt: skip
    return tuple(
        Arm(
            index=k, key="placebo" if not dose else f"t{dose:.0f}", label="Placebo" if not dose else f"{dose:.0f} mg",
            flag="upper limit, above usual dosing" if dose == 600 else "", control=not dose, ratio=1, look=found[k], dosing=dosing[dose],
        )
        for k, dose in enumerate(DOSES)
    )  # fmt: skip


def make_study(replicates: int = 20, subjects: int = 300) -> Study:
    arms = make_arms()
    keys = [arm.key for arm in arms]
    outcomes, median = make_outcomes(replicates, subjects, 1), make_outcomes(replicates, subjects, 2)
    saturable = make_outcomes(max(replicates // 4, 2), subjects, 3, scale=1.2)
    ram = "Ram 2002, Cochrane CD003902"
    return Study(
        name="theophylline_copd",
        question="Which dose of 12-hourly theophylline improves FEV1 in chronic airways obstruction at an acceptable adverse-event risk?",
        context="Dose selection for a 12-week trial; illustrative, decision consequence low.",
        seed=20261121, planned=replicates, subjects=subjects, arms=arms, visits=VISITS,
        terms=tuple(Term(key=k, term=t, soc="Disorders", grades=3, per=84.0) for k, (t, _) in EVENTS.items()),
        composite=tuple(EVENTS),
        primary=Endpoint(key="primary", endpoint="fev1", output="FEV1", unit="L", baseline="baseline", visit="week12"),
        average="CAV", peak="CMAX", exposure_unit="mg/L", alpha=0.05, least_benefit=None, most_risk=0.25,
        design=(("Allocation", "permuted blocks of 10 within SMOKING"), ("Dropout", "0.0008 a day, doubled after treatment stopped")),
        estimands=(("Primary", "FEV1 change at week12, treatment policy, mean difference; ANCOVA with multiple imputation"),),
        labels={"SMOKING": {0: "never", 1: "former", 2: "current"}, "SEX": {0: "female", 1: "male"}},
        units={"AGE": "y", "WT": "kg", "EGFR": "mL/min/1.73 m²"},
        parameters=(
            Parameter(name="EC50", typical=11, unit="mg/L", status="assumed", source="Holford 1993", note="acute intravenous trial",
                      se=0.2, iiv=0.3, scale="log"),
            Parameter(name="CL", typical=2.765, unit="L/h", status="copied", source="fit", note="", se=0.09, iiv=0.291, scale="log",
                      effects="WT power 0.75 fixed; SMOKING"),
            Parameter(name="FSMOKE", typical=1.58, unit="1", status="verified", source="Powell 1977", note="", se=0.12,
                      iiv=float("nan"), scale="log"),
        ),
        screened=4 * len(outcomes),
        screening=(Screening(name="age", rule="40 <= AGE <= 60", lost=120_000, alone=120_000, missing=0),
                   Screening(name="heart_failure", rule="HEART_FAILURE == 0", lost=1800, alone=5400, missing=12)),
        outcomes=outcomes, analyses=make_analyses(outcomes, keys), curves=make_curves(),
        provenance=(("vtrial", "0.1.0"), ("Outcome table SHA-256", "ab" * 32)), command="vtrial demo --out out",
        fit=make_fit(),
        median=Variant(key="median", label="Posterior median", outcomes=median, analyses=make_analyses(median, keys)),
        sensitivities=(Variant(key="mm", label="Michaelis-Menten elimination", outcomes=saturable,
                               analyses=make_analyses(saturable, keys)),),
        decisions=(Decision(name="go", rule="t300.primary.reject and t300.any_ae.upper < 0.25", made=Estimate(value=0.4, mcse=0.03, n=200)),),
        published=(
            Published(key="ram", what="mean_difference", kind="calibration", claim="FEV1 difference from placebo", witness=ram, unit="L",
                      value=0.1, interval=(0.04, 0.16), at_level=11),
            Published(key="rr", what="risk_ratio", kind="validation", claim="Relative risk of nausea", witness=ram, event="nausea",
                      value=7.7, interval=(1.5, 39.9), at_level=11),
            Published(key="theodur", what="levels", kind="validation", claim="464 mg every 12 h, mean level", witness="Theo-Dur",
                      unit="mg/L", times=(0, 6, 12), values=(11.2, 15.5, 10.4), people=15),
        ),
        levels={("theodur", 0): Level(median=11.0, low=8.2, high=14.6), ("theodur", 6): Level(median=15.2, low=12.1, high=19.0)},
    )  # fmt: skip


@pytest.fixture(scope="session")
def study() -> Study:
    return make_study()


@pytest.fixture(scope="session")
def build() -> Callable[..., Study]:
    return make_study
