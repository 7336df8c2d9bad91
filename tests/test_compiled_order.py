"""Compiled solves work whatever was imported and compiled before them: fresh interpreters, an empty disk cache."""

import os
import subprocess
import sys

CODE = """
import numpy as np
from numba import njit
from plsolve import solve

@njit
def F(w):
    return np.array([1.0, 0.1]) * (w[:2] + w[2:])

@njit
def jac(w):
    return np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.1, 0.0, 0.1]])

F(np.zeros(4))
sol = solve(F, jac, np.zeros(4), np.ones(2), max_iter=3)
assert sol.compiled
"""


def test_numba_is_used_before_plsolve_compiles(tmp_path):
    """numba's own functions for NumPy's names are in force by then, and accept what plsolve calls vectors."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", CODE], check=True, env=environment, timeout=300)
