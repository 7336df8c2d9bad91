"""What the first call costs: each time in a fresh interpreter, which is started before the clock."""

import subprocess
import sys

INTERPRETED = """
import numpy as np
from plsolve import solve
assert solve(lambda w: w[:2] ** 2 - 1, lambda w: np.diag(2 * w)[:2], np.full(3, 2.0)).success
"""

COMPILED = """
import numpy as np
from numba import njit
from plsolve import solve

@njit
def F(w):
    return w[:2] ** 2 - 1

@njit
def jac(w):
    return np.diag(2 * w)[:2].copy()

sol = solve(F, jac, np.full(3, 2.0))
assert sol.success and sol.compiled
"""

EMPTY_CACHE = """
import os, tempfile
os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
"""


class ColdStart:
    version = "1"
    timeout = 600
    number, rounds, repeat, warmup_time = 1, 1, (1, 5, 10.0), 0.0

    def timeraw_import(self) -> str:
        return "import plsolve"

    def timeraw_import_scipy_optimize(self) -> str:
        return "import scipy.optimize"

    def timeraw_first_solve(self) -> str:
        return INTERPRETED

    def timeraw_first_compiled_solve_without_disk_cache(self) -> tuple[str, str]:
        """Everything is compiled, as on a new machine."""
        return COMPILED, EMPTY_CACHE


class DiskCache:
    """The compiled loops are on disk; only F and jac are compiled."""

    version = "1"
    timeout = 600
    number, rounds, repeat, warmup_time = 1, 1, (1, 5, 10.0), 0.0

    def setup(self) -> None:
        subprocess.run([sys.executable, "-c", COMPILED], check=True)

    def timeraw_first_compiled_solve(self) -> str:
        return COMPILED
