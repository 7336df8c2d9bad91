"""The interface of a method: its stages, and what else the rest of the library uses of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from plsolve._history import History
from plsolve._linalg import Array
from plsolve._problem import Problem

#: From a state of the run: the iterations left until ||r|| <= enough, and kappa over the part of the spectrum of K
#: that has a weight in the residual (theory 4.3).
Forecast = Callable[[Problem, Any, History, float], tuple[float, float]]


class Stage(NamedTuple):
    """A first state, and the step from one state to the next.

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
    """A method for one problem, with its options applied.

    Attributes
    ----------
    stages : sequence of Stage
        They run one after the other, each from the best point of the one before, until one ends with a solution.
    limit : int
        The limit of iterations where ``max_iter`` is not given.
    forecast : callable or None
        ``forecast(problem, state, history, enough)`` gives the number of iterations left and kappa. None: the
        method needs so few iterations that it has no forecast.
    guarantee : callable or None
        ``guarantee(last_state, history)`` gives the guaranteed upper bounds of the loss (k,). They hold without bounds
        on w and in the plain metric.
    reason : str
        Why the method has chosen this kind of step, where the choice was its own.
    """

    stages: Sequence[Stage]
    limit: int
    forecast: Forecast | None = None
    guarantee: Callable[[Any, History], Array] | None = None
    reason: str = ""
