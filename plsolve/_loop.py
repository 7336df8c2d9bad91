"""The loop of every method: step, check, observe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

from plsolve._linalg import norm
from plsolve._problem import Problem
from plsolve._state import Start, State, is_noted
from plsolve._stopping import RUNNING, Ended, Status

#: Compiled code returns these when a chunk of steps, but not the run, is over, and when F or jac failed.
CHUNK, FAILURE = -101, -102

TIE = 1e-9  # of ||r||: points that differ by less are equally good
ROW = 5  # of the log in compiled code: nit, loss, length of the step, PL ratio, beta_seen
STALLED, STATIONARY, DISTANCE = int(Status.STALLED), int(Status.STATIONARY), int(Status.DISTANCE)
MAX_ITER, MAX_TIME, CALLBACK = int(Status.MAX_ITER), int(Status.MAX_TIME), int(Status.CALLBACK)


class Place(NamedTuple):
    """Where a run stands: the state, the best one by its measure, and the status that the observer has returned."""

    s: Any
    best: Any
    least: float  # measure of the best state
    stop: int = RUNNING


class Stopped(NamedTuple):
    """Where an earlier run has stopped: the number of the stage, the best state of those before it, and the place."""

    stage: int
    before: Any
    place: Place


class Native(Protocol):
    """A run in compiled code, which returns the best state and the status."""

    def __call__(self, at: Place, enough: float, max_iter: int) -> tuple[Any, int]: ...


def residual_norm(problem: Problem, s: State) -> float:
    return norm(s.r)


def latest(problem: Problem, s: State) -> float:
    """The measure of methods whose every state is better than the one before."""
    return 0.0


def ended(problem: Problem, s: Any, stop: int, latest: bool, max_iter: int) -> int:
    """The status with which the run ends at s, else RUNNING; time ends a run only at states where r is known.

    stop: what the observer has returned; latest: s is the best state.
    """
    if stop == CALLBACK:
        return stop
    if s.status != RUNNING:  # which holds for s, not for a better point
        return int(s.status) if latest else STALLED
    if stop != RUNNING:
        return stop
    if s.nit >= max_iter or problem.spent:
        return MAX_ITER
    return MAX_TIME if s.checked and problem.run.late() else RUNNING


def advance(
    problem: Problem,
    step: Callable[[Problem, Any], Any],
    observe: Callable[[Any], int],
    measure: Callable[[Problem, Any], float],
    at: Place,
    enough: float,
    max_iter: int,
) -> tuple[Any, int]:
    """Make steps from a place until the run ends; returns the best state by its measure, and the status."""
    s, best, least, stop = at
    keeper = problem.run.keeper
    try:
        while True:
            latest, better = False, s.nit == 0
            if s.checked:
                size = measure(problem, s)
                better = better or size < least
                if size <= least:
                    latest, best, least = True, s, size
            if better and least <= enough and problem.goal.accepts(problem, s.w, s.r):
                return best, RUNNING
            status = ended(problem, s, stop, latest, max_iter)
            if keeper is not None:
                keeper.keep(s, best, least, last=status != RUNNING)
            if status != RUNNING:
                return (s if status == DISTANCE else best), status
            s = attempt(problem, step, s)
            stop = observe(s) if is_noted(s) else stop
    except Ended as end:
        return best, problem.run.end(end)


def attempt(problem: Problem, step: Callable[[Problem, Any], Any], s: Any) -> Any:
    """The next state; if J is not finite there, the state that the method retreats to, if it has one."""
    try:
        return step(problem, s)
    except Ended as end:
        on = s.retreat() if end.status == STALLED and hasattr(s, "retreat") else None
        if on is None:
            raise
        return on


def run(
    problem: Problem,
    init: Callable[[Problem], Any],
    step: Callable[[Problem, Any], Any],
    observe: Callable[[State], int],
    measure: Callable[[Problem, Any], float],
    enough: float,
    max_iter: int,
    native: Native | None = None,
    at: Place | None = None,
) -> tuple[State, int]:
    """Run a method; returns the best state by its measure, and the status: RUNNING if the measure is <= ``enough``.

    observe is called with every noted state; if it returns a status other than RUNNING, the run ends. Exceptions get
    the best point at which F was evaluated as their attribute ``best``. native makes the steps in compiled code. at:
    the place where an earlier run has stopped, instead of the first state.
    """
    with problem.at_work():
        if at is None:
            try:
                s = init(problem)
                at = Place(s=s, best=s, least=measure(problem, s), stop=observe(s))
            except Ended as end:
                s = Start(problem.w0, problem.r0)
                with suppress(Ended):
                    observe(s)
                return s, problem.run.end(end)
        if native is not None:
            return native(at, enough, max_iter)
        return advance(problem, step, observe, measure, at, enough, max_iter)


def run_stages(
    problem: Problem,
    stages: Sequence[tuple[Any, Any]],
    observe: Callable[[State], int],
    enough: float,
    max_iter: int,
    native: Callable[[Any], Native | None] = lambda step: None,
    stopped: Stopped | None = None,
) -> tuple[State, int]:
    """Run one stage after the other, each from the best point of the last, until one ends with a solution.

    The state returned is at the best point at which F was ever evaluated, rejected trials included. stopped: where an
    earlier run has stopped, and this one goes on.
    """
    best: Any
    first, best, at = (0, None, None) if stopped is None else stopped
    for number, (init, step) in enumerate(stages[first:], first):
        if problem.run.keeper is not None:
            problem.run.keeper.begin(number, best)
        start = partial(init, max_iter, before=best)
        s, status = run(problem, start, step, observe, residual_norm, enough, max_iter, native(step), at)
        at = None
        if best is None or status > 0 or norm(s.r) <= norm(best.r):
            best = s
        else:  # the verdict holds for s, not for a better point
            best, status = best._replace(nit=s.nit), STALLED if status == STATIONARY else status
        if status not in (STALLED, STATIONARY) or problem.run.note:
            break
    if status == DISTANCE or not problem.run.least < (1.0 - TIE) * norm(best.r):
        return best, status
    if status == STATIONARY:  # which does not hold for a better point
        status = STALLED
    return best._replace(w=problem.run.best, r=problem.run.best_residual), status
