"""Gauss-Newton in a trust region measured by natural curvature, with chord steps on the same factor.

At w with residual r = F(w) - y the step p is gn = -J^+ r while that fits in the trust region, else one no longer than
its radius (`linear_model`). At the start one call of F tells whether all of gn may be tried.

How far the linear model holds is told by c = J^+ (r(w + p) - r - J p), the second-order part of F seen through J^+:
mu = ||p||^2 / (2 ||c||) is the length at which it would be as large as the step itself, the natural radius (Deuflhard,
Newton Methods for Nonlinear Problems, 2004). It costs one F and one solve with the factor at hand. For doglegs, and
where a residual stays (n > m, inconsistent equations), the radius follows the gain ratio instead.

In a box gn is the step of bounded least squares (`box`), scaled to the radius as a whole. Where the box leaves a
residual, gn leads far to several bounds on the word of a linear model: as long as much is promised, it goes half the
way to them.

After a full step, more steps reuse the factor: J^+ is kept and corrected by good-Broyden updates in the space of w, as
long as they contract. Every accepted step reduces the loss; a non-finite trial is a rejected one.

An operator that knows its own K makes J and K for the price of a few F, and each direction costs J^T z, as much as F:
there gn is made once for all steps along it, it is cut to shorter radii, and chord steps must contract a lot.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from plsolve._linalg import HUGE, Array, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._tangent import only
from plsolve.methods.ending import FLAT, at_rounding_level, conclusion, step_beta
from plsolve.methods.linear_model import LinearModel, halfway, limited_step, model_at
from plsolve.methods.trial import Step, Trial, attempt, better, doubled, radius_by_gain, radius_by_natural
from plsolve.methods.tuning import TUNING


class State(NamedTuple):
    """Where Gauss-Newton stands: point, residual, radius and what it has learnt about J."""

    w: Array
    r: Array
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0  # length of the last step
    checked: bool = True  # r belongs to w
    radius: float = 0.0  # 0: not set yet
    orthogonal: bool = False  # Cholesky of K has failed before
    precise: bool = False  # differences are to be central
    beta: float = 0.0  # Lipschitz constant of J, 0: not given
    pl: float = -1.0  # 1/2 ||g||^2 / L at the point before; negative: not known
    beta_seen: float = 0.0  # the largest 2||r+ - r - J p||/||p||^2 of a step that exceeds beta
    steep: float = 0.0  # see `steepness`, at the point before
    stagnant: int = 0  # doglegs in a row that hardly reduced the loss

    def at(self, w: Array, r: Array, step: float = 0.0, radius: float = 0.0) -> State:
        """At another point, with what has been learnt about J."""
        return self._replace(w=w, r=r, status=RUNNING, step=step, radius=radius, pl=-1.0, stagnant=0)


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, s.precise)
    plain, model = model_at(problem, T, s.w, s.r, s.orthogonal)
    flat = not model.predicted > max(FLAT, problem.flat) * model.size * model.size
    if flat or s.stagnant == TUNING.stagnation_steps:
        return ending(problem, s, model, flat and math.isfinite(model.predicted))
    radius = s.radius if s.radius > 0.0 else first_radius(problem, model)
    if problem.bounded and (s.radius > 0.0 or radius < model.length):
        whole, model = model, halfway(problem, plain, model)
        radius *= model.length / whole.length if s.radius == 0.0 else 1.0
    best, reached = search(problem, model, radius)
    if best is None:
        return ending(problem, s, model, flat=False)
    consistent = best.step.full and not (model.inconsistent or model.boxed)
    if consistent:
        best = doubled(problem, s.w, s.r, model.size, best)
    w, r, radius = best.w, best.r, next_radius(model, best, reached, reached < radius)
    if consistent and model.H.direct and (r.size >= TUNING.chord_rows or problem.differenced):
        w, r, radius = chords(problem, model, best, radius)
    return arrived(problem, s._replace(radius=radius), plain, model, best, w, r)


def arrived(
    problem: Problem, s: State, plain: LinearModel, model: LinearModel, best: Trial, w: Array, r: Array
) -> State:
    """The state at w, where the best trial and the chord steps after it have led from s."""
    T, slope, r2 = model.T, model.H.slope(s.r), model.size * model.size
    solved = best.step.full and best.size > 0.9 * model.size and at_rounding_level(problem, w, r, T)
    dogleg = not model.inconsistent and model.is_dogleg(best.step.length)
    stagnates = dogleg and best.size > (1.0 - TUNING.stagnation) * model.size
    return s._replace(
        w=w,
        r=r,
        status=int(Status.RESIDUAL) if solved else RUNNING,
        nit=s.nit + 1,
        step=best.step.length if w is best.w else T.distance(w, s.w),
        orthogonal=s.orthogonal or (plain.H.dual and plain.H.orthogonal),
        precise=s.precise or (problem.differenced and model.predicted < 0.1 * r2),
        pl=slope * slope / r2,
        beta_seen=max(s.beta_seen, step_beta(problem, T, s.w, s.r, w - s.w, r, s.beta)) if s.beta > 0.0 else 0.0,
        steep=steepness(problem, plain, slope),
        stagnant=s.stagnant + 1 if stagnates else 0,
    )


def steepness(problem: Problem, model: LinearModel, slope: float) -> float:
    """||J^T r|| ||w|| / ||r||^2, in the metric of the step: where it is small, a minimum that is not zero is near.

    The gradient, followed over the size of w or of the way from w0 where that is longer, promises twice so much of the
    loss. slope: ||J^T r|| in the plain metric, of all unknowns.
    """
    T, w, size = model.T, model.w, model.size
    if T.scale.size or model.free.size:
        slope = T.norm(only(model.free, T.metric_gradient(T.adjoint(model.r))))
    return (slope / size) * (max(T.norm(w), T.distance(w, problem.w0)) / size) if size > 0.0 else 0.0


def ending(problem: Problem, s: State, model: LinearModel, flat: bool) -> State:
    """No step reduces the loss: why, after better differences (if there are any) have been tried."""
    if (problem.differenced and not s.precise) or (problem.spent and not flat):
        return s.at(s.w, s.r)._replace(precise=True)
    w, r, status = conclusion(problem, s.w, s.r, model.T, flat, model.toward(1.0) if flat else None)
    return s._replace(
        w=w,
        r=r,
        status=status,
        nit=s.nit if w is s.w else s.nit + 1,
        step=model.T.distance(w, s.w),
        pl=-1.0,
        steep=steepness(problem, model, model.H.slope(s.r)),
        stagnant=0,
    )


# -- the trust region --------------------------------------------------------------------------------------------------


def first_radius(problem: Problem, model: LinearModel) -> float:
    """All of gn where that is within its natural radius, else the length of a cautious step.

    Near a singular J gn is long and says nothing of the units of w: the size of w does, as in MINPACK (1 where w = 0).
    """
    size = model.T.norm(model.w)
    size = size if size > 0.0 else 1.0
    size *= TUNING.first_size if problem.n < problem.m else TUNING.first_size_square
    share = min(TUNING.first_probe, max(size / max(model.length, 1e-300), TUNING.shortest_probe))
    new = problem.residual(problem.move(model.w, model.toward(share)))
    natural = model.natural_radius(new, share * model.Jgn, share * model.length) if norm(new) < HUGE else 0.0
    return model.length if natural >= model.length else min(TUNING.first_fraction * model.length, max(size, natural))


def search(problem: Problem, model: LinearModel, radius: float) -> tuple[Trial | None, float]:
    """The best of a few trial points, None if none reduces the loss, and its radius."""
    best, reached, shortened, shortest, rejected = None, radius, False, 0.0, 0.0
    while not problem.spent:
        step = limited_step(problem, model, radius)
        if not (step.length > shortest and step.predicted > 0.0):
            break
        new = tried(problem, model, step)
        if best is not None and not new.size < best.size:
            break
        if best is None and not new.gain > TUNING.sufficient_gain:
            scale = model.T.norm(model.w)
            shortest, rejected = 1e-16 * (scale if scale > 0.0 else model.length), step.length
            radius = min(max(new.natural, 0.1 * step.length), 0.5 * step.length)
            continue
        best, reached = new, radius
        radius, shortened = other_radius(problem, model, new, rejected, shortened)
        if radius == 0.0:
            break
    return best, reached


def tried(problem: Problem, model: LinearModel, step: Step) -> Trial:
    """The trial of a step, after a second-order correction if that is better.

    The curvature of F may throw a step far out along large singular values, where the way back is short: the natural
    radius allows the step, the loss forbids it. J^+ takes the second-order part c of F away at the cost of one F.
    """
    new = judged(model, attempt(problem, model.w, model.r, step))
    if not (new.gain < TUNING.overshoot_gain and new.natural > step.length) or problem.spent:
        return new
    back = model.H.solve(new.r - model.r - step.Jp)
    return better(new, judged(model, attempt(problem, model.w, model.r, step._replace(p=step.p - back))))


def judged(model: LinearModel, trial: Trial) -> Trial:
    """The trial with the radius that it recommends, at the cost of one solve with the factor at hand."""
    if trial.actual == -math.inf:
        return trial._replace(natural=0.0, minimiser=0.0)
    step, minimiser = trial.step, math.inf
    if trial.gain < TUNING.overshoot_gain or model.inconsistent:
        slope = float(model.r.dot(step.Jp))
        curvature = -trial.actual - 2.0 * slope
        minimiser = -slope / curvature if curvature > 0.0 else math.inf
    if model.is_dogleg(step.length) and not (model.boxed and abs(trial.gain - 1.0) < TUNING.exact_gain):
        return trial._replace(natural=step.length * min(minimiser, 1.0))
    return trial._replace(natural=model.natural_radius(trial.r, step.Jp, step.length), minimiser=minimiser)


def other_radius(
    problem: Problem, model: LinearModel, new: Trial, rejected: float, shortened: bool
) -> tuple[float, bool]:
    """Where another trial is worth a call of F, 0 if nowhere, and whether the step has been shortened.

    rejected: the length of the last trial that did not reduce the loss, 0 if none.
    """
    if new.size <= problem.target or model.inconsistent:
        return 0.0, shortened
    length = new.step.length
    first = rejected == 0.0 and not new.step.full and length < model.length
    if first and new.natural >= 4.0 * length and new.gain > 0.5:  # much too short
        return min(new.natural, 10.0 * length), shortened
    longer = model.is_dogleg(rejected) and TUNING.lengthen_ratio * length < rejected
    if longer and new.gain > TUNING.lengthen_gain and new.size > TUNING.lengthen_left * model.size:  # cut too far
        return math.sqrt(length * rejected), shortened
    if not shortened and new.gain < TUNING.overshoot_gain and new.minimiser < 0.8:
        return length * min(max(new.minimiser, 0.1), 0.7), True
    return 0.0, shortened


def next_radius(model: LinearModel, best: Trial, radius: float, rejected: bool) -> float:
    """The next iteration's, from the radius of the best trial; rejected: a larger one was tried first."""
    if not model.is_dogleg(best.step.length):
        return radius_by_natural(best, 10.0 * best.step.length)
    if rejected and best.gain > TUNING.good_gain:
        return radius
    return radius_by_gain(best, radius, growth=2.0, shrinkage=0.5)


# -- chord steps -------------------------------------------------------------------------------------------------------


def chords(problem: Problem, model: LinearModel, best: Trial, radius: float) -> tuple[Array, Array, float]:
    """Quasi-Newton steps -z, z = J^+ r(w) corrected by good-Broyden updates, while they contract: one F each.

    The steps made are all that is kept, in the coordinates of J^+: z <- (I + s_{k+1} s_k^T / ||s_k||^2) z for each pair
    of them, and the last update, from the step that led here, only rescales z (Kelley, Iterative Methods for Linear and
    Nonlinear Equations, 1995, section 7.3).
    """
    H, w, r = model.H, best.w, best.r
    contraction = TUNING.chord_contraction_own_kernel if H.own_kernel() else TUNING.chord_contraction
    steps = [H.coordinates(best.step.length / model.length * model.Jgn)]
    squares = [steps[0][0].dot(steps[0][1])]
    while not problem.spent and norm(r) > problem.target and squares[-1] > 0.0 and len(steps) <= TUNING.chord_steps:
        u, v = H.coordinates(r)
        for k in range(len(steps) - 1):
            c = steps[k][0].dot(v) / squares[k]
            u, v = u + c * steps[k + 1][0], v + c * steps[k + 1][1]
        last, square = squares[-1], u.dot(v)
        scale = 1.0 + steps[-1][0].dot(v) / last
        contracts = square < contraction * contraction * last and square <= 4.0 * scale * scale * last
        if not (contracts and scale >= 0.1):
            break
        u, v = u / -scale, v / -scale
        s = H.from_coordinates(u)
        new = problem.project(w + s)
        if problem.bounded and not np.array_equal(new, w + s):
            break
        residual = problem.residual(new)
        if not norm(residual) < 0.9 * norm(r):
            break
        w, r = new, residual
        steps.append((u, v))
        squares.append(square / (scale * scale))
        radius = max(radius, 2.0 * math.sqrt(max(squares[-1], 0.0)))
    return w, r, radius
