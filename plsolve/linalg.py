"""Dense linear algebra on the tangent kernel, straight on BLAS and LAPACK and without copies of J.

The pseudo-inverse of J D comes from one of two factorisations: Cholesky of K = J D^2 J^T (n^2 m + n^3/3 flops, good
while kappa(K) is below 1/u), or Householder reflections on (J D)^T (2 n^2 m flops, good while kappa(J) is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas, lapack

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Unit roundoff of float64.
UNIT = float(np.finfo(np.float64).eps) / 2

_BLOCK = 1 << 16  # numbers in one block of a blocked pass: small enough to stay in the cache

norm: Callable[[Array], float] = blas.dnrm2  # safe from overflow, and NaN or inf when any entry is


def column_blocks(J: Array) -> Iterator[slice]:
    """Slices of columns, each block of J small enough to be copied at no cost in memory."""
    width = max(128, _BLOCK // J.shape[0])
    for start in range(0, J.shape[1], width):
        yield slice(start, start + width)


def gram(J: Array, d: Array | None = None) -> Array:
    """Lower triangle of J D^2 J^T, D = diag(d) (d None: the identity), Fortran ordered."""
    if d is None and J.flags.c_contiguous:
        return blas.dsyrk(1.0, J.T, trans=1, lower=1)
    if d is None and J.flags.f_contiguous:
        return blas.dsyrk(1.0, J, lower=1)
    K = np.zeros((J.shape[0], J.shape[0]), order="F")
    for block in column_blocks(J):
        B = np.array(J[:, block], order="C") if d is None else np.multiply(J[:, block], d[block], order="C")
        K = blas.dsyrk(1.0, B.T, beta=1.0, c=K, trans=1, lower=1, overwrite_c=1)
    return K


def weighted(J: Array, d: Array | None, columns: Mask | None, *, transposed: bool) -> Array:
    """J D, or (J D)^T, restricted to the columns, as a new Fortran-ordered array that LAPACK may overwrite."""
    A = J if columns is None else J[:, columns]
    if d is not None:
        A = A * (d if columns is None else d[columns])
    return np.array(A.T if transposed else A, order="F")


def magnitude(J: Array, w: Array) -> float:
    """|| |J| |w| ||: how large the terms are that cancel in F when it is linear."""
    rows = max(1, _BLOCK // J.shape[1])
    w = np.abs(w)
    total = 0.0
    for start in range(0, J.shape[0], rows):
        part = np.abs(J[start : start + rows]) @ w
        total += float(part @ part)
    return float(np.sqrt(total))


class Cholesky:
    """K = L L^T from its lower triangle, which is overwritten; ``sound`` tells whether K still had the digits."""

    def __init__(self, K: Array) -> None:
        n = K.shape[0]
        diagonal = K.ravel(order="K")[:: n + 1]  # a view, since K is contiguous
        diagonal += 1e-16 * sum(diagonal.tolist()) / n  # lists: ten times faster than reductions where n is small
        self._L, info = lapack.dpotrf(K, lower=1, clean=0, overwrite_a=1)
        pivots = self._L.diagonal().tolist()
        # The smallest pivot squared carries an error of about n u lambda_max: below that it is noise.
        self.sound = info == 0 and min(pivots) ** 2 > 8 * n * UNIT * max(pivots) ** 2

    def solve(self, x: Array) -> Array:
        """K^{-1} x."""
        return lapack.dpotrs(self._L, x, lower=1)[0]  # type: ignore[no-any-return]


class Orthogonal:
    """A = Q R by Householder reflections, A tall and overwritten; with R = U diag(s) V^T where R is near singular.

    Gives the pseudo-inverses of A and of A^T, of minimum norm where A lacks rank.
    """

    def __init__(self, A: Array) -> None:
        self.rows, k = A.shape
        self._lwork = 64 * k
        self._svd: tuple[Array, Array, Array] | None = None
        if k == 0:  # no unknown is free: LAPACK refuses empty arrays
            self._R, self._svd = A[:0], (A[:0], np.zeros(0), A[:0])
            return
        self._qr, self._tau, _, _ = lapack.dgeqrf(A, lwork=self._lwork, overwrite_a=1)
        self._R = np.asfortranarray(np.triu(self._qr[:k]))
        threshold = 2 * UNIT * self.rows
        rcond, _ = lapack.dtrcon(self._R)
        if not rcond > threshold and np.isfinite(self._R).all():
            U, s, Vt, _ = lapack.dgesdd(self._R)
            rank = int(np.count_nonzero(s > threshold * s[0]))
            self._svd = U[:, :rank], s[:rank], Vt[:rank]

    def least_squares(self, x: Array) -> Array:
        """A^+ x."""
        z = self._rotate(x, "T")[: self._R.shape[0]]
        if self._svd is None:
            return lapack.dtrtrs(self._R, z)[0]  # type: ignore[no-any-return]
        U, s, Vt = self._svd
        return ((z @ U) / s) @ Vt

    def whitened(self, x: Array) -> Array:
        """R^{-T} x, whose norm is that of (A^T)^+ x."""
        if self._svd is None:
            return lapack.dtrtrs(self._R, x, trans=1)[0]  # type: ignore[no-any-return]
        U, s, Vt = self._svd
        return U @ ((Vt @ x) / s)

    def minimum_norm(self, x: Array) -> Array:
        """(A^T)^+ x."""
        z = np.zeros(self.rows)
        z[: self._R.shape[0]] = self.whitened(x)
        return self._rotate(z, "N")

    def _rotate(self, x: Array, trans: str) -> Array:
        """Q^T x or Q x, Q square."""
        if self._R.size == 0:
            return x
        return lapack.dormqr("L", trans, self._qr, self._tau, x[:, None], self._lwork)[0][:, 0]  # type: ignore[no-any-return]
