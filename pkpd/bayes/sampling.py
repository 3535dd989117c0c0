"""From plan and data to draws: the compiled density, the quick look, the sampler, diagnostics. Imports nutpie late."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkpd.bayes.censoring import limited
from pkpd.bayes.centring import Choice, Look, chosen, look, starting_point
from pkpd.bayes.density import Density, density
from pkpd.bayes.design import Design, design, measured_outputs
from pkpd.bayes.diagnostics import DISAGREE, Chains, Diagnostics, diagnose, shrinkage
from pkpd.bayes.exchange import Exchange, exchanges
from pkpd.bayes.fisher import expected, point
from pkpd.bayes.hierarchy import covariances, pairs
from pkpd.bayes.missing import drawn as drawn_covariates
from pkpd.bayes.plan import (
    Plan,
    base_value,
    between,
    error_label,
    natural,
    partial_label,
    plan,
    residual_label,
    spread_label,
    typical_label,
)
from pkpd.bayes.prior_check import prior_check, surprises
from pkpd.ground.errors import InputError
from pkpd.kernels.observations import MEASURED, POSITIVE
from pkpd.model import together
from pkpd.model.equations import evaluate, show
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws
from pkpd.screening import Finding, require_sane

if TYPE_CHECKING:
    import xarray as xr

    from pkpd.bayes.fit import Settings
    from pkpd.model.records import Records

__all__ = ["Drawn", "etas", "population_draws", "sampled", "typical"]

Floats = NDArray[np.float64]
Stages = Callable[[str], None]
NOTICED = 5
CANCELS = 1e-10
"""Share of the largest prediction below which there may be nothing but rounding."""


def sampled(
    model: Model, records: Records, *, settings: Settings, seed: int, cores: int, on_stage: Stages
) -> tuple[PopulationDraws, xr.DataTree, dict[str, Any], dict[str, float]]:
    """Population draws, the full tree, diagnostics as plain data, seconds by stage (`import.cpu` ...: CPU seconds)."""
    seconds: dict[str, float] = {}
    with _stage("build", seconds, on_stage):
        how, made, plain = _built(model, records, settings)
        places = exchanges(model, how, _dosed(model, records))
    with _stage("import", seconds, on_stage), _quiet():
        import_module("pkpd.bayes.nuts" if settings.method == "nuts" else "pkpd.bayes.approximate")
    with _stage("compile", seconds, on_stage), _quiet():
        _ = plain.module
    with _stage("screen", seconds, on_stage):
        notices = _noticed(require_sane(model, records, typical(plain, records)))
        foretold = prior_check(plain, made, seed=settings.seed)
    with _stage("look", seconds, on_stage):
        seen = look(plain)
    with _stage("sample", seconds, on_stage), _quiet():
        if settings.method == "nuts":
            drawn, seen = _by_nuts(plain, seen, settings, (seed, cores))
        else:
            from pkpd.bayes.approximate import approximated

            drawn = approximated(plain, seen, places, settings)
    with _stage("diagnose", seconds, on_stage), _quiet():
        tree = _tree(drawn.law, made, drawn.x, drawn.stats)
        draws = population_draws(how, tree["posterior"])
        told = diagnose(_chains(how, tree), how.priors, _shrinkage(how, tree["posterior"]))
        found = drawn.judged(_placed(told, places, _typical(how, tree["posterior"]))).to_dict()
        found |= _method(how, made, chosen(seen, settings.centred), seen, blq=settings.blq)
        found |= {"method": settings.method, **drawn.about}
        middle = point(plain.layout, drawn.x, {str(n): v.values for n, v in tree["posterior"].items()})
        found["information"] = expected(plain, middle, found["parameters"])
        found["exchanges"] = [e.to_dict() for e in places]
        found["prior_predictive"] = [f.to_dict() for f in foretold]
        found["remarks"] = [*found["remarks"], *surprises(foretold), *_told(how, made, len(records.time)), *notices]
    return draws, tree, found, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """x (chain, draw, size) of the law itself and statistics of the sampler, (chain, draw) each; judged: what the
    method has to say of the diagnostics; about: the same as plain data.
    """

    law: Density
    x: Floats
    stats: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    judged: Callable[[Diagnostics], Diagnostics] = lambda found: found
    about: Mapping[str, Any] = field(default_factory=dict)


def _by_nuts(plain: Density, seen: Look, settings: Settings, how: tuple[int, int]) -> tuple[Drawn, Look]:
    """Draws of NUTS after a pilot; how: seed and cores."""
    from pkpd.bayes.nuts import draw
    from pkpd.bayes.pilot import piloted

    seed, cores = how
    law, seen, rest = piloted(plain, seen, settings, seed=seed, cores=cores)
    drawn = draw(law, partial(starting_point, law, seen), rest, seed=seed, cores=cores)
    return Drawn(law=law, x=law.layout.plain(drawn.x), stats=drawn.stats), seen


def _dosed(model: Model, records: Records) -> list[str]:
    """States that the data dose."""
    return [list(model.states)[int(k)] for k in np.unique(records.doses.target)]


def _placed(found: Diagnostics, places: Sequence[Exchange], values: Mapping[str, Floats]) -> Diagnostics:
    """The diagnostics, told on which side of rates that can change places each chain lies."""
    problems, remarks = list(found.problems), list(found.remarks)
    for e in places:
        above = (e.contrast(values) > 0.0).reshape(found.chains, -1).mean(axis=1)
        told = e.told(above)
        if told is None:
            remarks.append(f"{e.sentence} Here {e.side(1 if above[0] > 0.5 else -1)} in all draws.")
            continue
        parted = [p for p in problems if p.startswith(DISAGREE)]
        problems = [p for p in problems if p not in parted]
        problems.insert(0, (f"{parted[0].partition(':')[0]}: " if parted else "") + told)
    return replace(found, problems=tuple(problems), remarks=tuple(remarks))


def _built(model: Model, records: Records, settings: Settings) -> tuple[Plan, Design, Density]:
    """Plan, design and density. Where the data cannot be taken, what is wrong with them by themselves is said first."""
    try:
        used = limited(model, records, settings.blq)
        how = plan(model, measured_outputs(model, used))
        made = design(model, used, blq=settings.blq)
    except InputError:
        require_sane(model, records)
        raise
    return how, made, density(how, made)


def typical(plain: Density, records: Records) -> Floats | None:
    """`screening.typical_predictions` by the density; None where rows were left out of it.

    It has no exact zero where nothing has arrived yet, but what is left of numbers that cancel.
    """
    how, x = plain.layout.plan, np.zeros(plain.layout.size)  # 0: no effects, covariates that are missing in the middle
    x[: len(how.typical)] = [0.0 if n in how.shrunk else base_value(how.model, n) for n in how.typical]
    found = plain.predictions(x)
    if len(found) != len(records.dv):
        return None
    top = np.zeros(int(records.output.max()) + 1)
    np.maximum.at(top, records.output, np.where(np.isfinite(found), np.abs(found), 0.0))
    first = np.full(len(records), np.inf)
    np.minimum.at(first, np.repeat(np.arange(len(records)), np.diff(records.doses.offsets)), records.doses.time)
    nothing = (np.abs(found) < CANCELS * top[records.output]) & (records.time <= first[records.subject])
    return np.where(nothing, 0.0, np.where(np.abs(found) < CANCELS * top[records.output], np.abs(found), found))


def _noticed(found: Sequence[Finding]) -> list[str]:
    """What deserves a look in the data, as remarks; the first few by name."""
    more = [f"and {len(found) - NOTICED} more records of the data that deserve a look"] if len(found) > NOTICED else []
    return [f"The data: {finding}" for finding in found[:NOTICED]] + more


def _method(how: Plan, made: Design, choices: tuple[Choice, ...], seen: Look, *, blq: str) -> dict[str, Any]:
    """How it was sampled, as plain data: gradients, centring with reasons, what is ordered by construction."""
    ordered = {n: f"{n} = {show(p.above)} + exp(...)" for n, p in how.model.parameters.items() if p.above is not None}
    return {
        "outputs": list(how.outputs),
        "gradient": {"family": made.family.name, **made.family.about},
        "centring": [c.to_dict() for c in choices],
        "ordered": ordered,
        "blq": {"method": blq, "rows": int((made.kind % POSITIVE != MEASURED).sum())},
        "quick_look": not seen.failed,
    }


def _told(how: Plan, made: Design, rows: int) -> list[str]:
    """What was left out of the data or filled in, a sentence each."""
    lost, absent = rows - made.rows, made.absent.covariate
    found = (
        [f"{lost} values beyond a limit of quantification were discarded, which is biased: m3 is not"] if lost else []
    )
    if how.sigma and not len(made.ties):
        found.append("Correlated outputs are nowhere measured together: the data say nothing of their correlation")
    return found + [
        f"{name} is missing in {absent.count(name)} subjects: it was sampled, with a prior from the others"
        for name in dict.fromkeys(absent)
    ]


def _tree(law: Density, made: Design, x: Floats, stats: Mapping[str, NDArray[Any]]) -> xr.DataTree:
    """Posterior by name and sample statistics."""
    import xarray as xr

    named = law.layout.named(x)
    coords = {"chain": np.arange(x.shape[0]), "draw": np.arange(x.shape[1])}
    own = coords | {"subject": list(made.ids)}
    own |= {"occasion": list(law.layout.occasions)} if law.layout.occasions else {}
    own |= {"missing": list(law.layout.absent)} if law.layout.absent else {}
    last = {"z_missing": "missing"} | {f"z_{between(n)}": "occasion" for n in law.layout.plan.between}
    plain = ("chain", "draw")
    posterior = xr.Dataset(
        {n: ((*plain, last.get(n, "subject"))[: v.ndim], v) for n, v in named.items()}, own
    )  # fmt: skip
    if law.layout.absent:
        posterior["missing_covariates"] = ((*plain, "missing"), drawn_covariates(made.absent, named["z_missing"]))
    kept = {n: (plain, v) for n, v in stats.items() if v.ndim == 2}
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": xr.Dataset(kept, coords)})


def population_draws(how: Plan, posterior: Any) -> PopulationDraws:
    """Draws of the population parameters, chain after chain, in the model's order and natural units."""
    typical = _typical(how, posterior)
    size = _size(how, posterior)
    sd = _columns(posterior, [spread_label(name) for name in how.spread], size)
    late = _columns(posterior, [spread_label(between(name)) for name in how.between], size)
    q, whole = len(how.spread), len(how.spread) + len(how.between)
    omega = np.zeros((size, whole, whole))
    omega[:, :q, :q] = covariances(sd, _partial(how, posterior))[1]
    omega[:, range(q, whole), range(q, whole)] = late**2
    tied = {together.label(b[j], b[i]): residual_label(b[j], b[i]) for b, _ in how.sigma for i, j in pairs(len(b))}
    error = _columns(posterior, [*(error_label(name) for name in how.error), *tied.values()], size)
    return PopulationDraws(
        names=tuple(how.model.parameters),
        typical=np.stack([typical[name] for name in how.model.parameters], axis=1),
        eta_names=(*how.spread, *(between(name) for name in how.between)),
        omega=omega,
        error_names=(*how.error, *tied),
        error=error,
    )


def _columns(posterior: Any, names: Sequence[str], size: int) -> Floats:
    return np.stack([_flat(posterior, name) for name in names], axis=1) if names else np.zeros((size, 0))


def etas(how: Plan, posterior: Any) -> Floats:
    """Random effects of the fitted subjects, (draws, subjects, effects) on the parameters' scales."""
    sd = np.stack([_flat(posterior, spread_label(name)) for name in how.spread], axis=1)
    factor = covariances(sd, _partial(how, posterior))[0]
    z = np.stack([_flat(posterior, f"z_{name}") for name in how.spread], axis=2)
    out = np.zeros_like(z)
    for j in range(z.shape[2]):
        out += factor[:, None, :, j] * z[:, :, j, None]
    return out


def _flat(posterior: Any, name: str) -> Floats:
    """(draws, ...) of a variable, chain after chain."""
    values = np.asarray(posterior[name].values, np.float64)
    return values.reshape(-1, *values.shape[2:])


def _typical(how: Plan, posterior: Any) -> dict[str, Floats]:
    """Natural values (draws,) by parameter; the floor added where there is one."""
    size = _size(how, posterior)
    found = {}
    for name, p in how.model.parameters.items():
        free = name in how.typical
        value = _flat(posterior, typical_label(how.model, name)) if free else np.full(size, base_value(how.model, name))
        found[name] = natural(p, value)
    for name, p in how.model.parameters.items():
        if p.above is not None:
            found[name] = found[name] + np.asarray(evaluate(p.above, found))
    return found


def _size(how: Plan, posterior: Any) -> int:
    """Draws of all chains."""
    return int(np.prod(posterior[error_label(next(iter(how.error)))].shape))


def _partial(how: Plan, posterior: Any) -> dict[tuple[int, int], Floats]:
    """Partial correlations by position among the random effects; 0 outside blocks."""
    order, size = list(how.spread), _size(how, posterior)
    found = {pair: np.zeros(size) for pair in pairs(len(order))}
    for block, _ in how.blocks:
        for i, j in pairs(len(block)):
            place = order.index(block[i]), order.index(block[j])
            found[place] = 2.0 * _flat(posterior, partial_label(block[j], block[i])) - 1.0
    return found


def _chains(how: Plan, tree: Any) -> Chains:
    """Population quantities (chain, draw): those with a prior, and the derived log of each parameter above a floor."""
    posterior, stats = tree["posterior"], tree["sample_stats"]
    derived = [f"log_{n}" for n, p in how.model.parameters.items() if p.above is not None and n in how.typical]
    return Chains(
        values={name: np.asarray(posterior[name].values, np.float64) for name in (*how.priors, *derived)},
        divergences=int(stats["diverging"].values.sum()) if "diverging" in stats else 0,
        energy=np.asarray(stats["energy"].values, np.float64) if "energy" in stats else None,
    )


def _shrinkage(how: Plan, posterior: Any) -> dict[str, float]:
    eta = etas(how, posterior) if how.spread else np.zeros((1, 0, 0))
    return {name: shrinkage(eta[:, :, k], _flat(posterior, spread_label(name))) for k, name in enumerate(how.spread)}


@contextmanager
def _stage(name: str, seconds: dict[str, float], on_stage: Stages) -> Iterator[None]:
    on_stage(name)
    start, cpu = time.perf_counter(), time.process_time()
    yield
    seconds[name] = time.perf_counter() - start
    seconds[f"{name}.cpu"] = time.process_time() - cpu


@contextmanager
def _quiet() -> Iterator[None]:
    """Third-party warnings about BLAS, caches and migrations are not the user's business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
