"""From a protocol to a run on disk: resolve model and posterior, plan the blocks, dispatch them, write what comes back.

A run has variants that share its workers: `main`, `median` (every population parameter at its median draw: power) and
`sensitivity/NAME`. Each has its own directory, manifest and run key. Only this process writes.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pkpd.ground import digest, store, text
from pkpd.ground.errors import InputError, RunFailed, RunPartial
from trials import modifiers, record
from trials.block import Item, simulate_item
from trials.dispatch import Mode, run_blocks
from trials.protocol import Protocol
from trials.record import Block, BlockResult, Manifest, RunRecord
from trials.setting import Payload

if TYPE_CHECKING:
    from pkpd.model.spec import Model
    from pkpd.model.variability import PopulationDraws

__all__ = ["Plan", "Prepared", "Progress", "Variant", "data_file", "fit_model", "plan", "prepare", "run"]

GENERATOR: Final = "vtrial trial/1"  # changes whenever the same payload would give other numbers
MAIN: Final = "main"
SUBJECTS_PER_BLOCK: Final = 2400
SECONDS_PER_COURSE: Final = 8e-5  # of one core: a subject of the demo followed in one more arm
SECONDS_PER_SUBJECT: Final = 2.5e-4  # of one core, demo protocol with 20 imputations; for the plan only


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of the simulations of a run: its payload, the model's text as written, and what its key hashes.

    other_texts: of the models besides its own, by name.
    """

    payload: Payload
    model_text: str
    inputs: dict[str, Any]
    other_texts: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The run key."""
        return self.payload.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A protocol resolved: variants by name (`main` first), the protocol's text, diagnostics of the fit if any.

    evidence: files about the fit that the run keeps for its report, by name (posterior, data, checks).
    """

    protocol: Protocol
    source: str
    variants: dict[str, Variant]
    diagnostics: dict[str, Any] | None
    evidence: dict[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The run key of the main variant."""
        return self.variants[MAIN].key

    @property
    def draws(self) -> PopulationDraws:
        """The draws of the population parameters of the main variant."""
        return self.variants[MAIN].payload.draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; `rate` in replicates per second, `eta` in seconds, NaN until a block is done."""

    run: str
    blocks_done: int
    blocks: int
    replicates_done: int
    replicates: int
    seconds: float
    rate: float
    eta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, before it does it. memory: GB on disk and in one worker; seconds: of one core, a guess."""

    runs: dict[str, tuple[Block, ...]]
    subjects: int
    memory: float
    seconds: float


def prepare(
    path: str | Path, *, replicates: int | None = None, unsound: bool = False, seed: int | None = None,
    beside: Callable[[Protocol], Mapping[str, Protocol]] | None = None,
) -> Prepared:  # fmt: skip
    """Read a protocol with every check, fit or load what it takes its parameters from, make the payloads.

    unsound: use a fit although it broke its limits; replicates, seed: instead of the text's; beside: {name: protocol}
    simulated beside it, instead of its sensitivity runs.

    Errors: InputError. Sampling happens here, in this process, and never on workers.
    """
    path = Path(path)
    source = text.read_text(path)
    protocol = Protocol.parse(source, file=str(path))
    if replicates is not None:
        if replicates < 1:
            raise InputError("must be >= 1", field="replicates", value=replicates)
        protocol = dataclasses.replace(protocol, replicates=replicates)
    if seed is not None:
        protocol = dataclasses.replace(protocol, seed=seed)
    posterior, fit_inputs, diagnostics, evidence = _posterior(protocol, path.parent, unsound=unsound)
    made = _Maker(protocol, path.parent, posterior, fit_inputs)
    variants = {MAIN: made.variant(protocol)}
    if len(variants[MAIN].payload.draws.typical) > 1:
        variants["median"] = made.variant(_bare(protocol), median=True)
    runs = {f"sensitivity/{name}": protocol.varied(change) for name, change in protocol.sensitivity.items()}
    for name, other in (runs if beside is None else beside(protocol)).items():
        variants[name] = made.variant(_bare(other, weigh=beside is None))
    return Prepared(
        protocol=protocol, source=source, variants=variants, diagnostics=diagnostics, evidence=evidence
    )  # fmt: skip


def _bare(protocol: Protocol, *, weigh: bool = False) -> Protocol:
    """The protocol of a side run: no curves, no truth table, no side runs of its own; weighed or not."""
    from trials.protocol import Keep, Truth

    plan = protocol.benefit_risk if weigh else None
    return dataclasses.replace(
        protocol, keep=Keep(curves=0), truth=Truth(replicates=0), sensitivity={}, benefit_risk=plan
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the variants of one protocol file."""

    main: Protocol
    folder: Path
    posterior: Any
    fit_inputs: dict[str, Any] | None

    def variant(self, protocol: Protocol, *, median: bool = False) -> Variant:
        """The variant of a (changed) protocol, at all draws or at their median."""
        from pkpd import posterior as posteriors
        from pkpd.model.spec import Model

        model_text = text.read_text(self.folder / protocol.model.file)
        model = Model.parse(model_text, str(self.folder / protocol.model.file))
        draws = self._draws(protocol, model)
        draws = posteriors.median(draws) if median else draws
        inputs = {
            "generator": GENERATOR, "package": record.versions()["vtrial"], "source": record.versions()["source"],
            "protocol": protocol.to_dict(),
            "model": model.digest, "draws": posteriors.draws_digest(draws),
            "law": protocol.population.people().digest, "fit": self.fit_inputs,
        }  # fmt: skip
        texts = {name: text.read_text(self.folder / file) for name, file in protocol.other_models.items()}
        others = {name: Model.parse(words, protocol.other_models[name]) for name, words in texts.items()}
        if others:
            inputs["others"] = {name: other.digest for name, other in others.items()}
        plain = {name: other.to_dict() for name, other in others.items()}
        effects = modifiers.drawn(protocol, median=median)
        if effects:
            inputs["effects"] = {
                name: digest.of_json({k: x.tolist() for k, x in e.items()}) for name, e in effects.items()
            }
        payload = Payload(
            key=digest.of_json(inputs), protocol=protocol, model=model.to_dict(), draws=draws, others=plain,
            effects=effects,
        )  # fmt: skip
        return Variant(payload=payload, model_text=model_text, inputs=inputs, other_texts=texts)

    def _draws(self, protocol: Protocol, model: Model) -> PopulationDraws:
        from pkpd import posterior as posteriors
        from pkpd.model.variability import published

        choice = protocol.model
        if choice.parameters is None:
            return published(model, choice.draws, protocol.seed)
        return posteriors.combine(model, self.posterior, choice.parameters.take, draws=choice.draws, seed=protocol.seed)


def _posterior(
    protocol: Protocol, folder: Path, *, unsound: bool
) -> tuple[Any, dict[str, Any] | None, dict[str, Any] | None, dict[str, bytes]]:
    """(posterior, what decides it, diagnostics, files) of the fit a protocol takes values from; the door to pymc."""
    choice = protocol.model.parameters
    if choice is None:
        return None, None, None, {}
    from pkpd import posterior as posteriors
    from pkpd.bayes import fit
    from pkpd.bayes.checks import checked
    from pkpd.model.records import Records

    model, data = fit_model(choice.fit, folder), data_file(choice.data, folder)
    records = Records.read(data, model)
    found = fit(model, records, seed=protocol.seed)
    posteriors.require_sound(found.posterior, force=unsound)
    checks = json.dumps(checked(found, records, seed=protocol.seed, refits=0).to_dict(), allow_nan=False)
    inputs = {"model": model.digest, "data": digest.of_bytes(data.read_bytes()), "posterior": found.posterior.digest}
    evidence = {"posterior.parquet": posteriors.to_bytes(found.posterior), "data.csv": data.read_bytes()}
    evidence["checks.json"] = checks.encode()
    return found.posterior, inputs, dict(found.diagnostics), evidence


def fit_model(name: str, folder: Path) -> Model:
    """The model called `name` in the library, or the model text of that file name beside the protocol."""
    from pkpd.model import library
    from pkpd.model.spec import Model

    beside = folder / name
    return Model.read(beside) if beside.suffix in (".yaml", ".yml") else library.load(name)


def data_file(name: str, folder: Path) -> Path:
    """The data file called `name` beside the protocol, else in the library."""
    from pkpd.model import library

    beside = folder / name
    return beside if beside.is_file() else library.data_path(name)


def plan(protocol: Protocol, *, block_size: int | None = None) -> Plan:
    """The blocks of every variant of a protocol, with a guess of what they cost; nothing is fitted or drawn."""
    if block_size is not None and block_size < 1:
        raise InputError("must be >= 1", field="block_size", value=block_size, remedy="leave it out")
    protocols = {MAIN: protocol}
    if protocol.model.draws > 1:
        protocols["median"] = _bare(protocol)
    for name, change in protocol.sensitivity.items():
        protocols[f"sensitivity/{name}"] = _bare(protocol.varied(change), weigh=True)
    runs = {name: blocks_of(each, block_size) for name, each in protocols.items()}
    subjects = sum(each.replicates * each.subjects for each in protocols.values())
    columns = 60 + 4 * len(protocol.visits)
    seconds = subjects * SECONDS_PER_SUBJECT + sum(map(_followed, protocols.values())) * SECONDS_PER_COURSE
    return Plan(runs=runs, subjects=subjects, memory=subjects * columns * 8 / 1e9, seconds=seconds)


def _followed(protocol: Protocol) -> int:
    """Courses of subjects in every arm that `benefit_risk` asks for."""
    plan = protocol.benefit_risk
    if plan is None:
        return 0
    replicates = protocol.replicates if plan.replicates is None else min(plan.replicates, protocol.replicates)
    return replicates * protocol.subjects * len(plan.compared(protocol.arms))


def blocks_of(protocol: Protocol, size: int | None = None) -> tuple[Block, ...]:
    """The replicates of a protocol cut into blocks of `size`, by default about a second of one core each."""
    size = size or max(1, SUBJECTS_PER_BLOCK // protocol.subjects)
    starts = range(0, protocol.replicates, size)
    ends = [min(start + size, protocol.replicates) for start in starts]
    return tuple(Block(number=n, first=a, stop=b) for n, (a, b) in enumerate(zip(starts, ends, strict=True)))


def run(
    path: str | Path,
    out: str | Path,
    *,
    mode: Mode | None = None,
    resume: bool = False,
    block_size: int | None = None,
    replicates: int | None = None,
    unsound: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    command: str = "",
) -> RunRecord:
    """Run a protocol into directory `out`; finished blocks are on disk whatever happens next.

    resume: go on with the run that `out` holds, if its key is the same; unsound: use a fit that broke its limits.
    Errors: InputError (bad input, another run in `out`), RunFailed (disk full ...), RunPartial (some blocks lost, all
    else written), KeyboardInterrupt (Ctrl-C).
    """
    out = Path(out)
    if not resume and (out / "manifest.json").exists():
        remedy = "--resume to go on with it, --force to replace it, or another --out"
        raise InputError("holds a run already", file=out, field="out", remedy=remedy)
    prepared = prepare(path, replicates=replicates, unsound=unsound)
    return execute(prepared, out, mode=mode or Mode(), resume=resume, block_size=block_size,
                   on_progress=on_progress or (lambda _: None), command=command)  # fmt: skip


def execute(
    prepared: Prepared,
    out: Path,
    *,
    mode: Mode,
    resume: bool,
    block_size: int | None,
    on_progress: Callable[[Progress], None],
    command: str,
) -> RunRecord:
    """Run what is prepared; see `run`."""
    if block_size is not None and block_size < 1:
        raise InputError("must be >= 1", field="block_size", value=block_size)
    ledger = _Ledger(out, _manifests(prepared, out, resume, (block_size, command)), on_progress)
    todo = ledger.unfinished()
    payloads = {name: variant.payload for name, variant in prepared.variants.items()}
    try:
        run_blocks(simulate_item, payloads, todo, mode=mode, on_done=ledger.done, on_failed=ledger.failed,
                   versions=record.versions)  # fmt: skip
    except KeyboardInterrupt:
        ledger.close("interrupted")
        raise
    except RunFailed as error:
        ledger.close("interrupted")
        message = f"{error}. Finished blocks are kept in {out}; the same command with --resume goes on"
        raise RunFailed(message) from error
    return ledger.ended()


def _manifests(prepared: Prepared, out: Path, resume: bool, how: tuple[int | None, str]) -> dict[str, Manifest]:
    """The manifest of each variant: found where there is one, else written, with texts and draws, before any block."""
    found: dict[str, Manifest] = {}
    for name, variant in prepared.variants.items():
        folder = directory(out, name)
        if resume and ((folder / "manifest.json").exists() or name == MAIN):
            found[name] = _resumed(folder, variant)
            continue
        found[name] = Manifest(
            key=variant.key, name=variant.payload.protocol.name, state="running", inputs=variant.inputs,
            blocks=blocks_of(variant.payload.protocol, how[0]), failed={}, versions=record.versions(), command=how[1],
            diagnostics=prepared.diagnostics if name == MAIN else None,
        )  # fmt: skip
        store.write_atomic(folder / "protocol.yaml", prepared.source.encode())
        store.write_atomic(folder / "model.yaml", variant.model_text.encode())
        for other, words in variant.other_texts.items():
            store.write_atomic(folder / record.other_file(other), words.encode())
        store.write_atomic(folder / "draws.parquet", record.draws_bytes(variant.payload.draws))
        if variant.payload.effects:
            store.write_atomic(folder / "effects.parquet", record.effects_bytes(variant.payload.effects))
        for file, data in prepared.evidence.items() if name == MAIN else ():
            store.write_atomic(folder / file, data)
        found[name].write(folder)
    return found


def _resumed(folder: Path, variant: Variant) -> Manifest:
    manifest = record.read_manifest(folder)
    if manifest.key != variant.key:
        changed = [name for name, value in variant.inputs.items() if manifest.inputs.get(name) != value]
        problem = f"holds another run ({', '.join(changed) or 'key'} changed)"
        remedy = "run the protocol, model and data it was begun with, replace it by --force, or give another --out"
        raise InputError(problem, file=folder, field="resume", value=manifest.key[:16], remedy=remedy)
    return dataclasses.replace(manifest, state="running", failed={})


def directory(out: Path, name: str) -> Path:
    """Where a variant is written."""
    return out if name == MAIN else out / name


class _Ledger:
    """What is done and what is not; writes blocks as they come, manifests when they change."""

    def __init__(self, out: Path, manifests: dict[str, Manifest], tell: Callable[[Progress], None]) -> None:
        self.out, self.manifests, self.tell = out, manifests, tell
        self.begun, self.fresh = time.monotonic(), 0
        self.left: dict[str, set[Block]] = {}

    def unfinished(self) -> list[Item]:
        """Blocks to simulate, main first; a finished block is skipped if its files are as they were written."""
        for name, manifest in self.manifests.items():
            folder = directory(self.out, name)
            self.left[name] = {block for block in manifest.blocks if record.finished(folder, block) is None}
            if not self.left[name]:
                self._finish(name)
        return [(name, block) for name, m in self.manifests.items() for block in m.blocks if block in self.left[name]]

    def done(self, item: Item, result: BlockResult) -> None:
        """Write a finished block."""
        name, block = item
        record.write_block(directory(self.out, name), block, result)
        self.left[name].discard(block)
        self.fresh += block.stop - block.first
        if not self.left[name]:
            self._finish(name)
        self.tell(self._progress(name))

    def failed(self, item: Item, reason: str) -> None:
        """Note a block that is lost."""
        name, block = item
        manifest = self.manifests[name]
        self._write(name, failed={**manifest.failed, str(block.number): reason})

    def _finish(self, name: str) -> None:
        folder = directory(self.out, name)
        self._write(name, state="finished", digest=RunRecord(directory=folder, manifest=self.manifests[name]).digest)

    def _write(self, name: str, **changes: Any) -> None:
        self.manifests[name] = dataclasses.replace(self.manifests[name], **changes)
        self.manifests[name].write(directory(self.out, name))

    def close(self, state: str) -> None:
        """Say in the manifests that the run ended before its end; a full disk must not hide the first error."""
        for name, left in self.left.items():
            if left:
                try:
                    self._write(name, state=state)
                except RunFailed:
                    return

    def ended(self) -> RunRecord:
        """The finished record, or RunPartial naming the blocks that are missing."""
        lost = {name: m.failed for name, m in self.manifests.items() if self.left[name]}
        if not lost:
            return RunRecord.read(self.out)
        self.close("partial")
        count = sum(len(failed) for failed in lost.values())
        first = next(iter(next(iter(lost.values())).values()), "not finished")
        raise RunPartial(f"{count} blocks are missing ({first}); the rest is in {self.out}; --resume tries them again")

    def _progress(self, name: str) -> Progress:
        blocks = sum(len(m.blocks) for m in self.manifests.values())
        left = [block for waiting in self.left.values() for block in waiting]
        replicates = sum(m.blocks[-1].stop for m in self.manifests.values())
        waiting = sum(block.stop - block.first for block in left)
        seconds = time.monotonic() - self.begun
        rate = self.fresh / seconds if seconds > 0 else float("nan")
        return Progress(
            run=name, blocks_done=blocks - len(left), blocks=blocks, replicates_done=replicates - waiting,
            replicates=replicates, seconds=seconds, rate=rate, eta=waiting / rate if rate > 0 else float("nan"),
        )  # fmt: skip


def payloads_of(run_record: RunRecord) -> Mapping[str, Payload]:
    """The payload of a run on disk, for running its blocks again."""
    inputs: Mapping[str, Any] = run_record.manifest.inputs
    payload = Payload(
        key=digest.of_json(inputs), protocol=run_record.protocol, model=run_record.model.to_dict(),
        draws=run_record.draws, others={name: model.to_dict() for name, model in run_record.others.items()},
        effects=run_record.effects,
    )  # fmt: skip
    return {MAIN: payload}


def items(blocks: Sequence[Block]) -> list[Item]:
    """Blocks of the main variant as items of `simulate_item`."""
    return [(MAIN, block) for block in blocks]
