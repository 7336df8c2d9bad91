"""The only while-loop: step, check, observe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from plsolve.linalg import HUGE, Array, norm
from plsolve.problem import BestAttached, Problem
from plsolve.stopping import OUT_OF_RANGE, RUNNING, Ended, Status


class State(Protocol):
    """What the loop reads of any method's state."""

    @property
    def w(self) -> Array: ...
    @property
    def r(self) -> Array: ...
    @property
    def status(self) -> int: ...
    @property
    def nit(self) -> int: ...
    @property
    def step(self) -> float: ...
    @property
    def checked(self) -> bool: ...
    @property
    def pl(self) -> float: ...
    @property
    def bend(self) -> float: ...


class Start(NamedTuple):
    """The state at w0, where a method cannot make its own."""

    w: Array
    r: Array
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0
    checked: bool = True
    pl: float = -1.0
    bend: float = 0.0


def run(
    problem: Problem,
    init: Callable[[Problem], Any],
    step: Callable[[Problem, Any], Any],
    observe: Callable[[State], int],
    measure: Callable[[State], float],
    enough: float,
    max_iter: int,
) -> tuple[State, int]:
    """The best state seen, by its measure, and the status: RUNNING when that is at most ``enough``.

    observe is called with every state whose residual is known; a status other than RUNNING stops the run. Whatever is
    raised on the way carries the best point that F was evaluated at as ``best``.
    """
    best: State = Start(problem.w0, problem.r0)
    with BestAttached(problem):
        try:
            s = best = init(problem)
            least = measure(s)
            stop = observe(s)
            while True:
                latest = s.checked and (value := measure(s)) <= least
                if latest:
                    best, least = s, value
                if least <= enough:
                    return best, RUNNING
                if s.status != RUNNING:  # a verdict on s says nothing of a better point
                    return best, s.status if latest else Status.STALLED
                if stop != RUNNING:
                    return (s if stop == Status.DISTANCE else best), stop
                over = s.nit >= max_iter or problem.spent
                if over or problem.late():
                    return best, Status.MAX_ITER if over else Status.MAX_TIME
                s = step(problem, s)
                if s.checked:
                    stop = observe(s)
        except Ended as end:
            problem.note = str(end)
            observe(best)
            return best, end.status


def out_of_range(*_: Any) -> Any:
    """The init, and the step, of a run that is not to be made."""
    raise Ended(Status.STALLED, OUT_OF_RANGE)


def in_range(r: Array) -> bool:
    """Whether ||r||^2 is a number: neither overflow nor, unless r is zero, zero."""
    size = norm(r)
    return size == 0.0 or 1.0 / HUGE < size < HUGE
