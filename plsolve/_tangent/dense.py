"""J is an array: Cholesky of the kernel, or Householder reflections."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plsolve._linalg import (
    NO_MATRIX,
    NO_VECTOR,
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
from plsolve._tangent.base import ByTangent, Inverse, Tangent, count, only, spread
from plsolve._tangent.products import by_products


@dataclass
class DenseInverse(ByTangent):
    """J^+ of an array, by Cholesky of K, or by Householder reflections (Q) on (J D)^T; for n > m on J D."""

    T: DenseTangent
    free: Mask
    K: Cholesky
    Q: Orthogonal
    dual: bool
    orthogonal: bool
    sound: bool
    direct = True

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        if not self.orthogonal:
            return self.K.solve(x), x
        u = self.Q.whitened(x) if self.dual else self.Q.least_squares(x)
        return u, u

    def from_coordinates(self, u: Array) -> Array:
        if not self.orthogonal:
            return only(self.free, self.T.metric_gradient(self.T.adjoint(u)))
        return self.T.scaled(spread(self.free, self.Q.from_coordinates(u) if self.dual else u))

    def length(self, x: Array) -> float:
        return norm(self.coordinates(x)[0] if self.orthogonal else self.K.half(x))


class DenseTangent(Tangent):
    """J is an (n, m) array."""

    def frobenius(self) -> float:
        entries = self.J.ravel(order="K")
        square = float(entries.dot(entries))  # several times faster than the norm
        return math.sqrt(square) if square > 1e-280 else norm(entries)

    def magnitude(self, w: Array) -> float:
        return magnitude(self.J, w)

    def gram(self) -> Array:
        return gram(self.J, self.scale)

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        if self.solver.kind == "cg":
            return by_products(self, free, orthogonal)
        H = dense_inverse(self, free, orthogonal or self.solver.kind == "qr")
        if H.K.sound and not (free.size or self.scale.size):
            self.factor = H.K.L
        return H


def dense_inverse(T: DenseTangent, free: Mask, by_reflections: bool) -> DenseInverse:
    """By Cholesky of the n x n kernel; by Householder reflections if requested or n > m."""
    n, m = T.J.shape
    dual = n <= count(free, m)
    if dual and not by_reflections:
        K = cholesky(gram(T.J, T.weights(free)))
        Q = Orthogonal(NO_MATRIX, NO_VECTOR, NO_MATRIX, False, NO_MATRIX, NO_VECTOR, NO_MATRIX)
        return DenseInverse(T=T, free=free, K=K, Q=Q, dual=True, orthogonal=False, sound=K.sound)
    A = weighted(T.J, T.scale, free)
    Q = orthogonal(np.asfortranarray(A.T) if dual else np.asfortranarray(A))
    K = Cholesky(NO_MATRIX, False)
    return DenseInverse(T=T, free=free, K=K, Q=Q, dual=dual, orthogonal=True, sound=True)
