"""Gauss-Newton that arrives from far: monotone steps, and a watchdog over them.

Monotone steps (`gauss_newton`) resolve every turn of the flow w' = -J^+ r, and there are many near points where J loses
rank: the residual crawls although solutions are all around. The watchdog lets them go another way:

- MONOTONE steps go on while ||r|| falls to 0.7 of a mark within eight of them.
- UNDAMPED steps follow where it does not. ||r|| may rise, though not above ||r(w0)||, and every full step is a new
  chance to land where Newton's method converges. After 30 of them, or once it does, monotone steps go on from the best
  point. A phase that found nothing better leaves no trace, so that the monotone points alone are a monotone run
  (Chamberlain, Powell, Lemarechal, Pedersen, Math. Prog. Study 16, 1982; the ceiling is the search of Grippo,
  Lampariello, Lucidi, SIAM J. Numer. Anal. 23, 1986, with unlimited memory).
- KICKED: where no step reduces the residual any more, monotone steps start from points at random around the best one,
  twice as far after a kick that fell back to where it began or to the same loss. One that becomes the best point goes
  on as MONOTONE.

How long that goes on is a matter of the gradient. Where it is small for the residual that is left, the best point is
next to a minimum that is not zero: no undamped steps begin there, and kicks may cost two Jacobians for every monotone
one that came before, unless one that went far fell back, too. So a system without a solution ends with the verdict of
the monotone run, after at most some three times its Jacobians. Where the gradient is steep, the steps are stuck in a
fold, and there is a way on: eight Jacobians then.

The constants are in `tuning`, measured in docs/checks.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from plsolve._linalg import Array, norm, scattered
from plsolve._problem import Problem
from plsolve._stopping import RUNNING
from plsolve.methods import gauss_newton, watch
from plsolve.methods.linear_model import model_at
from plsolve.methods.tuning import TUNING
from plsolve.methods.watch import Watch


class State(NamedTuple):
    """What the loop reads, of ``at``; the point where the run stands, and in a phase the best one, to come back to."""

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
        """The state after a phase that met a J that is not finite; None: there was no phase."""
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
    """At w0, or where another method came to an end."""
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
    """A monotone step; a phase begins where it leads nowhere."""
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
    """Monotone steps from here."""
    watch.begin(k, watch.MONOTONE, 0, norm(at.r))
    k.failed = failed
    return state(at, at, k)


def resumed(problem: Problem, best: gauss_newton.State, k: Watch, failed: bool, nit: int) -> State:
    """After a phase: on from the best point by monotone steps, or where they have ended by a kick."""
    s = monotone(best._replace(nit=nit, pl=-1.0), k, failed)  # the point before is another one
    return s if best.status == RUNNING or watch.spare(k, nit) <= 0 else kick(problem, s.at, k)


def retreated(s: State) -> State:
    return monotone(s.best._replace(nit=s.nit, pl=-1.0), replace(s.watch, force=1.0), failed=True)


# -- undamped steps ----------------------------------------------------------------------------------------------------


def undamped(problem: Problem, s: State) -> State:
    """A full step, halved while ||r|| would be above its value at w0; after the last one back to the best point."""
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
    """A start at random around the best point, nearer while ||r|| would be above its value at w0."""
    way = distance(problem, best.w, problem.w0)
    unit, t = (way if way > 0.0 else 1.0) / math.sqrt(best.w.size), k.force
    z = scattered(best.w, k.kicks)
    p = problem.scale * z if problem.scale.size else z
    while t > TUNING.phase_shortest and not problem.spent:
        w, r = moved(problem, best.w, (t * unit) * p)
        if norm(r) <= norm(problem.r0):
            watch.begin(k, watch.KICKED, TUNING.kick_steps, norm(r))
            k.kicks, k.way = k.kicks + 1, distance(problem, w, best.w)
            return state(best.at(w, r), best, k)
        t *= 0.5
    return state(best, best, k)


def distance(problem: Problem, v: Array, w: Array) -> float:
    return norm((v - w) / problem.scale if problem.scale.size else v - w)


def kicked(problem: Problem, s: State) -> State:
    """A monotone step on the way from a kick: on from there once it is the best point, back where it leads nowhere."""
    at, best, k = gauss_newton.step(problem, s.at), s.best, replace(s.watch)
    way = distance(problem, at.w, best.w)
    led = watch.after_kicked(k, at.status, norm(at.r), at.nit, norm(best.r), best.status, way)
    if led == watch.ARRIVED:
        return monotone(at, k, failed=False)
    if led == watch.UNDER_WAY:
        return state(at, best, k)
    if led == watch.FELL_LOWER:
        best = at._replace(status=best.status)
    return resumed(problem, best, k, failed=True, nit=at.nit)
