"""Expected response against exposure by the model itself, with the uncertainty of its parameters.

For each of some draws of the population parameters, virtual people are drawn around them and the response layer is
evaluated on a grid of exposure; the mean over people is the expected response of that draw.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from reports.study import ResponseCurve

if TYPE_CHECKING:
    from trials.record import RunRecord

Floats = NDArray[np.float64]
DRAWS: Final = 200
PEOPLE: Final = 100
GRID: Final = 41
ADDRESS: Final = 1_000_000  # replicates of EXTERNAL_CHECK from here on; below are the simulated studies of `levels`


def responses(
    record: "RunRecord", top: float, ratio: float, composite: tuple[str, ...] = ()
) -> dict[str, ResponseCurve]:
    """Curves by event, and by output of the response layer (change from no drug at the start), over 0 to `top`.

    Under the name `any`: at least one event of `composite`, events independent given the person and the exposure.

    Exposure is the average level for outputs and the peak for events; ratio: peak over average, by which the one
    follows from the other. People have the reference covariates.
    """
    model = record.model
    average = next((n for n, s in model.summaries.items() if s.as_ == "average"), "")
    peak = next((n for n, s in model.summaries.items() if s.as_ == "maximum"), "")
    if not (average and peak):
        return {}
    grid = np.linspace(0.0, top, GRID)
    people, end = _people(record), record.protocol.horizon
    by_peak = _evaluated(record, people, {average: grid / ratio, peak: grid}, end)
    by_average = _evaluated(record, people, {average: grid, peak: grid * ratio}, end)
    start = _evaluated(record, people, {average: np.zeros(1), peak: np.zeros(1)}, 0.0)
    risks = {key: by_peak[event.risk] for key, event in model.events.items() if event.risk in by_peak}
    if composite and set(composite) <= set(risks):
        risks["any"] = 1.0 - np.prod([1.0 - risks[key] for key in composite], axis=0)
    outputs = {name: str(out.is_) for name, out in model.outputs.items() if out.is_ in by_average}
    changes = {name: by_average[is_] - start[is_] for name, is_ in outputs.items()}
    return {name: _curve(grid, values) for name, values in (risks | changes).items()}


def _people(record: "RunRecord") -> dict[str, Floats]:
    """Parameters of DRAWS x PEOPLE people by name, (D, N, 1), and their covariates."""
    from pkpd.ground.streams import Purpose, normals
    from pkpd.model.outcomes import classes
    from pkpd.model.variability import individual
    from populations.patients import lower_roots

    model, draws = record.model, record.draws
    row = (np.arange(DRAWS) * len(draws)) // DRAWS
    z = normals(
        record.protocol.seed, Purpose.EXTERNAL_CHECK, subject=np.arange(PEOPLE)[None, :, None],
        replicate=ADDRESS + np.arange(DRAWS)[:, None, None], slot=np.arange(len(draws.eta_names)),
    )  # fmt: skip
    covariates = {
        name: np.full((DRAWS, PEOPLE), 0.0 if c.reference is None else float(c.reference))
        for name, c in model.covariates.items()
    }
    who = {"subject": np.arange(PEOPLE), "replicate": ADDRESS + np.arange(DRAWS)}
    covariates |= classes(model, draws.typical[row], record.protocol.seed, **who)
    values = individual(model, draws.typical[row], lower_roots(draws.omega[row]), covariates, z=z)
    named = {name: values[:, :, i, None] for i, name in enumerate(model.parameters)}
    return named | {name: value[:, :, None] for name, value in covariates.items()}


def _evaluated(
    record: "RunRecord", people: Mapping[str, Floats], exposure: Mapping[str, Floats], time: float
) -> dict[str, Floats]:
    """Every equation of the response layer that follows from the exposure and time alone, (D, N, grid)."""
    from pkpd.model.equations import evaluate, names

    values: dict[str, Floats] = {**people, **exposure, "TIME": np.array(time), "WEEKS": np.array(time / 168.0)}
    width = max(value.size for value in exposure.values())
    found = {}
    for name, expression in record.model.response.items():
        if not names(expression) <= set(values):  # levels, former outcomes: not said by an average and a peak
            continue
        values[name] = np.asarray(evaluate(expression, values), dtype=np.float64)
        found[name] = np.broadcast_to(values[name], (DRAWS, PEOPLE, width))
    return found


def _curve(grid: Floats, values: Floats) -> ResponseCurve:
    """Mean over people within each draw, then the mean and the range of the draws; values (D, N, grid)."""
    means = np.ascontiguousarray(np.moveaxis(values, 1, -1)).mean(axis=-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return ResponseCurve(exposure=grid, mean=means.mean(axis=0), low=low, high=high)
