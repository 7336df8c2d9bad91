"""Pseudo-inverses built from a solver for K, or for J D."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from plsolve._linalg import Array, Mask, norm
from plsolve._tangent.base import ByTangent, Tangent, only, spread

_NONE = np.zeros(0)


class KernelInverse(ByTangent):
    """J^+ x = D^2 J^T K^{-1} x with K = J D^2 J^T factored (theory 7.1); if K itself is kept, J p costs no product."""

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
        self.T, self.free, self._solve_gram = tangent, free, solve_gram
        self.sound, self.orthogonal = sound, orthogonal
        self._K = K
        self._u = self._p = _NONE

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        return self._solve_gram(x), x

    def from_coordinates(self, u: Array) -> Array:
        return only(self.free, self.T.metric_gradient(self.T.adjoint(u)))

    def multiple(self, u: Array, share: float) -> Array:
        if self._u is not u:
            self._u, self._p = u, self.from_coordinates(u)
        return self._p if share == 1.0 else share * self._p

    def own_kernel(self) -> bool:
        return self._K is not None

    def step_or_empty(self, u: Array) -> Array:
        return self.from_coordinates(u) if self._K is None else _NONE

    def image(self, u: Array, p: Array) -> Array:
        return super().image(u, p) if self._K is None else self._K @ u

    def kernel(self, x: Array) -> tuple[Array, float]:
        if self._K is None:
            return super().kernel(x)
        Kx = self._K @ x
        return Kx, math.sqrt(max(x.dot(Kx), 0.0))

    def length(self, x: Array) -> float:
        return math.sqrt(max(x.dot(self._solve_gram(x)), 0.0))

    def slope(self, x: Array) -> float:
        if self._K is None or self.free.size or self.T.scale.size:
            return super().slope(x)
        return math.sqrt(max(x.dot(self._K @ x), 0.0))


class DirectInverse(ByTangent):
    """J^+ x = D A^+ x from a solver for A = J D, which gives A^+ x on the free unknowns only."""

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
        self.T, self.free, self._solve = tangent, free, solve
        self.dual, self.orthogonal, self.direct = dual, orthogonal, direct

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        p = self._solve(x)
        return p, p

    def from_coordinates(self, u: Array) -> Array:
        return self.T.scaled(spread(self.free, u))

    def length(self, x: Array) -> float:
        return norm(self._solve(x))
