"""Grades that move: the simulated paths against the forward equations of the same subjects, and rescaled time."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.harness import Measured, row

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sunitinib_fatigue"
SUBJECTS, WEEKS = 3000, (2, 4, 6, 8, 12, 18, 24)
FORWARD = """
  {e}P0(0) = 1 - {e}START1
  {e}P1(0) = {e}START1 - {e}START2
  {e}P2(0) = {e}START2 - {e}START3
  {e}P3(0) = {e}START3
  d/dt({e}P0) = -{e}P0*{e}01 + {e}P1*{e}10
  d/dt({e}P1) = {e}P0*{e}01 - {e}P1*({e}10 + {e}12) + {e}P2*{e}21
  d/dt({e}P2) = {e}P1*{e}12 - {e}P2*({e}21 + {e}23) + {e}P3*{e}32
  d/dt({e}P3) = {e}P2*{e}23 - {e}P3*{e}32
  {e}SUM1 = {e}P1 + {e}P2 + {e}P3
  {e}SUM2 = {e}P2 + {e}P3
"""
EVENTS = {"F": "fatigue", "H": "hand_foot"}


def _text() -> str:
    """The example's model with the probabilities of every grade as states, integrated with the rest."""
    text = (EXAMPLE / "model.yaml").read_text()
    states = ", ".join(f'{e}P{g}: "1"' for e in EVENTS for g in range(4))
    text = text.replace("VEGFR3: pg/mL}", f"VEGFR3: pg/mL, {states}}}", 1)
    text = text.replace("outputs:\n", "".join(FORWARD.format(e=e) for e in EVENTS) + "outputs:\n", 1)
    told = "".join(
        f"  {e}{g}: {{is: {name}, error: {{additive: 0.1 1}}}}\n"
        for e in EVENTS for g, name in ((11, f"{e}SUM1"), (22, f"{e}SUM2"), (33, f"{e}P3"))
    )  # fmt: skip
    return text.replace("events:\n", told + "events:\n", 1)


@lru_cache
def _lived(subjects: int = SUBJECTS) -> tuple[Any, Any]:
    """Subjects under 50 mg on 4 weeks of 6 at the visits: latent values with the paths, and the visits [h]."""
    from pkpd.model.spec import Model
    from pkpd.model.variability import published
    from trials.protocol import Protocol
    from trials.setting import Payload, opened
    from trials.trial import simulate_trial

    text = (EXAMPLE / "protocol.yaml").read_text()
    visits = "".join(f"  w{week}: {{day: {7 * week}}}\n" for week in WEEKS)
    begin, end = text.index("visits:\n"), text.index("intercurrent:")
    text = text[:begin] + "visits:\n  start: {day: 0}\n" + visits + text[end:]
    text = text.replace("subjects: 300", f"subjects: {subjects}").replace("probability: 0.5", "probability: 1e-9")
    model = Model.parse(_text())
    protocol = Protocol.parse(text, complete=False)
    setting = opened(
        Payload(key=f"grades {subjects}", protocol=protocol, model=model.to_dict(),
                draws=published(model, 50, protocol.seed))
    )  # fmt: skip
    return simulate_trial(setting, [0]), np.array([0, *WEEKS]) * 168.0


@row("grades.forward", unit="largest |z|", bar="<= 4", command="python -m tests.bench grades.forward")
def forward() -> Measured:
    """Shares at each grade or worse at seven visits, less the mean of each subject's own probability, over its error."""
    from pkpd.model.grades import grade_at

    trial, times = _lived()
    fine = trial.course.status == 0
    worst, number = 0.0, 0
    for letter, event in EVENTS.items():
        grade = grade_at(trial.course.latent.path(event), np.tile(times, (fine.size, 1)))
        for level, name in ((1, f"{letter}SUM1"), (2, f"{letter}SUM2"), (3, f"{letter}P3")):
            p = np.clip(trial.course.values[name], 0.0, 1.0)
            z = ((grade >= level) - p)[fine].sum(axis=0) / np.sqrt((p * (1 - p))[fine].sum(axis=0))
            worst, number = max(worst, float(np.abs(z).max())), number + z.size
    return Measured(worst, f"{int(fine.sum())} subjects, {number} shares, two events, three arms")


@row("grades.rescaled", unit="p", bar=">= 0.01", command="python -m tests.bench grades.rescaled")
def rescaled() -> Measured:
    """Cumulative intensity of leaving over each first stay, from the solver, against the exponential law: 20 seeds."""
    from scipy import stats

    p = [_seed(seed) for seed in range(20)]
    return Measured(
        float(stats.kstest(p, "uniform").pvalue),
        f"Kolmogorov-Smirnov p of 20 seeds: smallest {min(p):.3f}, median {np.median(p):.3f}",
    )


MODEL = """
vtrial: model/1
name: rescaled
states: {A: mg, L0: "1", L1: "1"}
parameters:
  K: {typical: 0.03 1/h, iiv: 0.3, status: assumed}
  U: {typical: 0.004 1/h, iiv: 0.5, status: assumed}
  S: {typical: 0.05 1/mg, status: assumed}
equations: |
  d/dt(A) = -K*A
  UP = U*(1 + S*A)
  DOWN = 5*U
  WORSE = U*S*A
  d/dt(L0) = UP
  d/dt(L1) = DOWN + WORSE
outputs: {L0: {is: L0, error: {additive: 1 1}}, L1: {is: L1, error: {additive: 1 1}}}
events:
  rash: {term: Rash, moves: {0 to 1: UP, 1 to 0: DOWN, 1 to 2: WORSE, 2 to 1: DOWN}}
"""


def _seed(seed: int) -> float:
    """p of one seed: 400 subjects dosed every day, followed until each has left grades 0 and 1 once."""
    from scipy import stats

    from pkpd.engine.build import compiled
    from pkpd.engine.hazards import occurring
    from pkpd.engine.solve import solve
    from pkpd.ground.streams import slots
    from pkpd.model.grades import walked
    from pkpd.model.outcomes import thresholds_at
    from pkpd.model.regimen import Events, Schedule
    from pkpd.model.spec import Model

    model, n, hours = Model.parse(MODEL), 400, 6000.0
    engine, who = compiled(model), np.arange(n)
    plain = np.zeros(int(hours) // 24)
    doses = Schedule(np.arange(plain.size) * 24.0, plain + 30.0, plain.astype(np.int32), plain, plain, plain)
    events = Events.shared(doses, n)
    spread = np.linspace(-1, 1, n)
    parameters = np.column_stack([0.03 * np.exp(0.3 * spread), 0.004 * np.exp(-0.5 * spread), np.full(n, 0.05)])

    def draw(name: str, count: int) -> Any:
        return thresholds_at(seed, subject=who, replicate=np.zeros(n, np.int64), event=int(slots([name])[0]),
                             occurrences=count)  # fmt: skip

    def solved(times: Any, thresholds: Any = None) -> Any:
        return solve(engine, parameters, events, times, thresholds=thresholds, rtol=1e-8, atol=1e-10)

    found = occurring(lambda asked: solved(np.array([hours]), asked), draw, engine.kinds)
    moves = model.moves("rash")
    points = [np.where(np.isnan(t := found.crossings[m.name]), np.inf, t) for m in moves]
    path = walked(np.zeros(n, np.int8), [(m.origin, m.target) for m in moves], points)
    complete = np.isfinite(path.time[:, :2]).all(axis=1)
    if not complete.all():
        raise RuntimeError(f"{int((~complete).sum())} subjects did not leave grade 1: follow longer")
    at = solved(path.time[:, :2]).values
    l0, l1 = (at[:, engine.outputs.index(name)] for name in ("L0", "L1"))
    stays = np.concatenate([l0[:, 0], l1[:, 1] - l1[:, 0]])
    return float(stats.kstest(stays, "expon").pvalue)


@row("grades.speed", unit="CPU ms a subject", bar="<= 5", command="python -m tests.bench grades.speed")
def speed() -> Measured:
    """The example: two events of six moves each over 24 weeks, three arms, warm; forward equations not among them."""
    import time

    from trials.run import prepare
    from trials.setting import opened
    from trials.trial import simulate_trial

    setting = opened(prepare(EXAMPLE / "protocol.yaml").variants["main"].payload)
    simulate_trial(setting, [0])
    begin = time.process_time()
    simulate_trial(setting, range(1, 5))
    spent = time.process_time() - begin
    return Measured(1000 * spent / (4 * setting.protocol.subjects), "four trials of 300 subjects")
