"""Gauss-Newton in a trust region measured by natural curvature, with chord steps on the same factor.

At w with residual r = F(w) - y the direction is gn = -J^+ r: for n <= m the minimum-norm step -J^T K^{-1} r (theory
7.1). The step p is gn while that fits in the radius D, else gn cut to D: the *ray* to gn treats all singular values
alike, where damping K + lam I would take the easy components only and stall on ill-conditioned kernels. Far inside,
where gn may be all of the smallest singular value, p leads along a few conjugate gradients towards gn. At the start one
call of F tells whether all of gn is within reach.

How far the linear model reaches is told by c = J^+ (r(w + p) - r - J p), the second-order part of F seen through J^+:
mu = ||p||^2 / (2 ||c||) is the length at which it would be as large as the step itself, the natural radius (Deuflhard,
Newton Methods for Nonlinear Problems, 2004). It costs one F and one solve with the factor at hand. Far inside the ray,
and where a residual stays (n > m, inconsistent equations), the radius follows the gain ratio instead.

In a box gn is the step of bounded least squares (`box`), scaled to D as a whole. Where the box leaves a residual, gn
leads far to several bounds on the word of a linear model: as long as much is promised, it goes half the way to them.

After a full step, more steps reuse the factor: J^+ is kept and corrected by good-Broyden updates in the space of w, as
long as they shrink. Every accepted step reduces the loss; a non-finite trial is a rejected one.

An operator that knows its own K makes J and K for the price of a few F, and each direction costs J^T z, as much as F:
there gn is made once for all steps along it, the ray goes on further in, and chord steps must shrink a lot.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from plsolve._linalg import ALL_FREE, HUGE, Array, Mask, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._tangent import Inverse, Tangent, only
from plsolve.methods.box import boxed, held, reduction
from plsolve.methods.ending import FLAT, at_rounding_level, bend, verdict
from plsolve.methods.tuning import TUNING


class State(NamedTuple):
    """Where Gauss-Newton stands: point, residual, radius and what it has learnt about J."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float  # length of the last step
    checked: bool  # r belongs to w
    radius: float  # 0: not set yet
    orthogonal: bool  # Cholesky of K has failed before
    precise: bool  # differences are to be central
    beta: float  # Lipschitz constant of J, 0: not given
    pl: float  # 1/2 ||g||^2 / L at the point before; negative: not known
    bend: float  # the largest 2||r+ - r - J p||/||p||^2 of a step that exceeds beta
    steep: float  # see `steepness`, at the point before
    crawl: int  # steps in a row inside the ray that hardly reduced the loss


class Newton(NamedTuple):
    """The linear model at w: pseudo-inverse, direction gn, J gn, and the free unknowns."""

    T: Tangent
    H: Inverse
    gn: Array  # perhaps not made yet: see `toward`
    u: Array  # gn = H.lift(u)
    Jgn: Array
    length: float  # ||gn||
    potential: float  # ||r||^2 - ||r + J gn||^2
    size: float  # ||r||
    free: Mask
    stays: bool
    boxed: bool  # gn leads some unknowns to bounds: it is not -J^+ r


class Step(NamedTuple):
    """A step p in the linear model."""

    p: Array
    Jp: Array
    length: float  # ||p||
    predicted: float  # ||r||^2 - ||r + J p||^2
    full: bool  # p = gn


class Trial(NamedTuple):
    """A trial point with what it tells about the model."""

    w: Array
    r: Array
    size: float  # ||r||
    length: float  # ||p||
    full: bool  # p = gn
    gain: float  # actual over predicted reduction of the loss
    reach: float  # mu above
    least: float  # share of p where the parabola through ||r||^2 at w, its slope, and ||r||^2 at w + p is least


def start(w: Array, r: Array, nit: int, beta: float) -> State:
    """The state at a point of which nothing is known but r."""
    return State(
        w=w,
        r=r,
        status=RUNNING,
        nit=nit,
        step=0.0,
        checked=True,
        radius=0.0,
        orthogonal=False,
        precise=False,
        beta=beta,
        pl=-1.0,
        bend=0.0,
        steep=0.0,
        crawl=0,
    )


def moved(
    s: State, w: Array, r: Array, status: int, nit: int, length: float, radius: float, crawl: int, pl: float
) -> State:
    """The state at another point, with what it has learnt about J."""
    return State(
        w=w,
        r=r,
        status=status,
        nit=nit,
        step=length,
        checked=True,
        radius=radius,
        orthogonal=s.orthogonal,
        precise=s.precise,
        beta=s.beta,
        pl=pl,
        bend=s.bend,
        steep=s.steep,
        crawl=crawl,
    )


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, s.precise)
    plain = newton(T, s.r, free_unknowns(problem, T, s.w, s.r), s.orthogonal)
    model = in_box(problem, plain, s.w, s.r) if problem.bounded else plain
    r2 = model.size * model.size
    if not model.potential > max(FLAT, problem.flat) * r2:
        return ending(problem, s, model, flat=math.isfinite(model.potential))
    if s.crawl == TUNING.stagnation_steps:
        return ending(problem, s, model, flat=False)
    radius = s.radius if s.radius > 0.0 else first_radius(problem, s.w, s.r, model)
    if problem.bounded and (s.radius > 0.0 or radius < model.length):
        whole, model = model, halfway(problem, plain, model, s.w, s.r)
        radius *= model.length / whole.length if s.radius == 0.0 else 1.0
    best, reached = search(problem, s.w, s.r, model, radius)
    if best.gain <= 0.0:
        return ending(problem, s, model, flat=False)
    straight = best.full and not (model.stays or model.boxed)
    if straight and not problem.spent:
        best = doubled(problem, s.w, model, best)
    w, r, length, radius = best.w, best.r, best.length, next_radius(model, best, reached, reached < radius)
    if straight and model.H.direct and (r.size >= TUNING.chord_rows or problem.differenced):
        w, r, radius = chords(problem, model, w, r, best.length / model.length, radius)
        length = T.distance(w, s.w)
    orthogonal = s.orthogonal or (plain.H.dual and plain.H.orthogonal)
    precise = s.precise or (problem.differenced and model.potential < 0.1 * r2)
    status = RUNNING
    if best.full and best.size > 0.9 * model.size and at_rounding_level(problem, w, r, T):
        status = int(Status.RESIDUAL)
    slow = not model.stays and inside(model, best.length) and best.size > (1.0 - TUNING.stagnation) * model.size
    slope = model.H.slope(s.r)
    most = max(s.bend, bend(problem, T, s.w, s.r, w - s.w, r, s.beta)) if s.beta > 0.0 else 0.0
    pl, crawl = slope * slope / r2, s.crawl + 1 if slow else 0
    steep = steepness(problem, plain, s.w, s.r, slope)
    return State(w, r, status, s.nit + 1, length, True, radius, orthogonal, precise, s.beta, pl, most, steep, crawl)


def steepness(problem: Problem, model: Newton, w: Array, r: Array, slope: float) -> float:
    """||J^T r|| ||w|| / ||r||^2, in the metric of the step: where it is small, a minimum that is not zero is near.

    The gradient, followed over the size of w or of the way from w0 where that is longer, promises twice so much of the
    loss. slope: ||J^T r|| in the plain metric, of all unknowns.
    """
    T, size = model.T, model.size
    if T.scale.size or model.free.size:
        slope = T.norm(only(model.free, T.raised(T.adjoint(r))))
    return (slope / size) * (max(T.norm(w), T.distance(w, problem.w0)) / size) if size > 0.0 else 0.0


def ending(problem: Problem, s: State, model: Newton, flat: bool) -> State:
    """No step reduces the loss: why, after better differences (if there are any) have been tried."""
    if (problem.differenced and not s.precise) or (problem.spent and not flat):
        return State(s.w, s.r, RUNNING, s.nit, 0.0, True, 0.0, s.orthogonal, True, s.beta, -1.0, s.bend, s.steep, 0)
    status = verdict(problem, s.w, s.r, model.T)
    w, r, nit = s.w, s.r, s.nit
    if flat and status != Status.RESIDUAL and not problem.spent:
        status = int(Status.STATIONARY)
        wt = problem.move(w, toward(model, 1.0))  # too short for the loss to tell, it mends the last digits
        rt = problem.residual(wt)
        if norm(rt) <= norm(r):
            w, r, nit = wt, rt, nit + 1
    length = model.T.distance(w, s.w)
    steep = steepness(problem, model, s.w, s.r, model.H.slope(s.r))
    return State(w, r, status, nit, length, True, s.radius, s.orthogonal, s.precise, s.beta, -1.0, s.bend, steep, 0)


def free_unknowns(problem: Problem, T: Tangent, w: Array, r: Array) -> Mask:
    """The unknowns that are not held at a bound by the gradient; empty: all."""
    if not problem.bounded:
        return ALL_FREE
    pressed = held(w, T.adjoint(r), problem.lower, problem.upper)
    return ~pressed if pressed.any() else ALL_FREE


def newton(T: Tangent, r: Array, free: Mask, orthogonal: bool) -> Newton:
    """gn = -J^+ r, by the kernel while its Cholesky factor has digits, else by the orthogonal factorisation."""
    H = T.inverse(free, orthogonal)
    if not H.sound:
        H = T.inverse(free, True)
    size = norm(r)
    gn, u, left = refined(H, r, size)
    if H.dual and not H.orthogonal and not norm(left) <= TUNING.lost_digits * size:
        H = T.inverse(free, True)
        gn, u, left = refined(H, r, size)
    Jgn = left - r
    stays = norm(left) > TUNING.inconsistent * size and (H.direct or H.orthogonal)  # else gn is not meant to be exact
    length = T.norm(gn) if gn.size else math.sqrt(max(u.dot(Jgn), 0.0))  # gn = D^2 J^T u
    return Newton(T, H, gn, u, Jgn, length, reduction(r, Jgn), size, free, stays, False)


def refined(H: Inverse, r: Array, size: float) -> tuple[Array, Array, Array]:
    """gn = -J^+ r, its coordinates and r + J gn, with iterative refinement while that halves what is left."""
    u = -H.coordinates(r)[0]
    gn = H.sketched(u)
    left = r + H.image(u, gn)
    for _ in range(3):
        if not H.dual or not norm(left) > 1e-11 * size:
            break
        v = u - H.coordinates(left)[0]
        better = H.sketched(v)
        less = r + H.image(v, better)
        if not norm(less) <= 0.5 * norm(left):
            break
        u, gn, left = v, better, less
    return gn, u, left


def first_radius(problem: Problem, w: Array, r: Array, model: Newton) -> float:
    """All of gn where that is within its natural radius, else the length of a cautious step.

    Near a singular J gn is long and says nothing of the units of w: the size of w does, as in MINPACK (1 where w = 0).
    """
    size = model.T.norm(w)
    size = size if size > 0.0 else 1.0
    size *= TUNING.first_size if problem.n < problem.m else TUNING.first_size_square
    share = min(TUNING.first_probe, max(size / max(model.length, 1e-300), TUNING.shortest_probe))
    new = problem.residual(problem.move(w, toward(model, share)))
    reach, length = 0.0, share * model.length
    if norm(new) < HUGE:
        reach = length * length / (2.0 * max(model.H.length(new - r - share * model.Jgn), 1e-300))
    return model.length if reach >= model.length else min(TUNING.first_fraction * model.length, max(size, reach))


def search(problem: Problem, w: Array, r: Array, model: Newton, radius: float) -> tuple[Trial, float]:
    """The best of a few trial points on the path, with gain 0 if none reduces the loss, and its radius."""
    best = Trial(w, r, model.size, 0.0, False, 0.0, 0.0, 0.0)
    shortened, reached, shortest, rejected, scale = False, radius, 0.0, 0.0, model.T.norm(w)
    while not problem.spent:
        step = path(problem, w, r, model, radius)
        if not (step.length > shortest and step.predicted > 0.0):
            break
        new = attempt(problem, w, r, model, step)
        if new.gain < TUNING.overshoot_gain and new.reach > new.length and not problem.spent:
            new = corrected(problem, w, r, model, step, new)
        if best.gain > 0.0 and not new.size < best.size:
            break
        if best.gain > 0.0 or new.gain > TUNING.sufficient_gain:
            best, reached = new, radius
        if best.gain <= 0.0:
            shortest, rejected = 1e-16 * (scale if scale > 0.0 else model.length), new.length
            radius = min(max(new.reach, 0.1 * new.length), 0.5 * new.length)
            continue
        radius, shortened = other_radius(problem, model, new, rejected, shortened)
        if radius == 0.0:
            break
    return best, reached


def other_radius(problem: Problem, model: Newton, new: Trial, rejected: float, shortened: bool) -> tuple[float, bool]:
    """Where another trial is worth a call of F, 0 if nowhere, and whether the step has been shortened.

    rejected: the length of the last trial that did not reduce the loss, 0 if none.
    """
    if new.size <= problem.target or model.stays:
        return 0.0, shortened
    first = rejected == 0.0 and not new.full and new.length < model.length
    if first and new.reach >= 4.0 * new.length and new.gain > 0.5:  # much too short
        return min(new.reach, 10.0 * new.length), shortened
    shorter = inside(model, rejected) and TUNING.lengthen_ratio * new.length < rejected
    if shorter and new.gain > TUNING.lengthen_gain and new.size > TUNING.lengthen_left * model.size:
        return math.sqrt(new.length * rejected), shortened  # cut too far
    if not shortened and new.gain < TUNING.overshoot_gain and new.least < 0.8:
        return new.length * min(max(new.least, 0.1), 0.7), True
    return 0.0, shortened


def path(problem: Problem, w: Array, r: Array, model: Newton, radius: float) -> Step:
    """The step of the given length: gn if that is shorter, gn cut, or the dogleg."""
    if model.length <= radius:
        return Step(toward(model, 1.0), model.Jgn, model.length, model.potential, True)
    if not inside(model, radius):
        share = radius / model.length
        return Step(toward(model, share), share * model.Jgn, radius, reduction(r, share * model.Jgn), False)
    p, Jp = dogleg(model, r, radius)
    t = w + p
    if problem.bounded and ((t < problem.lower) | (t > problem.upper)).any():
        p = within_bounds(problem, model, w, r, p, radius)
        Jp = model.T.apply(p)
        return Step(p, Jp, model.T.norm(p), reduction(r, Jp), False)
    return Step(p, Jp, radius, reduction(r, Jp), False)


def attempt(problem: Problem, w: Array, r: Array, model: Newton, step: Step) -> Trial:
    """F at w + p, and one solve with the factor for what it says about the model."""
    w = problem.move(w, step.p)
    new = problem.residual(w)
    size = norm(new)
    if not size < HUGE:
        return Trial(w, new, size, step.length, step.full, -math.inf, 0.0, 0.0)
    fell = (model.size - size) * (model.size + size)
    if size > 0.9 * model.size:  # they cancel
        fell = float((r - new).dot(r + new))
    gain, least = fell / step.predicted, math.inf
    if gain < TUNING.overshoot_gain or model.stays:
        slope = float(r.dot(step.Jp))
        curve = fell + 2.0 * slope  # minus the curvature of the parabola
        least = slope / curve if curve < 0.0 else math.inf
    if inside(model, step.length) and not (model.boxed and abs(gain - 1.0) < TUNING.exact_gain):
        reach, least = step.length * min(least, 1.0), math.inf
    else:
        reach = step.length * step.length / (2.0 * max(model.H.length(new - r - step.Jp), 1e-300))
    return Trial(w, new, size, step.length, step.full, gain, reach, least)


def corrected(problem: Problem, w: Array, r: Array, model: Newton, step: Step, new: Trial) -> Trial:
    """The trial after a second-order correction, if that is better.

    The curvature of F may throw a step far out along large singular values, where the way back is short: the natural
    radius allows the step, the loss forbids it. J^+ takes the second-order part c of F away at the cost of one F.
    """
    p = step.p - model.H.solve(new.r - r - step.Jp)
    better = attempt(problem, w, r, model, Step(p, step.Jp, step.length, step.predicted, step.full))
    return better if better.size < new.size else new


def doubled(problem: Problem, w: Array, model: Newton, best: Trial) -> Trial:
    """Twice the step where the root looks double, if that is better.

    Near a root where J is singular Newton's steps only halve the error: ||r|| falls to a quarter, and the second-order
    part sends exactly half a step back. Twice the step restores fast convergence (Decker, Keller, Kelley, SIAM J.
    Numer. Anal. 20, 1983).
    """
    if not (0.23 * model.size < best.size < 0.27 * model.size and 1.9 * best.length < best.reach < 2.1 * best.length):
        return best
    wt = problem.project(w + toward(model, 2.0))
    rt = problem.residual(wt)
    if not norm(rt) < best.size:
        return best
    return Trial(wt, rt, norm(rt), 2.0 * best.length, True, best.gain, best.reach, 0.0)


def dogleg(model: Newton, r: Array, radius: float) -> tuple[Array, Array]:
    """A step p of length radius, and J p: along a few conjugate gradients to the least loss in the model, then to gn.

    With one of them it is Powell's dogleg; with as many as J has large singular values it follows the valley of a small
    one, where steepest descent goes to and fro (Steihaug, SIAM J. Numer. Anal. 20, 1983). All of it is done in the
    space of r, p = D^2 J^T v and ||p||^2 = v . J p, since m may be large.
    """
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
            return lifted(model, v + u * s), Jp + u * Js
        v, Jp = ahead, Jahead
    if model.boxed:
        p = lifted(model, v)
        square, beside = model.T.dot(p, p), model.T.dot(p, model.gn)
        u = outwards(model.length * model.length - 2.0 * beside + square, beside - square, radius * radius - square)
        return (1.0 - u) * p + u * model.gn, (1.0 - u) * Jp + u * model.Jgn
    square, beside = v.dot(Jp), v.dot(model.Jgn)  # p . p, p . gn
    u = outwards(model.length * model.length - 2.0 * beside + square, beside - square, radius * radius - square)
    Jp = (1.0 - u) * Jp + u * model.Jgn
    if model.H.dual and not model.H.orthogonal:
        return lifted(model, (1.0 - u) * v + u * model.u), Jp
    return (1.0 - u) * lifted(model, v) + toward(model, u), Jp


def outwards(a: float, b: float, c: float) -> float:
    """The least u >= 0 with a u^2 + 2 b u = c: so far along s from p is the radius; a = s . s, b = p . s."""
    root = math.sqrt(max(b * b + a * c, 0.0))
    return c / (b + root) if b > 0.0 else (root - b) / max(a, 1e-300)


def lifted(model: Newton, v: Array) -> Array:
    """D^2 J^T v, on the free unknowns."""
    return only(model.free, model.T.raised(model.T.adjoint(v)))


def in_box(problem: Problem, model: Newton, w: Array, r: Array) -> Newton:
    """The model with gn such that w + gn is in the box."""
    gn, low, high = toward(model, 1.0), problem.lower - w, problem.upper - w
    if not math.isfinite(model.potential) or not (model.free.size or ((gn < low) | (gn > high)).any()):
        return model
    return cut(model, r, gn, low, high)


def halfway(problem: Problem, plain: Newton, model: Newton, w: Array, r: Array) -> Newton:
    """The model with gn in half the box, where all of the box leaves much of r and yet much is promised.

    There the way leads far to several bounds at once on the word of a linear model that is none.
    """
    if not (model.boxed and model.stays and model.potential > TUNING.box_promise * model.size * model.size):
        return model
    low, high = problem.lower - w, problem.upper - w
    return cut(plain, r, toward(plain, 1.0), TUNING.box_share * low, TUNING.box_share * high)


def cut(model: Newton, r: Array, gn: Array, low: Array, high: Array) -> Newton:
    """The model with gn within low <= gn <= high."""
    T = model.T
    p, Jp, H = boxed(T, model.H, r, gn, model.free, low, high)
    if np.array_equal(p, gn):
        return model
    stays = norm(r + Jp) > TUNING.inconsistent * model.size and (H.direct or H.orthogonal)
    return Newton(T, H, p, model.u, Jp, T.norm(p), reduction(r, Jp), model.size, model.free, stays, True)


def within_bounds(problem: Problem, model: Newton, w: Array, r: Array, p: Array, radius: float) -> Array:
    """What is best in the linear model: p cut to the box, gn cut to the radius, or a step down the projected gradient.

    Never worse in the linear model than the last, so that the loss can always fall.
    """
    T, share = model.T, radius / model.length
    p, sd = problem.project(w + p) - w, only(model.free, -T.raised(T.adjoint(r)))
    best, along = reduction(r, T.apply(p)), reduction(r, share * model.Jgn)
    if along > best:
        p, best = toward(model, share), along
    t = radius / max(T.norm(sd), 1e-300)
    for _ in range(30):
        q = problem.project(w + t * sd) - w
        Jq = T.apply(q)
        enough = reduction(r, Jq)
        if enough >= -0.2 * float(r.dot(Jq)):
            return q if enough > 2.0 * best else p
        t *= 0.3
    return p


def toward(model: Newton, share: float) -> Array:
    """So much of gn."""
    return share * model.gn if model.gn.size else model.H.along(model.u, share)


def inside(model: Newton, length: float) -> bool:
    """Whether a step so long does not lead along gn, so that the natural radius says nothing of it."""
    share = TUNING.dogleg_below_own_kernel if model.H.own_kernel() else TUNING.dogleg_below
    return model.stays or length < share * model.length


def next_radius(model: Newton, best: Trial, radius: float, rejected: bool) -> float:
    """The next iteration's, from the radius of the best trial; rejected: a larger one was tried first."""
    if not inside(model, best.length):
        return max(min(best.reach, 10.0 * best.length), best.length)
    if best.gain > 0.75 and not rejected:
        return max(radius, 2.0 * best.length)
    return 0.5 * best.length if best.gain < 0.25 else radius


def chords(
    problem: Problem, model: Newton, w: Array, r: Array, share: float, radius: float
) -> tuple[Array, Array, float]:
    """Quasi-Newton steps -z, z = J^+ r(w) corrected by good-Broyden updates, while they shrink: one F each.

    The step that led to w was share gn.

    The steps made are all that is kept, in the coordinates of J^+: z <- (I + s_{k+1} s_k^T / ||s_k||^2) z for each pair
    of them, and the last update, from the step that led here, only rescales z (Kelley, Iterative Methods for Linear and
    Nonlinear Equations, 1995, section 7.3).
    """
    H = model.H
    shrinks = TUNING.chord_contraction_own_kernel if H.own_kernel() else TUNING.chord_contraction
    steps = [H.coordinates(share * model.Jgn)]
    squares = [steps[0][0].dot(steps[0][1])]
    while not problem.spent and norm(r) > problem.target and squares[-1] > 0.0 and len(steps) <= TUNING.chord_steps:
        u, v = H.coordinates(r)
        for k in range(len(steps) - 1):
            c = steps[k][0].dot(v) / squares[k]
            u, v = u + c * steps[k + 1][0], v + c * steps[k + 1][1]
        last, zz = squares[-1], u.dot(v)
        bend = 1.0 + steps[-1][0].dot(v) / last
        if not (zz < shrinks * shrinks * last and bend >= 0.1 and zz <= 4.0 * bend * bend * last):
            break
        u, v = u / -bend, v / -bend
        s = H.lift(u)
        wt = problem.project(w + s)
        if problem.bounded and not np.array_equal(wt, w + s):
            break
        rt = problem.residual(wt)
        if not norm(rt) < 0.9 * norm(r):
            break
        w, r = wt, rt
        steps.append((u, v))
        squares.append(zz / (bend * bend))
        radius = max(radius, 2.0 * math.sqrt(max(squares[-1], 0.0)))
    return w, r, radius
