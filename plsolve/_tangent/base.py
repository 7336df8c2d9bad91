"""The interfaces of tangents and pseudo-inverses, and the choice of the linear solver."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from plsolve._krylov import Memory, Nystrom
from plsolve._linalg import Array, Mask, norm

KERNEL_ROWS = 8192  # no larger n x n matrix is formed (512 MiB)


class Learnt(NamedTuple):
    """What a LinearSolver passes on from point to point; rank, steps and due are those of the preconditioner."""

    augmented: bool | None
    size: float
    preconditioner: Nystrom | None
    rank: int
    steps: int
    due: float


class LinearSolver:
    """The method for pseudo-inverses, and the data that one point passes on to the next.

    kind: 'auto'; 'cholesky', of K at any size; 'qr', orthogonal factorisations from the start; 'cg', no factorisation.
    Conjugate gradients solve to 1e-12 of the right-hand side or, after `loosen`, only as accurately as Newton's method
    can use: to 0.9 (||r||/||r before||)^2, limited to [1e-3, 0.5], or to target/(2 ||r||) if that is larger (Eisenstat,
    Walker, SIAM J. Sci. Comput. 17, 1996). ``check`` is called between the products of long loops; it may raise an
    exception when the time is over.
    """

    def __init__(self, kind: str = "auto", check: Callable[[], object] = bool) -> None:
        self.kind, self.inexact, self.target = kind, False, 0.0
        self.check = check
        self.augmented: bool | None = None  # whether that sparse factorisation has less fill; None: not yet known
        self._size = 0.0

    @cached_property
    def memory(self) -> Memory:
        """The preconditioner of conjugate gradients, kept from point to point."""
        return Memory()

    @property
    def learnt(self) -> Learnt:
        """What later points will use of earlier ones."""
        past = self.memory
        return Learnt(
            augmented=self.augmented,
            size=self._size,
            preconditioner=past.preconditioner,
            rank=past.rank,
            steps=past.steps,
            due=past.due,
        )

    def take(self, learnt: Learnt) -> None:
        """Go on with what a solver has learnt in an earlier process."""
        self.augmented, self._size = learnt.augmented, learnt.size
        self.memory.preconditioner = learnt.preconditioner
        self.memory.rank, self.memory.steps, self.memory.due = learnt.rank, learnt.steps, learnt.due

    def loosen(self, target: float) -> None:
        """Solve only as accurately as Newton's method needs in order to reach ||r|| <= target."""
        self.inexact, self.target = True, target

    def forcing(self, size: float) -> float:
        """The relative accuracy of solves at a new point, where ||r|| = size."""
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
        """Whether the factorisation is accurate enough; if not, use the orthogonal one."""

    @property
    def orthogonal(self) -> bool:
        """Whether this inverse is as accurate as J allows, so that no better one exists."""

    @property
    def direct(self) -> bool:
        """Whether another right-hand side costs little, as with a factorisation."""

    @property
    def dual(self) -> bool:
        """Whether n <= number of free unknowns, so that for full-rank J the equations J p = x are solvable."""

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        """J^+ x in coordinates (u, v), both linear in x; u . v' is the inner product of two such steps in the metric.

        For n < m, u and v have n entries instead of m.
        """

    def from_coordinates(self, u: Array) -> Array:
        """J^+ x (m,) from its coordinates u."""

    def multiple(self, u: Array, share: float) -> Array:
        """share * from_coordinates(u); the result may be cached for the last u."""

    def own_kernel(self) -> bool:
        """Whether K comes from the operator; then a new J and K cost no more than F and J^T z, a step with the old."""

    def step_or_empty(self, u: Array) -> Array:
        """from_coordinates(u), or an empty array if `image` does not need it."""

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
    """The number of free unknowns."""
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
    """The base of the three kinds of J: products, and the metric ||p / scale|| of the step (scale empty: all ones)."""

    def __init__(self, J: Any, scale: Array, solver: LinearSolver | None = None) -> None:
        self.J, self.scale = J, scale
        self.shape: tuple[int, int] = J.shape
        self.solver = LinearSolver() if solver is None else solver
        self.factor: Array | None = None  # L with L L^T = J J^T, if the kernel of all unknowns was factored

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
        """The inner product of `norm`."""
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
        """The pseudo-inverse of J on the free unknowns; orthogonal: by the most accurate factorisation."""
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
        """A lower estimate of || |J| |w| ||, exact if the entries of J are available."""
        return norm(self.apply(w))

    def terms(self, w: Array) -> float:
        """|| |J| |w| ||, or an estimate that is rarely too small if the entries of J are not available."""
        return self.magnitude(w)

    def frobenius(self) -> float:
        """A cheap upper bound of the Frobenius norm of J."""
        return math.inf

    def toarray(self) -> Array:
        """J as an array."""
        return self.J  # type: ignore[no-any-return]


class ByTangent:
    """What most pseudo-inverses do by their tangent alone; T is the tangent, free the mask of the free unknowns."""

    T: Tangent
    free: Mask

    def coordinates(self, x: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def from_coordinates(self, u: Array) -> Array:
        raise NotImplementedError

    def solve(self, x: Array) -> Array:
        return self.from_coordinates(self.coordinates(x)[0])

    def multiple(self, u: Array, share: float) -> Array:
        return self.from_coordinates(share * u)

    def own_kernel(self) -> bool:
        return False

    def step_or_empty(self, u: Array) -> Array:
        return self.from_coordinates(u)

    def image(self, u: Array, p: Array) -> Array:
        return self.T.apply(p)

    def kernel(self, x: Array) -> tuple[Array, float]:
        return self.T.kernel_times(self.free, x)

    def slope(self, x: Array) -> float:
        return norm(self.T.adjoint(x))
