"""The linearisation of F at a point: everything that the methods do with J, they do through it.

A tangent offers ``apply(v)`` = J v, ``adjoint(z)`` = J^T z, the metric of the step (``norm``, ``dot``, ``raised``) and
``inverse(free)``, the pseudo-inverse of J on the free unknowns in that metric: x -> the smallest p, measured by
||p / scale||, that minimises ||x - J p|| with p = 0 where ``free`` is False. An empty ``free`` stands for all True.

Three kinds of J: dense array, scipy.sparse, LinearOperator. Three kinds of pseudo-inverse: through the n x n tangent
kernel (n <= number of free unknowns, theory 7.1), by QR of J itself (n larger), and iterative (neither fits): by
conjugate gradients on the kernel, and where that loses its way, as Cholesky does, by LSMR on J.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse as sps
import scipy.sparse.linalg as spla

from plsolve.krylov import Memory
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
_GRAM_ROWS = 16384  # the same where the operator makes it by itself (2 GiB)
_BLOCK_NUMBERS = 1 << 22  # in a block of rows of J (32 MiB)
_FILLS = 10  # times the entries of the augmented system: K is too full to be formed
_ROUGHLY = 0.5  # accuracy of lengths that only steer


class LinearSolver:
    """How pseudo-inverses are to be found, and what those at one point tell those at the next.

    kind: 'auto'; 'cholesky', of K whatever its size; 'qr', orthogonal factorisations from the start; 'cg', no
    factorisation at all. Conjugate gradients solve to 1e-12 of the right-hand side, or (``inexact``) no further than
    Newton's method can use: 0.9 (||r||/||r before||)^2 between 0.1 and 1e-3 (Eisenstat, Walker, SIAM J. Sci. Comput.
    17, 1996).
    """

    def __init__(self, kind: str = "auto", inexact: bool = False) -> None:
        self.kind, self.inexact = kind, inexact
        self.memory = Memory()
        self.augmented: bool | None = None  # which sparse factorisation fills less, once both have been tried
        self._size = 0.0

    def forcing(self, size: float) -> float:
        """The accuracy at a new point, where ||r|| is this size."""
        if not self.inexact:
            return 1e-12
        ratio, self._size = (size / self._size if self._size > 0.0 else 1.0), size
        return min(max(0.9 * ratio * ratio, 1e-3), 0.1)

    def kernel_fits(self, n: int, rows: int) -> bool:
        return self.kind == "cholesky" or (self.kind == "auto" and n <= rows)


class Inverse(Protocol):
    """The pseudo-inverse of J on the free unknowns."""

    @property
    def sound(self) -> bool:
        """False: the factorisation has lost its digits, ask for the orthogonal one."""

    @property
    def orthogonal(self) -> bool:
        """As accurate as J allows; there is nothing better to ask for."""

    @property
    def direct(self) -> bool:
        """One more right-hand side costs next to nothing."""

    @property
    def dual(self) -> bool:
        """n <= free unknowns, so that J p = x is solvable for full-rank J, and solved to all digits there are."""

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        """J^+ x as (u, v): linear in x, and u . v' is the inner product of two such vectors in the metric of the step.

        For n < m they are n numbers each instead of m.
        """

    def lift(self, u: Array) -> Array:
        """J^+ x (m,) from its coordinates u."""

    def image(self, u: Array, p: Array) -> Array:
        """J p (n,), where p = lift(u)."""

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
    """J^+ x = D^2 J^T K^{-1} x with K = J D^2 J^T factored (theory 7.1); K itself, where it is kept, spares J p."""

    direct = dual = True

    def __init__(
        self,
        tangent: Tangent,
        free: Mask,
        solve_gram: Callable[[Array], Array],
        sound: bool,
        K: Array | None = None,
        orthogonal: bool = False,
    ) -> None:
        self._tangent, self._free, self._solve_gram = tangent, free, solve_gram
        self.sound, self.orthogonal = sound, orthogonal
        self._K = K

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        return self._solve_gram(x), x

    def lift(self, u: Array) -> Array:
        return only(self._free, self._tangent.raised(self._tangent.adjoint(u)))

    def image(self, u: Array, p: Array) -> Array:
        return self._tangent.apply(p) if self._K is None else self._K @ u

    def solve(self, x: Array) -> Array:
        return self.lift(self._solve_gram(x))

    def length(self, x: Array) -> float:
        return math.sqrt(max(x.dot(self._solve_gram(x)), 0.0))

    def slope(self, x: Array) -> float:
        if self._K is None or self._free.size or self._tangent.scale.size:
            return norm(self._tangent.adjoint(x))
        return math.sqrt(max(x.dot(self._K @ x), 0.0))


class DirectInverse:
    """J^+ x = D A^+ x from a solver for A = J D, which gives A^+ x on the free unknowns alone."""

    sound = True

    def __init__(
        self,
        tangent: Tangent,
        free: Mask,
        solve: Callable[[Array], Array],
        *,
        dual: bool,
        orthogonal: bool,
        direct: bool,
    ) -> None:
        self._tangent, self._free, self._solve = tangent, free, solve
        self.dual, self.orthogonal, self.direct = dual, orthogonal, direct

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        p = self._solve(x)
        return p, p

    def lift(self, u: Array) -> Array:
        return self._tangent.scaled(spread(self._free, u))

    def image(self, u: Array, p: Array) -> Array:
        return self._tangent.apply(p)

    def solve(self, x: Array) -> Array:
        return self.lift(self._solve(x))

    def length(self, x: Array) -> float:
        return norm(self._solve(x))

    def slope(self, x: Array) -> float:
        return norm(self._tangent.adjoint(x))


class CGInverse:
    """J^+ x = D^2 J^T z, where K z = x is solved by conjugate gradients as accurately as asked for.

    Where the first x is out of K's reach (singular K, inconsistent equations), LSMR solves min ||x - J p|| for this and
    all that follow.
    """

    sound = True
    direct = dual = False

    def __init__(self, tangent: Tangent, free: Mask) -> None:
        self._tangent, self._free, self._solver = tangent, free, tangent.solver
        d = tangent.weights(free)
        self._d2 = d * d
        self._accuracy = 0.0  # not set yet
        self._by_lsmr: Inverse | None = None

    @property
    def orthogonal(self) -> bool:
        return self._by_lsmr is not None

    def _product(self, z: Array) -> Array:
        g = self._tangent.adjoint(z)
        return self._tangent.apply(self._d2 * g if self._d2.size else g)

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        first = self._accuracy == 0.0
        if first:
            self._accuracy = self._solver.forcing(norm(x))
        if self._by_lsmr is None:
            found = self._solver.memory.solve(self._product, x, self._accuracy)
            if not (first and found.lost):
                return found.z, x
            self._by_lsmr = iterative(self._tangent, self._free, True)
        return self._by_lsmr.coordinates(x)

    def lift(self, u: Array) -> Array:
        if self._by_lsmr is not None:
            return self._by_lsmr.lift(u)
        return only(self._free, self._tangent.raised(self._tangent.adjoint(u)))

    def image(self, u: Array, p: Array) -> Array:
        return self._tangent.apply(p)

    def solve(self, x: Array) -> Array:
        return self.lift(self.coordinates(x)[0])

    def slope(self, x: Array) -> float:
        return norm(self._tangent.adjoint(x))

    def length(self, x: Array) -> float:
        if self._by_lsmr is not None:
            return self._by_lsmr.length(x)
        u = self._solver.memory.solve(self._product, x, _ROUGHLY).z
        return math.sqrt(max(u.dot(x), 0.0))


class DenseInverse(NamedTuple):
    """J^+ of an array: by the kernel (K), or by Householder reflections (Q) on (J D)^T, for n > m on J D itself."""

    T: DenseTangent
    free: Mask
    K: Cholesky
    Q: Orthogonal
    dual: bool
    orthogonal: bool
    sound: bool
    direct: bool

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        if not self.orthogonal:
            return self.K.solve(x), x
        u = self.Q.whitened(x) if self.dual else self.Q.least_squares(x)
        return u, u

    def lift(self, u: Array) -> Array:
        if not self.orthogonal:
            return only(self.free, self.T.raised(self.T.adjoint(u)))
        return self.T.scaled(spread(self.free, self.Q.lift(u) if self.dual else u))

    def image(self, u: Array, p: Array) -> Array:
        return self.T.apply(p)

    def solve(self, x: Array) -> Array:
        return self.lift(self.coordinates(x)[0])

    def length(self, x: Array) -> float:
        u, v = self.coordinates(x)
        return math.sqrt(max(u.dot(v), 0.0))

    def slope(self, x: Array) -> float:
        return norm(self.T.adjoint(x))


class Tangent:
    """What the three kinds of J share: products and the metric ||p / scale|| of the step (scale empty: all ones)."""

    def __init__(self, J: Any, scale: Array, solver: LinearSolver | None = None) -> None:
        self.J, self.scale = J, scale
        self.shape: tuple[int, int] = J.shape
        self.solver = LinearSolver() if solver is None else solver
        self.factor: Array | None = None  # L, L L^T = J J^T, where the kernel was factored as a whole

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
        return norm(p / self.scale if self.scale.size else p)

    def dot(self, p: Array, q: Array) -> float:
        """The inner product of that norm."""
        return float(self.unscaled(p).dot(self.unscaled(q)))

    def raised(self, g: Array) -> Array:
        """D^2 g: the gradient g as a direction in the metric of the step."""
        return self.scale * (self.scale * g) if self.scale.size else g

    def weights(self, free: Mask) -> Array:
        """The diagonal of D restricted to the free unknowns; empty: all ones."""
        return self.scaled(free.astype(np.float64)) if free.size else self.scale

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        """The pseudo-inverse of J on the free unknowns; orthogonal True asks for the accurate factorisation."""
        raise NotImplementedError

    def magnitude(self, w: Array) -> float:
        """A lower estimate of || |J| |w| ||, exact where the entries of J are at hand."""
        return norm(self.apply(w))

    def frobenius(self) -> float:
        """An upper bound of the root of the sum of squares of J's entries that costs little."""
        return math.inf

    def toarray(self) -> Array:
        """J as an array."""
        return self.J  # type: ignore[no-any-return]


class DenseTangent(Tangent):
    """J is an (n, m) array."""

    def frobenius(self) -> float:
        entries = self.J.ravel(order="K")
        square = float(entries.dot(entries))  # several times faster than the norm
        return math.sqrt(square) if square > 1e-280 else norm(entries)

    def magnitude(self, w: Array) -> float:
        return magnitude(self.J, w)

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        if self.solver.kind == "cg":
            return by_products(self, free, orthogonal)
        H = dense_inverse(self, free, orthogonal or self.solver.kind == "qr")
        if H.K.sound and not (free.size or self.scale.size):
            self.factor = H.K.L
        return H


def dense_inverse(T: DenseTangent, free: Mask, by_reflections: bool) -> DenseInverse:
    """Cholesky of the n x n kernel, or Householder reflections where asked for or n > m."""
    n, m = T.J.shape
    none, empty = np.empty((0, 0)).T, np.empty(0)
    dual = n <= count(free, m)
    if dual and not by_reflections:
        K = cholesky(gram(T.J, T.weights(free)))
        Q = Orthogonal(none, empty, none, False, none, empty, none)
        return DenseInverse(T, free, K, Q, True, False, K.sound, True)
    A = weighted(T.J, T.scale, free)
    Q = orthogonal(np.asfortranarray(A.T if dual else A))
    return DenseInverse(T, free, Cholesky(none, False), Q, dual, True, True, True)


class SparseTangent(Tangent):
    """J is a scipy.sparse CSR matrix or array."""

    def magnitude(self, w: Array) -> float:
        return norm(abs(self.J).dot(np.abs(w)))

    def toarray(self) -> Array:
        return self.J.toarray()  # type: ignore[no-any-return]

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        n, m = self.shape
        if n * m <= _FEW and self.solver.kind != "cg":
            return DenseTangent(self.toarray(), self.scale, self.solver).inverse(free, orthogonal)
        dual = n <= count(free, m)
        if orthogonal or self.solver.kind in ("qr", "cg"):
            return by_products(self, free, orthogonal or self.solver.kind == "qr")
        d = self.weights(free)
        A = self.J if d.size == 0 else self.J @ sps.diags_array(d)
        if dual and self.solver.augmented is not False and fills(A) and (H := self._augmented(free, A)) is not None:
            return H
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
            return iterative(self, free, dual)
        pivots = np.abs(lu.U.diagonal())
        sound = bool(pivots.min() > 8 * k * UNIT * pivots.max())
        if not sound and not dual:
            return iterative(self, free, dual)
        if dual:
            return KernelInverse(self, free, lu.solve, sound)

        def least_squares(x: Array) -> Array:
            p = lu.solve(A.T @ x)
            p += lu.solve(A.T @ (x - A @ p))  # corrected seminormal equations: about as accurate as QR
            return p[free] if free.size else p

        return DirectInverse(self, free, least_squares, dual=False, orthogonal=False, direct=True)

    def _augmented(self, free: Mask, A: Any) -> Inverse | None:
        """K^{-1} from the factors of [[I, A^T], [A, 0]], for dense columns of A fill K; None if they fill more."""
        n, m = A.shape
        try:
            lu = spla.splu(sps.block_array([[sps.eye_array(m), A.T], [A, None]], format="csc"))
        except RuntimeError:  # exactly singular
            return None
        if self.solver.augmented is None:
            self.solver.augmented = bool(lu.nnz < n * n)  # the factor of a full K has half, and is twice as fast
        if not self.solver.augmented:
            return None

        def solve_gram(x: Array) -> Array:
            z = np.zeros(m + n)
            z[m:] = x
            return -lu.solve(z)[m:]

        return KernelInverse(self, free, solve_gram, True)


def fills(A: Any) -> bool:
    """Whether A A^T has far more entries than the augmented system, by the count of those in the columns of A."""
    columns = np.bincount(A.indices, minlength=A.shape[1]).astype(np.float64)
    return bool(A.shape[0] > 512 and columns.dot(columns) > _FILLS * (2 * A.nnz + A.shape[1]))


class OperatorTangent(Tangent):
    """J is a LinearOperator; with a method ``gram()`` the kernel comes from there."""

    def __init__(self, J: Any, scale: Array, solver: LinearSolver | None = None) -> None:
        super().__init__(J, scale, solver)
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
        kind = self.solver.kind
        if kind == "cg":
            return by_products(self, free, orthogonal)
        by_kernel = dual and not orthogonal and kind != "qr"
        if by_kernel and d.size == 0 and hasattr(self.J, "gram") and self.solver.kernel_fits(n, _GRAM_ROWS):
            K = np.asarray(self.J.gram(), dtype=np.float64)
            if n > _KERNEL_ROWS:
                kernel = cholesky(K)
                return KernelInverse(self, free, kernel.solve, kernel.sound)
            kernel = cholesky(K.copy())
            return KernelInverse(self, free, kernel.solve, kernel.sound, K)
        if n * m <= _DENSE_ENTRIES:
            if self._dense is None:
                self._dense = DenseTangent(self.toarray(), self.scale, self.solver)
            return self._dense.inverse(free, orthogonal)
        if by_kernel and self.solver.kernel_fits(n, _KERNEL_ROWS):
            kernel = cholesky(self._gram(d * d))
            return KernelInverse(self, free, kernel.solve, kernel.sound)
        if dual and d.size == 0 and hasattr(self.J, "gram") and n <= _KERNEL_ROWS:  # K has lost its digits
            return self._spectral(free, np.asarray(self.J.gram(), dtype=np.float64))
        return by_products(self, free, orthogonal or kind == "qr")

    def _spectral(self, free: Mask, K: Array) -> Inverse:
        """K^+ from the eigenvalues that rounding leaves."""
        values, U = np.linalg.eigh(K)
        kept = values > 8 * len(values) * UNIT * values[-1]
        inverse = np.where(kept, 1.0, 0.0) / np.where(kept, values, 1.0)
        return KernelInverse(self, free, lambda x: U @ (inverse * (U.T @ x)), True, K, orthogonal=True)

    def _gram(self, d2: Array) -> Array:
        """K by blocks of rows of J."""
        n, m = self.shape
        K = np.empty((n, n), order="F")
        step = min(n, max(1, _BLOCK_NUMBERS // m))
        for start in range(0, n, step):
            unit = np.zeros((n, min(step, n - start)))
            unit[start : start + step] = np.eye(unit.shape[1])
            rows = self.J.rmatmat(unit)
            K[:, start : start + step] = self.J.matmat(d2[:, None] * rows if d2.size else rows)
        return K


def by_products(T: Tangent, free: Mask, orthogonal: bool) -> Inverse:
    """J^+ without a factorisation."""
    dual = T.shape[0] <= count(free, T.shape[1])
    return CGInverse(T, free) if dual and not orthogonal else iterative(T, free, dual)


def iterative(tangent: Tangent, free: Mask, dual: bool) -> Inverse:
    """J^+ by LSMR on A = J D: the minimum-norm least-squares solution at any rank, with products only."""
    A: Any = spla.aslinearoperator(tangent.J)
    d = tangent.weights(free)
    if d.size:
        A = A @ spla.aslinearoperator(sps.diags_array(d))

    def least_squares(x: Array) -> Array:
        size = norm(x)
        if size == 0.0:
            return np.zeros(A.shape[1])
        p = spla.lsmr(A, x / size, atol=1e-14, btol=1e-14, conlim=0.0, maxiter=4 * max(A.shape))[0]
        return size * (p[free] if free.size else p)

    return DirectInverse(tangent, free, least_squares, dual=dual, orthogonal=True, direct=False)


def is_sparse(J: Any) -> bool:
    """Whether J is a scipy.sparse matrix or array."""
    return bool(sps.issparse(J))


def tangent(J: Any, scale: Array, solver: LinearSolver | None = None) -> Tangent:
    """The tangent of the kind that J is."""
    if isinstance(J, np.ndarray):
        return DenseTangent(J, scale, solver)
    if sps.issparse(J):
        return SparseTangent(J, scale, solver)
    return OperatorTangent(J, scale, solver)
