"""Dose escalation as a text: the rule's table, trials on common tolerances, every path where the rule allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.ground.errors import InputError
from trials.comparison import Exact, Sample
from trials.designs.families import Chance, Family, share

if TYPE_CHECKING:
    from trials.designs.escalation import Design as Rule
    from trials.designs.escalation import Trials
    from trials.designs.text import Design
    from trials.designs.text_early import Escalation
    from trials.designs.text_scenarios import Truth

__all__ = ["FAMILY", "cohort_of", "rule_of", "wanted"]

Floats = NDArray[np.float64]
ENUMERATED = ("three_plus_three", "three_plus_three_expanded", "boin", "mtpi", "mtpi2")


def _escalation(design: Design) -> Escalation:
    assert design.endpoint.escalation is not None
    return design.endpoint.escalation


def _model(e: Escalation) -> Any:
    from trials.designs.crm import Model

    return Model(skeleton=e.skeleton, target=e.target)


def rule_of(design: Design) -> Rule:
    """The rule of a design. Errors: InputError (tite_crm is no cohort rule)."""
    e, doses = _escalation(design), len(_escalation(design).rates)
    sizes: dict[str, Any] = {"patients": e.patients, "size": e.cohort, "start": e.start - 1}
    if e.rule in ("three_plus_three", "three_plus_three_expanded"):
        from trials.designs.three_plus_three import three_plus_three

        return three_plus_three(doses, expand=e.rule == "three_plus_three_expanded", start=e.start - 1)
    if e.rule == "boin":
        from trials.designs.boin import boin

        return boin(doses, e.target, **sizes)
    if e.rule in ("mtpi", "mtpi2"):
        from trials.designs.mtpi import mtpi

        return mtpi(doses, e.target, method="mTPI" if e.rule == "mtpi" else "mTPI-2", **sizes)
    if e.rule == "crm":
        from trials.designs.crm import crm

        return crm(_model(e), **sizes)
    if e.rule == "blrm":
        from trials.designs.blrm import Model, blrm

        return blrm(Model(doses=e.amounts, reference=float(e.reference or 0.0), grid=(141, 71)), **sizes)
    raise InputError("is no rule of cohorts", field="escalation.rule", value=e.rule)


def cohort_of(e: Escalation) -> int:
    """Subjects of a cohort."""
    return 3 if e.rule.startswith("three") else e.cohort


def wanted(rates: Floats, target: float) -> int:
    """The dose (from 0) whose rate is nearest to the target, of equal ones the lower.

    >>> wanted(np.array([0.1, 0.28, 0.32, 0.5]), 0.3)
    1
    """
    return int(np.argmin(np.round(np.abs(rates - target), 12)))


def _rates(design: Design, truth: Truth) -> Floats:
    return np.array(truth.rates or _escalation(design).rates)


def _solved(design: Design) -> dict[str, Any]:
    e = _escalation(design)
    if e.rule != "tite_crm":
        rule_of(design)
    right = wanted(np.array(e.rates), e.target) + 1
    remarks = [f"{e.rule}, target {e.target:g}; dose {right} is nearest to it under the assumed rates"]
    out: dict[str, Any] = {"power": None, "alpha": None, "sides": None, "size": {"at_most": e.patients}}
    if e.rule.startswith("three"):
        out["size"] = {"at_most": rule_of(design).patients}
    if e.rule == "boin":
        from trials.designs.boin import boundaries, decision_table

        found, table = boundaries(e.target), decision_table(e.target, e.patients)
        remarks.append(f"up at a rate <= {found.escalate:.4f}, down at >= {found.deescalate:.4f}")
        at = [k for k, n in enumerate(table.n.tolist()) if n % e.cohort == 0 and n]
        out["rule"] = [
            {"patients": int(table.n[k]), "up_at_most": int(table.escalate[k]),
             "down_at_least": int(table.deescalate[k]), "out_at_least": int(table.eliminate[k])} for k in at
        ]  # fmt: skip
    return {**out, "remarks": remarks}


def _trials(design: Design, truth: Truth, chance: Chance) -> tuple[Trials, Floats | None]:
    e, (seed, which), rates = _escalation(design), chance, _rates(design, truth)
    if e.rule == "tite_crm":
        from trials.designs.tite import Plan, simulate

        plan = Plan(model=_model(e), patients=e.patients, window=float(e.window or 0), every=float(e.every or 0),
                    start=e.start - 1)  # fmt: skip
        found = simulate(plan, rates, seed=seed, replicates=which)
        return found.trials, found.duration
    from trials.designs.escalation import simulate as escalated

    return escalated(rule_of(design), rates, seed=seed, replicates=which), None


def _samples(design: Design, truth: Truth, chance: Chance) -> dict[str, Sample]:
    e, rates = _escalation(design), _rates(design, truth)
    found, duration = _trials(design, truth, chance)
    right, n = wanted(rates, e.target), found.state.n
    total = n.sum(axis=1).astype(np.float64)
    out = {"correct": share("P(selects the dose nearest to the target)", found.selected == right)}
    out["selected_none"] = share("P(selects none)", found.selected < 0)
    out |= {f"selected_{d + 1}": share(f"P(selects dose {d + 1})", found.selected == d) for d in range(rates.size)}
    out["above"] = Sample(label="Share of patients above that dose", values=n[:, right + 1 :].sum(axis=1) / total)
    out["toxicities"] = Sample(label="Toxicities", values=found.state.toxic.sum(axis=1).astype(np.float64))
    out["subjects"] = Sample(label="Patients", values=total)
    if duration is not None:
        out["duration"] = Sample(label="Duration", values=duration)
    return out


def _exact(design: Design, truth: Truth) -> dict[str, Exact]:
    e, rates = _escalation(design), _rates(design, truth)
    if e.rule not in ENUMERATED or rates.size > 6 or e.patients > 36:
        return {}
    from trials.designs.escalation import enumerate_exactly

    found = enumerate_exactly(rule_of(design), rates)
    values = {f"selected_{d}": found.selected[d] for d in range(1, rates.size + 1)}
    values |= {"selected_none": found.selected[0], "correct": found.selected[1 + wanted(rates, e.target)],
               "subjects": found.total[0], "toxicities": found.total[1]}  # fmt: skip
    return {name: Exact(value=float(value), how="every path") for name, value in values.items()}


def _check(design: Design, truth: Truth, field: str) -> None:
    doses = len(_escalation(design).rates)
    if truth.rates and len(truth.rates) != doses:
        value = list(truth.rates)
        raise InputError(
            f"needs {doses} rates, one a dose", field=f"{field}.rates", value=value, remedy="from the lowest"
        )


FAMILY = Family(
    solved=_solved, samples=_samples, exact=_exact, effective=None, truths=("rates",), check=_check
)  # fmt: skip
