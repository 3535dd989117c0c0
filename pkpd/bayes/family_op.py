"""PyTensor Ops around a family of gradients, for the PyMC model: the compiled density's own statements.

    f = predicted(X, family)     X (subjects, columns) of the family

The pullback predicts again and then pulls: no slopes are kept, whatever the number of parameters.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from pkpd.bayes.density import kernels_key
from pkpd.bayes.density_source import family_text
from pkpd.bayes.family import Family
from pkpd.engine.load import module

__all__ = ["predicted"]


@lru_cache(maxsize=32)
def _module(source: str) -> ModuleType:
    return module(source)


class RowsPullback(Op):
    """(cotangent (rows,), X, the family's arrays) -> cotangent of X."""

    __props__: ClassVar[tuple[str, ...]] = ("source",)

    def __init__(self, source: str) -> None:
        self.source = source

    def __str__(self) -> str:
        return "RowsPullback"

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dmatrix()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0] = _module(self.source).pulled(*inputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        return [shapes[1]]


class Rows(Op):
    """(X (subjects, columns), dv (rows,), the family's arrays) -> prediction (rows,)."""

    __props__: ClassVar[tuple[str, ...]] = ("source",)

    def __init__(self, source: str) -> None:
        self.source = source

    def __str__(self) -> str:
        return "Rows"

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dvector()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0] = _module(self.source).predicted(*inputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        return [shapes[1]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[i == 0] for i in range(len(node.inputs))]

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        back = RowsPullback(self.source)(cotangents[0], inputs[0], *inputs[2:])
        return [back, *(disconnected_type() for _ in inputs[1:])]


@register_funcify_default_op_cache_key(Rows)
def _rows_in_numba(op: Rows, node: Any = None, **_: Any) -> Any:
    return _module(op.source).predicted


@register_funcify_default_op_cache_key(RowsPullback)
def _pulled_in_numba(op: RowsPullback, node: Any = None, **_: Any) -> Any:
    return _module(op.source).pulled


def predicted(X: Any, family: Family, dv: Any) -> Any:
    """Predicted value (rows,) of every row of the data; `dv` (rows,) tells how many there are."""
    return Rows(family_text(family, kernels_key()))(X, dv, *family.arrays.values())
