"""Comedication and impairment: identities of the formulas, then a small linear trial with and without."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from pkpd.ground import digest
from pkpd.ground.errors import InputError
from pkpd.ground.validation import adapter
from pkpd.model.timeline import Timeline
from trials import record
from trials.block import simulate_block
from trials.comedication import Comedication
from trials.dispatch import Mode
from trials.modifiers import lost, profile, refined
from trials.pairs import pair
from trials.protocol import Protocol
from trials.run import prepare, run
from trials.setting import Payload
from trials.verify import verify

MODEL = """\
vtrial: model/1
name: halved
covariates: {CYP2D6_ACTIVITY: {reference: 1}}
states: {central: mg}
parameters:
  CL: {typical: 4 L/h, se: 0.1, iiv: 0.3, status: assumed}
  V: {typical: 20 L, iiv: 0.2, status: assumed}
  P: {typical: 0.05 L/mg, scale: identity, status: assumed}
equations: |
  C = central/V
  d/dt(central) = -CL*(0.2 + 0.8*CYP2D6_ACTIVITY)*C
  RISK = 1 - exp(-P*CAV)
summaries: {CAV: {of: C, as: average, window: 1 d}}
outputs: {CP: {is: C, error: {proportional: 0.1}}}
events: {sick: {term: Nausea, risk: RISK, per: 14 d}}
"""
PROTOCOL = """\
vtrial: protocol/1
name: chain
model: {file: model.yaml, parameters: published, draws: 20}
seed: 5
replicates: 4
population:
  law: nhanes_adults
  eligible: {age: AGE <= 70}
  genotype: {ancestry: {European: 1}, genes: [CYP2D6], frequencies: {CYP2D6: {European: {"*4": 0.5}}}}
subjects: 30
arms:
  none: {regimen: []}
  drug: {regimen: [{amount: 100 mg, into: central, every: 12 h, for: 20 d}]}
allocation: {method: permuted_block, size: 4}
visits: {start: {day: 0}, week1: {day: 7}, end: {day: 20}}
comedication:
  halving: {clearance: 0.5, interval: [0.5, 0.5], parameters: {CL: -1}, share: 0.5}
  inhibitor: {clearance: 0.4, interval: [0.3, 0.5], fm: {CYP2D6: 0.8}, parameters: {CL: -1}, share: 0, from: 10 d,
              monitor: {measure: CP, days: [2, 5], above: 10 mg/L}}
impairment:
  liver: {scale: child_pugh, shares: {B: 0.2}, parameters: {CL: {B: 0.5}}, intervals: {CL: {B: [0.5, 0.5]}}}
  kidney: {scale: egfr, parameters: {CL: {moderate: 0.8}}, intervals: {CL: {moderate: [0.8, 0.8]}}}
food: {scale: food, shares: {fed: 0.5}, parameters: {V: {fed: 1.5}}, intervals: {V: {fed: [1.5, 1.5]}}}
endpoints: {level: {output: CP, at: end, as: value}}
estimands: {primary: {endpoint: level, compare: [drug], against: none, summary: mean_difference}}
analyses: {primary: {method: ancova}}
truth: {replicates: 4}
"""


def read(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The protocol with some words changed, beside its model."""
    text = PROTOCOL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "model.yaml").write_text(MODEL)
    (tmp_path / "protocol.yaml").write_text(text)
    return tmp_path / "protocol.yaml"


def tables(payload: Payload, first: int, stop: int) -> dict[str, pd.DataFrame]:
    """The tables of some replicates simulated as one block."""
    found = simulate_block(payload, record.Block(number=0, first=first, stop=stop)).tables
    return {name: pd.read_parquet(io.BytesIO(data)) for name, data in found.items()}


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Payload:
    return prepare(read(tmp_path_factory.mktemp("chain"))).variants["main"].payload


@pytest.fixture(scope="module")
def whole(payload: Payload) -> dict[str, pd.DataFrame]:
    return tables(payload, 0, 4)


@pytest.fixture(scope="module")
def chain(whole: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return whole["chain"]


def of(chain: pd.DataFrame, world: str, measure: str, level: int | None = None) -> pd.DataFrame:
    """Rows of all, or of a phenotype of CYP2D6."""
    group, level = ("all", 0) if level is None else ("CYP2D6_PHENOTYPE", level)
    kept = chain[(chain["world"] == world) & (chain["measure"] == measure)]
    return kept[(kept["group"] == group) & (kept["level"] == level)]


def test_shares_lost_are_those_of_the_formula() -> None:
    """By hand: fm 0.8, left 0.25, activity 0.5: 0.8 x 0.5 x 0.75/(1 - 0.4) = 0.5; none at activity 0 or nothing taken;
    two enzymes add; activity 1.83 at fm 0.7, left 0.5 (a smoker): 0.6405/1.581."""
    fm, left = np.array([0.8]), np.array([0.25])
    assert lost(fm, left, np.array([0.5])) == pytest.approx(0.5, abs=1e-15)
    assert lost(fm, left, np.array([0.0])) == 0.0
    assert lost(np.array([1.0]), left, np.array([0.0])) == 0.0  # the only pathway, in a poor metaboliser
    assert lost(fm, np.array([1.0]), np.array([1.3])) == 0.0
    assert lost(np.array([0.5, 0.3]), np.array([0.0, 0.5]), np.ones(2)) == pytest.approx(0.65, abs=1e-15)
    assert lost(np.array([0.7]), np.array([0.5]), np.array([1.83])) == pytest.approx(0.6405 / 1.581, rel=1e-12)


def test_an_effect_comes_and_goes_with_its_half_life() -> None:
    """Mean of 1 - 2^(-t/h) over a step of h/2 by its integral; back to nothing after the end; the area under the level
    while it comes is the time minus h/ln 2 (the exponential's), to the 2^-7 that is cut off."""
    plan = Comedication(parameters={"CL": -1.0}, clearance=0.5, from_=10.0, until=500.0, half_life=8.0)
    times, levels = profile(plan)
    assert levels[1] == pytest.approx(1 - (1 - 2**-0.5) / (0.5 * np.log(2)), abs=1e-12)
    assert (np.diff(times) > 0).all()
    assert levels[0] == levels[-1] == 0.0
    up = (times >= 10.0) & (times < 500.0)
    area = (np.diff(np.append(times[up], 500.0)) * levels[up]).sum()
    assert area == pytest.approx(490.0 - 8.0 / np.log(2), abs=8.0 / np.log(2) * 2**-7 * 1.01)


def test_a_timeline_gains_rows_without_changing_what_holds() -> None:
    """Identity: a row at a border continues the row before it; a border at an old row adds none."""
    line = Timeline(
        offsets=np.array([0, 2, 3]), time=np.array([-np.inf, 24.0, -np.inf]), late=np.zeros(3, np.bool_),
        values={"X": np.array([1.0, 2.0, 3.0])}, slopes={"X": np.zeros(3)}, occasion=np.array([0, 1, 0]),
    )  # fmt: skip
    made, parent = refined(line, np.array([24.0, 48.0]))
    assert made.time.tolist() == [-np.inf, 24.0, 48.0, -np.inf, 24.0, 48.0]
    assert parent.tolist() == [0, 1, 1, 2, 2, 2]
    assert made.values["X"].tolist() == [1.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    assert made.occasion.tolist() == [0, 1, 1, 0, 0, 0]


def test_half_the_clearance_doubles_the_average_and_halves_the_dose(chain: pd.DataFrame) -> None:
    """Linear kinetics at steady state: average = dose/(CL tau), whatever the person; day 20 is 14 half-lives and more
    in everybody but the slowest."""
    for world, times in (("halving", 2.0), ("liver B", 2.0), ("kidney moderate", 1.25), ("food fed", 1.0)):
        fast = of(chain, world, "ratio CAV", 2)  # normal metabolisers
        assert len(fast) == 4
        assert fast["value"].to_numpy() == pytest.approx(times, rel=2e-4)
        assert of(chain, world, "dose", 2)["value"].to_numpy() == pytest.approx(1 / times, rel=4e-4)
        assert (of(chain, world, "within adjusted", 2)["value"] == 1.0).all()
    assert (of(chain, "halving", "within as planned", 2)["value"] == 0.0).all()


def test_nothing_is_inhibited_where_there_is_nothing(chain: pd.DataFrame, payload: Payload) -> None:
    """Activity 0: the ratio is 1 exactly and so is the dose. Normal metabolisers: 1/(1 - lost) of the replicate's own
    draw, which a linear model turns into the exposure ratio."""
    poor = of(chain, "inhibitor", "ratio CAV", 0)
    assert len(poor) == 4
    assert (poor["value"] == 1.0).all()
    assert (of(chain, "inhibitor", "dose", 0)["value"] == 1.0).all()
    normal = of(chain, "inhibitor", "ratio CAV", 2)["value"].to_numpy()
    effect = payload.effects["inhibitor"]
    possible = 1.0 / (1.0 - (effect["fm"] * (1.0 - effect["left"])).sum(axis=1))
    assert np.abs(np.log(normal[:, None] / possible[None, :])).min(axis=1).max() < 2e-3
    assert np.quantile(1.0 / possible, (0.025, 0.5, 0.975)) == pytest.approx([0.4**2 / 0.516, 0.4, 0.516], rel=0.04)


def test_risks_rise_with_exposure_and_samples_find_it(chain: pd.DataFrame) -> None:
    """Common random numbers: nobody who is sick without is spared with, so risks rise in every replicate."""
    worse = (
        of(chain, "halving", "with sick")["value"].to_numpy(),
        of(chain, "halving", "without sick")["value"].to_numpy(),
    )
    assert (worse[0] >= worse[1]).all()
    assert worse[0].mean() > worse[1].mean() + 0.02
    found, false = (of(chain, "inhibitor", f"{side} by 5")["value"].mean() for side in ("found", "false"))
    assert found > false
    assert of(chain, "inhibitor", "day found")["value"].between(2, 5).all()


def test_blocks_of_any_size_give_the_same_bits(payload: Payload, whole: dict[str, pd.DataFrame]) -> None:
    """A replicate by itself is the same as among others, in the outcome table and the chain's."""
    alone = tables(payload, 2, 3)
    for name in ("outcomes", "chain"):
        among = whole[name][whole[name]["replicate"] == 2].reset_index(drop=True)
        pd.testing.assert_frame_equal(among, alone[name].reset_index(drop=True), check_exact=True)
    assert len(alone["chain"]) > 100


def test_people_have_their_classes_and_comedication(whole: dict[str, pd.DataFrame]) -> None:
    """Shares of the text within 4 standard errors of 120 people; renal classes by the limits of the FDA (2024)."""
    people = whole["outcomes"]
    for name, share in (("comedication.halving", 0.5), ("FED", 0.5), ("comedication.inhibitor", 0.0)):
        assert abs(people[name].mean() - share) <= 4 * np.sqrt(share * (1 - share) / len(people))
    assert set(people["CHILD_PUGH"]) == {0.0, 2.0}
    steps = sum((people["EGFR"] < limit).astype(float) for limit in (90, 60, 30, 15))
    assert (people["RENAL"] == steps).all()
    assert people["RENAL"].nunique() > 1


def test_effects_survive_the_disk(payload: Payload) -> None:
    again = record.read_effects(record.effects_bytes(payload.effects))
    assert list(again) == list(payload.effects)
    for name, parts in payload.effects.items():
        for key, x in parts.items():
            assert again[name][key].shape == x.shape
            assert (again[name][key] == x).all()


def test_the_library_gives_shares_and_what_is_left() -> None:
    """Identities: the ratio of the shares is the calibrated ratio of `vtrial ddi` (single enzyme); theophylline with
    fluvoxamine against its published clearance, -62 % in healthy volunteers (Orlando et al. 2006, as the label and
    reference works quote it): inside the 90 % interval."""
    found = pair(("fluvoxamine", "theophylline"), "100 mg once daily", draws=200, seed=1)
    assert found.enzymes[0] == "CYP1A2"
    assert ((found.fm >= 0) & (found.fm.sum(axis=1, keepdims=True) <= 0.995 + 1e-12)).all()
    low, high = np.quantile(found.ratio, (0.05, 0.95))
    assert low < 1 / (1 - 0.62) < high
    assert lost(found.fm, found.left, np.ones(found.fm.shape)) == pytest.approx(1 - 1 / found.ratio, abs=1e-12)


@pytest.mark.parametrize(("old", "new", "said"), [
    (", interval: [0.5, 0.5]", "", "how well the factor is known"),
    ("intervals: {CL: {B: [0.5, 0.5]}}", "intervals: {CL: {}}", "how well the factor is known"),
    ("clearance: 0.5, interval", "drug: paroxetine, victim: metoprolol, clearance: 0.5, interval", "one of them"),
    ("clearance: 0.5, interval: [0.5, 0.5]", "drug: paroxetin, victim: metoprolol", "unknown drug"),
    ("clearance: 0.5, interval: [0.5, 0.5]", "drug: paroxetine", "is missing"),
    ("interval: [0.3, 0.5]", "interval: [0.5, 0.6]", "must hold the factor"),
    ("fm: {CYP2D6: 0.8}", "fm: {CYP2D6: 0.5}", "at least what is lost"),
    ("parameters: {CL: -1}, share: 0,", "parameters: {CLX: -1}, share: 0,", "unknown parameter"),
    ("from: 10 d", "from: 10 d, until: 5 d", "must be after from"),
    ("from: 10 d", "from: 10 d, who: SMOKNG == 2", "unknown covariate"),
    ("above: 10 mg/L", "above: 10 mg", "mg"),
    ("shares: {B: 0.2}", "shares: {D: 0.2}", "unknown class"),
    ("scale: egfr", "scale: food, shares: {fed: 1}", "not of this block"),
    ("genes: [CYP2D6]", "genes: [CYP2D6, CYP2C9]", "model"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = read(tmp_path, (old, new)) if said != "model" else read(
        tmp_path, (old, new), ("fm: {CYP2D6: 0.8}", "fm: {CYP2C9: 0.8}"))  # fmt: skip
    with pytest.raises(InputError, match=said) as error:
        Protocol.read(path)
    assert error.value.line is not None
    assert error.value.remedy


def test_protocols_without_the_blocks_keep_their_key(tmp_path: Path) -> None:
    """Their plain values name none of the new fields; those with them survive plain values."""
    protocol = Protocol.read(read(tmp_path))
    again = adapter(Protocol).validate_python(json.loads(json.dumps(protocol.to_dict())))
    assert again == protocol
    bare: dict[str, Any] = dataclasses.replace(protocol, comedication={}, impairment={}, food=None).to_dict()
    assert not {"comedication", "impairment", "food"} & set(bare)


def test_the_report_says_what_the_table_holds(payload: Payload, chain: pd.DataFrame) -> None:
    """Identities: mean risks and the number needed by pandas and 1/difference; intervals only from 5 replicates on."""
    from reports.chained import chained

    twice = pd.concat([chain, chain.assign(replicate=chain["replicate"] + 4)])
    few, many = (
        chained(cast(Any, SimpleNamespace(chain=x, protocol=payload.protocol, effects=payload.effects)))
        for x in (chain, twice)
    )
    assert few is not None
    assert many is not None
    group = next(g for g in many.groups if (g.change, g.group) == ("Halving", "all"))
    (risk,) = group.risks
    difference = (
        of(chain, "halving", "with sick")["value"].mean() - of(chain, "halving", "without sick")["value"].mean()
    )
    assert risk.difference.value == pytest.approx(difference, abs=1e-12)
    assert risk.needed is not None
    assert risk.needed.value == pytest.approx(-1.0 / difference)
    assert risk.needed.text().startswith("NNTH")
    assert group.people == 30
    assert np.isnan(few.groups[0].ratios["CAV"].low)
    assert few.groups[0].risks[0].needed is None
    assert {name for name, _ in many.concerned} == {"Halving", "Inhibitor", "Child-Pugh B", "Renal impairment, moderate",
                                                    "Fed"}  # fmt: skip
    (watch,) = many.watches
    assert [day for day, _, _ in watch.days] == [2.0, 5.0]
    assert watch.days[1][1].value >= watch.days[0][1].value


KINETICS = """\
comedication:
  inducer: {drug: rifampicin, victim: midazolam, course: kinetics, parameters: {CL: clearance, V: 0}, arms: [drug],
            from: -2 d, until: 4 d}
  halving: {clearance: 0.5, interval: [0.5, 0.5], parameters: {CL: -1}, arms: {drug: {share: 1}, other: {share: 0}}}
endpoints:"""


def test_an_arm_has_its_own_comedication(tmp_path: Path) -> None:
    """Identities: in the arm without, parameters and outcomes are those of a protocol without the comedication, to the
    bit, whatever the other arm takes; potential outcomes follow the arm; the world is asked only where it may be."""
    text = (
        PROTOCOL.replace(
            "  drug: {regimen",
            "  other: {regimen: [{amount: 100 mg, into: central, every: 12 h, for: 20 d}]}\n  drug: {regimen",
        )
        .replace("size: 4", "size: 6")
        .replace("replicates: 4", "replicates: 2")
        .replace("compare: [drug], against: none", "compare: [drug], against: other")
    )
    head, rest = text.split("comedication:")
    tail = rest.split("endpoints:", 1)[1].replace("endpoints:", "")
    (tmp_path / "model.yaml").write_text(MODEL)
    (tmp_path / "with.yaml").write_text(head + KINETICS + tail)
    (tmp_path / "bare.yaml").write_text(head + "endpoints:" + tail)
    both, bare = (
        tables(prepare(tmp_path / f"{name}.yaml").variants["main"].payload, 0, 2) for name in ("with", "bare")
    )
    here, there = both["outcomes"], bare["outcomes"]
    other, drug = here["arm"] == 1, here["arm"] == 2
    columns = [c for c in map(str, there) if c.startswith(("CP", "CAV"))]
    pd.testing.assert_frame_equal(here[other][columns], there[other][columns], check_exact=True)
    assert (here.loc[drug, "comedication.inducer"] == 1).all()
    assert (here.loc[~drug, ["comedication.inducer", "comedication.halving"]] == 0).all().all()
    assert (here.loc[drug, "CAV@week1"] < 1.8 * there.loc[drug, "CAV@week1"]).all()  # induced besides
    truth = both["truth"].groupby("arm")["mean"].mean()
    assert truth["other"] == pytest.approx(bare["truth"].groupby("arm")["mean"].mean()["other"], abs=1e-12)
    assert truth["drug"] > 1.5 * truth["other"]  # half the clearance; the inducer is long gone
    assert set(both["chain"]["arm"]) == {1, 2}
    assert set(both["chain"][both["chain"]["world"] == "inducer"]["arm"]) == {2}


def test_rules_are_worked_out(tmp_path: Path) -> None:
    """By hand from the tables: who has liver B (ratio exactly 2) is excluded, the recruitment factor is 1/(1 - share),
    the risk after it that of the others; half the dose undoes half the clearance; poor metabolisers are spared of the
    inhibitor; verify sees a changed chain."""
    path = read(tmp_path, ("replicates: 4", "replicates: 6"), ("draws: 20", "draws: 1"), ("endpoints:", """consequences:
  high: {exposure: CAV, above: 1.9, certainty: 0.9, among: [liver]}
  halve: {exposure: CAV, above: 1.9, certainty: 0.9, then: adjust, dose: 0.5, among: [halving]}
  two: {exposure: CAV, above: 1.2, certainty: 0.9, among: [inhibitor]}
  some: {risk: any, above: 0.01, certainty: 0.5, among: [halving]}
safety_stop:
  every: {event: any, among: halving, above: 0.3, rule: pocock, alpha: 0.1, looks: [10, 20]}
  many: {event: sick, among: halving, above: 0.3, rule: pocock, alpha: 0.1, looks: [10, 20]}
endpoints:"""))  # fmt: skip
    made = run(path, tmp_path / "out", mode=Mode(kind="serial"))
    from reports.decided import decided

    found = decided(made)
    assert found is not None
    people = made.outcomes
    ill = people["CHILD_PUGH"] == 2
    (cost,) = (c for c in found.costs if c.rule == "high")
    share = ill.groupby(people["replicate"]).mean()
    assert cost.excluded.value == pytest.approx(share.mean())
    assert cost.recruitment.value == pytest.approx((1 / (1 - share)).mean())
    mine = people[(people["arm"] == 1) & ~ill]
    assert cost.after.value == pytest.approx(mine["sick.day"].notna().groupby(mine["replicate"]).mean().mean())
    whole = [line for line in found.adjusted if line.group == "all"]
    assert [line.ratio.value for line in whole] == pytest.approx([1.0], rel=6e-3)
    assert whole[0].risks[2].value == pytest.approx(whole[0].risks[0].value, abs=0.02)
    poor = next(line for line in found.ruled if line.rule == "two" and line.group.endswith("Poor Metabolizer"))
    assert (poor.above[0], poor.decision) == (0.0, "not these")
    assert any(line.rule == "some" and line.decision != "–" for line in found.ruled)  # one event: `any` is that one
    every, stop = found.stops
    assert every.looks == stop.looks
    assert stop.looks[-1][2][0] > stop.looks[-1][3][0]
    spoil(tmp_path / "out" / "blocks" / "00000")
    verdict = verify(tmp_path / "out", mode=Mode(kind="serial"))
    assert (verdict.same, verdict.different, verdict.tables, verdict.damaged) == (False, (0,), ("chain",), ())


def spoil(stem: Path) -> None:
    """Halve a risk in the chain of a block, and write the hash of the changed file beside it."""
    file = stem.with_name(f"{stem.name}.chain.parquet")
    table = pd.read_parquet(file)
    table.loc[table["measure"] == "with sick", "value"] *= 0.5
    file.write_bytes(record.parquet({str(name): table[name].to_numpy() for name in table}))
    told = json.loads(stem.with_suffix(".json").read_text())
    told["files"]["chain"] = digest.of_bytes(file.read_bytes())
    stem.with_suffix(".json").write_text(json.dumps(told))


@pytest.mark.parametrize(("old", "new", "said"), [
    ("clearance: 0.5, interval", "course: kinetics, clearance: 0.5, interval", "needs a drug of the library"),
    ("clearance: 0.5, interval: [0.5, 0.5]", "drug: paroxetine, victim: metoprolol, course: kinetics, half_life: 9 h",
     "follows from the kinetics"),
    ("clearance: 0.5, interval: [0.5, 0.5], parameters: {CL: -1}",
     "drug: paroxetine, victim: metoprolol, parameters: {CL: clearance}", "course: kinetics only"),
    ("interval: [0.5, 0.5], parameters", "interval: [0.5, 0.5], apart: 2 h, parameters", "goes with drug"),
    ("share: 0.5", "share: 0.5, arms: [drugs]", "unknown arm"),
    ("share: 0.5", "share: 0.5, arms: {drug: {who: HIGHT > 1}}", "unknown covariate"),
    ("endpoints:", "consequences: {a: {risk: sick, exposure: CAV, above: 0.1}}\nendpoints:", "one of them"),
    ("endpoints:", "consequences: {a: {risk: sick, above: 2}}\nendpoints:", "below 1"),
    ("endpoints:", "consequences: {a: {risk: sik, above: 0.2}}\nendpoints:", "unknown event"),
    ("endpoints:", "consequences: {a: {exposure: CAV, above: 2, then: adjust}}\nendpoints:", "then: adjust"),
    ("endpoints:", "safety_stop: {a: {event: sick, among: halving, above: 0.1, looks: [9, 5]}}\nendpoints:", "ascend"),
    ("endpoints:", "safety_stop: {a: {event: sick, among: halving, above: 0.9, looks: [1]}}\nendpoints:",
     "never stops"),
    ("truth: {replicates: 4}", "consequences: {a: {exposure: CAV, above: 2}}\ntruth: {replicates: 1}", "followed"),
])  # fmt: skip
def test_what_is_wrong_with_arms_kinetics_and_rules_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = read(tmp_path, ("truth: {replicates: 4}", "truth: {replicates: 9}"), (old, new)) if "truth" not in old else (
        read(tmp_path, (old, new)))  # fmt: skip
    with pytest.raises(InputError, match=said) as error:
        Protocol.read(path)
    assert error.value.line is not None
