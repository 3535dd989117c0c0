"""The model as text: `Model.read(path)`, `Model.parse(text)`; everything is checked here and trusted inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from pkpd.ground import digest, text
from pkpd.ground.errors import InputError
from pkpd.ground.fields import Identifier, Real, Unit, problem
from pkpd.model import equations as eq
from pkpd.model.parts import (
    STRICT,
    Covariate,
    DoseTarget,
    Effect,
    Event,
    Omega,
    Output,
    Parameter,
    Summary,
)

__all__ = ["CLOCKS", "Model", "json_schema"]

CLOCKS = ("TIME", "WEEKS")
"""Names the response layer may use: hours and weeks since the first dose."""


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


Equations = Annotated[
    tuple[eq.Equation, ...],
    PlainValidator(_lines),
    PlainSerializer(_lines_text, return_type=str),
    WithJsonSchema({"type": "string", "description": "name = expr | state(0) = expr | d/dt(state) = expr"}),
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
    omega: Omega | None = None
    equations: Equations
    doses: dict[Identifier, DoseTarget] = field(default_factory=dict)
    summaries: dict[Identifier, Summary] = field(default_factory=dict)
    outputs: Annotated[dict[Identifier, Output], Field(min_length=1)]
    events: dict[Identifier, Event] = field(default_factory=dict)

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
        prose = ("about", "cite")
        return digest.of_json({k: v for k, v in self.to_dict().items() if k not in prose})

    @property
    def effects(self) -> dict[str, dict[str, Effect]]:
        """Parameter -> covariate -> effect, for the parameters that have any."""
        return {name: dict(p.effects) for name, p in self.parameters.items() if p.effects}

    @property
    def eta_names(self) -> tuple[str, ...]:
        """Parameters with between-subject variability, in the order of the omega matrix."""
        return tuple(name for name, p in self.parameters.items() if p.random)

    @property
    def error_names(self) -> tuple[str, ...]:
        """`<OUTPUT>.additive` and `<OUTPUT>.proportional` of the outputs that have them, in order."""
        kinds = ("additive", "proportional")
        return tuple(f"{o}.{k}" for o, out in self.outputs.items() for k in kinds if getattr(out.error, k))

    @property
    def error_values(self) -> tuple[float, ...]:
        """Typical residual standard deviations in the order of `error_names`, in the unit of the output."""
        from pkpd.model.parts import inside

        found = [getattr(self.outputs[o].error, k) for o, k in (n.split(".") for n in self.error_names)]
        return tuple(inside(t.typical) if hasattr(t.typical, "unit") else float(t.typical) for t in found)

    @property
    def derivatives(self) -> dict[str, eq.Expr]:
        """State -> right-hand side, in the order of `states`."""
        found = {line.target: line.expression for line in self.equations if line.kind == "derivative"}
        return {state: found[state] for state in self.states}

    @property
    def initials(self) -> dict[str, eq.Expr]:
        """State -> initial value, for those that are given one (the others start at 0)."""
        return {line.target: line.expression for line in self.equations if line.kind == "initial"}

    @property
    def response(self) -> dict[str, eq.Expr]:
        """Name -> expression of the response layer, in an order in which they can be evaluated.

        These use a summary or the clock, directly or through others: they follow the dynamics, with NumPy.
        """
        late = {*self.summaries, *CLOCKS}
        found = eq.reach(self.equations)
        return {e.target: e.expression for e in eq.in_order(self.equations) if found[e.target] & late}

    @property
    def dynamics(self) -> dict[str, eq.Expr]:
        """Name -> expression of the assignments that are not of the response layer, in order of evaluation."""
        response = self.response
        return {e.target: e.expression for e in eq.in_order(self.equations) if e.target not in response}


@lru_cache(maxsize=1)
def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the model text."""
    from pkpd.ground.validation import adapter

    schema: dict[str, Any] = adapter(Model).json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
