"""J^+ without a factorisation, from products with J only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sps
import scipy.sparse.linalg as spla

from plsolve._linalg import Array, Mask, norm
from plsolve._tangent.base import ByTangent, Inverse, Tangent, count, only
from plsolve._tangent.inverses import DirectInverse

_ROUGHLY = 0.1  # relative accuracy of the squares of lengths that only control the steps
_BLOCK_NUMBERS = 1 << 22  # in a block of vectors (32 MiB)


class CGInverse(ByTangent):
    """J^+ x = D^2 J^T z, where K z = x is solved by conjugate gradients to the requested accuracy.

    If the first x is not in the range of K (singular K, inconsistent equations), LSMR solves min ||x - J p|| for this
    and all later x.
    """

    sound = True
    direct = dual = False

    def __init__(self, tangent: Tangent, free: Mask) -> None:
        self.T, self.free, self._solver = tangent, free, tangent.solver
        d = tangent.weights(free)
        self._d2 = d * d
        self._columns = max(1, _BLOCK_NUMBERS // tangent.shape[1])
        self._accuracy = 0.0  # not set yet
        self._by_lsmr: Inverse | None = None

    @property
    def orthogonal(self) -> bool:
        return self._by_lsmr is not None

    def _product(self, z: Array) -> Array:
        """K z, or K Z."""
        self._solver.check()
        G = self.T.adjoint(z)
        return self.T.apply((self._d2 * G.T).T if self._d2.size else G)

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        first = self._accuracy == 0.0
        if first:
            self._accuracy = self._solver.forcing(norm(x))
        if self._by_lsmr is None:
            found = self._solver.memory.solve(self._product, x, self._accuracy, self._columns)
            if not (first and found.lost):
                return found.z, x
            self._by_lsmr = iterative(self.T, self.free, True)
        return self._by_lsmr.coordinates(x)

    def from_coordinates(self, u: Array) -> Array:
        if self._by_lsmr is not None:
            return self._by_lsmr.from_coordinates(u)
        return only(self.free, self.T.metric_gradient(self.T.adjoint(u)))

    def length(self, x: Array) -> float:
        if self._by_lsmr is not None:
            return self._by_lsmr.length(x)
        u = self._solver.memory.solve(self._product, x, 1e-12, self._columns, _ROUGHLY).z
        return math.sqrt(max(u.dot(x), 0.0))


def by_products(T: Tangent, free: Mask, orthogonal: bool) -> Inverse:
    """J^+ without a factorisation: by conjugate gradients, or by LSMR."""
    dual = T.shape[0] <= count(free, T.shape[1])
    return CGInverse(T, free) if dual and not orthogonal else iterative(T, free, dual)


def iterative(tangent: Tangent, free: Mask, dual: bool) -> Inverse:
    """J^+ by LSMR on A = J D, which gives the minimum-norm least-squares solution at any rank."""

    def product(v: Array) -> Array:
        tangent.solver.check()
        return tangent.apply(v)

    A: Any = spla.LinearOperator(tangent.shape, product, tangent.adjoint, dtype=np.float64)
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
