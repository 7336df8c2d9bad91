"""The linear model r + J p of F around a point w: its Gauss-Newton step, and its steps of limited length.

The Gauss-Newton step is gn = -J^+ r: for n <= m the minimum-norm step -J^T K^{-1} r (theory 7.1), in a box the step of
bounded least squares (`box`). Where the radius is not much shorter, the step is gn scaled down to it. That treats all
singular values alike, while damping, K + lam I, would reduce only the components along large ones and stall on
ill-conditioned kernels. Where the radius is far shorter, gn may lie almost wholly along the smallest singular value,
and the step is a dogleg: a few conjugate-gradient steps, then towards gn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from plsolve._linalg import ALL_FREE, Array, Mask, norm
from plsolve._problem import Problem
from plsolve._tangent import Inverse, Tangent, only
from plsolve.methods.box import boxed, held, reduction
from plsolve.methods.trial import Step
from plsolve.methods.tuning import TUNING


class LinearModel(NamedTuple):
    """The model at w, with the Gauss-Newton step."""

    T: Tangent
    H: Inverse  # J^+ on the free unknowns
    w: Array
    r: Array
    size: float  # ||r||
    free: Mask
    gn: Array  # empty if not computed yet: see `toward`
    u: Array  # -J^+ r in the coordinates of H
    Jgn: Array
    length: float  # ||gn||
    predicted: float  # ||r||^2 - ||r + J gn||^2
    inconsistent: bool  # r + J p = 0 has no solution
    boxed: bool  # gn leads some unknowns to bounds: it is not -J^+ r

    def toward(self, share: float) -> Array:
        """share * gn."""
        return share * self.gn if self.gn.size else self.H.multiple(self.u, share)

    def is_dogleg(self, length: float) -> bool:
        """Whether a step of this length is a dogleg, to which the natural radius does not apply."""
        share = TUNING.dogleg_below_own_kernel if self.H.own_kernel() else TUNING.dogleg_below
        return self.inconsistent or length < share * self.length

    def natural_radius(self, new: Array, Jp: Array, length: float) -> float:
        """The length at which a step along p would have a second-order part as long as itself; ``new`` is r(w + p)."""
        return length * length / (2.0 * max(self.H.length(new - self.r - Jp), 1e-300))

    def gradient(self, v: Array) -> Array:
        """D^2 J^T v, on the free unknowns."""
        return only(self.free, self.T.metric_gradient(self.T.adjoint(v)))


def linear_model(T: Tangent, w: Array, r: Array, free: Mask, orthogonal: bool) -> LinearModel:
    """The model with gn = -J^+ r, by Cholesky of K if that is accurate enough, else by an orthogonal factorisation."""
    H = T.inverse(free, orthogonal)
    if not H.sound:
        H = T.inverse(free, True)
    size = norm(r)
    gn, u, left = refined(H, r, size)
    if H.dual and not H.orthogonal and not norm(left) <= TUNING.lost_digits * size:
        H = T.inverse(free, True)
        gn, u, left = refined(H, r, size)
    Jgn = left - r
    return LinearModel(
        T=T,
        H=H,
        w=w,
        r=r,
        size=size,
        free=free,
        gn=gn,
        u=u,
        Jgn=Jgn,
        length=T.norm(gn) if gn.size else math.sqrt(max(u.dot(Jgn), 0.0)),  # gn = D^2 J^T u
        predicted=reduction(r, Jgn),
        inconsistent=contradicts(H, left, size),
        boxed=False,
    )


def contradicts(H: Inverse, left: Array, size: float) -> bool:
    """Whether ``left`` = r + J gn should be 0 and is not; an iterative solver need not reach 0."""
    return norm(left) > TUNING.inconsistent * size and (H.direct or H.orthogonal)


def refined(H: Inverse, r: Array, size: float) -> tuple[Array, Array, Array]:
    """gn = -J^+ r, its coordinates and r + J gn; iterative refinement goes on while it halves ||r + J gn||."""
    u = -H.coordinates(r)[0]
    gn = H.step_or_empty(u)
    left = r + H.image(u, gn)
    for _ in range(3):
        if not H.dual or not norm(left) > 1e-11 * size:
            break
        v = u - H.coordinates(left)[0]
        better = H.step_or_empty(v)
        less = r + H.image(v, better)
        if not norm(less) <= 0.5 * norm(left):
            break
        u, gn, left = v, better, less
    return gn, u, left


# -- steps of a given length -------------------------------------------------------------------------------------------


def limited_step(problem: Problem, model: LinearModel, radius: float) -> Step:
    """gn if it is no longer than the radius, else gn scaled down to it, or the dogleg."""
    if model.length <= radius:
        return Step(model.toward(1.0), model.Jgn, model.length, model.predicted, full=True)
    share, r = radius / model.length, model.r
    if not model.is_dogleg(radius):
        Jp = share * model.Jgn
        return Step(model.toward(share), Jp, radius, reduction(r, Jp), full=False)
    p, Jp = dogleg(model, radius)
    t, length = model.w + p, radius
    if problem.bounded and ((t < problem.lower) | (t > problem.upper)).any():
        p = within_bounds(problem, model, p, radius)
        Jp, length = model.T.apply(p), model.T.norm(p)
    return Step(p, Jp, length, reduction(r, Jp), full=False)


def dogleg(model: LinearModel, radius: float) -> tuple[Array, Array]:
    """A step p of length radius, and J p: some conjugate-gradient steps on the model, then a straight line towards gn.

    With one of them this is Powell's dogleg. With as many as J has large singular values it follows the valley along
    a small one, where steepest descent zigzags (Steihaug, SIAM J. Numer. Anal. 20, 1983). All is computed in the space
    of r, since m may be large: p = D^2 J^T v and ||p||^2 = v . J p.
    """
    r = model.r
    v, Jp, s, Js, last, first = 0.0 * r, 0.0 * r, 0.0 * r, 0.0 * r, 1.0, 0.0
    for _ in range(TUNING.dogleg_steps):
        z = -(r + Jp)
        Kz, size = model.T.kernel_times(model.free, z) if model.boxed else model.H.kernel(z)
        first = max(first, size)
        if not size > TUNING.dogleg_rounding * first:
            break
        s, Js = z / size + (size / last) * s, Kz / size + (size / last) * Js
        t, last = size / max(float(Js.dot(Js)), 1e-300), size
        ahead, Jahead = v + t * s, Jp + t * Js
        if ahead.dot(Jahead) >= radius * radius:
            u = outwards(s.dot(Js), v.dot(Js), radius * radius - v.dot(Jp))
            return model.gradient(v + u * s), Jp + u * Js
        v, Jp = ahead, Jahead
    return toward_newton(model, v, Jp, radius)


def toward_newton(model: LinearModel, v: Array, Jp: Array, radius: float) -> tuple[Array, Array]:
    """The step of length radius on the line from p = D^2 J^T v to gn, and J times it."""
    gradient: Array | None = model.gradient(v) if model.boxed else None
    if gradient is not None:
        square, beside = model.T.dot(gradient, gradient), model.T.dot(gradient, model.gn)
    else:
        square, beside = v.dot(Jp), v.dot(model.Jgn)  # p . p, p . gn
    u = outwards(model.length * model.length - 2.0 * beside + square, beside - square, radius * radius - square)
    Jp = (1.0 - u) * Jp + u * model.Jgn
    if gradient is not None:
        return (1.0 - u) * gradient + u * model.gn, Jp
    if model.H.dual and not model.H.orthogonal:
        return model.gradient((1.0 - u) * v + u * model.u), Jp
    return (1.0 - u) * model.gradient(v) + model.toward(u), Jp


def outwards(a: float, b: float, c: float) -> float:
    """The least u >= 0 with a u^2 + 2 b u = c, where p + u s has the length of the radius; a = s . s, b = p . s."""
    root = math.sqrt(max(b * b + a * c, 0.0))
    return c / (b + root) if b > 0.0 else (root - b) / max(a, 1e-300)


# -- bounds ------------------------------------------------------------------------------------------------------------


def model_at(problem: Problem, T: Tangent, w: Array, r: Array, orthogonal: bool) -> tuple[LinearModel, LinearModel]:
    """The model without and with the bounds that gn meets; both fix the unknowns that the gradient holds at a bound."""
    plain = linear_model(T, w, r, free_unknowns(problem, T, w, r), orthogonal)
    return plain, in_box(problem, plain) if problem.bounded else plain


def free_unknowns(problem: Problem, T: Tangent, w: Array, r: Array) -> Mask:
    """The unknowns that are not held at a bound by the gradient; empty: all."""
    if not problem.bounded:
        return ALL_FREE
    pressed = held(w, T.adjoint(r), problem.lower, problem.upper)
    return ~pressed if pressed.any() else ALL_FREE


def in_box(problem: Problem, model: LinearModel) -> LinearModel:
    """The model with gn such that w + gn is in the box."""
    gn, low, high = model.toward(1.0), problem.lower - model.w, problem.upper - model.w
    if not math.isfinite(model.predicted) or not (model.free.size or ((gn < low) | (gn > high)).any()):
        return model
    return cut(model, gn, low, high)


def halfway(problem: Problem, plain: LinearModel, model: LinearModel) -> LinearModel:
    """The model with gn in half the box, where the bounds prevent J p = -r and yet the predicted reduction is large.

    There gn is long and meets several bounds, far outside the range of the linear model.
    """
    if not (model.boxed and model.inconsistent and model.predicted > TUNING.box_promise * model.size * model.size):
        return model
    low, high = problem.lower - model.w, problem.upper - model.w
    return cut(plain, plain.toward(1.0), TUNING.box_share * low, TUNING.box_share * high)


def cut(model: LinearModel, gn: Array, low: Array, high: Array) -> LinearModel:
    """The model with gn within low <= gn <= high."""
    T, r = model.T, model.r
    p, Jp, H = boxed(T, model.H, r, gn, model.free, low, high)
    if np.array_equal(p, gn):
        return model
    return model._replace(
        H=H,
        gn=p,
        Jgn=Jp,
        length=T.norm(p),
        predicted=reduction(r, Jp),
        inconsistent=contradicts(H, r + Jp, model.size),
        boxed=True,
    )


def within_bounds(problem: Problem, model: LinearModel, p: Array, radius: float) -> Array:
    """The best of three in the linear model: p clipped to the box, gn scaled to the radius, a projected-gradient step.

    It predicts at least the reduction of the projected-gradient step, so that short steps always reduce the loss.
    """
    T, w, r, share = model.T, model.w, model.r, radius / model.length
    p, descent = problem.project(w + p) - w, -model.gradient(r)
    best, along = reduction(r, T.apply(p)), reduction(r, share * model.Jgn)
    if along > best:
        p, best = model.toward(share), along
    t = radius / max(T.norm(descent), 1e-300)
    for _ in range(30):
        q = problem.project(w + t * descent) - w
        Jq = T.apply(q)
        enough = reduction(r, Jq)
        if enough >= -0.2 * float(r.dot(Jq)):
            return q if enough > 2.0 * best else p
        t *= 0.3
    return p
