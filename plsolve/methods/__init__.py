"""The methods, and what one of your own consists of (README, "Adding a method").

`METHODS` and `OPTIONS` are the tables that ``method=`` and ``options=`` are looked up in: an entry more is a method
more. A step asks a `Problem` for ``residual(w)``, ``linearise(w, r, check)`` and ``project(w)``.
"""

from collections.abc import Callable, Mapping
from typing import Any

from plsolve._problem import Problem
from plsolve._state import Start
from plsolve.methods import gradient_descent, momentum, newton, sgd
from plsolve.methods.method import Method, Stage

__all__ = ["METHODS", "OPTIONS", "Method", "Stage", "Start"]


def _gradient_descent(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    make = momentum.method if "momentum" in options else gradient_descent.method
    return make(problem, options, beta)


#: What makes each method, from a problem, the options and beta (0: not given), and the options that it knows.
METHODS: dict[str, Callable[[Problem, Mapping[str, Any], float], Method]] = {
    "gauss-newton": newton.method,
    "gd": _gradient_descent,
    "sgd": sgd.method,
}
OPTIONS = {
    "auto": newton.OPTIONS,
    "gauss-newton": newton.OPTIONS,
    "gd": gradient_descent.OPTIONS,
    "sgd": sgd.OPTIONS,
}
