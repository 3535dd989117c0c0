"""Protocols on the same virtual patients. Witnesses: each protocol run alone, equality of covariates, no doses at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pkpd.ground.errors import InputError
from trials.comedication import Comedication, Taken
from trials.compared import compared, same_people, without_effect
from trials.comparison import Comparison
from trials.design import imbalance
from trials.designs.text_scenarios import Costs
from trials.dispatch import Mode
from trials.operating import difference
from trials.planned import Rescue, Switch
from trials.protocol import Intercurrent, Protocol
from trials.record import RunRecord
from trials.run import run

SERIAL = Mode(kind="serial")
FEWER = ("subjects: 24", "subjects: 18")


@pytest.fixture(scope="module")
def files(study: Path, protocol_text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small protocol with 24 and with 18 subjects."""
    less = study.with_name("fewer.yaml")
    less.write_text(protocol_text.replace(*FEWER), encoding="utf-8")
    return {"whole": study, "fewer": less}


@pytest.fixture(scope="module")
def made(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    out = tmp_path_factory.mktemp("compared")
    costs = Costs(fixed=10.0, subject=2.0, time=1.0, value=500.0)
    return compared(files, out, mode=SERIAL, null=True, costs=costs, replicates=6), out


def test_each_protocol_is_what_it_is_alone(
    made: tuple[Comparison, Path], files: dict[str, Path], tmp_path: Path
) -> None:
    alone = run(files["fewer"], tmp_path / "alone", mode=SERIAL, replicates=6)
    beside = RunRecord.read(made[1] / "fewer")
    assert beside.digest == alone.digest
    found = made[0].scenarios[0].estimates["fewer"]["reject_primary.fev1.high"]
    rows = alone.analyses[(alone.analyses["analysis"] == "primary") & (alone.analyses["contrast"] == "high")]
    assert found.value == pytest.approx(rows["reject"].mean())


def test_people_are_the_same_and_differences_are_paired(made: tuple[Comparison, Path]) -> None:
    found, out = made
    whole, fewer = (RunRecord.read(out / name) for name in found.designs)
    assert same_people(whole, fewer) == 1.0
    assert "100.0 %" in found.remarks[0]
    rows = [
        r.analyses[(r.analyses["analysis"] == "primary") & (r.analyses["contrast"] == "high")]
        .sort_values("replicate")["estimate"].to_numpy() for r in (fewer, whole)
    ]  # fmt: skip
    expected = difference(*rows)
    (shown,) = (d for d in found.scenarios[0].differences if d.measure == "estimate_primary.fev1.high")
    assert (shown.paired.value, shown.paired.mcse) == (expected.value, expected.mcse)
    assert found.scenarios[0].estimates["fewer"]["subjects"].value == 18


def test_scenarios_without_an_effect_have_none(made: tuple[Comparison, Path], files: dict[str, Path]) -> None:
    """With the control's doses in every arm each subject's true outcomes are the same in all arms."""
    found, out = made
    assert [s.name for s in found.scenarios] == ["assurance", "power at the median parameters", "no effect"]
    assert found.scenarios[-1].null == {"whole": "global", "fewer": "global"}
    protocol = without_effect(Protocol.read(files["whole"]))
    assert all(not arm.regimen for arm in protocol.arms.values())
    run_ = RunRecord.read(out / "whole" / "null")
    assert (run_.outcomes["CP.true@day14"] == 0).all()
    assert RunRecord.read(out / "whole").outcomes["CP.true@day14"].max() > 1


@pytest.mark.parametrize("control", [True, False])
def test_without_an_effect_all_arms_have_what_the_control_has(files: dict[str, Path], control: bool) -> None:
    """Rescue or an inhibitor in one arm alone, or a regimen begun anew in one arm, would be a difference to find."""
    protocol = Protocol.read(files["whole"])
    against = next(iter(protocol.estimands.values())).against
    one = against if control else next(arm for arm in protocol.arms if arm != against)
    events = {
        "over": Intercurrent(switch=Switch(after="ache", from_=(one,), to="high")),
        "more": Intercurrent(rescue=Rescue(measure="FEV1", at=("day7",), regimen=(), arms=(one,))),
    }
    taken = Comedication(parameters={"CL": -1.0}, clearance=0.5, who="AGE > 50", arms={one: Taken(share=0.3)})
    whole = without_effect(dataclasses.replace(protocol, intercurrent=events, comedication={"inhibitor": taken}))
    found, plan = whole.intercurrent, whole.comedication["inhibitor"]
    switch, rescue = found["over"].switch, found["more"].rescue
    assert (plan.arms, plan.share, plan.who) == ({}, 0.3 if control else 0.0, "AGE > 50")
    assert switch is not None
    assert rescue is not None
    assert switch.from_ == (tuple(protocol.arms) if control else ())
    assert (rescue.arms, rescue.at) == ((), ("day7",) if control else ())


def test_costs_and_bias(made: tuple[Comparison, Path]) -> None:
    e = made[0].scenarios[0].estimates["whole"]
    assert e["cost"].value == pytest.approx(10 + 2 * 24 + 14)
    assert e["net"].value == pytest.approx(500 * e["decide_go"].value - e["cost"].value)
    bias = e["bias_primary.fev1.high"]
    assert (bias.n, bias.failed) == (3, 3)  # the text computes the truth of three trials
    assert np.isfinite(bias.value)


def test_a_finished_run_is_read_and_another_refused(made: tuple[Comparison, Path], files: dict[str, Path]) -> None:
    begun = (made[1] / "whole" / "blocks" / "00000.json").stat().st_mtime_ns
    again = compared(files, made[1], mode=SERIAL, null=True, replicates=6)
    assert (made[1] / "whole" / "blocks" / "00000.json").stat().st_mtime_ns == begun
    assert again.scenarios[0].estimates["whole"]["reject"] == made[0].scenarios[0].estimates["whole"]["reject"]
    with pytest.raises(InputError, match="holds another run"):
        compared(files, made[1], mode=SERIAL, null=True, seed=12, replicates=6)


def test_what_cannot_be_paired_is_refused(files: dict[str, Path], protocol_text: str, tmp_path: Path) -> None:
    other = files["whole"].with_name("other.yaml")
    other.write_text(protocol_text.replace("seed: 11", "seed: 12"), encoding="utf-8")
    with pytest.raises(InputError, match="different seed"):
        compared({"a": files["whole"], "b": other}, tmp_path / "out", mode=SERIAL)


def test_minimised_and_permuted_allocation_of_the_same_people(study: Path, protocol_text: str, tmp_path: Path) -> None:
    """The factors are balanced at the end; both protocols enrol the same people."""
    old = "allocation: {method: permuted_block, size: 6, strata: [SEX]}"
    assert old in protocol_text
    files = {"permuted": study}
    for name, plan in {"minimised": "method: minimisation, probability: 1, ", "complete": ""}.items():
        files[name] = study.with_name(f"{name}.yaml")
        text = protocol_text.replace(old, f"allocation: {{{plan}strata: [SEX, SMOKING]}}")
        text = text.replace("adjust: [baseline, SEX]", "adjust: [baseline, SEX, SMOKING]")
        files[name].write_text(text, encoding="utf-8")
    compared(files, tmp_path / "out", mode=SERIAL, replicates=8)
    records = {name: RunRecord.read(tmp_path / "out" / name) for name in files}
    assert same_people(records["permuted"], records["minimised"]) == 1.0
    worst = {}
    for name in ("minimised", "complete"):
        rows = records[name].outcomes
        factors = np.stack([rows[c].to_numpy(np.int64).reshape(8, -1) for c in ("SEX", "SMOKING")], axis=2)
        worst[name] = imbalance(rows["arm"].to_numpy().reshape(8, -1), factors, [1, 1, 1])
    assert worst["minimised"].max() <= 3 < worst["complete"].max()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("method: minimisation", "needs factors"),
        ("method: minimisation, strata: [SEX], size: 6", "no blocks"),
        ("method: minimisation, strata: [SEX], probability: 0.2", "less than an equal share"),
    ],
)
def test_bad_minimisation_is_refused(protocol_text: str, given: str, words: str) -> None:
    old = "method: permuted_block, size: 6, strata: [SEX]"
    with pytest.raises(InputError, match=words):
        Protocol.parse(protocol_text.replace(old, given), complete=False)
