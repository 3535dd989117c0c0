"""The page of a table of spontaneous reports: what stands out, by which measure, how far it can be trusted."""

from __future__ import annotations

import math

from reports.page import Page
from reports.tables import Facts, Section, Table, columns
from trials.analysis.signals_bayes import NAMES, FullBayes
from trials.analysis.signals_list import CRITERIA, Signals
from trials.analysis.signals_ratio import RatioTest
from trials.analysis.signals_together import Together

__all__ = ["CAUTION", "of_test", "of_triples", "page", "ranked", "sentences"]

CAUTION = (
    "A signal is a hypothesis, not a finding: reports have no denominator, and duplicates, publicity and indication "
    "raise them too."
)


def page(
    found: Signals, name: str, *, top: int, tested: RatioTest | None = None, both: Together | None = None,
    full: FullBayes | None = None,
) -> Page:  # fmt: skip
    """The page. name: of the file; top: how many pairs are listed; tested: likelihood ratios, both: two products
    together, full: full Bayes, where asked for.
    """
    words = () if full is None else (full.words,)
    failed = found.fit is not None and found.theta is None
    breaches = (f"No EBGM: {found.fit.status.advice}.",) if failed and found.fit is not None else ()
    return Page(
        brand="Signals", kicker="Disproportionality of spontaneous reports · hypotheses, not findings",
        title=f"Signals in {name}",
        byline=f"{found.counts.reports} reports · {found.counts.n.size} pairs of product and event",
        breaches=breaches, answer=(*sentences(found), *of_test(tested), *of_triples(both), *words), trust=_trust(found),
        sections=(
            _ranked(found, top), *_together(found, both, top), _criteria(found), _prior(found),
            *_full(found, full, top),
        ),
    )  # fmt: skip


def sentences(found: Signals) -> tuple[str, ...]:
    """What was found, in words."""
    pairs = found.counts.n.size
    head = (
        f"{found.counts.reports} reports name {len(found.reports.products)} products and {len(found.reports.events)} "
        f"events, {pairs} pairs of them at least once."
    )
    if found.theta is None:
        status = "" if found.fit is None else f": {found.fit.status.advice}"
        return head, f"{int(found.meets['IC025'].sum())} pairs have IC025 > 0. There is no EBGM{status}."
    many = f"{found.settled[0]} pairs have EB05 >= 2, {int(found.meets['IC025'].sum())} have IC025 > 0."
    for count, (value, _) in zip(found.settled[1:], () if found.fit is None else found.fit.others, strict=True):
        worse = value - found.fit.negative_log_likelihood if found.fit else math.nan
        many += f" Under another optimum of the prior (log likelihood {worse:.2f} lower) EB05 >= 2 holds for {count}."
    return head, many


def of_test(tested: RatioTest | None) -> tuple[str, ...]:
    """What the test of the likelihood ratio says, in words."""
    if tested is None:
        return ()
    many, least = int((tested.fdr < 0.05).sum()), tested.fdr.size / (tested.replicates + 1)
    if many == 0 and least > 0.05:
        words = f"{tested.replicates} draws are too few to test {tested.fdr.size} products"
        return (f"{words}: none reaches a false discovery rate of 5 %. Take {20 * tested.fdr.size} to be sure.",)
    return (
        f"{many} products differ from reports drawn at random, at a false discovery rate of 5 % "
        f"({tested.replicates} draws; fdr_product in the table).",
    )


def of_triples(both: Together | None) -> tuple[str, ...]:
    """What two products together say, in words."""
    if both is None:
        return ()
    many = int((both.lower > 0).sum())
    return (f"{many} of {both.n.size} triples of two products and an event (3 reports or more) have omega025 > 0.",)


def _together(found: Signals, both: Together | None, top: int) -> tuple[Section, ...]:
    if both is None or both.n.size == 0:
        return ()
    names, rows = found.reports, []
    for k in both.order[:top].tolist():
        rows.append((
            names.products[both.first[k]], names.products[both.second[k]], names.events[both.event[k]],
            str(int(both.n[k])), str(int(both.both[k])), _shown(both.expected[k]), _shown(both.omega[k]),
            _range(both.lower[k], both.upper[k]),
        ))  # fmt: skip
    table = Table(
        caption=f"The first {len(rows)} of {both.n.size} triples, by the lower limit of omega.",
        columns=columns("Product", "With", "Event", "n|reports", "Both products|reports", "Expected", "Omega",
                        "95 % interval", text=3),
        rows=tuple(rows),
        notes=("Omega compares the reports of the event with both products with what the excesses of either alone add "
               "up to (Norén et al. 2008); 0 is no interaction.",),
    )  # fmt: skip
    return (Section(key="together", title="Two products together", blocks=(table,)),)


def ranked(found: Signals, top: int) -> list[tuple[str, ...]]:
    """The first pairs: product, event, n, expected, EBGM, its limits, limits of IC."""
    made, small, scores = found.counts, found.shrunk, found.scores
    return [
        (
            found.reports.products[made.product[k]], found.reports.events[made.event[k]], str(int(made.n[k])),
            _shown(made.expected[k]), _shown(small.ebgm[k]), _range(small.eb05[k], small.eb95[k]),
            _range(scores.ic_lower[k], scores.ic_upper[k]),
        )
        for k in found.order[:top].tolist()
    ]  # fmt: skip


def _range(low: float, high: float) -> str:
    return f"{_shown(low)} .. {_shown(high)}"


def _shown(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _ranked(found: Signals, top: int) -> Section:
    scores, rows = found.scores, []
    for k, row in zip(found.order[:top].tolist(), ranked(found, top), strict=True):
        prr = f"{_shown(scores.prr[k])}\n({_range(scores.prr_lower[k], scores.prr_upper[k])})"
        ror = f"{_shown(scores.ror[k])}\n({_range(scores.ror_lower[k], scores.ror_upper[k])})"
        met = ", ".join(name for name, answers in found.meets.items() if answers[k])
        small = f"{row[4]}\n({row[5]})", row[6].replace(" .. ", "\nto ")  # two lines: there are many columns
        rows.append((*row[:2], f"{row[2]}\n({row[3]})", *small, prr, ror, _shown(scores.chi2[k]), met or "none"))
    table = Table(
        caption=f"The first {len(rows)} of {found.counts.n.size} pairs, by {_by(found)}.",
        columns=columns("Product", "Event", "n|expected", "EBGM|EB05 .. EB95",
                        "IC|95 % interval", "PRR|95 % interval", "ROR|95 % interval",
                        "Chi-squared|Yates", "Criteria met", text=2, words=("Criteria met",)),
        rows=tuple(rows),
        notes=("Where no other report names the event, or all of the product's do, PRR or ROR is infinite; its lower "
               "limit is then that of the score interval.",),
    )  # fmt: skip
    return Section(key="ranked", title="Ranked pairs", blocks=(table,))


def _by(found: Signals) -> str:
    return "IC025" if found.theta is None else "EB05"


def _criteria(found: Signals) -> Section:
    rows = tuple((CRITERIA[name], str(int(answers.sum()))) for name, answers in found.meets.items())
    caption = "How many pairs meet each customary criterion; none of them is corrected for the number of pairs."
    table = Table(caption=caption, columns=columns("Criterion", "Pairs"), rows=rows)
    return Section(key="criteria", title="Criteria", blocks=(table,))


def _trust(found: Signals) -> tuple[str, ...]:
    strata = len(found.reports.strata)
    crude = (
        f"Expected counts are summed over {strata} strata; PRR, ROR and chi-squared are crude."
        if strata > 1 else "Expected counts are those of independence; nothing is adjusted for age, sex or year."
    )  # fmt: skip
    zero = f"{int(found.scores.zero_cell.sum())} pairs have an empty cell."
    return CAUTION, crude, zero, *_of_fit(found)


def _of_fit(found: Signals) -> tuple[str, ...]:
    fit = found.fit
    if fit is None:
        return ("The hyperparameters were given, not fitted.",)
    said = f"Fit of the prior: {fit.status.advice}; {fit.agreed} of {fit.starts} starts agree."
    others = tuple(
        f"Another optimum is {value - fit.negative_log_likelihood:.3f} worse in log likelihood: {theta.text()}."
        for value, theta in fit.others
    )
    return said, *others


def _prior(found: Signals) -> Section:
    if found.theta is None:
        block = Facts(facts=(("Hyperparameters", "none"),))
        return Section(key="prior", title="Prior", blocks=(block,))
    names = ("alpha1", "beta1", "alpha2", "beta2", "p")
    errors = (math.nan,) * 5 if found.fit is None else found.fit.se
    facts = [
        (name, f"{getattr(found.theta, name):.5g}" + ("" if math.isnan(se) else f" (SE {se:.3g})"))
        for name, se in zip(names, errors, strict=True)
    ]
    if found.fit is not None:
        facts.append(("-log likelihood", f"{found.fit.negative_log_likelihood:.4f} (without the constants log n!)"))
    return Section(key="prior", title="Prior of EBGM", blocks=(Facts(facts=tuple(facts)),))


def _full(found: Signals, full: FullBayes | None, top: int) -> tuple[Section, ...]:
    """The posterior of the hyperparameters, and the scores over it beside those of the fit."""
    if full is None:
        return ()
    post, theta = full.posterior, found.theta
    rows = [
        (name, "–" if theta is None else f"{getattr(theta, name):.4g}", f"{post.mean[k]:.4g}", f"{post.sd[k]:.3g}",
         f"{post.median[k]:.4g}", f"{post.low[k]:.4g} .. {post.high[k]:.4g}")
        for k, name in enumerate(NAMES)
    ]  # fmt: skip
    prior = Table(
        caption="Posterior of the hyperparameters.",
        columns=columns("Hyperparameter", "Fitted", "Mean", "SD", "Median", "95 % interval"), rows=tuple(rows),
        notes=("Prior: logarithms of the gamma parameters normal with mean 0 and SD 2, p even, component 1 that of the "
               f"larger mean. Adaptive importance sampling: Pareto k {post.k:.2f} (to be trusted up to 0.7), worth "
               f"{post.effective:.0f} independent draws.",),
    )  # fmt: skip
    blocks: list[Table] = [prior]
    if post.sound:
        blocks.append(_both(found, full, top))
    return (Section(key="full", title="Full Bayes", blocks=tuple(blocks)),)


def _both(found: Signals, full: FullBayes, top: int) -> Table:
    made, small, over, rows, marks = found.counts, found.shrunk, full.shrunk, [], []
    for k in found.order[:top].tolist():
        rows.append((
            found.reports.products[made.product[k]], found.reports.events[made.event[k]], str(int(made.n[k])),
            _shown(made.expected[k]), f"{_shown(small.ebgm[k])}", _range(small.eb05[k], small.eb95[k]),
            f"{_shown(over.ebgm[k])}", _range(over.eb05[k], over.eb95[k]),
        ))  # fmt: skip
        marks.append("flagged" if (small.eb05[k] >= 2.0) != (over.eb05[k] >= 2.0) and found.theta is not None else "")
    return Table(
        caption=f"The first {len(rows)} pairs with the fitted hyperparameters, and over their posterior.",
        columns=columns("Product", "Event", "n|reports", "Expected", "EBGM|fitted", "EB05 .. EB95|fitted",
                        "EBGM|full Bayes", "EB05 .. EB95|full Bayes", text=2),
        rows=tuple(rows), marks=tuple(marks), notes=("Flagged: EB05 >= 2 by one of the two only.",),
    )  # fmt: skip
