"""Pseudo-inverses built from a solver for K, or for J D."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from plsolve._linalg import Array, Mask, norm
from plsolve._tangent.base import Tangent, only, spread

_NONE = np.zeros(0)


class KernelInverse:
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
        self._tangent, self._free, self._solve_gram = tangent, free, solve_gram
        self.sound, self.orthogonal = sound, orthogonal
        self._K = K
        self._u = self._p = _NONE

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        return self._solve_gram(x), x

    def from_coordinates(self, u: Array) -> Array:
        return only(self._free, self._tangent.metric_gradient(self._tangent.adjoint(u)))

    def multiple(self, u: Array, share: float) -> Array:
        if self._u is not u:
            self._u, self._p = u, self.from_coordinates(u)
        return self._p if share == 1.0 else share * self._p

    def own_kernel(self) -> bool:
        return self._K is not None

    def step_or_empty(self, u: Array) -> Array:
        return self.from_coordinates(u) if self._K is None else _NONE

    def image(self, u: Array, p: Array) -> Array:
        return self._tangent.apply(p) if self._K is None else self._K @ u

    def kernel(self, x: Array) -> tuple[Array, float]:
        if self._K is None:
            return self._tangent.kernel_times(self._free, x)
        Kx = self._K @ x
        return Kx, math.sqrt(max(x.dot(Kx), 0.0))

    def solve(self, x: Array) -> Array:
        return self.from_coordinates(self._solve_gram(x))

    def length(self, x: Array) -> float:
        return math.sqrt(max(x.dot(self._solve_gram(x)), 0.0))

    def slope(self, x: Array) -> float:
        if self._K is None or self._free.size or self._tangent.scale.size:
            return norm(self._tangent.adjoint(x))
        return math.sqrt(max(x.dot(self._K @ x), 0.0))


class DirectInverse:
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
        self._tangent, self._free, self._solve = tangent, free, solve
        self.dual, self.orthogonal, self.direct = dual, orthogonal, direct

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        p = self._solve(x)
        return p, p

    def from_coordinates(self, u: Array) -> Array:
        return self._tangent.scaled(spread(self._free, u))

    def multiple(self, u: Array, share: float) -> Array:
        return self.from_coordinates(share * u)

    def own_kernel(self) -> bool:
        return False

    def step_or_empty(self, u: Array) -> Array:
        return self.from_coordinates(u)

    def image(self, u: Array, p: Array) -> Array:
        return self._tangent.apply(p)

    def kernel(self, x: Array) -> tuple[Array, float]:
        return self._tangent.kernel_times(self._free, x)

    def solve(self, x: Array) -> Array:
        return self.from_coordinates(self._solve(x))

    def length(self, x: Array) -> float:
        return norm(self._solve(x))

    def slope(self, x: Array) -> float:
        return norm(self._tangent.adjoint(x))
