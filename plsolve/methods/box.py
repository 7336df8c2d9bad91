"""The Gauss-Newton step in a box: a short step with J p = -r where the box contains one, else the least ||r + J p||.

An active-set method finds it. The free unknowns solve the linear equations with the others fixed at their bounds. The
step moves towards this solution until an unknown meets a bound and is fixed there; an unknown is released when the
gradient points back into the box. Each move reduces ||r + J p|| (Lawson, Hanson, Solving Least Squares Problems, 1974,
chapter 23). Many bounds become active at once where the solution, clipped to the box, is no worse than the point where
the first bound is met.
"""

from __future__ import annotations

import numpy as np

from plsolve._linalg import Array, Mask, norm
from plsolve._tangent import Inverse, Tangent, only
from plsolve.methods.tuning import TUNING


def reduction(r: Array, Jp: Array) -> float:
    """||r||^2 - ||r + J p||^2."""
    return -(2.0 * float(r.dot(Jp)) + float(Jp.dot(Jp)))


def held(p: Array, g: Array, low: Array, high: Array) -> Mask:
    """Marks the unknowns that are at a bound and that -g would move out of the box."""
    return ((p <= low) & (g >= 0.0)) | ((p >= high) & (g <= 0.0))


def inverse(T: Tangent, free: Mask, orthogonal: bool) -> Inverse:
    """J^+ on the free unknowns."""
    H = T.inverse(free, orthogonal)
    return H if H.sound else T.inverse(free, True)


def boxed(
    T: Tangent, H: Inverse, r: Array, gn: Array, free: Mask, low: Array, high: Array
) -> tuple[Array, Array, Inverse]:
    """The step p with low <= p <= high, J p, and J^+ on the free unknowns; gn = -H r is the step without bounds."""
    p, Jp, most, size, orthogonal = 0.0 * gn, 0.0 * r, 0.0, norm(r), H.orthogonal
    target, free = gn, free if free.size else gn == gn
    for _ in range(TUNING.active_set_steps):
        end, Jend = ahead(T, r, p, target, low, high)
        got, now = reduction(r, Jend), free
        if got > most * (1.0 + TUNING.active_set_rounding):
            p, Jp, most = end, Jend, got
            if norm(r + Jp) <= TUNING.active_set_solved * size:
                break
            now = ~held(p, T.adjoint(r + Jp), low, high)
        if np.array_equal(now, free):
            now = free & ~(((p == low) & (target < low)) | ((p == high) & (target > high)))
        if np.array_equal(now, free) or not now.any():
            break
        free = now
        H = inverse(T, free, orthogonal)
        rest = only(~free, p)
        target = rest - H.solve(r + T.apply(rest))
    return p, Jp, H


def ahead(T: Tangent, r: Array, p: Array, target: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The better of two points, and J times it: the clipped target, and where the line from p first meets a bound."""
    end = np.minimum(np.maximum(target, low), high)
    Jend, cut = T.apply(end), (target < low) | (target > high)
    if not cut.any():
        return end, Jend
    share = np.where(cut, end - p, 1.0) / np.where(cut, target - p, 1.0)
    t = share.min()
    first = np.where(share <= t, end, np.minimum(np.maximum(p + t * (target - p), low), high))
    Jfirst = T.apply(first)
    return (first, Jfirst) if reduction(r, Jfirst) > reduction(r, Jend) else (end, Jend)
