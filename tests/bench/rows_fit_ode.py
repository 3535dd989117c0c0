"""Myelosuppression (Friberg), 12 subjects, PK and neutrophils, through the generated solver and its adjoint.

The public benchmark's design, truth and priors (PumasAI-Labs/Bayesian-Benchmarks, model 05: Torsten 0.1 ESS a second,
NONMEM 0.5), simulated here; absorption is told as faster than elimination, in the simulation and in the model.
"""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np

from tests.bench.harness import Measured, row

SEED = 1
TRUTH = {
    "KA": 1.0, "CL": 4.0, "VC": 70.0, "Q": 4.0, "VP": 50.0, "MTT": 125.0, "CIRC0": 5.0, "GAMMA": 0.17, "ALPHA": 3e-4,
}  # fmt: skip
UNITS = dict(zip(TRUTH, ("1/h", "L/h", "L", "L/h", "L", "h", "1", "1", "L/ug"), strict=True))
DAY = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 20, 24)
PK = sorted({24.0, 48.0, *(72.0 + t for t in DAY), 120.0, *(144.0 + t for t in DAY), 180.0, 192.0, 204.0, 216.0})
PD = [24.0 * k for k in range(29)]
DOSES = [1e4] * 3 + [2e4] * 3 + [4e4] * 3 + [8e4] * 3
EQUATIONS = """
omega: {block: [KA, CL, VC, Q, VP, MTT, CIRC0, GAMMA, ALPHA], lkj: 2}
equations: |
  KTR = 4/MTT
  C = central/VC
  d/dt(depot)      = -KA*depot
  d/dt(central)    = KA*depot - (CL/VC + Q/VC)*central + Q/VP*peripheral
  d/dt(peripheral) = Q/VC*central - Q/VP*peripheral
  Prol(0) = CIRC0
  T1(0)   = CIRC0
  T2(0)   = CIRC0
  T3(0)   = CIRC0
  Circ(0) = CIRC0
  d/dt(Prol) = KTR*Prol*((1 - ALPHA*C)*(CIRC0/Circ)^GAMMA - 1)
  d/dt(T1)   = KTR*(Prol - T1)
  d/dt(T2)   = KTR*(T1 - T2)
  d/dt(T3)   = KTR*(T2 - T3)
  d/dt(Circ) = KTR*(T3 - Circ)
outputs:
  CP:  {is: C, error: {log: {typical: 0.2, prior: 0.5}}}
  ANC: {is: Circ, error: {log: {typical: 0.2, prior: 0.5}}}
"""


def text() -> str:
    """Priors: log-normal about the truth with sd 1; sds of random effects half-normal 0.4, of residuals 0.5; LKJ 2."""
    head = 'vtrial: model/1\nname: friberg\nstates: {depot: ug, central: ug, peripheral: ug, Prol: "1", T1: "1", '
    lines = [head + 'T2: "1", T3: "1", Circ: "1"}', "parameters:"]
    for name, value in TRUTH.items():
        above = "above: CL/VC, " if name == "KA" else ""
        typical = f"typical: {value:.8f} {UNITS[name]}, iiv: {{typical: 0.3, prior: 0.4}}, {above}"
        lines.append(f"  {name}: {{{typical}prior: {{median: {value:.8f}, sd: 1}}, status: assumed}}")
    return "\n".join(lines) + EQUATIONS


def data(seed: int) -> str:
    """Daily doses for a week, 39 levels, 29 counts a subject; log-normal, sds 0.3 between subjects and 0.2 residual."""
    from pkpd.engine.build import compiled
    from pkpd.engine.solve import solve
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model, rng = Model.parse(text()), np.random.default_rng(seed)
    people = [{name: value * np.exp(0.3 * rng.normal()) for name, value in TRUTH.items()} for _ in DOSES]
    for p in people:
        p["KA"] += p["CL"] / p["VC"]
    lines = [f"{i + 1},{24 * k},{dose},.,1,.,depot" for i, dose in enumerate(DOSES) for k in range(7)]
    lines += [
        f"{i + 1},{t},.,1,0,{what},." for i in range(len(DOSES)) for what, at in (("CP", PK), ("ANC", PD)) for t in at
    ]
    lines.sort(key=lambda line: (int(line.split(",")[0]), float(line.split(",")[1]), line.split(",")[4] == "0"))
    head = "ID,TIME,AMT,DV,EVID,DVID,CMT"
    records = Records.parse("\n".join([head, *lines]) + "\n", model=model)
    times = np.unique(records.time)
    rows = np.array([[p[n] for n in model.parameters] for p in people])
    found = solve(compiled(model), rows, records.doses, times, rtol=1e-9, atol=1e-10).values
    place = [compiled(model).outputs.index(str(o.is_)) for o in model.outputs.values()]
    f = found[records.subject, np.array(place)[records.output], np.searchsorted(times, records.time)]
    values = iter(f * np.exp(0.2 * rng.normal(size=len(f))))
    parts = [line.split(",") for line in lines]
    filled = [[*p[:3], f"{next(values):.8g}" if p[4] == "0" else ".", *p[4:]] for p in parts]
    return "\n".join([head, *(",".join(p) for p in filled)]) + "\n"


@cache
def run() -> dict:
    """4 x (700 + 3500): the volumes and the absorption lie on a bent ridge; the rest is default."""
    from pkpd.bayes import fit
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(text())
    found = fit(model, Records.parse(data(SEED), model=model), seed=SEED, draws=3500, cache=False)
    shutil.rmtree(found.tree_path.parent)
    return {**found.diagnostics, "seconds": found.seconds, "cpu": spent(found.seconds)}


def spent(seconds: dict) -> float:
    return sum(v for n, v in seconds.items() if n.endswith(".cpu"))


@row("fit.friberg.ess_bulk", unit="draws", bar=">= 400")
def ess_bulk() -> Measured:
    found = run()
    worst = min(found["parameters"], key=lambda p: p["ess_bulk"])
    return Measured(found["min_ess_bulk"], f"{worst['name']}; R-hat {found['max_rhat']:.4f}; {found['verdict']}")


@row("fit.friberg.cpu", unit="CPU s", bar="<= 600")
def cpu() -> Measured:
    """Compilation included (where it was not compiled before)."""
    found = run()
    split = ", ".join(f"{n[:-4]} {v:.0f}" for n, v in found["seconds"].items() if n.endswith(".cpu"))
    speed = found["min_ess_bulk"] / found["seconds"]["sample.cpu"]
    return Measured(found["cpu"], f"{split}; {speed:.2f} least bulk ESS per CPU second of sampling")


@row("fit.friberg.divergences", unit="transitions", bar="== 0")
def divergences() -> Measured:
    return Measured(float(run()["divergences"]), "4 chains, 3500 draws each")


@row("fit.friberg.truth", unit="95 % intervals that hold the truth", bar=">= 0.85")
def truth() -> Measured:
    """Typical values, sds of random effects, residual sds; one data set."""
    expected = {f"log_{n}": np.log(v) for n, v in TRUTH.items() if n != "KA"} | {"log_KA_above": 0.0}
    expected |= {f"omega_{n}": 0.3 for n in TRUTH} | {"CP_log": 0.2, "ANC_log": 0.2}
    own = [p for p in run()["parameters"] if p["name"] in expected]
    inside = [p["lower"] <= expected[p["name"]] <= p["upper"] for p in own]
    far = max(abs(p["mean"] - expected[p["name"]]) / p["sd"] for p in own)
    return Measured(float(np.mean(inside)), f"{len(own)} quantities, largest distance {far:.2f} posterior sd")


@cache
def densities() -> tuple:
    """The density at the product's tolerance and at 1e-11, and ten points about the quick look."""
    from dataclasses import replace

    from pkpd.bayes.centring import look, starting_point
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design, measured_outputs
    from pkpd.bayes.plan import plan
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    model = Model.parse(text())
    records = Records.parse(data(SEED), model=model)
    how, made = plan(model, measured_outputs(model, records)), design(model, records)
    family = replace(made.family, arrays={**made.family.arrays, "ode_settings": np.array([1e-11, 1e-13, 20_000])})
    plain, fine = density(how, made), density(how, replace(made, family=family))
    seen = look(plain)
    return plain, fine, [starting_point(plain, seen, seed) for seed in range(1, 11)]


@row("fit.friberg.energy", unit="log density", bar="<= 0.01")
def energy() -> Measured:
    """Error of the log density, of the differences that a trajectory sees, worst of ten points."""
    plain, fine, points = densities()
    each = [(plain(x), fine(x)) for x in points]
    error = [a - b for (a, _), (b, _) in each]
    slope = max(float(np.abs(g - h).max() / np.abs(h).max()) for (_, g), (_, h) in each)
    spread = max(error) - min(error)
    return Measured(
        spread, f"largest error {max(map(abs, error)):.1e}; gradient, relative to its largest entry {slope:.1e}"
    )


@row("fit.friberg.density", unit="ms", bar="<= 2")
def one() -> Measured:
    """CPU time of the log density and its gradient, 164 dimensions, 816 rows."""
    plain, _, points = densities()
    return Measured(timed(plain, points), f"{plain.layout.size} dimensions")


@row("fit.friberg.gain", unit="times", bar=">= 4")
def gain() -> Measured:
    """Forward sensitivities along nine parameters, beside the adjoint."""
    from pkpd.bayes.density import density
    from pkpd.bayes.design import design, measured_outputs
    from pkpd.bayes.plan import plan
    from pkpd.model.records import Records
    from pkpd.model.spec import Model

    plain, _, points = densities()
    model = Model.parse(text())
    records = Records.parse(data(SEED), model=model)
    forward = density(plan(model, measured_outputs(model, records)), design(model, records, path="forward"))
    plain(points[0]), forward(points[0])
    own, other = timed(plain, points), timed(forward, points)
    return Measured(other / own, f"{other:.2f} ms against {own:.2f} ms")


def timed(law, points: list) -> float:
    """Milliseconds of CPU a call."""
    import time

    start = time.process_time()
    for _ in range(20):
        for x in points:
            law(x)
    return (time.process_time() - start) * 1e3 / (20 * len(points))
