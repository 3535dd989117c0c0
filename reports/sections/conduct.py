"""Enrolment and interim looks: recruitment, the calendar, stop probabilities, estimates after a sequential trial."""

from reports import captions, rounding
from reports.conducted import Conduct, Look
from reports.figures import recruitment as drawing
from reports.study import Study
from reports.tables import Block, Facts, Plots, Section, Table, Text, columns
from trials.operating import Estimate


def conduct(study: Study) -> Section:
    """When subjects come, when the trial looks and ends."""
    found = study.conduct
    if found is None:
        raise LookupError("the protocol has no enrolment")
    blocks: list[Block] = [_figure(study, found), _facts(found), _sites(found)]
    if found.looks:
        blocks += [_looks(study, found), _note(found)]
    if found.selection:
        blocks.append(_selection(study, found))
    if found.estimated is not None:
        blocks.append(_estimates(found))
    return Section(key="conduct", title="Enrolment and looks", blocks=tuple(blocks))


def changes(study: Study) -> Section:
    """Who switched and who was rescued."""
    labels = {arm.index: arm.label for arm in study.arms}
    rows = tuple(
        (
            each.event.replace("_", " ").capitalize(), labels[each.arm],
            rounding.with_mcse(100 * each.share.value, 100 * each.share.mcse),
            rounding.interval(100 * each.spread[0], 100 * each.spread[1], 0), _mean(each.day),
        )
        for each in study.changed
    )  # fmt: skip
    table = Table(
        caption="Subjects whose treatment changed while they were seen.",
        columns=columns(
            "Intercurrent event", "Arm", "Subjects (%)|mean", "Subjects (%)|95 % of trials", "Day|mean", text=2
        ),
        rows=rows,
        notes=("Days since the subject's entry.", captions.MCSE),
    )
    return Section(key="changes", title="Changes of treatment", blocks=(table,))


def _share(x: Estimate) -> str:
    return rounding.proportion(x.value, x.mcse, x.n)


def _mean(x: Estimate) -> str:
    return rounding.with_mcse(x.value, x.mcse)


def _figure(study: Study, found: Conduct) -> Plots:
    marks = [
        drawing.Mark(label=f"look {look.number}", day=look.day.value, entered=look.enrolled.value, days=look.days)
        for look in found.looks
        if look.day.n
    ]
    panel = drawing.curve(
        found.day, (found.entered, found.lower, found.upper), found.planned, marks, name="recruitment"
    )
    caption = (
        f"Subjects entered by day: mean over {captions.replicates(study)}, band: middle 95 % of trials; dotted: the "
        f"{rounding.count(found.planned)} planned. A trial that has ended enrols nobody else."
    )
    looks = " Points: mean day of each look and who has entered by then, lines: middle 95 % of its days." * bool(marks)
    return Plots(caption=caption + looks, panels=(panel,))


def _facts(found: Conduct) -> Facts:
    facts = [
        ("Last subject enters on day", f"{_mean(found.last_entry)}; 95 % of trials {_days(found.last_entries)}"),
        ("Trial ends on day", f"{_mean(found.end)}; 95 % of trials {_days(found.ends)}"),
        ("Subjects enrolled", _mean(found.subjects)),
    ]
    if found.information is not None and found.power is not None:
        facts.append((f"{found.unit.capitalize()} at the end", _mean(found.information)))
        facts.append((f"{found.analysis} rejects", _share(found.power)))
    return Facts(facts=tuple(facts))


def _days(days: tuple[float, float]) -> str:
    return rounding.interval(*days, 0)


def _sites(found: Conduct) -> Table:
    rows = tuple(
        (
            each.name, rounding.count(each.sites), _mean(each.subjects), rounding.interval(*each.spread, 0),
            f"{each.one_site[0]:.0f} ({rounding.interval(*each.one_site[1:], 0)})", _mean(each.empty),
        )
        for each in found.sites
    )  # fmt: skip
    return Table(
        caption="Subjects by region and site.",
        columns=columns(
            "Region", "Sites", "Subjects|mean", "Subjects|95 % of trials", "One site|median (95 % of sites)",
            "Sites without a subject|mean",
        ),
        rows=rows, notes=(captions.MCSE,),
    )  # fmt: skip


def _looks(study: Study, found: Conduct) -> Table:
    lower = any(look.bounds[0] > -1e300 for look in found.looks)
    harm = any(look.harm.value > 0 for look in found.looks)
    known = any(look.exact == look.exact for look in found.looks)
    titles = ["Look", f"Information|{found.unit}", "Day|95 % of trials", "Critical z"]
    titles += ["Futile z"] * lower + ["Ends: effect", "Ends: futile"] + ["Ends: other side"] * harm
    titles += ["Effect, if none|exact"] * known
    return Table(
        caption=f"Looks at {found.analysis}: when, and how often the trial ends there.",
        columns=columns(*titles),
        rows=tuple(_look(look, found, lower=lower, harm=harm, known=known) for look in found.looks),
        notes=(
            "Days: of trials that reach the look; ends: of all trials. Bounds: median over trials. Exact: probability "
            "of a rejection there without any effect, by recursion at the planned information, futility obeyed.",
            captions.MCSE,
        )
        if known
        else (captions.MCSE,),
    )


def _look(look: Look, found: Conduct, *, lower: bool, harm: bool, known: bool) -> tuple[str, ...]:
    last = look.number == len(found.looks)
    bound = "none" if last or look.bounds[0] < -1e300 else rounding.fixed(look.bounds[0], 3)
    cells = [
        str(look.number), f"{look.count:.0f} ({100 * look.fraction:.0f} %)",
        f"{look.day.value:.0f} ({_days(look.days)})", rounding.fixed(look.bounds[1], 3),
    ]  # fmt: skip
    cells += [bound] * lower + [_share(look.efficacy), "none" if last else _share(look.futility)]
    cells += [_share(look.harm)] * harm + [rounding.number(look.exact, 3)] * known
    return tuple(cells)


def _note(found: Conduct) -> Text:
    if found.selection:
        text = (
            f"Wherever this report shows {found.analysis}, a rejection is that of the closed combination test; its "
            "estimates and intervals are those of all that was observed at the end, not corrected for selection."
        )
    else:
        text = (
            f"Wherever this report shows {found.analysis}, its estimate is the plain one at the end of the trial, its "
            "interval the repeated confidence interval, its p-value that of the stage-wise ordering, its rejection "
            "that of the critical values above. All other analyses are of the data base at the end, not adjusted."
        )
    return Text(text=text, tone="note")


def _selection(study: Study, found: Conduct) -> Table:
    labels = {arm.key: arm.label for arm in study.arms}
    stages = [f"In at look {look.number}" for look in found.looks]
    return Table(
        caption="Arms that go on, and rejections of the closed test.",
        columns=columns("Arm", *stages, "Rejected"),
        rows=tuple((labels[arm.key], *map(_share, arm.inside), _share(arm.rejected)) for arm in found.selection),
        notes=("Shares of all trials that reach the look with the arm in.", captions.MCSE),
    )


def _estimates(found: Conduct) -> Table:
    x = found.estimated
    assert x is not None
    note = (
        "Against the true value of the estimand with every planned subject followed to the last visit. Where an effect "
        "changes with follow-up, a trial that ends early estimates another average of it: that difference is in these "
        "numbers too."
    )
    return Table(
        caption=f"Estimates of {found.analysis} at the end of the trial, against the true value.",
        columns=columns("Estimate", "Bias|estimate - true", "Above the true value|trials", "Interval covers|trials"),
        rows=(
            ("As analysed; repeated interval", _mean(x.naive), _share(x.above[0]), _share(x.repeated)),
            ("Median-unbiased; exact interval", _mean(x.unbiased), _share(x.above[1]), _share(x.exact)),
        ),
        notes=(note, captions.MCSE),
    )
