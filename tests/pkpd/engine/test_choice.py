"""The choice of a solver: counted work on the model's own pilot, and a subject's own steps; never the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pkpd.engine.build import compiled
from pkpd.engine.choice import PATIENCE, Choice, operations
from pkpd.engine.solve import SolveStatus, Way, solve
from pkpd.model.library import load
from pkpd.model.regimen import Events, Schedule

TIMES = np.arange(0.0, 145.0, 12.0)


def _people(name, n):
    text = load(name)
    typical = np.array([float(p.typical) for p in text.parameters.values()])
    return typical * np.exp(0.2 * np.random.default_rng(4).normal(size=(n, len(typical))))


def _once(amount, n, duration=0.0):
    one, zero = np.ones(1), np.zeros(1)
    return Events.shared(
        Schedule(zero, amount * one, np.zeros(1, np.int32), duration * one, zero, zero.astype(bool)), n
    )


@pytest.mark.parametrize(
    ("name", "method", "split"), [("w1", "tsit5", False), ("w2", "tsit5", False), ("w4", "tsit5", True)]
)
def test_the_workloads_get_the_solver_their_structure_calls_for(name, method, split):
    chosen = compiled(load(name)).chosen
    assert (chosen.method, chosen.split) == (method, split)
    if name == "w4":  # the fast kinetics bind the steps of the whole model: more than ten times the work
        assert chosen.work["tsit5"] > 10 * chosen.work["split/tsit5"]


def test_the_choice_is_the_same_from_the_cache_and_computed_again(tmp_path, monkeypatch):
    first = compiled(load("w2")).chosen
    again = compiled(load("w2")).chosen
    assert again == first
    assert again.work == first.work


def test_way_is_recorded_for_each_subject():
    model = compiled(load("w2"))
    assert solve(model, _people("w2", 3), _once(100.0, 3), TIMES).ways() == {Way.TSIT5: 3}
    named = solve(model, _people("w2", 3), _once(100.0, 3), TIMES, path="rodas5p")
    assert named.ways() == {Way.RODAS5P: 3}
    linear = compiled(load("w1"))
    assert solve(linear, _people("w1", 2), _once(1.0, 2), TIMES).ways() == {Way.LINEAR: 2}


def test_a_stiff_subject_is_relieved_and_its_neighbours_keep_their_bits():
    model, people = compiled(load("w2")), _people("w2", 11)
    alone = solve(model, people, _once(100.0, 11), TIMES)
    stiff = people.copy()
    stiff[4, 0] = 1e4  # KA: 1.4e6 / 3.3 steps of an explicit method
    found = solve(model, stiff, _once(100.0, 11), TIMES)
    assert not found.status.any()
    assert found.way.tolist() == [Way.RODAS5P if k == 4 else Way.TSIT5 for k in range(11)]
    others = np.arange(11) != 4
    assert found.values[others].tobytes() == alone.values[others].tobytes()
    single = solve(model, stiff[[4]], _once(100.0, 1), TIMES)
    assert single.values.tobytes() == found.values[[4]].tobytes()
    bolus = people[4, 0] * 0 + 100.0 / stiff[4, 2] * np.exp(-stiff[4, 1] / stiff[4, 2] * TIMES[1:])
    np.testing.assert_allclose(found.values[4, 0, 1:], bolus, rtol=1e-4)  # absorbed at once: a bolus, to 1/KA


def test_a_method_asked_for_by_name_is_left_alone():
    model, people = compiled(load("w2")), _people("w2", 1)
    people[0, 0] = 1e4
    found = solve(model, people, _once(100.0, 1), TIMES, path="tsit5", max_steps=PATIENCE)
    assert found.status[0] == SolveStatus.STEP_LIMIT


def test_operations_count_what_a_step_computes():
    text = "def step(W):\n    a = fma(x, y, z) + exp(b) / c\n    d = log(a * b)\n"
    assert operations(text) == 1 + 1 + 24 + 8 + 30 + 1


def test_forced_choice_is_kept():
    forced = replace(compiled(load("w2")), choice=Choice(method="rodas5p"))
    assert forced.chosen.method == "rodas5p"
    assert solve(forced, _people("w2", 2), _once(100.0, 2), TIMES).ways() == {Way.RODAS5P: 2}
