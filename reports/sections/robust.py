"""Section on what the decision hangs on: the form of the model, the uncertainty stated for its values."""

import numpy as np

from reports import captions, rounding
from reports.study import Study
from reports.tables import Block, Section, Table, Text, columns
from trials.operating import Estimate
from trials.robustness import POWERS, Robustness, Scaled

_MOST = 12


def decision(study: Study) -> Section:
    """The probability of every answer under each model, weighted, and under other uncertainties."""
    found = study.robustness
    assert found is not None
    blocks: list[Block] = []
    if len(found.structures) > 1:
        blocks += [_structures(found), Text(text=_range(found))]
    else:
        text = "One model was run: how far the decision hangs on its form is unknown."
        blocks.append(Text(text=text, tone="warning"))
    if found.scaled:
        blocks.append(_scaled(found))
    return Section(key="robustness", title="What the decision hangs on", blocks=tuple(blocks))


def _cells(estimate: Estimate, *, weighted: bool = False) -> tuple[str, str]:
    """A probability with its error, and its 95 % Monte Carlo interval: Wilson's, normal for a mean over models."""
    places = rounding.places(estimate.mcse)
    if weighted:
        low, high = (float(np.clip(x, 0.0, 1.0)) for x in estimate.interval())
        return rounding.with_mcse(estimate.value, estimate.mcse), rounding.interval(low, high, places)
    from trials.analysis import binary

    limits = binary.wilson(np.array([round(estimate.value * estimate.n)]), np.array([estimate.n]))
    shown = rounding.proportion(estimate.value, estimate.mcse, estimate.n)
    return shown, rounding.interval(float(limits.lower[0]), float(limits.upper[0]), places)


def _structures(found: Robustness) -> Table:
    rows, marks = [], []
    for answer in found.structures[0].answers:
        for s in found.structures:
            weight = rounding.plain(s.weight) if np.isfinite(s.weight) else "–"
            name = "main" if s is found.structures[0] else s.name.replace("_", " ")
            rows.append((answer, f"{name} ({s.file})", weight, *_cells(s.answers[answer])))
            marks.append("group" if s is found.structures[0] else "")
        if answer in found.weighted:
            rows.append((answer, "weighted mean of the models", "1", *_cells(found.weighted[answer], weighted=True)))
            marks.append("")
    return Table(
        caption="Probability that a trial gives each answer, by model.",
        columns=columns("Answer", "Model", "Weight", "Probability", "95 % interval|Monte Carlo", text=2),
        rows=tuple(rows), marks=tuple(marks),
        notes=(captions.MCSE, "The runs share their virtual people; the error of the weighted mean takes that in. "
               "Weights are those of the protocol (given, or from stacking of the fits)."),
    )  # fmt: skip


def _range(found: Robustness) -> str:
    said = []
    for answer in found.structures[0].answers:
        values = [s.answers[answer].value for s in found.structures]
        places = min(rounding.places(s.answers[answer].mcse) for s in found.structures)
        said.append(f"“{answer}” from {rounding.fixed(min(values), places)} to {rounding.fixed(max(values), places)}")
    return f"Over the models: {'; '.join(said)}. This range is not Monte Carlo error: more replicates do not narrow it."


def _scaled(found: Robustness) -> Table:
    shown = [s for s in found.scaled if s.of == "all"]
    single = [s for s in found.scaled if s.of != "all"]
    single.sort(key=lambda s: -abs(s.change.value))
    rows = [_row(s) for s in (*shown, *single[:_MOST])]
    rest = f" The {_MOST} largest changes by single parameters are shown." if len(single) > _MOST else ""
    return Table(
        caption="The same probabilities were the stated uncertainty of the parameters another (power-scaling).",
        columns=columns(
            "Answer", "Uncertainty of", f"Wider|power {POWERS[0]:g}", f"Narrower|power {POWERS[1]:g}",
            "Change|narrower less wider", "95 % interval|Monte Carlo", "Effective replicates", text=2,
        ),
        rows=tuple(rows),
        notes=(
            "Replicates are weighted by the density of their parameters to the power less one; powers "
            f"{POWERS[0]:g} and {POWERS[1]:g} multiply the variances by {1 / POWERS[0]:g} and {1 / POWERS[1]:g}. "
            f"Parameters taken from a fit are left as they are.{rest}",
            captions.MCSE,
        ),
    )  # fmt: skip


def _share(s: Scaled, share: Estimate) -> str:
    """Of all or none of the replicates: with the exact bound of as many as the weights are worth."""
    if share.mcse != 0 or share.value not in (0.0, 1.0):
        return rounding.with_mcse(share.value, share.mcse)
    bound = 0.025 ** (1 / max(s.effective, 1.0))
    if share.value == 1.0:
        return f"1.00 (all {share.n}; at least {rounding.fixed(bound, 2)})"
    return f"0.00 (none of {share.n}; at most {rounding.fixed(1 - bound, 2)})"


def _row(s: Scaled) -> tuple[str, ...]:
    low, high = s.change.interval()
    return (
        s.answer, "all parameters" if s.of == "all" else s.of,
        _share(s, s.wider), _share(s, s.narrower),
        "0" if s.change.mcse == 0 else rounding.with_mcse(s.change.value, s.change.mcse),
        "–" if s.change.mcse == 0 else rounding.interval(low, high, rounding.places(s.change.mcse)),
        rounding.count(round(s.effective)),
    )  # fmt: skip
