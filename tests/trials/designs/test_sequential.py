"""Boundaries beyond the truth tables: other rules against rpact 3.3.4 (commands quoted), the recursion against identities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pkpd.ground.errors import InputError
from trials.designs.characteristics import characteristics, passage
from trials.designs.combination import FisherPlan, fisher_bounds, fisher_spent
from trials.designs.recursion import START, advance, tail
from trials.designs.sequential import Boundaries, Efficacy, Futility, Plan, boundaries, evenly

OBF = Efficacy(spending="lan_demets_obrien_fleming")
THREE = evenly(3)
UNEVEN = (0.3, 0.6, 1.0)

# getDesignGroupSequential(...): critical values | futility bounds | shift, inflation, ASN ratio H1, H01, H0
RPACT = {
    'informationRates=c(.2,.3,.7,1), typeOfDesign="WT", deltaWT=.25': (
        Plan(information=(0.2, 0.3, 0.7, 1.0), power=0.8, efficacy=Efficacy(family="wang_tsiatis", shape=0.25)),
        [3.121217531, 2.820338415, 2.28195474, 2.087283964], [],
        [8.283517782, 1.055375807, 0.8276938419, 0.9981892789, 1.04990371],
    ),
    'kMax=4, sided=2, alpha=.05, typeOfDesign="P"': (
        Plan(information=evenly(4), alpha=0.05, sides=2, power=0.8, efficacy=Efficacy(family="pocock")),
        [2.361297891] * 4, [], [9.438090744, 1.202476157, 0.8052019147, 1.088161959, 1.174965955],
    ),
    'kMax=3, sided=2, alpha=.4, typeOfDesign="OF"': (
        Plan(information=THREE, alpha=0.4, sides=2, power=0.8, efficacy=Efficacy(family="obrien_fleming")),
        [1.733826034, 1.226000146, 1.001024927], [], [3.062450953, 1.080875774, 0.7777373832, 0.9080464717, 0.9610815452],
    ),
    'kMax=4, sided=2, alpha=.05, typeOfDesign="HP"': (
        Plan(information=evenly(4), alpha=0.05, sides=2, power=0.8, efficacy=Efficacy(family="haybittle_peto")),
        [3, 3, 3, 1.98275096], [], [7.938469719, 1.011414366, 0.8723983508, 0.9881607832, 1.007782767],
    ),
    'informationRates=c(.3,.6,1), typeOfDesign="asUser", userAlphaSpending=c(.001,.01,.025)': (
        Plan(information=UNEVEN, power=0.8, efficacy=Efficacy(spending="given", cumulative=(0.001, 0.01, 0.025))),
        [3.090232306, 2.344824724, 2.055324711], [], [8.184262444, 1.04273001, 0.8343505512, 0.9934985016, 1.03824627],
    ),
    'informationRates=c(.3,.6,1), typeOfDesign="asKD", gammaA=1.5, typeBetaSpending="bsKD", gammaB=.8, bindingFutility=TRUE': (
        Plan(information=UNEVEN, power=0.8, efficacy=Efficacy(spending="kim_demets", shape=1.5), futility=Futility(spending="kim_demets", shape=0.8, binding=True)),
        [2.643068616, 2.363212682, 1.994080298], [0.2324820685, 1.042820961], [9.214593376, 1.174001092, 0.7894275631, 0.7722092196, 0.5499567955],
    ),
    'kMax=3, typeOfDesign="OF", futilityBounds=c(-.2,.8), bindingFutility=TRUE': (
        Plan(information=THREE, power=0.8, efficacy=Efficacy(family="obrien_fleming"), futility=Futility(z=(-0.2, 0.8), binding=True)),
        [3.432189923, 2.426924769, 1.981575776], [-0.2, 0.8], [8.198496765, 1.044543558, 0.8314820552, 0.8202593627, 0.6160495042],
    ),
    'kMax=3, typeOfDesign="P", futilityBounds=c(-.2,.8), bindingFutility=FALSE': (
        Plan(information=THREE, power=0.8, efficacy=Efficacy(family="pocock"), futility=Futility(z=(-0.2, 0.8))),
        [2.289478456] * 3, [-0.2, 0.8], [9.347085275, 1.190881449, 0.7969353219, 0.8933573509, 0.6939717537],
    ),
    'kMax=3, typeOfDesign="noEarlyEfficacy", futilityBounds=c(-.2,.8)': (
        Plan(information=THREE, power=0.8, efficacy=Efficacy(family="none"), futility=Futility(z=(-0.2, 0.8))),
        [np.inf, np.inf, 1.959963985], [-0.2, 0.8], [8.204578601, 1.045318425, 1.007319334, 0.8590251608, 0.6193008652],
    ),
    'kMax=3, sided=2, alpha=.05, typeOfDesign="asOF", typeBetaSpending="bsP", bindingFutility=TRUE': (
        Plan(information=THREE, alpha=0.05, sides=2, power=0.8, efficacy=OBF, futility=Futility(spending="lan_demets_pocock", binding=True)),
        [3.710302873, 2.504774399, 1.862841286], [0.4803351005, 1.185414346], [],
    ),
    'kMax=10, typeOfDesign="asHSD", gammaA=-4, beta=.1': (
        Plan(information=evenly(10), efficacy=Efficacy(spending="hwang_shih_decani", shape=-4.0)),
        [3.503719981, 3.367177971, 3.217873253, 3.065195583, 2.909916289, 2.751367651, 2.588536821, 2.420252271, 2.245172836, 2.061709039], [],
        [10.85389633, 1.032974143, 0.7031151552, 0.9529787544, 1.02820523],
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", RPACT)
def test_other_rules_as_rpact(command: str) -> None:
    plan, critical, futility, numbers = RPACT[command]
    found = boundaries(plan)
    assert found.upper == pytest.approx(critical, abs=1e-6)
    if futility:
        assert found.lower[:-1] == pytest.approx(futility, abs=1e-6)
    if numbers:
        c = characteristics(found)
        got = [c.maximum_information, c.inflation, c.expected_effect, c.expected_half, c.expected_null]
        assert got == pytest.approx(numbers, rel=1e-5)


def covariance(information: tuple[float, ...]) -> np.ndarray:
    t = np.array(information)
    return np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))


@pytest.mark.parametrize("drift", [0.0, 3.2])
def test_recursion_is_the_multivariate_normal(drift: float) -> None:
    """P(all three below their bounds): canonical covariance sqrt(I_j/I_k), scipy's quasi-Monte Carlo to 1e-6."""
    information, upper = (0.35, 0.4, 1.0), (2.5, 2.2, 2.0)
    front = START
    for k, t in enumerate(information[:2]):
        front = advance(front, t, ((-np.inf, upper[k]),), drift=drift, ahead=information[k + 1])
    below = tail(front, 1.0, upper[2], drift=drift, upper=False)
    mean, rho = drift * np.sqrt(information), covariance(information)
    expected = multivariate_normal.cdf(np.array(upper), mean, rho, abseps=1e-8, releps=1e-8, maxpts=300_000)
    assert below == pytest.approx(expected, abs=2e-6)


def test_looks_next_to_each_other_are_one_look() -> None:
    """Limit: a second look after no new information adds nothing, and does not take long (banded transitions)."""
    rule = Efficacy(spending="given", cumulative=(0.01, 0.01, 0.025))
    close = boundaries(Plan(information=(0.5, 0.50001, 1.0), efficacy=rule))
    alone = boundaries(Plan(information=(0.5, 1.0), efficacy=Efficacy(spending="given", cumulative=(0.01, 0.025))))
    assert close.upper[-1] == pytest.approx(alone.upper[-1], abs=1e-8)
    assert passage(close, 3.0).stop.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("sides", [1, 2])
def test_probabilities_add_up_and_alpha_is_spent(sides: int) -> None:
    """Identities: stops sum to 1 under any drift; non-binding futility never spends more than alpha, binding all of it."""
    for binding in (False, True):
        futility = Futility(spending="lan_demets_pocock", binding=binding)
        found = boundaries(
            Plan(information=(0.4, 0.7, 1.0), alpha=0.025 * sides, sides=sides, efficacy=OBF, futility=futility)
        )
        for drift in (0.0, 1.0, found.drift):
            assert passage(found, drift).stop.sum() == pytest.approx(1.0, abs=1e-9)
        null = passage(found, 0.0)
        spent = float((null.reject + null.wrong).sum())
        assert spent == pytest.approx(0.025 * sides, abs=1e-9) if binding else spent < 0.025 * sides - 1e-5
        assert passage(found, found.drift).power == pytest.approx(0.9, abs=1e-4 if sides == 2 else 1e-9)


def test_fisher_products_as_rpact() -> None:
    """rpact getDesignFisher(kMax, alpha = 0.025, method = "equalAlpha"), with and without alpha0Vec = c(.5, .4)."""
    assert fisher_bounds(FisherPlan(information=(0.5, 1.0))) == pytest.approx([0.0157880732, 0.00222054375], rel=1e-6)
    three = fisher_bounds(FisherPlan(information=THREE, futility=(0.5, 0.4)))
    assert three == pytest.approx([0.0143662066, 0.00198986519, 0.000354730535], rel=1e-6)
    uneven = fisher_bounds(FisherPlan(information=UNEVEN))
    assert uneven == pytest.approx([0.0117855609, 0.00158217668, 0.000176553217], rel=1e-6)
    # one constant: the chi-square quantile with 2K degrees of freedom (Fisher)
    constant = fisher_bounds(FisherPlan(information=THREE, method="constant"))
    assert constant == pytest.approx([0.00072838] * 3, rel=1e-5)


def test_fisher_given_values_leave_the_rest_for_the_end() -> None:
    """rpact getDesignFisher(method = "userDefinedAlpha", userAlphaSpending = c(.01, .015, .025))."""
    plan = FisherPlan(information=THREE, method="given", critical=(0.01, 0.0010857362))
    found = fisher_bounds(plan)
    assert found[-1] == pytest.approx(0.000480104954, rel=1e-5)
    assert float(fisher_spent(plan, found.tolist()).sum()) == pytest.approx(0.025, abs=1e-10)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (Plan(information=(0.5, 0.4, 1.0), efficacy=OBF), "looks"),
        (Plan(information=(0.5, 0.9), efficacy=OBF), "looks"),
        (Plan(information=(0.5, 1.0), efficacy=Efficacy(family="pocock", spending="kim_demets", shape=1.0)), "efficacy"),
        (Plan(information=(0.5, 1.0), efficacy=OBF, futility=Futility(z=(0.0,), spending="lan_demets_pocock")), "futility"),
        (Plan(information=(0.5, 1.0), efficacy=OBF, futility=Futility(z=(4.0,))), "futility"),
        (Plan(information=(0.5, 1.0), efficacy=OBF, alpha=0.7), "alpha"),
        (Plan(information=(0.5, 1.0), efficacy=Efficacy(family="haybittle_peto"), alpha=0.001), "efficacy"),
        (Plan(information=(0.5, 1.0), efficacy=OBF, power=0.02), "power"),
        (Plan(information=(0.5, 1.0), efficacy=Efficacy(spending="given", cumulative=(0.01, 0.03))), "efficacy.cumulative"),
    ],
)  # fmt: skip
def test_what_a_plan_may_not_say(plan: Plan, field: str) -> None:
    with pytest.raises(InputError) as wrong:
        boundaries(plan)
    assert wrong.value.field == field
    assert wrong.value.remedy


def test_a_plan_is_solved_once() -> None:
    first, second = (boundaries(Plan(information=THREE, efficacy=OBF)) for _ in range(2))
    assert isinstance(first, Boundaries)
    assert first is second
