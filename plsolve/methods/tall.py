"""Gauss-Newton for at least as many equations as unknowns (n >= m), with the curvature of the residual.

The Hessian of the loss is J^T J + Sum_i r_i D^2 F_i. Gauss-Newton leaves the second term out, and where r does not
become small it is slow or fails. A matrix S approximates this term by secant updates, S s = (J+ - J)^T r+ (Dennis, Gay,
Welsch, ACM TOMS 7, 1981: NL2SOL). Each step uses the model, with S or without, that predicted the last loss better.

The step q = p / scale minimises the model (see `quadratic`) in a ball ||q|| <= radius. While the linear model predicts
that most of r can be removed, gn = -J^+ r is tried first, scaled to the natural radius where that is at least a tenth
of ||gn|| (`gauss_newton` explains both): it follows narrow curved valleys better than the minimum in a ball. A step
with less reduction than predicted is tried once more after a second-order correction by J^+ (Transtrum, Sethna,
arXiv 1201.5885). Every accepted step reduces the loss.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from plsolve._linalg import Array, column_lengths, norm, trcon, trtrs
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._tangent import Tangent
from plsolve.methods.ending import FLAT, at_rounding_level, conclusion, step_beta
from plsolve.methods.quadratic import ALL, NOWHERE, Quadratic, upper
from plsolve.methods.trial import Step, Trial, attempt, better, doubled, radius_by_gain, radius_by_natural
from plsolve.methods.tuning import TUNING


class Memory(NamedTuple):
    """The approximation S of the curvature of the residual, and the data of the last step for its next update."""

    S: Array  # (m, m)
    curved: bool = False  # S is in use
    s: Array = NOWHERE  # (m,) the last step; empty: no update
    g: Array = NOWHERE  # J^T r before it
    h: Array = NOWHERE  # J^T r+ with J before it
    R: Array = NOWHERE  # (m, m) with J diag(d) = Q R before it, to be read above the diagonal
    d: Array = NOWHERE  # (m,)
    precise: bool = False  # J before it is not from one-sided differences


class State(NamedTuple):
    """The point, its residual, both radii, and S."""

    w: Array
    r: Array
    memory: Memory
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0  # length of the last step
    checked: bool = True  # r belongs to w
    radius: float = 0.0  # 0: not set yet
    natural: float = math.inf  # radius along gn at which the second-order part would be as large as the step
    precise: bool = True  # jac is given, or its differences are to be central
    full: bool = False  # the last step was the minimum of the model, inside the ball
    beta: float = 0.0  # Lipschitz constant of J, 0: not given
    pl: float = -1.0  # 1/2 ||g||^2 / L at the point before; negative: not known
    beta_seen: float = 0.0  # the largest 2||r+ - r - J p||/||p||^2 of a step that exceeds beta


class Newton(NamedTuple):
    """The step gn = -J^+ r in q, and whether the linear model predicts that it leaves most of r."""

    q: Array
    length: float
    predicted: float  # reduction of ||r||^2
    inconsistent: bool


class Region(NamedTuple):
    """The radii of the next step, and which model it minimises."""

    radius: float  # of the ball
    natural: float  # along gn, see State
    curved: bool  # the model is the one with S


class Proposal(NamedTuple):
    """A step, with the reductions that both models predict."""

    step: Step
    q: Array
    t: float  # damping
    along: bool  # gn, cut to the natural radius
    plain: float  # reduction of ||r||^2 by the model without S
    with_curvature: float  # the same with S


def init(problem: Problem, beta: float, before: Any) -> State:
    """At w0, or where another method came to an end."""
    memory = Memory(np.zeros((problem.m, problem.m), order="F"))
    w, r, nit = problem.w0, problem.r0, 0 if before is None else before.nit
    if before is not None and norm(before.r) <= TUNING.restart_left * norm(r):
        w, r = before.w, before.r
    return State(w=w, r=r, nit=nit, precise=not problem.differenced, memory=memory, beta=beta)


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, s.precise)
    g, size = T.adjoint(s.r), norm(s.r)
    S = learnt(s.memory, g) if s.memory.s.size else s.memory.S
    model = modelled(problem, T, s, S, g)
    if flat(problem, s, model, g, size * size):
        return ending(problem, s, T, model, flat=True)
    best, region = search(problem, s, T, model, size)
    if best is None:
        return ending(problem, s, T, model, flat=False)
    w, r, p, slope = best.w, best.r, best.w - s.w, norm(g) / size
    ends = best.step.full and not 0.01 * size < best.size < 0.9 * size  # r almost gone, or hardly changed
    return s._replace(
        w=w,
        r=r,
        status=int(Status.RESIDUAL) if ends and at_rounding_level(problem, w, r, T) else RUNNING,
        nit=s.nit + 1,
        step=best.step.length,
        radius=region.radius,
        natural=region.natural,
        full=best.step.full,
        precise=s.precise or best.actual < TUNING.difference_noise * size * size,
        memory=Memory(S, region.curved, s=p, g=g, h=T.adjoint(r), R=model.R, d=model.d, precise=s.precise),
        pl=slope * slope,
        beta_seen=max(s.beta_seen, step_beta(problem, T, s.w, s.r, p, r, s.beta)) if s.beta else 0.0,
    )


# -- the model --------------------------------------------------------------------------------------------------------


def learnt(memory: Memory, g: Array) -> Array:
    """S after the secant update S s = (J+ - J)^T r+ from the last step, with NL2SOL's sizing."""
    S, s = memory.S, memory.s
    y, part = g - memory.g, g - memory.h
    ys = float(y.dot(s))
    if not ys > 1e-8 * norm(y) * norm(s):
        return S
    Ss = S.dot(s)
    known, seen = float(s.dot(Ss)), float(s.dot(part))  # s^T S s
    if abs(seen) < abs(known):
        size = abs(seen / known)
        S, Ss, known = size * S, size * Ss, size * known
    v = part - Ss - (0.5 * (seen - known) / ys) * y
    return blas.dger(1.0 / ys, y, v, a=blas.dger(1.0 / ys, v, y, a=S), overwrite_a=1)


def modelled(problem: Problem, T: Tangent, s: State, S: Array, g: Array) -> Quadratic:
    """The model with R by Cholesky of J^T J where that is accurate enough, else by Householder reflections."""
    J, d = T.toarray(), T.scale if T.scale.size else np.ones(s.w.size)
    below, above, free = NOWHERE, NOWHERE, ALL
    if problem.bounded:
        below, above = problem.lower - s.w, problem.upper - s.w
        held = ((below >= 0.0) & (g >= 0.0)) | ((above <= 0.0) & (g <= 0.0))
        free = ~held if held.any() else ALL
        d = d * np.where(held, 1.0, shortened(np.where(g > 0.0, -below, above) / d))
    R, failed = lapack.dpotrf(J.T.dot(J).T, 0, 0, 1)
    c, condition = trtrs(R, g, True), reciprocal_condition(R)
    if failed or not condition > TUNING.cholesky_condition:
        R, c = reflected(J, s.r)
        condition = reciprocal_condition(R)
    regular = condition > TUNING.regular_condition
    return Quadratic(d=d, R=R * d, c=c, S=S, regular=regular, below=below, above=above, free=free)


def reciprocal_condition(R: Array) -> float:
    """That of R with its columns scaled to length 1, so that it does not depend on the units of the unknowns."""
    lengths = column_lengths(upper(R))
    return trcon(R / np.where(lengths > 0.0, lengths, 1.0))


def shortened(room: Array) -> Array:
    """Weights from the distances to the bounds downhill: unknowns close to one move less (Coleman, Li, 1996)."""
    return np.sqrt(np.where(room < math.inf, np.maximum(room, TUNING.bound_close), 1.0))


def reflected(J: Array, r: Array) -> tuple[Array, Array]:
    """R and Q^T r by Householder reflections, J = Q R."""
    n, m = J.shape
    A = np.empty((n, m + 1), order="F")
    A[:, :m] = J
    A[:, m] = r
    A = lapack.dgeqrf(A, overwrite_a=1)[0]
    return A[:m, :m], A[:m, m]


# -- the step ---------------------------------------------------------------------------------------------------------


def search(problem: Problem, s: State, T: Tangent, model: Quadratic, size: float) -> tuple[Trial | None, Region]:
    """The first trial that reduces the loss enough, None if none does, and the region for the next step."""
    gn, length = newton(model, size), norm(s.w / model.d)
    region = Region(radius=s.radius, natural=s.natural, curved=s.memory.curved)
    if s.radius == 0.0:
        slope = norm(model.d * T.adjoint(s.r))
        radius = max(length or math.inf, TUNING.first_visible * gn.predicted / max(slope, 1e-300))
        region = region._replace(radius=radius, natural=radius)
    while not problem.spent:
        proposal = proposed(T, model, gn, region)
        step = proposal.step
        if not (1e-16 * (length or gn.length) < step.length < math.inf and step.predicted > 0.0):
            break
        new = attempt(problem, s.w, s.r, step)
        if model.nears_bounds(proposal.q) and not straight(s.r, step.Jp, new.r):
            model = model.cautious_copy()
            gn = newton(model, size)
            continue
        new, region = judged(problem, s, T, model, gn, region, proposal, new)
        if new.gain > TUNING.sufficient_gain:
            alike = step.full and 1.8 * step.length < s.step < 2.2 * step.length
            return doubled(problem, s.w, s.r, size, new) if alike and new.step.full else new, region
    return None, region


def newton(model: Quadratic, size: float) -> Newton:
    q = model.minimum(False, math.inf).q
    predicted = model.predicted(q, False)
    left = size * size - predicted
    return Newton(q, norm(q), predicted, inconsistent=left > (TUNING.inconsistent_curved * size) ** 2)


def proposed(T: Tangent, model: Quadratic, gn: Newton, region: Region) -> Proposal:
    """gn, scaled to the natural radius, while that predicts enough reduction; else the model's minimum in the ball."""
    along = not gn.inconsistent and region.natural > TUNING.dogleg_below_curved * gn.length
    if along:
        share = min(region.natural / gn.length, 1.0) if gn.length > 0.0 else 1.0
        q, full, t = (gn.q if share == 1.0 else share * gn.q), share == 1.0, 0.0
    else:
        q, full, t = model.minimum(region.curved, region.radius)
    p = model.step(q)
    plain, length = (gn.predicted, gn.length) if q is gn.q else (model.predicted(q, False), norm(q))
    with_curvature = plain - float(p.dot(model.S.dot(p)))
    predicted = with_curvature if region.curved and not along else plain
    step = Step(p=p, Jp=T.apply(p), length=length, predicted=predicted, full=full)
    return Proposal(step=step, q=q, t=t, along=along, plain=plain, with_curvature=with_curvature)


def judged(
    problem: Problem, s: State, T: Tangent, model: Quadratic, gn: Newton, region: Region, proposal: Proposal, new: Trial
) -> tuple[Trial, Region]:
    """The trial, or a better one, and the region after it."""
    along, length = proposal.along, proposal.step.length
    if new.actual == -math.inf:
        natural = 0.25 * length if along else region.natural
        return new, region._replace(radius=min(region.radius, 0.25 * length), natural=natural)
    region = region._replace(curved=nearer(region.curved, new.actual, proposal.plain, proposal.with_curvature))
    natural = region.natural if gn.inconsistent else natural_radius(T, model, s.r, new)
    new = new._replace(natural=natural)
    if along and not new.gain > TUNING.sufficient_gain:
        natural = length * min(max(natural / length, 0.1), 0.5)
        return new, region._replace(radius=min(region.radius, natural), natural=natural)
    if not along and new.gain < TUNING.good_gain and not problem.spent:
        new = corrected(problem, s, T, model, new, proposal.t)
    natural = radius_by_natural(new, 10.0 * length if along else TUNING.natural_growth * region.natural)
    return new, region._replace(radius=next_radius(new, region.radius), natural=natural)


def straight(r: Array, Jp: Array, new: Array) -> bool:
    """Whether F is almost linear along the step p, so that a bound it meets is likely active at the solution, too."""
    return norm(new - r - Jp) <= TUNING.bound_linear * norm(Jp)


def natural_radius(T: Tangent, model: Quadratic, r: Array, new: Trial) -> float:
    """The length at which a step along p would have a second-order part as long as itself."""
    length, back = new.step.length, norm(model.damped_inverse(T, new.r - r - new.step.Jp, 0.0))
    return length * length / max(2.0 * back, 1e-300)


def nearer(curved: bool, actual: float, plain: float, with_curvature: float) -> bool:
    """Whether the next step uses the model with S, by the errors of both predictions."""
    if abs(actual - plain) * TUNING.curved_switch < abs(actual - with_curvature):
        return False
    return curved or abs(actual - with_curvature) * TUNING.curved_switch < abs(actual - plain)


def corrected(problem: Problem, s: State, T: Tangent, model: Quadratic, new: Trial, t: float) -> Trial:
    """The trial, or that of the step with a second-order correction, where this reduces the loss further."""
    step = new.step
    back = -model.damped_inverse(T, new.r - s.r - step.Jp, t)
    if norm(back) > TUNING.correction_length * step.length:
        return new
    left = norm(new.r + T.apply(model.d * back))
    if not float(s.r.dot(s.r)) - left * left > max(TUNING.correction_gain, 2.0 * new.gain) * step.predicted:
        return new
    p = model.within(step.p + model.d * back)
    return better(new, attempt(problem, s.w, s.r, step._replace(p=p, full=False))._replace(natural=new.natural))


def next_radius(new: Trial, radius: float) -> float:
    """The radius by the gain ratio; after a bad step, from the parabola through the losses at both ends of the step."""
    growth = TUNING.excellent_growth if new.gain > TUNING.excellent_gain else 2.0
    minimiser = 0.5 / (1.0 - new.gain) if new.gain < TUNING.poor_gain else 1.0
    return radius_by_gain(new, radius, growth, min(max(minimiser, 0.1), 0.5))


# -- the end ----------------------------------------------------------------------------------------------------------


def flat(problem: Problem, s: State, model: Quadratic, g: Array, r2: float) -> bool:
    """Whether the gradient is zero to rounding, or as small as the caller requires."""
    if problem.flat_gradient > 0.0:
        moved, least = s.w - problem.project(s.w - g) if problem.bounded else g, problem.flat_gradient
        if norm(moved) <= least * math.sqrt(g.size) and float(np.abs(moved).max()) <= least:
            return True
    limit = max(FLAT, problem.flat) * r2
    return model.largest_reduction(False) <= limit or (s.memory.curved and model.largest_reduction(True) <= limit)


def ending(problem: Problem, s: State, T: Tangent, model: Quadratic, flat: bool) -> State:
    """The state when no step reduces the loss: first more precise differences, if any are left, then the verdict."""
    memory = s.memory
    if not s.precise or (problem.spent and not flat):
        return s._replace(step=0.0, precise=True, full=False, memory=memory._replace(curved=False, s=NOWHERE))
    w, r, status = conclusion(problem, s.w, s.r, T, flat, last_step(problem, s, model) if flat else None)
    if w is not s.w:
        memory = memory._replace(s=w - s.w, R=model.R, d=model.d, precise=True)
    nit = s.nit if w is s.w else s.nit + 1
    return s._replace(w=w, r=r, status=status, nit=nit, step=T.norm(w - s.w), full=True, memory=memory)


def last_step(problem: Problem, s: State, model: Quadratic) -> Array | None:
    """The step to the minimum of the model, where that changes w visibly."""
    q, full, _ = model.minimum(s.memory.curved, math.inf)
    p = model.step(q)
    moves = np.abs(problem.move(s.w, p) - s.w) > TUNING.last_step * np.abs(s.w)
    return p if full and moves.any() else None
