"""Records -> posterior: nutpie by name, chains in threads, everything that decides the result hashed and cached.

`pm.sample` would pick a sampler and its tuning by what is installed; here both are named. The cache folder
`fits/<key>/` holds `posterior.parquet` (the population draws, hashed), `tree.zarr` (everything) and
`diagnostics.json`; it is written beside its final name and renamed, under a file lock, and read again while model,
data, settings, seed, versions and our own code stay what they were.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkpd.ground import digest, store
from pkpd.ground.errors import InputError, RunFailed
from pkpd.ground.streams import Purpose, key
from pkpd.ground.text import nearest
from pkpd.model.spec import Model
from pkpd.posterior import Posterior, read, write

if TYPE_CHECKING:
    import xarray as xr

    from pkpd.model.records import Records

__all__ = ["Fit", "Settings", "fit"]

METHODS = ("nuts", "smc", "laplace", "pathfinder")
PACKAGES = ("numba", "numpy", "nutpie", "pymc", "pytensor")
DIAGNOSTICS, POSTERIOR, TREE = "diagnostics.json", "posterior.parquet", "tree.zarr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The sampler's settings. Defaults hold the limits of `Limits` on theophylline and warfarin: docs/inference.md."""

    seed: int
    draws: int = 1000
    tune: int = 700
    chains: int = 4
    target_accept: float = 0.98
    centred: Mapping[str, bool] | None = None
    blq: str = "m3"
    method: str = "nuts"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            remedy = nearest(self.method, METHODS) or f"one of {', '.join(METHODS)}"
            raise InputError("is no method of a fit", field="method", value=self.method, remedy=remedy)
        for name, least in (("draws", 4), ("tune", 1), ("chains", 1)):
            if getattr(self, name) < least:
                raise InputError(f"must be at least {least}", field=name, value=getattr(self, name))
        if not 0.0 < self.target_accept < 1.0:
            raise InputError("must lie between 0 and 1", field="target_accept", value=self.target_accept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """`posterior`, the folder of the full tree, the diagnostics as plain data, whether the cache served it, seconds a
    stage.
    """

    posterior: Posterior
    tree_path: Path
    diagnostics: dict[str, Any]
    reused: bool
    seconds: dict[str, float]

    def tree(self) -> xr.DataTree:
        """Posterior and sample statistics, every chain and draw."""
        import xarray as xr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: consolidated metadata is not in the v3 specification yet
            return xr.open_datatree(self.tree_path, engine="zarr")


def fit(
    model: Model,
    records: Records,
    *,
    seed: int,
    draws: int = 1000,
    tune: int = 700,
    chains: int = 4,
    target_accept: float = 0.98,
    centred: Mapping[str, bool] | None = None,
    blq: str = "m3",
    method: str = "nuts",
    cores: int = 2,
    cache: bool = True,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Fit:
    """Fit the model to the records; the same inputs give the same posterior whatever `cores`.

    centred: random effects to sample as individual values (True) or not (False) whatever the data say; the others are
    decided by a quick look at the data, told in the diagnostics. blq: values beyond a limit of quantification by method
    `m3` or `m4`, or `discard`ed (`bayes.censoring`).
    method: `nuts`; `smc`, for a posterior of several modes (`bayes.modes`: draws are particles, chains independent
    runs); `laplace` and `pathfinder`, a quick look that no decision may rest on (`bayes.quick`).
    `on_stage` hears "build", "import", "compile", "screen", "look", "sample", "diagnose". A fit over its limits is
    returned and marked (`posterior.sound` is False); whoever uses it asks `require_sound`. Errors: InputError (model or
    data), RunFailed (the sampler could not start).
    """
    settings = Settings(
        seed=seed,
        draws=draws,
        tune=tune,
        chains=chains,
        target_accept=target_accept,
        centred=centred,
        blq=blq,
        method=method,
    )
    _check_centred(model, centred or {})
    if not cache:
        folder = Path(tempfile.mkdtemp(prefix="vtrial-fit-"))
        return _made(model, records, (settings, cores, on_stage), folder)
    home = store.cache_dir("fits")
    place = home / _cache_key(model, records, settings)
    with store.locked(place):
        found = _stored(place)
        if found is not None:
            return found
        made = Path(tempfile.mkdtemp(prefix=f".{place.name[:12]}.", suffix=".part", dir=home))
        try:
            done = _made(model, records, (settings, cores, on_stage), made)
            _put(made, place)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return Fit(
        posterior=done.posterior,
        tree_path=place / TREE,
        diagnostics=done.diagnostics,
        reused=False,
        seconds=done.seconds,
    )


def _check_centred(model: Model, centred: Mapping[str, bool]) -> None:
    for name in centred:
        if name not in model.eta_names:
            remedy = nearest(name, model.eta_names)
            raise InputError("has no random effect", field="centred", value=name, remedy=remedy)


def _cache_key(model: Model, records: Records, settings: Settings) -> str:
    """SHA-256 of everything that decides the draws."""
    versions = {name: version(name) for name in PACKAGES}
    return digest.of_json([model.digest, records.digest, asdict(settings), versions, _code_key()])


@once
def _code_key() -> str:
    """Our own code that stands between data and draws: this room's files, the engine's, the model's and the kernels."""
    from pkpd import engine, kernels
    from pkpd import model as texts

    rooms = (kernels, engine, texts)
    folders = (Path(__file__).parent, *(Path(str(room.__file__)).parent for room in rooms))
    return digest.of_json([path.read_text() for folder in folders for path in sorted(folder.glob("*.py"))])


def _stored(place: Path) -> Fit | None:
    """The fit in the cache, or None where there is none or it does not match its digest."""
    if not place.is_dir():
        return None
    try:
        posterior = read(place / POSTERIOR)
        about = json.loads((place / DIAGNOSTICS).read_text())
    except (InputError, OSError, ValueError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return Fit(
        posterior=posterior, tree_path=place / TREE, diagnostics=dict(posterior.diagnostics), reused=True,
        seconds=about["seconds"],
    )  # fmt: skip


def _put(made: Path, place: Path) -> None:
    try:
        os.replace(made, place)
    except OSError as error:
        raise RunFailed(f"{place}: cannot be written ({error.strerror or error})") from error


def _made(model: Model, records: Records, how: tuple[Settings, int, Callable[[str], None]], folder: Path) -> Fit:
    """Look at the data, sample, diagnose, write the three files into `folder`."""
    from pkpd.bayes.sampling import sampled  # pymc is imported here, with the first fit

    settings, cores, on_stage = how
    draws, tree, diagnostics, seconds = sampled(
        model, records, settings=settings, seed=_sampler_seed(settings.seed), cores=cores, on_stage=on_stage
    )
    posterior = Posterior(draws=draws, model=model, diagnostics=diagnostics, data=records.digest)
    start = time.perf_counter()
    write(posterior, folder / POSTERIOR)
    _write_tree(tree, folder / TREE)
    seconds["write"] = time.perf_counter() - start
    about = {"diagnostics": diagnostics, "settings": asdict(settings), "seconds": seconds}
    store.write_atomic(folder / DIAGNOSTICS, json.dumps(about, indent=1, sort_keys=True).encode())
    return Fit(posterior=posterior, tree_path=folder / TREE, diagnostics=diagnostics, reused=False, seconds=seconds)


def _write_tree(tree: xr.DataTree, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree.to_zarr(path, mode="w")
        except OSError as error:
            raise RunFailed(f"{path}: cannot be written ({error.strerror or error})") from error


def _sampler_seed(seed: int) -> int:
    """64 bits for the sampler, at the address of the purpose."""
    first, second = key(seed, Purpose.FIT)
    return int(first) | int(second) << 32
