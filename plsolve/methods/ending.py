"""Why no step of a method makes progress: solved to rounding, zero gradient, or stalled."""

from __future__ import annotations

import math

from plsolve._linalg import Array, alternating, norm
from plsolve._problem import Problem
from plsolve._stopping import Status
from plsolve._tangent import RowsJacobian, Tangent, only
from plsolve.methods.box import held

FLAT = 1e-15  # of ||r||^2: the gradient is zero to rounding if the predicted reduction along it is less
INSENSITIVE = 1e-7  # relative change of the loss per relative change of w: less is stationary
PROBE = 1e-6  # of |w|: least distance over which J is compared with a difference of F


def conclusion(
    problem: Problem, w: Array, r: Array, T: Tangent, flat: bool, last: Array | None
) -> tuple[Array, Array, int]:
    """The final w and r, and the status, of a run that ends because no step reduces the loss.

    ``last`` is a step too short to change the loss visibly; it improves the last digits of w where the loss is flat.
    """
    status = verdict(problem, w, r, T, flat)
    if status == Status.STATIONARY and last is not None and not problem.spent:
        new = problem.move(w, last)
        residual = problem.residual(new)
        if norm(residual) <= norm(r):
            return new, residual, status
    return w, r, status


def verdict(problem: Problem, w: Array, r: Array, T: Tangent, flat: bool = False) -> int:
    """RESIDUAL, STATIONARY or STALLED; flat: the model predicts no further reduction of the loss."""
    if at_rounding_level(problem, w, r, T):
        return int(Status.RESIDUAL)
    if flat:
        return int(Status.STATIONARY)
    g, size = T.adjoint(r), norm(w)
    M = largest_eigenvalue(problem, T, r)
    r2 = float(r.dot(r))
    if problem.bounded:  # near a corner of the box w may be small by chance
        g, size = only(~held(w, g, problem.lower, problem.upper), g), max(size, norm(w - problem.w0))
    if norm(g) == 0.0 or 0.0 < norm(g) * size <= INSENSITIVE * r2:  # w = 0 sets no scale
        return int(Status.STATIONARY)
    if M == 0.0:  # by underflow
        return int(Status.STALLED)
    p = problem.move(w, T.metric_gradient(g) / -M) - w
    return int(Status.STATIONARY if -float(g.dot(p)) <= 100.0 * FLAT * r2 else Status.STALLED)


def at_rounding_level(problem: Problem, w: Array, r: Array, T: Tangent) -> bool:
    """Whether rounding in F alone can make a residual as large as r.

    The estimate uses J, so one call of F checks J first: a wrong or overflowing J must not count as a success.
    """
    size = norm(r)
    if size > 4.0 * problem.system.precision * (2.0 * problem.size_y + T.frobenius() * norm(w)):
        return False  # without a call of F
    return size <= problem.rounding_level(w, r, T) < math.inf and agrees(problem, w, r, T)


def agrees(problem: Problem, w: Array, r: Array, T: Tangent) -> bool:
    """Whether F changes as much as J says, along one direction of size |w|."""
    v = max(PROBE, math.sqrt(problem.system.precision)) * w * alternating(w)
    t = problem.move(w, v)
    change = norm(T.apply(t - w))
    return change == 0.0 or (not problem.spent and norm(problem.residual(t) - r) >= 0.1 * change)


def largest_eigenvalue(problem: Problem, T: Tangent, z: Array) -> float:
    """A lower bound of lambda_max(J D^2 J^T), by power iteration from z; one step only if J is read by rows."""
    size = 0.0
    for k in range(1 if isinstance(T.J, RowsJacobian) else 15):
        length = norm(z)
        if length == 0.0 or (k and problem.run.late()):
            break
        z = T.apply(T.metric_gradient(T.adjoint(z / length)))
        size = norm(z)
    return size


def step_beta(problem: Problem, T: Tangent, w: Array, r: Array, p: Array, new: Array, beta: float) -> float:
    """2||r(w + p) - r - J p||/||p||^2, less rounding, where that exceeds beta > 0 (J changes faster), else 0.

    The rounding is that of theory 3.3, of F at both points, where J may differ by beta ||p||, and of J.
    """
    if not beta > 0.0:
        return 0.0
    rest, length = norm(new - r - T.apply(p)), norm(p)
    if 2.0 * rest <= beta * length * length or length * length == 0.0:
        return 0.0
    terms = norm(problem.magnitudes(r)) + T.terms(w) + 2.0 * T.terms(p) + beta * length * (norm(w) + length)
    return 2.0 * max(rest - 8.0 * problem.system.precision * terms, 0.0) / (length * length)
