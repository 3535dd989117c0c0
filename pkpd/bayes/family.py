"""How the data's rows are predicted: a family of gradients, as text and arrays of the compiled density.

`modes`: linear compartments by their modes and states linear in themselves behind them; `ode`: the generated solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pkpd.bayes.density_source import Argument
from pkpd.model.equations import Binary, Expr, Number

__all__ = ["Family", "closed_family", "ode_family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """columns: expressions of individual parameters that `X` (subjects, columns) holds; arrays by name, in the order of
    the arguments; predict: statements from X to f (rows,); pull: from gf (rows,) and X to gX; about: for the report.
    """

    name: str
    columns: tuple[Expr, ...]
    arrays: dict[str, NDArray[Any]]
    parts: tuple[str, ...]
    predict: str
    pull: str
    about: dict[str, Any]

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """What the density takes, array by array."""
        return tuple(Argument(name, str(a.dtype).replace("bool", "bool_"), a.ndim) for name, a in self.arrays.items())


def ode_family(ode: Any) -> Family:
    """The family of an `OdeDesign`: its solver's text stands in the same module."""
    from pkpd.model.equations import Name

    several = len(ode.arrays) > len(ODE)
    names = tuple(f"ode_{n}" for n in (*ODE, *(PIECES if several else ())))
    call, observe = ", ".join(names), "observe_pieces" if several else "observe"
    rows = "gf[ode_entry_row], ode_entry_piece" if several else "gf, ode_subject"
    return Family(
        name="ode",
        columns=tuple(Name(n) for n in ode.wrt),
        arrays=dict(zip(names, ode.arrays, strict=True)),
        parts=(ode.source.replace("from __future__ import annotations", ""),),
        predict=f"f, slope = {observe}(X, {call})",
        pull=f"gX = pulled_back_rows(slope, {rows}, X)",
        about={"solver": "generated, with forward sensitivities"} | ({"pieces": len(ode.arrays[0])} if several else {}),
    )


ODE = (
    "base", "place", "offsets", "time", "given", "state", "length", "rate", "times", "subject", "column", "output",
    "slopes", "where", "settings",
)  # fmt: skip
PIECES = ("first", "owner", "border", "inside", "entry_row", "entry_piece", "row_piece")
CLOSED = ("offsets", "time", "kind", "target", "amount", "steady", "times", "subject", "column", "after")


def closed_family(absorption: Expr | None, elimination: Expr, volume: Expr, arrays: tuple[NDArray[Any], ...]) -> Family:
    """The family of the one-compartment kernel; arrays as `observed_concentration` takes them after ka, cl, v."""
    names = tuple(f"closed_{n}" for n in CLOSED)
    ka = Number(1.0) if absorption is None else absorption
    own = "X[:, 0].copy(), X[:, 1].copy(), X[:, 2].copy()"
    return Family(
        name="closed",
        columns=(ka, Binary("*", elimination, volume), volume),
        arrays=dict(zip(names, arrays, strict=True)),
        parts=(),
        predict=f"f, slope = observed_concentration({own}, {', '.join(names)})",
        pull="gX = pulled_back_rows(slope, gf, closed_subject, X)",
        about={},
    )
