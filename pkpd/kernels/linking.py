"""Helpers that only compiled code calls: kept in LLVM's language, made machine code inside the functions that use them.

numba makes machine code, and wrappers for calls from Python, of every function it meets. Of a helper that is linked
into a generated density nobody ever runs that: it is half the time of a compilation. Here it ends as a module that
LLVM links into its callers and optimises there, once. This is numba's own way of extending its compiler (a pipeline
with another last pass); the machine code differs in nothing but when it is optimised.

Costly to compile besides: an array put into a slice (numba compiles what writes the shapes into an error, a dozen
functions on strings: loops cost nothing), and literal numbers as arguments (a function of its own for each).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import _dynfunc, njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering
from numba.extending import intrinsic

from pkpd.kernels.intrinsics import OPTIONS

__all__ = ["internal", "separate"]


class _Loose(JITCodeLibrary):  # type: ignore[misc]
    """A module with all it calls, neither optimised as a whole nor made machine code."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Linkable(NativeLowering):  # type: ignore[misc]
    """Lowers into a `_Loose` library and tells callers about it."""

    _name = "linkable_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Loose(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        name = lowered.fndesc.qualname.split(".")[-1]
        entry = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, "", _REFUSED, lowered.env, ())
        state.targetctx.insert_user_function(entry, lowered.fndesc, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _Pipeline(CompilerBase):  # type: ignore[misc]
    """numba's own passes, `_Linkable` in the place of the last but one."""

    def define_pipelines(self) -> list[Any]:
        made = DefaultPassBuilder.define_nopython_pipeline(self.state)
        at = next(k for k, (found, _) in enumerate(made.passes) if found is NativeLowering)
        made.passes[at] = (_Linkable, "linkable lowering")
        made.finalize()
        return [made]


_REFUSED = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value
"""What a call from Python meets: a TypeError."""


def internal[F: Callable[..., Any]](function: F) -> F:
    """Like `intrinsics.inlined` for functions that only compiled code calls: half the time to compile."""
    compiled: F = njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=_Pipeline)(function)
    return compiled


@intrinsic
def separate(typingctx: Any) -> Any:
    """Tell LLVM that no two arrays among the arguments of the function that says so overlap, unless both are only read:
    loops over them become vectors without a look at addresses first, of the full width (`intrinsics.wide`).
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        for argument in builder.function.args:
            if argument.name.startswith("arg.") and argument.name.endswith(".4"):  # the data of an array
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), codegen
