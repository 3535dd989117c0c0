"""Arrays from addresses, for compiled functions that a sampler calls through C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["address"]


@intrinsic
def _address(typingctx: Any, number: Any) -> Any:
    """An integer as a void pointer."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(number), codegen


address: Callable[[int], Any] = _address
