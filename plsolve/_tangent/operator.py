"""J is a LinearOperator: K from the operator itself, or assembled from blocks of products, or products only."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from plsolve._checks import as_float, product
from plsolve._lasting import lasting
from plsolve._linalg import HUGE, UNIT, Array, Mask, cholesky, norm
from plsolve._tangent.base import KERNEL_ROWS, Inverse, LinearSolver, Tangent, count
from plsolve._tangent.dense import DenseTangent
from plsolve._tangent.inverses import KernelInverse
from plsolve._tangent.products import by_products

_DENSE_ENTRIES = 20_000_000  # an operator with at most so many entries is converted to an array (160 MB)
_GRAM_ROWS = 16384  # a K of at most this order is requested from the operator (2 GiB)
_BLOCK_NUMBERS = 1 << 22  # in a block of rows of J (32 MiB)


def own_kernel(J: Any, d: Array) -> Array | None:
    """J D^2 J^T, D = diag(d) (empty: the identity), from the operator itself, or None if it has no such method."""
    if not hasattr(J, "gram"):
        return None
    if d.size == 0:
        return lasting(as_kernel(J.gram(), J.shape[0]))  # type: ignore[no-any-return]
    if not inspect.signature(J.gram).parameters:
        return None
    return lasting(as_kernel(J.gram(d * d), J.shape[0]))  # type: ignore[no-any-return]


def as_kernel(K: Any, n: int) -> Array:
    """What gram() returned, as float64 (n, n)."""
    kernel: Array = as_float(K, "jac: gram")
    if kernel.shape != (n, n):
        raise ValueError(f"`jac`: gram must return shape {(n, n)}, got {kernel.shape}.")
    return kernel


class OperatorTangent(Tangent):
    """J is a LinearOperator; its method ``gram()``, if it has one, gives the kernel, with weights if it takes them."""

    def __init__(self, J: Any, scale: Array, solver: LinearSolver | None = None) -> None:
        super().__init__(J, scale, solver)
        self._dense: DenseTangent | None = None

    def apply(self, v: Array) -> Array:
        return product(self.J, "matvec" if v.ndim == 1 else "matmat", v)

    def adjoint(self, z: Array) -> Array:
        return product(self.J, "rmatvec" if z.ndim == 1 else "rmatmat", z)

    def magnitude(self, w: Array) -> float:
        size = super().magnitude(w)
        return size if size < HUGE else 0.0  # no residual is small beside products that are out of range

    def toarray(self) -> Array:
        n, m = self.shape
        if hasattr(self.J, "toarray"):
            return np.asarray(self.J.toarray(), dtype=np.float64)
        if n > m:
            return np.column_stack([self._checked(e) for e in np.eye(m)]) if m else np.zeros(self.shape)
        J = np.empty(self.shape)
        unit = np.zeros(n)
        for i in range(n):
            self.solver.check()
            unit[i] = 1.0
            J[i] = self.adjoint(unit)
            unit[i] = 0.0
        return J

    def _checked(self, v: Array) -> Array:
        self.solver.check()
        return self.apply(v)

    def row_squares(self) -> Array:
        """The diagonal of K; from the operator's method of this name, if it has one."""
        if self.scale.size == 0 and hasattr(self.J, "row_squares"):
            return np.asarray(self.J.row_squares(), np.float64)
        return super().row_squares()

    def terms(self, w: Array) -> float:
        """2 ||J||_F ||w||, with ||J||_F from the products with three random vectors."""
        z = np.random.default_rng(0).standard_normal((self.shape[0], 3))
        return 2.0 / math.sqrt(3.0) * norm(self.adjoint(z).ravel()) * norm(w)

    def gram(self) -> Array:
        K = own_kernel(self.J, self.scale)
        return self._gram(self.scale * self.scale) if K is None else K

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        n, m = self.shape
        d = self.weights(free)
        dual = n <= count(free, m)
        kind = self.solver.kind
        if kind == "cg":
            return by_products(self, free, orthogonal)
        by_kernel = dual and not orthogonal and kind != "qr"
        if by_kernel and self.solver.kernel_fits(n, _GRAM_ROWS) and (K := own_kernel(self.J, d)) is not None:
            if n > KERNEL_ROWS:
                kernel = cholesky(K)
                return KernelInverse(self, free, kernel.solve, kernel.sound)
            kernel = cholesky(K.copy())
            return KernelInverse(self, free, kernel.solve, kernel.sound, K)
        if n * m <= _DENSE_ENTRIES:
            if self._dense is None:
                self._dense = DenseTangent(self.toarray(), self.scale, self.solver)
            return self._dense.inverse(free, orthogonal)
        if by_kernel and self.solver.kernel_fits(n, KERNEL_ROWS):
            kernel = cholesky(self._gram(d * d))
            return KernelInverse(self, free, kernel.solve, kernel.sound)
        if dual and n <= KERNEL_ROWS and (K := own_kernel(self.J, d)) is not None:  # Cholesky of it was not accurate
            return self._spectral(free, K)
        return by_products(self, free, orthogonal or kind == "qr")

    def _spectral(self, free: Mask, K: Array) -> Inverse:
        """K^+ from the eigenvalues above rounding level."""
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
            self.solver.check()
            unit = np.zeros((n, min(step, n - start)))
            unit[start : start + step] = np.eye(unit.shape[1])
            rows = self.adjoint(unit)
            K[:, start : start + step] = self.apply(d2[:, None] * rows if d2.size else rows)
        return K
