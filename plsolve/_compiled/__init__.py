"""Compiled solves: the only room that knows numba, entered when it is first needed."""

from typing import Any

from plsolve._compiled import engine, sgd
from plsolve._compiled.blas import one_thread
from plsolve._compiled.functions import NotCompilableError
from plsolve._problem import Problem
from plsolve.methods.sgd import other_step, step

__all__ = ["Engine", "NotCompilableError", "one_thread"]

SGD = step, other_step


def Engine(problem: Problem, step: Any) -> Any:
    """A problem in compiled code, to be run by this method and those that follow it.

    Raises NotCompilableError where the problem, F, jac or args are not fit for it.
    """
    return (sgd if step in SGD else engine).Engine(problem, step)
