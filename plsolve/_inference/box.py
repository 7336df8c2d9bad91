"""The Gauss-Newton step in a box: unknowns at a bound are treated as data without noise, by an active-set method.

Unknowns that would leave the box are held at the bound, and those that the gradient of the model moves back inside are
released, until nothing changes (the primal-dual active set method, Hintermueller, Ito, Kunisch, SIAM J. Optim. 13,
2002). If that cycles, the unknowns at a bound are held there, and the step is cut at the first other bound that it
meets: it is not the best step in the box, but it reduces phi.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from plsolve._inference.noise import Noise
from plsolve._inference.posterior import posterior
from plsolve._inference.prior import Prior, hold
from plsolve._linalg import Array, Mask
from plsolve._tangent import Tangent

TURNS = 30  # factorisations for one step at most


class Point(NamedTuple):
    """F linearised at w = w0 + p0, p0 = C q0, where the residual is r, and the distances to the bounds."""

    T: Tangent
    noise: Noise
    prior: Prior
    r: Array
    p0: Array
    q0: Array
    low: Array
    high: Array


def boxed_step(at: Point, p: Array, dual: Array) -> tuple[Array, Array, bool]:
    """A step (p, C^{-1} p) in the box, and whether it is the best of the model; p, dual: the step without bounds."""
    below, above = p < at.low, p > at.high
    for _ in range(TURNS):
        if not (below.any() or above.any()):
            return p, dual, True
        p, dual = held_step(at, below, above)
        g = gradient(at, p, dual)
        now_below = (below & (g >= 0.0)) | (~below & (p < at.low))
        now_above = (above & (g <= 0.0)) | (~above & (p > at.high))
        if np.array_equal(now_below, below) and np.array_equal(now_above, above):
            return p, dual, True
        below, above = now_below, now_above
    return cut_step(at)


def held_step(at: Point, below: Mask, above: Mask) -> tuple[Array, Array]:
    """The best step that moves these unknowns to their bounds, without bounds on the others."""
    index = np.flatnonzero(below | above)
    restricted, completed = hold(at.prior, index)
    way = np.where(below, at.low, at.high)[index]
    rest, rest_dual = completed(way)
    before, before_dual = completed(at.p0[index])
    p0, q0 = at.p0 - before, at.q0 - before_dual
    P = posterior(at.T.J, at.noise, restricted, at.T.solver)
    p, q = P.step(at.r + at.T.apply(rest), p0, q0, 0.0)
    q = q - completed(at.prior.times(q + q0)[index])[1]
    p = rest + p
    p[index] = way
    return p, rest_dual + q


def gradient(at: Point, p: Array, dual: Array) -> Array:
    """Half the gradient of the model of phi after the step."""
    r = at.noise.white_adjoint(at.noise.white(at.r + at.T.apply(p)))
    g: Array = at.T.adjoint(r) + at.q0 + dual
    return g


def cut_step(at: Point) -> tuple[Array, Array, bool]:
    """The step with those unknowns held that -gradient would move out of the box, cut at the first bound it meets.

    The last value tells whether it is the model's best step in the box.
    """
    g = gradient(at, 0.0 * at.p0, 0.0 * at.p0)
    below, above = (at.low == 0.0) & (g > 0.0), (at.high == 0.0) & (g < 0.0)
    for _ in range(TURNS):
        p, dual = held_step(at, below, above)
        out = (p < at.low) | (p > at.high)
        if not out.any():
            g = gradient(at, p, dual)
            return p, dual, bool((g[below] >= 0.0).all() and (g[above] <= 0.0).all())
        room = np.where(p < 0.0, at.low, at.high)
        share: Any = np.min(room[out] / p[out])
        if share > 0.0:
            break
        below, above = below | (out & (at.low == 0.0) & (p < 0.0)), above | (out & (at.high == 0.0) & (p > 0.0))
    return share * p, share * dual, False
