"""No kernel is ever compiled with fast-math, not even when a caller that has it compiles it first.

Witness: LLVM's own text. numba lets a callee inherit `fastmath` from the function whose compilation triggers it, and
PyTensor compiles with it: `(dt*e)*p` became `(dt*p)*e`, one bit off, and went into the disk cache (seen 2026-11-22).
"""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
from numba import njit
from pkpd.kernels import elementary, intrinsics, linear
from pkpd.engine.template import HEADER

@njit(fastmath=True)
def caller(x):
    return linear.propagate(x, x, 0.0, x, x, 2.0 * x, x)[1] * elementary.exp(x) + elementary.log(x)

caller(1.5)
texts = list(linear.propagate.inspect_llvm().values()) + list(linear._transfer.inspect_llvm().values())
texts += list(elementary.exp.inspect_llvm().values()) + list(elementary.log.inspect_llvm().values())
flagged = [word for text in texts for word in (" fast ", " reassoc ", " contract ", " arcp ") if word in text]
print(len(texts), flagged, any("reassoc" in t or " fast " in t for t in caller.inspect_llvm().values()))
print("fastmath=False" in HEADER)
"""


def test_no_kernel_inherits_fast_math(tmp_path):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=env)
    counted, template = run.stdout.strip().split("\n")
    # the caller itself is flagged, so the test can see what it looks for
    assert counted == "4 [] True"
    assert template == "True"
