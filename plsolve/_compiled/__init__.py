"""Compiled solves: the only room that knows numba, entered when it is first needed."""

from typing import Any

from plsolve._compiled import engine, first_order
from plsolve._compiled.blas import one_thread
from plsolve._compiled.functions import NotCompilableError
from plsolve._problem import Problem
from plsolve.methods import gradient_descent, momentum, sgd

__all__ = ["Engine", "NotCompilableError", "one_thread"]

FIRST_ORDER = gradient_descent.step, momentum.step, sgd.step, sgd.other_step


def Engine(problem: Problem, step: Any) -> Any:
    """A problem in compiled code, to be run by this method and those that follow it.

    Raises NotCompilableError where the problem, F, jac or args are not fit for it.
    """
    return (first_order if step in FIRST_ORDER else engine).Engine(problem, step)
