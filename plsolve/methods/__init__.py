"""The methods, and the types from which a method of your own is built (docs/guide/own_method.md).

``method=`` and ``options=`` are looked up in the tables `METHODS` and `OPTIONS`; to add a method, add an entry to each.
A step calls ``residual(w)``, ``linearise(w, r, check)`` and ``project(w)`` of a ``Problem``.
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


#: For each name, the function that makes the method from a problem, the options and beta (0: not given).
METHODS: dict[str, Callable[[Problem, Mapping[str, Any], float], Method]] = {
    "gauss-newton": newton.method,
    "gd": _gradient_descent,
    "sgd": sgd.method,
}
#: For each name, the options that the method accepts.
OPTIONS = {
    "auto": newton.OPTIONS,
    "gauss-newton": newton.OPTIONS,
    "gd": gradient_descent.OPTIONS,
    "sgd": sgd.OPTIONS,
}
