"""The command `vtrial`: a list of commands. Each one's work is in `reports.desk`, loaded only when it is called."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "main"]

ABOUT = """Virtual clinical trials: Bayesian PK/PD models, virtual patients, trial designs, one report.

Start with: vtrial demo
"""
app = typer.Typer(
    name="vtrial", help=ABOUT, no_args_is_help=True, add_completion=False,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
library = typer.Typer(help="The models of the library.", rich_markup_mode=None, invoke_without_command=True)
app.add_typer(library, name="models")

Protocol = Annotated[Path, typer.Argument(metavar="PROTOCOL", help="Protocol file (YAML).")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a run.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the run and its report are written.")]
Machine = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout, for machines.")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Spread the blocks over N processes of this machine.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDR", help="Spread the blocks over a Dask cluster.")]
Serial = Annotated[bool, typer.Option("--serial", help="One block after the other, without Dask.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Allow plain TCP to a scheduler on another machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same protocol.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the run that DIR holds.")]
BlockSize = Annotated[int | None, typer.Option(metavar="N", help="Replicates a block; results do not depend on it.")]


class Text(StrEnum):
    """The texts a user writes."""

    MODEL = "model"
    PROTOCOL = "protocol"
    DESIGN = "design"
    SCENARIOS = "scenarios"
    SBC = "sbc"
    SURVEILLANCE = "surveillance"


class Truncation(StrEnum):
    """How pairs that no report names enter the fit of `signals`."""

    COMPONENT = "component"
    JOINT = "joint"
    NONE = "none"


class Freedom(StrEnum):
    """Degrees of freedom of `qt`."""

    KENWARD_ROGER = "kenward_roger"
    SATTERTHWAITE = "satterthwaite"
    CONTAINMENT = "containment"
    NORMAL = "normal"


class Kind(StrEnum):
    """Which events `ae` counts."""

    ALL = "all"
    SERIOUS = "serious"
    RELATED = "related"


class Hierarchy(StrEnum):
    """The Bayesian model of `ae`."""

    BB = "BB"
    PLAIN = "1a"
    NONE = "none"


def guarded[**P](command: Callable[P, int]) -> Callable[P, None]:
    """The command with every error turned into one message and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from reports.desk.guard import exit_code

        out, machine = kwargs.get("out", kwargs.get("directory")), bool(kwargs.get("machine", False))
        call = functools.partial(command, *args, **kwargs)
        raise typer.Exit(exit_code(call, out=out if isinstance(out, Path) else None, machine=machine))

    return run


@app.command()
@guarded
def demo(
    *,
    out: Out = Path("out"),
    workers: Workers = None,
    scheduler: Scheduler = None,
    serial: Serial = False,
    insecure: Insecure = False,
    resume: Resume = False,
    force: Force = False,
    block_size: BlockSize = None,
    machine: Machine = False,
) -> int:
    """Run the demonstration trial (theophylline in chronic airways obstruction) and write its report."""
    from reports.desk import trial

    place = trial.Place(workers=workers, scheduler=scheduler, serial=serial, insecure=insecure)
    return trial.demo(
        trial.Order(out=out, place=place, resume=resume, force=force, block_size=block_size, machine=machine)
    )


@app.command()
@guarded
def run(
    protocol: Protocol,
    *,
    out: Out = Path("out"),
    workers: Workers = None,
    scheduler: Scheduler = None,
    serial: Serial = False,
    insecure: Insecure = False,
    resume: Resume = False,
    force: Force = False,
    unsound: Annotated[bool, typer.Option("--unsound-fit", help="Use a fit that broke its limits.")] = False,
    block_size: BlockSize = None,
    machine: Machine = False,
) -> int:
    """Simulate the trial of a protocol and write its report."""
    from reports.desk import trial

    place = trial.Place(workers=workers, scheduler=scheduler, serial=serial, insecure=insecure)
    order = trial.Order(
        out=out, place=place, resume=resume, force=force, block_size=block_size, machine=machine, unsound=unsound
    )
    return trial.run(protocol, order)


@app.command()
@guarded
def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Protocol, model (YAML), data (CSV), or a model of the library.")
    ],
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Only the text: a model is not solved.")] = False,
    machine: Machine = False,
) -> int:
    """Read a protocol, model or data file and say what is wrong with it; a sound model is also examined."""
    from reports.desk import texts

    return texts.check(file, quick=quick, machine=machine)


@app.command()
@guarded
def plan(protocol: Protocol, *, block_size: BlockSize = None, machine: Machine = False) -> int:
    """Show subjects, blocks, memory, time and every default of a protocol (or of a surveillance); nothing is run."""
    from reports.desk import plan, surveillance
    from reports.desk.compare_texts import kind_of

    if kind_of(protocol) == "surveillance":
        return surveillance.planned(protocol, machine=machine)

    return plan.plan(protocol, block_size=block_size, machine=machine)


@app.command()
@guarded
def design(
    file: Annotated[Path, typer.Argument(metavar="DESIGN", help="Design file (YAML), for example examples/designs.")],
    *,
    simulate: Annotated[bool, typer.Option("--simulate", help="Also simulate the truths the text states.")] = False,
    replicates: Annotated[int | None, typer.Option(metavar="N", min=1, help="Simulate N trials a truth.")] = None,
    machine: Machine = False,
) -> int:
    """Solve a trial design: boundaries, sample size, expected size and duration; nothing is simulated unless asked."""
    from reports.desk import design as desk

    return desk.design(file, simulate=simulate, replicates=replicates, machine=machine)


@app.command()
@guarded
def fit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model file (YAML), or a name of the library.")],
    *,
    data: Annotated[str, typer.Option(metavar="CSV", help="Data file, or a name of the library.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the posterior here.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the sampler.")] = 20261121,
    draws: Annotated[int, typer.Option(metavar="N", min=1, help="Draws a chain.")] = 2000,
    tune: Annotated[int, typer.Option(metavar="N", min=1, help="Tuning steps a chain.")] = 1000,
    chains: Annotated[int, typer.Option(metavar="N", min=1, help="Chains.")] = 4,
    fresh: Annotated[bool, typer.Option("--fresh", help="Sample again although the same fit is stored.")] = False,
    blq: Annotated[str, typer.Option(metavar="M", help="Values beyond a limit: m3, m4 or discard.")] = "m3",
    method: Annotated[
        str, typer.Option(metavar="M", help="nuts; smc (several modes); laplace or pathfinder: a quick look, no fit.")
    ] = "nuts",
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write fit.html and fit.json here.")
    ] = None,
    checks: Annotated[bool, typer.Option("--checks/--no-checks", help="Check the fit on its data.")] = True,
    machine: Machine = False,
) -> int:
    """Fit a model to data: posterior summaries, diagnostics, checks on the data."""
    from reports.desk import model as desk

    return desk.fit(
        model, data,
        desk.Sampling(seed=seed, draws=draws, tune=tune, chains=chains, fresh=fresh, blq=blq, method=method),
        desk.Answer(out=out, report=report, checks=checks, machine=machine),
    )  # fmt: skip


@app.command()
@guarded
def compare(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE ...", help="Designs or protocols (YAML), or fits (vtrial fit --out).")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where page and numbers go.")] = Path("out"),
    scenarios: Annotated[Path | None, typer.Option(metavar="FILE", help="Scenarios (YAML) for all designs.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed, instead of the texts'.")] = None,
    replicates: Annotated[int | None, typer.Option(metavar="N", min=2, help="Trials a scenario.")] = None,
    mcse: Annotated[
        float | None, typer.Option(metavar="X", min=1e-4, max=0.5, help="Trials until P(reject) has this error.")
    ] = None,
    null: Annotated[
        bool, typer.Option("--null", help="Protocols: also with the control's doses in every arm.")
    ] = False,
    workers: Workers = None,
    serial: Serial = False,
    force: Force = False,
    machine: Machine = False,
) -> int:
    """Compare designs or protocols on the same virtual patients, or fits of the same data."""
    from reports.desk import compare as fits
    from reports.desk import compare_texts as texts
    from reports.desk.trial import Place

    if files[0].suffix.lower() not in (".yaml", ".yml"):
        return fits.compare(files, machine=machine)
    return texts.compare(texts.Order(
        files=tuple(files), out=out, place=Place(workers=workers, serial=serial), scenarios=scenarios, seed=seed,
        replicates=replicates, mcse=mcse, null=null, force=force, machine=machine,
    ))  # fmt: skip


@app.command()
@guarded
def sbc(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model file (YAML), or a name of the library.")],
    design: Annotated[Path, typer.Argument(metavar="DESIGN", help="Design of the study (YAML).")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where fits, answer and page go.")] = Path("out"),
    fits: Annotated[int | None, typer.Option(metavar="N", min=1, help="Fits, instead of the design's.")] = None,
    cores: Annotated[int, typer.Option(metavar="N", min=1, help="Chains at a time.")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study that DIR holds.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the study that DIR holds.")] = False,
    machine: Machine = False,
) -> int:
    """Calibrate the fit of a model: draw from its priors, simulate, fit, rank the truth, many times."""
    from reports.desk import sbc as desk

    return desk.sbc(desk.Order(
        model=model, design=design, out=out, fits=fits, cores=cores, resume=resume, force=force, machine=machine,
    ))  # fmt: skip


@app.command()
@guarded
def simulate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model file (YAML), or a name of the library.")],
    *,
    events: Annotated[Path, typer.Option("--events", metavar="CSV", help="Doses and observations, NONMEM style.")],
    out: Annotated[Path, typer.Option("--out", metavar="CSV", help="Where the table ID, TIME, outputs is written.")],
    parameters: Annotated[Path | None, typer.Option(metavar="CSV", help="One line of parameters an ID.")] = None,
    draws: Annotated[int | None, typer.Option(metavar="N", min=1, help="Draw every ID N times from the model.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the draws.")] = 20261121,
    rtol: Annotated[float | None, typer.Option(metavar="X", help="Relative tolerance of the solver.")] = None,
    atol: Annotated[float | None, typer.Option(metavar="X", help="Absolute tolerance of the solver.")] = None,
    max_steps: Annotated[int | None, typer.Option(metavar="N", min=1, help="Steps a subject may take.")] = None,
    machine: Machine = False,
) -> int:
    """Solve a model for subjects with given parameters, doses and observation times."""
    from reports.desk import simulate as desk

    return desk.simulate(
        model, desk.Order(
            parameters=parameters, events=events, out=out, draws=draws, seed=seed, rtol=rtol, atol=atol,
            max_steps=max_steps, machine=machine,
        ),
    )  # fmt: skip


@app.command()
@guarded
def twin(
    data: Annotated[Path, typer.Argument(metavar="PATIENT", help="One patient: CSV, NONMEM style, or a FHIR bundle.")],
    *,
    model: Annotated[str, typer.Option(metavar="MODEL", help="Model file (YAML), or a name of the library.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where twin.html and twin.json go.")] = Path("out"),
    posterior: Annotated[Path | None, typer.Option(metavar="FILE", help="Fit to take the population from.")] = None,
    target: Annotated[str | None, typer.Option(metavar="TEXT", help='For example "AUC24 400..600".')] = None,
    toxic: Annotated[str | None, typer.Option(metavar="TEXT", help='What does harm: "AUC24 > 650".')] = None,
    doses: Annotated[str | None, typer.Option(metavar="LIST", help="Amounts to compare: 500,750,1000.")] = None,
    every: Annotated[str | None, typer.Option(metavar="LIST", help="Intervals to compare, h: 8,12,24.")] = None,
    infusion: Annotated[float | None, typer.Option(metavar="H", min=0, help="Length of an infusion, h.")] = None,
    start: Annotated[float | None, typer.Option(metavar="H", min=0, help="When the new regimen begins, h.")] = None,
    horizon: Annotated[float, typer.Option(metavar="H", min=0.1, help="How long it is followed, h.")] = 72.0,
    penalty: Annotated[float, typer.Option(metavar="X", min=0, help="Weight of harm against the target.")] = 1.0,
    name: Annotated[str | None, typer.Option("--id", metavar="ID", help="Which patient of the file.")] = None,
    drug: Annotated[str, typer.Option(metavar="WORD", help="Name of the drug in a FHIR bundle.")] = "",
    particles: Annotated[int, typer.Option(metavar="N", min=100, help="Draws of the patient's posterior.")] = 2000,
    draws: Annotated[int, typer.Option(metavar="N", min=1, help="Draws of published population values.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the draws.")] = 20261121,
    stream: Annotated[
        bool, typer.Option("--stream", help="Then read further lines from stdin, update by each.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Use a fit that broke its limits.")] = False,
    machine: Machine = False,
) -> int:
    """Follow one patient: posterior from doses and levels, forecast, the dose that reaches a target."""
    from reports.desk import twin as desk

    order = desk.Order(
        data=data, model=model, out=out, posterior=posterior, id=name, drug=drug, particles=particles, draws=draws,
        seed=seed, stream=stream, force=force, machine=machine,
    )  # fmt: skip
    return desk.twin(order, desk.Aim(
        target=target, toxic=toxic, amounts=doses, intervals=every, infusion=infusion, start=start, horizon=horizon,
        penalty=penalty,
    ))  # fmt: skip


@app.command()
@guarded
def qt(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="CSV: subject, treatment, time, conc, QT and RR.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where page and numbers are written.")] = Path(
        "out"
    ),
    placebo: Annotated[str, typer.Option(metavar="NAME", help="The treatment that is placebo.")] = "placebo",
    positive: Annotated[str | None, typer.Option(metavar="NAME", help="The drug that is the positive control.")] = None,
    column: Annotated[list[str] | None, typer.Option(metavar="KEY=NAME", help="Name of a column; repeatable.")] = None,
    at: Annotated[list[str] | None, typer.Option(metavar="DRUG=CONC", help="Decide there, not at Cmax.")] = None,
    herg: Annotated[
        list[str] | None, typer.Option(metavar="DRUG=IC50[,LOW,HIGH]", help="hERG block, in the concentrations' unit.")
    ] = None,
    unbound: Annotated[list[str] | None, typer.Option(metavar="DRUG=FU", help="Share unbound in plasma.")] = None,
    df: Annotated[Freedom, typer.Option(help="Standard errors and degrees of freedom.")] = Freedom.KENWARD_ROGER,
    flat: Annotated[bool, typer.Option("--flat-priors", help="Flat priors in the Bayesian version.")] = False,
    draws: Annotated[int, typer.Option(metavar="N", min=400, help="Draws of the posterior.")] = 4000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of draws and resamples.")] = 20261121,
    machine: Machine = False,
) -> int:
    """Concentration-QTc analysis: model, ICH E14 decision, hysteresis, heart rate, outliers, hERG margin."""
    from reports.desk import qt as desk

    return desk.qt(desk.Order(
        file=data, out=out, placebo=placebo, positive=positive, columns=tuple(column or ()), at=tuple(at or ()),
        herg=tuple(herg or ()), unbound=tuple(unbound or ()), df=df.value, flat=flat, draws=draws, seed=seed,
        machine=machine,
    ))  # fmt: skip


@app.command()
@guarded
def signals(
    reports: Annotated[Path, typer.Argument(metavar="REPORTS", help="CSV: a line names report, product and event.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where table and page are written.")] = Path("out"),
    report: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the report's number.")] = "report_id",
    product: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the product.")] = "product",
    event: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the event.")] = "event",
    strata: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Stratify by it; may be repeated.")] = None,
    theta: Annotated[str | None, typer.Option(metavar="LIST", help="alpha1,beta1,alpha2,beta2,p: not fitted.")] = None,
    truncation: Annotated[Truncation, typer.Option(help="How the prior's fit treats pairs without reports.")] = (
        Truncation.COMPONENT
    ),
    top: Annotated[int, typer.Option(metavar="N", min=1, max=5000, help="Pairs on the page.")] = 100,
    test: Annotated[int | None, typer.Option(metavar="N", min=19, help="Test likelihood ratios by N draws.")] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the draws.")] = 20261121,
    together: Annotated[bool, typer.Option("--together", help="Also two products with an event (omega).")] = False,
    full_bayes: Annotated[
        bool, typer.Option("--full-bayes", help="Also EBGM over the posterior of its prior.")
    ] = False,
    machine: Machine = False,
) -> int:
    """Rank products and events of spontaneous reports by disproportionality: EBGM, IC, PRR, ROR."""
    from reports.desk import signals as desk

    return desk.signals(desk.Order(
        file=reports, out=out, report=report, product=product, event=event, strata=tuple(strata or ()), theta=theta,
        truncation=truncation.value, top=top, machine=machine, test=test, seed=seed, together=together,
        full_bayes=full_bayes,
    ))  # fmt: skip


@app.command()
@guarded
def surveillance(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Surveillance (YAML), as examples/surveillance.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where page and numbers go.")] = Path("out"),
    run: Annotated[
        list[str] | None, typer.Option("--run", metavar="NAME=DIR", help="Where a run of the plan is.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed, instead of the text's.")] = None,
    draws: Annotated[int | None, typer.Option(metavar="N", min=1, help="Possible truths.")] = None,
    replicates: Annotated[int | None, typer.Option(metavar="N", min=2, help="Markets of each truth.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    insecure: Insecure = False,
    machine: Machine = False,
) -> int:
    """Simulate surveillance after approval: P(signal) by month, time to it, people harmed until then, false alarms."""
    from reports.desk import surveillance as desk
    from reports.desk.trial import Place

    here = workers is None and scheduler is None  # seconds: not worth a cluster unless one is asked for
    place = Place(workers=workers, scheduler=scheduler, serial=here, insecure=insecure)
    return desk.surveillance(desk.Order(
        file=plan, out=out, place=place, runs=tuple(run or ()), seed=seed, draws=draws, replicates=replicates,
        machine=machine,
    ))  # fmt: skip


@app.command()
@guarded
def ddi(
    drugs: Annotated[
        Path | None, typer.Argument(metavar="[DRUGS]", help="Question (YAML); without it the whole library.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where table and page are written.")] = Path("out"),
    top: Annotated[int, typer.Option(metavar="N", min=1, max=5000, help="Pairs in the page's table.")] = 60,
    against: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Compare with observed ratios instead (docs/interactions.md).")
    ] = None,
    machine: Machine = False,
) -> int:
    """Predict drug interactions: AUC and Cmax ratios of all pairs by dose and genotype, with intervals."""
    from reports.desk import ddi as desk

    return desk.ddi(desk.Order(file=drugs, out=out, top=top, machine=machine, against=against))


@app.command()
@guarded
def ae(
    events: Annotated[Path, typer.Argument(metavar="EVENTS", help="CSV: a line an event (ADaM: ADAE).")],
    *,
    subjects: Annotated[Path, typer.Option("--subjects", metavar="CSV", help="A line a treated subject (ADaM: ADSL).")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where table and page are written.")] = Path("out"),
    control: Annotated[str | None, typer.Option(metavar="ARM", help="Compared with; else the placebo arm.")] = None,
    only: Annotated[Kind, typer.Option(help="Which events.")] = Kind.ALL,
    least_grade: Annotated[int, typer.Option(metavar="G", min=1, max=5, help="Events of this grade or more.")] = 1,
    model: Annotated[Hierarchy, typer.Option(help="Hierarchical model; 1a: without point mass.")] = Hierarchy.BB,
    column: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=NAME", help="Name of a column, as arm=TRT01P; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, max=2000, help="Terms in the page's tables.")] = 50,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the model's draws.")] = 20261122,
    machine: Machine = False,
) -> int:
    """Tabulate the adverse events of a trial: risks, rates, differences, what stands out, a hierarchical model."""
    from reports.desk import ae as desk

    return desk.ae(desk.Order(
        events=events, subjects=subjects, out=out, control=control, only=only.value, least_grade=least_grade,
        model=model.value, top=top, seed=seed, machine=machine, names=desk.named(column or ()),
    ))  # fmt: skip


@app.command()
@guarded
def report(directory: Directory, *, machine: Machine = False) -> int:
    """Write the report of a finished run again."""
    from reports.desk import result

    return result.report(directory, machine=machine)


@app.command()
@guarded
def verify(
    directory: Directory,
    *,
    blocks: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N blocks.")] = None,
    machine: Machine = False,
) -> int:
    """Simulate the blocks of a run again and compare their hashes."""
    from reports.desk import result

    return result.verify(directory, blocks=blocks, machine=machine)


@app.command()
@guarded
def schema(
    kind: Annotated[
        Text, typer.Argument(metavar="model|protocol|design|scenarios|sbc|surveillance", help="Which text.")
    ],
) -> int:
    """Print the JSON Schema of a text: model, protocol, design, scenarios, calibration study or surveillance."""
    from reports.desk import texts

    return texts.schema(kind.value)


@library.callback()
def models(context: typer.Context, *, machine: Machine = False) -> None:
    """List the models of the library; `show NAME` prints one."""
    if context.invoked_subcommand is None:
        _list(machine=machine)


@guarded
def _list(*, machine: bool) -> int:
    from reports.desk import models as desk

    return desk.models(machine=machine)


@library.command()
@guarded
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of the library, or a file that ends in .yaml.")],
    *,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw the profile into FILE.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text itself, to copy and change.")] = False,
    machine: Machine = False,
) -> int:
    """Tell all about a model of the library or of a file: equations, compartments, parameters, sources, profile."""
    from reports.desk import models as desk

    return desk.show(name, svg=svg, text=text, machine=machine)


@app.command()
@guarded
def doctor(*, machine: Machine = False) -> int:
    """Look at this installation: Python, packages, cores, memory, cache, whose rooms these are."""
    from reports.desk import doctor as desk

    return desk.doctor(machine=machine)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 ok, 2 bad input, 3 failed, 4 partial, 130 interrupted.

    >>> main(["schema", "nothing"])
    2
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="vtrial")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    if code == 130 and arguments is None:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End now: blocks under way in threads are abandoned; what is written was written whole."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
