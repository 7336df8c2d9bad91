"""Dense linear algebra on the tangent kernel by direct calls of BLAS and LAPACK, without copies of J.

The pseudo-inverse of J D comes from one of two factorisations: Cholesky of K = J D^2 J^T (n^2 m + n^3/3 flops, accurate
while kappa(K) < 1/u), or Householder reflections on (J D)^T (2 n^2 m flops, accurate while kappa(J) < 1/u).

Expensive calls go to numpy's BLAS and LAPACK, which F and jac usually call, too. numpy and scipy each bring an OpenBLAS
whose threads spin for a while after each call; alternating between the two made the kernel three times slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas, eigh_tridiagonal, lapack

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FLOAT64 = np.dtype(np.float64)
#: The square of a longer vector's norm overflows.
HUGE = 1e150
#: Unit roundoff of float64.
UNIT = float(np.finfo(np.float64).eps) / 2

_SMALL = 128  # order below which LAPACK uses one thread, so that scipy's, which has less overhead, is used
_BLOCK = 1 << 16  # numbers in a block of a blocked pass: small enough for the cache

ALL_FREE: Mask = np.empty(0, np.bool_)  # stands for all unknowns
NO_VECTOR: Array = np.empty(0)
NO_MATRIX: Array = np.empty((0, 0))

norm: Callable[[Array], float] = blas.dnrm2  # safe from overflow, and NaN or inf when any entry is


def column_blocks(J: Array) -> Iterator[slice]:
    """Slices of columns; each block of J is small enough for a copy to need little memory."""
    width = max(128, _BLOCK // J.shape[0])
    for start in range(0, J.shape[1], width):
        yield slice(start, start + width)


def column_lengths(J: Any) -> Array:
    """The norms of the columns (m,) of an array or a sparse matrix."""
    with np.errstate(over="ignore"):
        size = np.sqrt(column_squares(J))
    if not (size.min() > 1e-140 and size.max() < 1e140):  # squares may have overflowed or underflowed
        top = np.abs(J).max(axis=0)
        top = top if isinstance(J, np.ndarray) else top.toarray().ravel()
        top[top == 0.0] = 1.0
        size = top * np.sqrt(column_squares(J / top if isinstance(J, np.ndarray) else J.multiply(1.0 / top).tocsr()))
    return size


def column_squares(J: Any) -> Array:
    """The squared norms of the columns (m,)."""
    if not isinstance(J, np.ndarray):
        return np.asarray(J.multiply(J).sum(axis=0)).ravel()
    if J.shape[1] <= 128:
        return np.vecdot(J.T, J.T)  # type: ignore[no-any-return]
    return np.concatenate([np.einsum("ij,ij->j", B, B) for B in (J[:, c] for c in column_blocks(J))])


def gram(J: Array, d: Array) -> Array:
    """J D^2 J^T, D = diag(d) (d empty: the identity)."""
    if d.size == 0:
        return J.dot(J.T)  # type: ignore[no-any-return]  # numpy sees the symmetry: half the work, by its own BLAS
    K = np.zeros((J.shape[0], J.shape[0]))
    for block in column_blocks(J):
        B = J[:, block] * d[block]
        K += B @ B.T
    return K


def weighted(J: Array, d: Array, columns: Mask) -> Array:
    """J D restricted to the columns, as a new array; d empty: D is the identity, columns empty: all."""
    if columns.size == 0:
        return J * d if d.size else J.copy()
    return J[:, columns] * d[columns] if d.size else J[:, columns]


def magnitude(J: Array, w: Array) -> float:
    """|| |J| |w| ||, the size of the terms that cancel in a linear F."""
    rows = max(1, _BLOCK // J.shape[1])
    w = np.abs(w)
    if J.shape[0] <= rows:
        return norm(np.abs(J).dot(w))
    total = 0.0
    for start in range(0, J.shape[0], rows):
        total = math.hypot(total, norm(np.abs(J[start : start + rows]) @ w))
    return total


def lanczos(apply: Callable[[Array], Array], start: Array, steps: int) -> tuple[Array, Array]:
    """Ritz values of a symmetric matrix A, ascending, and their weights, by Lanczos with full reorthogonalisation.

    The extreme values approximate the ends of the spectrum from inside. SUM_i weight_i f(value_i) approximates
    start^T f(A) start. NaN where the matrix is not finite.
    """
    n = start.size
    V = np.empty((min(steps, n) + 1, n))
    diagonal, beside = np.zeros(len(V) - 1), np.zeros(len(V) - 1)
    size = norm(start)
    V[0] = start / size
    k = 0
    for k in range(len(V) - 1):
        z = apply(V[k])
        diagonal[k] = z.dot(V[k])
        for _ in range(2):
            z = z - V[: k + 1].T @ (V[: k + 1] @ z)
        beside[k] = norm(z)
        if not beside[k] > n * UNIT * (abs(diagonal[k]) + beside[max(k - 1, 0)]):
            break
        V[k + 1] = z / beside[k]
    if not (finite(diagonal) and finite(beside)):
        return np.full(1, math.nan), np.full(1, math.nan)
    values, vectors = eigh_tridiagonal(diagonal[: k + 1], beside[:k])
    return np.asarray(values, np.float64), np.square(size * np.asarray(vectors[0], np.float64))


def finite(x: Array) -> bool:
    """Whether all entries are finite."""
    return bool(np.isfinite(x).all())


def alternating(w: Array) -> Array:
    """The vector -1, 1, -1, ... of the size of w."""
    signs = np.ones(w.size)
    signs[::2] = -1.0
    return signs


def scattered(w: Array, k: int) -> Array:
    """A quasi-random vector of the size of w, with mean 0 and mean square 1, which depends on k alone."""
    x = np.sin(12.9898 * np.arange(1.0, w.size + 1.0) + 78.233 * (k + 1.0)) * 43758.5453
    return math.sqrt(12.0) * (x - np.floor(x) - 0.5)


class Cholesky(NamedTuple):
    """K = L L^T; ``sound``: K is well enough conditioned for accurate solves."""

    L: Array
    sound: bool

    def solve(self, x: Array) -> Array:
        """K^{-1} x."""
        return potrs(self.L, x)

    def half(self, x: Array) -> Array:
        """L^{-1} x, whose squared norm is x . K^{-1} x."""
        return forward(self.L, x)


def cholesky(K: Array) -> Cholesky:
    """Factor K, symmetric and contiguous, which is overwritten."""
    n = K.shape[0]
    L, info = potrf(K)
    low, high = diagonal_range(L)
    # The smallest pivot squared has an error of about n u lambda_max; below that it is noise.
    return Cholesky(L, info == 0 and low * low > 8 * n * UNIT * high * high)


class Orthogonal(NamedTuple):
    """A = Q R by Householder reflections, A tall; with R = U diag(s) V^T where R is nearly singular.

    It gives the pseudo-inverses of A and A^T, also where A is rank-deficient.
    """

    qr: Array
    tau: Array
    R: Array
    singular: bool
    U: Array
    inverse_s: Array  # 1 / s, zero beyond the rank
    Vt: Array

    def least_squares(self, x: Array) -> Array:
        """A^+ x."""
        z = ormqr(self.qr, self.tau, x, False)[: self.R.shape[0]]
        if self.singular:
            return self.Vt.T.dot(self.U.T.dot(z) * self.inverse_s)  # type: ignore[no-any-return]
        return trtrs(self.R, z, False)

    def whitened(self, x: Array) -> Array:
        """R^{-T} x, whose norm is that of (A^T)^+ x."""
        if self.singular:
            return self.U.dot(self.Vt.dot(x) * self.inverse_s)  # type: ignore[no-any-return]
        return trtrs(self.R, x, True)

    def from_coordinates(self, u: Array) -> Array:
        """(A^T)^+ x from u, the whitened x."""
        extended = np.zeros(self.qr.shape[0])
        extended[: u.size] = u
        return ormqr(self.qr, self.tau, extended, True)


def orthogonal(A: Array) -> Orthogonal:
    """Factor A (rows >= columns), Fortran ordered, which is overwritten."""
    rows, k = A.shape
    qr, tau = geqrf(A)
    if k == 0:  # no unknown is free, and LAPACK does not accept empty arrays
        return Orthogonal(qr, tau, NO_MATRIX, True, NO_MATRIX, tau, NO_MATRIX)
    R = upper_triangle(qr)
    threshold = 2 * UNIT * rows
    if trcon(R) > threshold or not finite(R):
        return Orthogonal(qr, tau, R, False, R, tau, R)
    U, s, Vt = gesdd(R)
    kept = s > threshold * s[0]
    return Orthogonal(qr, tau, R, True, U, kept / np.maximum(s, 1e-300), Vt)


# -- LAPACK ------------------------------------------------------------------------------------------------------------


def diagonal_range(L: Array) -> tuple[float, float]:
    """The least and the largest diagonal entry."""
    diagonal = L.diagonal().tolist()
    return min(diagonal), max(diagonal)


def potrf(K: Array) -> tuple[Array, int]:
    """The lower Cholesky factor of K, which may be overwritten, and 0 if K is positive definite."""
    if K.shape[0] < _SMALL:
        return lapack.dpotrf(K.T, 1, 0, 1)  # lower; the rest is not cleaned; K is overwritten
    try:
        return np.asfortranarray(np.linalg.cholesky(K)), 0  # as LAPACK's triangular solvers want it
    except np.linalg.LinAlgError:
        return K, 1


def potrs(L: Array, x: Array) -> Array:
    """K^{-1} x from the Cholesky factor."""
    return lapack.dpotrs(L, x, 1)[0]  # type: ignore[no-any-return]


def forward(L: Array, x: Array) -> Array:
    """L^{-1} x from the Cholesky factor."""
    return lapack.dtrtrs(L, x, 1)[0]  # type: ignore[no-any-return]


def geqrf(A: Array) -> tuple[Array, Array]:
    """Householder vectors and R, which may overwrite A, and the factors of the reflections."""
    if A.shape[1] < _SMALL:
        qr, tau, _, _ = lapack.dgeqrf(A, lwork=64 * max(A.shape[1], 1), overwrite_a=1)
        return qr, tau
    h, tau = np.linalg.qr(A, mode="raw")
    return h.T, tau


def upper_triangle(qr: Array) -> Array:
    """R from the Householder factorisation, Fortran ordered."""
    return np.asfortranarray(np.triu(qr[: qr.shape[1]]))


def ormqr(qr: Array, tau: Array, x: Array, forward: bool) -> Array:
    """Q x (forward) or Q^T x, Q square."""
    if tau.size == 0:
        return x
    lwork = 64 * qr.shape[1]
    return lapack.dormqr("L", "N" if forward else "T", qr, tau, x[:, None], lwork)[0][:, 0]  # type: ignore[no-any-return]


def trtrs(R: Array, x: Array, transposed: bool) -> Array:
    """R^{-1} x or R^{-T} x, R upper triangular."""
    return lapack.dtrtrs(R, x, 0, transposed)[0]  # type: ignore[no-any-return]


def trcon(R: Array) -> float:
    """The reciprocal condition number of R in the 1-norm, estimated."""
    return lapack.dtrcon(R)[0]  # type: ignore[no-any-return]


def gesdd(R: Array) -> tuple[Array, Array, Array]:
    """The singular value decomposition U, s, V^T of a square R."""
    return np.linalg.svd(R)
