"""The model as text: `Model.read(path)`, `Model.parse(text)`; everything is checked here and trusted inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from pkpd.ground import digest, text
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Identifier, Real, Unit, problem, real
from pkpd.model import equations as eq
from pkpd.model.dosing import DoseTarget
from pkpd.model.golden import Golden, Reproduces
from pkpd.model.observed import Output, terms_of
from pkpd.model.parts import STRICT, Covariate, Effect, Event, Move, Occasion, Omega, Parameter, Summary

__all__ = ["Model", "json_schema"]


def _lines(value: Any) -> tuple[eq.Equation, ...]:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str):
        raise problem("must be a block of text", "write equations: | and indent the lines")
    try:
        return eq.equations(value)
    except InputError as error:
        raise error.within(field="equations") from None


def _lines_text(lines: tuple[eq.Equation, ...]) -> str:
    left = {"assign": "{}", "initial": "{}(0)", "derivative": "d/dt({})"}
    return "\n".join(f"{left[line.kind].format(line.target)} = {eq.show(line.expression)}" for line in lines)


def _blocks(value: Any) -> Any:
    """`omega: {block: [..]}` is short for a list of one."""
    return value if isinstance(value, (list, tuple)) else (value,)


def _blocks_text(blocks: tuple[Omega, ...]) -> Any:
    plain = [{"block": list(b.block), **({"lkj": b.lkj} if b.lkj != 2.0 else {})} for b in blocks]
    return plain[0] if len(plain) == 1 else plain


def _share(value: Any) -> Any:
    """A probability of a class: a number, the name of a parameter, or `rest`."""
    if isinstance(value, str) and value[:1].isalpha():
        return str(value)
    number = real(value)
    if not 0 <= number <= 1:
        raise problem("must be between 0 and 1", "write a probability, the name of a parameter, or rest")
    return number


Share = Annotated[float | str, PlainValidator(_share, json_schema_input_type=float | str)]
Equations = Annotated[
    tuple[eq.Equation, ...],
    PlainValidator(_lines),
    PlainSerializer(_lines_text, return_type=str),
    WithJsonSchema({"type": "string", "description": "name = expr | state(0) = expr | d/dt(state) = expr"}),
]


Blocks = Annotated[
    tuple[Omega, ...],
    BeforeValidator(_blocks, json_schema_input_type=Omega | tuple[Omega, ...]),
    PlainSerializer(_blocks_text),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model: what `vtrial: model/1` says, checked. Dicts keep the order of the text, which is the order of arrays.

    states: state -> unit. Errors: `read` and `parse` raise InputError. Example: `Model.read("model.yaml").parameters`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    vtrial: Literal["model/1"]
    name: Identifier
    about: str = ""
    cite: dict[str, str] = field(default_factory=dict)
    covariates: dict[Identifier, Covariate] = field(default_factory=dict)
    states: dict[Identifier, Unit] = field(default_factory=dict)
    parameters: Annotated[dict[Identifier, Parameter], Field(min_length=1)]
    correlations: tuple[tuple[Identifier, Identifier, Annotated[Real, Field(gt=-1, lt=1)]], ...] = ()
    omega: Blocks = ()
    occasion: Occasion | None = None
    mixture: dict[Identifier, Share] = field(default_factory=dict)
    equations: Equations
    doses: dict[Identifier, DoseTarget] = field(default_factory=dict)
    summaries: dict[Identifier, Summary] = field(default_factory=dict)
    outputs: Annotated[dict[Identifier, Output], Field(min_length=1)]
    residual_correlations: tuple[tuple[Identifier, Identifier, Annotated[Real, Field(gt=-1, lt=1)]], ...] = ()
    sigma: Blocks = ()
    events: dict[Identifier, Event] = field(default_factory=dict)
    domain: dict[str, str] = field(default_factory=dict)
    golden: dict[Identifier, Golden] = field(default_factory=dict)
    reproduces: dict[Identifier, Reproduces] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Model:
        """The model of a YAML file."""
        return cls._of(text.read(path))

    @classmethod
    def parse(cls, source: str, file: str = "<text>") -> Model:
        """The model of a YAML text."""
        return cls._of(text.parse(source, file))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Model:
        """The inverse of `to_dict`."""
        return cls._of(text.from_plain(values))

    @classmethod
    def _of(cls, node: text.Node) -> Model:
        from pkpd.model.checks import check

        if isinstance(node, text.Mapping) and "drugs" in node:
            remedy = "write the drugs' equations in one model"
            raise InputError("drugs cannot be composed yet", field="drugs", where=node["drugs"].where, remedy=remedy)
        model = text.validated(Model, node)
        check(model, node)
        return model

    def to_dict(self) -> dict[str, Any]:
        """The text's shape in plain values; equations in one normal form."""
        from pkpd.ground.validation import adapter

        made = adapter(Model).dump_python(self, mode="json", by_alias=True, exclude_defaults=True)
        return {"vtrial": self.vtrial, **made}

    @property
    def digest(self) -> str:
        """SHA-256 of what the model says (not of how it is laid out, nor of its prose)."""
        prose = ("about", "cite", "domain", "golden", "reproduces")
        return digest.of_json({k: v for k, v in self.to_dict().items() if k not in prose})

    @property
    def effects(self) -> dict[str, dict[str, Effect]]:
        """Parameter -> covariate -> effect, for the parameters that have any."""
        return {name: dict(p.effects) for name, p in self.parameters.items() if p.effects}

    @property
    def eta_names(self) -> tuple[str, ...]:
        """Random effects in the order of the omega matrix: parameters with iiv, then `NAME.iov` of those with iov."""
        return (*self.subject_etas, *(f"{name}.iov" for name in self.occasion_etas))

    @property
    def subject_etas(self) -> tuple[str, ...]:
        """Parameters with a between-subject effect of their own, in the order of the text."""
        return tuple(name for name, p in self.parameters.items() if p.random)

    @property
    def occasion_etas(self) -> tuple[str, ...]:
        """Parameters with a between-occasion effect, in the order of the text."""
        return tuple(name for name, p in self.parameters.items() if p.iov is not None and p.iov.typical > 0)

    @property
    def inputs(self) -> dict[str, Covariate]:
        """Covariates, then the classes of the mixture as covariates that are 1 for their members and 0 for others."""
        member = Covariate(labels={0: "no", 1: "yes"}, reference=0.0)
        return {**self.covariates, **dict.fromkeys(self.mixture, member)}

    @property
    def varying(self) -> tuple[str, ...]:
        """Covariates that may change within a subject (`between:`), in order."""
        return tuple(name for name, c in self.covariates.items() if c.between is not None)

    @property
    def previous(self) -> tuple[str, ...]:
        """Names that stand for the outcome simulated before."""
        return tuple(str(o.previous.name) for o in self.outputs.values() if o.previous is not None)

    @property
    def dose_units(self) -> dict[str, str]:
        """State -> unit of a dose into it: its own, unless `doses` gives another with a scale."""
        given = {state: target.unit for state, target in self.doses.items() if target.unit is not None}
        return {state: given.get(state, unit) for state, unit in self.states.items()}

    @property
    def error_names(self) -> tuple[str, ...]:
        """`<OUTPUT>.additive`, `.proportional`, `.power`, `.log` of the outputs that have them, in order."""
        return tuple(f"{name}.{kind}" for name, out in self.outputs.items() for kind in terms_of(out.error))

    @property
    def error_values(self) -> tuple[float, ...]:
        """Typical residual standard deviations in the order of `error_names`, in the unit of the output."""
        from pkpd.model.parts import inside

        found = [term.typical for out in self.outputs.values() for term in terms_of(out.error).values()]
        return tuple(inside(value) if hasattr(value, "unit") else float(value) for value in found)

    @property
    def derivatives(self) -> dict[str, eq.Expr]:
        """State -> right-hand side, in the order of `states`."""
        found = {line.target: line.expression for line in self.equations if line.kind == "derivative"}
        return {state: found[state] for state in self.states}

    @property
    def initials(self) -> dict[str, eq.Expr]:
        """State -> initial value, for those that are given one (the others start at 0)."""
        return {line.target: line.expression for line in self.equations if line.kind == "initial"}

    def moves(self, event: str) -> tuple[Move, ...]:
        """The moves of an event between its grades, in the order of the text; none for an event of another kind."""
        return tuple(
            Move(name=f"{event}.{key[0]}>{key[-1]}", origin=int(key[0]), target=int(key[-1]), intensity=str(equation))
            for key, equation in self.events[event].moves.items()
        )

    @property
    def hazards(self) -> dict[str, tuple[str, str]]:
        """Event by hazard, or move between grades -> (equation [1/h], kind): what is integrated with the states."""
        found = {name: (str(e.hazard), str(e.kind)) for name, e in self.events.items() if e.hazard}
        return found | {m.name: (m.intensity, "recurrent") for name in self.events for m in self.moves(name)}

    @property
    def solved(self) -> frozenset[str]:
        """Names the integration itself needs: of derivatives, initial values, hazards, doses and summaries."""
        from pkpd.model.dosing import expression_of

        found = eq.reach(self.equations)
        roots = {n for line in self.equations if line.kind != "assign" for n in eq.names(line.expression)}
        roots |= {equation for equation, _ in self.hazards.values()} | {s.of for s in self.summaries.values()}
        roots |= {n for t in self.doses.values() for v in t.given().values() for n in eq.names(expression_of(v))}
        return frozenset(roots).union(*(found.get(name, frozenset()) for name in roots))

    @property
    def response(self) -> dict[str, eq.Expr]:
        """Name -> expression of the response layer, in an order in which they can be evaluated.

        These use a summary, or a clock, covariate, class or former outcome that the integration does not need itself:
        they follow the dynamics, with NumPy.
        """
        from pkpd.model.checks import CLOCKS

        found, solved = eq.reach(self.equations), self.solved
        always = {*self.summaries, *self.previous}
        late = {*always, *CLOCKS, *self.inputs}
        return {
            e.target: e.expression
            for e in eq.in_order(self.equations)
            if found[e.target] & (always if e.target in solved else late)
        }

    @property
    def integrated(self) -> dict[str, eq.Expr]:
        """Name -> expression of the assignments that are not of the response layer, in order of evaluation."""
        response = self.response
        return {e.target: e.expression for e in eq.in_order(self.equations) if e.target not in response}

    @property
    def dynamics(self) -> dict[str, eq.Expr]:
        """`integrated`, as the engine takes it. Errors: InputError for what no engine runs yet (see `support`)."""
        from pkpd.model.support import refuse

        refuse(self, "engine")
        return self.integrated


@lru_cache(maxsize=1)
def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the model text."""
    from pkpd.ground.validation import adapter

    schema: dict[str, Any] = adapter(Model).json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
