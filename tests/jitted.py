"""Systems as numba functions, and fresh interpreters, for the tests of compiled code."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from numba import njit

import plsolve
from benchmarks.checks.arms import planar as hand
from benchmarks.checks.arms import planar_jac as hand_jac

__all__ = ["hand", "hand_jac"]

PACKAGE = Path(plsolve.__file__).parent


@njit
def valley(w):
    return np.array([10 * (w[1] - w[0] ** 2), 1 - w[0]])


@njit
def valley_jac(w):
    return np.array([[-20 * w[0], 10.0], [-1.0, 0.0]])


@njit
def wavy(w, A, strength):
    z = A @ w
    return z + strength * np.sin(z) - 0.5


@njit
def wavy_jac(w, A, strength):
    z = A @ w
    return (1 + strength * np.cos(z)).reshape(-1, 1) * A


@njit
def wavy_rows(w, A, strength, rows):
    z = A[rows] @ w
    return z + strength * np.sin(z)


@njit
def wavy_rows_jac(w, A, strength, rows):
    z = A[rows] @ w
    return (1 + strength * np.cos(z)).reshape(-1, 1) * A[rows]


@njit
def decay(p, x, y):
    return p[0] * np.exp(-p[1] * x) + p[2] - y


@njit
def decay_jac(p, x, y):
    e = np.exp(-p[1] * x)
    return np.column_stack((e, -p[0] * x * e, np.ones(x.size)))


def decays(k, noise):
    rng = np.random.default_rng(k)
    x = np.linspace(0, 4, 50)
    p = np.column_stack((rng.uniform(0.5, 3, k), rng.uniform(0.3, 3, k), rng.uniform(-1, 1, k)))
    return x, p[:, :1] * np.exp(-p[:, 1:2] * x) + p[:, 2:] + noise * rng.standard_normal((k, 50))


def targets(k):
    return np.random.default_rng(0).uniform(-2, 1, (k, 2))


def run_python(code, **env):
    inherited = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=inherited | env, timeout=300,
        cwd=(inherited | env)["PYTHONPATH"],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
