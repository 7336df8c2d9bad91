"""J is sparse: a sparse factorisation of the kernel, or of the augmented system if K is too dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sps
import scipy.sparse.linalg as spla

from plsolve._linalg import UNIT, Array, Mask, cholesky, norm
from plsolve._tangent.base import KERNEL_ROWS, Inverse, Tangent, count
from plsolve._tangent.dense import DenseTangent
from plsolve._tangent.inverses import DirectInverse, KernelInverse
from plsolve._tangent.products import by_products, iterative

_FEW = 4096  # a sparse J with fewer entries than this is handled as a dense one
_FILLS = 10  # times the entries of the augmented system: a K with more is not formed


class SparseTangent(Tangent):
    """J is a scipy.sparse CSR matrix or array."""

    def magnitude(self, w: Array) -> float:
        return norm(abs(self.J).dot(np.abs(w)))

    def toarray(self) -> Array:
        return self.J.toarray()  # type: ignore[no-any-return]

    def row_squares(self) -> Array:
        A = self.J.multiply(self.scale) if self.scale.size else self.J
        return np.asarray(A.multiply(A).sum(axis=1)).ravel()

    def gram(self) -> Array:
        A = self.J @ sps.diags_array(self.scale) if self.scale.size else self.J
        return (A @ A.T).toarray()  # type: ignore[no-any-return]

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
        if dual and k <= KERNEL_ROWS and K.nnz > 0.1 * k * k:
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
        """K^{-1} from factors of [[I, A^T], [A, 0]], since dense columns of A fill K; None if these have more fill."""
        n, m = A.shape
        try:
            lu = spla.splu(sps.block_array([[sps.eye_array(m), A.T], [A, None]], format="csc"))
        except RuntimeError:  # exactly singular
            return None
        if self.solver.augmented is None:
            self.solver.augmented = bool(lu.nnz < n * n)  # a dense K's factor has half, and is twice as fast
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
