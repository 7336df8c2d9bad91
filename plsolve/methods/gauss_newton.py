"""Gauss-Newton with a trust region whose radius follows the curvature of F, and chord steps with the same factor.

At w with residual r = F(w) - y the step p is gn = -J^+ r while that fits in the trust region, else one no longer than
its radius (`linear_model`). At the start one call of F decides whether the full step gn is tried.

The range of the linear model is estimated from c = J^+ (r(w + p) - r - J p), the second-order part of F mapped to w by
J^+. The natural radius mu = ||p||^2 / (2 ||c||) is the step length at which c would be as long as the step (Deuflhard,
Newton Methods for Nonlinear Problems, 2004). It costs one F and one solve with the existing factor. For doglegs, and
where no step solves the linear equations (n > m, inconsistent equations), the radius follows the gain ratio instead.

In a box gn is the step of bounded least squares (`box`), scaled as a whole to fit in the radius. Where the bounds
prevent J p = -r, gn is often long and meets several bounds, far outside the range of the linear model. While its
predicted reduction is large, the step then goes only half the way to the bounds.

After a full step, chord steps reuse the factor: J^+ is kept and corrected by good-Broyden updates in the space of w, as
long as the steps contract. Every accepted step reduces the loss; a trial with non-finite F is rejected.

An operator that computes its own K gives J and K at the cost of a few F, while every product J^T z costs as much as F.
There gn is computed once for all steps along it and shortened where needed, and chord steps must contract strongly.
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
    """The point, its residual, the radius, and what earlier steps have shown about J."""

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
        """The state at another point; what earlier steps have shown about J is kept."""
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
    """The state at w, reached from s by the best trial and the chord steps after it."""
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
    """||J^T r|| ||w|| / ||r||^2 in the metric of the step; a small value means a minimum with nonzero residual is near.

    It is half the relative reduction of the loss that a gradient step of length ||w|| predicts (or ||w - w0||, if that
    is longer). slope: ||J^T r|| over all unknowns, in the plain metric.
    """
    T, w, size = model.T, model.w, model.size
    if T.scale.size or model.free.size:
        slope = T.norm(only(model.free, T.metric_gradient(T.adjoint(model.r))))
    return (slope / size) * (max(T.norm(w), T.distance(w, problem.w0)) / size) if size > 0.0 else 0.0


def ending(problem: Problem, s: State, model: LinearModel, flat: bool) -> State:
    """The state when no step reduces the loss: first more precise differences, if any are left, then the verdict."""
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
    """||gn|| if that is within its natural radius, else the length of a cautious step.

    Near a singular J the length of gn has nothing to do with the scale of w, so ||w|| limits it, as in MINPACK
    (1 where w = 0).
    """
    size = model.T.norm(model.w)
    size = size if size > 0.0 else 1.0
    size *= TUNING.first_size if problem.n < problem.m else TUNING.first_size_square
    share = min(TUNING.first_probe, max(size / max(model.length, 1e-300), TUNING.shortest_probe))
    new = problem.residual(problem.move(model.w, model.toward(share)))
    natural = model.natural_radius(new, share * model.Jgn, share * model.length) if norm(new) < HUGE else 0.0
    return model.length if natural >= model.length else min(TUNING.first_fraction * model.length, max(size, natural))


def search(problem: Problem, model: LinearModel, radius: float) -> tuple[Trial | None, float]:
    """The best of a few trials, None if none reduces the loss, and the next radius."""
    best, reached, shortened, shortest, rejected = None, radius, False, 0.0, 0.0
    while not problem.spent:
        step = limited_step(problem, model, radius)
        if not (shortest < step.length < math.inf and step.predicted > 0.0):
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
    """The trial of a step, with a second-order correction if that reduces the loss further.

    Along large singular values a small c raises the loss a lot: the natural radius allows the step, but the loss
    increases. Subtracting c from the step removes this increase at the cost of one F.
    """
    new = judged(model, attempt(problem, model.w, model.r, step))
    if not (new.gain < TUNING.overshoot_gain and new.natural > step.length) or problem.spent:
        return new
    back = model.H.solve(new.r - model.r - step.Jp)
    return better(new, judged(model, attempt(problem, model.w, model.r, step._replace(p=step.p - back))))


def judged(model: LinearModel, trial: Trial) -> Trial:
    """The trial with its natural radius, at the cost of one solve with the existing factor."""
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
    """The radius of another trial that is worth a call of F (0: none), and whether the step was shortened.

    rejected: the length of the last trial that did not reduce the loss (0: none).
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
    """The radius for the next iteration, from that of the best trial; rejected: a larger radius was tried first."""
    if not model.is_dogleg(best.step.length):
        return radius_by_natural(best, 10.0 * best.step.length)
    if rejected and best.gain > TUNING.good_gain:
        return radius
    return radius_by_gain(best, radius, growth=2.0, shrinkage=0.5)


# -- chord steps -------------------------------------------------------------------------------------------------------


def chords(problem: Problem, model: LinearModel, best: Trial, radius: float) -> tuple[Array, Array, float]:
    """Quasi-Newton steps -z, z = J^+ r(w) corrected by good-Broyden updates, while they contract: one F each.

    Only the steps s_k are stored, in the coordinates of J^+. Each pair of consecutive ones is applied as
    z <- (I + s_{k+1} s_k^T / ||s_k||^2) z; the last update only rescales z (Kelley, Iterative Methods for Linear and
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
