"""What a run leaves on disk, and how it is read again: manifest, texts, draws, one set of files per block.

    OUT/manifest.json protocol.yaml model.yaml draws.parquet
    OUT/blocks/00007.json                  written last: the block is finished; SHA-256 of its files
    OUT/blocks/00007.outcomes.parquet      one row per subject and replicate; also .analyses, .curves, .truth,
                                           .looks, .chain, .samples, .laboratory

Every file is written to a temporary name and renamed, so an interrupted run has whole blocks only. The run key hashes
all that decides the numbers; another key is refused on resume. Equality of runs is judged on `RunRecord.digest`.
"""

from __future__ import annotations

import io
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pkpd.ground import digest, store
from pkpd.ground.errors import InputError, RunFailed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws
    from trials.protocol import Protocol

__all__ = [
    "Block", "BlockResult", "Manifest", "RunRecord", "add_counts", "draws_bytes", "effects_bytes", "finished",
    "other_file", "parquet", "read_draws", "read_effects", "read_manifest", "table", "versions", "write_block",
]  # fmt: skip

FORMAT: Final = "vtrial run/1"
TABLES: Final = (
    "outcomes",
    "analyses",
    "curves",
    "truth",
    "looks",
    "courses",
    "chain",
    "benefit",
    "samples",
    "laboratory",
)
VERSIONED: Final = ("vtrial", "numpy", "numba", "pandas", "pyarrow", "scipy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whole replicates `first` to `stop` - 1; `number` orders the blocks of a run."""

    number: int
    first: int
    stop: int

    @property
    def replicates(self) -> range:
        """The replicates of the block."""
        return range(self.first, self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockResult:
    """What a worker returns: Parquet bytes by table name, and counts (screening, failed solves) as plain values."""

    tables: dict[str, bytes]
    counts: dict[str, Any]
    outcomes: str  # SHA-256 of the block's canonical outcome table


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The head of a run. key: hash of all that decides the numbers; state: running, finished, partial, interrupted."""

    key: str
    name: str
    state: str
    inputs: dict[str, Any]
    blocks: tuple[Block, ...]
    failed: dict[str, str]
    versions: dict[str, str]
    command: str
    digest: str | None = None
    diagnostics: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to manifest.json."""
        return {
            "format": FORMAT, "key": self.key, "name": self.name, "state": self.state, "digest": self.digest,
            "command": self.command, "inputs": self.inputs, "versions": self.versions, "diagnostics": self.diagnostics,
            "failed": self.failed, "blocks": [[block.number, block.first, block.stop] for block in self.blocks],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Manifest:
        """The manifest of `to_dict`; KeyError, TypeError or ValueError where it is not one."""
        blocks = tuple(Block(number=int(n), first=int(a), stop=int(b)) for n, a, b in plain["blocks"])
        names = ("key", "name", "state", "inputs", "failed", "versions", "command", "digest", "diagnostics")
        return cls(blocks=blocks, **{name: plain[name] for name in names})

    def write(self, out: Path) -> None:
        """Write OUT/manifest.json (atomic)."""
        store.write_atomic(out / "manifest.json", (json.dumps(self.to_dict(), indent=1) + "\n").encode())


def read_manifest(out: Path) -> Manifest:
    """The manifest of a run; InputError where there is none or it is damaged."""
    path = out / "manifest.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.get("format") != FORMAT:
            raise ValueError(f"format is {plain.get('format')!r}")
        return Manifest.from_dict(plain)
    except FileNotFoundError:
        raise InputError("holds no run", file=out, remedy="name the directory given as --out") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is not a manifest of a run ({error})"
        raise InputError(problem, file=path, remedy="run again without --resume") from None


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions that can change a number, and a hash of our own source (a worker may hold another checkout)."""
    found = {"python": platform.python_version(), "source": _source()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def _source() -> str:
    root = Path(__file__).resolve().parents[1]
    files = [path for room in ("pkpd", "populations", "trials") for path in sorted((root / room).rglob("*.py"))]
    return digest.of_json({str(path.relative_to(root)): digest.of_bytes(path.read_bytes()) for path in files})[:16]


def parquet(columns: Mapping[str, Any]) -> bytes:
    """Columns as the bytes of one Parquet file (zstd)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    made = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(made, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    return sink.getvalue()


def draws_bytes(draws: PopulationDraws) -> bytes:
    """Draws of the population parameters as one Parquet file: typical.NAME, omega.ROW.COLUMN, error.NAME."""
    columns: dict[str, Any] = {f"typical.{name}": draws.typical[:, i] for i, name in enumerate(draws.names)}
    for i, row in enumerate(draws.eta_names):
        columns |= {f"omega.{row}.{column}": draws.omega[:, i, j] for j, column in enumerate(draws.eta_names)}
    columns |= {f"error.{name}": draws.error[:, i] for i, name in enumerate(draws.error_names)}
    return parquet(columns)


def effects_bytes(effects: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Draws of what comedication and impairment do as one Parquet file: NAME|KEY|COLUMN, no column of a (D,) array."""
    columns: dict[str, Any] = {}
    for name, parts in effects.items():
        for key, x in parts.items():
            table = {str(j): x[:, j] for j in range(x.shape[1])} if x.ndim == 2 else {"": x}
            columns |= {f"{name}|{key}|{j}": column for j, column in table.items()}
    return parquet(columns)


def read_effects(data: bytes) -> dict[str, dict[str, Any]]:
    """The inverse of `effects_bytes`."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    found: dict[str, dict[str, list[tuple[str, Any]]]] = {}
    for column in table.column_names:
        name, key, place = column.split("|")
        found.setdefault(name, {}).setdefault(key, []).append((place, table[column].to_numpy()))
    return {
        name: {
            key: parts[0][1] if parts[0][0] == "" else np.column_stack([x for _, x in parts])
            for key, parts in keys.items()
        }
        for name, keys in found.items()
    }


def read_draws(data: bytes) -> PopulationDraws:
    """The inverse of `draws_bytes`."""
    import numpy as np
    import pyarrow.parquet as pq

    from pkpd.model.variability import PopulationDraws

    found = pq.read_table(io.BytesIO(data))
    parts: dict[str, list[str]] = {"typical": [], "omega": [], "error": []}
    for name in found.column_names:
        parts[name.split(".", 1)[0]].append(name)
    columns = {kind: [found[name].to_numpy() for name in names] for kind, names in parts.items()}
    q, rows = math.isqrt(len(parts["omega"])), found.num_rows
    arrays = {kind: np.column_stack(part) if part else np.empty((rows, 0)) for kind, part in columns.items()}
    return PopulationDraws(
        names=tuple(name.removeprefix("typical.") for name in parts["typical"]), typical=arrays["typical"],
        eta_names=tuple(name.split(".")[1] for name in parts["omega"][::q]) if q else (),
        omega=np.ascontiguousarray(arrays["omega"].reshape(rows, q, q)),
        error_names=tuple(name.removeprefix("error.") for name in parts["error"]), error=arrays["error"],
    )  # fmt: skip


def add_counts(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of two blocks added, name by name.

    >>> add_counts({"status": {"0": 3}}, {"status": {"0": 2, "1": 1}})
    {'status': {'0': 5, '1': 1}}
    """
    total = dict(a)
    for name, value in b.items():
        deeper = isinstance(value, Mapping)
        total[name] = add_counts(total.get(name, {}), value) if deeper else total.get(name, 0) + value
    return total


def other_file(name: str) -> str:
    """Where a model besides the trial's own is kept."""
    return f"others/{name}.yaml"


def write_block(out: Path, block: Block, result: BlockResult) -> None:
    """Write a finished block; its JSON last. RunFailed (disk full ...) leaves no torn file."""
    stem = f"{block.number:05d}"
    for name, data in result.tables.items():
        store.write_atomic(out / "blocks" / f"{stem}.{name}.parquet", data)
    plain = {
        "block": [block.number, block.first, block.stop], "counts": result.counts, "outcomes": result.outcomes,
        "files": {name: digest.of_bytes(data) for name, data in result.tables.items()},
    }  # fmt: skip
    store.write_atomic(out / "blocks" / f"{stem}.json", (json.dumps(plain) + "\n").encode())


def finished(out: Path, block: Block) -> dict[str, Any] | None:
    """The JSON of a finished block whose files are all as they were written, else None."""
    stem = f"{block.number:05d}"
    try:
        plain: dict[str, Any] = json.loads((out / "blocks" / f"{stem}.json").read_text(encoding="utf-8"))
        same = plain["block"] == [block.number, block.first, block.stop]
        for name, expected in plain["files"].items():
            same = same and digest.of_bytes((out / "blocks" / f"{stem}.{name}.parquet").read_bytes()) == expected
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return plain if same else None


def table(out: Path, name: str, blocks: tuple[Block, ...]) -> pa.Table | None:
    """One table of all finished blocks in order of replicates, None where no block has it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [out / "blocks" / f"{block.number:05d}.{name}.parquet" for block in sorted(blocks, key=lambda b: b.first)]
    found = [pq.read_table(path, memory_map=False) for path in files if path.exists()]
    return pa.concat_tables(found) if found else None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run on disk, read lazily.

    `.manifest, .protocol, .model, .draws`; DataFrames `.outcomes` (replicate x subject), `.analyses`, `.curves`,
    `.truth`, `.looks`, `.decisions`; `.counts` (screening, failed solves); `.digest` of the canonical outcome table;
    `.sensitivity` {name: RunRecord}; `.median`, the run at the posterior median, or None.
    """

    directory: Path
    manifest: Manifest

    @classmethod
    def read(cls, directory: str | Path) -> RunRecord:
        """The record in a directory; InputError where there is none."""
        return cls(directory=Path(directory), manifest=read_manifest(Path(directory)))

    @cached_property
    def done(self) -> tuple[Block, ...]:
        """The finished blocks."""
        known = (b for b in self.manifest.blocks if (self.directory / "blocks" / f"{b.number:05d}.json").exists())
        return tuple(known)

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol as it was run (a sensitivity run's changes included)."""
        from pkpd.ground.validation import adapter
        from trials.protocol import Protocol

        found: Protocol = adapter(Protocol).validate_python(self.manifest.inputs["protocol"])
        return found

    @cached_property
    def model(self) -> Model:
        """The model as it was run."""
        from pkpd.model.spec import Model

        return Model.read(self.directory / "model.yaml")

    @cached_property
    def others(self) -> dict[str, Model]:
        """Models besides the trial's own, by name: those that guide doses (`tdm.ARM`), that foretell (`prognosis`)."""
        from pkpd.model.spec import Model

        return {name: Model.read(self.directory / other_file(name)) for name in self.manifest.inputs.get("others", {})}

    @cached_property
    def draws(self) -> PopulationDraws:
        """The draws of the population parameters that the replicates took theirs from."""
        return read_draws((self.directory / "draws.parquet").read_bytes())

    @cached_property
    def effects(self) -> dict[str, dict[str, Any]]:
        """Draws of what comedication and impairment do (`trials.modifiers`); empty where the protocol has none."""
        path = self.directory / "effects.parquet"
        return read_effects(path.read_bytes()) if path.exists() else {}

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Outcome table, sorted by replicate and subject."""
        return self._frame("outcomes")

    @cached_property
    def analyses(self) -> pd.DataFrame:
        """Analysis table: one row per replicate, analysis, endpoint and contrast."""
        return self._frame("analyses")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Kept curves: replicate, subject, arm, shown, time [h], and one column per solved output."""
        return self._frame("curves")

    @cached_property
    def truth(self) -> pd.DataFrame:
        """Potential outcomes: mean of each endpoint with every subject in that arm; one row per replicate."""
        return self._frame("truth")

    @cached_property
    def looks(self) -> pd.DataFrame:
        """Looks of a trial in calendar time: a row per replicate, look and contrast; empty without enrolment."""
        return self._frame("looks")

    @cached_property
    def courses(self) -> pd.DataFrame:
        """Events that come again, over the days of the trial (`trials.event_course`); empty without such events."""
        return self._frame("courses")

    @cached_property
    def chain(self) -> pd.DataFrame:
        """With and without comedication and impairment (`trials.worlds`); empty where the protocol has none."""
        return self._frame("chain")

    @cached_property
    def benefit(self) -> pd.DataFrame:
        """Effects of every arm in everybody (`trials.benefit`); empty where the protocol weighs nothing."""
        return self._frame("benefit")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Laboratory samples of the first replicates: replicate, subject, arm, test, day, value, grade."""
        return self._frame("samples")

    @cached_property
    def laboratory(self) -> pd.DataFrame:
        """What is expected of the same people under every arm (`trials.toxicity`); empty without laboratory tests."""
        return self._frame("laboratory")

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """The protocol's decisions: replicate, and one column of True or False for each."""
        from trials.endpoints import decide

        return decide(self.protocol, self.analyses)

    @cached_property
    def counts(self) -> dict[str, Any]:
        """Counts added over the finished blocks."""
        found: dict[str, Any] = {}
        for block in self.done:
            path = self.directory / "blocks" / f"{block.number:05d}.json"
            found = add_counts(found, json.loads(path.read_text(encoding="utf-8"))["counts"])
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical outcome table: sorted by replicate and subject, raw little-endian columns."""
        return digest.of_table(self.outcomes)

    @cached_property
    def sensitivity(self) -> dict[str, RunRecord]:
        """The sensitivity runs beside this one."""
        folder = self.directory / "sensitivity"
        names = sorted(p.name for p in folder.iterdir() if (p / "manifest.json").exists()) if folder.is_dir() else []
        return {name: RunRecord.read(folder / name) for name in names}

    @cached_property
    def median(self) -> RunRecord | None:
        """The run with every population parameter at its median draw, or None."""
        folder = self.directory / "median"
        return RunRecord.read(folder) if (folder / "manifest.json").exists() else None

    def _frame(self, name: str) -> pd.DataFrame:
        found = table(self.directory, name, self.done)
        if found is None:
            import pandas as pd

            if name == "outcomes":
                raise RunFailed(f"{self.directory}: no block has finished")
            return pd.DataFrame()
        frame: pd.DataFrame = found.to_pandas()
        return frame
