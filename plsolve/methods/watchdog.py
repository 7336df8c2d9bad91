"""Gauss-Newton from starts far from a solution: monotone steps, and a watchdog that acts when they stagnate.

Monotone steps (`gauss_newton`) follow every turn of the flow w' = -J^+ r. Near points where J loses rank there are many
turns, and the residual stagnates although solutions may be close in all directions. The watchdog therefore knows three
phases:

- MONOTONE steps go on while ||r|| falls to 0.7 of a mark within eight of them.
- UNDAMPED steps follow where it does not. ||r|| may rise, though not above ||r(w0)||, and every full step may land
  where Newton's method converges. After 30 of them, or once it converges, monotone steps go on from the best point. A
  phase that finds no better point is discarded, so that the monotone points alone form a monotone run (Chamberlain,
  Powell, Lemarechal, Pedersen, Math. Prog. Study 16, 1982; the ceiling is the search of Grippo, Lampariello, Lucidi,
  SIAM J. Numer. Anal. 23, 1986, with unlimited memory).
- KICKED: where no step reduces the residual any more, monotone steps start from the best of a few random points around
  the best one. Once such a run finds a new best point, it goes on as MONOTONE. It has fallen back to the same minimum
  if its residual vector, not only the norm of it, comes close to that of the best point; then the next kick follows.

The gradient decides how much this may cost. Where it is small compared with the residual, the best point is close to a
minimum with nonzero residual: no undamped phase begins, and kicks may cost two Jacobians for each monotone step made
before, or no more once a kick has fallen back to where the gradient is zero. So a system without a solution ends with
the verdict of the monotone run after at most about three times its Jacobians. Where the gradient is steep, progress is
possible, and eight Jacobians are allowed for each monotone step.

The constants are in `tuning`, measured in docs/checks.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from plsolve._linalg import Array, norm, scattered
from plsolve._problem import Problem
from plsolve._stopping import RUNNING
from plsolve.methods import gauss_newton, watch
from plsolve.methods.linear_model import model_at
from plsolve.methods.tuning import TUNING
from plsolve.methods.watch import Watch


class State(NamedTuple):
    """The current point ``at``, whose fields the loop reads, and the best point, to which a phase returns."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    pl: float
    beta_seen: float
    at: gauss_newton.State
    best: gauss_newton.State
    watch: Watch

    def retreat(self) -> State | None:
        """The state to go on from when J is not finite: the best point, if a phase is under way, else None."""
        return None if self.watch.phase == watch.MONOTONE else retreated(self)


def state(at: gauss_newton.State, best: gauss_newton.State, k: Watch) -> State:
    return State(
        w=at.w,
        r=at.r,
        status=at.status,
        nit=at.nit,
        step=at.step,
        checked=True,
        pl=at.pl,
        beta_seen=at.beta_seen,
        at=at,
        best=best,
        watch=k,
    )


def init(problem: Problem, beta: float, plan: int, root: bool, before: Any) -> State:
    """The first state, at w0 or where the stage before has ended."""
    w, r, nit = (problem.w0, problem.r0, 0) if before is None else (before.w, before.r, before.nit)
    size, at = norm(r), gauss_newton.State(w=w, r=r, nit=nit, beta=beta)
    return state(at, at, Watch(plan=plan, root=root, mark=size, own=nit, level=size if nit > 0 else 0.0))


def step(problem: Problem, s: State) -> State:
    if s.watch.phase == watch.UNDAMPED:
        return undamped(problem, s)
    if s.watch.phase == watch.KICKED:
        return kicked(problem, s)
    return watched(problem, s)


# -- monotone steps ----------------------------------------------------------------------------------------------------


def watched(problem: Problem, s: State) -> State:
    """A monotone step; where these stagnate, a phase begins."""
    at, k = gauss_newton.step(problem, s.at), replace(s.watch)
    size = norm(at.r)
    status, phase = watch.after_monotone(k, at.status, size, at.steep, at.nit)
    at = at._replace(status=status)
    if phase == watch.KICKED:
        return kick(problem, at, k)
    if phase == watch.UNDAMPED:
        watch.begin(k, phase, TUNING.phase_steps, size)
    return state(at, at, k)


def monotone(at: gauss_newton.State, k: Watch, failed: bool) -> State:
    """The state from which monotone steps start at this point."""
    watch.begin(k, watch.MONOTONE, 0, norm(at.r))
    k.failed = failed
    return state(at, at, k)


def resumed(problem: Problem, best: gauss_newton.State, k: Watch, failed: bool, nit: int) -> State:
    """The state after a phase: monotone steps from the best point, or a kick if monotone steps have ended there."""
    s = monotone(best._replace(nit=nit, pl=-1.0), k, failed)  # pl belongs to another point
    return s if best.status == RUNNING or watch.spare(k, nit) <= 0 else kick(problem, s.at, k)


def retreated(s: State) -> State:
    return monotone(s.best._replace(nit=s.nit, pl=-1.0), replace(s.watch), failed=True)


# -- undamped steps ----------------------------------------------------------------------------------------------------


def undamped(problem: Problem, s: State) -> State:
    """A full step, halved while ||r|| exceeds its value at w0; after the last step of the phase, the best point."""
    at, best, k = s.at, s.best, replace(s.watch)
    T = problem.linearise(at.w, at.r, at.precise)
    _, model = model_at(problem, T, at.w, at.r, at.orthogonal)
    if not math.isfinite(model.length):
        return retreated(s)
    ceiling, way = norm(problem.r0), T.distance(best.w, problem.w0)
    way = way if way > 0.0 else model.length
    t = min(1.0, TUNING.phase_longest * way / max(model.length, 1e-300))
    w, r = moved(problem, at.w, model.toward(t))
    while not norm(r) <= ceiling and t * model.length > TUNING.phase_shortest * way and not problem.spent:
        t *= 0.5
        w, r = moved(problem, at.w, model.toward(t))
    size = norm(r)
    k.left -= 1
    left = min(k.left, watch.spare(k, at.nit + 1))
    new = at.at(w, r, step=t * model.length, radius=model.length)._replace(nit=at.nit + 1)
    converges = False
    if size < norm(best.r):
        best, converges = new, t == 1.0 and size <= TUNING.phase_converged * model.size
    if size <= ceiling and not (model.inconsistent or converges) and left > 0:
        return state(new, best, k)
    return resumed(problem, best, k, failed=norm(best.r) > TUNING.decrease * k.mark, nit=new.nit)


def moved(problem: Problem, w: Array, p: Array) -> tuple[Array, Array]:
    w = problem.move(w, p)
    return w, problem.residual(w)


# -- kicks -------------------------------------------------------------------------------------------------------------


def kick(problem: Problem, best: gauss_newton.State, k: Watch) -> State:
    """The best of a few random points around the best one, moved closer to it while ||r|| exceeds its value at w0."""
    way = distance(problem, best.w, problem.w0)
    unit, t = (way if way > 0.0 else 1.0) / math.sqrt(best.w.size), TUNING.kick_distance
    while t > TUNING.phase_shortest and not problem.spent:
        w, r = drawn(problem, best.w, t * unit, k.kicks)
        if norm(r) <= norm(problem.r0):
            watch.begin(k, watch.KICKED, TUNING.kick_steps, norm(r))
            k.kicks, k.near = k.kicks + 1, TUNING.kick_return * min(norm(best.r), norm(r - best.r))
            return state(best.at(w, r), best, k)
        t *= 0.5
    return state(best, best, k)


def drawn(problem: Problem, centre: Array, length: float, kicks: int) -> tuple[Array, Array]:
    """The best of a few random points, at this root mean square distance from the centre in each unknown."""
    best, least = (centre, np.full(problem.n, math.inf)), math.inf
    for i in range(TUNING.kick_draws):
        p = length * scattered(centre, TUNING.kick_draws * kicks + i)
        w, r = moved(problem, centre, problem.scale * p if problem.scale.size else p)
        if norm(r) < least:
            best, least = (w, r), norm(r)
        if problem.spent:
            break
    return best


def distance(problem: Problem, v: Array, w: Array) -> float:
    return norm((v - w) / problem.scale if problem.scale.size else v - w)


def kicked(problem: Problem, s: State) -> State:
    """A monotone step after a kick: MONOTONE from a new best point, back to the old one where the steps stagnate."""
    at, best, k = gauss_newton.step(problem, s.at), s.best, replace(s.watch)
    led = watch.after_kicked(k, at.status, norm(at.r), at.nit, norm(best.r), best.status, norm(at.r - best.r))
    if led == watch.ARRIVED:
        return monotone(at, k, failed=False)
    if led == watch.UNDER_WAY:
        return state(at, best, k)
    if led == watch.FELL_LOWER:
        best = at._replace(status=best.status)
    return resumed(problem, best, k, failed=True, nit=at.nit)
