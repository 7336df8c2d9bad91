"""The linear model at a point: J^+, gn = -J^+ r, in a box the step of bounded least squares (`methods.box`)."""

from __future__ import annotations

import math

from plsolve._compiled.algebra import (
    adjoint,
    apply,
    backward,
    cholesky,
    combine,
    copy,
    dot,
    forward,
    norm,
    products,
    scaled_dot,
    singular_values,
    sums,
    times,
)
from plsolve._compiled.cache import unit
from plsolve._compiled.memory import *
from plsolve._compiled.words import enter
from plsolve._linalg import UNIT
from plsolve.methods.tuning import TUNING


@unit
def factor(S: int, by_singular_values: bool) -> None:
    """The pseudo-inverse of J on the free unknowns, by Cholesky of the kernel if that is accurate enough."""
    s, V, J = system(S)
    n, m = J.shape
    free, k = 0, min(n, m)
    for j in range(m):
        free += V[D, j] > 0.0
    s.cholesky = 0
    if not by_singular_values and (n <= free or n > m):
        digits = cholesky(S, D, ROWS_OF_V, ROWS_OF_V + k)
        s.cholesky = digits > (8 * n * UNIT if n <= m else TUNING.cholesky_condition * TUNING.cholesky_condition)
    if s.cholesky == 0:
        singular_values(S, D, ROWS_OF_V, ROWS_OF_V + k)


@unit
def coordinates(S: int, x: int, u: int) -> None:
    """J^+ x in coordinates u, whose inner product is that of the metric of the step."""
    s, _, J = system(S)
    k = min(J.shape)
    if s.cholesky == 0:
        products(S, ROWS_OF_V + k, k, x, u)
    elif J.shape[0] <= J.shape[1]:
        forward(S, ROWS_OF_V, k, x, u)
    else:
        products(S, ROWS_OF_V + k, k, x, T)
        forward(S, ROWS_OF_V, k, T, T)
        backward(S, ROWS_OF_V, k, T, u)


@unit
def from_coordinates(S: int, u: int, p: int) -> None:
    """p = J^+ x from its coordinates u."""
    s, _, J = system(S)
    k = min(J.shape)
    if s.cholesky == 0:
        sums(S, ROWS_OF_V, k, u, p)
    elif J.shape[0] <= J.shape[1]:
        backward(S, ROWS_OF_V, k, u, T)
        adjoint(S, T, p)
        times(S, p, D, p)
    else:
        copy(S, u, p)
    times(S, p, D, p)


@unit
def metric_gradient(S: int, x: int, p: int) -> float:
    """p = D^2 J^T x on the unknowns that are free at w; returns its length."""
    adjoint(S, x, p)
    times(S, p, FREE, p)
    length = norm(S, p)
    times(S, p, FREE, p)
    return length


@unit
def long(S: int, p: int) -> float:
    """||p / scale||."""
    _, V, _ = system(S)
    square = scaled_dot(S, p, p)
    if 1e-280 < square < 1e280:
        return math.sqrt(square)
    for j in range(V.shape[1]):
        V[T, j] = V[p, j] / V[SCALE, j]
    return norm(S, T)


@unit
def distance(S: int, v: int, w: int) -> float:
    combine(S, 1.0, v, -1.0, w, E)
    return long(S, E)


@unit
def newton(S: int) -> None:
    """gn = -J^+ r with J gn, its length and predicted reduction; in a box the step of bounded least squares."""
    s, V, J = system(S)
    s.boxed = 0
    copy(S, SCALE, D)
    if s.bounded != 0:
        adjoint(S, R, G)
        room(S, 1.0)
        for j in range(J.shape[1]):
            if (V[LOW, j] >= 0.0 and V[G, j] >= 0.0) or (V[HIGH, j] <= 0.0 and V[G, j] <= 0.0):
                V[D, j] = 0.0
    factor(S, s.orthogonal)
    left = refine(S)
    if s.cholesky != 0 and J.shape[0] <= J.shape[1] and not left <= TUNING.lost_digits * s.size:
        factor(S, 1)
        refine(S)
    measure(S)
    copy(S, D, FREE)
    s.reflected = s.cholesky == 0
    if s.bounded != 0:
        copy(S, GN, PLAIN)
        enter(s.cut, S, 1.0, 0.0)


@unit
def refine(S: int) -> float:
    """gn, its coordinates U and REST = r + J gn, with iterative refinement while that halves ||REST||."""
    s, _, J = system(S)
    copy(S, R, REST)
    combine(S, 0.0, R, 0.0, R, U)
    last = math.inf
    for _ in range(4):
        coordinates(S, REST, A)
        combine(S, 1.0, U, -1.0, A, U)
        from_coordinates(S, U, GN)
        apply(S, GN, REST)
        combine(S, 1.0, REST, 1.0, R, REST)
        left = norm(S, REST)
        if not left <= 0.5 * last or J.shape[0] > J.shape[1] or not left > 1e-11 * s.size:
            break
        last = left
    return left


@unit
def measure(S: int) -> None:
    """The length of gn, its predicted reduction, and whether the equations are inconsistent, from REST = r + J gn."""
    s = state(S)
    combine(S, 1.0, REST, -1.0, R, JGN)
    s.length = long(S, GN)
    s.predicted = reduction(S, JGN)
    s.inconsistent = norm(S, REST) > TUNING.inconsistent * s.size


@unit
def reduction(S: int, Jp: int) -> float:
    """||r||^2 - ||r + J p||^2."""
    return -(2.0 * dot(S, R, Jp) + dot(S, Jp, Jp))


@unit
def room(S: int, share: float) -> None:
    combine(S, share, LOWER, -share, W, LOW)
    combine(S, share, UPPER, -share, W, HIGH)


@unit
def cut(S: int, share: float, _: float) -> None:
    """gn within this share of the box: `box.boxed`, from the plain gn."""
    s, V, J = system(S)
    room(S, share)
    copy(S, PLAIN, GOAL)
    copy(S, FREE, D)
    most, turns, out = 0.0, 0, False
    for j in range(J.shape[1]):
        out = out or V[D, j] == 0.0 or not V[LOW, j] <= V[GOAL, j] <= V[HIGH, j]
    if not (out and math.isfinite(s.predicted)):
        return
    combine(S, 0.0, PLAIN, 0.0, PLAIN, GN)
    copy(S, R, REST)
    while turns < TUNING.active_set_steps:
        turns += 1
        got, better = ahead(S), False
        if got > most * (1.0 + TUNING.active_set_rounding):
            most, better = got, True
            copy(S, E, GN)
            combine(S, 1.0, R, 1.0, JP, REST)
            if norm(S, REST) <= TUNING.active_set_solved * s.size:
                break
            adjoint(S, REST, G)
        for turn in range(2):  # first those held by the gradient, else those that just met a bound
            changed, some = False, False
            for j in range(J.shape[1]):
                p, goal, low, high = V[GN, j], V[GOAL, j], V[LOW, j], V[HIGH, j]
                if turn == 0:
                    held = (p <= low and V[G, j] >= 0.0) or (p >= high and V[G, j] <= 0.0)
                else:
                    held = V[D, j] == 0.0 or (p == low and goal < low) or (p == high and goal > high)
                V[NOW, j] = 0.0 if held else V[SCALE, j]
                changed, some = changed or V[NOW, j] != V[D, j], some or not held
            if changed and (turn == 1 or better):
                break
        if not (changed and some):
            break
        copy(S, NOW, D)
        factor(S, s.reflected)
        for j in range(J.shape[1]):
            V[E, j] = V[GN, j] if V[D, j] == 0.0 else 0.0
        apply(S, E, Z)
        combine(S, 1.0, Z, 1.0, R, Z)
        coordinates(S, Z, A)
        from_coordinates(S, A, GOAL)
        combine(S, 1.0, E, -1.0, GOAL, GOAL)
    combine(S, 1.0, GN, -1.0, PLAIN, E)
    s.boxed = norm(S, E) > 0.0
    measure(S)


@unit
def ahead(S: int) -> float:
    """Set E to the better of GOAL clipped to the box and the first bound towards it, and JP = J E; returns its gain."""
    _, V, J = system(S)
    t = 1.0
    for j in range(J.shape[1]):
        V[E, j] = min(max(V[GOAL, j], V[LOW, j]), V[HIGH, j])
        V[T, j] = (V[E, j] - V[GN, j]) / (V[GOAL, j] - V[GN, j]) if V[E, j] != V[GOAL, j] else math.inf
        t = min(t, V[T, j])
    apply(S, E, JP)
    got = reduction(S, JP)
    for j in range(J.shape[1]):
        on = min(max(V[GN, j] + t * (V[GOAL, j] - V[GN, j]), V[LOW, j]), V[HIGH, j])
        V[T, j] = V[E, j] if V[T, j] <= t else on
    apply(S, T, Z)
    if t < 1.0 and reduction(S, Z) > got:
        got = reduction(S, Z)
        copy(S, T, E)
        copy(S, Z, JP)
    for j in range(J.shape[1], V.shape[1]):
        V[T, j] = 0.0
    return got


@unit
def move(S: int, w: int, t: float, p: int, z: int) -> None:
    """z = w + t p, projected on the box; exactly on a bound where t p is the distance to it."""
    s, V, _ = system(S)
    combine(S, 1.0, w, t, p, z)
    if s.bounded != 0:
        for j in range(V.shape[1]):
            low, high, step = V[LOWER, j], V[UPPER, j], t * V[p, j]
            inside = min(max(V[z, j], low), high)
            V[z, j] = low if step == low - V[w, j] else high if step == high - V[w, j] else inside


@unit
def gradient(S: int) -> None:
    """The PL ratio at w, and `gauss_newton.steepness`."""
    s = state(S)
    adjoint(S, R, G)
    slope = norm(S, G) / s.size
    times(S, G, FREE, G)
    s.pl = slope * slope
    s.steep = (norm(S, G) / s.size) * (max(long(S, W), distance(S, W, W0)) / s.size)


@unit
def arrive(S: int, w: int, r: int, size: float) -> None:
    s = state(S)
    copy(S, w, W)
    copy(S, r, R)
    s.size = size
