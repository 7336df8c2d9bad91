"""The linearisation of F at a point: everything that the methods do with J, they do through it.

A tangent offers ``apply(v)`` = J v, ``adjoint(z)`` = J^T z, the metric of the step (``norm``, ``dot``, ``raised``) and
``inverse(free)``, the pseudo-inverse of J on the free unknowns in that metric: x -> the smallest p, measured by
||p / scale||, that minimises ||x - J p|| with p = 0 where ``free`` is False. An empty ``free`` stands for all True.

Three kinds of J: dense array, scipy.sparse, LinearOperator. Three kinds of pseudo-inverse: through the n x n tangent
kernel (n <= number of free unknowns, theory 7.1), by QR of J itself (n larger), and iterative (neither fits).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse as sps
import scipy.sparse.linalg as spla

from plsolve.linalg import (
    UNIT,
    Array,
    Cholesky,
    Mask,
    Orthogonal,
    cholesky,
    gram,
    magnitude,
    norm,
    orthogonal,
    weighted,
)

_FEW = 4096  # a sparse or operator J with fewer entries than this is handled as a dense one
_DENSE_ENTRIES = 20_000_000  # an operator with no more entries (160 MB) is formed
_KERNEL_ROWS = 8192  # beyond, no n x n matrix is made (512 MiB)


class Inverse(Protocol):
    """The pseudo-inverse of J on the free unknowns."""

    @property
    def sound(self) -> bool:
        """False: the factorisation has lost its digits, ask for the orthogonal one."""

    @property
    def orthogonal(self) -> bool:
        """As accurate as J allows; there is nothing better to ask for."""

    @property
    def dual(self) -> bool:
        """n <= free unknowns, so that J p = x is solvable for full-rank J."""

    def solve(self, x: Array) -> Array:
        """J^+ x (m,)."""

    def length(self, x: Array) -> float:
        """||J^+ x|| in the metric of the step."""

    def slope(self, x: Array) -> float:
        """||J^T x||."""


def count(free: Mask, m: int) -> int:
    """How many of m unknowns are free."""
    return int(np.count_nonzero(free)) if free.size else m


def only(free: Mask, p: Array) -> Array:
    """p, zero where not free."""
    return np.where(free, p, 0.0) if free.size else p


def spread(free: Mask, q: Array) -> Array:
    """The vector that is q on the free unknowns and zero elsewhere."""
    if free.size == 0:
        return q
    p = np.zeros(free.size)
    p[free] = q
    return p


class KernelInverse:
    """J^+ x = D^2 J^T K^{-1} x with K = J D^2 J^T factored (theory 7.1)."""

    dual, orthogonal = True, False

    def __init__(self, tangent: Tangent, free: Mask, solve_gram: Callable[[Array], Array], sound: bool) -> None:
        self._tangent, self._free, self._solve_gram = tangent, free, solve_gram
        self.sound = sound

    def solve(self, x: Array) -> Array:
        return only(self._free, self._tangent.raised(self._tangent.adjoint(self._solve_gram(x))))

    def length(self, x: Array) -> float:
        return math.sqrt(max(x.dot(self._solve_gram(x)), 0.0))

    def slope(self, x: Array) -> float:
        return norm(self._tangent.adjoint(x))


class DirectInverse:
    """J^+ x = D A^+ x from a solver for A = J D, which gives A^+ x on the free unknowns alone."""

    sound = True

    def __init__(
        self, tangent: Tangent, free: Mask, solve: Callable[[Array], Array], *, dual: bool, orthogonal: bool
    ) -> None:
        self._tangent, self._free, self._solve = tangent, free, solve
        self.dual, self.orthogonal = dual, orthogonal

    def solve(self, x: Array) -> Array:
        return self._tangent.scaled(spread(self._free, self._solve(x)))

    def length(self, x: Array) -> float:
        return norm(self._solve(x))

    def slope(self, x: Array) -> float:
        return norm(self._tangent.adjoint(x))


class DenseInverse(NamedTuple):
    """J^+ of an array: by the kernel (K), or by Householder reflections (Q) on (J D)^T, for n > m on J D itself."""

    T: DenseTangent
    free: Mask
    K: Cholesky
    Q: Orthogonal
    dual: bool
    orthogonal: bool
    sound: bool

    def solve(self, x: Array) -> Array:
        if not self.orthogonal:
            return only(self.free, self.T.raised(self.T.adjoint(self.K.solve(x))))
        p = self.Q.minimum_norm(x) if self.dual else self.Q.least_squares(x)
        return self.T.scaled(spread(self.free, p))

    def length(self, x: Array) -> float:
        if not self.orthogonal:
            return math.sqrt(max(x.dot(self.K.solve(x)), 0.0))
        return norm(self.Q.whitened(x) if self.dual else self.Q.least_squares(x))

    def slope(self, x: Array) -> float:
        if self.orthogonal or self.free.size or self.T.scale.size or x.size < 64:
            return norm(self.T.adjoint(x))
        return norm(np.tril(self.K.L).T @ x)  # K = L L^T: n^2 operations instead of n m


class Tangent:
    """What the three kinds of J share: products and the metric ||p / scale|| of the step (scale empty: all ones)."""

    def __init__(self, J: Any, scale: Array) -> None:
        self.J, self.scale = J, scale
        self.shape: tuple[int, int] = J.shape

    def apply(self, v: Array) -> Array:
        """J v."""
        return self.J.dot(v)  # type: ignore[no-any-return]

    def adjoint(self, z: Array) -> Array:
        """J^T z."""
        return self.J.T.dot(z)  # type: ignore[no-any-return]

    def scaled(self, p: Array) -> Array:
        """D p, D = diag(scale)."""
        return self.scale * p if self.scale.size else p

    def unscaled(self, p: Array) -> Array:
        """D^{-1} p."""
        return p / self.scale if self.scale.size else p

    def norm(self, p: Array) -> float:
        """||p / scale||."""
        return norm(self.unscaled(p))

    def dot(self, p: Array, q: Array) -> float:
        """The inner product of that norm."""
        return float(self.unscaled(p).dot(self.unscaled(q)))

    def raised(self, g: Array) -> Array:
        """D^2 g: the gradient g as a direction in the metric of the step."""
        return self.scaled(self.scaled(g))

    def weights(self, free: Mask) -> Array:
        """The diagonal of D restricted to the free unknowns; empty: all ones."""
        return self.scaled(free.astype(np.float64)) if free.size else self.scale

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        """The pseudo-inverse of J on the free unknowns; orthogonal True asks for the accurate factorisation."""
        raise NotImplementedError

    def magnitude(self, w: Array) -> float:
        """A lower estimate of || |J| |w| ||, exact where the entries of J are at hand."""
        return norm(self.apply(w))

    def toarray(self) -> Array:
        """J as an array."""
        return self.J  # type: ignore[no-any-return]


class DenseTangent(Tangent):
    """J is an (n, m) array."""

    def magnitude(self, w: Array) -> float:
        return magnitude(self.J, w)

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        return dense_inverse(self, free, orthogonal)


def dense_inverse(T: DenseTangent, free: Mask, by_reflections: bool) -> DenseInverse:
    """Cholesky of the n x n kernel, or Householder reflections where asked for or n > m."""
    n, m = T.J.shape
    none, empty = np.empty((0, 0)).T, np.empty(0)
    dual = n <= count(free, m)
    if dual and not by_reflections:
        K = cholesky(gram(T.J, T.weights(free)))
        Q = Orthogonal(none, empty, none, False, none, empty, none)
        return DenseInverse(T, free, K, Q, True, False, K.sound)
    A = weighted(T.J, T.scale, free)
    Q = orthogonal(np.asfortranarray(A.T if dual else A))
    return DenseInverse(T, free, Cholesky(none, False), Q, dual, True, True)


class SparseTangent(Tangent):
    """J is a scipy.sparse CSR matrix or array."""

    def magnitude(self, w: Array) -> float:
        return norm(abs(self.J).dot(np.abs(w)))

    def toarray(self) -> Array:
        return self.J.toarray()  # type: ignore[no-any-return]

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        n, m = self.shape
        if n * m <= _FEW:
            return DenseTangent(self.toarray(), self.scale).inverse(free, orthogonal)
        d = self.weights(free)
        A = self.J if d.size == 0 else self.J @ sps.diags_array(d)
        dual = n <= count(free, m)
        if orthogonal:
            return iterative(self, free, spla.aslinearoperator(A), dual)
        K = (A @ A.T if dual else A.T @ A).tocsc()
        k = K.shape[0]
        if dual and k <= _KERNEL_ROWS and K.nnz > 0.1 * k * k:
            kernel = cholesky(np.asfortranarray(K.toarray()))
            return KernelInverse(self, free, kernel.solve, kernel.sound)
        shift = K.diagonal()
        shift = 1e-16 * shift.mean() + (shift == 0.0)  # a column that is held or unused has an empty row in A^T A
        try:
            lu = spla.splu(
                K + sps.diags_array(shift, format="csc"), "MMD_AT_PLUS_A", 0.0, options={"SymmetricMode": True}
            )
        except RuntimeError:  # exactly singular
            return iterative(self, free, spla.aslinearoperator(A), dual)
        pivots = np.abs(lu.U.diagonal())
        sound = bool(pivots.min() > 8 * k * UNIT * pivots.max())
        if not sound and not dual:
            return iterative(self, free, spla.aslinearoperator(A), dual)
        if dual:
            return KernelInverse(self, free, lu.solve, sound)

        def least_squares(x: Array) -> Array:
            p = lu.solve(A.T @ x)
            p += lu.solve(A.T @ (x - A @ p))  # corrected seminormal equations: about as accurate as QR
            return p[free] if free.size else p

        return DirectInverse(self, free, least_squares, dual=False, orthogonal=False)


class OperatorTangent(Tangent):
    """J is a LinearOperator; with a method ``gram()`` the kernel comes from there."""

    def __init__(self, J: Any, scale: Array) -> None:
        super().__init__(J, scale)
        self._dense: DenseTangent | None = None

    def apply(self, v: Array) -> Array:
        return self.J.matvec(v)  # type: ignore[no-any-return]

    def adjoint(self, z: Array) -> Array:
        return self.J.rmatvec(z)  # type: ignore[no-any-return]

    def toarray(self) -> Array:
        n, m = self.shape
        if n > m:
            return np.column_stack([self.apply(e) for e in np.eye(m)]) if m else np.zeros(self.shape)
        J = np.empty(self.shape)
        unit = np.zeros(n)
        for i in range(n):
            unit[i] = 1.0
            J[i] = self.adjoint(unit)
            unit[i] = 0.0
        return J

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        n, m = self.shape
        d = self.weights(free)
        dual = n <= count(free, m)
        if dual and d.size == 0 and not orthogonal and self._dense is None and hasattr(self.J, "gram"):
            kernel = cholesky(np.array(self.J.gram(), dtype=np.float64, order="F"))
            return KernelInverse(self, free, kernel.solve, kernel.sound)
        if n * m <= _DENSE_ENTRIES:
            if self._dense is None:
                self._dense = DenseTangent(self.toarray(), self.scale)
            return self._dense.inverse(free, orthogonal)
        if dual and not orthogonal and n <= _KERNEL_ROWS:
            kernel = cholesky(self._gram(d * d))
            return KernelInverse(self, free, kernel.solve, kernel.sound)
        A = spla.aslinearoperator(self.J)
        return iterative(self, free, A if d.size == 0 else A @ spla.aslinearoperator(sps.diags_array(d)), dual)

    def _gram(self, d2: Array) -> Array:
        n = self.shape[0]
        K = np.empty((n, n), order="F")
        unit = np.zeros(n)
        for j in range(n):
            unit[j] = 1.0
            column = self.adjoint(unit)
            K[:, j] = self.apply(d2 * column if d2.size else column)
            unit[j] = 0.0
        return K


def iterative(tangent: Tangent, free: Mask, A: Any, dual: bool) -> Inverse:
    """J^+ by LSMR on A = J D: the minimum-norm least-squares solution at any rank, with products only."""

    def least_squares(x: Array) -> Array:
        size = norm(x)
        if size == 0.0:
            return np.zeros(A.shape[1])
        p = spla.lsmr(A, x / size, atol=1e-14, btol=1e-14, conlim=0.0, maxiter=4 * max(A.shape))[0]
        return size * (p[free] if free.size else p)

    return DirectInverse(tangent, free, least_squares, dual=dual, orthogonal=True)


def is_sparse(J: Any) -> bool:
    """Whether J is a scipy.sparse matrix or array."""
    return bool(sps.issparse(J))


def tangent(J: Any, scale: Array) -> Tangent:
    """The tangent of the kind that J is."""
    if isinstance(J, np.ndarray):
        return DenseTangent(J, scale)
    if sps.issparse(J):
        return SparseTangent(J, scale)
    return OperatorTangent(J, scale)
