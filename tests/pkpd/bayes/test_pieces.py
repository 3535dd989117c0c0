"""Occasions, covariates that change, covariates that are missing: the compiled density against the engine, differences
and PyMC; borders of every kind.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pkpd.bayes.centring import frame_of, look, starting_point
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import design, measured_outputs
from pkpd.bayes.frame import Frame
from pkpd.bayes.missing import drawn
from pkpd.bayes.plan import plan
from pkpd.engine.build import compiled
from pkpd.engine.changes import in_time
from pkpd.engine.solve import solve
from pkpd.ground.errors import InputError
from pkpd.model.records import Records
from pkpd.model.spec import Model
from pkpd.model.timeline import timeline
from pkpd.model.variability import individual

TEXT = """
vtrial: model/1
name: occasions
covariates:
  WT: {unit: kg, reference: 70, between: locf}
  CR: {unit: mg/dL, reference: 1, between: nocb}
  HT: {unit: cm, reference: 170}
states: {depot: mg, central: mg, peripheral: mg, R: "1"}
occasion: {column: OCC}
parameters:
  KA: {typical: 1.1 1/h, iov: {typical: 0.4, prior: 1}, prior: {median: 1, sd: 1}, above: CL/V, status: assumed}
  CL: {typical: 2.0 L/h, iiv: {typical: 0.3, prior: 0.5}, iov: {typical: 0.2, prior: 0.5}, prior: {median: 2, sd: 1},
       effects: {WT: power 0.75 fixed, CR: power GC}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 20, sd: 1}, effects: {WT: power 1 fixed, HT: power GH},
       status: assumed}
  Q:  {typical: 1 L/h, prior: {median: 1, sd: 1}, status: assumed}
  VP: {typical: 15 L, prior: {median: 15, sd: 1}, status: assumed}
  GC: {typical: -0.4 1, scale: identity, se: 0.1, status: assumed}
  GH: {typical: 0.5 1, scale: identity, se: 0.1, status: assumed}
  C5: {typical: 3 mg/L, prior: {median: 3, sd: 1}, status: assumed}
  KO: {typical: 0.1 1/h, iov: {typical: 0.2, prior: 1}, prior: {median: 0.1, sd: 1}, status: assumed}
  R0: {typical: 50 1, iiv: {typical: 0.1, prior: 1}, prior: {median: 50, sd: 1}, status: assumed}
equations: |
  C = central/V
  R(0) = R0
  d/dt(depot) = -KA*depot
  d/dt(central) = KA*depot - CL*C - Q*C + Q*peripheral/VP
  d/dt(peripheral) = Q*C - Q*peripheral/VP
  d/dt(R) = KO*R0*(1 - C/(C5 + C)) - KO*R
doses: {depot: {bioavailability: 0.9, lag: 0.25 h}, central: {bioavailability: 1, lag: 0 h}}
outputs:
  CP: {is: C, error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}}
  PD: {is: R, error: {additive: {typical: 3 1, prior: 5 1}}}
"""
DATA = """ID,TIME,AMT,DV,EVID,CMT,DVID,RATE,II,SS,ADDL,OCC,WT,CR,HT
1,0,.,50,0,.,PD,.,.,.,.,1,80,1.0,180
1,0,100,.,1,depot,.,0,.,.,.,1,80,1.0,180
1,2,.,3.0,0,.,CP,.,.,.,.,1,80,1.0,180
1,6,.,41,0,.,PD,.,.,.,.,1,80,1.4,180
1,10,60,.,1,central,.,10,.,.,.,1,80,1.4,180
1,12,.,3.1,0,.,CP,.,.,.,.,2,84,1.4,180
1,12,80,.,1,depot,.,0,.,.,.,2,84,1.4,180
1,13,.,4.1,0,.,CP,.,.,.,.,2,84,1.4,180
1,30,.,2.0,0,.,CP,.,.,.,.,3,84,2.0,180
1,30,.,30,0,.,PD,.,.,.,.,3,84,2.0,180
1,48,.,33,0,.,PD,.,.,.,.,3,84,2.0,180
2,0,120,.,1,depot,.,0,.,.,.,1,60,1.0,.
2,3,.,4.2,0,.,CP,.,.,.,.,1,60,1.0,.
2,24,70,.,1,central,.,0,12,1,.,2,60,1.0,.
2,24,.,6.0,0,.,CP,.,.,.,.,2,60,1.0,.
2,40,.,2.5,0,.,CP,.,.,.,.,2,60,1.0,.
2,46,.,2.2,0,.,CP,.,.,.,.,2,60,1.0,.
3,1,140,.,1,depot,.,0,24,0,3,5,71,1.2,165
3,20,.,1.5,0,.,CP,.,.,.,.,5,71,1.2,165
3,50,.,2.5,0,.,CP,.,.,.,.,7,71,1.2,165
3,80,.,33,0,.,PD,.,.,.,.,7,66,1.2,165
4,0,.,52,0,.,PD,.,.,.,.,1,75,1,172
4,5,.,51,0,.,PD,.,.,.,.,2,75,1,172
4,6,90,.,1,central,.,45,.,.,.,2,75,1,172
4,7,.,40,0,.,PD,.,.,.,.,3,75,1,172
4,9,.,2,0,.,CP,.,.,.,.,3,75,1,172
"""


def built(data: str = DATA, text: str = TEXT, first: float = 0.2) -> tuple[Density, Records, Model]:
    model = Model.parse(text)
    records = Records.parse(data, model=model)
    made = density(plan(model, measured_outputs(model, records)), design(model, records, first=first))
    return made, records, model


@pytest.fixture(scope="module")
def several():
    return built()


def somewhere(made: Density, seed: int = 1) -> np.ndarray:
    x = 0.4 * np.random.default_rng(seed).normal(size=made.layout.size)
    n_t = made.layout.sizes[0]
    x[:n_t] += [p.location for p in made.layout.plan.typical.values()]
    x[n_t : made.layout.population] -= 1.0
    return x


def test_the_history_is_cut_where_the_engine_cuts_it(several):
    made, records, model = several
    pieces = design(model, records).pieces
    assert pieces.subject.tolist() == [0] * 5 + [1] * 2 + [2] * 3 + [3] * 3
    assert pieces.start.tolist()[:5] == [-np.inf, 2.0, 12.0, 13.0, 30.0]
    assert len(pieces.occasions) == 3 + 2 + 2 + 3
    assert made.layout.absent == ("HT of 2",)
    assert made.layout.size == made.layout.population + 3 * 4 + 3 * 10 + 1


def witness(made: Density, records: Records, model: Model, x: np.ndarray) -> np.ndarray:
    """Predictions of the engine's solver at rtol 1e-11: its own individual parameters, timeline and changes."""
    named, how = made.layout.named(x), made.layout.plan
    p, order = model.parameters, model.eta_names
    typical = np.array([[_typical(model, n, named) for n in p]])
    value = dict(zip(p, typical[0], strict=True))
    typical[0, list(p).index("KA")] += value["CL"] / value["V"]
    root = np.diag([float(named[f"omega_{n}"]) for n in order])[None]
    absent = design(model, records).absent
    constant = {k: v.copy() for k, v in records.covariates.items()}
    constant["HT"][absent.subject] = drawn(absent, named["z_missing"])
    line = timeline(model, constant, records.series, occasion=records.occasion, until=100.0)
    pieces = design(model, records).pieces
    z = np.stack([
        named[f"z_{n}"][pieces.slot] if n.endswith(".iov") else named[f"z_{n}"][pieces.subject] for n in order
    ], axis=1)  # fmt: skip
    theta = individual(model, typical, root, {k: v[None] for k, v in line.values.items()}, z=z[None])[0]
    assert tuple(how.spread) == model.subject_etas
    found = np.empty(len(records.dv))
    times = np.unique(records.time)
    made_ = compiled(model)
    first, inputs, changes = in_time(made_, line, theta)
    for after in (False, True):
        values = solve(made_, first, records.doses, times, covariates=inputs, changes=changes, after=after, rtol=1e-11,
                       atol=1e-12).values  # fmt: skip
        rows = records.after == after
        found[rows] = values[records.subject, records.output, np.searchsorted(times, records.time)][rows]
    return found


def _with_steady_effect() -> str:
    line = "2,46,.,2.2,0,.,CP,.,.,.,.,2,60,1.0,.\n"
    return DATA.replace(line, line + line.replace("2,46,.,2.2,0,.,CP", "2,50,.,40,0,.,PD"))


def _typical(model: Model, name: str, named: dict) -> float:
    p = model.parameters[name]
    if p.scale == "identity":
        return float(named[name])
    return float(np.exp(named[f"log_{name}_above" if p.above is not None else f"log_{name}"]))


@pytest.mark.slow
def test_predictions_are_those_of_the_solver(several):
    """Boluses, infusions over a border, lag, steady state, additional doses, a turnover state, states carried over."""
    made, records, model = several
    for seed in (1, 2):
        x = somewhere(made, seed)
        np.testing.assert_allclose(made.predictions(x), witness(made, records, model, x), rtol=2e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("framed", [False, True])
def test_gradient_is_the_central_difference(several, framed):
    made, x = several[0], somewhere(several[0])
    if framed:
        made, x = reframed(made, x)
    exact = made(x)[1]
    for k in range(len(x)):
        h = 3e-4 * np.eye(len(x))[k]
        difference = (8 * (made(x + h)[0] - made(x - h)[0]) - made(x + 2 * h)[0] + made(x - 2 * h)[0]) / 36e-4
        assert exact[k] == pytest.approx(difference, rel=1e-6, abs=2e-5), k


def reframed(made: Density, x: np.ndarray) -> tuple[Density, np.ndarray]:
    """Something known of all that is each subject's own, and the same point in those coordinates."""
    rng = np.random.default_rng(2)
    layout, named = made.layout, made.layout.named(x)
    here = layout.at >= 0
    (D, n), n_t = layout.at.shape, layout.sizes[0]
    root = 2.0 * rng.normal(size=(n, D, D)) * here.T[:, :, None]
    info = np.einsum("nij,nkj->ikn", root, root)
    peak, slope = rng.normal(size=(D, n)) * here, rng.normal(size=(D, n_t, n)) * here[:, None, :]
    own = made.framed(Frame(info=info, peak=peak, slope=slope))
    out, z = x.copy(), np.where(here, x[layout.at], 0.0)
    y = own.layout.frame.coordinates(z, x[:n_t], layout.roots(named), x[layout.errors])
    assert not y[~here].any()
    out[layout.at[here]] = y[here]
    return own, out


@pytest.mark.slow
def test_a_frame_changes_the_coordinates_only(several):
    """log p(y) = log p(z) - sum log det(1 + L' info L)/2, effects between occasions and missing covariates with them."""
    made, x = several[0], somewhere(several[0])
    assert (made.layout.at < 0).any()
    own, y = reframed(made, x)
    named = made.layout.named(x)
    np.testing.assert_allclose(own.predictions(y), made.predictions(x), rtol=1e-9)
    for name, z in own.layout.named(y).items():
        np.testing.assert_allclose(z, named[name], rtol=1e-8, atol=1e-10, err_msg=name)
    root = made.layout.roots(named)
    known = np.eye(len(root)) + root.T @ np.moveaxis(own.layout.frame.info, -1, 0) @ root
    assert own(y)[0] == pytest.approx(made(x)[0] - 0.5 * np.linalg.slogdet(known)[1].sum(), rel=1e-11)


@pytest.mark.slow
def test_the_quick_look_covers_occasions_and_missing_covariates(several):
    """What the look finds stands where gradients of all that is a subject's own vanish: coordinates 0."""
    made = several[0]
    seen = look(made)
    assert not seen.failed
    assert set(seen.remaining) == {*made.layout.plan.spread, *(f"{n}.iov" for n in made.layout.plan.between)}
    for asked in (None, {f"{next(iter(made.layout.plan.between))}.iov": True}):
        own = made.framed(frame_of(made.layout, seen, asked))
        x = starting_point(own, seen, 1)
        assert np.isfinite(own(x)[0])
        assert np.isfinite(own.layout.named(x)["z_missing"]).all()


def test_what_cannot_be_fitted_is_named():
    linear = TEXT.replace("between: locf", "between: linear")
    with pytest.raises(InputError, match="moves linearly"):
        built(text=linear)
    with pytest.raises(InputError, match="all but 1 subjects"):
        built(DATA.replace("165", ".").replace("172", "."))
    with pytest.raises(InputError, match="of the equations that is missing"):
        built(text=TEXT.replace("- KO*R\n", "- KO*R*HT/HT\n"))
    with pytest.raises(InputError, match="steady states cannot be fitted"):
        built(_with_steady_effect())


@pytest.mark.slow
def test_it_is_the_pymc_model(several):
    made, records, model = several
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pkpd.bayes.likelihood import population_model

        whole = population_model(made.layout.plan, design(model, records, first=0.2))
        start = whole.initial_point()
        logp, dlogp = whole.compile_logp(), whole.compile_dlogp()
    x = somewhere(made)
    places = _places(made)
    assert set(places) == set(start)
    point = {n: x[places[n]].reshape(np.shape(start[n])) for n in start}
    value, gradient = made(x)
    assert value == pytest.approx(float(logp(point)), rel=1e-11)
    order = np.concatenate([np.arange(len(x))[places[n]] for n in start])
    np.testing.assert_allclose(gradient[order], dlogp(point), rtol=1e-9, atol=1e-8)


def _places(made: Density) -> dict[str, slice]:
    layout, how = made.layout, made.layout.plan
    n_t = layout.sizes[0]
    names = list(layout.named(np.zeros(layout.size)))[: layout.population]
    suffix = [""] * n_t + ["_log__"] * (layout.population - n_t)
    found = {n + s: slice(k, k + 1) for k, (n, s) in enumerate(zip(names, suffix, strict=True))}
    at = layout.population
    for name in how.spread:
        found[f"z_{name}"] = slice(at, at + layout.subjects)
        at += layout.subjects
    for name in how.between:
        found[f"z_{name}.iov"] = slice(at, at + len(layout.occasions))
        at += len(layout.occasions)
    return found | {"z_missing": slice(at, at + len(layout.absent))}
