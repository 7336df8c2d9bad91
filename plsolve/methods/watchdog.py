"""Gauss-Newton that arrives from far: monotone steps, and a watchdog over them.

Monotone steps (`gauss_newton`) resolve every turn of the flow w' = -J^+ r, and there are many near points where J loses
rank: the residual crawls although solutions are all around. Where it does not fall to 0.7 of a mark within eight
steps, a *phase* of undamped steps begins: ||r|| may rise in it, though not above ||r(w0)||, and every full step is a
new chance to land where Newton's method converges. A phase that found nothing better leaves no trace, so that the
monotone points alone are a monotone run (Chamberlain, Powell, Lemarechal, Pedersen, Math. Prog. Study 16, 1982; the
ceiling is the search of Grippo, Lampariello, Lucidi, SIAM J. Numer. Anal. 23, 1986, with unlimited memory).

Where no step reduces the residual any more, *kicks* follow: monotone steps from points at random around the best one,
twice as far after a kick that fell back to where it began or to the same loss.

How long that goes on is a matter of the gradient. Where it is small for the residual that is left, the best point is
next to a minimum that is not zero: no phase begins there, and kicks may cost two Jacobians for every monotone one
that came before, unless one that went far fell back, too. So a system without a solution ends with the verdict of the
monotone run, after at most some three times its Jacobians. Where the gradient is steep, the steps are stuck in a
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
from plsolve.methods.gauss_newton import free_unknowns, in_box, moved, newton, toward
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
    phase: int  # MONOTONE, UNDAMPED or KICKED
    left: int  # steps of the phase
    mark: float  # ||r|| where it had last fallen far enough
    slow: int  # steps since
    failed: bool  # the last phase of undamped steps did not make it fall so far
    own: int  # monotone steps before they led nowhere
    grant: int  # Jacobians that each of them allows to phases
    level: float  # ||r|| where monotone steps first led nowhere; 0: they lead on
    kicks: int  # made so far
    force: float  # of the next kick, as a multiple of the way from w0
    way: float  # that the last kick has led


class State(NamedTuple):
    """What the loop reads, of ``at``; the point where the run stands, and in a phase the one to come back to."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    pl: float
    bend: float
    at: gauss_newton.State
    kept: gauss_newton.State
    watch: Watch

    def retreat(self) -> State | None:
        """The state after a phase that met a J that is not finite; None: there was no phase."""
        return None if self.watch.phase == MONOTONE else retreated(self)


def state(at: gauss_newton.State, kept: gauss_newton.State, watch: Watch) -> State:
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
        kept=kept,
        watch=watch,
    )


def retreated(s: State) -> State:
    return monotone(again(s.kept, s.kept.status, s.at.nit), s.watch, True, s.watch.grant, s.watch.level, 1.0)


def stopped(s: gauss_newton.State, status: int) -> gauss_newton.State:
    """The same state with another status."""
    return moved(s, s.w, s.r, status, s.nit, s.step, s.radius, s.crawl, s.pl)


def again(s: gauss_newton.State, status: int, nit: int) -> gauss_newton.State:
    """The same point later: the point before it is another one."""
    return moved(s, s.w, s.r, status, nit, s.step, s.radius, s.crawl, -1.0)


def init(problem: Problem, beta: float, plan: int, root: bool, before: Any) -> State:
    """At w0, or where another method came to an end."""
    w, r, nit = (problem.w0, problem.r0, 0) if before is None else (before.w, before.r, before.nit)
    return begun(w, r, nit, beta, plan, root)


def begun(w: Array, r: Array, nit: int, beta: float, plan: int, root: bool) -> State:
    at = gauss_newton.start(w, r, nit, beta)
    size = norm(r)
    level = size if nit > 0 else 0.0
    return state(
        at, at, Watch(plan, root, MONOTONE, 0, size, 0, False, nit, TUNING.allowance_steep, level, 0, 1.0, 0.0)
    )


def monotone(at: gauss_newton.State, k: Watch, failed: bool, grant: int, level: float, force: float) -> State:
    """Monotone steps from here."""
    size = norm(at.r)
    return state(at, at, Watch(k.plan, k.root, MONOTONE, 0, size, 0, failed, k.own, grant, level, k.kicks, force, 0.0))


def spare(k: Watch, nit: int) -> int:
    """Jacobians that phases and kicks may still cost; a kick costs one even if no step follows."""
    return (1 + k.grant) * k.own - nit - k.kicks


def step(problem: Problem, s: State) -> State:
    if s.watch.phase == UNDAMPED:
        return undamped(problem, s)
    if s.watch.phase == KICKED:
        return kicked(problem, s)
    return watched(problem, s)


def watched(problem: Problem, s: State) -> State:
    """A monotone step; a phase begins where it leads nowhere."""
    at, k = gauss_newton.step(problem, s.at), s.watch
    size = norm(at.r)
    mark, slow, failed = k.mark, k.slow + 1, k.failed
    if size <= TUNING.decrease * mark:
        mark, slow, failed = size, 0, False
    level = k.level if size > TUNING.recovery * k.level else 0.0
    own = k.own + (1 if level == 0.0 else 0)
    grant = TUNING.allowance_steep if at.steep > TUNING.steep else TUNING.allowance
    grant = grant if level == 0.0 else min(grant, k.grant)  # a minimum remains one
    patience = TUNING.patience_after_phase if failed else TUNING.patience
    patience = TUNING.patience_hand_over if k.plan == HAND_OVER else patience
    crawls = at.status == RUNNING and k.plan != ALONE and slow >= patience
    if crawls and k.plan != PHASES:
        at, crawls = stopped(at, STALLED), False
    watch = Watch(k.plan, k.root, MONOTONE, 0, mark, slow, failed, own, grant, level, k.kicks, k.force, 0.0)
    left = spare(watch, at.nit)
    if at.status == RUNNING and left <= 0:
        at = stopped(at, STALLED)
    if at.status == STALLED and size > level:
        watch = Watch(k.plan, k.root, MONOTONE, 0, mark, slow, failed, own, grant, size, k.kicks, k.force, 0.0)
    over = at.status == STALLED or (at.status == STATIONARY and k.root)
    if k.plan in (HAND_OVER, ALONE) or left <= 0 or not (over or crawls):
        return state(at, at, watch)
    if over:
        return kick(problem, at, watch)
    if at.steep > TUNING.phase_steepness:
        return state(stopped(at, RUNNING), at, in_phase(watch, UNDAMPED, TUNING.phase_steps, size, 0))
    return state(at, at, watch)


def in_phase(k: Watch, phase: int, left: int, mark: float, slow: int) -> Watch:
    return Watch(k.plan, k.root, phase, left, mark, slow, k.failed, k.own, k.grant, k.level, k.kicks, k.force, k.way)


# -- undamped steps ----------------------------------------------------------------------------------------------------


def undamped(problem: Problem, s: State) -> State:
    """A full step, halved while ||r|| would be above its value at w0; after the last one back to the best point."""
    at, kept, k = s.at, s.kept, s.watch
    T = problem.linearise(at.w, at.r, at.precise)
    model = newton(T, at.r, free_unknowns(problem, T, at.w, at.r), at.orthogonal)
    if problem.bounded:
        model = in_box(problem, model, at.w, at.r)
    if not math.isfinite(model.length):
        return retreated(s)
    top, way = norm(problem.r0), T.distance(kept.w, problem.w0)
    way = way if way > 0.0 else model.length
    t = min(1.0, TUNING.phase_longest * way / max(model.length, 1e-300))
    w, r = attempt(problem, at.w, toward(model, t))
    while not norm(r) <= top and t * model.length > TUNING.phase_shortest * way and not problem.spent:
        t *= 0.5
        w, r = attempt(problem, at.w, toward(model, t))
    size, left = norm(r), min(k.left - 1, spare(k, at.nit + 1))
    new = moved(at, w, r, RUNNING, at.nit + 1, t * model.length, model.length, 0, -1.0)
    lands = False
    if size < norm(kept.r):
        kept, lands = new, t == 1.0 and size <= TUNING.phase_converged * model.size
    if size <= top and not (model.stays or lands) and left > 0:
        return state(new, kept, in_phase(k, UNDAMPED, k.left - 1, k.mark, 0))
    failed = norm(kept.r) > TUNING.decrease * k.mark
    return resumed(problem, again(kept, kept.status, new.nit), k, failed, k.grant, k.force)


def attempt(problem: Problem, w: Array, p: Array) -> tuple[Array, Array]:
    w = problem.move(w, p)
    return w, problem.residual(w)


def resumed(problem: Problem, kept: gauss_newton.State, k: Watch, failed: bool, grant: int, force: float) -> State:
    """After a phase: on from the best point by monotone steps, or where they have ended by a kick."""
    s = monotone(kept, k, failed, grant, k.level, force)
    return s if kept.status == RUNNING or spare(s.watch, kept.nit) <= 0 else kick(problem, kept, s.watch)


# -- kicks -------------------------------------------------------------------------------------------------------------


def kick(problem: Problem, kept: gauss_newton.State, k: Watch) -> State:
    """A start at random around the best point, nearer while ||r|| would be above its value at w0."""
    scale = problem.scale
    unit = distance(problem, kept.w, problem.w0)
    unit = (unit if unit > 0.0 else 1.0) / math.sqrt(kept.w.size)
    z, t = scattered(kept.w, k.kicks), k.force
    p = scale * z if scale.size else z
    while t > TUNING.phase_shortest and not problem.spent:
        w, r = attempt(problem, kept.w, (t * unit) * p)
        if norm(r) <= norm(problem.r0):
            return thrown(problem, moved(kept, w, r, RUNNING, kept.nit, 0.0, 0.0, 0, -1.0), kept, k)
        t *= 0.5
    return state(kept, kept, k)


def thrown(problem: Problem, at: gauss_newton.State, kept: gauss_newton.State, k: Watch) -> State:
    """Steps from where a kick has led."""
    size, way = norm(at.r), distance(problem, at.w, kept.w)
    watch = k._replace(phase=KICKED, left=TUNING.kick_steps, mark=size, slow=0, kicks=k.kicks + 1, way=way)
    return state(at, kept, watch)


def distance(problem: Problem, v: Array, w: Array) -> float:
    return norm((v - w) / problem.scale if problem.scale.size else v - w)


def kicked(problem: Problem, s: State) -> State:
    """A monotone step on the way from a kick: on from there once it is the best point, back where it leads nowhere."""
    at, kept, k = gauss_newton.step(problem, s.at), s.kept, s.watch
    size, least, left = norm(at.r), norm(kept.r), min(k.left - 1, spare(k, at.nit))
    back = abs(size - least) <= TUNING.same_point * least
    near = size < TUNING.kick_return_size * least and distance(problem, at.w, kept.w) < TUNING.kick_return * k.way
    falls = back or near
    other = TUNING.better_minimum if kept.status == STALLED and k.grant <= TUNING.allowance else 0.0
    if at.status > 0 or (at.status == RUNNING and size < (1.0 - other) * least and not falls):
        return monotone(at, k, False, k.grant, k.level if size > TUNING.recovery * k.level else 0.0, 1.0)
    mark, slow = (size, 0) if size <= TUNING.decrease * k.mark else (k.mark, k.slow + 1)
    if at.status == RUNNING and slow < TUNING.patience and left > 0 and not falls:
        return state(at, kept, in_phase(k, KICKED, k.left - 1, mark, slow))
    same = falls or abs(size - least) <= TUNING.same_minimum * least
    farthest = k.grant <= TUNING.allowance and k.force == TUNING.kick_largest
    alone = back or (same and (at.status == STATIONARY or farthest))
    kept = again(at if size < least and not back else kept, kept.status, at.nit)
    force = min(2.0 * k.force, TUNING.kick_largest) if same else 1.0
    return resumed(problem, kept, k, True, 0 if alone else k.grant, force)
