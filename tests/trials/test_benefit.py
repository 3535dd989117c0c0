"""Benefit-risk of a protocol: measured in potential outcomes, weighed by draw; a small trial, and draws with known laws."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, normals
from pkpd.model.spec import Model
from trials import record
from trials.assessed import Assessment, assessed
from trials.between import expected
from trials.block import simulate_block
from trials.protocol import Protocol
from trials.record import RunRecord
from trials.run import plan, prepare, run
from trials.setting import opened
from trials.verify import verify

BLOCK = """\
benefit_risk:
  criteria:
    fev1: {kind: favourable, endpoint: fev1, worst: -0.2, best: 0.5, swing: 60, label: FEV1}
    sick: {kind: unfavourable, endpoint: sick, worst: 0.9, best: 0, swing: 30}
    peak: {kind: unfavourable, summary: CMAX, at: day14, above: 12000 ug/L, worst: 1, best: 0, swing: 10}
    level: {kind: favourable, summary: CAV, at: day14, worst: 0, best: 20, swing: 0, points: {5: 0.8}}
  doses: {placebo: 0, low: 200, high: 500}
  dose_unit: mg
  subgroups: {sex: {by: SEX}, age: {by: AGE, cuts: [50, 60], label: Age}}
  source: This test
decide:"""
WITH = (("decide:", BLOCK),)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory, protocol_text: str, model_text: str) -> Path:
    folder = tmp_path_factory.mktemp("weighed")
    (folder / "model.yaml").write_text(model_text, encoding="utf-8")
    text = protocol_text.replace("decide:", BLOCK).replace("truth: {replicates: 3}", "truth: {replicates: 6}")
    (folder / "protocol.yaml").write_text(text, encoding="utf-8")
    return folder / "protocol.yaml"


@pytest.fixture(scope="module")
def finished(texts: Path) -> RunRecord:
    return run(texts, texts.parent / "out", replicates=6, block_size=4)


def effects(table: pd.DataFrame, group: str = "all", level: int = 0) -> np.ndarray:
    """(R, A, C) of a group, replicates in order."""
    rows = table[(table["group"] == group) & (table["level"] == level)].sort_values("replicate")
    return np.stack([np.asarray(x) for x in rows["effects"]]).reshape(len(rows), 3, 4)


def test_effects_are_the_means_of_the_truth_table(finished: RunRecord) -> None:
    """Identity with `trials.trial.potential`, made for other purposes: same people in every arm, same strategies."""
    got, truth = effects(finished.benefit), finished.truth
    assert got.shape == (6, 3, 4)
    for name, place in (("fev1", 0), ("sick", 1)):
        for a, arm in enumerate(("placebo", "low", "high")):
            rows = truth[(truth["endpoint"] == name) & (truth["arm"] == arm)].sort_values("replicate")
            np.testing.assert_allclose(got[:, a, place], rows["mean"], rtol=1e-12)
    assert (got[:, 0, 2] == 0).all()  # nobody on placebo has a level
    assert (np.diff(got[:, :, 3], axis=1) > 0).all()


def test_the_chance_of_who_was_followed(finished: RunRecord) -> None:
    """Share p of n people: p (1 - p)/(n - 1), the unbiased variance of a mean; the same people in two arms covary."""
    row = finished.benefit.query("group == 'all' and replicate == 2").iloc[0]
    full = np.zeros((12, 12))
    full[np.triu_indices(12)] = np.asarray(row["noise"])
    p = np.asarray(row["effects"])[[1, 5, 9]]
    np.testing.assert_allclose(np.diag(full)[[1, 5, 9]], p * (1 - p) / 23, rtol=1e-9)
    assert full[1, 9] > 0


def test_groups_make_up_everybody(finished: RunRecord) -> None:
    """Means over levels, weighted by their people, are those of everybody; levels are half-open intervals of age."""
    table, whole = finished.benefit, effects(finished.benefit)
    for group in ("sex", "age"):
        rows = table[table["group"] == group]
        assert (rows.groupby("replicate")["n"].sum() == 24).all()
        total = rows.groupby("replicate")[["n", "effects"]].apply(
            lambda part: sum(n * np.asarray(x) for n, x in zip(part["n"], part["effects"], strict=True)) / 24
        )
        np.testing.assert_allclose(np.stack(total.to_list()).reshape(6, 3, 4), whole, rtol=1e-12)
    ages = finished.outcomes[finished.outcomes["replicate"] == 0]["AGE"]
    mine = table.query("group == 'age' and replicate == 0").set_index("level")["n"]
    assert mine.get(1, 0) == ((ages >= 50) & (ages < 60)).sum()


def test_blocks_and_the_block_itself_change_nothing(finished: RunRecord, texts: Path, study: Path) -> None:
    """Replicates 0 to 5 in one block are those of blocks of four; outcomes are those of the protocol without weights,
    whose key does not know the new word; verify runs the table again."""
    payload = prepare(texts, replicates=6).variants["main"].payload
    whole = simulate_block(payload, record.Block(number=0, first=0, stop=6))
    again = pd.read_parquet(io.BytesIO(whole.tables["benefit"]))
    for column in ("effects", "noise"):
        for one, other in zip(again[column], finished.benefit[column], strict=True):
            np.testing.assert_array_equal(one, other)
    plain = prepare(study, replicates=6)
    assert "benefit_risk" not in plain.protocol.to_dict()
    without = simulate_block(plain.variants["main"].payload, record.Block(number=0, first=0, stop=6))
    assert without.outcomes == whole.outcomes
    assert "benefit" not in without.tables
    assert plain.variants["median"].payload.protocol.benefit_risk is None
    verdict = verify(finished.directory, blocks=1)
    assert verdict.same
    assert "benefit" in verdict.compared
    asked = dataclasses.replace(payload.protocol.benefit_risk, replicates=1)
    few = dataclasses.replace(payload, protocol=dataclasses.replace(payload.protocol, benefit_risk=asked), key="few")
    made = simulate_block(few, record.Block(number=0, first=0, stop=2)).tables["benefit"]
    assert set(pd.read_parquet(io.BytesIO(made))["replicate"]) == {0}
    assert plan(payload.protocol).seconds > plan(plain.protocol).seconds
    assert opened(few).protocol.benefit_risk == asked


def test_the_assessment_of_a_run(finished: RunRecord) -> None:
    """Sums that must hold: contributions to the mean score, ranks to one, gains of everybody between those of groups."""
    found = assessed(finished)
    assert found is not None
    all_, names = found.everybody, [c.name for c in found.criteria]
    assert (found.arms, found.reference, found.weighting) == (("placebo", "low", "high"), 0, "swing")
    np.testing.assert_allclose(found.weights, [0.6, 0.3, 0.1, 0.0])
    np.testing.assert_allclose(all_.parts.sum(axis=1), all_.score.mean, rtol=1e-12)
    for sums in (all_.rank.sum(axis=0), all_.rank.sum(axis=1), all_.free_rank.sum(axis=0)):
        np.testing.assert_allclose(sums, 1.0)
    assert sum(best.value for best in all_.best) == pytest.approx(1.0)
    assert (all_.score.lower <= all_.score.mean).all()
    assert (all_.score.mean <= all_.score.upper).all()
    assert found.shares == (False, True, True, False)
    assert [c.unit for c in found.criteria] == ["L", "", "", "mg/L"]
    assert {key[1] for key in all_.needed} == {"sick", "peak"}
    assert [part.level for part in found.groups] == ["female", "male", "Age < 50", "50 ≤ Age < 60", "Age ≥ 60"]
    assert found.utility is not None
    assert found.utility.arms == (0, 1, 2)
    assert names == ["fev1", "sick", "peak", "level"]
    assert found.parameters == 50


def test_the_report_says_it(finished: RunRecord) -> None:
    """A table of effects with the reference first, favourable effects before the others, and six figures."""
    from reports.figures.palette import looks
    from reports.sections.weighed import weighed
    from reports.study import Arm, Study
    from reports.tables import Plots, Table

    names, seen = ("placebo", "low", "high"), looks([True, False, False], [False, False, True])
    arms = [
        Arm(index=k, key=key, label=key, flag="", control=not k, ratio=1, look=seen[k], dosing=())
        for k, key in enumerate(names)
    ]
    made = SimpleNamespace(arms=arms, benefit=assessed(finished), sensitivities=())
    section = weighed(cast(Study, made))
    captions = [block.caption for block in section.blocks if isinstance(block, (Table, Plots))]
    assert any(text.startswith("Effects table") for text in captions)
    assert sum(isinstance(block, Plots) for block in section.blocks) == 6
    table = next(b for b in section.blocks if isinstance(b, Table) and b.caption.startswith("Effects table"))
    assert [row[0] for row in table.rows[::3]] == ["FEV1, L", "Level, mg/L", "Sick, %", "Peak, %"]
    assert "NNT" in " ".join(cell for row in table.rows for cell in row)


def drawn(plan_text: str, table: pd.DataFrame, protocol_text: str, model_text: str) -> Assessment:
    """The assessment of a table of effects as if a run had made it."""
    protocol = Protocol.parse(protocol_text.replace("decide:", plan_text + "decide:"), complete=False)
    fake = SimpleNamespace(
        protocol=protocol,
        model=Model.parse(model_text),
        benefit=table,
        sensitivity={},
        draws=SimpleNamespace(typical=[1, 2]),
    )
    found = assessed(cast(RunRecord, fake))
    assert found is not None
    return found


def rows_of(x: np.ndarray, noise: np.ndarray | None = None, **columns: Any) -> pd.DataFrame:
    """A table of everybody from effects (R, A, C) and the covariance of their noise."""
    flat = x.reshape(len(x), -1)
    triangle = np.empty(0) if noise is None else noise[np.triu_indices(flat.shape[1])]
    return pd.DataFrame({
        "replicate": np.arange(len(x)), "group": "all", "level": 0, "n": 100, "effects": list(flat),
        "noise": [triangle] * len(x), **columns,
    })  # fmt: skip


TWO = """\
benefit_risk:
  arms: [low, high]
  against: low
  criteria:
    fev1: {kind: favourable, endpoint: fev1, worst: 0, best: 1%s}
    sick: {kind: unfavourable, endpoint: sick, worst: 1, best: 0%s}
"""


def test_probabilities_of_normal_draws(protocol_text: str, model_text: str) -> None:
    """Weights 3/4 and 1/4: the gain of high is normal with mean 0.75 x 0.04 - 0.25 x 0.02 = 0.025; sd of the parameters
    0.75 x 0.05, of who was simulated as large again in the difference. P(best) is Phi(mean/sd), without the chance of
    people with the parameters' sd, as simulated with both; that chance is half of the variance; the limits likewise.
    """
    n, z = 4000, normals(4, Purpose.SWING_WEIGHTS, subject=np.arange(4000)[:, None], replicate=np.arange(3))
    x = np.zeros((n, 2, 2))
    x[:, 0, 0], x[:, 0, 1] = 0.5, 0.3
    x[:, 1, 0] = 0.54 + 0.05 * z[:, 0] + 0.05 * z[:, 1]
    x[:, 1, 1] = 0.32
    noise = np.zeros((4, 4))
    noise[2, 2] = 0.05**2
    found = drawn(TWO % (", swing: 75", ", swing: 25"), rows_of(x, noise), protocol_text, model_text)
    all_, sd = found.everybody, 0.75 * 0.05
    assert all_.best[1].value == pytest.approx(stats.norm.cdf(0.025 / sd), abs=0.02)
    assert all_.seen[1] == pytest.approx(stats.norm.cdf(0.025 / (sd * math.sqrt(2))), abs=0.02)
    assert all_.chance[1] == pytest.approx(0.5, abs=0.03)
    assert all_.gain.mean[1] == pytest.approx(0.025, abs=0.002)
    assert all_.gain.upper[1] - all_.gain.lower[1] == pytest.approx(2 * 1.96 * sd, rel=0.04)
    assert all_.better[1] == pytest.approx(all_.best[1].value)
    line = all_.effects[1][0]
    assert (line.difference, line.better) == pytest.approx((0.04, stats.norm.cdf(0.8)), abs=0.02)
    # equal where 0.04 w = 0.02 (1 - w)
    assert all_.thresholds[0].below == pytest.approx(1 / 3, abs=0.02)
    assert all_.needed[1, "sick"].text() == "NNTH 50 (NNTH 50 to 50)"


def test_the_error_of_a_probability_is_how_far_runs_lie_apart(protocol_text: str, model_text: str) -> None:
    """30 runs of 100 replicates in which three quarters of the variance are the chance of people: P(best) lies as far
    apart as its Monte Carlo error says, which is twice that of independent draws (0.05)."""
    z = normals(5, Purpose.SWING_WEIGHTS, subject=np.arange(100)[:, None], replicate=np.arange(30), slot=3)
    noise, got = np.diag([0.0, 0.0, 0.075, 0.0]), []
    for own in z.T:
        x = np.zeros((100, 2, 2))
        x[:, 0], x[:, 1, 1] = (0.5, 0.3), 0.3
        x[:, 1, 0] = 0.51 + math.sqrt(0.1) * own
        got.append(drawn(TWO % (", swing: 75", ", swing: 25"), rows_of(x, noise), protocol_text, model_text).everybody)
    apart = np.std([part.best[1].value for part in got])
    assert np.mean([part.best[1].mcse for part in got]) == pytest.approx(apart, rel=0.3)
    assert np.mean([part.best[0].mcse for part in got]) > 1.8 * 0.05


def test_draws_that_are_all_chance_are_not_certain(protocol_text: str, model_text: str) -> None:
    """All variance is the chance of people: without it every draw is the mean, and one arm is the best in all of them,
    the wrong one with the probability of a mean on the wrong side, Phi(-1) for a mean one standard error off."""
    x = np.zeros((100, 2, 2))
    x[:, 0], x[:, 1, 1] = (0.5, 0.3), 0.3
    own = normals(5, Purpose.SWING_WEIGHTS, subject=np.arange(100), replicate=0)
    own = (own - own.mean()) / own.std(ddof=1)
    x[:, 1, 0] = 0.5 + 0.2 * (own + 1.0 / math.sqrt(100))
    noise = np.diag([0.0, 0.0, 0.05, 0.0])
    found = drawn(TWO % (", swing: 75", ", swing: 25"), rows_of(x, noise), protocol_text, model_text).everybody
    wrong = stats.norm.cdf(-1)
    assert found.best[1].value == 1.0
    assert found.best[1].mcse == pytest.approx(math.sqrt(wrong * (1 - wrong)), rel=0.02)


def test_orders_and_no_weights(protocol_text: str, model_text: str) -> None:
    """High gains 0.2 on the first criterion and loses 0.1 on the second: better from weight 1/3 on. Any weight: 2/3 of
    them; the first more important (weight from 1/2): all; the second: (1/2 - 1/3)/(1/2) = 1/3. Contributions at the
    centroids 1/2 and 3/4, 1/4."""
    x = np.broadcast_to(np.array([[0.3, 0.2], [0.5, 0.3]]), (3, 2, 2)).copy()
    for words, share, weights in (
        (("", ""), 2 / 3, [0.5, 0.5]), ((", rank: 1", ", rank: 2"), 1.0, [0.75, 0.25]),
        ((", rank: 2", ", rank: 1"), 1 / 3, [0.25, 0.75]), ((", rank: 1", ", rank: 1"), 2 / 3, [0.5, 0.5]),
    ):  # fmt: skip
        found = drawn(TWO % words, rows_of(x), protocol_text, model_text)
        assert found.everybody.best[1].value == pytest.approx(share, abs=0.01)
        assert found.everybody.better[1] == pytest.approx(share, abs=0.01)
        np.testing.assert_allclose(found.weights, weights)
        np.testing.assert_allclose(found.everybody.parts[1], np.array([0.5, 0.7]) * weights, rtol=1e-9)


def test_the_best_dose(protocol_text: str, model_text: str) -> None:
    """Effect b d and risk d^2 at doses 0, 0.3, ... of weights 1/2: the score is highest at d = b/2, with b normal
    (0.8, 0.1); cubics between doses miss a parabola by little."""
    arms = "{regimen: []}"
    doses = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75]
    text = protocol_text.replace(
        "  placebo: {regimen: []}\n", "".join(f"  d{k}: {arms}\n" for k in range(6)) + "  placebo: {regimen: []}\n"
    )
    b = 0.8 + 0.1 * normals(9, Purpose.SWING_WEIGHTS, subject=np.arange(800), replicate=0)
    d = np.array(doses)
    x = np.stack([b[:, None] * d, np.broadcast_to(d**2, (800, 6))], axis=-1)
    asked = (TWO % ("", "")).replace("[low, high]", "[d0, d1, d2, d3, d4, d5]").replace("against: low", "against: d0")
    text = text.replace("size: 6", "size: 9")
    asked += "  doses: {" + ", ".join(f"d{k}: {dose}" for k, dose in enumerate(doses)) + "}\n"
    found = drawn(asked, rows_of(x), text, model_text).utility
    assert found is not None
    np.testing.assert_allclose(found.optimum, [0.4, 0.4 - 0.098, 0.4 + 0.098], atol=0.02)
    assert found.best == pytest.approx(0.4, abs=0.02)
    at = np.argmin(np.abs(found.grid - 0.45))
    assert found.curve.mean[at] == pytest.approx(0.5 * (0.8 * 0.45) + 0.5 * (1 - 0.45**2), abs=0.003)


def test_what_is_missing_is_left_out_and_counted(protocol_text: str, model_text: str) -> None:
    """A replicate without an effect, one replicate alone (no interval, whatever the weights), none at all."""
    x = np.broadcast_to(np.array([[0.3, 0.2], [0.5, 0.3]]), (5, 2, 2)).copy()
    x[1, 0, 0] = np.nan
    some = drawn(TWO % ("", ""), rows_of(x), protocol_text, model_text).everybody
    assert (some.draws, some.missing) == (4, 1)
    one = drawn(TWO % ("", ""), rows_of(x[:1]), protocol_text, model_text).everybody
    assert np.isnan([one.score.lower, one.gain.upper]).all()
    assert np.isnan(one.effects[1][0].lower)
    assert one.needed == {}
    fake = SimpleNamespace(protocol=SimpleNamespace(benefit_risk=None), benefit=pd.DataFrame())
    assert assessed(cast(RunRecord, fake)) is None


def test_means_lose_the_chance_of_their_people() -> None:
    """Louis 1984, O'Hagan 2007: sample covariance S of means, noise N: the draws have exactly S - N where that is
    positive; never less than S - N, never more than S in any direction; a direction without variation stays without;
    more noise than variation leaves none."""
    z = normals(6, Purpose.SWING_WEIGHTS, subject=np.arange(300)[:, None], replicate=np.arange(3))
    x = z @ np.array([[1.0, 0.5, 0.2], [0.0, 0.6, 0.1], [0.0, 0.0, 0.3]]) + 5.0
    s = np.cov(x.T)
    n = 0.3 * s + np.diag([0.05, 0.02, 0.01])
    np.testing.assert_allclose(np.cov(expected(x, n).T), s - n, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(expected(x, n).mean(axis=0), x.mean(axis=0))
    large = np.diag([0.1, 0.1, 5.0])
    made = np.cov(expected(x, large).T)
    assert np.linalg.eigvalsh(made - (s - large)).min() > -1e-9
    assert np.linalg.eigvalsh(s - made).min() > -1e-9
    flat = np.column_stack([x[:, 0], np.full(300, 2.0), 2 * x[:, 0]])
    kept = expected(flat, np.diag([0.1, 0.0, 0.4]) + np.array([[0, 0, 0.2], [0, 0, 0], [0.2, 0, 0]]))
    np.testing.assert_allclose(kept[:, 1], 2.0)
    np.testing.assert_allclose(kept[:, 2], 2 * kept[:, 0])
    np.testing.assert_allclose(expected(x, 3 * s), np.broadcast_to(x.mean(axis=0), x.shape), atol=1e-9)
    np.testing.assert_allclose(expected(x, np.zeros((3, 3))), x)
    with pytest.raises(InputError, match="covariance"):
        expected(x, np.zeros((2, 2)))


WRONG = {
    "no harm": ("kind: unfavourable", "kind: favourable", "benefit_risk.criteria", "no unfavourable effect"),
    "kind": ("{kind: favourable, endpoint", "{kind: good, endpoint", "benefit_risk.criteria.fev1.kind", "good"),
    "unknown key": ("swing: 60", "swng: 60", "benefit_risk.criteria.fev1.swng", "swing"),
    "endpoint": ("endpoint: sick,", "endpoint: sik,", "benefit_risk.criteria.sick.endpoint", "sik"),
    "both sources": ("endpoint: sick,", "endpoint: sick, summary: CAV,", "benefit_risk.criteria.sick", "either"),
    "neither": ("endpoint: sick,", "", "benefit_risk.criteria.sick", "neither"),
    "limit of an endpoint": ("endpoint: sick,", "endpoint: sick, above: 1 mg/L,", "criteria.sick.above", "summary"),
    "no visit": ("at: day14, above", "above", "benefit_risk.criteria.peak.at", "day14"),
    "at baseline": ("at: day14, above", "at: baseline, above", "benefit_risk.criteria.peak.at", "baseline"),
    "two limits": ("above: 12000 ug/L", "above: 12 mg/L, below: 1 mg/L", "benefit_risk.criteria.peak", "one limit"),
    "no range": ("worst: 0.9, best: 0,", "worst: 0.5, best: 0.5,", "benefit_risk.criteria.sick.best", "worst"),
    "more harm is better": ("worst: 0.9, best: 0,", "worst: 0, best: 0.9,", "benefit_risk.criteria.sick.best", "best: 0"),
    "per cent": ("worst: 0.9, best", "worst: 90, best", "benefit_risk.criteria.sick.worst", "0.2 for 20 %"),
    "point outside": ("{5: 0.8}", "{25: 0.8}", "benefit_risk.criteria.level.points", "between 0 and 20"),
    "points fall": ("{5: 0.8}", "{5: 0.8, 10: 0.7}", "benefit_risk.criteria.level.points", "fall"),
    "point above 1": ("{5: 0.8}", "{5: 1.8}", "benefit_risk.criteria.level.points", "1.8"),
    "swing missing": ("swing: 30}", "label: Sick}", "benefit_risk.criteria.sick.swing", "every criterion"),
    "swing and rank": ("swing: 30}", "swing: 30, rank: 1}", "benefit_risk.criteria.fev1.rank", "every criterion"),
    "negative swing": ("swing: 30}", "swing: -30}", "benefit_risk.criteria.sick.swing", "-30"),
    "dose of no arm": ("low: 200", "lo: 200", "benefit_risk.doses", "lo"),
    "dose missing": (", high: 500}", "}", "benefit_risk.doses.high", "every arm"),
    "doses equal": ("high: 500}", "high: 200}", "benefit_risk.doses", "same dose"),
    "against no arm": ("  doses:", "  against: hihg\n  doses:", "benefit_risk.against", "hihg"),
    "one arm": ("  doses: {placebo: 0, low: 200, high: 500}\n  dose_unit: mg\n", "  arms: low\n", "benefit_risk.arms", "two arms"),
    "arm twice": ("  doses:", "  arms: [low, high, low]\n  doses:", "benefit_risk.arms", "low"),
    "group all": ("{sex: {", "{all: {", "benefit_risk.subgroups", "everybody"),
    "cuts fall": ("[50, 60]", "[60, 50]", "benefit_risk.subgroups.age.cuts", "ascend"),
    "level": ("  source:", "  level: 95\n  source:", "benefit_risk.level", "95"),
    "status": ("  source:", "  status: guessed\n  source:", "benefit_risk.status", "guessed"),
}  # fmt: skip
BEYOND = {
    "summary": ("summary: CAV", "summary: CVA", "benefit_risk.criteria.level.summary", "CVA"),
    "dimension": ("12000 ug/L", "12 h", "benefit_risk.criteria.peak.above", "h"),
    "covariate": ("by: SEX", "by: GENDER", "benefit_risk.subgroups.sex.by", "GENDER"),
    "no cuts": (", cuts: [50, 60]", "", "benefit_risk.subgroups.age.cuts", "AGE"),
    "cuts of categories": ("by: SEX", "by: SEX, cuts: [1]", "benefit_risk.subgroups.sex.cuts", "categories"),
}


@pytest.mark.parametrize("case", WRONG)
def test_faults_of_the_text(case: str, protocol_text: str) -> None:
    """Each names its field, says what is wrong and where, before anything runs."""
    old, new, field, words = WRONG[case]
    assert old in BLOCK
    with pytest.raises(InputError) as caught:
        Protocol.parse(protocol_text.replace("decide:", BLOCK.replace(old, new)), file="p.yaml", complete=False)
    said = str(caught.value)
    assert field in said
    assert words in said
    assert said.startswith("p.yaml:")


def test_faults_against_model_and_law(texts: Path) -> None:
    """What only the model and the population law can tell."""
    source = texts.read_text(encoding="utf-8")
    for old, new, field, words in BEYOND.values():
        with pytest.raises(InputError) as caught:
            Protocol.parse(source.replace(old, new), file=str(texts))
        assert field in str(caught.value)
        assert words in str(caught.value)
