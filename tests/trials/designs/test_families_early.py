"""Escalation, two stages, adaptive shares and baskets as texts. Witnesses: every path, binomial sums, the modules alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.designs import simon
from trials.designs.boin import boin
from trials.designs.designed import solved
from trials.designs.escalation import enumerate_exactly, simulate
from trials.designs.family_escalation import rule_of, wanted
from trials.designs.grid import compared, null_of, samples
from trials.designs.text import Design
from trials.designs.text_scenarios import Truth

EXAMPLES = Path(__file__).parents[3] / "examples" / "designs"
RATES = [0.04, 0.15, 0.30, 0.48, 0.68]


def read(name: str) -> Design:
    return Design.read(EXAMPLES / f"{name}.yaml")


def test_escalation_text_is_the_rule_itself() -> None:
    design, which = read("dose_escalation_boin"), np.arange(300)
    alone = simulate(boin(5, 0.3, patients=30), RATES, seed=18, replicates=which)
    found = samples(design, Truth(), seed=18, replicates=which)
    assert np.array_equal(found["selected_3"].values > 0.5, alone.selected == 2)
    assert np.array_equal(found["toxicities"].values, alone.state.toxic.sum(axis=1))
    assert np.array_equal(found["correct"].values, found["selected_3"].values)


def test_rules_share_their_patients_and_agree_with_every_path() -> None:
    designs = {name: read(f"dose_escalation_{name}") for name in ("boin", "3plus3")}
    found = compared(designs, replicates=1500)
    planned = found.scenarios[0]
    assert max(s.worst() for s in found.scenarios) < 3.8  # the largest of 54
    assert planned.main == "correct"
    paths = enumerate_exactly(rule_of(designs["boin"]), RATES)
    assert planned.exact["boin"]["correct"].value == pytest.approx(float(paths.selected[3]))
    assert {d.measure: d for d in planned.differences}["correct"].gain > 1.2
    assert not any(s.null for s in found.scenarios)


@pytest.mark.parametrize(("rates", "dose"), [(RATES, 2), ([0.3, 0.45, 0.6], 0), ([0.05, 0.1, 0.2], 2), ([0.2, 0.4], 0)])
def test_the_right_dose_is_the_nearest_the_lower_of_two(rates: list[float], dose: int) -> None:
    assert wanted(np.array(rates), 0.3) == dose


def test_two_stages_are_simons() -> None:
    """Simon 1989, table 1: p0 = 0.1, p1 = 0.3, alpha 0.05, beta 0.2: 1/10 and 5/29, expected size 15.0."""
    design = read("simon_two_stage")
    assert "stop with 1 or fewer of 10; promising with more than 5 of 29" in solved(design)["remarks"][0]
    found = compared({"d": design}, replicates=8000)
    assert max(s.worst() for s in found.scenarios) < 3.5
    nothing = found.scenarios[1]
    exact = simon.characteristics(simon.TwoStage(r1=1, n1=10, r=5, n=29), 0.1)
    assert nothing.exact["d"]["type_i_error"].value == pytest.approx(float(exact.promising[0]))
    assert nothing.null == {"d": "global"}


def test_adaptive_shares_find_the_best_arm_and_know_when_there_is_none() -> None:
    found = compared({"d": read("adaptive_randomisation")}, replicates=150)
    planned, nothing = (s.estimates["d"] for s in found.scenarios)
    assert planned["on_best"].value > 0.4 > 1 / 3
    assert planned["correct"].value > 0.9
    assert nothing["type_i_error"] == nothing["reject"]
    assert [s.null.get("d") for s in found.scenarios] == [None, "global"]


def test_false_successes_of_baskets_are_those_of_the_ones_without_effect() -> None:
    design = read("baskets")
    truth = design.simulate.truths["one"]  # type: ignore[union-attr]
    assert null_of(design, truth) == "partial"
    found = samples(design, truth, seed=2, replicates=np.arange(12))
    each = np.stack([found[f"reject_{b}"].values for b in ("skin", "colon", "breast")])
    assert np.array_equal(found["type_i_error"].values, each.max(axis=0))
    assert found["subjects"].values.max() <= 80


def test_a_cohort_is_followed_up_before_the_next_one() -> None:
    """BOIN, ten cohorts of 3, two subjects a month, a month to know: 15 months of entries and 10 of waiting on average."""
    text = (EXAMPLES / "dose_escalation_boin.yaml").read_text() + "enrolment: {rate: 2, follow_up: 1}\n"
    design = Design.parse(text)
    truth = design.simulate.truths["flat"]  # type: ignore[union-attr]
    found = samples(design, truth, seed=2, replicates=np.arange(400))
    whole = found["subjects"].values == 30
    assert whole.mean() > 0.95
    assert found["duration"].values[whole].mean() == pytest.approx(25.0, abs=4 * np.sqrt(30) / 2 / 20)
    assert found["duration"].values.min() > found["subjects"].values.min() / 3


WRONG = [
    ("dose_escalation_tite", "simulate:", "enrolment: {rate: 2}\nsimulate:", "is not heard here"),
    ("dose_escalation_boin", "[0.04, 0.15, 0.30, 0.48, 0.68]", "[0.04, 0.15, 0.10]", "must not fall"),
    ("dose_escalation_boin", "cohort: 3", "cohort: 3\n    skeleton: [0.1, 0.2, 0.3, 0.4, 0.5]", "does not use skeleton"),
    ("dose_escalation_crm", "    skeleton: [0.084, 0.157, 0.25, 0.355, 0.46]", "    start: 1", "needs skeleton"),
    ("dose_escalation_boin", "[0.30, 0.45, 0.60, 0.70, 0.80]", "[0.3, 0.4]", "needs 5 rates"),
    ("simon_two_stage", "promising: 0.3", "promising: 0.1", "above null"),
    ("simon_two_stage", "{treated: 0.1}", "{control: 0.1}", "says nothing here"),
    ("adaptive_randomisation", "{low: 0.3, high: 0.3}", "{mid: 0.3}", "is no arm"),
    ("baskets", "{skin: 0.15, colon", "{skin: 1.5, colon", "must be a rate"),
    ("adaptive_randomisation", "looks: [60, 120, 180, 240]", "looks: [60, 60]", "must increase"),
    ("adaptive_randomisation", "inferiority: 0.01", "inferiority: 0.51", "every arm at once"),
    ("dose_escalation_blrm", "target: 0.25", "target: 0.4", "aims at rates from 0.16 to 0.33"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "words"), WRONG)
def test_one_clear_error(name: str, old: str, new: str, words: str) -> None:
    text = (EXAMPLES / f"{name}.yaml").read_text()
    assert old in text
    with pytest.raises(InputError, match=words) as wrong:
        Design.parse(text.replace(old, new), "d.yaml")
    assert wrong.value.line
