"""What every tangent and every pseudo-inverse offers, and which linear solver they use."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from plsolve._krylov import Memory
from plsolve._linalg import Array, Mask, norm

KERNEL_ROWS = 8192  # beyond, no n x n matrix is made (512 MiB)


class LinearSolver:
    """How pseudo-inverses are computed, and what those at one point leave for those at the next.

    kind: 'auto'; 'cholesky', of K whatever its size; 'qr', orthogonal factorisations from the start; 'cg', no
    factorisation at all. Conjugate gradients solve to 1e-12 of the right-hand side, or (``inexact``) no further than
    Newton's method can use: 0.9 (||r||/||r before||)^2 between 0.5 and 1e-3, and half of what is left to ``target``
    (Eisenstat, Walker, SIAM J. Sci. Comput. 17, 1996). ``check`` is called between products with J wherever many of
    them are made; it may raise an exception when the time is over.
    """

    def __init__(self, kind: str = "auto", check: Callable[[], object] = bool) -> None:
        self.kind, self.inexact, self.target = kind, False, 0.0
        self.check = check
        self.augmented: bool | None = None  # which sparse factorisation fills less, once both have been tried
        self._size = 0.0

    @cached_property
    def memory(self) -> Memory:
        """Of conjugate gradients."""
        return Memory()

    def loosen(self, target: float) -> None:
        """Solve no further than Newton's method can use, ||r|| <= target being its aim."""
        self.inexact, self.target = True, target

    def forcing(self, size: float) -> float:
        """The accuracy at a new point, where ||r|| is this size."""
        if not self.inexact:
            return 1e-12
        ratio, self._size = (size / self._size if self._size > 0.0 else 1.0), size
        return min(max(0.9 * ratio * ratio, 1e-3, 0.5 * self.target / max(size, 1e-300)), 0.5)

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

    def from_coordinates(self, u: Array) -> Array:
        """J^+ x (m,) from its coordinates u."""

    def multiple(self, u: Array, share: float) -> Array:
        """share times from_coordinates(u), which may be kept for the last u."""

    def own_kernel(self) -> bool:
        """K came from the operator itself: a new J with its K costs no more than a step with this one, F and J^T z."""

    def step_or_empty(self, u: Array) -> Array:
        """from_coordinates(u), or an empty array where `image` can do without it."""

    def image(self, u: Array, p: Array) -> Array:
        """J p (n,), where p = step_or_empty(u)."""

    def kernel(self, x: Array) -> tuple[Array, float]:
        """J D^2 J^T x and ||D J^T x||, both on the free unknowns."""

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

    def distance(self, v: Array, w: Array) -> float:
        """||(v - w) / scale||."""
        return self.norm(v - w)

    def dot(self, p: Array, q: Array) -> float:
        """The inner product of that norm."""
        return float(self.unscaled(p).dot(self.unscaled(q)))

    def metric_gradient(self, g: Array) -> Array:
        """D^2 g: the gradient g as a direction in the metric of the step."""
        return self.scale * (self.scale * g) if self.scale.size else g

    def moved(self, w: Array, z: Array) -> Array:
        """w + D^2 J^T z."""
        return w + self.metric_gradient(self.adjoint(z))

    def kernel_times(self, free: Mask, x: Array) -> tuple[Array, float]:
        """J D^2 J^T x and ||D J^T x||, both on the free unknowns."""
        p = only(free, self.metric_gradient(self.adjoint(x)))
        return self.apply(p), self.norm(p)

    def weights(self, free: Mask) -> Array:
        """The diagonal of D restricted to the free unknowns; empty: all ones."""
        return self.scaled(free.astype(np.float64)) if free.size else self.scale

    def inverse(self, free: Mask, orthogonal: bool) -> Inverse:
        """The pseudo-inverse of J on the free unknowns; orthogonal True asks for the accurate factorisation."""
        raise NotImplementedError

    def gram(self) -> Array:
        """J D^2 J^T (n, n), a new array."""
        raise NotImplementedError

    def row_squares(self) -> Array:
        """The diagonal (n,) of J D^2 J^T."""
        J = self.toarray()
        J = J * self.scale if self.scale.size else J
        return np.einsum("ij,ij->i", J, J)  # type: ignore[no-any-return]

    def magnitude(self, w: Array) -> float:
        """A lower estimate of || |J| |w| ||, exact where the entries of J are at hand."""
        return norm(self.apply(w))

    def frobenius(self) -> float:
        """An upper bound of the root of the sum of squares of J's entries that costs little."""
        return math.inf

    def toarray(self) -> Array:
        """J as an array."""
        return self.J  # type: ignore[no-any-return]
