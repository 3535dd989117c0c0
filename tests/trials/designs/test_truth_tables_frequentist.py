"""Witnesses: ../shared/reference/trials (rpact 3.3.4 / 4.5.0; sources and tolerances in its README).

Each test covers every row of one file and prints file, rows, worst error.
"""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

import pytest

from trials.designs.adaptive import Combination, Reestimation, simulated_reestimation
from trials.designs.characteristics import characteristics
from trials.designs.counts import Exposure, counts_size
from trials.designs.selection import Choice, Chosen, simulated_arms_means, simulated_arms_rates, simulated_enrichment
from trials.designs.sequential import Boundaries, Efficacy, Futility, Plan, boundaries, evenly
from trials.designs.sequential_size import sequential_size, sequential_survival
from trials.designs.simulate import Simulated, simulated_means, simulated_rates
from trials.designs.simulate_survival import simulated_survival
from trials.designs.sizes import Error, Size, means_size, proportions_size
from trials.designs.survival import Accrual, Hazard, Times, events_needed, survival_size
from trials.operating import Estimate, proportion

FOLDER = Path(__file__).parents[4] / "shared" / "reference" / "trials"
FAMILY = {"OF": "obrien_fleming", "P": "pocock", "HP": "haybittle_peto", "WT": "wang_tsiatis"}
SPENDING = {"OF": "lan_demets_obrien_fleming", "P": "lan_demets_pocock", "KD": "kim_demets", "HSD": "hwang_shih_decani"}

pytestmark = pytest.mark.witness


def table(name: str) -> list[dict[str, str]]:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"witness numbers are not here: {path}")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def told(capsys: pytest.CaptureFixture[str], name: str, rows: int, worst: float) -> None:
    with capsys.disabled():
        print(f"\n{name}: {rows} rows, worst error {worst:.2e}")


def number(text: str) -> float | None:
    return None if text in ("NA", "") else float(text)


def efficacy(design: str) -> Efficacy:
    """`OF_K3`, `WT0.25_K3`, `asHSD-4_K5` ..."""
    found = re.match(r"(as)?(OF|P|HP|WT|KD|HSD)_?(-?\d*\.?\d*)?(?=_|$)", design)
    assert found, design
    shape = float(found[3]) if found[3] else 0.0
    if found[1]:
        return Efficacy(spending=SPENDING[found[2]], shape=shape)
    return Efficacy(family=FAMILY[found[2]], shape=shape)


def futility(design: str, looks: int, *, given: tuple[float, ...] = ()) -> Futility | None:
    binding = "_bind" in design
    found = re.search(r"_bs(OF|P|KD|HSD)(-?\d*\.?\d*)", design)
    if found:
        return Futility(spending=SPENDING[found[1]], shape=float(found[2] or 0), binding=binding)
    return Futility(z=given, binding=binding) if given else None


def plan_of(design: str, rows: list[dict[str, str]]) -> Plan:
    """A plan from the rows of one design of gs_boundaries.csv."""
    first, looks = rows[0], len(rows)
    information = tuple(float(row["info_rate"]) for row in rows)
    even = max(abs(a - b) for a, b in zip(information, evenly(looks))) < 1e-6  # the file keeps 8 digits
    spends = number(first["beta_spent"]) is not None
    given = () if spends else tuple(z for row in rows[:-1] if (z := number(row["futility_z"])) is not None)
    return Plan(
        information=evenly(looks) if even else information,
        alpha=float(first["alpha"]), sides=int(first["sided"]), power=1 - float(first["beta"]),
        efficacy=efficacy(design), futility=futility(design, looks, given=given),
    )  # fmt: skip


def test_boundaries(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getDesignGroupSequential: 1e-4 on z."""
    rows, worst = table("gs_boundaries.csv"), 0.0
    columns = {"crit_z": "upper", "stage_level_p": "stage_level", "alpha_spent": "alpha_spent", "futility_z": "lower", "beta_spent": "beta_spent"}  # fmt: skip
    for design, group in itertools.groupby(rows, key=lambda row: row["design_id"]):
        of_design = list(group)
        found = boundaries(plan_of(design, of_design))
        for k, row in enumerate(of_design):
            for column, name in columns.items():
                if (expected := number(row[column])) is not None:
                    worst = max(worst, abs(float(getattr(found, name)[k]) - expected))
                    assert getattr(found, name)[k] == pytest.approx(expected, abs=1e-6), (design, k, column)
    told(capsys, "gs_boundaries.csv", len(rows), worst)


def test_inflation_and_expected_information(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getDesignCharacteristics: 1e-3 relative."""
    rows, worst = table("gs_inflation_asn.csv"), 0.0
    for row in rows:
        design, looks = row["design"], int(row["K"])
        found = characteristics(boundaries(Plan(
            information=evenly(looks), alpha=float(row["alpha"]), sides=int(row["sided"]), power=float(row["power"]),
            efficacy=efficacy(design), futility=futility(design, looks),
        )))  # fmt: skip
        got = {
            "fixed_info": found.fixed_information, "max_info": found.maximum_information, "inflation_factor": found.inflation,
            "asn_ratio_H1": found.expected_effect, "asn_ratio_H01": found.expected_half, "asn_ratio_H0": found.expected_null,
            "power_stage1": float(found.under_effect.reject[0]), "power_stage_K": found.under_effect.power,
        }  # fmt: skip
        for column, value in got.items():
            worst = max(worst, abs(value / float(row[column]) - 1))
            assert value == pytest.approx(float(row[column]), rel=1e-5), (design, column)
    told(capsys, "gs_inflation_asn.csv", len(rows), worst)


def params(text: str) -> dict[str, str]:
    """`delta=0.5;sd=1;t-test scaling` as a dict; words without a value are left out."""
    return dict(part.split("=", 1) for part in text.split(";") if "=" in part)


def error_of(row: dict[str, str]) -> Error:
    return Error(alpha=float(row["alpha"]), sides=int(row["sided"]), power=float(row["power"]))


def means_rates(row: dict[str, str], method: str = "t") -> Size:
    """One row of sample_size_fixed.csv that is not of survival."""
    kind, given, error = row["endpoint"], params(row["params"]), error_of(row)
    ratio = float(given.get("alloc", 1))
    if kind.startswith("means"):
        groups = 1 if "one_sample" in kind else 2
        return means_size(
            error, effect=float(given["delta"]), sd=float(given["sd"]), margin=float(given.get("margin", 0)),
            ratio=ratio, groups=groups, method=method,
        )  # fmt: skip
    assert kind.startswith("rates"), kind
    measure = "ratio" if "ratio" in kind else "difference"
    null = float(given["margin"]) if "margin" in given else None
    return proportions_size(
        error, treated=float(given["pi1"]), control=float(given["pi2"]), null=null, ratio=ratio, measure=measure
    )


def survival_row(row: dict[str, str]) -> tuple[float, Size]:
    given, error = params(row["params"]), error_of(row)
    ratio, hazard_ratio = float(given.get("alloc", 1)), float(given["HR"])
    lost = given.get("drop", "0").split(" per ")
    dropout = Hazard.share(float(lost[0]), float(lost[-1])) if len(lost) == 2 else Hazard.constant(0.0)
    control = Hazard.median(float(given["median2"]))
    times = Times(
        treated=control.times(hazard_ratio), control=control, accrual=Accrual.uniform(float(given["accrual"])),
        dropout_treated=dropout, dropout_control=dropout, ratio=ratio,
    )  # fmt: skip
    method = row["endpoint"].rsplit("_", 1)[-1].lower()
    events = events_needed(error, hazard_ratio=hazard_ratio, ratio=ratio, method={"hsiehfreedman": "hsieh_freedman"}.get(method, method))  # fmt: skip
    return events, survival_size(events, times, follow_up=float(given["followup"])).subjects


def test_fixed_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getSampleSizeMeans / Rates / Survival: 1e-3 relative."""
    rows, worst = table("sample_size_fixed.csv"), 0.0
    for row in rows:
        pairs: list[tuple[str, float]] = []
        if row["endpoint"].startswith("survival"):
            events, size = survival_row(row)
            pairs.append(("events", events))
        else:
            size = means_rates(row)
            pairs.append(("n_total_normal_approx", means_rates(row, "normal").total))
        pairs += [("n_total_exact", size.total), ("n1", size.treated), ("n2", size.control)]
        for column, value in pairs:
            if (expected := number(row[column])) is not None:
                worst = max(worst, abs(value / expected - 1))
                assert value == pytest.approx(expected, rel=1e-5), row
    told(capsys, "sample_size_fixed.csv", len(rows), worst)


def test_sizes_of_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact 4.5 getSampleSizeCounts: the exact total after rounding up."""
    rows = table("sample_size_counts.csv")
    for row in rows:
        found = counts_size(
            error_of(row), control=float(row["lambda_control"]), rate_ratio=float(row["rate_ratio"]),
            overdispersion=float(row["overdispersion"]), exposure=Exposure(fixed=float(row["fixed_exposure"])),
        )  # fmt: skip
        assert found.whole == int(row["n_total"]), row
    told(capsys, "sample_size_counts.csv", len(rows), 0.0)


def test_sequential_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getSampleSizeMeans / Rates with a group-sequential design, alpha 0.025, power 0.9: 1e-3 relative."""
    rows, worst = table("sample_size_gs.csv"), 0.0
    for row in rows:
        kind = {"means": "means_two_sample_t", "rates": "rates_difference"}[row["endpoint"]]
        fixed = means_rates({**row, "endpoint": kind, "alpha": "0.025", "sided": "1", "power": "0.9"})
        looks = int(row["design"].rsplit("K", 1)[1])
        found = sequential_size(Plan(information=evenly(looks), efficacy=efficacy(row["design"])), fixed.total)
        got = {
            "max_n": found.maximum, "n_stage1": float(found.looks[0]), "E_H1": found.expected_effect, "E_H01": found.expected_half,
            "E_H0": found.expected_null, "reject_stage1": float(found.reject[0]), "early_stop": found.early,
        }  # fmt: skip
        for column, value in got.items():
            worst = max(worst, abs(value / float(row[column]) - 1))
            assert value == pytest.approx(float(row[column]), rel=1e-5), (row, column)
    told(capsys, "sample_size_gs.csv", len(rows), worst)


def test_sequential_survival(capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getSampleSizeSurvival with a group-sequential design, alpha 0.025, power 0.9: 1e-3 relative."""
    rows, worst = table("sample_size_gs_survival.csv"), 0.0
    for row in rows:
        looks, hazard_ratio = int(row["design"].rsplit("K", 1)[1]), float(row["HR"])
        control = Hazard.median(float(row["median_control"]))
        times = Times(
            treated=control.times(hazard_ratio), control=control, accrual=Accrual.uniform(float(row["accrual"]))
        )
        plan = Plan(information=evenly(looks), efficacy=efficacy(row["design"]))
        found = sequential_survival(plan, times, hazard_ratio=hazard_ratio, follow_up=float(row["followup"]))
        got = {
            "max_n": [found.subjects.total], "max_events": [found.events.maximum], "E_events_H0": [found.events.expected_null],
            "E_events_H01": [found.events.expected_half], "E_events_H1": [found.events.expected_effect],
            "analysis_times": found.times.tolist(), "study_duration_H1": [found.expected_duration],
        }  # fmt: skip
        for column, values in got.items():
            expected = [float(text) for text in row[column].split(";")]
            worst = max(worst, *(abs(a / b - 1) for a, b in zip(values, expected, strict=True)))
            assert values == pytest.approx(expected, rel=1e-5), (row, column)
    told(capsys, "sample_size_gs_survival.csv", len(rows), worst)


SEED = 20261122
GAP, OTHERS = 3.5, 4.5  # combined standard errors: of the power, and of the some hundred other numbers beside it


class Found:
    """What a simulated row is compared in: names and Estimates, of the columns and of `extra`."""

    def __init__(self, found: Simulated | Chosen) -> None:
        self.power, self.futile, self.subjects = found.power, found.futility, found.expected_subjects
        self.stages = found.reject_by_look if isinstance(found, Simulated) else found.success_by_stage
        self.extra: dict[str, tuple[Estimate, ...]] = {}
        if isinstance(found, Simulated):
            self.extra = {"analysisTime": found.analysis_times, "studyDuration": (found.expected_time,), "expEvents": (found.expected_events,)}  # fmt: skip
        else:
            reached = proportion(found.stage >= 1)
            arms = (*found.selected(1), reached)  # rpact counts the control among the arms
            self.extra = {"selectedArms stage2": arms, "selectedPopulations stage2": found.selected(1), "rejectedArms stage1+2 by arm": found.reject_each}  # fmt: skip


def numbers(text: str) -> list[float]:
    return [float(part) for part in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def within(scenario: str, word: str) -> list[float]:
    """The numbers after a word of a scenario: `delta=0.5`, `n cum 58,116,174`."""
    found = re.search(re.escape(word) + r"[= ]*((?:[-\d.]+[,/]?)+)", scenario)
    assert found, (scenario, word)
    return [float(part) for part in re.split("[,/]", found[1].rstrip(",/.")) if part]


def plan_for(scenario: str) -> Boundaries:
    found = re.search(r"\b((?:as)?(?:OF|P))\b K=(\d)", scenario)
    assert found, scenario
    stop = re.search(r"futility z ([-\d.,]+)", scenario)
    given = tuple(float(z) for z in stop[1].split(",")) if stop else ()
    return boundaries(Plan(information=evenly(int(found[2])), efficacy=efficacy(found[1]), futility=Futility(z=given) if given else None))  # fmt: skip


def simulated(row: dict[str, str], runs: int) -> Simulated | Chosen:
    """The same design and truth on our own chance."""
    text, kind = row["scenario"], row["fn"].removeprefix("getSimulation")
    bounds, chance = plan_for(text), {"seed": SEED, "replicates": runs}
    if kind == "Means" and "inverse normal" in text:
        low, high = numbers(text.split("stagewise n in")[1])[:2]
        rule = Reestimation(power=within(text, "conditional power")[0], least=(low,) * 3, most=(high,) * 3, whole=False)
        return simulated_reestimation(Combination(bounds=bounds), rule, within(text, "planned cum"), effect=within(text, "delta")[0], **chance)  # fmt: skip
    if kind == "Means":
        cumulative = [int(n) for n in within(text, "n cum")]
        return simulated_means(bounds, cumulative, effect=within(text, "delta")[0], test="z", **chance)
    if kind == "Rates":
        cumulative = [int(n) for n in within(text, "n cum")]
        return simulated_rates(
            bounds, cumulative, treated=within(text, "pi1")[0], control=within(text, "pi2")[0], **chance
        )
    if kind == "Survival":
        control = (
            Hazard.median(within(text, "median2")[0])
            if "median2" in text
            else Hazard.constant(within(text, "lambda2")[0])
        )
        times = Times(
            treated=delayed(text, control), control=control, accrual=Accrual.uniform(within(text, "accrual")[0])
        )
        events = [int(n) for n in within(text, "events")]
        return simulated_survival(bounds, events, times, subjects=int(within(text, "N")[0]), **chance)
    choice = Choice(kind="all" if re.search(r"select\w*[ =]all", text) else "best")
    if kind == "MultiArmMeans":
        arms, size = within(text, "effects"), int(numbers(text.split("per arm per stage")[0])[-1])
        return simulated_arms_means(bounds, [[size] * (1 + len(arms))] * 2, effects=arms, choice=choice, **chance)
    if kind == "MultiArmRates":
        arms, size = within(text, "pi "), int(numbers(text.split("per arm per stage")[0])[-1])
        return simulated_arms_rates(bounds, [[size] * (1 + len(arms))] * 2, rates=arms, control=within(text, "piControl")[0], choice=choice, **chance)  # fmt: skip
    assert kind == "EnrichmentMeans", kind
    own, rest = within(text, "effects S/R")
    return simulated_enrichment(bounds, [100, 100], prevalence=within(text, "prevalence")[0], effects=(own, rest), choice=choice, **chance)  # fmt: skip


def delayed(text: str, control: Hazard) -> Hazard:
    """`HR=0.7`, or a ratio that changes: `HR=1 until 6 then 0.6`."""
    ratios = within(text, "HR")
    later = re.search(r"HR ?=? ?([\d.]+)\D+([\d.]+)\D+?([\d.]+)", text) if re.search("delay|until|then", text) else None
    if later:
        first, time, second = (float(part) for part in later.groups())
        return control.changed(Hazard(starts=(0.0, time), rates=(first, second)))
    return control.times(ratios[0])


@pytest.mark.parametrize("share", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
def test_simulated_operating_characteristics(share: float, capsys: pytest.CaptureFixture[str]) -> None:
    """rpact getSimulation*: power within 3.5 combined standard errors, theirs scaled from ours by the runs.

    Where early stops are so rare that ours saw none, one stopped trial is the error of the expected number.
    """
    rows, worst = table("simulated_oc.csv"), {True: 0.0, False: 0.0}
    for row in rows:
        found, pairs = Found(simulated(row, round(share * int(row["iterations"])))), []
        pairs.append(("power", found.power, float(row["power"])))
        pairs += [("reject_stage", *both) for both in zip(found.stages, numbers(row["reject_stage"]), strict=True)]
        pairs.append(("expected_n", found.subjects, float(row["expected_n"])))
        if (futile := number(row["futility_stop"])) is not None:
            pairs.append(("futility_stop", found.futile, futile))
        for name, text in (part.split("=", 1) for part in row["extra"].split(";") if "=" in part):
            pairs += [(name, *both) for both in zip(found.extra[name], numbers(text))]
        for name, ours, theirs in pairs:
            rounding = 0.5e-3 if name in ("analysisTime", "expected_n", "expEvents") else 0.0
            least = float(row["expected_n"]) / ours.n if name == "expected_n" else 1e-9
            gap = max(0.0, abs(ours.value - theirs) - rounding) / ((1 + share) ** 0.5 * max(ours.mcse, least))
            worst[name == "power"] = max(worst[name == "power"], gap)
            assert gap < (GAP if name == "power" else OTHERS), (row["id"], name, ours, theirs)
    told(capsys, f"simulated_oc.csv, {share:.0%} of the runs, power (combined standard errors)", len(rows), worst[True])
    told(capsys, f"simulated_oc.csv, {share:.0%} of the runs, the other columns", len(rows), worst[False])
