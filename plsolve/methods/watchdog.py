"""Gauss-Newton that arrives from far: monotone steps, and a watchdog over them.

Monotone steps (`gauss_newton`) resolve every turn of the flow w' = -J^+ r, and there are many near points where J loses
rank: the residual crawls although solutions are all around. Where it does not fall to FALLS of a mark within PATIENT
steps, a *phase* of undamped steps begins: ||r|| may rise in it, though not above ||r(w0)||, and every full step is a
new chance to land where Newton's method converges. A phase that found nothing better leaves no trace, so that the
monotone points alone are a monotone run (Chamberlain, Powell, Lemarechal, Pedersen, Math. Prog. Study 16, 1982; the
ceiling is the search of Grippo, Lampariello, Lucidi, SIAM J. Numer. Anal. 23, 1986, with unlimited memory).

Where no step reduces the residual any more, *kicks* follow: monotone steps from points at random around the best one,
twice as far after a kick that fell back to where it began or to the same loss.

How long that goes on is a matter of the gradient. Where it is small for the residual that is left, the best point is
next to a minimum that is not zero: no phase begins there, and kicks may cost GRANT Jacobians for every monotone one
that came before, unless one that went far fell back, too. So a system without a solution ends with the verdict of the
monotone run, after at most some 1 + GRANT times its Jacobians. Where the gradient is steep, the steps are stuck in a
fold, and there is a way on: STEEP_GRANT.

The constants are measured: see docs/checks.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from plsolve._linalg import Array, norm, scattered
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve.methods import gauss_newton
from plsolve.methods.gauss_newton import free_unknowns, in_box, moved, newton, toward

FALLS = 0.7  # of the mark: what ||r|| must fall to
PATIENT = 8  # within so many steps
HASTY = 2  # the same where another method follows
TIRED = 15  # the same after a phase that failed
SLOPING = 0.1  # `gauss_newton.steepness` from which a phase is worth a try
UNDAMPED_STEPS = 30  # in one phase
LONG = 5.0  # of the way from w0: no undamped step is longer
SHORT = 1e-3  # of the way: an undamped step, or a kick, that must be cut shorter is none
CONVERGES = 0.25  # of ||r|| left by an undamped step: Newton's method has caught on
STEEP = 0.3  # `gauss_newton.steepness` below which a point is next to a minimum
GRANT = 2  # Jacobians that a monotone step allows to phases and kicks there
STEEP_GRANT = 8  # the same where it is steep
PROGRESS = 0.5  # of ||r|| where monotone steps first led nowhere: below, they are on the way again
KICKED_STEPS = 30  # after one kick
RETURNS = 0.5  # of the way of a kick: what comes so near to its beginning, and to
NEARLY = 2.0  # times its ||r||, falls back
SAME = 0.02  # of ||r||: a kick that ends so near fell back to the same minimum
BACK = 1e-6  # of ||r||: so near it is the same one to rounding, and no other is looked for
BETTER = 0.1  # of the ||r|| of a minimum: what gains less is in the same valley
HARDEST = 4.0  # kick, as a multiple of the way from w0

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
    mark: float  # ||r|| where it had last fallen by FALLS
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
    return state(at, at, Watch(plan, root, MONOTONE, 0, size, 0, False, nit, STEEP_GRANT, level, 0, 1.0, 0.0))


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
    if size <= FALLS * mark:
        mark, slow, failed = size, 0, False
    level = k.level if size > PROGRESS * k.level else 0.0
    own = k.own + (1 if level == 0.0 else 0)
    grant = STEEP_GRANT if at.steep > STEEP else GRANT
    grant = grant if level == 0.0 else min(grant, k.grant)  # a minimum remains one
    patience = HASTY if k.plan == HAND_OVER else TIRED if failed else PATIENT
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
    if at.steep > SLOPING:
        return state(stopped(at, RUNNING), at, in_phase(watch, UNDAMPED, UNDAMPED_STEPS, size, 0))
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
    t = min(1.0, LONG * way / max(model.length, 1e-300))
    w, r = attempt(problem, at.w, toward(model, t))
    while not norm(r) <= top and t * model.length > SHORT * way and not problem.spent:
        t *= 0.5
        w, r = attempt(problem, at.w, toward(model, t))
    size, left = norm(r), min(k.left - 1, spare(k, at.nit + 1))
    new = moved(at, w, r, RUNNING, at.nit + 1, t * model.length, model.length, 0, -1.0)
    lands = False
    if size < norm(kept.r):
        kept, lands = new, t == 1.0 and size <= CONVERGES * model.size
    if size <= top and not (model.stays or lands) and left > 0:
        return state(new, kept, in_phase(k, UNDAMPED, k.left - 1, k.mark, 0))
    failed = norm(kept.r) > FALLS * k.mark
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
    while t > SHORT and not problem.spent:
        w, r = attempt(problem, kept.w, (t * unit) * p)
        if norm(r) <= norm(problem.r0):
            return thrown(problem, moved(kept, w, r, RUNNING, kept.nit, 0.0, 0.0, 0, -1.0), kept, k)
        t *= 0.5
    return state(kept, kept, k)


def thrown(problem: Problem, at: gauss_newton.State, kept: gauss_newton.State, k: Watch) -> State:
    """Steps from where a kick has led."""
    size, way = norm(at.r), distance(problem, at.w, kept.w)
    watch = Watch(
        k.plan, k.root, KICKED, KICKED_STEPS, size, 0, k.failed, k.own, k.grant, k.level, k.kicks + 1, k.force, way
    )
    return state(at, kept, watch)


def distance(problem: Problem, v: Array, w: Array) -> float:
    return norm((v - w) / problem.scale if problem.scale.size else v - w)


def kicked(problem: Problem, s: State) -> State:
    """A monotone step on the way from a kick: on from there once it is the best point, back where it leads nowhere."""
    at, kept, k = gauss_newton.step(problem, s.at), s.kept, s.watch
    size, least, left = norm(at.r), norm(kept.r), min(k.left - 1, spare(k, at.nit))
    back = abs(size - least) <= BACK * least
    falls = back or (size < NEARLY * least and distance(problem, at.w, kept.w) < RETURNS * k.way)
    other = BETTER if kept.status == STALLED and k.grant <= GRANT else 0.0
    if at.status > 0 or (at.status == RUNNING and size < (1.0 - other) * least and not falls):
        return monotone(at, k, False, k.grant, k.level if size > PROGRESS * k.level else 0.0, 1.0)
    mark, slow = (size, 0) if size <= FALLS * k.mark else (k.mark, k.slow + 1)
    if at.status == RUNNING and slow < PATIENT and left > 0 and not falls:
        return state(at, kept, in_phase(k, KICKED, k.left - 1, mark, slow))
    same = falls or abs(size - least) <= SAME * least
    alone = back or (same and (at.status == STATIONARY or (k.grant <= GRANT and k.force == HARDEST)))
    kept = again(at if size < least and not back else kept, kept.status, at.nit)
    force = min(2.0 * k.force, HARDEST) if same else 1.0
    return resumed(problem, kept, k, True, 0 if alone else k.grant, force)
