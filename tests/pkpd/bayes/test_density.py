"""The compiled density: PyMC's own log density and gradient, families against each other, centring, several outputs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from pkpd.bayes.centring import chosen, frame_of, look, starting_point
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import Path, design, measured_outputs
from pkpd.bayes.frame import Frame, Turn
from pkpd.bayes.plan import plan
from pkpd.engine.build import compiled
from pkpd.engine.solve import solve
from pkpd.model.library import load
from pkpd.model.records import Records
from pkpd.model.spec import Model

PKPD = """
vtrial: model/1
name: m
covariates: {WT: {unit: kg, reference: 70}, SEX: {labels: {0: female, 1: male}, reference: 0}}
states: {depot: mg, transit: mg, central: mg, site: mg/L, R1: "1", R2: "1", R3: "1", R4: "1"}
parameters:
  K:  {typical: 1.1 1/h, iiv: {typical: 0.5, prior: 1}, prior: {median: 1, sd: 1}, status: assumed}
  CL: {typical: 2.0 L/h, iiv: {typical: 0.3, prior: 0.5}, prior: {median: 2, sd: 1}, effects: {WT: power GW, SEX: {1: FM}}, status: assumed}
  V:  {typical: 20 L, iiv: {typical: 0.2, prior: 1}, prior: {median: 20, sd: 1}, effects: {WT: power 1 fixed}, status: assumed}
  GW: {typical: 0.75 1, scale: identity, se: 0.1, status: assumed}
  FM: {typical: 1.2 1, se: 0.1, status: assumed}
  EM: {typical: 0.8 1, scale: logit, prior: {median: 0.8, sd: 1}, status: assumed}
  C5: {typical: 3 mg/L, iiv: {typical: 0.4, prior: 1}, prior: {median: 3, sd: 1}, status: assumed}
  KO: {typical: 0.1 1/h, prior: {median: 0.1, sd: 1}, status: assumed}
  R0: {typical: 50 1, iiv: {typical: 0.1, prior: 1}, prior: {median: 50, sd: 1}, status: assumed}
omega: {block: [CL, V, C5], lkj: 2}
equations: |
  C = central/V
  I = EM*C/(C5 + C)
  EFF = R0*(1 + 0.3*site/(C5 + site))
  R1(0) = R0
  R2(0) = R0
  R3(0) = R0
  R4(0) = R0
  d/dt(depot) = -K*depot
  d/dt(transit) = K*depot - K*transit
  d/dt(central) = K*transit - CL*C
  d/dt(site) = KO*C - KO*site
  d/dt(R1) = KO*R0*(1 - I) - KO*R1
  d/dt(R2) = KO*R0 - KO*(1 - I)*R2
  d/dt(R3) = KO*R0*(1 + I) - KO*R3
  d/dt(R4) = KO*R0 - KO*(1 + I)*R4
doses: {depot: {bioavailability: 0.9, lag: 0.25 h}, central: {bioavailability: 1, lag: 0 h}}
outputs:
  CP: {is: C, error: {additive: {typical: 0.3 mg/L, prior: 1 mg/L}, proportional: {typical: 0.1, prior: 0.5}}}
  P1: {is: R1, error: {log: {typical: 0.1, prior: 0.5}}}
  P2: {is: R2, error: {log: {typical: 0.1, prior: 0.5}}}
  P3: {is: R3, error: {additive: {typical: 3 1, prior: 5 1}}}
  P4: {is: R4, error: {proportional: {typical: 0.1, prior: 0.5}}}
  PE: {is: EFF, error: {additive: {typical: 3 1, prior: 5 1}}}
"""
DATA = """ID,TIME,AMT,DV,EVID,CMT,DVID,RATE,WT,SEX
1,0,.,48,0,.,P1,.,82,0
1,0,150,.,1,depot,.,0,82,0
1,1,.,4.0,0,.,CP,.,82,0
1,6,.,3.5,0,.,CP,.,82,0
1,6,.,40,0,.,P1,.,82,0
1,6,.,55,0,.,P3,.,82,0
1,6,.,55,0,.,PE,.,82,0
1,12,80,.,1,central,.,40,82,0
1,20,.,4.5,0,.,CP,.,82,0
1,30,.,30,0,.,P1,.,82,0
1,30,.,60,0,.,P2,.,82,0
2,0,120,.,1,depot,.,0,60,1
2,2,.,4.2,0,.,CP,.,60,1
2,9,.,2.5,0,.,CP,.,60,1
2,9,.,41,0,.,P4,.,60,1
2,9.5,60,.,1,central,.,0,60,1
2,10,.,5.5,0,.,CP,.,60,1
2,36,.,39,0,.,P4,.,60,1
2,36,.,65,0,.,P2,.,60,1
2,36,.,60,0,.,PE,.,60,1
3,0,140,.,1,depot,.,0,71,1
3,4,.,5.0,0,.,CP,.,71,1
3,24,.,33,0,.,P1,.,71,1
3,24,.,75,0,.,P3,.,71,1
"""


FORMS = ("none", "some", "all")
"""What is known of the subjects beforehand: nothing, something of each, all of one effect and nothing of another."""


def framed(made: Density, form: str) -> Density:
    q, n_t, n = len(made.layout.plan.spread), made.layout.sizes[0], made.layout.subjects
    if form == "none":
        return made.framed(Frame.none(q, n_t, n))
    rng = np.random.default_rng(5)
    root = rng.normal(size=(n, q, q)) * (1.0 if form == "some" else np.linspace(0.0, 30.0, q))
    info = np.moveaxis(np.einsum("nij,nkj->nik", root.swapaxes(1, 2), root.swapaxes(1, 2)), 0, -1)
    peak, slope = 3.0 * rng.normal(size=(q, n)), rng.normal(size=(q, n_t, n))
    if form == "all":
        return made.framed(Frame(info=info.copy(), peak=peak, slope=slope))
    e = made.layout.sizes[3]
    share, seen = rng.uniform(size=(q, e, n)) / e, rng.normal(size=e) - 1.0
    return made.framed(Frame(info=info.copy(), peak=peak, slope=slope, share=share, seen=seen))


def built(text: str, data: str = DATA, path: Path = "auto", **given) -> tuple[Density, Records, Model]:
    model = Model.parse(text)
    records = Records.parse(data, model=model)
    return (
        density(plan(model, measured_outputs(model, records)), design(model, records, path=path, **given)),
        records,
        model,
    )


@pytest.fixture(scope="module")
def pkpd():
    return built(PKPD, first=0.25)


def somewhere(made: Density, seed: int = 1) -> np.ndarray:
    """A point of the prior, in the density's own form."""
    rng = np.random.default_rng(seed)
    x = 0.3 * rng.normal(size=made.layout.size)
    n_t, q, n_p, _ = made.layout.sizes
    x[:n_t] += [p.location for p in made.layout.plan.typical.values()]
    x[n_t : n_t + q] -= 1.0
    x[n_t + q + n_p : made.layout.population] -= 1.0
    return reframed(framed(made, "none"), made, x)


def reframed(old: Density, new: Density, x: np.ndarray) -> np.ndarray:
    """The same subjects in the form of another density."""
    named, layout = old.layout.named(x), new.layout
    z = np.stack([named[f"z_{n}"] for n in layout.plan.spread])
    y = layout.frame.coordinates(z, x[: layout.sizes[0]], layout.root(named), x[layout.errors])
    return np.concatenate([x[: layout.population], y.ravel()])


def test_gradient_is_the_central_difference(pkpd):
    made = pkpd[0]
    for form in FORMS:
        own = framed(made, form)
        x = somewhere(own)
        exact = own(x)[1]
        for k in range(len(x)):
            h = 3e-4 * np.eye(len(x))[k]
            difference = (8 * (own(x + h)[0] - own(x - h)[0]) - own(x + 2 * h)[0] + own(x - 2 * h)[0]) / 36e-4
            assert exact[k] == pytest.approx(difference, rel=1e-6, abs=1e-5), (form, k)


def test_a_frame_changes_the_coordinates_only(pkpd):
    """log p(y) = log p(z) + log det dz/dy, dz/dy = T'^-1 with T T' = 1 + L' s info s L, for every subject."""
    made = framed(pkpd[0], "none")
    x = somewhere(made)
    value = made(x)[0]
    root = made.layout.root(made.layout.named(x))
    for form in FORMS:
        own = framed(made, form)
        y = reframed(made, own, x)
        s = own.layout.frame.scale(x[own.layout.errors])
        info = np.moveaxis(s * own.layout.frame.info * s[..., None, :] if s.ndim > 1 else own.layout.frame.info, -1, 0)
        known = np.linalg.slogdet(np.eye(len(root)) + root.T @ info @ root)[1].sum()
        assert own(y)[0] == pytest.approx(value - 0.5 * known, rel=1e-12)
        for name, z in own.layout.named(y).items():
            np.testing.assert_allclose(z, made.layout.named(x)[name], rtol=1e-9, atol=1e-11, err_msg=name)
        many = own.layout.named(np.stack([y, 0.5 * y])[None])
        np.testing.assert_allclose(many["z_CL"][0, 0], own.layout.named(y)["z_CL"], rtol=1e-12, atol=1e-14)


def turned(made: Density) -> Density:
    """Its population quantities by a linear map, every sd but the first unfolded, pairs of errors by size and share."""
    rng, p, scales = np.random.default_rng(3), made.layout.population, made.layout.scales
    fold = 0.2 * ((np.arange(len(scales)) > 0) & ~np.isin(scales, made.layout.rings))
    ring = 4.0 + np.arange(len(made.layout.rings))
    root = 0.2 * rng.normal(size=(p, p)) + np.eye(p)
    return made.turned(Turn(middle=0.3 * rng.normal(size=p), root=root, fold=fold, ring=ring))


def test_what_is_sampled_in_place_of_population_quantities_has_the_same_law(pkpd):
    """log p(y) = log p(x) + log det A + sum log dx/dv for v = m + A y and log sds x = log(c sinh|v|): dx/dv = coth|v|;
    of errors a, b: the determinant of (log a, log b) by (log s, t), a = s cos w, c b = s sin w, w = pi/2 Phi(t), is
    dw/dt (tan w + cot w).
    """
    made = framed(pkpd[0], "some")
    own, x = turned(made), somewhere(made)
    y = own.layout.sampled(x)
    turn = own.layout.turn
    np.testing.assert_allclose(own.layout.plain(np.stack([y, y]))[1], x, rtol=1e-9, atol=1e-9)
    folded = turn.fold > 0
    v = np.arcsinh(np.exp(x[own.layout.scales[folded]]) / turn.fold[folded])
    assert len(turn.ring) >= 1
    w = np.arctan2(turn.ring * np.exp(x[own.layout.rings[:, 1]]), np.exp(x[own.layout.rings[:, 0]]))
    slope = np.pi / 2 * stats.norm.pdf(stats.norm.ppf(2 * w / np.pi))
    jacobian = np.linalg.slogdet(turn.root)[1] - np.log(np.tanh(v)).sum()
    jacobian += np.log(slope * (np.tan(w) + 1 / np.tan(w))).sum()
    assert own(y)[0] == pytest.approx(made(x)[0] + jacobian, rel=1e-12)


def test_a_spread_may_pass_through_zero(pkpd):
    """With sds below 0 vector and density are those of their mirror image, and the density is smooth across 0."""
    own = turned(framed(pkpd[0], "some"))
    layout, p = own.layout, own.layout.population
    y = layout.sampled(somewhere(own))
    v = layout.turn.middle + layout.turn.root @ y[:p]
    for value in (-0.4, -1e-3, 1e-3):  # of the third sd
        v[layout.scales[2]] = value
        y[:p] = np.linalg.solve(layout.turn.root, v - layout.turn.middle)
        x = layout.plain(y)
        assert x[layout.scales[2]] == pytest.approx(np.log(0.2 * np.sinh(abs(value))))
        mirrored = layout.sampled(x)
        assert (layout.turn.middle + layout.turn.root @ mirrored[:p])[layout.scales[2]] == pytest.approx(abs(value))
        assert own(mirrored)[0] == pytest.approx(own(y)[0], rel=1e-10)
        exact = own(y)[1]
        for k in range(len(y)):
            h = 1e-4 * np.eye(len(y))[k]  # steps on both sides of 0
            difference = (8 * (own(y + h)[0] - own(y - h)[0]) - own(y + 2 * h)[0] + own(y - 2 * h)[0]) / 12e-4
            assert exact[k] == pytest.approx(difference, rel=1e-5, abs=1e-4), (value, k)


def test_in_a_normal_hierarchy_a_frame_leaves_standard_normal_coordinates():
    """With rows normal about u the coordinates are standard normal given any population: the density of y is a normal's
    whatever omega. Witness: u | rows ~ N((y/s^2 + m/omega^2) v, v), v = 1/(1/s^2 + 1/omega^2).
    """
    s, m, y = 0.3, 1.2, 2.0
    one = np.full((1, 1, 1), 1 / 0.2**2)  # made at another error: it follows
    frame = Frame(
        info=one, peak=np.full((1, 1), y), slope=np.ones((1, 1, 1)), share=np.ones((1, 1, 1)), seen=np.log([0.2])
    )  # fmt: skip
    for omega in (1e-3, 0.3, 50.0):
        v = 1 / (1 / s**2 + 1 / omega**2)
        for e in (-2.0, 0.0, 2.0):
            z = frame.effects(np.full((1, 1), e), np.array([m]), np.array([[omega]]), np.log([s]))[0, 0]
            assert m + omega * z == pytest.approx(v * (y / s**2 + m / omega**2) + np.sqrt(v) * e, rel=1e-9)


def test_coordinates_that_follow_an_error_keep_their_place():
    """What rows say so precisely that the population does not matter stays where it is whatever the errors of which the
    rows of one value and of another have different shares: only the widths change.
    """
    root = np.array([[1.0, 0.0], [0.7, 0.4]])
    info = 1e8 * (root @ root.T)[..., None]
    peak, slope, share = (
        np.array([[5.0], [-3.0]]),
        np.array([[[1.0]], [[0.5]]]),
        np.array([[[1.0], [0.0]], [[0.1], [0.6]]]),
    )
    frame = Frame(info=info, peak=peak, slope=slope, share=share, seen=np.array([-1.0, -2.0]))
    for error in ([-1.0, -2.0], [0.5, -2.0], [-1.0, -4.0]):
        z = frame.effects(np.zeros((2, 1)), np.array([0.3]), np.eye(2), np.array(error))[:, 0]
        np.testing.assert_allclose(z, [5.0 - 0.3, -3.0 - 0.15], rtol=1e-5)


def test_predictions_are_those_of_the_solver(pkpd):
    """The four turnover models of Dayneka, Garg & Jusko (1993) and an effect compartment behind two equal absorption
    stages, infusions, lag and share; the engine's solver at rtol 1e-11 is the witness.
    """
    made, records, model = pkpd
    assert made.text.count("carried(grid") == 4
    x = somewhere(made)
    x[made.layout.population :] = 0.0
    named = made.layout.named(x)
    typical = {n: _natural(model, n, named) for n in model.parameters}
    rows = []
    for wt, sex in zip(records.covariates["WT"], records.covariates["SEX"], strict=True):
        own = dict(typical)
        own["CL"] *= (wt / 70) ** typical["GW"] * (typical["FM"] if sex == 1 else 1.0)
        own["V"] *= wt / 70
        rows.append([own[n] for n in model.parameters])
    times = np.unique(records.time)
    found = solve(compiled(model), np.array(rows), records.doses, times, rtol=1e-11, atol=1e-12).values
    expected = found[records.subject, records.output, np.searchsorted(times, records.time)]
    np.testing.assert_allclose(made.predictions(x), expected, rtol=1e-6, atol=1e-7)


def _natural(model: Model, name: str, named: dict) -> float:
    p = model.parameters[name]
    label = name if p.scale == "identity" else f"{p.scale}_{name}"
    value = float(named[label])
    return {"log": np.exp, "logit": lambda v: 1 / (1 + np.exp(-v)), "identity": float}[p.scale](value)


@pytest.mark.slow
def test_modes_are_the_closed_form(model, records):
    """Theophylline by modes and by the one-compartment kernel: value and gradient to rounding."""
    how = plan(model, "CP")
    modes, closed = (density(how, design(model, records, path=path)) for path in ("modes", "closed"))
    x = somewhere(modes)
    (a, g), (b, h) = modes(x), closed(x)
    assert a == pytest.approx(b, rel=1e-12)
    np.testing.assert_allclose(g, h, rtol=1e-9, atol=1e-9 * np.abs(h).max())


@pytest.mark.slow
def test_families_agree(pkpd):
    """Modes and nodes against the generated solver: values and gradients; its tolerance, 1e-6, is what differs."""
    modes = pkpd[0]
    ode, _, _ = built(PKPD, path="ode")
    x = somewhere(modes)
    (a, g), (b, h) = modes(x), ode(x)
    assert a == pytest.approx(b, rel=1e-6)
    assert np.abs(g - h).max() <= 1e-5 * np.abs(g).max()
    np.testing.assert_allclose(modes.predictions(x), ode.predictions(x), rtol=2e-6, atol=1e-7)


@pytest.mark.slow
def test_it_is_the_pymc_model(pkpd):
    """The value with Jacobian and the gradient of `population_model`, at three points, constants included."""
    made, records, model = pkpd
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pkpd.bayes.likelihood import population_model

        how = made.layout.plan
        built_model = population_model(how, design(model, records, first=0.25))
        start = built_model.initial_point()
        logp, dlogp = built_model.compile_logp(mode="NUMBA"), built_model.compile_dlogp(mode="NUMBA")
        for seed in range(3):
            x = somewhere(made, seed)
            point = _point(made, x, start)
            value, gradient = made(x)
            assert value == pytest.approx(float(logp(point)), rel=1e-11)
            np.testing.assert_allclose(_flat(made, dlogp(point), start), gradient, rtol=1e-9, atol=1e-9)


def _places(made: Density) -> dict[str, slice]:
    """Place in our vector of each value variable of the PyMC model."""
    layout = made.layout
    n_t, q, n_p, n_e = layout.sizes
    names = list(layout.named(np.zeros(layout.size)))
    found = {name: slice(k, k + 1) for k, name in enumerate(names[:n_t])}
    suffix = ["_log__"] * q + ["_logodds__"] * n_p + ["_log__"] * n_e
    found |= {n + s: slice(n_t + k, n_t + k + 1) for k, (n, s) in enumerate(zip(names[n_t:], suffix))}
    at = layout.population
    for name in layout.plan.spread:
        found[f"z_{name}"] = slice(at, at + layout.subjects)
        at += layout.subjects
    return found


def _point(made: Density, x: np.ndarray, start: dict) -> dict:
    places = _places(made)
    assert set(places) == set(start)
    return {name: x[places[name]].reshape(np.shape(start[name])) for name in start}


def _flat(made: Density, g: np.ndarray, start: dict) -> np.ndarray:
    """PyMC's gradient, in the order of its value variables, in ours."""
    out, at = np.empty(made.layout.size), 0
    for name, value in start.items():
        size = int(np.size(value))
        out[_places(made)[name]] = np.ravel(g[at : at + size])
        at += size
    return out


def test_the_quick_look_finds_the_population(model, records):
    """Theophylline: three tools' posterior (shared/inference.md: ka exp(.425), CL exp(1.017), V exp(3.459)) within 15 %;
    nlme's omegas (diag: CL .265, V .135).
    """
    made = density(plan(model, "CP"), design(model, records))
    seen = look(made)
    assert not seen.failed
    above, cl, v = np.exp(seen.population[:3])
    assert [above + cl / v, cl, v] == pytest.approx([1.530, 2.765, 31.79], rel=0.1)
    assert np.exp(seen.population[4:6]) == pytest.approx([0.265, 0.135], rel=0.2)
    assert np.exp(seen.population[-1]) == pytest.approx(0.128, rel=0.1)  # their proportional error
    share = {c.name: c.centred.mean() for c in chosen(seen)}
    assert 0.9 < share["KA"] < 0.97  # data tell absorption and clearance of a subject, volume less
    assert 0.9 < share["CL"] < 0.97
    assert 0.7 < share["V"] < 0.9
    asked = {c.name: c for c in chosen(seen, {"V": True})}["V"]
    assert asked.centred.all()
    assert asked.reason.startswith("asked for")


def test_coordinates_of_the_look_are_standard_normal_at_its_end(model, records):
    """At the look's population the individuals it found have coordinates 0; asked for or not, the law is one."""
    made = density(plan(model, "CP"), design(model, records))
    seen = look(made)
    m = seen.population[[list(made.layout.plan.typical).index(n) for n in made.layout.plan.spread]]
    root = made.layout.root(made.layout.population_named(seen.population))
    z = np.linalg.solve(root, (seen.individual - m).T)
    for asked, most in ((None, 0.1), ({"V": True, "KA": False}, np.inf), ({"V": False}, np.inf)):
        own = made.framed(frame_of(made.layout, seen, asked))
        population = seen.population
        y = own.layout.frame.coordinates(
            z, population[: made.layout.sizes[0]], root, population[made.layout.errors]
        )  # fmt: skip
        assert np.abs(y).max() < most
        assert np.isfinite(own(starting_point(own, seen, 3))[0])
    assert not own.layout.frame.info[list(made.layout.plan.spread).index("V")].any()


def test_the_structure_chooses_the_family():
    """Library texts: what is measured decides; a saturable elimination has no modes."""
    rows = "ID,TIME,AMT,DV,EVID,DVID\n1,0,10,.,1,1\n1,2,.,1,0,1\n{}"
    for name, more, behind in (
        ("warfarin_pca", "1,4,.,90,0,2\n", ["PCA"]), ("warfarin_pca", "", []), ("theophylline", "", []),
    ):  # fmt: skip
        model = load(name)
        made = design(model, Records.parse(rows.format(more), model=model)).family
        assert made.name == "modes"
        assert made.about["behind"] == behind
