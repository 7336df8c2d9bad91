"""The loss around a run: a slice through w0 and x, the straight line between them, and the curvature near x.

Over-parameterized losses are not convex in any neighbourhood of a solution. The Hessian is J^T J + SUM_i r_i D^2 F_i;
the first term has rank n only, and the second is indefinite where the solution set curves (Liu, Zhu, Belkin 2022). PL*
takes the place of convexity.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

from plsolve._linalg import Array, lanczos, norm
from plsolve._problem import Problem

_BUDGET = 10.0  # seconds that the slice may take
_STEP = 1e-4  # of ||x - w0||, for differences of gradients
_PRODUCTS = 30  # products of the Hessian with a vector
_OFF = 0.1  # the Hessian is evaluated at this share of the way from x back to w0


class Landscape(NamedTuple):
    """L in the plane w0 + (a u + b v) ||x - w0||, u from w0 to x, v along the solution set at x, and on the line to x.

    Attributes
    ----------
    a, b : ndarray (p,), (q,)
        Coordinates: w0 is (0, 0), x is (1, 0).
    loss, pl : ndarray (q, p)
        L, and the PL ratio ||J^T r||^2/||r||^2; NaN outside the bounds or where F is not finite.
    mu : float
        lambda_min(K(x)).
    t, line : ndarray (k,)
        L(w0 + t (x - w0)).
    monotone : bool
        Whether L does not rise along that line for t in [0, 1].
    curvature : float
        The smallest eigenvalue of the Hessian of L at t = 0.9, from above (Lanczos on differences of gradients): where
        it is negative, L is not convex.
    flattest : float
        ``curvature`` divided by the largest eigenvalue.
    """

    a: Array
    b: Array
    loss: Array
    pl: Array
    mu: float
    t: Array
    line: Array
    monotone: bool
    curvature: float
    flattest: float


def landscape(problem: Problem, x: Array, mu: float, size: int = 41) -> Landscape:
    """Compute the landscape on at most size x size grid points; fewer where J is expensive."""
    way = x - problem.w0
    length = norm(way)
    if length == 0.0:
        raise ValueError("the landscape is a slice through w0 and x, which are the same point here.")
    start = time.perf_counter()
    loss_and_ratio(problem, x)
    seconds = max(time.perf_counter() - start, 1e-6)
    size = int(min(max(math.sqrt(_BUDGET / seconds), 9), size))
    t = np.linspace(0.0, 1.25, 51)
    line = np.array([loss_and_ratio(problem, problem.w0 + s * way, slope=False)[0] for s in t])
    before = line[t < 1.0 + 1e-9]
    curvature, largest, direction = least_curvature(problem, x - _OFF * way, length)
    across = along_solutions(problem, x, direction, way)
    a, b = np.linspace(-0.5, 1.5, size), np.linspace(-1.0, 1.0, size)
    grid = [[loss_and_ratio(problem, problem.w0 + s * way + q * length * across) for s in a] for q in b]
    values = np.array(grid)
    monotone = bool(np.all(np.diff(before) <= 1e-12 * before[0]))
    relative = curvature / largest if largest > 0.0 else math.nan
    return Landscape(a, b, values[:, :, 0], values[:, :, 1], mu, t, line, monotone, curvature, relative)


def loss_and_ratio(problem: Problem, w: Array, slope: bool = True) -> tuple[float, float]:
    """L and the PL ratio; NaN where w is out of bounds or F not finite."""
    if not np.array_equal(problem.project(w), w):
        return math.nan, math.nan
    r = problem.residual(w)
    r2 = float(r.dot(r))
    if not slope or not 0.0 < r2 < math.inf:
        return (0.5 * r2 if math.isfinite(r2) else math.nan), math.nan
    g = problem.linearise(w, r, True).adjoint(r)
    return 0.5 * r2, float(g.dot(g)) / r2


def least_curvature(problem: Problem, w: Array, length: float) -> tuple[float, float, Array]:
    """(smallest eigenvalue, largest, eigenvector of the smallest) of the Hessian of L at w, by Lanczos on gradients."""
    h = _STEP * length
    products: list[tuple[Array, Array]] = []

    def gradient(u: Array) -> Array:
        r = problem.residual(u)
        return problem.linearise(u, r, True).adjoint(r)

    def apply(v: Array) -> Array:
        ends = problem.project(w + h * v), problem.project(w - h * v)
        Hv = (gradient(ends[0]) - gradient(ends[1])) * (norm(v) / max(norm(ends[0] - ends[1]), 1e-300))
        products.append((v.copy(), Hv))
        return Hv

    values, _ = lanczos(apply, np.random.default_rng(0).standard_normal(w.size), _PRODUCTS)
    V, HV = (np.array(list(part)) for part in zip(*products, strict=True))
    small = V @ HV.T
    least, combination = np.linalg.eigh(0.5 * (small + small.T))
    direction = combination[:, 0] @ V
    return float(least[0]), float(max(values[-1], least[-1])), direction / norm(direction)


def along_solutions(problem: Problem, x: Array, direction: Array, way: Array) -> Array:
    """The direction, projected on the null space of J(x) and orthogonal to x - w0, so tangent to the solution set."""
    T = problem.linearise(x, problem.residual(x), True)
    every = np.empty(0, np.bool_)
    H = T.inverse(every, False)
    H = H if H.sound else T.inverse(every, True)
    u = way / norm(way)
    for v in (direction, np.random.default_rng(1).standard_normal(x.size)):
        flat = v - H.solve(T.apply(v))
        for candidate in (flat, v):
            rest = candidate - u.dot(candidate) * u
            if norm(rest) > 1e-3 * norm(v):
                return np.asarray(rest / norm(rest))
    return np.zeros(x.size)  # one unknown: there is no plane
