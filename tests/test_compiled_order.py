"""Compiled solves work whatever was imported and compiled before them: fresh interpreters, an empty disk cache."""

import os
import subprocess
import sys

import pytest

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
sol = solve(F, jac, np.zeros(4), np.ones(2), max_iter=3, **{options})
assert sol.compiled
"""


GD = {"method": "gd"}


@pytest.mark.parametrize("options", [{}, GD], ids=["gauss-newton", "gd"])
def test_numba_is_used_before_plsolve_compiles(options, tmp_path):
    """numba's own functions for NumPy's names are in force by then, and accept what plsolve calls vectors."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    code = CODE.replace("{options}", repr(options))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)
