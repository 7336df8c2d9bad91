"""Finite-difference Jacobians for small dense systems, with steps relative to |w|.

scipy steps by eps^s max(1, |w|), which for an unknown near 1e-7 is a change of 15 %. Here the step is eps^s |w_j|, and
only where that moves F by no more than rounding does it grow to eps^s max(1, |w_j|).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plsolve.linalg import Array

_EPS = float(np.finfo(np.float64).eps)
#: Relative steps that balance truncation and rounding; a complex step has no rounding to balance.
RELATIVE_STEP = {"2-point": _EPS ** (1 / 2), "3-point": _EPS ** (1 / 3), "cs": 1e-30}


def jacobian(
    F: Callable[[Array], Array], w: Array, kind: str, f0: Array, magnitude: Array, lower: Array, upper: Array
) -> Array:
    """DF(w) (n, m), Fortran ordered, by '2-point', '3-point' or 'cs' differences; F is called inside the box only.

    f0 = F(w); magnitude (n,) is the size of the numbers that rounding in F goes by.
    """
    J = np.empty((w.size, f0.size))
    relative = RELATIVE_STEP[kind]
    rounding = 1e-3 * relative * magnitude
    for j in range(w.size):
        small = relative * (abs(w[j]) or 1.0)
        large = relative * max(1.0, abs(w[j]))
        change, J[j] = _column(F, w, j, small, kind, f0, lower[j], upper[j])
        if large > small and kind != "cs" and (change <= rounding).all():
            _, column = _column(F, w, j, large, kind, f0, lower[j], upper[j])
            if np.isfinite(column).all():
                J[j] = column
    return J.T


def _column(
    F: Callable[[Array], Array], w: Array, j: int, h: float, kind: str, f0: Array, low: float, high: float
) -> tuple[Array, Array]:
    """The change that the step makes in |F| (n,), and the column of differences."""
    if kind == "cs":
        z = w.astype(complex)
        z[j] += 1j * h
        return f0, F(z).imag / h
    below, above = w[j] - low, high - w[j]
    if max(below, above) <= 0.0:  # lower == upper: the unknown never moves
        return np.full(f0.size, np.inf), np.zeros(f0.size)
    if kind == "2-point" and (h <= above or above >= below):
        steps: tuple[float, ...] = (min(h, above),)
    elif kind == "2-point":
        steps = (-min(h, below),)
    elif h <= min(above, below):
        steps = (h, -h)
    else:  # one-sided, second order
        room = above if above >= below else -below
        h = min(h, abs(room) / 2)
        steps = (float(np.copysign(h, room)), float(np.copysign(2 * h, room)))
    values, exact = [], []
    for step in steps:
        z = w.copy()
        z[j] += step
        values.append(F(z) - f0)
        exact.append(z[j] - w[j])  # the step that was really made
    change = np.abs(values[0])
    if len(steps) == 1:
        return change, values[0] / exact[0]
    (a, b), (fa, fb) = exact, values
    return change, (b * b * fa - a * a * fb) / (a * b * (b - a))
