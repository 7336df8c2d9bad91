"""Why no step of a method makes progress: solved to rounding, gradient zero, or stalled."""

from __future__ import annotations

from plsolve.linalg import Array, norm
from plsolve.problem import Problem
from plsolve.stopping import Status
from plsolve.tangent import Tangent

FLAT = 1e-15  # of ||r||^2 that a step down the gradient promises: the gradient is zero to rounding
INSENSITIVE = 1e-7  # relative change of the loss per relative change of w: its extremum, where J may vanish itself
HUGE = 1e150  # a residual beyond has no finite square and counts as non-finite


def verdict(problem: Problem, w: Array, r: Array, T: Tangent) -> int:
    """RESIDUAL, STATIONARY or STALLED."""
    if norm(r) <= problem.rounding_level(w, r, T):
        return int(Status.RESIDUAL)
    g = T.adjoint(r)
    M = largest_eigenvalue(T, r)
    r2 = float(r.dot(r))
    if M == 0.0 or norm(g) * norm(w) <= INSENSITIVE * r2:
        return int(Status.STATIONARY)
    p = problem.move(w, T.raised(g) / -M) - w
    return int(Status.STATIONARY if -float(g.dot(p)) <= 100.0 * FLAT * r2 else Status.STALLED)


def largest_eigenvalue(T: Tangent, z: Array) -> float:
    """lambda_max(J D^2 J^T) from below, by power iteration from z."""
    size = 0.0
    for _ in range(15):
        length = norm(z)
        if length == 0.0:
            break
        z = T.apply(T.raised(T.adjoint(z / length)))
        size = norm(z)
    return size


def bend(problem: Problem, T: Tangent, w: Array, r: Array, p: Array, new: Array, beta: float) -> float:
    """2||r(w + p) - r - J p||/||p||^2, less rounding, where that exceeds beta > 0: then beta is none of J."""
    if not beta > 0.0:
        return 0.0
    rest, length = norm(new - r - T.apply(p)), norm(p)
    if 2.0 * rest <= beta * length * length:
        return 0.0
    return 2.0 * max(rest - 4.0 * problem.rounding_level(w, r, T), 0.0) / (length * length)
