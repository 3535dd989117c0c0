"""PyTensor Ops around the generated solver: any model text in a likelihood, value and gradient from one solve.

    f = prediction(X, design)     X (subjects, parameters): the individual parameters, in natural units

`Prediction` solves the model with its forward sensitivities and gives the prediction of every row and its slopes; the
pullback contracts them. A failed solve is NaN (the sampler rejects it), never an exception; no object mode; the kernel
is serial and releases the GIL. PyTensor keeps compiled graphs on disk under type and `__props__`: the generated source
is one of them, and `key` hashes the kernels it inlines.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from pkpd import kernels
from pkpd.bayes.ode_design import OdeDesign
from pkpd.engine.load import module
from pkpd.ground import digest
from pkpd.kernels.observed import pulled_back_rows

__all__ = ["Prediction", "PredictionPullback", "prediction"]


@cache
def _key() -> str:
    """SHA-256 of the kernel sources the generated code inlines, and of the ops."""
    folder = Path(kernels.__file__).parent
    return digest.of_json([path.read_text() for path in (*sorted(folder.glob("*.py")), Path(__file__))])


class PredictionPullback(Op):
    """(slope (rows, K), cotangent (rows,), subject (rows,), X (subjects, K)) -> cotangent of X."""

    __props__: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dmatrix()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0] = pulled_back_rows(*inputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        return [shapes[3]]


class Prediction(Op):
    """X (subjects, K) and the arrays of `OdeDesign` -> prediction (rows,), slope (rows, K)."""

    __props__: ClassVar[tuple[str, ...]] = ("source", "key")

    def __init__(self, source: str, key: str) -> None:
        self.source = source
        self.key = key

    def __str__(self) -> str:
        return f"Prediction({digest.of_text(self.source)[:12]})"

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dvector(), pt.dmatrix()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0], storage[1][0] = module(self.source).observe(*inputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        (rows,) = shapes[10]
        return [(rows,), (rows, shapes[0][1])]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[i == 0, False] for i in range(len(node.inputs))]

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        back = PredictionPullback(self.key)(outputs[1], cotangents[0], inputs[10], inputs[0])
        return [back, *(disconnected_type() for _ in inputs[1:])]


@register_funcify_default_op_cache_key(Prediction)
def _prediction_in_numba(op: Prediction, node: Any = None, **_: Any) -> Any:
    return module(op.source).observe


@register_funcify_default_op_cache_key(PredictionPullback)
def _pullback_in_numba(op: PredictionPullback, node: Any = None, **_: Any) -> Any:
    return pulled_back_rows


def prediction(X: Any, design: OdeDesign) -> Any:
    """Predicted value (rows,) of every row of the data; X (subjects, K): parameters in the order of `design.wrt`."""
    return Prediction(design.source, _key())(X, *design.arrays)[0]
