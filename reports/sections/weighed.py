"""Benefit and risk weighed: scores, ranks, effects table, what each weight decides, by dose and by subgroup."""

import math
from collections.abc import Mapping

import numpy as np

from reports import captions, rounding
from reports.figures import weighed as drawing
from reports.figures.palette import Look
from reports.study import Arm, Study
from reports.tables import Block, Heading, Plots, Section, Table, Text, columns, sentence
from trials.assessed import GRID, Assessment, Judged, Limits
from trials.multicriteria import Effect

_CLOUD = 300
_FEW = 20
_SEEN = 0.005


def weighed(study: Study) -> Section:
    """All of it."""
    found = study.benefit
    if found is None:
        raise LookupError("the protocol weighs nothing")
    blocks: list[Block] = [
        Text(text=_intro(found)),
        Text(text=_source(found), tone="warning" if found.status == "assumed" else "plain"),
        Text(text=_answer(study, found), tone="note"),
        _scores_figure(study, found), _scores(study, found), *_effects(study, found), _criteria(found), *_beyond(found),
        Heading(text="What the weights decide"), *_weights(study, found),
    ]  # fmt: skip
    if found.utility is not None:
        blocks += [Heading(text="By dose"), *_doses(study, found)]
    if found.groups:
        blocks += [Heading(text="By subgroup"), *_groups(study, found)]
    if found.sensitivity:
        blocks += [Heading(text="Under other assumptions"), _sensitivity(study, found)]
    return Section(key="weighed", title="Benefit and risk weighed", blocks=tuple(blocks))


def _arms(study: Study, found: Assessment) -> list[Arm]:
    known: Mapping[str, Arm] = {arm.key: arm for arm in study.arms}
    return [known[name] for name in found.arms]


def _looks(study: Study, found: Assessment) -> list[tuple[str, Look]]:
    return [(arm.label, arm.look) for arm in _arms(study, found)]


def _marks(arms: list[Arm]) -> tuple[str, ...]:
    return tuple("control" if arm.control else "flagged" if arm.flag else "" for arm in arms)


def _intro(found: Assessment) -> str:
    people, draws = rounding.count(found.everybody.people), rounding.count(found.everybody.draws)
    lost = f" {found.everybody.missing} replicates lack an effect and are left out." if found.everybody.missing else ""
    own = "each with its own population parameters" if found.parameters > 1 else (
        "all with the same population parameters, so that no interval below knows what is uncertain in them"
    )  # fmt: skip
    return (
        f"Every arm is given to the same people: {people} a replicate, nobody lost, in {draws} replicates, {own}. "
        "An arm's score is the weighted sum of its values on the criteria, each 0 at "
        "the worst and 1 at the best end of its range. The chance of who was simulated is taken out: intervals and "
        f"probabilities are about what is not known of the parameters, not about which people were drawn.{lost}"
    )


def _source(found: Assessment) -> str:
    how = {
        "swing": "Weights are swing weights: points for the whole range of each criterion, over their sum.",
        "order": "Weights are known by their order only: scores and ranks are over all weights in that order, "
        "contributions at their mean.",
        "none": "No weights are given: scores and ranks are over all possible weights, contributions at equal ones.",
    }[found.weighting]
    whose = f" Ranges and weights: {found.source.rstrip('.')}." if found.source else " Nobody is named for them."
    return f"{how}{whose} Status: {found.status}."


def _interval(x: Limits, place: int, places: int = 2) -> str:
    value, low, high = (float(part[place]) for part in (x.mean, x.lower, x.upper))
    if not math.isfinite(low):
        return f"{rounding.fixed(value, places)} (no interval)"
    return rounding.with_interval(value, (low, high), places)


def _chance(judged: Judged, place: int) -> str:
    best = judged.best[place]
    if best.value in (0.0, 1.0) and best.mcse >= _SEEN:  # not certain: draws that share a mean err together
        return rounding.with_mcse(best.value, best.mcse)
    return rounding.proportion(min(max(best.value, 0.0), 1.0), best.mcse, judged.draws)


def _answer(study: Study, found: Assessment) -> str:
    arms, everybody = _arms(study, found), found.everybody
    lead = int(np.argmax(everybody.score.mean))
    likely = int(np.argmax([best.value for best in everybody.best]))
    text = (
        f"Highest expected score: {arms[lead].label}, {_interval(everybody.score, lead)}; probability of being the "
        f"best: {_chance(everybody, lead)}."
    )
    if likely != lead:
        text += f" Most often the best: {arms[likely].label}, {_chance(everybody, likely)}."
    if lead == found.reference:
        return text + " No arm is expected to do better than the one they are compared with."
    better = rounding.fixed(float(everybody.better[lead]), 2)
    return text + f" Probability that it is better than {arms[found.reference].label}: {better}."


def _scores_figure(study: Study, found: Assessment) -> Plots:
    arms, judged = _arms(study, found), found.everybody
    order = sorted(range(len(found.criteria)), key=lambda k: found.criteria[k].kind)
    colours = drawing.criterion_colours([found.criteria[k].kind for k in order])
    limits = zip(judged.score.lower.tolist(), judged.score.upper.tolist(), strict=True)
    fixed = found.weighting == "swing"
    bars = [
        drawing.Stack(label=arm.label, sizes=judged.parts[a, order], limits=ends if fixed else (np.nan, np.nan))
        for a, (arm, ends) in enumerate(zip(arms, limits, strict=True))
    ]
    shades = drawing.rank_colours(len(arms))
    ranks = [drawing.Stack(label=arm.label, sizes=judged.rank[a]) for a, arm in enumerate(arms)]
    names = [f"{found.labels[k]}{'' if found.criteria[k].kind == 'favourable' else ' (avoided)'}" for k in order]
    level = f"{rounding.plain(100 * found.level)} %"
    caption = (
        "Left: score of each arm by criterion, hundredths; blue: favourable effects, brown: unfavourable ones avoided"
        + (f"; line: {level} interval of the score" if fixed else "")
        + ". Right: probability of every rank, in per cent, first rank darkest."
    )
    return Plots(
        caption=caption, across=2,
        panels=(
            drawing.stacks(bars, colours, x_label="Score", name="weighed-parts", title="Contributions to the score"),
            drawing.stacks(ranks, shades, x_label="Probability", name="weighed-ranks", title="Probability of ranks"),
        ),
        legend=(
            *((name, colour, False) for name, colour in zip(names, colours, strict=True)),
            *((f"rank {k + 1}", shade, False) for k, shade in enumerate(shades)),
        ),
    )  # fmt: skip


def _scores(study: Study, found: Assessment) -> Table:
    arms, judged = _arms(study, found), found.everybody
    level = f"{rounding.plain(100 * found.level)} %"
    rows = tuple(
        (
            arm.label, _interval(judged.score, a),
            "reference" if a == found.reference else _interval(judged.gain, a),
            "–" if a == found.reference else rounding.fixed(float(judged.better[a]), 2), _chance(judged, a),
            rounding.fixed(float(judged.seen[a]), 2),
            "–" if not math.isfinite(judged.chance[a]) else rounding.percent(float(judged.chance[a])),
        )
        for a, arm in enumerate(arms)
    )  # fmt: skip
    people = rounding.count(judged.people)
    return Table(
        caption="Scores, gains and ranks.",
        columns=columns(
            "Arm", f"Score|mean ({level})", f"Gain over {arms[found.reference].label}|mean ({level})", "P(gain > 0)",
            "P(best)", f"P(best) among|{people} people", "Chance of people|share of variance",
        ),
        rows=rows, marks=_marks(arms),
        notes=(
            f"P(best) among {people} people: as simulated, the chance of who was drawn included; the last column is "
            "how much of the gain's variance that chance was. " + captions.MCSE,
        ),
    )  # fmt: skip


def _shown(found: Assessment, effect: Effect) -> tuple[float, str]:
    """Factor and unit in which an effect is told."""
    share = found.shares[[c.name for c in found.criteria].index(effect.name)]
    return (100.0, "%") if share else (1.0, effect.unit if effect.unit != "1" else "")


def _told(found: Assessment, effect: Effect, what: tuple[float, tuple[float, float]]) -> str:
    factor, _ = _shown(found, effect)
    value, (low, high) = what
    if not math.isfinite(low):
        return f"{rounding.fixed(factor * value, _places(found, effect))} (no interval)"
    return rounding.with_interval(factor * value, (factor * low, factor * high), _places(found, effect))


def _places(found: Assessment, effect: Effect) -> int:
    """Decimals: three digits of the criterion's range."""
    criterion = next(c for c in found.criteria if c.name == effect.name)
    factor, _ = _shown(found, effect)
    return max(0, 2 - math.floor(math.log10(abs(criterion.best - criterion.worst) * factor)))


def _effects(study: Study, found: Assessment) -> list[Block]:
    """The effects table: every criterion and arm against the reference."""
    arms, judged, level = _arms(study, found), found.everybody, f"{rounding.plain(100 * found.level)} %"
    label = {c.name: text for c, text in zip(found.criteria, found.labels, strict=True)}
    rows, marks = [], []
    for k, first in enumerate(next(iter(judged.effects.values()))):
        _, unit = _shown(found, first)
        title = f"{label[first.name]}{', ' + unit if unit else ''}"
        rows.append((
            title, arms[found.reference].label, _told(found, first, (first.reference, first.other)), "reference", "–",
            "–",
        ))  # fmt: skip
        marks.append("group")
        for n, (a, lines) in enumerate(judged.effects.items()):
            e, needed = lines[k], judged.needed.get((a, first.name))
            rows.append((
                first.kind if n == 0 else "", arms[a].label, _told(found, e, (e.alternative, e.own)),
                _told(found, e, (e.difference, (e.lower, e.upper))), rounding.fixed(e.better, 2),
                needed.text().replace(" (", "\n(") if needed else "–",
            ))  # fmt: skip
            marks.append("")
    table = Table(
        caption=f"Effects table: every effect against {arms[found.reference].label}.",
        columns=columns("Effect", "Arm", f"Mean|({level})", f"Difference|({level})", "P(better)",
                        f"Number needed|({level})", text=2),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "P(better): probability that the arm is better on this effect alone, half of it where both are equal. "
            "NNTB, NNTH: people to treat for one more to benefit, to be harmed; an interval through no difference goes "
            "through infinity. Of rare effects few people are simulated: what is close to no difference is known to "
            "about one of them.",
        ),
    )  # fmt: skip
    clouds = []
    for a in judged.effects:
        thin = slice(None, None, max(1, judged.draws // _CLOUD))
        clouds.append(
            drawing.Gains(
                label=arms[a].label, look=arms[a].look, loss=-100 * judged.risk[thin, a],
                benefit=100 * judged.benefit[thin, a],
            )
        )  # fmt: skip
    caption = (
        "Benefit-risk plane in points of the score: dots are replicates, markers their means. Above the dashed line an "
        f"arm is better than {arms[found.reference].label}."
    )
    plane = drawing.gains(clouds, reference=arms[found.reference].label, name="weighed-plane")
    return [table, Plots(caption=caption, panels=(plane,))]


def _criteria(found: Assessment) -> Table:
    rows, worst_out = [], found.everybody.outside.max(axis=0)
    for c, label, share, weight, out in zip(
        found.criteria, found.labels, found.shares, found.weights.tolist(), worst_out.tolist(), strict=True
    ):
        factor, unit = (100.0, " %") if share else (1.0, f" {c.unit}" if c.unit not in ("", "1") else "")
        points = ", ".join(f"{rounding.plain(factor * x)}{unit} is {rounding.plain(v)}" for x, v in c.points)
        rows.append((
            label, c.kind, f"{rounding.plain(factor * c.worst)}{unit}", f"{rounding.plain(factor * c.best)}{unit}",
            points or "linear", rounding.percent(weight), rounding.percent(out),
        ))  # fmt: skip
    return Table(
        caption="Criteria: the ranges whose swings are weighed.",
        columns=columns(
            "Criterion", "Kind", "Worst|value 0", "Best|value 1", "Between", "Weight", "Outside|most, of draws",
            text=2, words=("Between",),
        ),
        rows=tuple(rows),
        notes=("Beyond its range an effect counts as the end of the range.",),
    )  # fmt: skip


def _beyond(found: Assessment) -> list[Block]:
    """A warning where a range does not hold the draws."""
    often = [
        label
        for label, out in zip(found.labels, found.everybody.outside.max(axis=0).tolist(), strict=True)
        if out > 0.05
    ]
    if not often:
        return []
    text = (
        f"{sentence(often)}: more than 5 % of the draws of some arm lie beyond the range and count as its end; arms "
        "that differ there count as equal. A wider range, with its own swing weight, would tell them apart."
    )
    return [Text(text=text, tone="warning")]


def _weights(study: Study, found: Assessment) -> list[Block]:
    judged, looks, arms = found.everybody, _looks(study, found), _arms(study, found)
    rows = [
        drawing.Strip(label=label, weight=t.weight, pieces=t.pieces)
        for label, t in zip(found.labels, judged.thresholds, strict=True)
    ]
    strips = Plots(
        caption="The arm with the highest expected score as one criterion's weight runs from 0 to 100 %, the others in "
        "their proportions. The upright line is the weight used.",
        panels=(drawing.strips(rows, looks, name="weighed-strips"),),
    )
    nearest = Table(
        caption="How far a weight can move before another arm has the highest expected score.",
        columns=columns("Criterion", "Weight", "Changes below", "to", "Changes above", "to|", words=("to",)),
        rows=tuple(
            (
                label, rounding.percent(t.weight), _edge(t.below), _next(arms, t.next_below), _edge(t.above),
                _next(arms, t.next_above),
            )
            for label, t in zip(found.labels, judged.thresholds, strict=True)
        ),
    )  # fmt: skip
    panels = tuple(
        drawing.by_weight(
            judged.by_weight[k], float(found.weights[k]), GRID, arms=looks, title=label, name=f"weighed-by-weight-{k}"
        )
        for k, label in enumerate(found.labels)
    )
    lines = Plots(
        caption="Probability of being the best arm by the weight of each criterion; dashed: the weight used.",
        panels=panels, across=3, legend=tuple((label, look.colour, look.open_marker) for label, look in looks),
    )  # fmt: skip
    return [strips, nearest, lines, _free(study, found)]


def _next(arms: list[Arm], place: int) -> str:
    return arms[place].label if place >= 0 else "–"


def _edge(weight: float) -> str:
    return "nowhere" if math.isnan(weight) else rounding.percent(weight)


def _free(study: Study, found: Assessment) -> Table:
    arms, judged = _arms(study, found), found.everybody
    rows = tuple(
        (
            arm.label, rounding.percent(float(judged.free_rank[a, 0])),
            *(
                "–" if math.isnan(w) else rounding.percent(w)
                for w in judged.central[a].tolist()
            ),
            "–" if math.isnan(judged.confidence[a]) else rounding.fixed(float(judged.confidence[a]), 2),
        )
        for a, arm in enumerate(arms)
    )  # fmt: skip
    return Table(
        caption="Whatever the weights (SMAA): for which share of all possible weights and draws each arm is the best, "
        "and the mean weights of those who would choose it.",
        columns=columns(
            "Arm", "Best|share", *(f"{label}|central weight" for label in found.labels), "P(best)|at these"
        ),
        rows=rows, marks=_marks(arms),
    )  # fmt: skip


def _doses(study: Study, found: Assessment) -> list[Block]:
    use, judged, arms = found.utility, found.everybody, _arms(study, found)
    assert use is not None
    # points at the weights of the curve: over all weights the interval would be that of another question
    at = {float(dose): int(np.argmin(np.abs(use.grid - dose))) for dose in use.doses}
    points = [
        drawing.DoseArm(
            label=arms[a].label, look=arms[a].look, dose=float(dose), best=judged.best[a].value,
            score=tuple(float(x[at[float(dose)]]) for x in (use.curve.mean, use.curve.lower, use.curve.upper)),  # type: ignore[arg-type]
        )
        for a, dose in zip(use.arms, use.doses.tolist(), strict=True)
    ]  # fmt: skip
    unit, level = (f" {found.dose_unit}" if found.dose_unit else ""), f"{rounding.plain(100 * found.level)} %"
    middle, low, high = use.optimum
    smooth = len(use.doses) >= 3
    panel = drawing.utility(
        (use.grid, use.curve.mean, use.curve.lower, use.curve.upper), points,
        dose=f"Dose ({found.dose_unit})" if unit else "Dose",
        optimum=(low, high) if smooth else (math.nan, math.nan), name="weighed-dose",
    )  # fmt: skip
    caption = (
        f"Left: score by dose with its {level} band"
        + ("; between doses the effects of each draw are interpolated by monotone cubics. Bar on the axis: the "
           f"{level} range of the best dose" if smooth else "")
        + ". Right: probability that each dose studied is the best of them."
    )  # fmt: skip
    blocks: list[Block] = [Plots(caption=caption, panels=(panel,))]
    if smooth:
        text = (
            f"The expected score is highest at {_dose(use.best)}{unit}. The dose that is best in a draw has median "
            f"{_dose(middle)}{unit}"
            + (f" ({level}: {_dose(low)} to {_dose(high)}{unit})" if math.isfinite(low) else "")
            + ". No dose between the arms was simulated."
        )  # fmt: skip
        blocks.append(Text(text=text))
    return blocks


def _dose(x: float) -> str:
    """A dose between arms to two digits."""
    return rounding.plain(float(f"{x:.2g}"))


def _groups(study: Study, found: Assessment) -> list[Block]:
    arms, looks = _arms(study, found), _looks(study, found)
    everyone = [found.everybody, *found.groups]
    bars = [
        drawing.Stack(label=_named(part), sizes=np.array([best.value for best in part.best])) for part in everyone
    ]  # fmt: skip
    figure = Plots(
        caption="Probability that each arm is the best, in everybody and in each group of people, in per cent.",
        panels=(
            drawing.stacks(
                bars, [look.colour for _, look in looks], x_label="Probability of being the best arm",
                name="weighed-groups", wide=True, shown=0.04,
            ),
        ),
        legend=tuple((label, look.colour, False) for label, look in looks),
    )  # fmt: skip
    rows, marks = [], []
    for part in everyone:
        rows.append((_named(part), rounding.fixed(part.people, 0), *_lead(found, arms, part)))
        marks.append("group" if part is found.everybody else "")
    table = Table(
        caption="Scores by group of people.",
        columns=columns(
            "People", "Number|mean", *_lead_titles(found, arms), words=("Best arm",),
        ),
        rows=tuple(rows), marks=tuple(marks),
        notes=(
            "Ranges and weights are everybody's. Groups differ in more than the covariate that splits them.",
            *_small(found),
        ),
    )  # fmt: skip
    return [figure, table]


def _small(found: Assessment) -> list[str]:
    """What to think of groups of few people, or that are not in every replicate."""
    few = [_named(part) for part in found.groups if part.people < _FEW]
    rare = [f"{_named(part)} ({part.draws})" for part in found.groups if part.draws < found.everybody.draws]
    notes = [f"Fewer than {_FEW} people: {sentence(few)}; the chance that is taken out is badly known there."] * bool(
        few
    )
    return notes + [f"Not in every replicate (in how many): {sentence(rare)}."] * bool(rare)


def _lead_titles(found: Assessment, arms: list[Arm]) -> tuple[str, ...]:
    level = f"{rounding.plain(100 * found.level)} %"
    against = arms[found.reference].label
    return (
        "Best arm|highest score",
        "P(best)",
        f"Its score|mean ({level})",
        f"Gain over {against}|mean ({level})",
        "P(gain > 0)",
    )


def _lead(found: Assessment, arms: list[Arm], part: Judged) -> tuple[str, ...]:
    """The arm with the highest expected score, in cells."""
    a = int(np.argmax(part.score.mean))
    own = a == found.reference
    gain = ("–", "–") if own else (_interval(part.gain, a), rounding.fixed(float(part.better[a]), 2))
    return arms[a].label, _chance(part, a), _interval(part.score, a), *gain


def _named(part: Judged) -> str:
    if not part.level:
        return "Everybody"
    told = part.group.lower() in part.level.lower()
    return part.level[:1].upper() + part.level[1:] if told else f"{part.group}: {part.level}"


def _sensitivity(study: Study, found: Assessment) -> Table:
    arms = _arms(study, found)
    labels = {variant.key: variant.label for variant in study.sensitivities}
    runs = {"Main run": found.everybody} | {labels.get(key, key): part for key, part in found.sensitivity.items()}
    rows = tuple(
        (name, rounding.count(part.draws), *_lead(found, arms, part)) for name, part in runs.items()
    )  # fmt: skip
    return Table(
        caption="Scores in the sensitivity runs.",
        columns=columns("Run", "Draws", *_lead_titles(found, arms), words=("Best arm",)),
        rows=rows,
    )  # fmt: skip
