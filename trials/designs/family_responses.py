"""Response rates with rules of their own as texts: Simon's two stages, adaptive shares, baskets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from pkpd.ground.streams import Purpose, uniforms
from trials.comparison import Exact, Sample
from trials.designs import adaptive_randomisation, basket, simon
from trials.designs.families import Chance, Family, share

if TYPE_CHECKING:
    from trials.designs.text import Design
    from trials.designs.text_early import AdaptiveShares, Baskets, TwoStages
    from trials.designs.text_scenarios import Truth

__all__ = ["ADAPTIVE", "BASKETS", "TWO_STAGES"]

Floats = NDArray[np.float64]
NEAR = 1e-12


def _stages(design: Design) -> tuple[TwoStages, simon.TwoStage]:
    t = design.endpoint.two_stages
    assert t is not None
    if design.error.sides != "1":
        raise InputError("must be 1 with two stages", field="error.sides", value=2, remedy="write sides: 1")
    choose = simon.optimal if t.choose == "optimal" else simon.minimax
    return t, choose(t.null, t.promising, alpha=design.error.alpha, beta=1 - design.error.power)


def _two_solved(design: Design) -> dict[str, Any]:
    t, found = _stages(design)
    made = simon.characteristics(found, [t.null, t.promising])
    words = f"stop with {found.r1} or fewer of {found.n1}; promising with more than {found.r} of {found.n}"
    exact = f"exact: alpha {made.promising[0]:.4f}, power {made.promising[1]:.4f}"
    sizes = f"expected size without effect {made.expected[0]:.2f}, P(early stop) {made.stopped[0]:.4f}"
    return {"power": None, "size": {"subjects": found.n}, "remarks": [f"{t.choose}: {words}", exact, sizes]}


def _rate(design: Design, truth: Truth) -> float:
    t = design.endpoint.two_stages
    assert t is not None
    return t.promising if truth.treated is None else truth.treated


def _two_samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    (_, found), (seed, which) = _stages(design), chance
    u = uniforms(seed, Purpose.TWO_STAGE, subject=np.arange(found.n), replicate=which[:, None])
    responses = u < _rate(design, truth)
    going = responses[:, : found.n1].sum(axis=1) > found.r1
    promising = going & (responses.sum(axis=1) > found.r)
    out = {"reject": share("P(promising)", promising)}
    if not _two_effective(design, truth).all():
        out["type_i_error"] = share("Type I error", promising)
    out["early"] = share("P(stop early)", ~going)
    out["subjects"] = Sample(label="Subjects", values=np.where(going, float(found.n), float(found.n1)))
    return out


def _two_exact(design: Design, truth: Truth) -> dict[str, Exact]:
    made = simon.characteristics(_stages(design)[1], _rate(design, truth))
    values = {"reject": made.promising[0], "early": made.stopped[0], "subjects": made.expected[0]}
    return {name: Exact(value=float(value), how="binomial sums") for name, value in values.items()}


def _two_effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    t = design.endpoint.two_stages
    assert t is not None
    return np.array([_rate(design, truth) > t.null + NEAR])


TWO_STAGES = Family(
    solved=_two_solved, samples=_two_samples, exact=_two_exact, effective=_two_effective, truths=("treated",)
)


def _shares(design: Design) -> tuple[AdaptiveShares, adaptive_randomisation.Design]:
    a = design.endpoint.adaptive_shares
    assert a is not None
    return a, adaptive_randomisation.Design(
        arms=len(a.arms), looks=a.looks, superiority=a.superiority, inferiority=a.inferiority, least=a.least,
        most=a.most, fixed=a.fixed, softening=a.softening,
    )  # fmt: skip


def _by_arm(given: dict[str, float], truth: Truth) -> Floats:
    return np.array([truth.arms.get(name, rate) for name, rate in given.items()])


def _adaptive_solved(design: Design) -> dict[str, Any]:
    a, made = _shares(design)
    remarks = [f"an arm wins when P(best) > {made.superiority:g} at one of {len(made.looks)} looks",
               "P(best) by quadrature; characteristics by simulation"]  # fmt: skip
    return {"power": None, "alpha": None, "sides": None, "size": {"at_most": a.looks[-1]}, "remarks": remarks}


def _adaptive_samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    (a, made), (seed, which) = _shares(design), chance
    rates = _by_arm(a.arms, truth)
    found = adaptive_randomisation.simulate(made, rates, seed=seed, replicates=which)
    out = {"reject": share("P(an arm is declared best)", found.winner >= 0)}
    if not _adaptive_effective(design, truth).all():
        out["type_i_error"] = share("Type I error", found.winner >= 0)
    best = rates >= rates.max() - NEAR
    out["correct"] = share("P(selects a best arm)", best[found.selected])
    out |= {f"selected_{n}": share(f"P(selects {n})", found.selected == k) for k, n in enumerate(a.arms)}
    on_best = found.n[:, best].sum(axis=1) / found.size
    out["on_best"] = Sample(label="Share of subjects on a best arm", values=on_best)
    out["subjects"] = Sample(label="Subjects", values=found.size.astype(np.float64))
    out["responses"] = Sample(label="Responses", values=found.events.sum(axis=1).astype(np.float64))
    return out


def _adaptive_effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    rates = _by_arm(_shares(design)[0].arms, truth)
    return np.array([float(np.ptp(rates)) > NEAR])


def _no_exact(design: Design, truth: Truth) -> dict[str, Exact]:
    return {}


def _known_arms(names: dict[str, float], truth: Truth, field: str) -> None:
    for arm, rate in truth.arms.items():
        if arm not in names:
            raise InputError("is no arm", field=f"{field}.arms.{arm}", value=arm, remedy=f"use {', '.join(names)}")
        if not 0 <= rate <= 1:
            raise InputError("must be a rate", field=f"{field}.arms.{arm}", value=rate, remedy="write 0.3")


def _adaptive_check(design: Design, truth: Truth, field: str) -> None:
    _known_arms(_shares(design)[0].arms, truth, field)


ADAPTIVE = Family(
    solved=_adaptive_solved, samples=_adaptive_samples, exact=_no_exact, effective=_adaptive_effective,
    truths=("arms",), check=_adaptive_check,
)  # fmt: skip


def _baskets(design: Design) -> Baskets:
    assert design.endpoint.baskets is not None
    return design.endpoint.baskets


def _basket_solved(design: Design) -> dict[str, Any]:
    b = _baskets(design)
    kind = "hierarchical" if b.exchange == 1 else f"EXNEX, exchangeable with probability {b.exchange:g}"
    remarks = [f"{kind}; success at P(rate > {b.null:g}) > {b.threshold:g}", "posterior by quadrature"]
    size = {"at_most": len(b.baskets) * b.looks[-1]}
    return {"power": None, "alpha": None, "sides": None, "size": size, "remarks": remarks}


def _basket_samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    b, (seed, which) = _baskets(design), chance
    rates, count = _by_arm(b.baskets, truth), len(b.baskets)
    prior = basket.Prior(exchange=b.exchange, scale=b.scale)
    looks = np.repeat(np.array(b.looks)[:, None], count, axis=1)
    found = basket.simulate(prior, rates, looks, null=np.full(count, b.null), threshold=b.threshold,
                            futility=b.futility, seed=seed, replicates=which)  # fmt: skip
    out = {"reject": share("P(success in any basket)", found.success.any(axis=1))}
    false = ~_basket_effective(design, truth)
    if false.any():
        out["type_i_error"] = share("Type I error (family-wise)", (found.success & false).any(axis=1))
    out |= {f"reject_{n}": share(f"P(success {n})", found.success[:, k]) for k, n in enumerate(b.baskets)}
    out["subjects"] = Sample(label="Subjects", values=found.n.sum(axis=1).astype(np.float64))
    return out


def _basket_effective(design: Design, truth: Truth) -> NDArray[np.bool_]:
    b = _baskets(design)
    return np.asarray(_by_arm(b.baskets, truth) > b.null + NEAR)


def _basket_check(design: Design, truth: Truth, field: str) -> None:
    _known_arms(_baskets(design).baskets, truth, field)


BASKETS = Family(
    solved=_basket_solved, samples=_basket_samples, exact=_no_exact, effective=_basket_effective, truths=("arms",),
    check=_basket_check,
)  # fmt: skip
