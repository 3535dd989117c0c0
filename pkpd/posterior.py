"""The posterior as an artefact: draws of the population parameters, hashed, in one Parquet. All that workers need.

No sampler is imported here. `combine` makes the draws a trial runs on: fitted parameters from the posterior, jointly,
the others from the text with their published uncertainty.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pkpd.ground import digest, store
from pkpd.ground.errors import InputError, RunFailed
from pkpd.ground.streams import Purpose, uniforms
from pkpd.ground.text import nearest
from pkpd.model.spec import Model
from pkpd.model.variability import PopulationDraws, published

__all__ = ["Posterior", "combine", "draws_digest", "median", "read", "require_sound", "to_bytes", "write"]

Floats = NDArray[np.float64]
KIND = "vtrial-posterior/2"  # 1 sorted the names of the model: states and parameters lost their order
REMEDY = "fit again (vtrial fit), or take the file from the run it belongs to"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Draws of the population parameters of `model`, and the diagnostics of the fit they come from.

    `digest`: SHA-256 of the draws and of what the model says. `data` names the records they were fitted to (a digest).
    """

    draws: PopulationDraws
    model: Model
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""

    @property
    def digest(self) -> str:
        return digest.of_json([KIND, self.model.digest, self.data, draws_digest(self.draws)])

    @property
    def sound(self) -> bool:
        """Whether the fit held its limits."""
        return bool(self.diagnostics.get("ok", False))

    @property
    def verdict(self) -> str:
        """One sentence on the fit."""
        return str(self.diagnostics.get("verdict", "The fit carries no diagnostics."))


def require_sound(posterior: Posterior, *, force: bool = False) -> None:
    """Refuse a fit that broke its limits. Errors: RunFailed with the verdict, unless `force`."""
    if posterior.sound:
        return
    if not force:
        name = posterior.model.name
        raise RunFailed(f"The fit of {name} is refused. {posterior.verdict}")
    log.warning("a fit that broke its limits is used by force: %s", posterior.verdict)


def draws_digest(draws: PopulationDraws) -> str:
    """SHA-256 of names and raw little-endian values."""
    names = [list(draws.names), list(draws.eta_names), list(draws.error_names)]
    arrays = [np.ascontiguousarray(x, "<f8") for x in (draws.typical, draws.omega, draws.error)]
    return digest.of_json([names, [list(x.shape) for x in arrays], [digest.of_bytes(x.tobytes()) for x in arrays]])


def write(posterior: Posterior, path: str | Path) -> Path:
    """One Parquet, written atomically; see `to_bytes`."""
    store.write_atomic(path, to_bytes(posterior))
    return Path(path)


def to_bytes(posterior: Posterior) -> bytes:
    """One Parquet: a row per draw; typical values, lower triangle of omega, residual errors; the rest as metadata."""
    about = {
        "kind": KIND,
        "digest": posterior.digest,
        "data": posterior.data,
        "names": list(posterior.draws.names),
        "eta_names": list(posterior.draws.eta_names),
        "error_names": list(posterior.draws.error_names),
        "model": posterior.model.to_dict(),
        "diagnostics": dict(posterior.diagnostics),
    }
    metadata = {"vtrial": json.dumps(about)}  # the order of its keys is meaning
    table = pa.table(_columns(posterior.draws)).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read(path: str | Path) -> Posterior:
    """The posterior of a Parquet file. Errors: InputError when it is none, or when its values do not match its
    digest.
    """
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[b"vtrial"])
        known = about["kind"] == KIND
    except FileNotFoundError:
        raise InputError("no such file", file=path, remedy=REMEDY) from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise InputError("is not a posterior of this program", file=path, remedy=REMEDY) from None
    if not known:
        raise InputError("is a posterior of another version", file=path, value=about["kind"], remedy=REMEDY)
    try:
        found = Posterior(
            draws=_draws(table, about),
            model=Model.from_dict(about["model"]),
            diagnostics=about["diagnostics"],
            data=about["data"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"lacks a part of a posterior ({error})", file=path, remedy=REMEDY) from None
    if found.digest != about["digest"]:
        raise InputError("its values do not match its digest: it was changed", file=path, remedy=REMEDY)
    return found


def _columns(draws: PopulationDraws) -> dict[str, Floats]:
    columns = {f"typical.{name}": draws.typical[:, i] for i, name in enumerate(draws.names)}
    for i, a in enumerate(draws.eta_names):
        columns |= {f"omega.{a}.{b}": draws.omega[:, i, j] for j, b in enumerate(draws.eta_names[: i + 1])}
    return columns | {f"error.{name}": draws.error[:, i] for i, name in enumerate(draws.error_names)}


def _draws(table: pa.Table, about: Mapping[str, Any]) -> PopulationDraws:
    names, etas, errors = (tuple(about[key]) for key in ("names", "eta_names", "error_names"))

    def stacked(columns: Sequence[str]) -> Floats:
        values = [table[name].to_numpy() for name in columns]
        return np.ascontiguousarray(np.stack(values, axis=1)) if values else np.zeros((table.num_rows, 0))

    omega = np.zeros((table.num_rows, len(etas), len(etas)))
    for i, a in enumerate(etas):
        for j, b in enumerate(etas[: i + 1]):
            omega[:, i, j] = omega[:, j, i] = table[f"omega.{a}.{b}"].to_numpy()
    return PopulationDraws(
        names=names,
        typical=stacked([f"typical.{n}" for n in names]),
        eta_names=etas,
        omega=omega,
        error_names=errors,
        error=stacked([f"error.{n}" for n in errors]),
    )


def combine(model: Model, posterior: Posterior, take: Sequence[str], *, draws: int, seed: int) -> PopulationDraws:
    """Population draws for `model`: parameters in `take` from the posterior, the rest from the text.

    Of a taken parameter the typical value, the between-subject variance and its covariance with other taken parameters
    come from one posterior row, so their dependence is kept; the others are `published` (normal with `se`, by
    address). A correlation the text states between a taken and another parameter keeps its value. Rows are taken in an
    order drawn by address, each once before any is used again. Errors: InputError for a parameter the two models do
    not share alike.
    """
    for name in take:
        _check_shared(model, posterior, name)
    other = published(model, draws, seed)
    row = _rows(len(posterior.draws), draws, seed)
    typical, omega = other.typical.copy(), other.omega.copy()
    for name in take:
        typical[:, other.names.index(name)] = posterior.draws.typical[row, posterior.draws.names.index(name)]
    _take_omega(omega, other, (posterior.draws, row), [n for n in other.eta_names if n in take])
    _check_order(model, other.names, typical)
    return PopulationDraws(
        names=other.names, typical=typical, eta_names=other.eta_names, omega=omega,
        error_names=other.error_names, error=other.error,
    )  # fmt: skip


def _check_shared(model: Model, posterior: Posterior, name: str) -> None:
    """A taken parameter must be the same thing in both models."""
    fitted = posterior.model.parameters
    if name not in model.parameters:
        raise InputError(
            "no such parameter in the model", field="take", value=name, remedy=nearest(name, model.parameters)
        )
    if name not in fitted:
        raise InputError("the fit has no such parameter", field="take", value=name, remedy=nearest(name, fitted))
    ours, theirs = model.parameters[name], fitted[name]
    for what, a, b in (
        ("scale", ours.scale, theirs.scale),
        ("unit", ours.unit, theirs.unit),
        ("between-subject variability", ours.random, theirs.random),
        ("floor (above:)", ours.above, theirs.above),
    ):
        if a != b:
            remedy = f"give it the same {what} in both texts, or leave it out of take"
            raise InputError(
                f"the fit and the model differ in its {what}", field=f"take.{name}", value=str(a), remedy=remedy
            )


def _rows(size: int, draws: int, seed: int) -> NDArray[np.int64]:
    """Which posterior row serves draw d: permutations of all rows by address, one after the other."""
    rounds = -(-draws // size)
    u = uniforms(
        seed, Purpose.PARAMETER_MAPPING, subject=np.arange(size)[None, :], replicate=0, index=np.arange(rounds)[:, None]
    )
    return np.argsort(u, axis=1, kind="stable").reshape(-1)[:draws].astype(np.int64)


def _take_omega(
    omega: Floats, other: PopulationDraws, source: tuple[PopulationDraws, NDArray[np.int64]], taken: list[str]
) -> None:
    """Overwrite variances and covariances of the taken random effects in place; mixed pairs keep their correlation."""
    fitted, row = source
    before = np.sqrt(np.einsum("dii->di", omega))
    for a in taken:
        for b in taken:
            i, j = other.eta_names.index(a), other.eta_names.index(b)
            omega[:, i, j] = fitted.omega[row, fitted.eta_names.index(a), fitted.eta_names.index(b)]
    after = np.sqrt(np.einsum("dii->di", omega))
    for a in taken:
        for b in set(other.eta_names) - set(taken):
            i, j = other.eta_names.index(a), other.eta_names.index(b)
            omega[:, i, j] = omega[:, j, i] = omega[:, i, j] / before[:, i] * after[:, i]
    if len(omega) and taken and float(np.linalg.eigvalsh(omega).min()) < -1e-12:
        raise InputError(
            "the correlations of the text do not fit the posterior's", field="correlations",
            remedy="leave out correlations between fitted and other parameters",
        )  # fmt: skip


def _check_order(model: Model, names: tuple[str, ...], typical: Floats) -> None:
    """A parameter above a floor must stay above it when the floor is redrawn."""
    from pkpd.model.equations import evaluate

    values = {name: typical[:, i] for i, name in enumerate(names)}
    for name, p in model.parameters.items():
        if p.above is not None and not (values[name] > evaluate(p.above, values)).all():
            remedy = "take it from the fit too, or leave out above:"
            raise InputError("falls below its floor in some draws", field=f"parameters.{name}", remedy=remedy)


def median(draws: PopulationDraws) -> PopulationDraws:
    """One draw at the elementwise posterior median, for `power` as opposed to assurance.

    The median of covariance matrices need not be one: where it is not positive definite, its eigenvalues are raised to
    1e-9 of the largest, and the log says so.
    """
    omega, changed = _positive(np.median(draws.omega, axis=0))
    if changed:
        log.warning("the median covariance of the random effects was not positive definite: eigenvalues raised")
    return PopulationDraws(
        names=draws.names,
        typical=np.median(draws.typical, axis=0)[None],
        eta_names=draws.eta_names,
        omega=omega[None],
        error_names=draws.error_names,
        error=np.median(draws.error, axis=0)[None],
    )


def _positive(matrix: Floats) -> tuple[Floats, bool]:
    """The matrix, or the nearest with eigenvalues >= 1e-9 of the largest; effects without variance stay out."""
    live = np.flatnonzero(np.diag(matrix) > 0.0)
    part = matrix[np.ix_(live, live)]
    if not live.size:
        return matrix, False
    values, vectors = np.linalg.eigh(part)
    if values[0] > 0.0:
        return matrix, False
    raised = np.maximum(values, 1e-9 * values[-1])
    fixed = matrix.copy()
    fixed[np.ix_(live, live)] = np.einsum("ik,k,jk->ij", vectors, raised, vectors)
    return 0.5 * (fixed + fixed.T), True
