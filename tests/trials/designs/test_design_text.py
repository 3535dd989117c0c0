"""The text of a design: what is wrong is said with file, line, field, value and remedy; every example is solved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pkpd.ground.errors import InputError
from reports.cli import main
from trials.designs.designed import solved
from trials.designs.simulated import simulated
from trials.designs.text import Design, json_schema

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "designs").glob("*.yaml"))
BASE = """\
vtrial: design/1
name: a
endpoint:
  means: {effect: 0.5, sd: 1}
error: {alpha: 0.025, power: 0.9}
allocation: {treated: 1, control: 1}
looks: [0.5, 0.75, 1]
efficacy: {spending: lan_demets_obrien_fleming}
"""
ENDPOINT, SPENDING = "means: {effect: 0.5, sd: 1}", "spending: lan_demets_obrien_fleming"
HR = "survival: {hazard_ratio: 0.7, control: {median: 12}, accrual: {duration: 12}, "
ARMS = "select: {arms: {a: 0.1, b: 0.2}, each: 10}\n"
REESTIMATE = "reestimate: {subjects: [40, 80, 120], conditional_power: 0.9, least: [1, 1, 1], most: [9, 9, 9]"

# (what is changed, into what, what is added) -> line, field, words of the problem
WRONG = [
    ("[0.5, 0.75, 1]", "[0.5, 0.5, 1]", "", 7, "looks", "must increase"),
    ("[0.5, 0.75, 1]", "[0.75, 0.5, 1]", "", 7, "looks", "must increase"),
    ("[0.5, 0.75, 1]", "[0.5, 0.9]", "", 7, "looks", "must be 1"),
    ("[0.5, 0.75, 1]", "none", "", 7, "looks", "number of looks"),
    (SPENDING, SPENDING + ", family: pocock", "", 8, "efficacy", "spent twice"),
    (SPENDING, "spending: obrien", "", 8, "efficacy.spending", "no spending function"),
    (SPENDING, "spending: given, cumulative: [0.01, 0.02, 0.05]", "", 8, "efficacy.cumulative", "must end at 0.025"),
    (SPENDING, "spending: kim_demets", "", 8, "efficacy.shape", "must be > 0"),
    (SPENDING, "family: wang", "", 8, "efficacy.family", "no boundary family"),
    ("efficacy: {spending: lan_demets_obrien_fleming}\n", "", "", 1, "efficacy", "is missing"),
    ("looks: [0.5, 0.75, 1]\n", "", "", 7, "efficacy", "needs looks"),
    ("{treated: 1, control: 1}", "{treated: 0, control: 0}", "", 6, "allocation", "sums to 0"),
    ("{treated: 1, control: 1}", "{treated: 1, control: 0}", "", 6, "allocation", "share > 0"),
    ("alpha: 0.025", "alpha: 0.6", "", 5, "error.alpha", "between 0 and 0.5"),
    ("alpha: 0.025", "alpha: 0.05, sides: 3", "", 5, "error.sides", "must be '1' or '2'"),
    ("power: 0.9", "power: 0.01", "", 5, "error.power", "between alpha and 1"),
    ("sd: 1", "sdd: 1", "", 4, "endpoint.means.sdd", "unknown key"),
    ("effect: 0.5", "effect: 0", "", 4, "endpoint.means.effect", "no size is enough"),
    (ENDPOINT, ENDPOINT + "\n  one_proportion: {rate: 0.5, null: 0.3}", "", 4, "endpoint", "exactly one"),
    (ENDPOINT, HR.replace("0.7", "1") + "follow_up: 12}", "", 4, "endpoint.survival.hazard_ratio", "differ from the null"),
    (ENDPOINT, HR + "subjects: 100}", "", 4, "endpoint.survival.subjects", "never give"),
    (ENDPOINT, "proportions: {treated: 0.2, control: 0.2}", "", 4, "endpoint.proportions.treated", "no size is enough"),
    ("", "", "futility: {z: [0], binding: no}\n", 9, "futility.z", "needs 2 values"),
    ("", "", "futility: {z: [0, 0.5], spending: lan_demets_pocock}\n", 9, "futility", "spent twice"),
    ("", "", "futility: {z: [5, 0.5]}\n", 9, "futility", "nobody would go on"),
    ("", "", "simulate: {seed: 1, truths: {a: {hazard_ratio: 1}}}\n", 9, "simulate.truths.a.hazard_ratio", "says nothing"),
    ("", "", ARMS + "simulate: {seed: 1, truths: {x: {arms: {c: 1}}}}\n", 10, "simulate.truths.x.arms.c", "is no arm"),
    ("", "", REESTIMATE.replace("80", "30") + "}\n", 9, "reestimate.subjects", "must increase"),
    ("", "", REESTIMATE.replace("least: [1, 1, 1]", "least: [1, 99, 1]") + "}\n", 9, "reestimate.least", "not above most"),
    ("", "", "enrich: {prevalence: 0.5, subjects: [10, 10], effects: [1, 0]}\n", 9, "enrich.subjects", "needs 3 numbers"),
    ("alpha: 0.025", "alpha: 0.05, sides: 2", ARMS, 5, "error.sides", "must be one-sided"),
    ("", "", ARMS + "futility: {z: [0, 0]}\n", 10, "futility", "not heard with select"),
    ("{treated: 1, control: 1}", "{treated: 2, control: 1}", ARMS, 6, "allocation", "not heard with select"),
    ("", "", REESTIMATE + ", fisher: {method: equal}}\n", 8, "efficacy", "not heard with Fisher"),
    (ENDPOINT, "means: {effect: 0.5, sd: 1, groups: 1}", "simulate: {seed: 1, truths: {a: {}}}\n", 4, "endpoint.means.groups", "not simulated"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "added", "line", "field", "words"), WRONG)
def test_one_clear_error(old: str, new: str, added: str, line: int, field: str, words: str) -> None:
    assert old in BASE
    with pytest.raises(InputError) as wrong:
        Design.parse((BASE.replace(old, new, 1) if old else BASE) + added, "d.yaml")
    error = wrong.value
    assert (error.file, error.line, error.field) == ("d.yaml", line, field)
    assert words in str(error)
    assert error.remedy


def test_looks_by_number_are_equally_spaced() -> None:
    assert Design.parse(BASE.replace("[0.5, 0.75, 1]", "4")).looks == (0.25, 0.5, 0.75, 1.0)


def test_defaults_are_said_and_there_is_a_schema() -> None:
    told = Design.parse(BASE).to_dict()
    assert (told["error"]["sides"], told["endpoint"]["means"]["test"], told["futility"]) == ("1", "t", None)
    assert json_schema()["title"] == "Design"


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_solved_and_simulated(file: Path) -> None:
    """Every family has its annotated example; with few trials the simulation agrees with the numbers to 5 MCSE."""
    made = Design.read(file)
    answer = solved(made)
    json.dumps(answer, allow_nan=False)
    rows = simulated(made, {"baskets": 2, "escalation": 8}.get(made.endpoint.kind, 400))
    json.dumps(rows, allow_nan=False)
    planned = next((row["power"] for row in rows if row["truth"] == "planned"), None)
    if planned is not None and "power" in answer:
        assert abs(planned["value"] - answer["power"]) < 5 * planned["mcse"]
    if "bounds" in answer:
        assert answer["bounds"][-1]["alpha_spent"] == pytest.approx(answer["alpha"], abs=1e-8)


def test_the_command_prints_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    file = next(path for path in EXAMPLES if path.stem == "group_sequential_means")
    assert main(["design", str(file)]) == 0
    page = capsys.readouterr().out
    assert "2.9626" in page  # rpact asOF at half the information
    assert main(["design", str(file), "--json", "--replicates", "50"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bounds"][0]["critical_z"] == pytest.approx(2.9625880, abs=1e-6)
    assert {row["truth"] for row in told["simulated"]} == {"planned", "half", "nothing"}
    assert main(["check", str(file)]) == 0


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(BASE.replace("[0.5, 0.75, 1]", "[0.5, 0.4, 1]"), encoding="utf-8")
    assert main(["design", str(bad)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "bad.yaml:7:8 looks:" in told.err
