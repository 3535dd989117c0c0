"""Rates that can change places: the algebra of flip-flop kinetics, by hand; remedies are applied and looked at again."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.linalg import expm

from pkpd.bayes.diagnostics import Chains, Diagnostics, diagnose
from pkpd.bayes.exchange import Exchange, exchanges
from pkpd.bayes.prior import normal
from pkpd.bayes.sampling import _placed
from pkpd.model.library import load, model_path
from pkpd.model.spec import Model

HEAD = "vtrial: model/1\nname: made\n"
PARAMETERS = {
    "KT": "{typical: 0.9 1/h, prior: {median: 1, sd: 1}, status: assumed}",
    "KA": "{typical: 1.5 1/h, iiv: {typical: 0.3, prior: 1}, prior: {median: 1.5, sd: 1}, status: assumed}",
    "CL": "{typical: 4 L/h, iiv: {typical: 0.3, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}",
    "V": "{typical: 20 L, iiv: {typical: 0.3, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}",
    "Q": "{typical: 6 L/h, prior: {median: 3, sd: 1}, status: assumed}",
    "VP": "{typical: 40 L, prior: {median: 3, sd: 1}, status: assumed}",
}
TWO = """equations: |
  C = central/V
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C - Q*C + Q*per/VP
  d/dt(per) = Q*C - Q*per/VP
"""
STAGES = """equations: |
  C = central/V
  d/dt(depot) = -KT*depot
  d/dt(transit) = KT*depot - KA*transit
  d/dt(central) = KA*transit - CL*C
"""
TAIL = "doses: {depot: {bioavailability: 1}}\noutputs:\n  CP: {is: C, error: {log: {typical: 0.15, prior: 0.5}}}\n"


def made(states: str, names: str, equations: str, **above: str) -> Model:
    rows = {n: PARAMETERS[n].replace("status", f"above: {above[n]}, status") if n in above else PARAMETERS[n]
            for n in names.split()}  # fmt: skip
    parameters = "".join(f"  {n}: {row}\n" for n, row in rows.items())
    amounts = ", ".join(f"{s}: mg" for s in states.split())
    return Model.parse(f"{HEAD}states: {{{amounts}}}\nparameters:\n{parameters}{equations}{TAIL}")


two = partial(made, "depot central per", "KA CL V Q VP", TWO)
stages = partial(made, "depot transit central", "KT KA CL V", STAGES)


@pytest.fixture(scope="module")
def free() -> Model:
    return Model.parse(model_path("theophylline").read_text().replace("above: CL/V, ", ""))


@pytest.fixture(scope="module")
def flip(free) -> Exchange:
    return exchanges(free)[0]


def test_absorption_and_elimination_of_an_oral_drug(free, flip):
    """By hand: ka' = CL/V, CL' = CL, V' = CL/ka (Gibaldi & Perrier 1982, Pharmacokinetics, on flip-flop)."""
    here, there = flip.here, flip.there
    assert len(exchanges(free)) == 1
    assert flip.names == ("KA", "CL/V")
    assert there["KA"] == pytest.approx(here["CL"] / here["V"], rel=1e-5)
    assert there["CL"] == pytest.approx(here["CL"], rel=1e-5)
    assert there["V"] == pytest.approx(here["CL"] / here["KA"], rel=1e-5)
    assert flip.remedy == "order them: write above: CL/V under parameters.KA"


def test_the_remedy_is_the_text_of_the_library():
    """The library's theophylline has it, and nothing can change places any more."""
    assert "above: CL/V" in model_path("theophylline").read_text()
    assert exchanges(load("theophylline")) == ()


def test_data_into_the_vein_as_well_leave_no_choice(free):
    """Doses into the central compartment tell the volume."""
    assert exchanges(free, into=("depot", "central")) == ()
    assert len(exchanges(free, into=("depot",))) == 1


def test_two_compartments_and_the_remedy():
    """KA and the fast rate; the two settings predict alike by the matrix exponential; ordered, none is left."""
    (found,) = exchanges(two())
    here, there = dict(found.here), dict(found.there)
    curves = [_two_compartments(p, np.linspace(0.1, 24.0, 30)) for p in (here, there)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert found.side(1) == "KA above the fast rate of the compartments"
    assert exchanges(two(KA=found.floor)) == ()


def _two_compartments(p: dict[str, float], t: np.ndarray) -> np.ndarray:
    k, k12, k21 = p["CL"] / p["V"], p["Q"] / p["V"], p["Q"] / p["VP"]
    A = np.array([[-p["KA"], 0.0, 0.0], [p["KA"], -k - k12, k21], [0.0, k12, -k21]])
    return expm(t[:, None, None] * A)[:, 1, 0] / p["V"]


def test_two_stages_change_places_with_each_other_and_with_elimination():
    """Three rates in a row: any two may change places, and one order of both stages leaves one pair."""
    found = {frozenset(e.names) for e in exchanges(stages())}
    assert found == {frozenset(pair) for pair in (("KT", "KA"), ("KT", "CL/V"), ("KA", "CL/V"))}
    assert [set(e.names) for e in exchanges(stages(KA="CL/V", KT="CL/V"))] == [{"KT", "KA"}]


def test_a_response_behind_does_not_hide_it():
    """Workload W2: concentration and a turnover response that reads it."""
    assert [e.names for e in exchanges(load("w2"))] == [("KA", "CL/V")]
    assert exchanges(load("warfarin_pca")) == ()  # two stages of one rate: it cannot change places with another
    assert exchanges(load("grasela_phenobarbital")) == ()


def diagnosed(means: list[float]) -> Diagnostics:
    rng = np.random.default_rng(1)
    values = np.array(means)[:, None] + 0.05 * rng.normal(size=(len(means), 800))
    return diagnose(
        Chains(values={"log_KA": values}, divergences=0, energy=rng.normal(size=values.shape)),
        {"log_KA": normal(0.0, 1.0)}, {},
    )  # fmt: skip


def typical(values: list[float]) -> dict[str, np.ndarray]:
    KA = np.exp(np.repeat(values, 800))
    return {"KA": KA, "CL": np.full(KA.shape, 3.0), "V": np.full(KA.shape, 30.0)}


def test_chains_in_different_modes_are_named_with_the_remedy(flip):
    """KA about 1.5 in two chains and 0.01 in one, where CL/V is 0.1: an error that says which is where."""
    means = [0.4, -4.6, 0.4]
    found = _placed(diagnosed(means), [flip], typical(means))
    assert not found.ok
    assert found.verdict.startswith("Chains disagree about log_KA by ")
    assert "KA above CL/V in chains 1, 3; CL/V above KA in chain 2" in found.verdict
    assert "--method smc" in found.verdict
    assert "write above: CL/V under parameters.KA" in found.verdict


def test_chains_in_one_mode_are_told_that_there_is_another(flip):
    """All on one side: no error, but a remark."""
    found = _placed(diagnosed([0.4] * 4), [flip], typical([0.4] * 4))
    assert found.ok, found.verdict
    assert found.remarks[-1].endswith("Here KA above CL/V in all draws.")
