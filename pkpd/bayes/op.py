"""PyTensor Ops around the closed form: the fitted model is the simulated model.

`Concentration` gives the prediction of every row and its sensitivities in one solve; its pullback contracts them, so
value and gradient cost one pass. A failed solve is NaN (the sampler rejects it), never an exception. Both ops go
through numba without object mode; PyTensor keeps compiled graphs on disk under type and `__props__`, so `key` hashes
the kernel's source.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from pkpd import kernels
from pkpd.ground import digest
from pkpd.kernels.observed import observed_concentration, pulled_back

__all__ = ["Concentration", "ConcentrationPullback", "concentration", "kernel_key"]

PARAMETERS = 3  # ka, cl, v: the inputs that carry a gradient
SOURCES = ("intrinsics.py", "elementary.py", "linear.py", "observed.py")


@cache
def kernel_key() -> str:
    """SHA-256 of the kernel sources the ops run, and of the ops."""
    folder = Path(kernels.__file__).parent
    return digest.of_json([path.read_text() for path in (*(folder / name for name in SOURCES), Path(__file__))])


class ConcentrationPullback(Op):
    """(slope (rows, 3), cotangent (rows,), subject (rows,), one per subject) -> cotangents of ka, cl, v (subjects,)."""

    __props__: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dvector() for _ in range(PARAMETERS)])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        for cell, value in zip(storage, pulled_back(*inputs), strict=True):
            cell[0] = value

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        return [shapes[3]] * PARAMETERS


class Concentration(Op):
    """ka, cl, v (subjects,), the arrays of `observed_concentration` -> prediction (rows,), slope (rows, 3)."""

    __props__: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(x) for x in inputs], [pt.dvector(), pt.dmatrix()])

    def perform(self, node: Apply, inputs: list[Any], storage: list[list[Any]]) -> None:
        storage[0][0], storage[1][0] = observed_concentration(*inputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        (rows,) = shapes[10]
        return [(rows,), (rows, PARAMETERS)]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[i < PARAMETERS, False] for i in range(len(node.inputs))]

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        back = ConcentrationPullback(self.key)(outputs[1], cotangents[0], inputs[10], inputs[0])
        return [*back, *(disconnected_type() for _ in inputs[PARAMETERS:])]


@register_funcify_default_op_cache_key(Concentration)
def _concentration_in_numba(op: Concentration, node: Any = None, **_: Any) -> Any:
    return observed_concentration


@register_funcify_default_op_cache_key(ConcentrationPullback)
def _pullback_in_numba(op: ConcentrationPullback, node: Any = None, **_: Any) -> Any:
    return pulled_back


def concentration(ka: Any, cl: Any, v: Any, design: tuple[np.ndarray[Any, Any], ...]) -> Any:
    """Predicted concentration (rows,) of the data's rows as a PyTensor vector.

    `ka` [1/h], `cl` [L/h], `v` [L]: vectors over subjects. `design`: the ten arrays of `observed_concentration` after
    them.
    """
    return Concentration(kernel_key())(ka, cl, v, *design)[0]
