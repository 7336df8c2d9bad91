"""The most probable parameters: min phi(w) = ||R^{-1/2} (F(w) - y)||^2 + ||w - w0||^2, in the prior's metric.

Noise as slack makes every system over-parameterized: the m + n unknowns (z, e) of F(w0 + C^{1/2} z) + R^{1/2} e = y
have the kernel J C J^T + R, and the solution nearest to 0 is the most probable one. The step is that of `nearest`
(theory 7.9), w+ = w0 + C J^T (J C J^T + R)^{-1} (y - F(w) + J (w - w0)), here with a trust region in the prior's
metric: longer steps are damped, which is the same as more noise. q with w - w0 = C q is updated with every step, so
that C is never inverted. With little noise phi has a narrow valley, and steps are corrected back to its bottom.

Near the end Gauss-Newton converges linearly, more slowly for larger residuals and more curvature of F. Anderson
acceleration mixes the last steps: it takes the weighted mean of w + p, with the weights that minimise the mean of p in
the posterior's metric (Walker, Ni, SIAM J. Numer. Anal. 49, 2011). That costs no F and no J.

The run has converged when the remaining distance is at most ``tol`` standard deviations of the posterior, or when p is
at the level of rounding. The remaining distance is the length of p or, if the steps shrink at a constant rate, the rest
of the geometric series.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from plsolve._inference.box import Point, boxed_step
from plsolve._inference.noise import Noise
from plsolve._inference.posterior import Posterior, posterior
from plsolve._inference.prior import NotFiniteError, Prior
from plsolve._linalg import HUGE, NO_VECTOR, Array, alternating, finite, norm
from plsolve._problem import Problem
from plsolve._stopping import OUT_OF_RANGE, RUNNING, Ended, Status
from plsolve._tangent import Tangent, tangent

ENOUGH = 1e-4  # gain of a step that is accepted
GOOD, POOR = 0.75, 0.25  # gains above which the radius grows, and below which it shrinks
DEPTH = 6  # steps that are mixed
NUMBERS = 1 << 24  # entries in all of them; of longer vectors fewer steps are mixed (128 MiB, four times)
NEAR = 0.3  # gain of a full step from which steps are mixed
SHRINKS = 0.5  # ratio of two steps below which they count as a geometric series
FASTEST = 0.1  # the ratio is taken to be at least this
INVISIBLE = 1e-12  # of phi: smaller reductions are not visible
PATIENCE = 10  # steps without visible reduction that do not shrink
BACK = 0.5  # ratio of two corrections: the next must be shorter than this
CORRECTIONS = 5  # of one step, at most
TRIALS = 40  # from one point at most, and of damping for one length
SHORTER = 0.25  # times the step that failed
STRAIGHT = 0.01  # |gain - 1|: if a shortened step is predicted this well, the full step is tried
LONGER = 4.0  # times a good step: limit of the next one
CLOSE = 1e-2  # of phi: if a step predicts less reduction, differences are central
FIT = 0.1  # relative accuracy of a step's length


class Aim(NamedTuple):
    """The noise, the prior and the tolerance."""

    noise: Noise
    prior: Prior
    tol: float


class Past(NamedTuple):
    """A point w0 + C q, and the Gauss-Newton step p = C dual from there."""

    w: Array
    q: Array
    p: Array
    dual: Array


class State(NamedTuple):
    """The point w = w0 + C q, phi there, the radius, and the last steps."""

    w: Array
    r: Array
    q: Array
    phi: float
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0
    checked: bool = True
    pl: float = -1.0
    beta_seen: float = 0.0
    radius: float = 1.0  # at first one standard deviation of the prior
    left: float = math.inf  # length of the last step, if it was a full one, in standard deviations of the posterior
    least: float = math.inf  # length of the last step without visible reduction that had at least halved
    idle: int = 0  # steps without visible reduction since then
    past: tuple[Past, ...] = ()
    precise: bool = False  # differences are to be central
    gain: float = 1.0  # of the last step


class Step(NamedTuple):
    """p = C dual, its length in the metrics of prior and posterior, and the predicted reduction of phi."""

    p: Array
    dual: Array
    length: float
    deviations: float  # standard deviations of the posterior
    predicted: float


class Model(NamedTuple):
    """F linearised at the point of a state."""

    s: State
    T: Tangent
    noise: Noise
    P: Posterior
    p0: Array  # w - w0
    white: Array  # the residual in units of the noise
    errors: Array  # of r by rounding in F
    rounding: float  # their length in units of the noise
    blur: float  # rounding error of phi
    bounded: bool

    def step(self, damping: float) -> Step:
        """The Gauss-Newton step, damped."""
        return self.judged(*self.P.step(self.s.r, self.p0, self.s.q, damping))

    def shortened(self, newton: Step, length: float) -> Step:
        """The step damped to about this length; in a box it is scaled down."""
        if self.bounded:
            share = length / newton.length
            return self.judged(share * newton.p, share * newton.dual)
        low, high, damping, step = 0.0, math.inf, newton.length / length - 1.0, newton
        for _ in range(TRIALS):
            step = self.step(damping)
            ratio = step.length / length
            if abs(ratio - 1.0) <= FIT:
                break
            low, high = (damping, high) if ratio > 1.0 else (low, damping)
            damping = damping * max(ratio, 1.5) ** 2 if high == math.inf else math.sqrt(max(low, 1e-6 * high) * high)
        return step

    def judged(self, p: Array, dual: Array) -> Step:
        """The step with its lengths and predicted reduction."""
        x, square = self.noise.white(self.T.apply(p)), max(float(dual.dot(p)), 0.0)
        slope = float(self.white.dot(x)) + float(self.s.q.dot(p))
        whole = float(x.dot(x)) + square
        if math.isnan(slope + whole):
            raise NotFiniteError
        return Step(
            p=p, dual=dual, length=math.sqrt(square), deviations=math.sqrt(whole), predicted=-(2.0 * slope + whole)
        )


def init(problem: Problem, aim: Aim) -> State:
    """The first state, at w0, the mean of the prior."""
    white = aim.noise.white(problem.r0)
    phi = float(white.dot(white))
    problem.run.settle(problem.w0, problem.r0, phi)
    return State(problem.w0, problem.r0, np.zeros(problem.m), phi)


def loss(s: Any) -> float:
    """phi / 2, in analogy to the loss 1/2 ||r||^2."""
    return 0.5 * float(s.phi)


def step(problem: Problem, s: State, aim: Aim) -> State:
    """The state after a step that reduces phi, or with the status if there is none."""
    if not s.phi < math.inf:
        raise Ended(Status.STALLED, OUT_OF_RANGE)
    try:
        return reduced(problem, s, aim)
    except NotFiniteError as error:
        raise Ended(Status.STALLED, f" {error}") from None


def reduced(problem: Problem, s: State, aim: Aim) -> State:
    """The state after a step, where products are finite."""
    model = linearised(problem, s, aim)
    newton, optimal = model.step(0.0), True
    if problem.bounded:
        at = Point(
            T=model.T,
            noise=aim.noise,
            prior=aim.prior,
            r=s.r,
            p0=model.p0,
            q0=s.q,
            low=problem.lower - s.w,
            high=problem.upper - s.w,
        )
        p, dual, optimal = boxed_step(at, newton.p, newton.dual)
        newton = model.judged(p, dual)
    left = newton.deviations if optimal else math.inf
    if optimal:
        newton = newton._replace(predicted=max(newton.predicted, left * left))  # equal without rounding and bounds
    if is_last(problem, model, newton, left, aim.tol):
        return last(problem, model, newton)
    new = mixed(problem, model, newton, left) or search(problem, model, newton, left)
    if new is not None:
        shrunk = newton.length < SHRINKS * s.least or newton.predicted > model.blur
        return new._replace(least=newton.length if shrunk else s.least, idle=0 if shrunk else s.idle + 1)
    if problem.differenced and not s.precise:
        return s._replace(precise=True, past=(), left=math.inf)
    return s._replace(status=RUNNING if problem.spent else int(Status.STALLED))


def linearised(problem: Problem, s: State, aim: Aim) -> Model:
    """The model at the point of the state."""
    T = tangent(problem.linearise(s.w, s.r, s.precise).J, NO_VECTOR, problem.linear_solver)
    white = aim.noise.white(s.r)
    errors = 2.0 * problem.system.precision * (problem.magnitudes(s.r) + np.abs(T.apply(s.w)))
    if not norm(errors) < math.inf:
        raise NotFiniteError
    rounding = norm(aim.noise.white(errors))
    return Model(
        s=s,
        T=T,
        noise=aim.noise,
        P=posterior(T.J, aim.noise, aim.prior, problem.linear_solver),
        p0=s.w - problem.w0,
        white=white,
        errors=errors,
        rounding=rounding,
        blur=INVISIBLE * s.phi + rounding * (2.0 * norm(white) + rounding),
        bounded=problem.bounded,
    )


def is_last(problem: Problem, model: Model, newton: Step, left: float, tol: float) -> bool:
    """Whether the remaining distance ``left`` is within tol, or the step within the rounding errors of F."""
    s = model.s
    if left == math.inf or (problem.differenced and not s.precise):
        return False
    rate, tol = max(left / s.left, FASTEST) if s.left < math.inf else 1.0, tol * min(1.0, math.sqrt(s.phi))
    if min(left, left * rate / (1.0 - rate) if rate < SHRINKS else left) <= tol:
        return True
    if s.idle == PATIENCE:
        return True
    seen = math.sqrt(max(left * left - newton.length * newton.length, 0.0))  # of the data, in units of the noise
    if seen > max(tol, model.rounding):
        return False
    e = alternating(s.r) * model.errors
    return newton.length <= max(tol, math.sqrt(max(float(model.P.pull(e).dot(model.P.gain(e))), 0.0)))


def last(problem: Problem, model: Model, newton: Step) -> State:
    """The final state, after a step too short to change phi visibly, which improves the last digits."""
    new = attempt(problem, model, newton)
    end = new if new.phi <= model.s.phi + model.blur else model.s
    problem.run.settle(end.w, end.r, -math.inf)
    return end._replace(status=int(Status.CONVERGED))


def best(problem: Problem, s: Any) -> Any:
    """The state, or the same at the best point of all, if a step to that was not accepted."""
    run = problem.run
    if not -math.inf < run.value < s.phi:
        return s
    return s._replace(w=run.best, r=run.best_residual, phi=run.value)


def attempt(problem: Problem, model: Model, step: Step) -> State:
    """The state after a step; phi is infinite where F is not finite."""
    s = model.s
    w, q = problem.move(s.w, step.p), s.q + step.dual
    r = problem.residual(w)
    phi = math.inf
    if norm(r) < HUGE:
        white = model.noise.white(r)
        phi = float(white.dot(white)) + float(q.dot(w - problem.w0))
        problem.run.settle(w, r, phi)
    precise = s.precise or step.predicted <= CLOSE * s.phi
    return s._replace(w=w, r=r, q=q, phi=phi, nit=s.nit + 1, step=step.length, left=math.inf, precise=precise)


def corrected(problem: Problem, model: Model, step: Step, new: State) -> State:
    """The state after the step and second-order corrections, if these reduce phi further.

    With little noise phi has a narrow valley, and because of the curvature of F a step along it climbs its side. The
    posterior's gain removes the second-order part of F, at the cost of one F for each correction.
    """
    aimed, length, last = model.s.r + model.T.apply(step.p), step.length, math.inf
    for _ in range(CORRECTIONS):
        if problem.spent or not norm(new.r) < HUGE:
            break
        e = new.r - aimed
        p, dual = -model.P.gain(e), -model.P.pull(e)
        size = math.sqrt(max(float(p.dot(dual)), 0.0))
        if not size <= BACK * min(length, last):
            break
        last = size
        better = attempt(problem, model, step._replace(p=new.w + p - model.s.w, dual=new.q + dual - model.s.q))
        if not better.phi < new.phi:
            break
        new = better
    return new


def mixed(problem: Problem, model: Model, newton: Step, left: float) -> State | None:
    """The state after the step mixed with earlier ones, if it reduces phi about as much as the last step did."""
    s = model.s
    if not s.past or problem.spent or not newton.predicted > 0.0:
        return None
    P, duals = np.array([x.p for x in s.past]) - newton.p, np.array([x.dual for x in s.past]) - newton.dual
    A, x = model.noise.white(model.T.apply(P.T)), model.noise.white(model.T.apply(newton.p))
    mixture = A.T @ A + duals @ P.T
    if not finite(mixture):
        raise NotFiniteError
    share = -np.linalg.lstsq(mixture, A.T @ x + duals @ newton.p, rcond=1e-12)[0]
    p = newton.p + share @ (P + np.array([x.w for x in s.past]) - s.w)
    dual = newton.dual + share @ (duals + np.array([x.q for x in s.past]) - s.q)
    if problem.bounded and not np.array_equal(problem.project(s.w + p), s.w + p):
        return None
    step = model.judged(p, dual)
    new = attempt(problem, model, step)
    if s.phi - new.phi <= NEAR * s.gain * newton.predicted and not problem.bounded:
        new = corrected(problem, model, step, new)
    gain = (s.phi - new.phi) / newton.predicted
    if not (gain > NEAR * s.gain or invisible(model, newton, new)):
        return None
    return new._replace(left=left, gain=min(gain, 1.0), radius=max(s.radius, 2.0 * new.step), past=noted(s, newton))


def noted(s: State, newton: Step) -> tuple[Past, ...]:
    """The last points, with this one added."""
    depth = min(DEPTH, max(2, NUMBERS // s.w.size))
    return (*s.past[1 - depth :], Past(w=s.w, q=s.q, p=newton.p, dual=newton.dual))


def invisible(model: Model, newton: Step, new: State) -> bool:
    """Whether the predicted reduction and the actual change of phi are both below its rounding error."""
    return newton.predicted <= model.blur and new.phi <= model.s.phi + model.blur


def search(problem: Problem, model: Model, newton: Step, left: float) -> State | None:
    """The state after the first of successively shorter steps that reduces phi; None if none does."""
    s, radius = model.s, model.s.radius
    step = newton if newton.length <= radius else model.shortened(newton, radius)
    for _ in range(TRIALS):
        if problem.spent or not step.predicted > 0.0:
            break
        new = attempt(problem, model, step)
        if s.phi - new.phi < POOR * step.predicted and not problem.bounded:
            new = corrected(problem, model, step, new)
        gain = (s.phi - new.phi) / step.predicted
        if abs(gain - 1.0) < STRAIGHT and step is not newton and not problem.spent:
            whole = attempt(problem, model, newton)
            if s.phi - whole.phi > max(GOOD * newton.predicted, s.phi - new.phi):
                return accepted(s, whole, newton, newton, 1.0, radius, left)
        if gain > ENOUGH or (step is newton and invisible(model, newton, new)):
            return accepted(s, new, newton, step, gain, radius, left)
        radius = SHORTER * step.length
        step = model.shortened(newton, radius)
    return None


def accepted(s: State, new: State, newton: Step, step: Step, gain: float, radius: float, left: float) -> State:
    """The state after an accepted step, with the new radius and the estimate of the remaining distance."""
    if gain > GOOD:
        radius = max(radius, LONGER * step.length)
    elif gain < POOR:
        radius = 0.5 * step.length
    if gain <= NEAR:
        return new._replace(radius=radius, past=())
    share = min((s.phi - new.phi) / newton.predicted, 1.0)
    left = left if step is newton else math.inf
    return new._replace(radius=radius, left=left, gain=share, past=noted(s, newton))
