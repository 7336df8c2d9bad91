"""Gauss-Newton for as many or more equations than unknowns (n >= m), with the curvature of the residual.

Where a residual r stays, the Hessian of the loss is J^T J + Sum_i r_i D^2 F_i, and Gauss-Newton, which leaves the
second part out, is slow or fails. A matrix S learns that part from the secants (J+ - J)^T r+ = S s (Dennis, Gay,
Welsch, ACM TOMS 7, 1981: NL2SOL); of the two models, with S and without, the one goes on that foretold the last loss
better.

The step q = p / scale is the least of the model (see `quadratic`) in a ball ||q|| <= radius. While the linear model
promises to take most of r away, the step along the *ray* to gn = -J^+ r comes first, as long as the natural curvature
lets it reach a tenth of gn (`gauss_newton` explains both): it follows narrow curved valleys that a ball cannot. A step
that fell short of its promise is tried once more with its second-order part sent back through J^+ (Transtrum, Sethna,
arXiv 1201.5885). Every accepted step reduces the loss.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from plsolve._linalg import HUGE, Array, column_lengths, norm, trcon, trtrs
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._tangent import Tangent
from plsolve.methods.ending import FLAT, at_rounding_level, bend, verdict
from plsolve.methods.quadratic import ALL, NOWHERE, Least, Quadratic, upper
from plsolve.methods.tuning import TUNING


class Memory(NamedTuple):
    """What has been learnt about the curvature of the residual, and what the last step has still to teach."""

    S: Array  # (m, m)
    curved: bool  # S is in use
    s: Array  # (m,) the last step; empty: nothing to learn
    g: Array  # J^T r before it
    h: Array  # J^T r+ with J before it
    R: Array  # (m, m) with J diag(d) = Q R before it, to be read above the diagonal
    d: Array  # (m,)
    precise: bool  # that J is not from one-sided differences


class State(NamedTuple):
    """Where the run stands."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float  # length of the last step
    checked: bool  # r belongs to w
    radius: float  # before the first step: minus a multiple of ||w / scale||
    reach: float  # length along gn at which the second-order part would be as large as the step
    precise: bool  # jac is given, or its differences are to be central
    full: bool  # the last step was the least of the model, no radius in the way
    memory: Memory
    beta: float  # Lipschitz constant of J, 0: not given
    pl: float  # 1/2 ||g||^2 / L at the point before; negative: not known
    bend: float  # the largest 2||r+ - r - J p||/||p||^2 of a step that exceeds beta


class Trial(NamedTuple):
    """A trial point."""

    w: Array
    r: Array
    q: Array
    size: float  # ||r||
    length: float  # ||q||
    gain: float  # actual over predicted reduction of ||r||^2
    actual: float
    full: bool  # no radius in the way


def init(problem: Problem, beta: float, before: Any) -> State:
    """At w0, or where another method came to an end."""
    S = np.zeros((problem.m, problem.m), order="F")
    none = Memory(S, False, NOWHERE, NOWHERE, NOWHERE, NOWHERE, NOWHERE, False)
    w, r, nit = problem.w0, problem.r0, 0 if before is None else before.nit
    if before is not None and norm(before.r) <= TUNING.restart_left * norm(r):
        w, r = before.w, before.r
    precise = not problem.differenced
    return State(w, r, RUNNING, nit, 0.0, True, -1.0, math.inf, precise, False, none, beta, -1.0, 0.0)


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, s.precise)
    g, size = T.adjoint(s.r), norm(s.r)
    S = learnt(s.memory, g) if s.memory.s.size else s.memory.S
    model = modelled(problem, T, s, S, g)
    if flat(problem, s, model, g, size * size):
        return ending(problem, s, T, model, True)
    best, radius, reach, curved = search(problem, s, T, model, size)
    if not best.gain > TUNING.sufficient_gain:
        return ending(problem, s, T, model, False)
    w, r, p = best.w, best.r, best.w - s.w
    status = RUNNING
    fast = not 0.01 * size < best.size < 0.9 * size  # the end, one way or the other: worth a look
    if best.full and fast and at_rounding_level(problem, w, r, T):
        status = int(Status.RESIDUAL)
    precise = s.precise or best.actual < TUNING.difference_noise * size * size
    memory = Memory(S, curved, p, g, T.adjoint(r), model.R, model.d, s.precise)
    slope, most = norm(g) / size, max(s.bend, bend(problem, T, s.w, s.r, p, r, s.beta)) if s.beta else 0.0
    pl = slope * slope
    full, nit = best.full, s.nit + 1
    return State(w, r, status, nit, best.length, True, radius, reach, precise, full, memory, s.beta, pl, most)


# -- the model --------------------------------------------------------------------------------------------------------


def learnt(memory: Memory, g: Array) -> Array:
    """S, with what the last step told: (J+ - J)^T r+ = S s. NL2SOL's sizing and update."""
    S, s = memory.S, memory.s
    y, part = g - memory.g, g - memory.h
    ys = float(y.dot(s))
    if not ys > 1e-8 * norm(y) * norm(s):
        return S
    Ss = S.dot(s)
    sSs, told = float(s.dot(Ss)), float(s.dot(part))
    if abs(told) < abs(sSs):
        size = abs(told / sSs)
        S, Ss, sSs = size * S, size * Ss, size * sSs
    v = part - Ss - (0.5 * (told - sSs) / ys) * y
    return blas.dger(1.0 / ys, y, v, a=blas.dger(1.0 / ys, v, y, a=S), overwrite_a=1)


def modelled(problem: Problem, T: Tangent, s: State, S: Array, g: Array) -> Quadratic:
    """R by Cholesky of J^T J where it keeps its digits there, else by reflections; scaled when it is m x m."""
    J, d = T.toarray(), T.scale if T.scale.size else np.ones(s.w.size)
    if problem.bounded:
        below, above = problem.lower - s.w, problem.upper - s.w
        held = ((below >= 0.0) & (g >= 0.0)) | ((above <= 0.0) & (g <= 0.0))
        d = d * np.where(held, 1.0, shortened(np.where(g > 0.0, -below, above) / d))
    R, failed = lapack.dpotrf(J.T.dot(J).T, 0, 0, 1)
    c, condition = trtrs(R, g, True), reciprocal_condition(R)
    if failed or not condition > TUNING.cholesky_condition:
        R, c = reflected(J, s.r)
        condition = reciprocal_condition(R)
    R = R * d
    if not problem.bounded:
        return Quadratic(d, R, c, S, condition > TUNING.regular_condition)
    free = ~held if held.any() else ALL
    return Quadratic(d, R, c, S, condition > TUNING.regular_condition, below, above, free)


def reciprocal_condition(R: Array) -> float:
    """Of R with columns of length 1: whether R can be divided by does not depend on how the unknowns are scaled."""
    lengths = column_lengths(upper(R))
    return trcon(R / np.where(lengths > 0.0, lengths, 1.0))


def shortened(room: Array) -> Array:
    """Weights for unknowns that have so much room downhill: what is near to a bound moves less (Coleman, Li, 1996)."""
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


def search(problem: Problem, s: State, T: Tangent, model: Quadratic, size: float) -> tuple[Trial, float, float, bool]:
    """The first step that reduces the loss enough, the radius and the reach after it, and the model to go on with."""
    length = norm(s.w / model.d)
    first, curved = s.radius < 0.0, s.memory.curved
    radius = -s.radius * length or math.inf if first else s.radius
    reach = radius if first else s.reach
    best = Trial(s.w, s.r, NOWHERE, size, 0.0, 0.0, 0.0, False)
    gn, N, most, stays = outlook(model, size)
    if first:
        radius = reach = max(radius, TUNING.first_visible * most / max(norm(model.d * T.adjoint(s.r)), 1e-300))
    least = 1e-16 * (length or N)
    while not problem.spent:
        ray = not stays and reach > TUNING.dogleg_below_curved * N
        if ray:
            q, full, t = Least(gn, True, 0.0) if reach >= N else Least((reach / N) * gn, False, 0.0)
        else:
            q, full, t = model.least(curved, radius)
        p = model.step(q)
        plain, P = (most, N) if q is gn else (model.foretold(q), norm(q))
        bent = plain - float(p.dot(model.S.dot(p)))
        predicted = bent if curved and not ray else plain
        if not (least < P and predicted > 0.0):
            break
        new = attempt(problem, s, q, p, P, predicted, full)
        if model.nears(q) and not straight(s.r, T.apply(p), new.r):
            model = model.short()
            gn, N, most, stays = outlook(model, size)
            continue
        if not new.size < HUGE:
            radius, reach = min(radius, 0.25 * P), 0.25 * P if ray else reach
            continue
        curved = nearer(curved, new.actual, plain, bent)
        natural = reach if stays else natural_length(model, T, p, new.r - s.r, P)
        if ray and not new.gain > TUNING.sufficient_gain:
            reach = P * min(max(natural / P, 0.1), 0.5)
            radius = min(radius, reach)
            continue
        if not ray and new.gain < TUNING.good_gain and not problem.spent:
            new = corrected(problem, s, T, model, new, t, predicted)
        reach = max(min(natural, 10.0 * P if ray else TUNING.natural_growth * reach), P)
        radius = next_radius(new, predicted, radius)
        if new.gain > TUNING.sufficient_gain:
            return doubled(problem, s, model, new, size, natural, predicted), radius, reach, curved
    return best, radius, reach, curved


def straight(r: Array, Jp: Array, new: Array) -> bool:
    """Whether F is next to linear along the step p, so that a bound that it leads to is one of the solution, too."""
    return norm(new - r - Jp) <= TUNING.bound_linear * norm(Jp)


def outlook(model: Quadratic, size: float) -> tuple[Array, float, float, bool]:
    """gn, its length, what it takes away from ||r||^2, and whether most of r stays."""
    gn = model.least(False, math.inf).q
    most = model.foretold(gn)
    return gn, norm(gn), most, size * size - most > (TUNING.inconsistent_curved * size) ** 2


def natural_length(model: Quadratic, T: Tangent, p: Array, change: Array, length: float) -> float:
    """How long a step along p would be whose second-order part were as long: change is that of r over p."""
    back = norm(model.sent_back(T, change - T.apply(p), 0.0))
    return length * length / max(2.0 * back, 1e-300)


def attempt(problem: Problem, s: State, q: Array, p: Array, length: float, predicted: float, full: bool) -> Trial:
    w = problem.move(s.w, p)
    r = problem.residual(w)
    size = norm(r)
    if not size < HUGE:
        return Trial(w, r, q, size, length, -math.inf, -math.inf, full)
    actual = float((s.r - r).dot(s.r + r))
    return Trial(w, r, q, size, length, actual / predicted, actual, full)


def nearer(curved: bool, actual: float, plain: float, bent: float) -> bool:
    """Whether the model with S is the better one, by what either had foretold."""
    if abs(actual - plain) * TUNING.curved_switch < abs(actual - bent):
        return False
    return curved or abs(actual - bent) * TUNING.curved_switch < abs(actual - plain)


def corrected(
    problem: Problem, s: State, T: Tangent, model: Quadratic, new: Trial, t: float, predicted: float
) -> Trial:
    """The trial, or the better one with its second-order part sent back, where that promises something."""
    a = -model.sent_back(T, new.r - s.r - T.apply(model.d * new.q), t)
    if norm(a) > TUNING.correction_length * new.length:
        return new
    left = norm(new.r + T.apply(model.d * a))
    if not float(s.r.dot(s.r)) - left * left > max(TUNING.correction_gain, 2.0 * new.gain) * predicted:
        return new
    q = new.q + a
    if model.low.size:
        q = np.minimum(np.maximum(q, model.low), model.high)
    again = attempt(problem, s, q, model.step(q), new.length, predicted, False)
    return again if again.gain > new.gain else new


def next_radius(new: Trial, predicted: float, radius: float) -> float:
    if new.gain > TUNING.good_gain:
        return max(radius, (TUNING.excellent_growth if new.gain > TUNING.excellent_gain else 2.0) * new.length)
    if new.gain >= TUNING.poor_gain:
        return radius
    least = predicted / (2.0 * (predicted - new.actual))  # of the parabola through the losses, as a share of the step
    return new.length * min(max(least, 0.1), 0.5)


def doubled(
    problem: Problem, s: State, model: Quadratic, new: Trial, size: float, natural: float, predicted: float
) -> Trial:
    """Twice the step where the root looks double (see `gauss_newton.doubled`) and the last step was twice as long."""
    quarters = 0.23 * size < new.size < 0.27 * size and 1.9 * new.length < natural < 2.1 * new.length
    if not (new.full and quarters and 1.8 * new.length < s.step < 2.2 * new.length) or problem.spent:
        return new
    q = 2.0 * new.q
    twice = attempt(problem, s, q, model.d * q, 2.0 * new.length, predicted, True)
    return twice if twice.size < new.size else new


# -- the end ----------------------------------------------------------------------------------------------------------


def flat(problem: Problem, s: State, model: Quadratic, g: Array, r2: float) -> bool:
    """Whether the gradient is zero to rounding, or as small as the caller wants it."""
    if problem.flat_gradient > 0.0:
        moved, least = s.w - problem.project(s.w - g) if problem.bounded else g, problem.flat_gradient
        if norm(moved) <= least * math.sqrt(g.size) and float(np.abs(moved).max()) <= least:
            return True
    limit = max(FLAT, problem.flat) * r2
    return model.most(False) <= limit or (s.memory.curved and model.most(True) <= limit)


def ending(problem: Problem, s: State, T: Tangent, model: Quadratic, flat: bool) -> State:
    """No step reduces the loss: why, after better differences (if there are any) have been tried."""
    w, r, nit, memory = s.w, s.r, s.nit, s.memory
    if not s.precise or (problem.spent and not flat):
        none = memory._replace(curved=False, s=NOWHERE)
        return s._replace(step=0.0, precise=True, full=False, memory=none)
    if not flat or at_rounding_level(problem, w, r, T):
        status = verdict(problem, w, r, T)
    else:
        status = int(Status.STATIONARY)
        q, full, _ = model.least(memory.curved, math.inf)
        wt = problem.move(w, model.step(q))  # too short to be judged by the loss, it mends the last digits of w
        if full and not problem.spent and (np.abs(wt - w) > TUNING.last_step * np.abs(w)).any():
            rt = problem.residual(wt)
            if norm(rt) <= norm(r):
                memory = memory._replace(s=wt - w, R=model.R, d=model.d, precise=True)
                w, r, nit = wt, rt, nit + 1
    return s._replace(w=w, r=r, status=status, nit=nit, step=T.norm(w - s.w), full=True, memory=memory)
