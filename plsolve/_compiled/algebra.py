"""Dense linear algebra for small systems, in plain loops and in place, on the rows of one array V.

Vectors are rows of V, zero beyond their size. The pseudo-inverse of A = J D, D = diag(d), d zero for the unknowns that
are held, comes from A A^T = L L^T (n > m: A^T A) or, if that is too ill-conditioned, from the singular values of A.
"""

from __future__ import annotations

import math
from functools import partial

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.extending import get_cython_function_address, register_jitable
from scipy.linalg import cython_lapack

from plsolve._compiled.cache import unit
from plsolve._compiled.memory import ROWS_OF_V, TRIAL_R, WEIGHT, W, system
from plsolve._compiled.words import data
from plsolve._linalg import UNIT, Array

vectorised = partial(unit, fastmath={"reassoc"})  # sums may be made in another order


@register_jitable
def extent(V: Array, J: Array, a: int) -> int:
    """The number of entries in a row."""
    if W <= a < TRIAL_R:
        return J.shape[1]
    return J.shape[0] if a < ROWS_OF_V else V.shape[1]


@vectorised
def norm(S: int, a: int) -> float:
    """||a||, safe from overflow; NaN or inf if an entry is."""
    _, V, J = system(S)
    size = extent(V, J, a)
    total = 0.0
    for j in range(size):
        total += V[a, j] * V[a, j]
    if 1e-280 < total < 1e280:
        return math.sqrt(total)
    top = 0.0
    for j in range(size):
        top = top if abs(V[a, j]) <= top else abs(V[a, j])
    if not 0.0 < top < math.inf:
        return top
    total = 0.0
    for j in range(size):
        total += (V[a, j] / top) * (V[a, j] / top)
    return top * math.sqrt(total)


@vectorised
def dot(S: int, a: int, b: int) -> float:
    _, V, J = system(S)
    size = extent(V, J, a)
    total = 0.0
    for j in range(size):
        total += V[a, j] * V[b, j]
    return total


@unit
def combine(S: int, s: float, a: int, t: float, b: int, c: int) -> None:
    """c = s a + t b."""
    _, V, J = system(S)
    size = extent(V, J, c)
    for j in range(size):
        V[c, j] = s * V[a, j] + t * V[b, j]


@unit
def copy(S: int, a: int, b: int) -> None:
    """b = a."""
    _, V, J = system(S)
    size = extent(V, J, b)
    for j in range(size):
        V[b, j] = V[a, j]


@unit
def times(S: int, a: int, d: int, b: int) -> None:
    """b = diag(d) a."""
    _, V, J = system(S)
    size = extent(V, J, b)
    for j in range(size):
        V[b, j] = V[a, j] * V[d, j]


@vectorised
def scaled_dot(S: int, a: int, b: int) -> float:
    """a . b in the metric of the step."""
    _, V, J = system(S)
    total = 0.0
    for j in range(J.shape[1]):
        total += V[a, j] * V[b, j] * V[WEIGHT, j]
    return total


@vectorised
def apply(S: int, p: int, x: int) -> None:
    """x = J p."""
    _, V, J = system(S)
    for i in range(J.shape[0]):
        total = 0.0
        for j in range(J.shape[1]):
            total += J[i, j] * V[p, j]
        V[x, i] = total


@vectorised
def adjoint(S: int, x: int, g: int) -> None:
    """g = J^T x."""
    _, V, J = system(S)
    n, m = J.shape
    for j in range(m):
        total = 0.0
        for i in range(n if n > m else 0):
            total += J[i, j] * V[x, i]
        V[g, j] = total
    for i in range(n if n <= m else 0):
        for j in range(m):
            V[g, j] += J[i, j] * V[x, i]


@unit
def products(S: int, A: int, k: int, x: int, u: int) -> None:
    """u = A x, where the matrix is the k rows of V that begin with row A."""
    _, V, _ = system(S)
    for i in range(k):
        V[u, i] = dot(S, A + i, x)
    for i in range(k, V.shape[1]):
        V[u, i] = 0.0


@unit
def sums(S: int, A: int, k: int, u: int, x: int) -> None:
    """x = A^T u."""
    _, V, _ = system(S)
    for j in range(V.shape[1]):
        V[x, j] = 0.0
    for i in range(k):
        t = V[u, i]
        for j in range(V.shape[1]):
            V[x, j] += V[A + i, j] * t


@vectorised
def cholesky(S: int, d: int, L: int, Q: int) -> float:
    """A A^T = L L^T (n > m: A^T A, ones for held unknowns); returns about 1 / its condition number, 0 if it failed.

    The rows of A (n > m: its columns) are stored in Q.
    """
    _, V, J = system(S)
    n, m = J.shape
    low, high = math.inf, 0.0
    for i in range(min(n, m)):
        for k in range(max(n, m)):
            V[Q + i, k] = J[i, k] * V[d, k] if n <= m else J[k, i] * V[d, i]
        for j in range(i + 1):
            t = 1.0 if i == j and n > m and V[d, i] == 0.0 else 0.0
            for k in range(max(n, m)):
                t += V[Q + i, k] * V[Q + j, k]
            for k in range(j):
                t -= V[L + i, k] * V[L + j, k]
            if j < i:
                V[L + i, j] = t / V[L + j, j]
                continue
            if not 0.0 < t < math.inf:
                return 0.0
            t = math.sqrt(t)
            V[L + i, i], low, high = t, min(low, t), max(high, t)
    return (low / high) * (low / high)


@unit
def forward(S: int, L: int, n: int, x: int, u: int) -> None:
    """u = L^{-1} x."""
    _, V, _ = system(S)
    for i in range(n):
        t = V[x, i]
        for k in range(i):
            t -= V[L + i, k] * V[u, k]
        V[u, i] = t / V[L + i, i]


@unit
def backward(S: int, L: int, n: int, x: int, u: int) -> None:
    """u = L^{-T} x."""
    _, V, _ = system(S)
    for i in range(n):
        V[u, i] = V[x, i]
    for i in range(n - 1, -1, -1):
        V[u, i] /= V[L + i, i]
        for k in range(i):
            V[u, k] -= V[L + i, k] * V[u, i]


llvm.add_symbol("plsolve_dgesdd", get_cython_function_address("scipy.linalg.cython_lapack", "dgesdd"))
dgesdd = types.ExternalFunction("plsolve_dgesdd", types.void(*[types.int64] * 14))
INTEGER = np.int64 if getattr(cython_lapack, "_blas_int_size", lambda: 4)() == 8 else np.int32  # LAPACK's
SLIM = ord("S")  # as many singular vectors as values


@unit
def singular_values(S: int, d: int, Q: int, K: int) -> None:
    """A = U diag(s) V^T by LAPACK: Q = V^T, K = diag(s)^+ U^T, k = min(n, m) rows each."""
    _, V, J = system(S)
    (n, m), width, top = J.shape, V.shape[1], 0.0
    k = min(n, m)
    lwork = 10 * k * (k + 2) + width
    memory = np.empty(n * m + lwork + 8 * k)  # A, and what LAPACK works with
    for i in range(n):
        for j in range(m):
            memory[i * m + j] = J[i, j] * V[d, j]
            top = max(top, abs(memory[i * m + j]))
    for i in range(n * m):
        memory[i] = memory[i] / top if 0.0 < top < math.inf else 0.0
    sizes, left, numbers = np.empty(k), np.empty((n, k)), np.empty(7, INTEGER)
    numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5] = m, n, width, k, lwork, SLIM
    place, word, A = data(numbers), numbers.itemsize, data(memory)
    dgesdd(
        place + 5 * word, place, place + word, A, place, data(sizes), data(V) + 8 * Q * width, place + 2 * word,
        data(left), place + 3 * word, A + 8 * n * m, place + 4 * word, A + 8 * (n * m + lwork), place + 6 * word,
    )  # fmt: skip
    memory[0] = numbers[6]  # in use until here; not zero: no convergence
    for i in range(k):
        small = memory[0] != 0.0 or not sizes[i] > 2 * UNIT * width * sizes[0]
        t = 0.0 if small else 1.0 / (sizes[i] * top)
        for j in range(width):
            V[K + i, j] = t * left[j, i] if j < n else 0.0
