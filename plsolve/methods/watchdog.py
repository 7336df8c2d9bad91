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
from typing import Any, NamedTuple

from plsolve._linalg import Array, norm, scattered
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve.methods import gauss_newton
from plsolve.methods.linear_model import model_at
from plsolve.methods.tuning import TUNING

# Where monotone steps lead nowhere: phases of undamped steps, then kicks; kicks alone; an end, since another method
# follows; no more than an end where no step reduces the loss.
PHASES, KICKS, HAND_OVER, ALONE = range(4)
MONOTONE, UNDAMPED, KICKED = range(3)
STALLED, STATIONARY = int(Status.STALLED), int(Status.STATIONARY)


class Watch(NamedTuple):
    """How the residual falls, and what is to be done where it does not."""

    plan: int  # PHASES, KICKS, HAND_OVER or ALONE
    root: bool  # a stationary point is no answer
    mark: float  # ||r|| where it had last fallen far enough
    own: int  # monotone steps before they led nowhere
    level: float  # ||r|| where monotone steps first led nowhere; 0: they lead on
    phase: int = MONOTONE
    left: int = 0  # steps of the phase
    slow: int = 0  # steps since the mark
    failed: bool = False  # the last phase of undamped steps did not make ||r|| fall so far
    allowance: int = TUNING.allowance_steep  # Jacobians that each monotone step allows to phases and kicks
    kicks: int = 0  # made so far
    force: float = 1.0  # of the next kick, as a multiple of the way from w0
    way: float = 0.0  # that the last kick has led

    def spare(self, nit: int) -> int:
        """Jacobians that phases and kicks may still cost; a kick costs one even if no step follows."""
        return (1 + self.allowance) * self.own - nit - self.kicks

    def falls(self, size: float) -> Watch:
        """After one more step to a residual of this size."""
        if size <= TUNING.decrease * self.mark:
            return self._replace(mark=size, slow=0, failed=False)
        return self._replace(slow=self.slow + 1)

    def recovers(self, size: float) -> Watch:
        """Monotone steps are on the way again where the residual is well below where they led nowhere."""
        return self if size > TUNING.recovery * self.level else self._replace(level=0.0)

    def earns(self, steep: float) -> Watch:
        """After a monotone step at a point that is so steep."""
        allowance = TUNING.allowance_steep if steep > TUNING.steep else TUNING.allowance
        if self.level > 0.0:
            return self._replace(allowance=min(allowance, self.allowance))  # a minimum remains one
        return self._replace(own=self.own + 1, allowance=allowance)

    @property
    def patience(self) -> int:
        """Steps within which the residual must fall."""
        if self.plan == HAND_OVER:
            return TUNING.patience_hand_over
        return TUNING.patience_after_phase if self.failed else TUNING.patience

    def begins(self, phase: int, left: int, size: float) -> Watch:
        """At the beginning of a phase, where ||r|| is size."""
        return self._replace(phase=phase, left=left, mark=size, slow=0)


class State(NamedTuple):
    """What the loop reads, of ``at``; the point where the run stands, and in a phase the best one, to come back to."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    pl: float
    bend: float
    at: gauss_newton.State
    best: gauss_newton.State
    watch: Watch

    def retreat(self) -> State | None:
        """The state after a phase that met a J that is not finite; None: there was no phase."""
        return None if self.watch.phase == MONOTONE else retreated(self)


def state(at: gauss_newton.State, best: gauss_newton.State, watch: Watch) -> State:
    return State(
        w=at.w,
        r=at.r,
        status=at.status,
        nit=at.nit,
        step=at.step,
        checked=True,
        pl=at.pl,
        bend=at.bend,
        at=at,
        best=best,
        watch=watch,
    )


def init(problem: Problem, beta: float, plan: int, root: bool, before: Any) -> State:
    """At w0, or where another method came to an end."""
    w, r, nit = (problem.w0, problem.r0, 0) if before is None else (before.w, before.r, before.nit)
    size, at = norm(r), gauss_newton.State(w=w, r=r, nit=nit, beta=beta)
    return state(at, at, Watch(plan=plan, root=root, mark=size, own=nit, level=size if nit > 0 else 0.0))


def step(problem: Problem, s: State) -> State:
    if s.watch.phase == UNDAMPED:
        return undamped(problem, s)
    if s.watch.phase == KICKED:
        return kicked(problem, s)
    return watched(problem, s)


# -- monotone steps ----------------------------------------------------------------------------------------------------


def watched(problem: Problem, s: State) -> State:
    """A monotone step; a phase begins where it leads nowhere."""
    at = gauss_newton.step(problem, s.at)
    size = norm(at.r)
    k = s.watch.falls(size).recovers(size).earns(at.steep)
    left = k.spare(at.nit)
    crawls = at.status == RUNNING and k.plan != ALONE and k.slow >= k.patience
    if at.status == RUNNING and (left <= 0 or (crawls and k.plan != PHASES)):
        at, crawls = at._replace(status=STALLED), False
    if at.status == STALLED:
        k = k._replace(level=max(k.level, size))
    if k.plan in (HAND_OVER, ALONE) or left <= 0:
        return state(at, at, k)
    if at.status == STALLED or (at.status == STATIONARY and k.root):
        return kick(problem, at, k)
    if crawls and at.steep > TUNING.phase_steepness:
        k = k.begins(UNDAMPED, TUNING.phase_steps, size)
    return state(at, at, k)


def monotone(at: gauss_newton.State, k: Watch, failed: bool) -> State:
    """Monotone steps from here."""
    return state(at, at, k.begins(MONOTONE, 0, norm(at.r))._replace(failed=failed))


def resumed(problem: Problem, best: gauss_newton.State, k: Watch, failed: bool, nit: int) -> State:
    """After a phase: on from the best point by monotone steps, or where they have ended by a kick."""
    s = monotone(best._replace(nit=nit, pl=-1.0), k, failed)  # the point before is another one
    return s if best.status == RUNNING or k.spare(nit) <= 0 else kick(problem, s.at, s.watch)


def retreated(s: State) -> State:
    return monotone(s.best._replace(nit=s.nit, pl=-1.0), s.watch._replace(force=1.0), failed=True)


# -- undamped steps ----------------------------------------------------------------------------------------------------


def undamped(problem: Problem, s: State) -> State:
    """A full step, halved while ||r|| would be above its value at w0; after the last one back to the best point."""
    at, best, k = s.at, s.best, s.watch
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
    size, left = norm(r), min(k.left - 1, k.spare(at.nit + 1))
    new = at.at(w, r, step=t * model.length, radius=model.length)._replace(nit=at.nit + 1)
    converges = False
    if size < norm(best.r):
        best, converges = new, t == 1.0 and size <= TUNING.phase_converged * model.size
    if size <= ceiling and not (model.inconsistent or converges) and left > 0:
        return state(new, best, k._replace(left=k.left - 1))
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
            k = k.begins(KICKED, TUNING.kick_steps, norm(r))
            return state(best.at(w, r), best, k._replace(kicks=k.kicks + 1, way=distance(problem, w, best.w)))
        t *= 0.5
    return state(best, best, k)


def distance(problem: Problem, v: Array, w: Array) -> float:
    return norm((v - w) / problem.scale if problem.scale.size else v - w)


def kicked(problem: Problem, s: State) -> State:
    """A monotone step on the way from a kick: on from there once it is the best point, back where it leads nowhere."""
    at, best, k = gauss_newton.step(problem, s.at), s.best, s.watch
    size, least = norm(at.r), norm(best.r)
    same = abs(size - least) <= TUNING.same_point * least
    near = size < TUNING.kick_return_size * least and distance(problem, at.w, best.w) < TUNING.kick_return * k.way
    minimum = best.status == STALLED and k.allowance <= TUNING.allowance
    enough = (1.0 - TUNING.better_minimum if minimum else 1.0) * least
    if at.status > 0 or (at.status == RUNNING and size < enough and not (same or near)):
        return monotone(at, k.recovers(size)._replace(force=1.0), failed=False)
    k = k.falls(size)
    left = min(k.left - 1, k.spare(at.nit))
    if at.status == RUNNING and k.slow < TUNING.patience and left > 0 and not (same or near):
        return state(at, best, k._replace(left=k.left - 1))
    if size < least and not same:
        best = at._replace(status=best.status)
    return resumed(problem, best, fell_back(k, at, size, least, same, near), failed=True, nit=at.nit)


def fell_back(k: Watch, at: gauss_newton.State, size: float, least: float, same: bool, near: bool) -> Watch:
    """After a kick that led nowhere: the next one is farther; none follows where all would fall back."""
    alike = same or near or abs(size - least) <= TUNING.same_minimum * least
    farthest = k.allowance <= TUNING.allowance and k.force == TUNING.kick_largest
    if same or (alike and (at.status == STATIONARY or farthest)):
        k = k._replace(allowance=0)
    return k._replace(force=min(2.0 * k.force, TUNING.kick_largest) if alike else 1.0)
