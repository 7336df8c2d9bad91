"""Dense linear algebra in plain loops, in place, on the rows of one array V: what small systems need.

Vectors are rows of V, zero beyond their size. The pseudo-inverse of A = J D, D = diag(d), d zero for the unknowns that
are held, comes from A A^T = L L^T, or where that has lost its digits, and for n > m, from A = L Q or A^T = L Q by
Gram-Schmidt orthogonalisation, twice (Giraud, Langou, Rozloznik, van den Eshof, Numer. Math. 101, 2005), and where L is
near singular from the singular values of A by Jacobi's rotations (Demmel, Veselic, SIAM J. Matrix Anal. Appl. 13,
1992).
"""

from __future__ import annotations

import math
from functools import partial

from numba.extending import register_jitable

from plsolve._compiled.cache import unit
from plsolve._compiled.places import ROWS_OF_V, TRIAL_R, W
from plsolve._compiled.words import system
from plsolve._linalg import UNIT, Array

SWEEPS = 30  # of rotations, at most
vectorised = partial(unit, fastmath={"reassoc"})  # sums may be made in another order


@register_jitable
def extent(V: Array, J: Array, a: int) -> int:
    """How many numbers a row has."""
    if W <= a < TRIAL_R:
        return J.shape[1]
    return J.shape[0] if a < ROWS_OF_V else V.shape[1]


@vectorised
def norm(S: int, a: int) -> float:
    """||a||, safe from overflow; NaN or inf where an entry is."""
    _, _, V, J = system(S)
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
    _, _, V, J = system(S)
    size = extent(V, J, a)
    total = 0.0
    for j in range(size):
        total += V[a, j] * V[b, j]
    return total


@unit
def combine(S: int, s: float, a: int, t: float, b: int, c: int) -> None:
    """c = s a + t b."""
    _, _, V, J = system(S)
    size = extent(V, J, c)
    for j in range(size):
        V[c, j] = s * V[a, j] + t * V[b, j]


@unit
def copy(S: int, a: int, b: int) -> None:
    """b = a."""
    _, _, V, J = system(S)
    size = extent(V, J, b)
    for j in range(size):
        V[b, j] = V[a, j]


@unit
def times(S: int, a: int, d: int, b: int) -> None:
    """b = diag(d) a."""
    _, _, V, J = system(S)
    size = extent(V, J, b)
    for j in range(size):
        V[b, j] = V[a, j] * V[d, j]


@vectorised
def scaled_dot(S: int, a: int, b: int, d: int) -> float:
    """a . b in the metric of the step, where d are the sizes of the unknowns."""
    _, _, V, J = system(S)
    size = extent(V, J, a)
    total = 0.0
    for j in range(size):
        total += (V[a, j] / V[d, j]) * (V[b, j] / V[d, j])
    return total


@vectorised
def apply(S: int, p: int, x: int) -> None:
    """x = J p."""
    _, _, V, J = system(S)
    for i in range(J.shape[0]):
        total = 0.0
        for j in range(J.shape[1]):
            total += J[i, j] * V[p, j]
        V[x, i] = total


@unit
def adjoint(S: int, x: int, g: int) -> None:
    """g = J^T x."""
    _, _, V, J = system(S)
    for j in range(J.shape[1]):
        V[g, j] = 0.0
    for i in range(J.shape[0]):
        t = V[x, i]
        for j in range(J.shape[1]):
            V[g, j] += J[i, j] * t


@unit
def products(S: int, A: int, k: int, x: int, u: int) -> None:
    """u = A x, where A is k rows from A on."""
    _, _, V, _ = system(S)
    for i in range(k):
        V[u, i] = dot(S, A + i, x)


@unit
def sums(S: int, A: int, k: int, u: int, x: int) -> None:
    """x = A^T u."""
    _, _, V, _ = system(S)
    for j in range(V.shape[1]):
        V[x, j] = 0.0
    for i in range(k):
        t = V[u, i]
        for j in range(V.shape[1]):
            V[x, j] += V[A + i, j] * t


@vectorised
def cholesky(S: int, d: int, L: int) -> bool:
    """J D^2 J^T = L L^T; whether the kernel had the digits."""
    _, _, V, J = system(S)
    n, m = J.shape
    low, high = math.inf, 0.0
    for i in range(n):
        for j in range(i + 1):
            t = 0.0
            for k in range(m):
                t += (J[i, k] * V[d, k]) * (J[j, k] * V[d, k])
            for k in range(j):
                t -= V[L + i, k] * V[L + j, k]
            if j < i:
                V[L + i, j] = t / V[L + j, j]
                continue
            if not 0.0 < t < math.inf:
                return False
            t = math.sqrt(t)
            V[L + i, i], low, high = t, min(low, t), max(high, t)
    return low * low > 8 * n * UNIT * high * high


@unit
def forward(S: int, L: int, n: int, x: int, u: int) -> None:
    """u = L^{-1} x."""
    _, _, V, _ = system(S)
    for i in range(n):
        t = V[x, i]
        for k in range(i):
            t -= V[L + i, k] * V[u, k]
        V[u, i] = t / V[L + i, i]


@unit
def backward(S: int, L: int, n: int, x: int, u: int) -> None:
    """u = L^{-T} x."""
    _, _, V, _ = system(S)
    for i in range(n):
        V[u, i] = V[x, i]
    for i in range(n - 1, -1, -1):
        V[u, i] /= V[L + i, i]
        for k in range(i):
            V[u, k] -= V[L + i, k] * V[u, i]


@unit
def orthogonal(S: int, d: int, L: int, Q: int, K: int) -> None:
    """A^+ = Q^T K where n <= m, else A^+ = K^T Q, A = J D; of minimum norm where A lacks rank."""
    _, _, V, J = system(S)
    k = min(J.shape)
    top = scaled_rows(S, d, Q)
    gram_schmidt(S, L, Q, k)
    threshold = 2 * UNIT * V.shape[1]
    if not inverted(S, L, K, k) > threshold:
        scaled_rows(S, d, Q)
        singular_values(S, Q, K, k, threshold)
    for i in range(k):
        for j in range(k):
            V[K + i, j] /= top


@unit
def scaled_rows(S: int, d: int, Q: int) -> float:
    """Q = A or A^T, divided by the largest entry, which is returned; 1 where that is zero."""
    _, _, V, J = system(S)
    dual = J.shape[0] <= J.shape[1]
    k, long = min(J.shape), max(J.shape)
    top = 0.0
    for i in range(k):
        for j in range(long):
            V[Q + i, j] = J[i, j] * V[d, j] if dual else J[j, i] * V[d, i]
            top = max(top, abs(V[Q + i, j]))
    top = top if top > 0.0 else 1.0
    for i in range(k):
        combine(S, 1.0 / top, Q + i, 0.0, Q + i, Q + i)
    return top


@unit
def gram_schmidt(S: int, L: int, Q: int, k: int) -> None:
    """Q = L Q with orthonormal rows; zero those that depend on others."""
    _, _, V, _ = system(S)
    for i in range(k):
        before = norm(S, Q + i)
        for j in range(k):
            V[L + i, j] = 0.0
        for _ in range(2):
            for j in range(i):
                t = dot(S, Q + j, Q + i)
                V[L + i, j] += t
                combine(S, 1.0, Q + i, -t, Q + j, Q + i)
        size = norm(S, Q + i)
        size = size if size > UNIT * before else 0.0
        V[L + i, i] = size
        combine(S, 1.0 / size if size > 0.0 else 0.0, Q + i, 0.0, Q + i, Q + i)


@unit
def inverted(S: int, L: int, K: int, n: int) -> float:
    """K = L^{-1}, and the reciprocal of the condition number of L in the 1-norm."""
    _, _, V, _ = system(S)
    size, inverse = 0.0, 0.0
    for j in range(n):
        if not V[L + j, j] > 0.0:
            return 0.0
        total, other = 0.0, 0.0
        for i in range(n):
            t = 1.0 if i == j else 0.0
            for k in range(j, i):
                t -= V[L + i, k] * V[K + k, j]
            t = t / V[L + i, i] if i >= j else 0.0
            V[K + i, j] = t
            total, other = total + abs(V[L + i, j]), other + abs(t)
        size, inverse = max(size, total), max(inverse, other)
    return 1.0 / (size * inverse)


@unit
def singular_values(S: int, Q: int, K: int, n: int, threshold: float) -> None:
    """Q = U diag(s) V^T by rotations of its rows: Q becomes V^T, and K = diag(s)^+ U^T."""
    _, _, V, _ = system(S)
    for i in range(n):
        for j in range(n):
            V[K + i, j] = 1.0 if i == j else 0.0
    turned, sweeps = True, 0
    while turned and sweeps < SWEEPS:
        turned, sweeps = False, sweeps + 1
        for i in range(n):
            for j in range(i):
                a, b, c = dot(S, Q + i, Q + i), dot(S, Q + j, Q + j), dot(S, Q + i, Q + j)
                if abs(c) > 8 * UNIT * math.sqrt(a * b):
                    turned = True
                    z = (b - a) / (2.0 * c)
                    t = math.copysign(1.0, z) / (abs(z) + math.sqrt(1.0 + z * z))
                    c = 1.0 / math.sqrt(1.0 + t * t)
                    rotate(S, Q + i, Q + j, c, c * t)
                    rotate(S, K + i, K + j, c, c * t)
    top = 0.0
    for i in range(n):
        top = max(top, norm(S, Q + i))
    for i in range(n):
        size = norm(S, Q + i)
        t = 1.0 / size if size > threshold * top else 0.0
        combine(S, t, Q + i, 0.0, Q + i, Q + i)
        combine(S, t, K + i, 0.0, K + i, K + i)


@unit
def rotate(S: int, i: int, j: int, c: float, s: float) -> None:
    _, _, V, _ = system(S)
    for k in range(V.shape[1]):
        V[i, k], V[j, k] = c * V[i, k] - s * V[j, k], s * V[i, k] + c * V[j, k]
