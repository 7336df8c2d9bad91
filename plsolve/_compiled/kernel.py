"""Gauss-Newton of small dense systems in plain loops: the watchdog over its steps, and runs.

`plsolve.methods` describes the steps and their reasons; its constants and decisions are used here. A system is one
array (see `memory`): the record s of its numbers; V, whose rows are vectors of n or of m numbers; J (n, m). Behind the
vectors of V come the factors of J (see `algebra`), 2 min(n, m) rows. F and jac are in `evaluation`, then follow
`model`, `ends` and `steps`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray
from numba.extending import register_jitable

from plsolve._compiled.algebra import combine, copy, norm
from plsolve._compiled.cache import unit
from plsolve._compiled.ends import rounding_level, terms
from plsolve._compiled.evaluation import NOT_FINITE, fail, linearise, residual, seconds
from plsolve._compiled.memory import *
from plsolve._compiled.model import arrive, distance, move, newton
from plsolve._compiled.steps import step
from plsolve._compiled.words import pointer
from plsolve._loop import CHUNK, FAILURE, ROW, TIE
from plsolve._run import SMALL
from plsolve._stopping import FAILED as FAILED_STATUS
from plsolve._stopping import RUNNING, Status
from plsolve.methods import watch
from plsolve.methods.tuning import TUNING

MAX_ITER, MAX_TIME, STALLED = int(Status.MAX_ITER), int(Status.MAX_TIME), int(Status.STALLED)
RESIDUAL, EPSILON = int(Status.RESIDUAL), int(Status.EPSILON)
FRESH = -1  # the phase before the first step
for function in (watch.spare, watch.begin, watch.note, watch.recover, watch.after_monotone, watch.after_kicked):
    register_jitable(function)


@unit
def watched(S: int) -> None:
    """`watchdog.step`."""
    s = state(S)
    phase = s.phase
    if phase == watch.UNDAMPED:
        undamped(S)
    else:
        step(S)
        if s.error == 0:
            if phase == watch.KICKED:
                kicked(S)
            else:
                guarded(S)
    if s.error == NOT_FINITE and phase != watch.MONOTONE:
        s.error = 0
        back(S)
        monotone(S, 1)


@unit
def monotone(S: int, failed: int) -> None:
    """Start monotone steps at this point."""
    s = state(S)
    watch.begin(s, watch.MONOTONE, 0, s.size)
    s.failed = failed


@unit
def resumed(S: int, failed: int) -> None:
    """After a phase: monotone steps from the best point, or a kick if monotone steps have ended there."""
    s = state(S)
    back(S)
    monotone(S, failed)
    if s.status != RUNNING and watch.spare(s, s.nit) > 0:
        kick(S)


@unit
def keep(S: int) -> None:
    s = state(S)
    copy(S, W, W_KEPT)
    copy(S, R, R_KEPT)
    s.kept_size, s.kept_radius, s.kept_status, s.kept_stagnant = s.size, s.radius, s.status, s.stagnant
    s.kept_orthogonal, s.kept_precise = s.orthogonal, s.precise


@unit
def back(S: int) -> None:
    s = state(S)
    arrive(S, W_KEPT, R_KEPT, s.kept_size)
    s.radius, s.status, s.stagnant, s.pl = s.kept_radius, s.kept_status, s.kept_stagnant, -1.0
    s.orthogonal, s.precise = s.kept_orthogonal, s.kept_precise


@unit
def guarded(S: int) -> None:
    """After a monotone step: `watchdog.watched`."""
    s = state(S)
    s.status, phase = watch.after_monotone(s, s.status, s.size, s.steep, s.nit)
    if phase != watch.MONOTONE:
        keep(S)
    if phase == watch.KICKED:
        kick(S)
    elif phase == watch.UNDAMPED:
        watch.begin(s, watch.UNDAMPED, TUNING.phase_steps, s.size)


@unit
def undamped(S: int) -> None:
    """A full step, halved while ||r|| exceeds its value at w0; after the last step of the phase, the best point."""
    s = state(S)
    if not linearise(S):
        return
    newton(S)
    way, length, size = distance(S, W_KEPT, W0), s.length, math.inf
    if not math.isfinite(length):
        fail(S, W, NOT_FINITE)
        return
    way = way if way > 0.0 else length
    t = min(1.0, TUNING.phase_longest * way / max(length, 1e-300))
    while True:
        move(S, W, t, GN, TRIAL)
        size = residual(S, TRIAL, TRIAL_R)
        if s.error != 0:
            return
        if size <= s.top or not t * length > TUNING.phase_shortest * way:
            break
        t *= 0.5
    lands = size < s.kept_size and t == 1.0 and size <= TUNING.phase_converged * s.size
    arrive(S, TRIAL, TRIAL_R, size)
    s.left, s.nit, s.stagnant, s.step, s.radius, s.pl = s.left - 1, s.nit + 1, 0, t * length, length, -1.0
    if size < s.kept_size:
        keep(S)
    if lands or s.inconsistent != 0 or not size <= s.top or min(s.left, watch.spare(s, s.nit)) <= 0:
        resumed(S, s.kept_size > TUNING.decrease * s.mark)


@unit
def kick(S: int) -> None:
    """The best of a few points at random around the best one, nearer while ||r|| would be above its value at w0."""
    s, V, J = system(S)
    unit = distance(S, W_KEPT, W0)
    unit = (unit if unit > 0.0 else 1.0) / math.sqrt(J.shape[1])
    t = TUNING.kick_distance
    while t > TUNING.phase_shortest:
        least = math.inf
        for i in range(TUNING.kick_draws):
            for j in range(J.shape[1]):  # `_linalg.scattered`
                x = math.sin(12.9898 * (j + 1.0) + 78.233 * (TUNING.kick_draws * s.kicks + i + 1.0)) * 43758.5453
                V[P, j] = unit * V[SCALE, j] * math.sqrt(12.0) * (x - math.floor(x) - 0.5)
            move(S, W_KEPT, t, P, TRIAL)
            size = residual(S, TRIAL, TRIAL_R)
            if s.error != 0:
                return
            if size < least:
                least = size
                copy(S, TRIAL, TRIAL + 1)
                copy(S, TRIAL_R, TRIAL_R + 1)
        if least <= s.top:
            arrive(S, TRIAL + 1, TRIAL_R + 1, least)
            watch.begin(s, watch.KICKED, TUNING.kick_steps, least)
            s.status = RUNNING
            s.kicks, s.stagnant, s.radius, s.step, s.pl = s.kicks + 1, 0, 0.0, 0.0, -1.0
            combine(S, 1.0, R, -1.0, R_KEPT, Z)
            s.near = TUNING.kick_return * min(s.kept_size, norm(S, Z))
            return
        t *= 0.5


@unit
def kicked(S: int) -> None:
    """After a step that follows a kick: MONOTONE from a new best point, back to the old one where steps stagnate."""
    s = state(S)
    combine(S, 1.0, R, -1.0, R_KEPT, Z)
    led = watch.after_kicked(s, s.status, s.size, s.nit, s.kept_size, s.kept_status, norm(S, Z))
    if led == watch.ARRIVED:
        monotone(S, 0)
    if led == watch.FELL_LOWER:
        s.status = s.kept_status
        keep(S)
    if led == watch.FELL_LOWER or led == watch.FELL_BACK:
        resumed(S, 1)


@unit
def solved(S: int, enough: float) -> bool:
    """Whether r counts as solved: `Goal.accepts`."""
    s, V, _ = system(S)
    if s.least <= enough and s.least <= s.sure:
        return True
    if not (s.least <= enough and s.size <= s.least < s.judged):
        return False
    s.judged, least, at_hand = s.least, s.tol * s.size0, V[W_J, 0] == V[W_J, 0]
    combine(S, 1.0, W, -1.0, W0, P)
    if least > max(SMALL, s.tol) * scale_of_terms(S, at_hand):  # J is that of the point before
        combine(S, 1.0, W, -1.0, W_J, P)
        if at_hand and not linearise(S):
            return False
        least = s.tol * min(s.size0, scale_of_terms(S, at_hand))
    if s.coarse != 0 and at_hand:
        least = max(least, rounding_level(S))
    s.target = least
    return s.size <= least


@unit
def scale_of_terms(S: int, at_hand: bool) -> float:
    """max(||y||, || |J| |w| || + || |J| |P| ||) with the last J, if it is available."""
    s = state(S)
    return max(s.size_y, terms(S, W) + terms(S, P) if at_hand else 0.0)


@unit
def begin(S: int) -> None:
    """Start a run of monotone steps at w, where F was evaluated."""
    s = state(S)
    s.status, s.phase, s.slow, s.failed, s.kicks, s.error = RUNNING, watch.MONOTONE, 0, 0, 0, 0
    s.own, s.allowance, s.stagnant, s.orthogonal, s.precise = s.nit, TUNING.allowance_steep, 0, 0, 0
    s.mark, s.radius, s.step, s.pl = s.size, 0.0, 0.0, -1.0
    s.level, s.beta_seen, s.least, s.judged = s.size if s.nit > 0 else 0.0, 0.0, s.size, math.inf
    copy(S, W, W_BEST)
    copy(S, R, R_BEST)
    keep(S)


@unit
def advance(S: int, log: int, size: int, enough: float, max_iter: int, until: float) -> int:
    """Make steps until the run ends, the log is full, or the time is ``until``; returns the status.

    log: the address of so many rows (see `loop.ROW`); 0: nobody looks at the run, nor at the clock.
    """
    s = state(S)
    rows, row = carray(pointer(log), (size, ROW), np.float64), 0
    if s.phase == FRESH:
        begin(S)
    while True:
        s.logged = row
        if solved(S, enough):
            return RUNNING
        if s.status != RUNNING:  # which does not hold for a better point
            return s.status if (1.0 - TIE) * s.size <= s.least or s.status == RESIDUAL else STALLED
        if s.nit >= max_iter:
            return MAX_ITER
        if size > 0:
            now = seconds(S)
            if now >= s.deadline:
                return MAX_TIME
            if row == size or now >= until:
                return CHUNK
        nit = s.nit
        watched(S)
        if s.error != 0:
            return FAILURE
        if size > 0 and s.nit > nit:
            rows[row, 0], rows[row, 1], rows[row, 2] = s.nit, 0.5 * s.size * s.size, s.step
            rows[row, 3], rows[row, 4] = s.pl, s.beta_seen
            row += 1


@unit
def whole(S: int, tol: float, eps: float, max_iter: int) -> int:
    """One solve from w for the target y: the status; FAILED where F or jac fail, or are not finite at the start."""
    s, V, J = system(S)
    copy(S, W, W0)
    for i in range(J.shape[0]):
        V[R, i] = math.nan
    s.error, s.nfev, s.njev, s.nfev_jac, s.nit, s.root, V[W_J, 0] = 0, 0, 0, 0, 0, 1, math.nan
    s.plan = watch.PHASES if J.shape[0] <= J.shape[1] else watch.ALONE
    s.size_y, s.least, s.deadline, s.beta = norm(S, Y), math.inf, math.inf, 0.0
    s.size = residual(S, W, R)
    combine(S, 1.0, R, 1.0, Y, A)
    s.top, s.tol, s.size0, s.sure = s.size, tol, max(s.size_y, norm(S, A)), math.sqrt(2.0 * eps)
    s.target, s.sure, enough = tol * s.size0, max(s.sure, tol * s.size_y), max(tol * s.size0, s.sure)
    if s.coarse != 0 and tol > 0.0:
        enough = max(enough, 2.0 * s.precision * s.size0)
    failed, s.phase = s.error, FRESH
    if failed != 0 or not s.size < math.inf:
        copy(S, W, W_BEST)
        copy(S, R, R_BEST)
        return FAILED_STATUS
    status = advance(S, 0, 0, enough, max_iter, math.inf)
    if status == RUNNING:
        return RESIDUAL if s.least <= s.target else EPSILON
    return FAILED_STATUS if status == FAILURE else status
