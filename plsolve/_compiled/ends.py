"""Why no step makes progress: `methods.ending` once more."""

from __future__ import annotations

import math

from plsolve._compiled.algebra import adjoint, apply, combine, copy, dot, norm, times
from plsolve._compiled.cache import unit
from plsolve._compiled.evaluation import residual
from plsolve._compiled.memory import *
from plsolve._compiled.model import arrive, gradient, metric_gradient, move
from plsolve._stopping import Status
from plsolve.methods import ending

STALLED, STATIONARY, RESIDUAL = int(Status.STALLED), int(Status.STATIONARY), int(Status.RESIDUAL)


@unit
def end(S: int, flat: bool) -> None:
    """No step reduces the loss: first more precise differences, if any are left, then the verdict."""
    s = state(S)
    gradient(S)
    s.step, s.pl = 0.0, -1.0
    if s.differenced != 0 and s.precise == 0:
        s.precise, s.radius, s.stagnant = 1, 0.0, 0
        return
    s.status = STALLED
    if at_rounding_level(S):
        s.status = RESIDUAL
    elif flat or stationary(S):
        s.status = STATIONARY
    if flat and s.status != RESIDUAL:
        move(S, W, 1.0, GN, TRIAL)
        new = residual(S, TRIAL, TRIAL_R)
        if new <= s.size:
            s.step = s.length
            arrive(S, TRIAL, TRIAL_R, new)
            s.nit += 1


@unit
def terms(S: int, p: int) -> float:
    """|| |J| |p| ||, the size of the terms that cancel in F."""
    _, V, J = system(S)
    for i in range(J.shape[0]):
        t = 0.0
        for j in range(J.shape[1]):
            t += abs(J[i, j] * V[p, j])
        V[Z, i] = t
    return norm(S, Z)


@unit
def rounding_level(S: int) -> float:
    """||r|| that rounding in F alone can cause."""
    s = state(S)
    combine(S, 1.0, R, 1.0, Y, A)
    return 2.0 * s.precision * (norm(S, A) + s.size_y + terms(S, W))


@unit
def at_rounding_level(S: int) -> bool:
    """Whether rounding in F alone can cause r; one call of F checks J, on which the estimate depends."""
    s, V, J = system(S)
    if not s.size <= rounding_level(S) < math.inf:
        return False
    for j in range(J.shape[1]):
        V[G, j] = max(ending.PROBE, math.sqrt(s.precision)) * V[W, j] * (-1.0 if j % 2 == 0 else 1.0)
    move(S, W, 1.0, G, E)
    combine(S, 1.0, E, -1.0, W, G)
    apply(S, G, A)
    expected = norm(S, A)
    if expected == 0.0:
        return True
    residual(S, E, A)
    combine(S, 1.0, A, -1.0, R, A)
    return norm(S, A) >= 0.1 * expected


@unit
def stationary(S: int) -> bool:
    """Whether the gradient is zero to rounding: see `ending.verdict`."""
    s, V, J = system(S)
    adjoint(S, R, G)
    combine(S, 1.0, W, -1.0, W0, E)
    size, r2 = norm(S, W), s.size * s.size
    if s.bounded != 0:
        size = max(size, norm(S, E))
        for j in range(J.shape[1]):
            low, high = V[W, j] <= V[LOWER, j], V[W, j] >= V[UPPER, j]
            V[G, j] = 0.0 if (low and V[G, j] >= 0.0) or (high and V[G, j] <= 0.0) else V[G, j]
    slope = norm(S, G)
    if slope == 0.0 or 0.0 < slope * size <= ending.INSENSITIVE * r2:
        return True
    copy(S, SCALE, FREE)
    copy(S, R, Z)
    top = 0.0
    for _ in range(15):
        combine(S, 1.0 / max(norm(S, Z), 1e-300), Z, 0.0, Z, Z)
        metric_gradient(S, Z, P)
        apply(S, P, Z)
        last, top = top, norm(S, Z)
        if top <= 1.1 * last:
            break
    times(S, G, SCALE, P)
    times(S, P, SCALE, P)
    move(S, W, -1.0 / max(top, 1e-300), P, E)
    combine(S, 1.0, W, -1.0, E, E)
    return top > 0.0 and dot(S, G, E) <= 100.0 * ending.FLAT * r2


@unit
def step_beta(S: int, r: int) -> None:
    """2 ||r(w + p) - r - J p|| / ||p||^2, less rounding, where that exceeds beta, of a step P."""
    s = state(S)
    apply(S, P, Z)
    combine(S, 1.0, r, -1.0, Z, Z)
    combine(S, 1.0, Z, -1.0, R, Z)
    rest, length = norm(S, Z), norm(S, P)
    if 2.0 * rest > s.beta * length * length:
        more = 2.0 * terms(S, P) + s.beta * length * (norm(S, W) + length)
        rounding = 4.0 * rounding_level(S) + 8.0 * s.precision * more
        s.beta_seen = max(s.beta_seen, 2.0 * max(rest - rounding, 0.0) / (length * length))
