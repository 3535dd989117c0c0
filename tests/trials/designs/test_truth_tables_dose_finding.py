"""Dose finding against ../shared/reference/trials (sources and tolerances: README there). Every row of its files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trials.designs import blrm, boin, crm, escalation, mtpi
from trials.designs.three_plus_three import three_plus_three

TABLES = Path(__file__).parents[4] / "shared/reference/trials"
pytestmark = [
    pytest.mark.witness,
    pytest.mark.skipif(not TABLES.is_dir(), reason="no truth tables in ../shared/reference/trials"),
]


def table(name):
    return pd.read_csv(TABLES / f"{name}.csv")


def numbers(text):
    return np.array([float(part) for part in str(text).split(";")])


def check_within(name, rows, worst, bar):
    print(f"{name}.csv: {rows} rows, worst error {worst:.3g} (bar {bar:g})")
    assert rows > 0
    assert worst <= bar


def z_of(found, table_value, variance, trials):
    """Standardised difference of an exact number and one simulated with `trials` trials; the variance of one trial is at
    least that of one event in them, so that a row of 0 has a scale."""
    return np.abs(found - table_value) / np.sqrt(np.maximum(variance, 1 / trials) / trials)


def test_three_plus_three():
    """Enumeration of our rule equals the enumeration in the table."""
    rows, worst = 0, 0.0
    data = table("three_plus_three_exact")
    for (_, variant), group in data.groupby(["scenario", "variant"]):
        group = group.sort_values("dose(0=none)")
        truth = group["true_tox"].to_numpy()[1:]
        found = escalation.enumerate_exactly(three_plus_three(truth.size, expand=variant == "expand_to_6"), truth)
        gaps = [
            found.selected - group["prob_selected"],
            found.patients - group["exp_n"][1:],
            found.toxicities - group["exp_tox"][1:],
        ]
        worst, rows = max(worst, *(np.abs(gap).max() for gap in gaps)), rows + len(group)
    assert rows == len(data)
    check_within("three_plus_three_exact", rows, worst, 1e-8)


def test_crm_skeletons():
    data = table("crm_skeletons")
    worst = 0.0
    for row in data.itertuples():
        found = crm.skeleton(row.delta, row.target, prior_mtd=row.nu, doses=row.nlevel, form=row.model)
        worst = max(worst, np.abs(found - numbers(row.skeleton)).max())
    check_within("crm_skeletons", len(data), worst, 1e-3)


MANUAL = np.array([178, 181, 168, 181, 24, 181, 179, 102, 42, 3.0])  # dfcrm's manual, titecrm: days of follow-up of 180


def follow_up_weights(row, size, toxic):
    """Complete follow-up, or that of the manual's TITE-CRM example where a row is named after it."""
    if "tite" not in str(row.id).lower() or size != MANUAL.size:
        return np.ones(size)
    return crm.weights(MANUAL, toxic, 180.0, scheme="adaptive" if "adapt" in str(row.id).lower() else "linear")


def test_crm_posterior():
    """dfcrm, with complete follow-up or the TITE weights of its manual."""
    data = table("crm_posterior")
    worst = 0.0
    for row in data.itertuples():
        model = crm.Model(skeleton=tuple(numbers(row.prior)), target=row.target, form=row.model, method=row.method)
        dose, toxic = numbers(row.level).astype(int) - 1, numbers(row.tox)
        weight = follow_up_weights(row, dose.size, toxic)
        found = crm.fit_subjects(model, dose, toxic, weight)
        pairs = [
            (found.estimate, row.estimate),
            (found.variance, row.post_var),
            (found.rates, row.ptox),
            (found.lower, row.ptoxL),
            (found.upper, row.ptoxU),
        ]
        worst = max(worst, *(np.abs(ours[0] - numbers(theirs)).max() for ours, theirs in pairs))
        assert crm.recommended(found.rates, row.target)[0] + 1 == row.mtd
    check_within("crm_posterior", len(data), worst, 1e-3)


def test_crm_operating_characteristics():
    """dfcrm's 1,000 trials against 4,000 of ours: 3.5 standard errors of the difference."""
    data = table("crm_sim_oc")
    worst = 0.0
    for (n, x0, target, delta, nu), group in data.groupby(["n", "x0", "target", "delta", "nu"]):
        skeleton = crm.skeleton(delta, target, prior_mtd=nu, doses=len(group))
        design = crm.crm(crm.Model(skeleton=tuple(skeleton), target=target), patients=int(n), start=int(x0) - 1)
        found = escalation.simulate(design, group["true_tox"], seed=1, replicates=np.arange(4000)).characteristics()
        share = 1 / 4000 + 1 / group["nsim"].to_numpy()
        for name, column in {"selected": "prob_mtd", "patients": "avg_n", "toxicities": "avg_tox"}.items():
            ours = getattr(found, name)[-len(group) :]
            one = np.maximum(found.sd[name][-len(group) :] ** 2, 1 / 1000)
            worst = max(worst, (np.abs(ours - group[column]) / np.sqrt(one * share)).max())
    check_within("crm_sim_oc", len(data), worst, 3.5)


def test_boin_boundaries():
    data = table("boin_lambda")
    worst = 0.0
    for row in data.itertuples():
        found = boin.boundaries(row.target, under=row.phi1, over=row.phi2)
        worst = max(worst, abs(found.escalate - row.boin_pkg_lambda_e), abs(found.deescalate - row.boin_pkg_lambda_d))
        worst = max(worst, abs(found.escalate - row.lambda_e), abs(found.deescalate - row.lambda_d))
    check_within("boin_lambda", len(data), worst, 1e-6)


def test_boin_decisions():
    data, wrong = table("boin_decision_table"), 0
    for target, group in data.groupby("target"):
        found, at = boin.decision_table(target, int(group["n"].max())), group["n"].to_numpy() - 1
        pairs = {
            "escalate": "escalate_if_tox_le",
            "deescalate": "deescalate_if_tox_ge",
            "eliminate": "eliminate_if_tox_ge",
        }
        wrong += sum(
            int((getattr(found, ours)[at] != group[theirs].fillna(-1)).sum()) for ours, theirs in pairs.items()
        )
    check_within("boin_decision_table", len(data), wrong, 0)


def test_boin_operating_characteristics():
    """The package's 10,000 trials against exact enumeration of ours; a trial "stops early" when it selects no dose."""
    data = table("boin_oc")
    worst = 0.0
    for _, group in data.groupby("scenario"):
        trials, doses = int(group["ntrial"].iloc[0]), len(group)
        design = boin.boin(doses, 0.3, patients=30)
        found = escalation.enumerate_exactly(design, group["true_tox"])
        theirs = {
            "selected": np.concatenate([group["pct_early_stop"].iloc[:1], group["select_pct"]]) / 100,
            "patients": group["npatients"], "toxicities": group["ntox"], "total": group[["total_n", "total_tox"]].iloc[0],
        }  # fmt: skip
        z = [z_of(getattr(found, name), part, found.sd[name] ** 2, trials) for name, part in theirs.items()]
        worst = max(worst, *(part.max() for part in z))
    check_within("boin_oc", len(data), worst, 3.5)


def test_mtpi_decisions():
    data, wrong = table("mtpi_mtpi2_decisions"), 0
    for row in data.itertuples():
        method = {"mTPI": "mTPI", "mTPI2": "mTPI-2"}[row.method]
        wrong += (
            str(mtpi.decisions(row.n, row.dlt, target=row.target, eps=(row.eps1, row.eps2), method=method))
            != row.decision
        )
    check_within("mtpi_mtpi2_decisions", len(data), wrong, 0)


def test_blrm():
    """Mean, SD, quantiles and eligibility within 1e-3; the probabilities of intervals in two steps.

    The table sums the mass of 1601 x 1601 nodes on either side of a border: our posterior summed like that agrees to 1e-5.
    The exact probability differs from such a sum by up to half a cell at the border (at the reference dose, where p depends
    on one parameter alone, 2e-3): the product gives the exact one, checked below against the normal distribution.
    """
    data = table("blrm_ewoc_quadrature")
    worst, exact, rows = 0.0, 0.0, 0
    for _, group in data.groupby("case"):
        first = group.iloc[0]
        model = blrm.Model(
            doses=tuple(group["dose"].astype(float)), reference=first["ref_dose"], mean=(first["prior_mean_logalpha"], first["prior_mean_logbeta"]),
            sd=(first["prior_sd_logalpha"], first["prior_sd_logbeta"]), correlation=first["rho"], grid=(1601, 1601),
        )  # fmt: skip
        n, toxic = numbers(first["n_by_dose"]).astype(int), numbers(first["dlt_by_dose"]).astype(int)
        found = blrm.posterior(replace(model, grid=(561, 281)), n, toxic)
        rate, mass = blrm.lattice(model, n, toxic)
        under, over = ((mass * part).sum(axis=(1, 2)) for part in (rate < 0.16, rate > 0.33))
        theirs = group[["p_under_0.16", "p_target_0.16_0.33", "p_over_0.33"]].to_numpy()
        worst = max(worst, np.abs(found.mean - group["post_mean"]).max(), np.abs(found.sd - group["post_sd"]).max())
        worst = max(worst, np.abs(np.column_stack([under, 1 - under - over, over]) - theirs).max())
        worst = max(worst, *quantile_errors(found.quantiles, (rate, mass), group))
        exact = max(exact, np.abs(np.column_stack([found.under, found.target, found.over]) - theirs).max())
        assert (found.eligible == (group["ewoc_eligible_0.25"] == 1)).all()
        rows += len(group)
    print(f"blrm_ewoc_quadrature.csv: exact interval probabilities against the table's sums over nodes: {exact:.2g}")
    assert exact < 4e-3
    check_within("blrm_ewoc_quadrature", rows, worst, 1e-3)


def quantile_errors(found, lattice, group):
    """Ours against the table; at the reference dose, where p depends on log alpha alone, the table's are nodes: read so."""
    (rate, mass), names = lattice, ["q2.5", "q50", "q97.5"]
    for place, (_, row) in enumerate(group.iterrows()):
        if row["dose"] == row["ref_dose"]:
            nodes = np.searchsorted(np.cumsum(mass.sum(axis=1)), [0.025, 0.5, 0.975])
            yield np.abs(rate[place, nodes, 0] - row[names].to_numpy(dtype=float)).max()
            yield np.abs(found[place] - row[names].to_numpy(dtype=float)).max() / 4  # half a cell: up to 4e-3
        else:
            yield np.abs(found[place] - row[names].to_numpy(dtype=float)).max()
