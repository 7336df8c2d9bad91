"""What a method consists of: all that the rest of the library asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from plsolve._history import History
from plsolve._linalg import Array
from plsolve._problem import Problem

#: Iterations left until ||r|| <= enough, and kappa of what the residual sees of K (theory 4.3), for a run that has come
#: to a state.
Forecast = Callable[[Problem, Any, History, float], tuple[float, float]]


class Stage(NamedTuple):
    """A first state, and what leads from one state to the next.

    Attributes
    ----------
    init : callable
        ``init(max_iter, problem, before)`` gives the first state; ``before`` is the best one of the stage before, or
        None. A state is a NamedTuple that has the fields of `Start`.
    step : callable
        ``step(problem, state)`` gives the next.
    """

    init: Callable[[int, Problem, Any], Any]
    step: Callable[[Problem, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method for one problem, with its options taken in.

    Attributes
    ----------
    stages : sequence of Stage
        Each goes on from the best point of the one before, as long as these end without a solution.
    limit : int
        Iterations that it may make where ``max_iter`` is not given.
    forecast : callable or None
        ``forecast(problem, state, history, enough)`` gives the number of iterations left and kappa. None: the method
        is so fast that nobody needs to know.
    guarantee : callable or None
        ``guarantee(last_state, history)`` gives what the loss was guaranteed not to exceed (k,), without bounds and
        in the plain metric.
    reason : str
        Why its steps are of the kind they are, where it has chosen that by itself.
    """

    stages: Sequence[Stage]
    limit: int
    forecast: Forecast | None = None
    guarantee: Callable[[Any, History], Array] | None = None
    reason: str = ""
