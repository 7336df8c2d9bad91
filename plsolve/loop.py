"""The only while-loop: step, check, observe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from plsolve.linalg import Array
from plsolve.problem import BestAttached, Problem
from plsolve.stopping import RUNNING, Status


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


def run(
    problem: Problem,
    init: Callable[[Problem], Any],
    step: Callable[[Problem, Any], Any],
    observe: Callable[[State], int],
    measure: Callable[[State], float],
    enough: float,
    max_iter: int,
    deadline: float,
) -> tuple[State, int]:
    """The best state seen, by its measure, and the status: RUNNING when that is at most ``enough``.

    observe is called with every state whose residual is known; a status other than RUNNING stops the run. Whatever is
    raised on the way carries the best point as ``best``.
    """
    with BestAttached(problem.w0) as guard:
        s = best = init(problem)
        least = measure(s)
        stop = observe(s)
        while True:
            if s.checked and (value := measure(s)) <= least:
                best, least, guard.point = s, value, s.w
            if least <= enough:
                return best, RUNNING
            if s.status != RUNNING:
                return best, s.status
            if stop != RUNNING:
                return (s if stop == Status.DISTANCE else best), stop
            if s.nit >= max_iter:
                return best, Status.MAX_ITER
            if time.monotonic() >= deadline:
                return best, Status.MAX_TIME
            s = step(problem, s)
            if s.checked:
                stop = observe(s)
