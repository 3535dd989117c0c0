"""The dynamic model against its static limit (ICH M12), an ODE solver, and identities."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from pkpd.ground.errors import InputError
from pkpd.interactions.assembly import assemble, predict, quantities
from pkpd.interactions.course import Course, Given
from pkpd.interactions.drug import Act, Drug, Known, concentrations
from pkpd.interactions.dynamic import solve
from pkpd.interactions.library import TURNOVER, drugs
from pkpd.interactions.model import layout
from pkpd.interactions.screening import _alone
from pkpd.interactions.static import Action, site

LIBRARY = drugs()
LAYOUT = layout(LIBRARY, TURNOVER)
MEAN = LAYOUT.mean[None, None]


def course(perpetrator: str, victim: str, *, oral: bool = True, enzymes: dict[str, float] | None = None) -> Course:
    regimen = LIBRARY[perpetrator].regimens[0]
    times = tuple(regimen.interval * k for k in range(regimen.doses))
    at = times[-1] + 2.0
    given = Given(drug=perpetrator, times=times, amounts=(regimen.dose,) * len(times))
    return Course(
        perpetrators=(given,), victim=victim, doses=(at,), window=(at, math.inf), oral=oral, activity=enzymes or {}
    )


def without_effect(drug: Drug) -> Drug:
    """The drug with Ki, KI, EC50 infinite."""
    assert drug.perpetrator is not None
    entities = [
        replace(e, acts=[Act(enzyme=a.enzyme, cite=a.cite, status=a.status) for a in e.acts])
        for e in drug.perpetrator.entities
    ]
    return replace(drug, perpetrator=replace(drug.perpetrator, entities=entities))


@pytest.mark.parametrize("perpetrator", ["ketoconazole", "clarithromycin", "rifampicin", "verapamil"])
def test_infinite_constants_give_exactly_one(perpetrator: str) -> None:
    """Identity, to the bit, for AUC and Cmax, by mouth and into a vein, also over a closed window."""
    there = {**LIBRARY, perpetrator: without_effect(LIBRARY[perpetrator])}
    closed = replace(course(perpetrator, "midazolam"), window=(100.0, 106.0), doses=(100.0,))
    courses = [course(perpetrator, "midazolam"), course(perpetrator, "alfentanil", oral=False), closed]
    found = predict(assemble(courses, there, LAYOUT), MEAN)
    assert (found.auc == 1.0).all()
    assert (found.cmax == 1.0).all()
    assert (predict(assemble(courses[:1], LIBRARY, LAYOUT), MEAN).auc != 1.0).all()


def test_activity_score_zero_gives_exactly_one() -> None:
    """Identity: paroxetine has nothing to inhibit in a poor metaboliser of desipramine; in others it has, and more so
    the more."""
    scores = [0.0, 0.25, 1.0]
    found = predict(
        assemble([course("paroxetine", "desipramine", enzymes={"CYP2D6": s}) for s in scores], LIBRARY, LAYOUT), MEAN
    ).auc[:, 0]
    assert found[0] == 1.0
    assert 1.0 < found[1] < found[2]


def constant(profile: np.ndarray, level: float) -> np.ndarray:
    flat = np.zeros_like(profile)
    flat[0] = math.log(level)
    return flat


@pytest.mark.parametrize("mechanism", ["reversible", "inactivation", "induction"])
def test_constant_concentrations_give_the_static_model(mechanism: str) -> None:
    """Under constant concentrations for months the AUC ratio by mouth is ICH M12's mechanistic static one."""
    mild = {"reversible": Act(ki=0.5, enzyme="CYP3A4", cite="x", status="assumed"),
            "inactivation": Act(kinact=0.1, ki_inactivation=2.0, enzyme="CYP3A4", cite="x", status="assumed"),
            "induction": Act(emax=5.0, ec50=1.0, enzyme="CYP3A4", cite="x", status="assumed")}[mechanism]  # fmt: skip
    who = LIBRARY["ketoconazole"].perpetrator
    assert who is not None
    there = {**LIBRARY, "ketoconazole": replace(LIBRARY["ketoconazole"], perpetrator=replace(
        who, entities=[replace(who.entities[0], acts=[mild])]))}  # fmt: skip
    long = replace(course("ketoconazole", "midazolam"), doses=(1500.0,), window=(1500.0, math.inf))
    made = assemble([long], there, LAYOUT)
    inlet, gut = 0.7, 3.0
    tracks = replace(made.batch.tracks, inlet=constant(made.batch.tracks.inlet, inlet),
                     gut=constant(made.batch.tracks.gut, gut))  # fmt: skip
    found = solve(replace(made.batch, tracks=tracks), quantities(made, MEAN)).auc[0, 0]
    action = Action(
        ki=mild.ki, kinact=mild.kinact, ki_inactivation=mild.ki_inactivation, emax=mild.emax, ec50=mild.ec50
    )
    liver = float(np.prod(site(inlet, action, 0.0193)))
    wall = float(np.prod(site(gut, action, 0.03)))
    expected = 1 / (0.57 + 0.43 * wall) / (0.96 * liver + 0.04)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("perpetrator", "oral"), [("rifampicin", False), ("clarithromycin", True), ("itraconazole", True)]
)
def test_grid_is_fine_enough(perpetrator: str, oral: bool) -> None:
    """The same equations by LSODA at 1e-8, midazolam: AUC ratio within 1 %."""
    asked = course(perpetrator, "midazolam", oral=oral)
    found = predict(assemble([asked], LIBRARY, LAYOUT), MEAN).auc[0, 0]
    assert found == pytest.approx(reference(asked), rel=0.01)


def reference(asked: Course) -> float:
    drug, given = LIBRARY[asked.perpetrators[0].drug], asked.perpetrators[0]
    assert drug.perpetrator is not None
    acts = [(k, a) for k, e in enumerate(drug.perpetrator.entities) for a in e.acts if a.enzyme == "CYP3A4"]
    doses = np.array(given.times), np.array(given.amounts)
    victim = LIBRARY["midazolam"].victim
    assert victim is not None
    e, fg, fm, ka = (k.value for k in (victim.extraction, victim.fg, victim.pathways[0].fm, victim.ka))
    kdeg, x, y, rate = (0.0193, 0.03), e / (1 - e), (1 - fg) / fg, math.log(2) / victim.half_life.value

    def right(t: float, s: np.ndarray) -> list[float]:
        seen = concentrations(drug, np.array([t]), doses)
        change, activity = [], []
        for which in (0, 1):
            free = [float(seen[which][k, 0]) for k, _ in acts]
            make = 1 + sum(a.emax * i / (a.ec50 + i) for i, (_, a) in zip(free, acts))
            loss = sum(a.kinact * i / (a.ki_inactivation + i) for i, (_, a) in zip(free, acts))
            change.append(kdeg[which] * make - (kdeg[which] + loss) * s[which])
            activity.append(s[which] / (1 + sum(i / a.ki for i, (_, a) in zip(free, acts))))
        r = 1 + fm * (activity[0] - 1)
        k = rate * (x * r / (1 + x * r)) / (x / (1 + x))
        enter = ka * s[2] / (1 + y * activity[1]) / (1 + x * r)
        return [*change, -ka * s[2], enter - k * s[3], s[3]]

    state = np.array([1.0, 1.0, 0.0, 0.0, 0.0])
    stops = [*given.times, asked.doses[0], asked.doses[0] + 48.0]
    for begin, end in itertools.pairwise(stops):
        if begin == asked.doses[0]:
            state[2 if asked.oral else 3] = 1.0
        state = solve_ivp(right, (begin, end), state, method="LSODA", rtol=1e-8, atol=1e-10).y[:, -1]
    alone = (fg * (1 - e) if asked.oral else 1.0) / rate
    return float(state[4] / alone)


@pytest.mark.parametrize("oral", [True, False])
def test_what_the_kidney_clears_has_no_genotype(oral: bool) -> None:
    """Mexiletine in poor metabolisers of CYP2D6, CYP1A2 wholly inhibited, by hand: AUC ~ (1 - E)/(renal + liver)."""
    inhibitor, who = LIBRARY["fluvoxamine"], LIBRARY["mexiletine"].victim
    assert inhibitor.perpetrator is not None
    assert who is not None
    assert who.renal is not None
    acts = [Act(enzyme="CYP1A2", cite="", status="assumed", ki=1e-14)]
    first, *others = (replace(e, acts=[]) for e in inhibitor.perpetrator.entities)
    entities = [replace(first, acts=acts), *others]
    total = replace(inhibitor, perpetrator=replace(inhibitor.perpetrator, entities=entities))
    fm, usual, renal = {p.enzyme: p.fm.value for p in who.pathways}, who.extraction.value, who.renal.value

    def area(*without: str) -> float:
        x = usual / (1.0 - usual) * (1.0 - sum(fm[e] for e in without))
        e = x / (1.0 + x)
        return (1.0 - e if oral else 1.0) / (renal + (1.0 - renal) * e / usual)

    asked = course("fluvoxamine", "mexiletine", oral=oral, enzymes={"CYP2D6": 0.0})
    assembly = assemble([asked], LIBRARY | {"fluvoxamine": total}, LAYOUT)
    found = predict(assembly, MEAN).auc[0, 0]
    assert renal > 0
    assert found == pytest.approx(area("CYP2D6", "CYP1A2") / area("CYP2D6"), rel=2e-3)
    assert _alone(assembly, LAYOUT.mean)[0] == pytest.approx(area("CYP2D6") / area(), rel=1e-9)


def test_several_perpetrators_act_together() -> None:
    """A second perpetrator without effect changes nothing; two reversible inhibitors exceed either; an inducer opposes."""
    one, other = course("ketoconazole", "midazolam"), course("fluconazole", "midazolam")
    both = replace(one, perpetrators=(*one.perpetrators, *other.perpetrators))
    opposed = replace(one, perpetrators=(*one.perpetrators, *course("rifampicin", "midazolam").perpetrators))
    there = {**LIBRARY, "fluconazole": without_effect(LIBRARY["fluconazole"])}
    alone = predict(assemble([one], LIBRARY, LAYOUT), MEAN).auc[0, 0]
    assert predict(assemble([both], there, LAYOUT), MEAN).auc[0, 0] == pytest.approx(alone, rel=1e-3)
    assert predict(assemble([both], LIBRARY, LAYOUT), MEAN).auc[0, 0] > 1.1 * alone
    assert predict(assemble([opposed], LIBRARY, LAYOUT), MEAN).auc[0, 0] < 0.9 * alone


def test_a_drug_the_library_lacks_is_named() -> None:
    """Errors are InputErrors with the nearest name."""
    with pytest.raises(InputError, match="midazolam"):
        assemble([replace(course("ketoconazole", "midazolam"), victim="midazolan")], LIBRARY, LAYOUT)


def test_every_value_of_the_library_has_source_and_status() -> None:
    """The library's own rule: every cite is explained (read refuses otherwise), every Known has a status."""
    assert len(LIBRARY) >= 45
    half_life = LIBRARY["rifampicin"].perpetrator
    assert half_life is not None
    assert isinstance(half_life.entities[0].half_life, Known)
    assert all(drug.sources for drug in LIBRARY.values())
